"""A worker as callers over HTTP see it, and the limits on where it may listen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from reverse_etl.config.daemon import DaemonFile, listening
from reverse_etl.daemon.definitions import Definitions
from reverse_etl.daemon.life import Life
from reverse_etl.errors import ConfigError
from reverse_etl.model import Problem


@dataclass(frozen=True)
class Post:
    """What `routes.Watched` asks for."""

    life: Life
    definitions: Definitions
    scrape: Callable[[], bytes]

    def silent_seconds(self) -> float:
        return self.life.silent_seconds

    def ready(self) -> bool:
        return self.life.ready

    def standing_by(self) -> str:
        return ""

    def broken(self) -> Mapping[str, Sequence[str]]:
        return {name: [str(problem) for problem in each] for name, each in self.definitions.broken.items()}

    def metrics(self) -> bytes:
        return self.scrape()


@dataclass(frozen=True)
class Bench:
    """`metrics.Occupied` of a worker: what waits, waits in the queue."""

    places: int
    running: Collection[object]

    @property
    def waiting(self) -> Collection[object]:
        return ()


def settings_for(listen: str, settings: DaemonFile) -> DaemonFile:
    """The daemon's settings at another address. Raises ConfigError for one that it may not answer at."""
    try:
        found = settings.model_copy(update={"listen": listening(listen)})
    except ValueError as failure:
        raise ConfigError([Problem("", 0, 0, listen, f"--listen {failure}")]) from None
    if not found.only_here and found.token is None:
        message = "an address that others reach needs daemon.token in reverse_etl.yml"
        raise ConfigError([Problem("", 0, 0, listen, message)], hint="or listen on 127.0.0.1")
    return found
