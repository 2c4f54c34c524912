"""Connectors by name: whatever is installed under our entry-point groups, the built-in ones included."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from reverse_etl.errors import PluginError
from reverse_etl.protocols import Destination, Source

DESTINATIONS = "reverse_etl.destinations"
SOURCES = "reverse_etl.sources"


def names(group: str) -> list[str]:
    """The names that can stand in a project file, in order; imports nothing."""
    return sorted({point.name for point in _points(group)})


def destination(name: str) -> type[Destination]:
    """The class behind `type:` of a destination. Raises PluginError when it can't be imported."""
    loaded: type[Destination] = _load(DESTINATIONS, name)
    return loaded


def source(name: str) -> type[Source]:
    """The class for a SQLAlchemy dialect name (`duckdb`), or the general one (`sql`)."""
    loaded: type[Source] = _load(SOURCES, name if name in names(SOURCES) else "sql")
    return loaded


def _load(group: str, name: str) -> type:
    points = [point for point in _points(group) if point.name == name]
    if not points:
        raise PluginError(f"no connector named {name!r} is installed", hint=f"installed: {', '.join(names(group))}")
    try:
        loaded: type = points[0].load()
    except ImportError as failure:
        raise PluginError(
            f"the connector {name!r} can't be imported: {failure}",
            hint="install the extra it needs, or report it to its author",
        ) from failure
    return loaded


@cache
def _points(group: str) -> tuple[EntryPoint, ...]:
    """Looked up once a process: every installed package is opened for it, which takes as long as a small run."""
    return tuple(entry_points(group=group))
