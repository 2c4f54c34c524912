"""Plays families of faults and tells what came of it: a table for people, a JSON file for the docs."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path

from tests.faults.families import FAMILIES, Family, NotHere, Tier
from tests.faults.stage import Violation, stage

LONG_WAIT = 20.0  # seconds: a play that waits longer is no burden
WAITING_JOBS = 4
ORPHANED_SECONDS = 10.0  # to take a stage down


@dataclass
class Played:
    """One seed of one family. `cpu` are the seconds that the tool's processes and the play itself kept cores busy."""

    id: str
    seed: str
    cycles: int = 0
    kills: int = 0
    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cpu: float = 0.0
    not_here: str | None = None

    def told(self) -> str:
        return "\n".join(f"  {self.id} seed {self.seed}  {each.invariant}  {each.text}" for each in self.violations)


def play(family: Family, seed: str, package: Path | None = None, *, tier: Tier = "nightly") -> Played:
    """One seed, on a stage of its own. What breaks the play itself is a violation, too: it must not pass for quiet."""
    played, began, busy = Played(family.id, seed), time.monotonic(), _busy()
    number = sum(map(ord, f"{family.id}{seed}"))
    warehouse = family.warehouse if family.warehouse != "any" else ("duckdb", "sqlite")[number % 2]
    with stage(
        f"{family.id}/{seed}",
        warehouse=warehouse,
        destination=family.destination,
        package=package,
        small=tier == "smoke",
    ) as here:
        try:
            family.play(here)
        except NotHere as lacking:
            played.not_here = str(lacking)
        except Exception as failure:
            here.wrong("campaign", f"{type(failure).__name__}: {failure}")
        played.cycles, played.violations, played.figures = here.cycles, here.violations, here.figures
        played.kills = here.kills
    played.seconds = round(time.monotonic() - began, 1)
    played.cpu = round(_busy() - busy, 1)
    return played


def campaign(
    families: Iterable[Family], tier: Tier, seed: str, *, jobs: int, package: Path | None = None
) -> Iterator[Played]:
    """Every family as often as its tier asks, so many `jobs` at a time; told as they end.

    Those that mostly wait have places of their own beside the others, the longest first: they leave the cores alone. A
    seed with a dot in it is one play, repeated. Each play has a process to itself: fakes don't wait for each other.
    """
    plays = [
        (family, each)
        for family in sorted(families, key=lambda family: -family.waits)
        for each in ([seed] if "." in seed else [f"{seed}.{nth}" for nth in range(family.times[tier])])
    ]
    with _places(jobs) as busy, _places(WAITING_JOBS) as patient:
        under_way = [
            (patient if family.waits >= LONG_WAIT else busy).submit(_play, family.id, each, package, tier)
            for family, each in plays
        ]
        for ended in as_completed(under_way):
            yield ended.result()


def _places(number: int) -> ProcessPoolExecutor:
    fresh = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(number, mp_context=fresh, initializer=_take_place)


def _take_place() -> None:
    """In a process of its own: know the families, and take the stage down when the campaign is killed."""
    import_module("tests.faults.every")
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    campaign = multiprocessing.parent_process()
    if campaign is not None:
        campaign.join()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(ORPHANED_SECONDS)
        os._exit(1)


def _play(id: str, seed: str, package: Path | None, tier: Tier) -> Played:
    return play(FAMILIES[id], seed, package, tier=tier)


def _busy() -> float:
    """Seconds of a core that this process and its ended children have taken."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def table(played: Sequence[Played], families: dict[str, Family]) -> str:
    """Fault, cycles, violations, figure."""
    lines = [("", "fault", "cycles", "violations", "figure")]
    for id in sorted({each.id for each in played}):
        mine = [each for each in played if each.id == id]
        lacking = next((each.not_here for each in mine if each.not_here), None)
        violations = sum(len(each.violations) for each in mine)
        cycles = sum(each.cycles for each in mine)
        lines.append((id, families[id].fault, str(cycles), str(violations), lacking or _figures(mine)))
    widths = [max(len(line[at]) for line in lines) for at in range(4)]
    rows = ("  ".join(cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)) for line in lines)
    return "\n".join(row.rstrip() for row in rows)


def summary(played: Sequence[Played], tier: str, seed: str, seconds: float) -> str:
    """The campaign in a line."""
    kills, bad = sum(each.kills for each in played), sum(len(each.violations) for each in played)
    plays = f"{len(played)} plays of {len({each.id for each in played})} families"
    lacking = len({each.id for each in played if each.not_here})
    told = f"tier {tier}, seed {seed}: {plays}, {kills:,} kills, {bad} violations"
    cpu = sum(each.cpu for each in played)
    return f"{told}{f', {lacking} not here' if lacking else ''}; {seconds:.0f} s, {cpu:.0f} s of CPU"


@cache
def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def document(played: Sequence[Played], families: dict[str, Family], tier: Tier, seed: str) -> dict[str, object]:
    """The same for machines, with where, when and of what it was made."""
    return {
        "commit": _commit(),
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}",
        "tier": tier,
        "seed": seed,
        "kills": sum(each.kills for each in played),
        "violations": sum(len(each.violations) for each in played),
        "families": [
            {
                "id": id,
                "fault": families[id].fault,
                "cycles": sum(each.cycles for each in played if each.id == id),
                "kills": sum(each.kills for each in played if each.id == id),
                "cpu_s": round(sum(each.cpu for each in played if each.id == id), 1),
                "seconds": round(sum(each.seconds for each in played if each.id == id), 1),
                "violations": [
                    asdict(bad) | {"seed": each.seed} for each in played if each.id == id for bad in each.violations
                ],
                "figures": figures([each for each in played if each.id == id]),
                "not_run": next((each.not_here for each in played if each.id == id and each.not_here), None),
            }
            for id in sorted({each.id for each in played})
        ],
    }


def write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def figures(played: Sequence[Played]) -> dict[str, float]:
    """The greatest of each figure over all seeds; what is counted adds up."""
    names = sorted({name for each in played for name in each.figures})
    return {name: max(each.figures[name] for each in played if name in each.figures) for name in names}


def _figures(played: Sequence[Played]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures(played).items())
