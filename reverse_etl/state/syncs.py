"""Where syncs stand: for each its target, its cursor, and how far its journal has come."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from reverse_etl.standing import SyncState
from reverse_etl.state.remembered import RESET
from reverse_etl.state.tables import journal, memory, syncs

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore


class Syncs:
    def __init__(self, store: StateStore) -> None:
        self._store = store

    def of(self, sync: str) -> SyncState | None:
        """None before its first run."""
        return next(iter(self._found(syncs.c.sync == sync)), None)

    def all(self) -> list[SyncState]:
        return self._found(sa.true())

    def note(self, sync: str, **facts: str) -> None:
        """Durably: columns of `syncs` that a run found out (account, key_kinds)."""
        with self._store.writing(durable=True) as connection:
            connection.execute(sa.update(syncs).where(syncs.c.sync == sync).values(**facts))

    def _found(self, which: sa.ColumnElement[bool]) -> list[SyncState]:
        newest = sa.select(sa.func.max(journal.c.seq)).where(journal.c.sync == syncs.c.sync)
        with self._store.reading() as connection:
            query = sa.select(*self._columns(connection), newest.scalar_subquery().label("last_seq")).where(which)
            rows = connection.execute(query).mappings().all()
        return [SyncState(**{**row, "last_seq": max(row["folded_seq"], row["last_seq"] or 0)}) for row in rows]

    def _columns(self, connection: sa.Connection) -> list[sa.Column[Any]]:
        """As far as a store of an older release has them."""
        if not self._store.is_older:
            return list(syncs.columns)
        there = {column["name"] for column in sa.inspect(connection).get_columns(syncs.name)}
        return [column for column in syncs.columns if column.name in there]


def enter(connection: sa.Connection, sync: str, identity: str) -> None:
    """A sync has state from now on, if it hasn't yet."""
    if connection.scalar(sa.select(syncs.c.sync).where(syncs.c.sync == sync)) is None:
        connection.execute(sa.delete(memory).where(memory.c.scope == RESET, memory.c.name == sync))
        fresh = {"sync": sync, "identity": identity, "folded_seq": 0, "known_rows": 0}
        connection.execute(sa.insert(syncs).values(fresh | {"incarnation": secrets.token_hex(8)}))


def move(connection: sa.Connection, sync: str, position: dict[str, str | None], moved_from: str | None) -> bool:
    """Set the columns of a position, if the cursor is still where the run found it. Returns whether it was."""
    held = syncs.c.cursor_value
    here = held.is_(None) if moved_from is None else held == moved_from
    update = sa.update(syncs).where(syncs.c.sync == sync, here).values(**position)
    return bool(connection.execute(update).rowcount)
