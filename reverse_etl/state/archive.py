"""State as a whole: verified, put into one file, and put back from it.

What an archive holds is of one time: every sync is held while it is made. Only an embedded state can be archived;
PostgreSQL has tools of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from reverse_etl import clock
from reverse_etl.errors import StateError, SyncBusy
from reverse_etl.state import audit, bundle, engine
from reverse_etl.state.bundle import PROJECT, STORE, new_file
from reverse_etl.state.home import StateHome, aside, harden
from reverse_etl.state.verify import Finding, error, verify

WAIT_SECONDS = 60.0


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
        return verify(self.home, self.url)

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
            with _still(self.home) as names, new_file(part) as sink:
                engine.copy(file, copy)
                members = {PROJECT: self.home.project_file, STORE: copy}
                members |= {f"snapshots/{path.name}": path for path in sorted(self.home.snapshots.glob("*.duckdb"))}
                bundle.write(sink, members, names, now)
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
            manifest = bundle.extract(source, fresh.folder)
            _, findings = verify(fresh, f"sqlite:///{fresh.folder / STORE}")
            if findings:
                raise error(findings[0])
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


def _embedded(url: str) -> Path:
    file = engine.sqlite_file(url)
    if file is None:
        raise StateError(
            f"the state is in {engine.place(url)}: archives are for the embedded state",
            code="state_archive",
            hint="use pg_dump and pg_restore; snapshots are copies that runs make anew",
        )
    return file


def _disk(failure: OSError | tarfile.TarError | sqlite3.Error, file: Path) -> StateError:
    said = (failure.strerror if isinstance(failure, OSError) else None) or str(failure)
    hint = "look at the path, its permissions and the room on the disk; the state was left as it is"
    return StateError(f"{file.name}: {said}", code="state_archive", hint=hint)
