"""The project's files under a running daemon: each sync's last good version, and what is wrong with newer ones."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from reverse_etl.config import files
from reverse_etl.config.daemon import DaemonFile
from reverse_etl.config.schedule import After
from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError
from reverse_etl.model import Problem
from reverse_etl.project import Project

Mark = tuple[int, ...]
SHARED = (files.PROJECT_FILE, files.DOTENV)


@dataclass(frozen=True)
class Definition:
    """A sync, and the project as it was when it was read: the connections that it runs with."""

    sync: SyncConfig
    project: Project


@dataclass(frozen=True)
class Changes:
    """What another look at the files has brought. `settings`: the daemon's own section reads differently."""

    defined: Sequence[str] = ()
    removed: Sequence[str] = ()
    settings: bool = False
    broken: Mapping[str, Sequence[Problem]] = field(default_factory=dict)  # what is newly so
    mended: Sequence[str] = ()


class Definitions:
    """Reads files when they have changed.

    Synchronous, for a worker thread; what it holds is replaced whole, never changed, so that others may look at it.
    """

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self.root = root
        self.current: Mapping[str, Definition] = {}
        self.broken: Mapping[str, Sequence[Problem]] = {}  # by sync, or by file where no sync is to blame
        self.settings = DaemonFile()
        self._project: Project | None = None
        self._env = env
        self._marks: dict[Path, Mark] = {}

    @property
    def project(self) -> Project:
        """Without its syncs, as the project file could last be read. Raises ConfigError while it never could."""
        if self._project is None:
            raise self._unusable()
        return self._project

    def begin(self) -> None:
        """The first look. Raises ConfigError when the project file has no good version to go on with."""
        self.read()
        if files.PROJECT_FILE in self.broken:
            raise self._unusable()

    def read(self) -> Changes | None:
        """Look at the files; None when none has changed. What can't be read keeps its last good version."""
        marks = dict(self._marked())
        changed = {path for path in marks.keys() | self._marks.keys() if marks.get(path) != self._marks.get(path)}
        if not changed:
            return None
        first, self._marks = not self._marks, marks
        everything = first or any(self.root / name in changed for name in SHARED)
        there = files.sync_files(self.root)
        names = [name for name, path in there.items() if everything or self._touched(name, path, changed)]
        return self._take(names, there, everything)

    def _take(self, names: Sequence[str], there: Mapping[str, Path], everything: bool) -> Changes:
        broken = {} if everything else {name: self.broken[name] for name in self.broken if name not in names}
        settings, legible = self._settings(broken) if everything else (self.settings, True)
        found = self._load(names, broken) if legible else {}
        current = {name: each for name, each in (dict(self.current) | found).items() if name in there}
        self._break_circles(current, found, broken)
        broken = {name: each for name, each in broken.items() if name in there or name == files.PROJECT_FILE}
        changes = Changes(
            defined=[name for name in current if current[name] is not self.current.get(name)],
            removed=[name for name in self.current if name not in current],
            settings=settings != self.settings,
            broken={name: each for name, each in broken.items() if self.broken.get(name) != each},
            mended=[
                name for name in self.broken if name not in broken and (name in current or name == files.PROJECT_FILE)
            ],
        )
        self.current, self.broken, self.settings = current, broken, settings
        return changes

    def _settings(self, broken: dict[str, Sequence[Problem]]) -> tuple[DaemonFile, bool]:
        """The daemon's section, and whether the project file can be read at all."""
        try:
            config, _ = files.load(self.root, self._env, only=[], daemon=True)
        except ConfigError as failure:
            broken[files.PROJECT_FILE] = failure.problems
            return self.settings, self._legible()
        self._project = Project(config, {})
        return config.daemon, True

    def _unusable(self) -> ConfigError:
        problems = self.broken.get(files.PROJECT_FILE, ())
        return ConfigError(list(problems), hint="correct these and start again; nothing was sent")

    def _legible(self) -> bool:
        try:
            files.load(self.root, self._env, only=[])
        except ConfigError:
            return False
        return True

    def _load(self, names: Sequence[str], broken: dict[str, Sequence[Problem]]) -> dict[str, Definition]:
        """Definitions by name, together if they are all right; else the guilty ones are told from the others."""
        if not names:
            return {}
        try:
            config, syncs = files.load(self.root, self._env, only=names)
        except ConfigError as failure:
            if len(names) == 1:
                broken[names[0]] = failure.problems
                return {}
            guilty = _named_in(failure.problems, names)
            if not guilty or len(guilty) == len(names):
                parts: Iterable[Sequence[str]] = [[name] for name in names]
            else:
                parts = [*([name] for name in guilty), [name for name in names if name not in guilty]]
            return {name: each for part in parts for name, each in self._load(part, broken).items()}
        project = Project(config, syncs)
        return {name: Definition(sync, project) for name, sync in syncs.items()}

    def _break_circles(
        self, current: dict[str, Definition], found: Mapping[str, Definition], broken: dict[str, Sequence[Problem]]
    ) -> None:
        """Syncs that wait for each other: the new versions among them are not taken."""
        while (circle := _circle(current)) is not None:
            new = [name for name in circle if current[name] is found.get(name)]
            for name in new or circle:
                message = f"these syncs wait for each other: {', '.join(circle)}"
                broken[name] = [current[name].sync.problem("schedule", "after", message=message)]
                before = self.current.get(name)
                if before is None or before is current[name]:
                    del current[name]
                else:
                    current[name] = before

    def _touched(self, name: str, path: Path, changed: set[Path]) -> bool:
        known = self.current.get(name)
        beside = known.sync.query_file if known is not None else None
        return path in changed or (beside is not None and beside in changed) or self._lacks_something(name)

    def _lacks_something(self, name: str) -> bool:
        """A broken definition may be mended by any file: a query that is there now, a parent that has come."""
        return name in self.broken

    def _marked(self) -> Iterator[tuple[Path, Mark]]:
        beside = {each.sync.query_file for each in self.current.values()} - {None}
        folder = self.root / files.SYNCS
        for path in (*(self.root / name for name in SHARED), *(path for path in beside if path is not None)):
            mark = _mark(path)
            if mark is not None:
                yield path, mark
        if folder.is_dir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    mark = None if entry.name.startswith(".") else _mark(entry)
                    if mark is not None:
                        yield folder / entry.name, mark


def _mark(path: Path | os.DirEntry[str]) -> Mark | None:
    """What changes when a file is written or replaced; None when it isn't there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _named_in(problems: Iterable[Problem], names: Sequence[str]) -> list[str]:
    """The syncs in whose files these problems are."""
    at = {problem.file for problem in problems}
    return [name for name in names if f"{files.SYNCS}/{name}.yml" in at]


def _circle(definitions: Mapping[str, Definition]) -> list[str] | None:
    waits = {
        name: [parent for parent in each.sync.schedule.syncs if parent in definitions]
        for name, each in definitions.items()
        if isinstance(each.sync.schedule, After)
    }
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as failure:
        return sorted(set(failure.args[1]))
    return None
