"""Rows into a table by SQLAlchemy; schema, table and columns are made where they aren't there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from reverse_etl.protocols import Load
from reverse_etl.sources.loading import fresh, series_of

TYPES: dict[str, Callable[[], sa.types.TypeEngine[Any]]] = {
    # what SQL Server calls TEXT can't be grouped by, and what Redshift calls so ends after 256 characters
    "string": lambda: sa.Text().with_variant(sa.Unicode(4000), "mssql").with_variant(sa.String(65535), "redshift"),
    "int64": sa.BigInteger,
    # what SQL Server calls TIMESTAMP is no time, and what BigQuery calls DATETIME has no zone
    "timestamp[us, tz=UTC]": lambda: sa.TIMESTAMP(timezone=True).with_variant(sa.DateTime(timezone=True), "mssql"),
}
INDEXED = frozenset({"postgresql", "sqlite"})  # elsewhere there are none, or a text has to be cut for one
ROLLS_BACK = frozenset({"postgresql", "sqlite", "mssql", "redshift"})  # statements that make tables, too
PARAMETERS = 2000  # a statement: SQL Server takes 2,100, BigQuery 10,000
IN_ONE_GO = frozenset({"sqlite"})  # drivers that are quick with one row after the other


def load(connection: sa.Connection, schema: str, loads: Sequence[Load], bulk: Bulk, *, rehearse: bool) -> None:
    """Add the rows. The caller has begun a transaction, and ends it."""
    dialect = connection.dialect
    if rehearse and dialect.name not in ROLLS_BACK:
        _look(connection, schema, loads)
        return
    if dialect.name != "sqlite" and not _has_schema(connection, schema):
        connection.execute(sa.schema.CreateSchema(schema))
    for each in loads:
        table = _table(schema, each, indexed=dialect.name in INDEXED)
        _make(connection, table)
        there = connection.execute(_there(table, each)).all()
        rows = fresh(each, [tuple(row) for row in there])
        if rows.num_rows:
            bulk(connection, table, rows)


Bulk = Callable[[sa.Connection, sa.Table, pa.Table], None]


def insert(connection: sa.Connection, table: sa.Table, rows: pa.Table) -> None:
    """Many rows a statement: a cloud warehouse takes a second for each."""
    if connection.dialect.name in IN_ONE_GO:
        connection.execute(sa.insert(table), rows.to_pylist())
        return
    size = max(1, PARAMETERS // rows.num_columns)
    for start in range(0, rows.num_rows, size):
        connection.execute(sa.insert(table).values(rows.slice(start, size).to_pylist()))


def _table(schema: str, load: Load, *, indexed: bool) -> sa.Table:
    fields = load.rows.schema
    columns: list[sa.schema.SchemaItem] = [
        sa.Column(name, TYPES[str(type)]()) for name, type in zip(fields.names, fields.types, strict=True)
    ]
    if indexed:
        columns.append(sa.Index(f"{load.table}_{load.series}", load.series))
    return sa.Table(load.table, sa.MetaData(), *columns, schema=schema)


def _make(connection: sa.Connection, table: sa.Table) -> None:
    """The table, and the columns that an older release did not write."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(table.name, schema=table.schema):
        table.create(connection)
        return
    have = {column["name"].lower() for column in inspector.get_columns(table.name, schema=table.schema)}
    preparer = connection.dialect.identifier_preparer
    for column in table.columns:
        if column.name not in have:
            type = column.type.compile(connection.dialect)
            place = preparer.format_table(table)
            connection.exec_driver_sql(f"ALTER TABLE {place} ADD COLUMN {preparer.quote(column.name)} {type}")


def _look(connection: sa.Connection, schema: str, loads: Sequence[Load]) -> None:
    """As much as can be known without making anything."""
    inspector = sa.inspect(connection)
    for each in loads:
        if _has_schema(connection, schema) and inspector.has_table(each.table, schema=schema):
            connection.execute(_there(_table(schema, each, indexed=False), each)).all()


def _has_schema(connection: sa.Connection, schema: str) -> bool:
    inspector = sa.inspect(connection)
    return schema.rpartition(".")[2].lower() in {
        name.rpartition(".")[2].lower() for name in inspector.get_schema_names()
    }


def _there(table: sa.Table, load: Load) -> sa.Select[Any]:
    series = table.c[load.series]
    number = sa.func.max(table.c[load.number]) if load.number is not None else sa.func.count()
    return sa.select(series, number).where(series.in_(series_of(load))).group_by(series)
