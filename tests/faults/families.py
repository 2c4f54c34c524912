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
    """`times` is how many seeds are played in each tier; `warehouse` may be `any`, then the seed chooses."""

    id: str
    fault: str
    play: Play
    times: dict[Tier, int]
    warehouse: str = "any"


FAMILIES: dict[str, Family] = {}


def family(
    id: str, fault: str, *, smoke: int = 1, nightly: int = 5, release: int = 20, warehouse: str = "any"
) -> Callable[[Play], Play]:
    """Enter a play into the list."""

    def enter(play: Play) -> Play:
        if id in FAMILIES:
            raise ValueError(f"two families are called {id}")
        FAMILIES[id] = Family(id, fault, play, {"smoke": smoke, "nightly": nightly, "release": release}, warehouse)
        return play

    return enter


def needs(program: str, package: str) -> str:
    """The program's place. Raises NotHere with the package to install."""
    found = shutil.which(program)
    if found is None:
        raise NotHere(f"{program} is not installed (Debian: apt-get install {package})")
    return found
