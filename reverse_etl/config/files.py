"""A project's folder: found, read whole, and either understood or refused with every problem in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from pathlib import Path

from reverse_etl import registry
from reverse_etl.config.definition import DefaultsFile
from reverse_etl.config.problems import Places, elsewhere, in_order, nearest
from reverse_etl.config.project import Connector, ProjectConfig, ReadProject
from reverse_etl.config.rules import Definition, Surroundings, settle
from reverse_etl.config.schedule import After
from reverse_etl.config.sync import SyncConfig
from reverse_etl.config.tree import MAX_PROBLEMS, Node, parse, read_file
from reverse_etl.config.variables import VARIABLE, Variables, parse_dotenv, plain_data
from reverse_etl.config.words import checked_name
from reverse_etl.errors import ConfigError
from reverse_etl.model import Problem

PROJECT_FILE = "reverse_etl.yml"
SYNCS = "syncs"
DOTENV = ".env"
PROJECT_VARIABLE = "REVERSE_ETL_PROJECT"
STATE_VARIABLE = "REVERSE_ETL_STATE_URL"
# Keys whose texts are the user's own: `${` in them is theirs, and an empty value may be meant.
_FREE_TEXT = frozenset({"query", "description", "value", "default"})


def find_root(start: Path, env: Mapping[str, str], *, project: Path | None = None) -> Path:
    """The project's folder: `project` (a flag), else REVERSE_ETL_PROJECT, else the nearest one from `start` upwards."""
    named = project if project is not None else (Path(given) if (given := env.get(PROJECT_VARIABLE)) else None)
    if named is not None:
        folder = (start / named).resolve()
        if (folder / PROJECT_FILE).is_file():
            return folder
        raise _no_project(f"{named} holds no {PROJECT_FILE}")
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    raise _no_project(f"there is no {PROJECT_FILE} in {start} or in any folder above")


def load(
    root: Path,
    env: Mapping[str, str],
    *,
    only: Sequence[str] | None = None,
    connections_of_all: bool = False,
    daemon: bool = False,
    connector: Connector = registry.destination,
) -> tuple[ProjectConfig, dict[str, SyncConfig]]:
    """The project and its syncs by name. Raises ConfigError with all problems; contacts and writes nothing.

    `only` names the syncs that are needed (None: all): other files aren't read, and the variables of connections
    that none of them uses need not be set, unless `connections_of_all` asks for every connection. So it is with the
    variables of the daemon's section: they are needed for `daemon`, and by who asks for everything.
    """
    reading = _Reading(root.resolve(), env, connector)
    project, syncs = reading.read(only, connections_of_all, daemon=daemon or connections_of_all)
    if reading.problems or project is None:
        hint = "correct these and run `reverse-etl check`; nothing was sent"
        if reading.problems == reading.unknown:
            hint = "name one of the project's syncs; `reverse-etl status` lists them"
        raise ConfigError(in_order(reading.problems), hint=hint)
    return project, syncs


def sync_files(root: Path) -> dict[str, Path]:
    """The files under syncs/ by sync name, in order; nothing is opened."""
    paths = sorted((root / SYNCS).glob("*.yml")) if (root / SYNCS).is_dir() else []
    return {path.stem: path for path in paths if not path.name.startswith(".")}


class _Reading:
    def __init__(self, root: Path, env: Mapping[str, str], connector: Connector) -> None:
        self.problems: list[Problem] = []
        self.unknown: list[Problem] = []  # those of them that are about names which nobody has written into a file
        self._root = root
        self._env = env
        self._connector = connector

    def read(
        self, only: Sequence[str] | None, everything: bool, *, daemon: bool
    ) -> tuple[ProjectConfig | None, dict[str, SyncConfig]]:
        text, problems = self._text(self._root / PROJECT_FILE)
        tree, found = parse(text, PROJECT_FILE, discreet=True) if not problems else (None, [])
        self.problems += problems + found
        defaults = None if tree is None else tree.child("defaults")
        definitions = self._definitions(only, Places(PROJECT_FILE, defaults))
        if tree is None:
            self._syncs(definitions, None)
            return None, {}
        places = Places(PROJECT_FILE, tree)
        project = ReadProject(self._root, places, self._variables(), self._connector)
        for section, read in (("sources", project.read_sources), ("destinations", project.read_destinations)):
            used = {_value(definition.places, section[:-1]) for definition in definitions if only or _runs(definition)}
            if section == "sources" and used:
                used.add(project.log_source())
            read([name for name in project.names(section) if everything or name in used])
        state = project.read_state(self._env.get(STATE_VARIABLE))
        project.read_log()
        project.read_defaults()
        project.read_log_values()
        if daemon:
            project.read_daemon()
        if defaults is not None:
            self.problems += islice(_stray(defaults, places, ("defaults",)), MAX_PROBLEMS)
        syncs = self._syncs(definitions, project)
        self.problems += elsewhere(project.problems, self.problems)
        config = ProjectConfig(
            root=self._root,
            sources=project.sources,
            destinations=project.destinations,
            state=state,
            log_to=project.log_to,
            defaults=project.defaults,
            daemon=project.daemon,
        )
        return config, syncs

    def _text(self, path: Path) -> tuple[str, list[Problem]]:
        shown = path.relative_to(self._root).as_posix()
        if not path.resolve().is_relative_to(self._root):
            return "", [Problem(shown, 0, 0, "", "this is a link that leaves the project's folder")]
        return read_file(path, shown)

    def _variables(self) -> Variables:
        path = self._root / DOTENV
        if not path.exists():
            return Variables(self._env)
        text, problems = read_file(path, DOTENV)
        values, found = parse_dotenv(text, DOTENV)
        self.problems += problems + found
        return Variables(self._env, values)

    def _definitions(self, only: Sequence[str] | None, defaults: Places) -> list[Definition]:
        files = sync_files(self._root)
        for name in only or ():
            if name not in files:
                there = f"the project has {', '.join(files)}" if files else f"{SYNCS}/ holds none"
                near = nearest(name, list(files))
                missing = Problem(f"{SYNCS}/{name}.yml", 0, 0, name, f"there is no such sync; {there}", near)
                self.unknown.append(missing)
                self.problems.append(missing)
        if only is None:
            self.problems += _misnamed(self._root)
        read = (self._definition(name, path, defaults) for name, path in files.items() if only is None or name in only)
        return [definition for definition in read if definition is not None]

    def _definition(self, name: str, path: Path, defaults: Places) -> Definition | None:
        shown = path.relative_to(self._root).as_posix()
        try:
            checked_name(name)
        except ValueError as failure:
            self.problems.append(Problem(shown, 0, 0, path.name, f"{failure}: rename the file"))
        text, problems = self._text(path)
        self.problems += problems
        if problems:
            return None
        tree, found = parse(text, shown)
        self.problems += found
        return None if tree is None else Definition(name, path, Places(shown, tree, inherited=defaults))

    def _syncs(self, definitions: Sequence[Definition], project: ReadProject | None) -> dict[str, SyncConfig]:
        around = Surroundings(
            root=self._root,
            sources=None if project is None else project.names("sources"),
            destinations=None if project is None else project.names("destinations"),
            connectors={} if project is None else project.connectors,
            syncs=sync_files(self._root),
            channels=None if project is None else project.channels(),
        )
        defaults = DefaultsFile() if project is None else project.defaults
        syncs: dict[str, SyncConfig] = {}
        for definition in definitions:
            places = definition.places
            assert places.root is not None  # noqa: S101  # for the type checker: it was read from a file
            self.problems += islice(_stray(places.root, places, ()), MAX_PROBLEMS)
            data, _ = plain_data(places.root, places)
            sync, problems = settle(definition, data, defaults, around, self.problems)
            self.problems += problems
            if sync is not None:
                syncs[sync.name] = sync
        if project is not None and project.log_values:
            syncs = {name: sync.model_copy(update={"log_values": True}) for name, sync in syncs.items()}
        self.problems += _circles(syncs)
        return syncs


def _no_project(message: str) -> ConfigError:
    problem = Problem(PROJECT_FILE, 0, 0, "", message)
    return ConfigError(
        [problem], hint="`reverse-etl init` makes a project; `--project DIR` names one that is elsewhere"
    )


def _misnamed(root: Path) -> Iterator[Problem]:
    """Files that look like definitions and would be passed over in silence."""
    if (root / SYNCS).is_dir():
        for path in sorted((root / SYNCS).glob("*.yaml")):
            shown = path.relative_to(root).as_posix()
            yield Problem(shown, 0, 0, path.name, f"a definition's file ends in .yml: rename it to {path.stem}.yml")


def _value(places: Places, key: str) -> object:
    node = places.root.child(key) if places.root is not None else None
    return node.value if node is not None and not isinstance(node.value, dict | list) else None


def _runs(definition: Definition) -> bool:
    """Whether a command without names would run it: what is disabled may lack its variables."""
    return _value(definition.places, "enabled") is not False


def _stray(node: Node, places: Places, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """Keys without a value, and variables where none are read."""
    if isinstance(node.value, dict | list):
        children = node.value.items() if isinstance(node.value, dict) else enumerate(node.value)
        for step, child in children:
            yield from _stray(child, places, (*path, step))
    elif node.value is None and path[-2:-1] != ("set",):
        yield places.problem(path, "has no value: give it one, or leave the key out", of_key=True)
    elif isinstance(node.value, str) and not _free_text(path) and VARIABLE.search(node.value):
        message = f"variables are only read in the connections and the state of {PROJECT_FILE}"
        yield places.problem(path, message)


def _free_text(path: tuple[str | int, ...]) -> bool:
    return path[-1] in _FREE_TEXT or path[-2:-1] == ("set",)


def _circles(syncs: Mapping[str, SyncConfig]) -> Iterator[Problem]:
    """Syncs that wait for each other: one problem a circle, at the first of them."""
    waits = {name: set(sync.schedule.syncs) for name, sync in syncs.items() if isinstance(sync.schedule, After)}
    while True:
        try:
            TopologicalSorter(waits).prepare()
        except CycleError as failure:
            circle: list[str] = failure.args[1]
            first = min(circle)
            message = f"these syncs wait for each other: {', '.join(sorted(set(circle)))}"
            yield syncs[first].problem("schedule", "after", message=message)
            waits.pop(first)
        else:
            return
