"""The way to a project's store: found where one only looks, opened for writing with the first thing to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from reverse_etl.state import engine, lease
from reverse_etl.state.home import StateHome
from reverse_etl.state.store import StateStore


class Access:
    """One sync's. Nothing is created before `store` or `alone`."""

    def __init__(self, home: StateHome, url: str) -> None:
        self.home = home
        self.url = url
        self.embedded = engine.is_embedded(url)
        self.is_alone = False  # nobody else changes the sync's state now
        self._store: StateStore | None = None

    def existing(self) -> StateStore | None:
        """The store for looking, if there is one; never makes one."""
        if self._store is None:
            file = engine.sqlite_file(self.url)
            if file is not None and not file.exists():
                return None
            self._store = StateStore(self.url, read_only=file is not None)
        return self._store

    def store(self) -> StateStore:
        """The store for writing."""
        if self._store is None or self._store.read_only:
            self.close()
            self._store = StateStore(self.url)
        return self._store

    @contextmanager
    def alone(self, sync: str, holder: str) -> Iterator[Callable[[], None]]:
        """Nobody else works on this sync's state: on this machine by a lock, with PostgreSQL on any by a lease.

        Raises SyncBusy, naming the holder. What it gives raises LeaseLost once somebody else may.
        """
        self.home.prepare()
        with self.home.lock(sync, holder):
            self.is_alone = True
            try:
                if self.embedded:
                    yield _always
                    return
                store = self.store()
                store.prepare()
                with lease.held(store.engine, sync, holder) as mine, store.leased(mine):
                    yield mine.check
            finally:
                self.is_alone = False

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def _always() -> None:
    """An embedded state's lock goes with the process: while there is one, it holds."""
