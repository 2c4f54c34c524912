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


_NEWEST = sa.select(sa.func.max(journal.c.seq)).where(journal.c.sync == syncs.c.sync).scalar_subquery()
# Made once: a run asks nine times, and making a statement costs as much as carrying it out.
_ALL = sa.select(*syncs.columns, _NEWEST.label("last_seq"))
_OF = _ALL.where(syncs.c.sync == sa.bindparam("sync"))


class Syncs:
    def __init__(self, store: StateStore) -> None:
        self._store = store

    def of(self, sync: str) -> SyncState | None:
        """None before its first run."""
        return next(iter(self._found(_OF, sync=sync)), None)

    def all(self) -> list[SyncState]:
        return self._found(_ALL)

    def note(self, sync: str, **facts: str) -> None:
        """Durably: columns of `syncs` that a run found out (account, key_kinds)."""
        with self._store.writing(durable=True) as connection:
            connection.execute(sa.update(syncs).where(syncs.c.sync == sync).values(**facts))

    def _found(self, query: sa.Select[Any], **facts: str) -> list[SyncState]:
        with self._store.reading() as connection:
            if self._store.is_older:
                query = _as_far_as_there(query, connection)
            rows = connection.execute(query, facts).mappings().all()
        return [SyncState(**{**row, "last_seq": max(row["folded_seq"], row["last_seq"] or 0)}) for row in rows]


def _as_far_as_there(query: sa.Select[Any], connection: sa.Connection) -> sa.Select[Any]:
    """Without the columns that a store of an older release hasn't."""
    there = {column["name"] for column in sa.inspect(connection).get_columns(syncs.name)}
    columns = [column for column in syncs.columns if column.name in there]
    return query.with_only_columns(*columns, _NEWEST.label("last_seq"))


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
