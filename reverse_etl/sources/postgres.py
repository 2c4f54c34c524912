"""PostgreSQL through psycopg: a server-side cursor in one read-only snapshot.

Values are taken as the server's own text and turned into Arrow from that, so that no digit, no zone and no number
inside JSON goes through a Python type that can't hold it. A numeric without a precision has no bound: it stays text.
Type numbers are those of PostgreSQL's catalog (src/include/catalog/pg_type.dat), fixed since PostgreSQL 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import pyarrow as pa
from sqlalchemy import URL, Connection, Table, bindparam, text
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import NullType

from reverse_etl.model import Query
from reverse_etl.sources import loading, stream
from reverse_etl.sources.columns import Column
from reverse_etl.sources.sql import SqlSource
from reverse_etl.sources.types import refuse_names, unsupported

CONNECT_SECONDS = 30
LOAD_WAIT_SECONDS = 20
KEPT_AS_TEXT = ("json", "jsonb", "numeric", "date", "timestamp", "timestamptz", "uuid")
SESSION = (
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL DateStyle = 'ISO'",
    "SET LOCAL extra_float_digits = 3",
    "SET LOCAL idle_in_transaction_session_timeout = '10min'",  # a snapshot that nobody reads holds back vacuum
)


class PostgresSource(SqlSource):
    """See `protocols.Source`."""

    def settle(self, url: URL) -> URL:
        return url.set(drivername="postgresql+psycopg")

    def options(self) -> dict[str, Any]:
        return {"connect_args": {} if "connect_timeout" in self._url.query else {"connect_timeout": CONNECT_SECONDS}}

    def begin(self, connection: Connection) -> None:
        from psycopg.types.string import TextLoader  # noqa: PLC0415  # an extra; connecting has proved that it is there

        driver: Any = connection.connection.driver_connection
        for type in KEPT_AS_TEXT:
            driver.adapters.register_loader(type, TextLoader)
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        for setting in SESSION:
            connection.exec_driver_sql(setting)

    def begin_writing(self, connection: Connection) -> None:
        """What can't be written now is written after the next run."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOAD_WAIT_SECONDS}s'")

    def columns(self, connection: Connection, query: Query) -> list[Column]:
        empty = connection.execute(self.wrapped(query, "SELECT * FROM", "WHERE false"))
        described: Sequence[Any] = empty.cursor.description if empty.cursor is not None else ()
        refuse_names([part.name for part in described])
        strangers = [part.type_code for part in described if part.type_code not in {*TYPES, NUMERIC}]
        known = _named(connection, strangers) if strangers else {}
        return [_column(part, known) for part in described]

    def insert(self, connection: Connection, table: Table, rows: pa.Table) -> None:
        from psycopg import Error  # noqa: PLC0415  # an extra

        driver: Any = connection.connection.driver_connection
        place = connection.dialect.identifier_preparer.format_table(table)
        columns = ", ".join(self.quote(name) for name in rows.schema.names)
        try:
            with driver.cursor() as cursor, cursor.copy(f"COPY {place} ({columns}) FROM STDIN") as copy:
                for batch in rows.to_batches():
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        copy.write_row(row)
        except Error as failure:
            raise loading.refused(self._config.name, stream.words(failure, self._url)) from failure

    def bound(self, name: str, value: object) -> ClauseElement:
        return bindparam(name, value, NullType())  # psycopg types it by its value, and lets text be whatever it meets

    def clock(self) -> datetime:
        with self._connected() as connection, self.asking():
            now: datetime = connection.execute(text("SELECT now()::text")).scalar_one()
        return datetime.fromisoformat(str(now))

    def cancel(self, driver: Any) -> None:
        from psycopg import Error  # noqa: PLC0415  # an extra

        with suppress(Error):  # it has ended already
            driver.cancel_safe(timeout=5.0)


# --- types -----------------------------------------------------------------------------------------------------------


def _times(values: Sequence[str | None], type: pa.DataType) -> pa.Array:
    """Times from the server's text. What no four-digit year holds becomes Arrow's extreme value, DuckDB's infinity:
    then that row is refused, and not the whole read."""
    try:
        return pa.array(values, pa.string()).cast(type)
    except pa.ArrowInvalid:
        number = pa.int32() if pa.types.is_date(type) else pa.int64()
        beyond = 2 ** (number.bit_width - 1) - 1
        return pa.array([_ticks(value, type, number, beyond) for value in values], number).view(type)


def _ticks(value: str | None, type: pa.DataType, number: pa.DataType, beyond: int) -> int | None:
    if value is None:
        return None
    if value == "-infinity" or value.endswith(" BC"):
        return -beyond
    if value == "infinity" or len(value.partition("-")[0]) > 4:
        return beyond
    ticks: int = pa.array([value]).cast(type).view(number)[0].as_py()
    return ticks


def _decimals(values: Sequence[str | None], type: pa.DataType) -> pa.Array:
    return pa.array(values, pa.string()).cast(type)


NUMERIC = 1700
TYPES: dict[int, tuple[pa.DataType, Callable[..., pa.Array] | None]] = {
    16: (pa.bool_(), None),
    18: (pa.string(), None),  # "char"
    19: (pa.string(), None),  # name
    20: (pa.int64(), None),
    21: (pa.int16(), None),
    23: (pa.int32(), None),
    25: (pa.string(), None),
    26: (pa.int64(), None),  # oid
    114: (pa.string(), None),  # json
    142: (pa.string(), None),  # xml
    700: (pa.float32(), None),
    701: (pa.float64(), None),
    1042: (pa.string(), None),  # char(n)
    1043: (pa.string(), None),
    1082: (pa.date32(), _times),
    1083: (pa.time64("us"), None),
    1114: (pa.timestamp("us"), _times),
    1184: (pa.timestamp("us", "UTC"), _times),
    2950: (pa.string(), None),  # uuid
    3802: (pa.string(), None),  # jsonb
    1000: (pa.list_(pa.bool_()), None),
    1005: (pa.list_(pa.int16()), None),
    1007: (pa.list_(pa.int32()), None),
    1009: (pa.list_(pa.string()), None),
    1014: (pa.list_(pa.string()), None),
    1015: (pa.list_(pa.string()), None),
    1016: (pa.list_(pa.int64()), None),
    1021: (pa.list_(pa.float32()), None),
    1022: (pa.list_(pa.float64()), None),
    1231: (pa.list_(pa.string()), None),  # numeric[]
    2951: (pa.list_(pa.string()), None),  # uuid[]
}


def _column(described: Any, known: dict[int, tuple[str, str]]) -> Column:
    if described.type_code == NUMERIC:
        return _numeric(described)
    if described.type_code in TYPES:
        type, prepare = TYPES[described.type_code]
        return Column(described.name, type, None if prepare is None else partial(prepare, type=type))
    name, category = known.get(described.type_code, (f"number {described.type_code}", ""))
    if category in ("E", "S"):  # enumerations, and text under another name (citext)
        return Column(described.name, pa.string())
    raise unsupported(described.name, name, "has no exact form", "text")


def _numeric(described: Any) -> Column:
    precision, scale = described.precision, described.scale
    if precision is None or precision > 38 or not 0 <= scale <= precision:
        return Column(described.name, pa.string())
    type = pa.decimal128(precision, scale)
    return Column(described.name, type, partial(_decimals, type=type))


def _named(connection: Connection, codes: Sequence[int]) -> dict[int, tuple[str, str]]:
    """Names and categories of types that extensions and users have made."""
    found = connection.execute(
        text("SELECT oid, format_type(oid, NULL), typcategory FROM pg_type WHERE oid = ANY(:codes)"),
        {"codes": list(codes)},
    )
    return {int(oid): (name, category) for oid, name, category in found}
