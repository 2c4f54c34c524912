"""State forgotten: a sync's as a whole, readable or not, or all that is known of one row."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from pathlib import Path

import duckdb

from reverse_etl import clock
from reverse_etl.errors import StateError
from reverse_etl.standing import Acknowledgement, forgotten, settling_slot_of, slot_of
from reverse_etl.state import audit, engine, scrub
from reverse_etl.state.access import Access
from reverse_etl.state.ledger import Ledger
from reverse_etl.state.store import StateStore


def forget(ledger: Ledger, key: str, run_id: str, now: datetime) -> bool:
    """Remove one key from snapshot, journal and lists. Returns whether anything was known of it. Raises SyncBusy."""
    if ledger.state() is None:
        return False
    with ledger.hold(run_id, now):
        audit.note(ledger.home, "forget", now, sync=ledger.sync)  # whom, nobody is to know any more
        slots = (slot_of(key), settling_slot_of(key))
        listed = [row for row in (*ledger.refused(), *ledger.settling()) if row.slot in slots]
        with duckdb.connect(":memory:") as connection:
            ledger.known.lay(connection)
            known = connection.execute("SELECT count(*) FROM known WHERE key = ?", [key]).fetchall() == [(1,)]
            known |= ledger.known.removal(connection, key) is not None
            words = scrub.words_of(connection, key, listed)
            ledger.known.release(connection)
        gone = [forgotten([key], run_id, clock.text(now))] if known else []
        ledger.record(Acknowledgement(ledger.sync, run_id, gone, slots))
        ledger.outbox.forget(key)
        ledger.under_way.forget_key(key)
        ledger.known.fold()
        scrub.clear_reports(ledger.access.store(), ledger.sync, words)
        ledger.known.rewrite()
        return known or bool(listed)


def reset(ledger: Ledger) -> None:
    """Drop snapshot, cursor and lists, unreadable ones too. Raises SyncBusy when a run holds the sync.

    Others see it happen in the moment in which the store forgets: until then the snapshot is the sync's, afterwards
    nobody's.
    """
    access = ledger.access
    with access.alone(ledger.sync, f"reset, process {os.getpid()} on {platform.node()}"):
        audit.note(ledger.home, "reset", clock.SYSTEM.now(), sync=ledger.sync)
        file = engine.sqlite_file(access.url)
        if file is None or file.exists() or access.home.project_file.exists():
            store = _usable(file, access)
            access.home.mend(store.project_id(), [state.sync for state in store.syncs.all()])
            with access.home.alone():
                access.home.leave(ledger.sync)
            store.forget(ledger.sync)
        for path in access.home.snapshots.glob(f"{ledger.sync}.duckdb*"):
            path.unlink()
        ledger.under_way.forget()
    ledger.close()


def _usable(file: Path | None, access: Access) -> StateStore:
    """The store for writing; a damaged file is put aside for a new one, and other syncs miss theirs."""
    try:
        store = access.store()
        store.prepare()
        store.syncs.all()
    except StateError as failure:
        if file is None or not engine.is_damage(failure.__cause__):
            raise
        access.close()
        engine.put_aside(file, "unreadable")
        store = access.store()
        store.prepare()
    return store
