"""Applying a difference to what is known gives the other side, and then there is no difference."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from reverse_etl import localdb
from reverse_etl.diff import Comparison, Scope
from reverse_etl.mapping import shape_of
from reverse_etl.spool import Spool
from tests.house import sync

Row = dict[str, Any]
TYPES = {
    "text": pa.string(),
    "whole": pa.int32(),
    "long": pa.int64(),
    "exact": pa.decimal128(12, 3),
    "float": pa.float64(),
    "flag": pa.bool_(),
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.sampled_from(["", "a", "A", "é", "e\u0301", " a", "1", "1.0", "null"]),
    "whole": st.integers(-3, 3),
    "long": st.sampled_from([0, 1, -1, 2**53, 2**53 + 1]),
    "exact": st.sampled_from([Decimal("0"), Decimal("1.5"), Decimal("1.50"), Decimal("-0.001")]),
    "float": st.sampled_from([0.0, -0.0, 1.0, 0.1, 1e300]),
    "flag": st.booleans(),
}
KEYS = st.one_of(st.none(), st.integers(0, 8))


@dataclass(frozen=True)
class Table:
    """Which fields are mapped, with their kinds, and rows, repeated and NULL keys among them."""

    kinds: dict[str, str]
    rows: list[Row]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Table, Table]:
    """Two tables, with a mapping edit between them."""
    kinds = {field: draw(st.sampled_from(sorted(TYPES))) for field in ("f", "g", "h")}
    return draw(tables(kinds)), draw(tables(kinds))


@st.composite
def tables(draw: st.DrawFn, kinds: dict[str, str]) -> Table:
    mapped = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, unique=True))
    fields = {field: st.one_of(st.none(), VALUES[kinds[field]]) for field in mapped}
    rows = draw(st.lists(st.fixed_dictionaries({"id": KEYS, **fields}), max_size=10))
    return Table({field: kinds[field] for field in mapped}, rows)


class Side:
    """A snapshot that a test keeps in a plain dictionary, and compares tables with."""

    def __init__(self) -> None:
        self.known: dict[str, Row] = {}
        self.kinds: dict[str, str] = {}

    def compared(self, table: Table, *, complete: bool) -> Comparison:
        schema = pa.schema([("id", pa.int64()), *((field, TYPES[kind]) for field, kind in table.kinds.items())])
        definition = sync(mapping={field: field for field in table.kinds}, match=next(iter(table.kinds)))
        connection = emptied()
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(connection, Path(folder))
            spool.begin(shape_of(definition, schema))
            spool.take_in(schema, iter([pa.RecordBatch.from_pylist(table.rows, schema)]))
            self._lay(connection)
            comparison = Comparison(spool)
            comparison.compare(Scope(complete=complete, removals=True))
        return comparison

    def _lay(self, connection: duckdb.DuckDBPyConnection) -> None:
        """`known` as the snapshot has it, with the fingerprints it was given when the rows were acknowledged."""
        own = {"key": pa.string(), "record_id": pa.string(), "sent": pa.bool_(), "gone": pa.bool_(), "h": pa.uint64()}
        schema = pa.schema([*own.items(), *((f"f_{field}", TYPES[kind]) for field, kind in self.kinds.items())])
        laid = pa.Table.from_pylist(list(self.known.values()), schema)
        connection.register("laid", laid)
        connection.execute("CREATE TABLE snap AS SELECT * FROM laid")
        connection.unregister("laid")
        connection.execute("CREATE VIEW known AS SELECT *, rowid AS position FROM snap")

    def apply(self, comparison: Comparison, table: Table) -> None:
        """As if the destination had acknowledged everything."""
        names = [f"f_{field}" for field in table.kinds]
        self.kinds |= table.kinds
        for row in comparison.sample("delta", "true", "key", 1000):
            before = self.known.get(row["key"], {})
            fresh = {"key": row["key"], "record_id": f"r{row['key']}", "sent": True, "gone": False, "h": row["h"]}
            self.known[row["key"]] = {**before, **fresh, **{name: row[name] for name in names}}
        for row in comparison.sample("removed", "true", "key", 1000):
            del self.known[row["key"]]

    def holds(self, table: Table) -> dict[str, Row]:
        """What is known of the table's valid keys, in its fields."""
        return {key: {field: self.known[key].get(f"f_{field}") for field in table.kinds} for key in valid(table.rows)}


@cache
def database() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    localdb.settle(connection)
    return connection


def emptied() -> duckdb.DuckDBPyConnection:
    """One database for all examples: opening one takes longer than a comparison."""
    connection = database()
    connection.execute("DROP VIEW IF EXISTS known")
    for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        connection.execute(f"DROP TABLE {name}")
    return connection


def valid(rows: Sequence[Row]) -> dict[str, Row]:
    """Rows whose key stands once."""
    keys = [row["id"] for row in rows]
    return {str(row["id"]): row for row in rows if row["id"] is not None and keys.count(row["id"]) == 1}


def wanted(table: Table) -> dict[str, Row]:
    return {key: {field: row[field] for field in table.kinds} for key, row in valid(table.rows).items()}


@settings(max_examples=80, deadline=None, phases=(Phase.explicit, Phase.generate, Phase.shrink))
@given(pair=pairs(), complete=st.booleans())
def test_a_difference_applied_is_the_other_side_and_a_second_one_is_empty(
    pair: tuple[Table, Table], complete: bool
) -> None:
    side, (first, second) = Side(), pair
    side.apply(side.compared(first, complete=True), first)
    assert side.holds(first) == wanted(first)
    assert set(side.known) == set(wanted(first))

    before = set(side.known)
    comparison = side.compared(second, complete=complete)
    counts = comparison.counts()
    assert counts.read == len(second.rows) == counts.unchanged + counts.added + counts.changed + counts.invalid
    assert counts.invalid == len(second.rows) - len(valid(second.rows))
    assert counts.removed == (len(before - {str(row["id"]) for row in second.rows}) if complete else 0)
    side.apply(comparison, second)
    assert side.holds(second) == wanted(second)

    again = side.compared(second, complete=complete).counts()
    assert (again.added, again.changed, again.removed) == (0, 0, 0)
    assert again.unchanged == len(valid(second.rows))
