"""Calls of a killed run that are carried out when it is long dead: over newer values, or over rows that went back."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.faults import checker
from tests.faults.families import family, needs
from tests.faults.kills import killed_when
from tests.faults.scripted import TRUE, Act, Call
from tests.faults.stage import Stage

ROWS = 300
LATE = 8.0  # seconds after which what was under way is carried out


@family("F09", "SIGKILL with calls under way that land later: over newer values, or rows that went back", waits=20)
def lands_after_a_kill(stage: Stage) -> None:
    """What was under way is sent once more when it can't land any more, changed since or not."""
    faketime = needs("faketime", "faketime")
    stage.ground.add(ROWS)
    stage.ground.put()
    stage.sync()
    for ways in ("newer", "back") if not stage.small else (stage.random.choice(("newer", "back")),):
        before = dict(stage.ground.rows)
        keys = stage.ground.change(ROWS)
        stage.ground.put()
        _killed(stage)
        landing = time.monotonic() + LATE + 1.0
        if ways == "newer":
            stage.ground.change(ROWS)
        else:
            stage.ground.rows |= {key: replace(before[key]) for key in keys}
        stage.ground.put()
        checker.balanced(stage, stage.sync())
        time.sleep(max(0.0, landing - time.monotonic()))
        mark = len(stage.fake.ledger)
        for ahead in ("+2m", "+4m"):
            ended = stage.sync(prefix=(faketime, "-f", ahead))
            checker.balanced(stage, ended)
        stage.most("sent_once_more", len(stage.fake.ledger) - mark)
        if ended.code != 0:
            stage.wrong("I10", f"it ended with {ended.code}: {ended.out[-300:]}")
        checker.converged(stage)
    checker.silent(stage)


def _killed(stage: Stage) -> None:
    """Three calls of a run are under way when it dies; the destination takes its time."""
    arrived: set[int] = set()

    def three(call: Call) -> bool:
        arrived.update({call.number} if call.number else ())
        return len(arrived) == 3

    stage.fake.latency = 0.5
    stage.fake.script = lambda call: Act(late=LATE) if call.number else TRUE
    stage.finish(killed_when(stage, three, "arrived"))
    stage.fake.heal()
    stage.fake.latency = 0.01
    stage.cycles += 1
