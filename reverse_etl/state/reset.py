"""A sync's state, forgotten: readable or not, and in one step for those who look meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reverse_etl.errors import StateError
from reverse_etl.state import engine
from reverse_etl.state.home import StateHome
from reverse_etl.state.store import StateStore

Opened = Callable[[], StateStore]


def forget(home: StateHome, sync: str, url: str, opened: Opened, close: Callable[[], None]) -> None:
    """Snapshot, cursor and lists. `opened` gives the store for writing, `close` lets go of it.

    The caller holds the sync. Others see it happen in the moment in which the store forgets: until then the snapshot is
    the sync's, afterwards nobody's.
    """
    file = engine.sqlite_file(url)
    if file is None or file.exists() or home.project_file.exists():
        store = _usable(file, opened, close)
        home.mend(store.project_id(), [state.sync for state in store.syncs()])
        with home.alone():
            home.leave(sync)
        store.reset(sync)
    for path in home.snapshots.glob(f"{sync}.duckdb*"):
        path.unlink()


def _usable(file: Path | None, opened: Opened, close: Callable[[], None]) -> StateStore:
    """The store for writing; a damaged file is put aside for a new one, and other syncs miss theirs."""
    try:
        store = opened()
        store.prepare()
        store.syncs()
    except StateError as failure:
        if file is None or not engine.is_damage(failure.__cause__):
            raise
        close()
        for part in file.parent.glob(f"{file.name}*"):
            part.replace(part.with_name(f"{part.name}.unreadable"))
        store = opened()
        store.prepare()
    return store
