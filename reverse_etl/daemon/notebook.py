"""What the daemon itself must remember over a restart: who asked for a run, used signatures, what has been told.

One small file, `.reverse_etl/daemon.json`, replaced whole and on disk before a call returns; and the lock that keeps a
second daemon from the same project. With the state in PostgreSQL the same stands there, for daemons on other machines.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
from anyio import to_thread

from reverse_etl.errors import StateError, SyncBusy
from reverse_etl.project import Project

log = logging.getLogger(__name__)

FOLDER = ".reverse_etl"
NAME, LOCK = "daemon.json", "daemon.lock"
SCOPE = ".daemon"  # of the state's memory: no connection has such a name
SETTLE_SECONDS, AGAIN_SECONDS = 5.0, 1.0
# The sections:
WISHES = "asked"  # runs that were asked for and have not begun
TOLD, UNSENT = "told", "unsent"  # what people know of each sync; alerts that have not arrived
SIGNATURES = "signatures"  # ids of requests that were taken
SEEN = "seen"  # since when each cron line is in force: its first time may come while nobody schedules
SECTIONS = (WISHES, TOLD, UNSENT, SIGNATURES, SEEN)


class Pages(Protocol):
    """Sections of names with JSON values."""

    def page(self, section: str) -> dict[str, Any]:
        """A copy of what stands in a section."""
        ...

    def write(self, section: str, page: dict[str, Any]) -> None:
        """Replaces a section. Does nothing when it reads the same already."""
        ...

    async def settled(self) -> None:
        """Returns when all that was written outlives this process. Raises StateError when that can't be had soon."""
        ...


class Notebook:
    """Sections of names with JSON values. Reading a damaged file starts a new one: nothing in it is about rows."""

    def __init__(self, root: Path) -> None:
        self._folder = root / FOLDER
        self._path = self._folder / NAME
        self._pages: dict[str, dict[str, Any]] = {}

    def open(self) -> None:
        """Raises StateError when the folder can't be used."""
        try:
            if self._folder.is_symlink():
                raise StateError(f"{FOLDER} is a link; state is only kept in a real folder", hint="remove the link")
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._path.exists():
                self._pages = _pages(self._path.read_text("utf-8"))
        except OSError as failure:
            raise StateError(
                f"{self._path} can't be read: {failure.strerror}", hint="check rights and disk"
            ) from failure

    def page(self, section: str) -> dict[str, Any]:
        """A copy of what stands in a section."""
        return dict(self._pages.get(section, {}))

    def write(self, section: str, page: dict[str, Any]) -> None:
        """Replaces a section. Does nothing when it reads the same already.

        A disk that takes nothing is no reason to stop syncs: the page then lasts as long as the process.
        """
        if self._pages.get(section, {}) == page:
            return
        self._pages = {**self._pages, section: dict(page)}
        try:
            self._store()
        except OSError as failure:
            log.error("%s can't be written, and is forgotten with a restart: %s", self._path.name, failure.strerror)

    async def settled(self) -> None:
        """It is so already."""

    def _store(self) -> None:
        fresh = self._path.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(self._pages, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)

    @contextmanager
    def alone(self) -> Iterator[Path]:
        """Hold the project's daemon lock; the operating system lets go with the process. Raises SyncBusy.

        Yields the lock's file: what stands in it tells others where this daemon answers.
        """
        path = self._folder / LOCK
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held = os.pread(handle, 500, 0).decode("utf-8", "replace").split("\n")[0]
                raise SyncBusy(
                    f"a daemon of this project is running already ({held or 'it has just started'})",
                    hint="one is enough: it takes up changed files by itself",
                ) from None
            os.truncate(handle, 0)
            yield path
        finally:
            os.close(handle)


class SharedNotebook:
    """The sections in the state's database: a thread keeps them, so that no outage holds the daemon up."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._pages: dict[str, dict[str, Any]] = {}
        self._unkept: set[str] = set()
        self._news = anyio.Event()
        self._kept = anyio.Event()

    def open(self) -> None:
        """Reads what another daemon has left. Synchronous; raises StateError."""
        with self._project.parts.store() as store:
            for section in SECTIONS:
                text = store.remembered.get(SCOPE, section) if store is not None else None
                self._pages[section] = _pages(f'{{"page": {text}}}').get("page", {}) if text else {}

    def page(self, section: str) -> dict[str, Any]:
        return dict(self._pages.get(section, {}))

    def write(self, section: str, page: dict[str, Any]) -> None:
        if self.page(section) == page:
            return
        self._pages[section] = dict(page)
        self._unkept.add(section)
        self._news.set()

    async def settled(self) -> None:
        with anyio.move_on_after(SETTLE_SECONDS):
            while self._unkept:
                await self._kept.wait()
        if self._unkept:
            raise StateError("the state's database doesn't take what the daemon must remember", hint="try again later")

    async def run(self) -> None:
        """Keeps what is written, until cancelled."""
        while True:
            await self._news.wait()
            self._news, sections = anyio.Event(), set(self._unkept)
            pages = {section: json.dumps(self._pages[section]) for section in sections}
            try:
                await to_thread.run_sync(self._keep, pages)
            except StateError as failure:
                log.error("what the daemon must remember is not in the database yet: %s", failure.message)
                await anyio.sleep(AGAIN_SECONDS)
                self._news.set()
                continue
            self._unkept -= {section for section in sections if pages[section] == json.dumps(self._pages[section])}
            self._kept.set()
            self._kept = anyio.Event()

    def _keep(self, pages: dict[str, str]) -> None:
        with self._project.parts.store() as store:
            if store is None:
                raise StateError("the state's tables are gone", hint="restore the database")
            for section, text in pages.items():
                store.remembered.put(SCOPE, section, text)


def running_at(root: Path) -> str | None:
    """The address of the project's running daemon; None when there is none."""
    path = root / FOLDER / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        lines = os.pread(handle, 500, 0).decode("utf-8", "replace").split("\n")
        return lines[1] if len(lines) > 1 and lines[1] else None
    else:
        return None
    finally:
        os.close(handle)


def _pages(text: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: page for name, page in found.items() if isinstance(page, dict)}
