"""`python -m tests.faults`: the fault campaign. Exit code 1 when any invariant was broken."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults import every, plants  # noqa: F401
from tests.faults.campaign import Played, campaign, document, summary, table, write
from tests.faults.families import FAMILIES

JOBS = 3  # one more than the cores of a small machine: every play waits now and then


def main() -> int:
    options = _options()
    unknown = sorted(set(options.id) - FAMILIES.keys())
    if unknown:
        print(f"no family {', '.join(unknown)}; there are {', '.join(sorted(FAMILIES))}", file=sys.stderr)
        return 2
    chosen = [] if options.plants else [family for id, family in FAMILIES.items() if id in options.id or not options.id]
    began, played = time.monotonic(), []
    for each in campaign(chosen, options.tier, options.seed, jobs=options.jobs, package=options.package):
        played.append(each)
        print(_line(each), file=sys.stderr, flush=True)
        if options.json:  # after each play: a campaign of hours may be cut short
            write(options.json, document(played, FAMILIES, options.tier, options.seed))
    if played:
        print(table(played, FAMILIES))
        print(f"\n{summary(played, options.tier, options.seed, time.monotonic() - began)}")
    bad = _told(played, options.tier)
    if options.plants or (options.tier != "smoke" and not options.id):
        for name, by in plants.found(options.package or plants.INSTALLED):
            print(f"planted: {name}: {by or 'NOT FOUND'}", flush=True)
            bad += not by
    return 1 if bad else 0


def _line(played: Played) -> str:
    told = f"{played.id} {played.seed}: {played.cycles} cycles, {played.seconds} s, {played.cpu} s of CPU"
    return f"{told}\n{played.told()}" if played.violations else told


def _told(played: Sequence[Played], tier: str) -> int:
    """Each play that was wrong, with the command that repeats it; how many wrongs there were."""
    for each in played:
        if each.violations:
            print(f"\nmake faults TIER={tier} ID={each.id} SEED={each.seed}\n{each.told()}")
    return sum(len(each.violations) for each in played)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description="Break everything around a run; nothing may be lost.")
    parser.add_argument("--id", nargs="*", default=[], help="families to play; all of them without")
    parser.add_argument("--seed", default="1", help="7 plays seeds 7.0, 7.1, ...; 7.3 repeats one play")
    parser.add_argument("--tier", choices=("smoke", "nightly", "release"), default="smoke")
    parser.add_argument("--jobs", type=int, default=JOBS, help="plays at a time, beside those that mostly wait")
    where = os.environ.get("FAULTS_JSON")  # by which a CI keeps them
    parser.add_argument("--json", type=Path, default=where and Path(where), help="write the results here")
    parser.add_argument("--plants", action="store_true", help="only plant bugs in a copy; each must be found")
    parser.add_argument("--package", type=Path, help="a folder with another copy of reverse_etl, to play against that")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
