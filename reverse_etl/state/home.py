"""The folder `.reverse_etl`: who may write what where, and the locks that end with their process.

project.json        the project's id, and the syncs that have state
state.db            the SQL store (unless state.url says otherwise)
snapshots/NAME.duckdb
locks/NAME.lock     held while a sync runs; its text names the holder
locks/.project      held while project.json is written
underway/NAME.SLOT  keys of the batch that a slot has sent last, until its outcome is stored (unless in PostgreSQL)
spool/RUN/          where a run's comparison spills to; gone when it ends, or when the next one starts
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from reverse_etl.errors import StateError, SyncBusy

NAMING_LOOKS, NAMING_LOOK_SECONDS = 20, 0.005  # between taking a lock and writing one's name lies a moment
LOOK_SECONDS = 0.01  # who only asks whether a lock is held has it for less


class StateHome:
    def __init__(self, root: Path) -> None:
        self.folder = root / ".reverse_etl"
        self.project_file = self.folder / "project.json"
        self.snapshots = self.folder / "snapshots"
        self.underway = self.folder / "underway"

    def project(self) -> dict[str, Any] | None:
        """What `project.json` says; None before the first real run."""
        self._refuse_links()
        if not self.project_file.exists():
            self._refuse_half_restored()
            return None
        try:
            found: dict[str, Any] = json.loads(self.project_file.read_text("utf-8"))
            return {"id": str(found["id"]), "syncs": list(found["syncs"])}
        except (ValueError, KeyError, TypeError) as failure:
            raise StateError(
                f"{self.project_file.name} can't be read: {failure}",
                hint="restore .reverse_etl from a backup, or `reverse-etl reset SYNC` to start over",
            ) from failure

    def prepare(self) -> None:
        """Make the folders, private to their owner under any umask. Links in their place are refused."""
        self._refuse_half_restored()
        for folder in (self.folder, self.snapshots, self.underway, self.folder / "locks", self.folder / "spool"):
            if folder.is_symlink():
                raise _is_link(folder)
            with self._written():
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)

    def enter(self, sync: str, owner: str) -> None:
        """Note that this sync has state from now on, in the store of this project."""
        project = self.project() or {"id": owner, "syncs": []}
        if sync not in project["syncs"]:
            project["syncs"] = sorted({*project["syncs"], sync})
            self._write(project)

    def leave(self, sync: str) -> None:
        """The sync has no state any more."""
        project = self.project()
        if project is not None and sync in project["syncs"]:
            self._write(project | {"syncs": [name for name in project["syncs"] if name != sync]})

    def mend(self, project_id: str | None, syncs: Iterable[str]) -> None:
        """Put an unreadable project.json aside and write it anew, so that no other sync's state passes for none."""
        try:
            self.project()
        except StateError:
            self.project_file.rename(aside(self.project_file, "unreadable"))
            with_snapshot = {path.stem for path in self.snapshots.glob("*.duckdb")}
            self._write({"id": project_id or secrets.token_hex(8), "syncs": sorted({*syncs, *with_snapshot})})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around what concerns the project as a whole: first runs of several syncs may begin at the same moment."""
        path = self.folder / "locks" / ".project"  # no sync has such a name
        with self._written():
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def lock(self, sync: str, holder: str) -> Iterator[None]:
        """Hold a sync alone. The operating system lets go with the process, however it ends. Raises SyncBusy."""
        path = self.folder / "locks" / f"{sync}.lock"
        with self._written():
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if not _taken(handle):
                named = _holder(handle)
                raise SyncBusy(
                    f"{sync} is held by another run{f' ({named})' if named else ''}",
                    hint="it goes on by itself; try later",
                )
            with self._written():
                os.truncate(handle, 0)
                os.pwrite(handle, holder.encode(), 0)
            yield
        finally:
            os.close(handle)

    def holder(self, sync: str) -> str | None:
        """Who holds a sync on this machine, by its own words; None when nobody does."""
        try:
            handle = os.open(self.folder / "locks" / f"{sync}.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # there has been no run yet, or this user can't see
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(handle) or "another run"
        finally:
            os.close(handle)
        return None

    @contextmanager
    def spool(self, run_id: str) -> Iterator[Path]:
        """A folder for one run to spill to, removed afterwards."""
        folder = self.folder / "spool" / run_id
        with self._written():
            folder.mkdir(mode=0o700, parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, sync: str) -> None:
        """Remove what killed runs of this sync left in the spool. The caller holds its lock."""
        for left in (self.folder / "spool").glob(f"{sync}.*"):
            shutil.rmtree(left, ignore_errors=True)

    def _write(self, project: dict[str, Any]) -> None:
        fresh = self.project_file.with_suffix(".new")
        with self._written():
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(project, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.project_file)
            harden(self.folder)

    def _refuse_half_restored(self) -> None:
        """A restore that died after it had put the state aside has left none, which isn't to pass for a first run."""
        left = [] if self.folder.exists() else sorted(self.folder.parent.glob(f"{self.folder.name}.restoring-*"))
        if left:
            hint = f"run `reverse-etl state restore` again, then remove {left[0].name}; without it a run is a first one"
            raise StateError("a restore was cut off before it was done", code="state_missing", hint=hint)

    def _refuse_links(self) -> None:
        """Nothing of the state is a link: what it leads to isn't ours to read, and not ours to write."""
        for folder in (self.folder, self.snapshots):
            if folder.is_symlink():
                raise _is_link(folder)
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        raise _is_link(Path(entry.path))

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Around a write into the folder: read-only, full or somebody else's, it is no state to run with."""
        try:
            yield
        except OSError as failure:
            raise StateError(
                f"{self.folder.name} can't be written: {failure.strerror or failure}",
                hint="the state needs a folder that this user may write to, with room on its disk; nothing was sent",
            ) from failure


def aside(path: Path, why: str) -> Path:
    """A name beside it that is free, so that nothing which was put aside before is lost."""
    names = (path.with_name(f"{path.name}.{why}{f'-{nth}' if nth > 1 else ''}") for nth in count(1))
    return next(name for name in names if not name.exists() and not name.is_symlink())


def harden(path: Path) -> None:
    """What a file holds, or which names a folder has, outlives a power cut from here on."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_link(path: Path) -> StateError:
    return StateError(f"{path.name} is a link; state is only kept in real folders and files", hint="remove the link")


def _taken(handle: int) -> bool:
    for wait in (LOOK_SECONDS, None):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if wait is not None:
                time.sleep(wait)
        else:
            return True
    return False


def _holder(handle: int) -> str:
    """Who holds a lock, by its text; a moment is given to one who has only just got it. Empty when it stays unsaid."""
    for _ in range(NAMING_LOOKS):
        named = os.pread(handle, 500, 0).decode("utf-8", "replace").strip()
        if named:
            return named
        time.sleep(NAMING_LOOK_SECONDS)
    return ""
