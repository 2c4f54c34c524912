"""The power goes: the disk has what was synced, and perhaps some of the rest; the destination has all it took."""

from __future__ import annotations

import copy
import time
from collections.abc import Collection
from dataclasses import dataclass

from tests.faults import checker
from tests.faults.families import family, needs
from tests.faults.platter import Names, Platter, Rest, Step, recording, steps
from tests.faults.scripted import Entry
from tests.faults.stage import Stage

ROWS, CHANGES = 1200, 900
KINDS: tuple[tuple[Names, Rest], ...] = (("sure", "none"), ("sure", "some"), ("all", "none"), ("all", "some"))


@dataclass
class Recorded:
    """A run that went well, and everything from which any moment of it can be had again."""

    before: Platter
    steps: list[Step]
    moments: list[int]  # steps after which something more was sure
    records: dict[str, dict[str, str]]  # of the destination, as it was before the run
    by_key: dict[str, str]
    ids: dict[str, str]  # by key, as they were given in the end
    ledger: list[Entry]
    changed: Collection[str]


def _recorded(stage: Stage, changed: Collection[str]) -> Recorded:
    log = stage.folder.parent / "strace"
    stage.state.mkdir(mode=0o700, exist_ok=True)
    before, mark = Platter(stage.state), len(stage.fake.ledger)
    records, by_key = copy.deepcopy(stage.fake.records), dict(stage.fake.by_key)
    ended = stage.sync(prefix=recording(needs("strace", "strace"), log))
    if ended.code != 0:
        stage.wrong("campaign", f"the recorded run ended with {ended.code}: {ended.out[-300:]} {ended.err[-300:]}")
    found = list(steps(log))
    log.unlink()
    trial = copy.deepcopy(before)
    moments = [nth for nth, step in enumerate(found) if trial.take(step)]
    return Recorded(before, found, moments, records, by_key, dict(stage.fake.by_key), stage.fake.ledger[mark:], changed)


def _back_to(stage: Stage, recorded: Recorded, nth: int, names: Names, rest: Rest) -> None:
    """Disk and destination as they were after one step of the run, and the power gone."""
    disk = copy.deepcopy(recorded.before)
    for step in recorded.steps[: nth + 1]:
        disk.take(step)
    disk.lay(stage.state, stage.random, names, rest)
    moment = recorded.steps[nth].at - (time.time() - time.monotonic())
    fake = stage.fake
    fake.records, fake.by_key = copy.deepcopy(recorded.records), dict(recorded.by_key)
    for entry in recorded.ledger:
        if entry.applied and entry.at <= moment:
            id = recorded.ids[entry.key]
            fake.by_key[entry.key] = id
            fake.records.setdefault(id, {}).update(entry.values)


def _cut(stage: Stage, recorded: Recorded, nth: int, names: Names, rest: Rest) -> None:
    """The next run goes on from there: nothing is taken for delivered that isn't, and nothing is lost."""
    _back_to(stage, recorded, nth, names, rest)
    arrived = {key: dict(stage.fake.values(key) or {}) for key in stage.fake.by_key}
    violations = len(stage.violations)
    clean = checker.heal(stage, changed=recorded.changed)
    again = [
        entry
        for entry in stage.fake.ledger[clean.since :]
        if all(arrived.get(entry.key, {}).get(name) == value for name, value in entry.values.items())
    ]
    stage.most("repeats_a_cut", len(again))
    stage.cycles += 1
    for each in stage.violations[violations:]:
        where = f"{recorded.steps[nth].name} {nth} of {len(recorded.steps)}"
        each.text = f"power cut after {where}, names {names}, the rest {rest}: {each.text}"


def _moments(stage: Stage, recorded: Recorded, number: int) -> list[int]:
    """Right after something has become sure, right before it, or until the next: spread over all of the run."""
    chosen = []
    for nth in range(number):
        at = int((nth + stage.random.random()) / number * len(recorded.moments))
        after = [*recorded.moments, len(recorded.steps)][at + 1]
        synced = recorded.moments[at]
        chosen.append(stage.random.choice((synced, max(0, synced - 1), stage.random.randrange(synced, after))))
    return chosen


def _play(stage: Stage, changed: Collection[str]) -> None:
    stage.fake.latency = 0.3  # so that the run lasts for as long as answers may be forgotten
    recorded = _recorded(stage, changed)
    stage.fake.latency = 0.01
    for nth in _moments(stage, recorded, 3 if stage.small else 8):
        names, rest = stage.random.choice(KINDS)
        _cut(stage, recorded, nth, names, rest)
    checker.idle(stage)
    checker.records(stage)
    checker.silent(stage)


@family("F07", "a power cut while changes go out: only what was synced is left, or some of the rest", nightly=6)
def while_changing(stage: Stage) -> None:
    stage.ground.add(ROWS)
    stage.ground.put()
    stage.sync()
    changed = set(stage.ground.change(CHANGES)) | set(stage.ground.add(60))
    stage.ground.put()
    _play(stage, changed)


@family("F08", "a power cut in the very first run", smoke=0, nightly=4, release=12)
def in_the_first_run(stage: Stage) -> None:
    stage.ground.add(ROWS)
    stage.ground.put()
    _play(stage, set(stage.ground.rows))
