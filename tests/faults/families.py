"""What a family of faults is, and the list of them. A family plays a chain of cycles; its seed repeats it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.faults.stage import Stage

Tier = Literal["smoke", "nightly", "release"]
Play = Callable[[Stage], None]


class NotHere(Exception):
    """This machine lacks what the fault is made with; the message says what to install."""


@dataclass(frozen=True)
class Family:
    """`times` is how many seeds are played in each tier; `warehouse` may be `any`, then the seed chooses.

    `waits` is about how many seconds a play sits there idle: such ones begin first, beside others.
    """

    id: str
    fault: str
    play: Play
    times: dict[Tier, int]
    warehouse: str = "any"
    destination: str = "hubspot"
    waits: float = 0.0


FAMILIES: dict[str, Family] = {}


def family(
    id: str,
    fault: str,
    *,
    smoke: int = 1,
    nightly: int = 5,
    release: int = 20,
    warehouse: str = "any",
    destination: str = "hubspot",
    waits: float = 0.0,
) -> Callable[[Play], Play]:
    """Enter a play into the list."""

    def enter(play: Play) -> Play:
        if id in FAMILIES:
            raise ValueError(f"two families are called {id}")
        times: dict[Tier, int] = {"smoke": smoke, "nightly": nightly, "release": release}
        FAMILIES[id] = Family(id, fault, play, times, warehouse, destination, waits)
        return play

    return enter


def needs(program: str, package: str) -> str:
    """The program's place. Raises NotHere with the package to install."""
    found = shutil.which(program)
    if found is None:
        raise NotHere(f"{program} is not installed (Debian: apt-get install {package})")
    return found
