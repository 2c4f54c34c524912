"""Snapshots in PostgreSQL: of each sync's a file as it was at one number of the journal, which machines begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from reverse_etl.state.tables import bases, journal

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore

PART = 4 * 1024 * 1024


class Base:
    """Of one sync."""

    def __init__(self, store: StateStore, sync: str) -> None:
        self._store = store
        self._sync = sync

    def seq(self) -> int:
        """The number of the journal at which it was made; 0 without one."""
        with self._store.reading() as connection:
            return int(connection.scalar(sa.select(sa.func.min(bases.c.seq)).where(bases.c.sync == self._sync)) or 0)

    def parts(self) -> Iterator[bytes]:
        """Part by part, all of one moment."""
        query = sa.select(bases.c.body).where(bases.c.sync == self._sync).order_by(bases.c.part)
        with self._store.reading() as connection:
            for (body,) in connection.execution_options(stream_results=True, max_row_buffer=4).execute(query):
                yield bytes(body)

    def replace(self, seq: int, file: Path) -> None:
        """A new one; the journal up to it isn't needed any more."""
        with self._store.writing(durable=True) as connection, file.open("rb") as content:
            connection.execute(sa.delete(bases).where(bases.c.sync == self._sync))
            for number, body in enumerate(iter(lambda: content.read(PART), b"")):
                connection.execute(sa.insert(bases).values(sync=self._sync, part=number, seq=seq, body=body))
            connection.execute(sa.delete(journal).where(journal.c.sync == self._sync, journal.c.seq <= seq))

    def sizes(self) -> tuple[int, int]:
        """Bytes of the journal, and of the base."""

        def of(table: sa.Table) -> sa.ScalarSelect[int]:
            length = sa.func.coalesce(sa.func.sum(sa.func.length(table.c.body)), 0)
            return sa.select(length).where(table.c.sync == self._sync).scalar_subquery()

        with self._store.reading() as connection:
            grown, base = connection.execute(sa.select(of(journal), of(bases))).one()
        return int(grown), int(base)
