"""What a connection may keep beyond a run, such as a rotated refresh token or the id of a bulk job."""

from __future__ import annotations

from contextlib import closing

from reverse_etl.state import engine
from reverse_etl.state.access import Access
from reverse_etl.state.store import StateStore


class LastingMemory:
    """A connection's memory in the store."""

    def __init__(self, access: Access, connection: str) -> None:
        self._access = access
        self._connection = connection

    def get(self, name: str) -> str | None:
        return self._access.store().remembered.get(self._connection, name)

    def put(self, name: str, value: str | None) -> None:
        self._access.store().remembered.put(self._connection, name, value)


class FleetingMemory:
    """A memory for dry runs and looks: knows what runs have kept, and keeps nothing beyond the process.

    But for a newer refresh token, where there is a store: it has ended the one before, and belongs to no sync.
    """

    def __init__(self, url: str, connection: str) -> None:
        self._url = url
        self._connection = connection
        self._values: dict[str, str | None] = {}

    def get(self, name: str) -> str | None:
        return self._values[name] if name in self._values else self._kept(name)

    def put(self, name: str, value: str | None) -> None:
        self._values[name] = value
        if name.startswith("refresh_token") and self._is_there():
            with closing(StateStore(self._url)) as store:
                store.remembered.put(self._connection, name, value)

    def _is_there(self) -> bool:
        store = store_of(self._url)
        if store is not None:
            store.close()
        return store is not None

    def _kept(self, name: str) -> str | None:
        store = store_of(self._url)
        if store is None:
            return None
        with closing(store):
            return store.remembered.get(self._connection, name)


def store_of(url: str) -> StateStore | None:
    """The project's store for looking, None before its first run."""
    file = engine.sqlite_file(url)
    if file is not None and not file.exists():
        return None
    store = StateStore(url, read_only=file is not None)
    if not store.check():
        store.close()
        return None
    return store
