"""The journal: what destinations have acknowledged and the snapshot doesn't have yet, an entry a batch.

An entry's rows are Arrow IPC with the snapshot's own columns; what holds for all of them stands beside its schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import sqlalchemy as sa

from reverse_etl.standing import Acknowledged
from reverse_etl.state import complaints
from reverse_etl.state.tables import journal, syncs

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore

AT_ONCE = 200_000  # rows of the journal that are laid over the snapshot at once


@dataclass(frozen=True)
class Entry:
    """Rows that were acknowledged together, by their number in the sync's journal."""

    seq: int
    body: bytes


class Journal:
    """Of one sync. What is added to it, `StateStore.record` adds."""

    def __init__(self, store: StateStore, sync: str) -> None:
        self._store = store
        self._sync = sync

    def entries(self, after: int = 0) -> Iterator[Entry]:
        """Those from behind a number on, oldest first."""
        query = (
            sa.select(journal.c.seq, journal.c.body)
            .where(journal.c.sync == self._sync, journal.c.seq > after)
            .order_by(journal.c.seq)
        )
        with self._store.reading() as connection:
            for seq, body in connection.execution_options(stream_results=True).execute(query):
                yield Entry(int(seq), bytes(body))

    def folded(self, seq: int, known_rows: int) -> None:
        """Entries up to `seq` are in the snapshot. PostgreSQL keeps them up to the next base, for other machines."""
        with self._store.writing() as connection:
            connection.execute(
                sa.update(syncs).where(syncs.c.sync == self._sync).values(folded_seq=seq, known_rows=known_rows)
            )
            if self._store.embedded:
                connection.execute(sa.delete(journal).where(journal.c.sync == self._sync, journal.c.seq <= seq))


def encode(part: Acknowledged) -> bytes:
    """Acknowledged rows as a journal entry's body: Arrow IPC, with what holds for all of them beside its schema."""
    facts = json.dumps(
        {"run_id": part.run_id, "acked_at": part.at, "sent": part.sent, "gone": part.gone, "removed": part.removed}
    )
    sink = pa.BufferOutputStream()
    schema = part.rows.schema.with_metadata({"facts": facts})
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write(part.rows)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def decoded_rows(entry: Entry) -> int:
    """How many rows an entry holds."""
    return sum(rows.num_rows for rows in _decoded(entry))


def _decoded(entry: Entry) -> Iterator[pa.RecordBatch]:
    """An entry's rows with every column that the snapshot has, and `removed`. Raises StateError for a damaged one."""
    with complaints.readable(f"entry {entry.seq} of the journal"), pa.ipc.open_stream(entry.body) as reader:
        facts = json.loads(reader.schema.metadata[b"facts"])
        for rows in reader:
            columns = dict(zip(rows.schema.names, rows.columns, strict=True))
            for name in ("run_id", "acked_at"):
                columns[name] = pa.repeat(pa.scalar(facts[name], pa.string()), rows.num_rows)
            for name in ("sent", "gone", "removed"):
                columns[name] = pa.repeat(pa.scalar(facts[name], pa.bool_()), rows.num_rows)
            yield pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def grouped(entries: Iterable[Entry], after: int) -> Iterator[tuple[pa.Schema, list[pa.RecordBatch], int]]:
    """Entries in order, as many at a time as memory holds, and of one schema: the mapping may have been edited."""
    batches: list[pa.RecordBatch] = []
    last, size = after, 0
    for entry in entries:
        if entry.seq <= after:
            continue
        for rows in _decoded(entry):
            if batches and (rows.schema != batches[0].schema or size >= AT_ONCE):
                yield batches[0].schema, batches, last
                batches, size = [], 0
            batches.append(rows)
            size += rows.num_rows
        last = entry.seq
    if batches:
        yield batches[0].schema, batches, last
