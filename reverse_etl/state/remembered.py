"""Small values that outlive a run, by scope and name: connections' tokens and jobs, a project's key, daemons' notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from reverse_etl.state.tables import memory

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore

RESET = ".reset"  # scope of the syncs whose state was forgotten; no connection has such a name
PUT_FIRST = sa.text(
    "INSERT INTO memory (scope, name, value) VALUES (:scope, :name, :value) ON CONFLICT (scope, name) DO NOTHING"
)


class Remembered:
    def __init__(self, store: StateStore) -> None:
        self._store = store

    def get(self, scope: str, name: str) -> str | None:
        with self._store.reading() as connection:
            value: str | None = connection.scalar(sa.select(memory.c.value).where(_is(scope, name)))
            return value

    def all(self, scope: str) -> dict[str, str]:
        """A scope's values, by name."""
        query = sa.select(memory.c.name, memory.c.value).where(memory.c.scope == scope)
        with self._store.reading() as connection:
            return {name: value for name, value in connection.execute(query).all()}

    def put(self, scope: str, name: str, value: str | None) -> None:
        """Durably; None forgets."""
        with self._store.writing(durable=True) as connection:
            connection.execute(sa.delete(memory).where(_is(scope, name)))
            if value is not None:
                connection.execute(sa.insert(memory).values(scope=scope, name=name, value=value))

    def put_first(self, scope: str, name: str, value: str) -> None:
        """Unless there is something already: another process may have been first."""
        with self._store.writing(durable=True) as connection:
            connection.execute(PUT_FIRST, {"scope": scope, "name": name, "value": value})


def _is(scope: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(memory.c.scope == scope, memory.c.name == name)
