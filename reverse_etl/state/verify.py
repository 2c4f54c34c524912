"""What is wrong with a state as a whole: every row in it is read, and its parts are held against one another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import duckdb

from reverse_etl.errors import StateError
from reverse_etl.standing import SyncState
from reverse_etl.state import beside, engine
from reverse_etl.state.home import StateHome
from reverse_etl.state.journal import Journal, decoded_rows
from reverse_etl.state.remembered import RESET
from reverse_etl.state.store import StateStore


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with the state; a code of docs/errors.md."""

    code: str
    message: str
    hint: str | None


def verify(home: StateHome, url: str) -> tuple[list[str], list[Finding]]:
    """The syncs that have state, and all that is wrong with it. Writes nothing; runs may go on meanwhile."""
    findings: list[Finding] = []
    names: set[str] = set()
    with _noting(findings):
        project = home.project()
        names |= set(project["syncs"]) if project is not None else set()
    found: dict[str, SyncState] = {}
    with _noting(findings), _store(home, url) as store:
        if store is not None:
            found = {state.sync: state for state in store.syncs.all()}
            names -= store.remembered.all(RESET).keys()
            findings += _damage(url)
            for state in found.values():
                with _noting(findings):
                    _verify_sync(home, store, state)
    if not findings:
        findings += [_lost(f"the state of {name} is missing from the store") for name in sorted(names - found.keys())]
    return sorted(names | found.keys()), findings


def _verify_sync(home: StateHome, store: StateStore, state: SyncState) -> None:
    """Every row of the snapshot, every entry of the journal and of the list can be read, and they fit together."""
    store.lists.refused(state.sync)
    store.lists.settling(state.sync)
    for entry in Journal(store, state.sync).entries():
        decoded_rows(entry)
    if not store.embedded or not beside.verify(home, store, state):  # copies are made anew where they don't fit
        return
    snapshot = beside.snapshot(home, state.sync)
    with closing(duckdb.connect(":memory:")) as connection:
        snapshot.attach(connection)
        rows, keys = snapshot.count(connection)
    if rows != keys:
        hint = f"restore it from a backup, or `reverse-etl reset {state.sync}` to start over"
        raise StateError(f"the snapshot of {state.sync} has {rows - keys} keys twice", code="state_snapshot", hint=hint)


def _damage(url: str) -> Iterator[Finding]:
    """What SQLite itself finds wrong with its file."""
    file = engine.sqlite_file(url)
    if file is None:
        return
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        said = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    if said != ["ok"]:
        yield Finding("state_unusable", f"{file.name} is damaged: {'; '.join(said)}", "restore it from a backup")


@contextmanager
def _store(home: StateHome, url: str) -> Iterator[StateStore | None]:
    """The store for looking; None where nothing has run yet."""
    file = engine.sqlite_file(url)
    if file is not None and not file.exists():
        if home.project() is not None:
            raise error(_lost(f"{file.name} is missing, but this project has run before"))
        yield None
        return
    with closing(StateStore(url, read_only=file is not None)) as store:
        yield store if store.check() else None


@contextmanager
def _noting(findings: list[Finding]) -> Iterator[None]:
    try:
        yield
    except StateError as failure:
        findings.append(Finding(failure.code, failure.message, failure.hint))


def _lost(what: str) -> Finding:
    hint = "restore .reverse_etl from a backup, or `reverse-etl reset SYNC` to start over"
    return Finding("state_missing", what, hint)


def error(finding: Finding) -> StateError:
    """For who needs a sound state."""
    return StateError(finding.message, code=finding.code, hint=finding.hint)
