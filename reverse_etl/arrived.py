"""A doubt that a person settles: a row was sent, nobody answered, and somebody who has looked says that it arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from reverse_etl import clock, localdb, writeback
from reverse_etl.config.sync import SyncConfig
from reverse_etl.digests import UNKNOWN
from reverse_etl.explain import canonical_key
from reverse_etl.ledgers import Ledger
from reverse_etl.localdb import literal, quoted
from reverse_etl.mapping import PayloadColumn, Shape, shape_of
from reverse_etl.model import JSON
from reverse_etl.protocols import Source
from reverse_etl.read import Reader
from reverse_etl.standing import (
    HELD,
    LINKS_OWED,
    Acknowledged,
    Acknowledgement,
    RefusedRow,
    settling_slot_of,
    slot_of,
)


@dataclass(frozen=True)
class Word:
    """What a person says. Its `id` stands where a run's would; `note` writes down who said it, before it counts.

    `logged`: the warehouse is to be told.
    """

    id: str
    at: datetime
    note: Callable[[], None]
    logged: bool = False


def acknowledge(
    sync: SyncConfig, source: Callable[[], Source], ledger: Ledger, keys: Sequence[str], word: Word
) -> list[RefusedRow]:
    """Take rows that are held in doubt as delivered with the values that were sent: all of these, or none.

    Neither the destination nor the warehouse's rows are asked. Raises ValueError for a row that isn't held in doubt.
    """
    wanted = [canonical_key(key, sync) for key in dict.fromkeys(keys)]
    with ledger.hold(word.id, word.at):
        listed = {row.key_text: row for row in ledger.refused()}
        rows = [_held(key, listed.get(key)) for key in wanted]
        shape = _shape(sync, source(), ledger)
        word.note()
        with duckdb.connect(":memory:") as connection:
            localdb.settle(connection)
            ledger.known.lay(connection)
            parts = [Acknowledged(_as_sent(connection, shape, row), word.id, clock.text(word.at)) for row in rows]
            ledger.known.release(connection)
        slots = [slot for key in wanted for slot in (slot_of(key), settling_slot_of(key))]
        log = writeback.of_arrived(rows, word.at) if word.logged else None
        ledger.record(Acknowledgement(sync.name, word.id, parts, slots, log=log, lasting=True))
        ledger.known.fold()
    return rows


def _held(key: str, listed: RefusedRow | None) -> RefusedRow:
    if listed is None:
        raise ValueError(f"{key}: nothing of this row is in doubt: it isn't on the list of `reverse-etl rejected`")
    if listed.kind != "in_doubt":
        raise ValueError(f"{key}: this row is not in doubt: it is {listed.kind}, {listed.code}: {listed.message}")
    if listed.code != HELD:
        raise ValueError(f"{key}: this row needs nobody's word: sending it again is harmless, and the next run does so")
    return listed


def _shape(sync: SyncConfig, source: Source, ledger: Ledger) -> Shape:
    """What the values' types are now; rows aren't read."""
    try:
        reader = Reader(sync, source, ledger.known.digests() if ledger.known.hashes else None)
        return shape_of(sync, source.describe(reader.question(ledger.state(), complete=True).query), reader.digests)
    finally:
        source.close()


def _as_sent(connection: duckdb.DuckDBPyConnection, shape: Shape, row: RefusedRow) -> pa.RecordBatch:
    """The row as the snapshot holds it. Its links were to be made when the record stood: they are still owed."""
    sent = {column.field: row.values[column.field] for column in shape.payload if column.field in row.values}
    there = [c for c in shape.payload if c.field in sent and not (c.keep_on_null and sent[c.field] is None)]
    owed = any(column.links and sent[column.field] is not None for column in there)
    h = LINKS_OWED if owed else row.payload_hash or UNKNOWN
    typed = ", ".join(f"TRY_CAST({_literal(sent[c.field])} AS {c.type}) AS {quoted(c.name)}" for c in there)
    kept = ", ".join(f"{sql} AS {quoted(name)}" for column in there for name, sql in _kept(shape, column))
    known = f"(SELECT record_id FROM known WHERE key = {literal(row.key_text)})"
    own = f"{literal(row.key_text)} AS key, {known} AS record_id, CAST({literal(str(h))} AS UBIGINT) AS h"
    return localdb.table(connection, f"SELECT {own}, {kept} FROM (SELECT {typed})").combine_chunks().to_batches()[0]


def _kept(shape: Shape, column: PayloadColumn) -> list[tuple[str, str]]:
    value = quoted(column.name)
    if shape.digests is None or not column.digested:
        return [(column.name, value)]
    of = shape.digests.of
    return [(name, of(column.field, value, column.type, folded=name == column.folded)) for name in column.kept]


def _literal(value: JSON) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return literal(value if value is None or isinstance(value, bool) else str(value))
