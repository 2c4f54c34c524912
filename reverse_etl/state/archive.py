"""State as a whole: verified, put into one file, and put back from it.

The archive is a tar of `manifest.json`, `project.json`, `state.db` and `snapshots/NAME.duckdb`, each of one time: every
sync is held while it is made. Only an embedded state can be archived; PostgreSQL has tools of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import duckdb

from reverse_etl import clock
from reverse_etl.errors import StateError, SyncBusy
from reverse_etl.standing import SyncState
from reverse_etl.state import audit, beside, engine
from reverse_etl.state.home import StateHome, aside, harden
from reverse_etl.state.journal import Journal, decoded_rows
from reverse_etl.state.store import StateStore

FORMAT = 1
STORE, PROJECT, MANIFEST = "state.db", "project.json", "manifest.json"
WAIT_SECONDS = 60.0
MOST_MANIFEST_BYTES = 16 * 1024 * 1024
_SNAPSHOT = re.compile(r"snapshots/[a-z0-9][a-z0-9_-]{0,62}\.duckdb")


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with the state; a code of docs/errors.md."""

    code: str
    message: str
    hint: str | None


@dataclass(frozen=True)
class Archived:
    """What an archive holds. `aside` is where a restore has put the state that it replaced."""

    made_at: datetime
    syncs: tuple[str, ...]
    bytes: int
    aside: Path | None = None


@dataclass(frozen=True)
class StateArchive:
    """A project's whole state: `home` is its folder, `url` its store."""

    home: StateHome
    url: str

    def verify(self) -> tuple[list[str], list[Finding]]:
        """The syncs that have state, and all that is wrong with it. Writes nothing; runs may go on meanwhile."""
        return _verify(self.home, self.url)

    def backup(self, target: Path, now: datetime) -> Archived:
        """Write the archive. Raises StateError, also when the target exists; SyncBusy when a run doesn't end."""
        file = _embedded(self.url)
        project = self.home.project()
        if project is None or not file.exists():
            raise StateError("there is no state yet", code="state_missing", hint="it begins with the first run")
        if target.exists():
            hint = "choose another name; nothing was written"
            raise StateError(f"{target.name} exists already", code="state_archive", hint=hint)
        part = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        copy = part.with_name(f"{part.name}.db")
        try:
            with _still(self.home) as names, _private(part) as sink:
                engine.copy(file, copy)
                members = {PROJECT: self.home.project_file, STORE: copy}
                members |= {f"snapshots/{path.name}": path for path in sorted(self.home.snapshots.glob("*.duckdb"))}
                _write(sink, members, names, now)
            part.rename(target)
            harden(target.absolute().parent)
        except (OSError, sqlite3.Error) as failure:
            raise _disk(failure, target) from failure
        finally:
            copy.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
        return Archived(now, names, target.stat().st_size)

    def restore(self, source: Path, now: datetime) -> Archived:
        """Put an archive in place of the state; what stood there is put aside, never deleted.

        Raises StateError when the archive is damaged, incomplete or of a newer release: the state stays as it is then.
        """
        file = _embedded(self.url)
        fresh = StateHome(self.home.folder.with_name(f".reverse_etl.restoring-{secrets.token_hex(4)}"))
        try:
            fresh.folder.parent.mkdir(mode=0o700)
            fresh.prepare()
            manifest = _extract(source, fresh.folder)
            _, findings = _verify(fresh, f"sqlite:///{fresh.folder / STORE}")
            if findings:
                raise _error(findings[0])
            with _still(self.home):
                told = self.home.folder / audit.NAME
                if told.is_file():
                    shutil.copyfile(told, fresh.folder / audit.NAME, follow_symlinks=False)
                    (fresh.folder / audit.NAME).chmod(0o600)
                audit.note(fresh, "restore", now, archive=source.name)
                before = _replace(self.home, file, fresh.folder, now)
        except (OSError, tarfile.TarError) as failure:
            raise _disk(failure, source) from failure
        finally:
            shutil.rmtree(fresh.folder.parent, ignore_errors=True)
        made_at = clock.parse(manifest["made_at"])
        return Archived(made_at, tuple(manifest["syncs"]), source.stat().st_size, before)


# --- verify ----------------------------------------------------------------------------------------------------------


def _verify(home: StateHome, url: str) -> tuple[list[str], list[Finding]]:
    findings: list[Finding] = []
    names: set[str] = set()
    with _noting(findings):
        project = home.project()
        names |= set(project["syncs"]) if project is not None else set()
    found: dict[str, SyncState] = {}
    with _noting(findings), _store(home, url) as store:
        if store is not None:
            found = {state.sync: state for state in store.syncs.all()}
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


# --- backup ----------------------------------------------------------------------------------------------------------


def _write(sink: IO[bytes], members: dict[str, Path], syncs: tuple[str, ...], now: datetime) -> None:
    manifest = {
        "format": FORMAT,
        "made_at": clock.text(now),
        "syncs": list(syncs),
        "files": {name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in members.items()},
    }
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        body = json.dumps(manifest, indent=2).encode()
        told = tarfile.TarInfo(MANIFEST)
        told.size, told.mode = len(body), 0o600
        archive.addfile(told, _Bytes(body))
        for name, path in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o600
            with path.open("rb") as content:
                archive.addfile(entry, content)


# --- restore ---------------------------------------------------------------------------------------------------------


def _syncs_of(home: StateHome) -> tuple[str, ...]:
    """None where project.json can't be read, as no run begins then."""
    try:
        project = home.project()
    except StateError:
        return ()
    return tuple(str(name) for name in project["syncs"]) if project is not None else ()


def _replace(home: StateHome, file: Path, fresh: Path, now: datetime) -> Path | None:
    """The new folder where the old one was. A store that lies elsewhere goes to its own place."""
    stamp = f"before-{now:%Y%m%dT%H%M%S}"
    outside = file.parent.resolve() != home.folder.resolve()
    put = None
    for folder in (fresh / "snapshots", fresh):  # names in it must not be lost when the power goes after the end
        harden(folder)
    if home.folder.exists():
        put = aside(home.folder, stamp)
        home.folder.rename(put)
    if outside:
        engine.put_aside(file, stamp)
        shutil.move(fresh / STORE, file)
    fresh.rename(home.folder)
    harden(home.folder.absolute().parent)
    return put


def _extract(source: Path, folder: Path) -> dict[str, Any]:
    """Every member, held against the manifest's digests; anything else in the archive is refused."""
    with tarfile.open(source, "r:") as archive:
        manifest = _manifest(archive)
        for name, told in manifest["files"].items():
            if name not in (PROJECT, STORE) and _SNAPSHOT.fullmatch(name) is None:
                raise _not_ours(f"it holds {name!r}")
            content = archive.extractfile(_member(archive, name))
            if content is None:
                raise _not_ours(f"{name} is no file in it")
            with content, _private(folder / name) as sink:
                shutil.copyfileobj(content, sink, 1024 * 1024)
            if (folder / name).stat().st_size != told["bytes"] or _digest(folder / name) != told["sha256"]:
                raise _not_ours(f"{name} in it is damaged")
    return manifest


def _manifest(archive: tarfile.TarFile) -> dict[str, Any]:
    member = _member(archive, MANIFEST)
    content = archive.extractfile(member) if member.size <= MOST_MANIFEST_BYTES else None
    try:
        manifest: dict[str, Any] = json.loads(content.read() if content is not None else b"")
        newer = int(manifest["format"]) > FORMAT
        complete = {PROJECT, STORE} <= manifest["files"].keys() and isinstance(manifest["syncs"], list)
        complete &= all(int(told["bytes"]) >= 0 and str(told["sha256"]) for told in manifest["files"].values())
        clock.parse(manifest["made_at"])
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise _not_ours("its manifest can't be read") from failure
    if newer:
        hint = "upgrade reverse-etl; the state was left as it is"
        raise StateError("the archive was written by a newer release", code="state_newer", hint=hint)
    if not complete:
        raise _not_ours("it is not complete")
    return manifest


def _member(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    try:
        return archive.getmember(name)
    except KeyError as failure:
        raise _not_ours(f"it has no {name}") from failure


# --- what they share -------------------------------------------------------------------------------------------------


@contextmanager
def _still(home: StateHome) -> Iterator[tuple[str, ...]]:
    """Every sync is held, and none begins to have state. Waits a while for runs that are under way. Raises SyncBusy."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with ExitStack() as held:
            names = _syncs_of(home)
            for name in names:
                _wait_for(home, name, held, deadline)
            if home.folder.exists():
                home.prepare()
                held.enter_context(home.alone())  # after the syncs: a run that begins holds its own
            if _syncs_of(home) == names:
                yield names
                return


def _wait_for(home: StateHome, sync: str, held: ExitStack, deadline: float) -> None:
    while True:
        try:
            held.enter_context(home.lock(sync, f"state, process {os.getpid()}"))
            return
        except SyncBusy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)


@contextmanager
def _store(home: StateHome, url: str) -> Iterator[StateStore | None]:
    """The store for looking; None where nothing has run yet."""
    file = engine.sqlite_file(url)
    if file is not None and not file.exists():
        if home.project() is not None:
            raise _error(_lost(f"{file.name} is missing, but this project has run before"))
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


@contextmanager
def _private(path: Path) -> Iterator[IO[bytes]]:
    """A new file that only its owner can read, on disk when this ends."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


class _Bytes:
    """Bytes as the file that tarfile reads from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int = -1, /) -> bytes:
        part, self._content = self._content[:size], self._content[size:]
        return part


def _embedded(url: str) -> Path:
    file = engine.sqlite_file(url)
    if file is None:
        raise StateError(
            f"the state is in {engine.place(url)}: archives are for the embedded state",
            code="state_archive",
            hint="use pg_dump and pg_restore; snapshots are copies that runs make anew",
        )
    return file


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lost(what: str) -> Finding:
    hint = "restore .reverse_etl from a backup, or `reverse-etl reset SYNC` to start over"
    return Finding("state_missing", what, hint)


def _error(finding: Finding) -> StateError:
    return StateError(finding.message, code=finding.code, hint=finding.hint)


def _not_ours(why: str) -> StateError:
    hint = "take another backup; the state was left as it is"
    return StateError(f"the archive can't be used: {why}", code="state_archive", hint=hint)


def _disk(failure: OSError | tarfile.TarError | sqlite3.Error, file: Path) -> StateError:
    said = (failure.strerror if isinstance(failure, OSError) else None) or str(failure)
    hint = "look at the path, its permissions and the room on the disk; the state was left as it is"
    return StateError(f"{file.name}: {said}", code="state_archive", hint=hint)
