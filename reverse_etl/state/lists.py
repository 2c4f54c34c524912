"""The lists of rows that aren't done: refused, invalid, in doubt; and delivered ones of which a try may still land."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from reverse_etl.standing import SETTLING, RefusedRow
from reverse_etl.state import complaints
from reverse_etl.state.tables import refused

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore

AT_ONCE = 500  # places that are named in one statement


class Lists:
    """What is put onto them, `StateStore.record` puts there."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def refused(self, sync: str) -> list[RefusedRow]:
        """In the order in which rows came onto the list."""
        return self._listed(sync, refused.c.kind != SETTLING)

    def settling(self, sync: str) -> list[RefusedRow]:
        """Delivered rows of which an earlier try may still land."""
        return self._listed(sync, refused.c.kind == SETTLING)

    def standing(self) -> list[tuple[str, str, int, str]]:
        """Refused rows by sync and kind: how many, and since when the oldest stands there."""
        columns = (refused.c.sync, refused.c.kind)
        counts = (sa.func.sum(refused.c.rows), sa.func.min(refused.c.first_at))
        query = sa.select(*columns, *counts).where(refused.c.kind != SETTLING).group_by(*columns)
        with self._store.reading() as connection:
            found = connection.execute(query).all()
        return [(str(sync), str(kind), int(rows), str(oldest)) for sync, kind, rows, oldest in found]

    def _listed(self, sync: str, which: sa.ColumnElement[bool]) -> list[RefusedRow]:
        query = sa.select(refused).where(refused.c.sync == sync, which).order_by(refused.c.first_at, refused.c.slot)
        with self._store.reading() as connection, complaints.readable(f"the list of rows of {sync}"):
            return [RefusedRow.from_stored(dict(row)) for row in connection.execute(query).mappings()]


def put(connection: sa.Connection, sync: str, rows: Sequence[RefusedRow], *, settled: Iterable[str]) -> None:
    """Rows onto the list, each in its place; the places of `settled` are free."""
    _clear(connection, sync, [*settled, *(row.slot for row in rows)])
    if rows:
        connection.execute(sa.insert(refused), [row.stored(sync) for row in rows])


def _clear(connection: sa.Connection, sync: str, slots: Sequence[str]) -> None:
    for start in range(0, len(slots), AT_ONCE):
        part = slots[start : start + AT_ONCE]
        connection.execute(sa.delete(refused).where(refused.c.sync == sync, refused.c.slot.in_(part)))
