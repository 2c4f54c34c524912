"""Several at once on one project: the same run eight times, runs beside looks and resets, holders that die."""

from __future__ import annotations

import signal
import threading
import time

from tests.faults import checker
from tests.faults.answers import prepared, settled
from tests.faults.families import family
from tests.faults.scripted import TRUE, Act
from tests.faults.stage import Ended, Stage


@family("F40", "eight commands at once: one runs, the others say who; the very first run included")
def eight_at_once(stage: Stage) -> None:
    stage.fake.latency = 0.15
    stage.ground.add(1200)
    for _ in range(1 if stage.small else 2):
        stage.ground.put()
        mark = len(stage.fake.ledger)
        ended = [stage.finish(running) for running in [stage.start_sync() for _ in range(8)]]
        codes = sorted(each.code for each in ended)
        if set(codes) - {0, 5} or 0 not in codes:
            worst = next(each for each in ended if each.code not in (0, 5))
            stage.wrong("I9", f"eight at once ended with {codes}: {worst.out[-400:]} {worst.err[-300:]}")
        for each in ended:
            checker.balanced(stage, each)
            if each.code == 5 and "process" not in str((each.run.get("error") or {}).get("message")):
                stage.wrong("I9", f"a skipped run does not say who holds the sync: {each.run.get('error')}")
        sent = [(entry.key, str(entry.values)) for entry in stage.fake.ledger[mark:]]
        if len(sent) != len(set(sent)):
            stage.wrong("I9", f"{len(sent) - len(set(sent))} rows were sent twice by runs at one time")
        stage.cycles += 1
        stage.ground.change(700)
    stage.ground.put()
    settled(stage)


@family("F41", "looks, dry runs, a reset and a forget beside a run")
def beside_a_run(stage: Stage) -> None:
    """What looks changes nothing and sees no damage; what would change state waits its turn or says that it is busy."""
    prepared(stage)
    over = threading.Event()
    stage.fake.script = lambda call: Act(after=over) if call.number else TRUE
    key = sorted(stage.ground.rows)[0]
    running = stage.start_sync()
    wanted = stage.fake.writes + 1
    while stage.fake.writes < wanted and running.process.poll() is None:
        time.sleep(0.01)  # from here on it holds the sync
    beside = [
        stage.start(*arguments)
        for arguments in (
            ("status", "--json"),
            ("runs", "--json"),
            ("rejected", "people", "--json"),
            ("explain", "people", key, "--json"),
            ("sync", "people", "--dry-run", "--json"),
            ("reset", "people", "--yes"),
            ("state", "verify"),
        )
    ]
    for each in beside:
        ended = stage.finish(each)
        fine = {"reset": {5}, "state": {0, 5}}.get(ended.arguments[0], {0, 3})
        if ended.code not in fine:
            stage.wrong(
                "I9", f"{ended.arguments} beside a run ended with {ended.code}: {ended.out[-200:]} {ended.err[-300:]}"
            )
        stage.cycles += 1
    over.set()
    checker.balanced(stage, stage.finish(running))
    settled(stage)


@family("F44", "resets beside looks and dry runs: each sees all of the state or none of it")
def reset_beside_looks(stage: Stage) -> None:
    stage.ground.add(300)
    stage.ground.put()
    key = sorted(stage.ground.rows)[0]
    looks = (
        ("status", "--json"),
        ("sync", "people", "--dry-run", "--json"),
        ("explain", "people", key, "--json"),
        ("sync", "people", "--dry-run", "--json"),
        ("rejected", "people", "--json"),
    )
    for _ in range(1 if stage.small else 4):
        if stage.sync().code != 0:
            stage.wrong("I10", f"after a reset it ended with {stage.ended[-1].code}: {stage.ended[-1].out[-300:]}")
        reset = stage.start("reset", "people", "--yes")
        beside = []
        for look in looks:
            time.sleep(stage.random.uniform(0.0, 0.3))
            beside.append(stage.start(*look))
        for each in beside:
            _sees_all_or_none(stage, stage.finish(each))
        if stage.finish(reset).code not in (0, 5):
            stage.wrong("I9", f"a reset beside looks ended with {stage.ended[-1].code}: {stage.ended[-1].err[-300:]}")
        stage.cycles += 1
    settled(stage)


def _sees_all_or_none(stage: Stage, ended: Ended) -> None:
    """Exit code 5 says that the sync was reset meanwhile."""
    stage.count("cut_in_two", ended.code == 5)
    if ended.code not in (0, 3, 5):
        stage.wrong("I9", f"{ended.arguments} beside a reset ended with {ended.code}: {ended.out[-300:]}")
    if "--dry-run" in ended.arguments and ended.code == 0:
        rows, every = ended.run["rows"], len(stage.ground.rows)
        if {rows["added"], rows["unchanged"]} != {0, every}:
            stage.wrong("I10", f"a dry run beside a reset saw half of the state: {rows}")


@family("F42", "holders killed one after the other while others wait")
def holders_killed(stage: Stage) -> None:
    """Noticed at once: a lock ends with its process, and the next run goes on."""
    prepared(stage)
    stage.fake.latency = 0.1
    for _ in range(2 if stage.small else 3):
        holder = stage.start_sync()
        wanted = stage.fake.writes + 2
        while stage.fake.writes < wanted and holder.process.poll() is None:
            time.sleep(0.01)
        holder.signal(signal.SIGKILL)
        stage.finish(holder)
        began = time.monotonic()
        after = stage.sync()
        stage.most("takeover_s", time.monotonic() - began)
        if after.code != 0:
            stage.wrong("I9", f"after its holder was killed the sync ended with {after.code}: {after.out[-300:]}")
        checker.balanced(stage, after)
        stage.ground.change(900)
        stage.ground.put()
        stage.cycles += 1
    settled(stage)


@family("F43", "reset, forget, backup and restore killed half-way")
def commands_killed(stage: Stage) -> None:
    """What is left is whole, or refused with 6; a reset mends what was refused, and nothing is removed for it."""
    stage.ground.add(900)
    stage.ground.put()
    stage.sync()
    archive = str(stage.folder / "backup.tar")
    stage.tool("state", "backup", archive)
    key = sorted(stage.ground.rows)[0]
    commands = [
        ("reset", "people", "--yes"),
        ("forget", "people", key),
        ("state", "backup", str(stage.folder / "other.tar")),
        ("state", "restore", archive),
        ("state", "restore", archive),
    ]
    for arguments in stage.random.sample(commands, 3) if stage.small else commands:
        stage.ground.add(50)
        stage.ground.put()
        running = stage.start(*arguments)
        time.sleep(stage.random.uniform(0.4, 1.4))
        running.kill()
        stage.cycles += stage.finish(running).code == -signal.SIGKILL
        ended = stage.sync()
        checker.balanced(stage, ended)
        if ended.code == 6:
            stage.count("refused", 1)
            stage.tool("reset", "people", "--yes")
            ended = stage.sync()
        if ended.code != 0:
            stage.wrong("I2", f"after a killed {arguments[:2]} it ended with {ended.code}: {ended.out[-300:]}")
        checker.converged(stage)
    checker.no_deletions(stage)
    settled(stage)
