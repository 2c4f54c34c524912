"""The daemon: killed and started again, asked to end, its files and secrets changed under it, its clock set."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults import checker
from tests.faults.families import NotHere, family
from tests.faults.kills import sent_again
from tests.faults.scripted import Act
from tests.faults.serving import served
from tests.faults.stage import Ended, Running, Stage, until

ROWS = 600
PATIENCE = 45.0  # until a run that is due has come to its end, on a busy machine
DAEMON = {"listen": "127.0.0.1:0"}
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
HANDLE = "pat-live"  # what the tokens of a file that changes begin with


def _until(reached: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    return until(reached, seconds)


def _arrived(stage: Stage) -> bool:
    rows = list(stage.ground.rows.items())
    return all((stage.fake.values(key) or {}).get("seats", "") == row.wanted["seats"] for key, row in rows)


def _begun(running: Running, sync: str = "people") -> int:
    """How many runs the daemon has told of."""
    return len(re.findall(rf"\b{sync}: run begins", running.out.with_suffix(".err").read_text("utf-8", "replace")))


def _over(running: Running, sync: str = "people") -> int:
    """How many of them it has told the end of."""
    said = running.out.with_suffix(".err").read_text("utf-8", "replace")
    return len(re.findall(rf"\b{sync}: \w+ (?:in|after) -?[0-9.]+ s: ", said))


def _calm(running: Running) -> None:
    """No run is under way: what is due during one is left out."""
    _until(lambda: _over(running) >= _begun(running))


def _started(stage: Stage, **variables: str) -> Running:
    """A daemon that takes on runs."""
    running = stage.start("daemon", variables=variables)
    log = running.out.with_suffix(".err")
    if not _until(lambda: "the daemon has started" in log.read_text("utf-8", "replace")):
        stage.wrong("campaign", f"the daemon did not start: {log.read_text('utf-8', 'replace')[-300:]}")
    return running


def _awaited(stage: Stage, what: str) -> None:
    """The rows as they are now arrive by a run that is due."""
    if not _until(lambda: _arrived(stage)):
        stage.wrong("I1", f"{what}: {PATIENCE:.0f} s later not all rows had arrived")


def _ended(stage: Stage, running: Running, *codes: int) -> Ended:
    ended = stage.finish(running, 60.0)
    if ended.code not in codes:
        stage.wrong("I10", f"the daemon ended with {ended.code}: {ended.err[-400:]}")
    if "a run broke" in ended.err or '"code": "bug"' in ended.err:
        stage.wrong("I10", f"the daemon tells of a bug: {ended.err[-400:]}")
    return ended


def _changed(stage: Stage, number: int = ROWS * 3 // 4) -> None:
    stage.ground.change(number)
    stage.ground.put()


def _prepared(stage: Stage, **sync: Any) -> None:
    stage.project(daemon=DAEMON)
    stage.define(**sync)
    stage.ground.add(ROWS)
    stage.ground.put()


def _closed(stage: Stage) -> None:
    checker.heal(stage, changed=set(stage.ground.rows))
    checker.no_deletions(stage)
    checker.records(stage)
    checker.polite(stage)
    checker.silent(stage)


@family(
    "F76",
    "the daemon killed between and during runs, asked to end once and twice; started again each time",
    nightly=3,
    warehouse="sqlite",
    waits=40,
)
def killed(stage: Stage) -> None:
    """What was cut is gone on with at once, what was missed is made up for by one run."""
    _prepared(stage, schedule="every 4 seconds")
    daemon = _started(stage)
    _awaited(stage, "the first run")
    moments = ("during", "between", "asked", "asked twice")
    for moment in stage.random.sample(moments, 2) if stage.small else (*moments, *moments[:2]):
        stage.fake.latency = 0.05 if moment == "between" else 0.6
        mark, calls = len(stage.fake.ledger), stage.fake.writes
        _changed(stage)
        _until(lambda calls=calls: stage.fake.writes > calls)  # type: ignore[misc]
        if moment == "between":
            _awaited(stage, "before the kill")
            time.sleep(1.0)
        number = signal.SIGTERM if "asked" in moment else signal.SIGKILL
        daemon.signal(number)
        if moment == "asked twice":
            time.sleep(0.05)
            daemon.signal(number)
        asked = time.monotonic()
        _ended(stage, daemon, *((-signal.SIGKILL,) if number == signal.SIGKILL else (0, 143, -signal.SIGTERM)))
        stage.most("end_s", round(time.monotonic() - asked, 1))
        if moment == "between":
            _changed(stage, 50)
            time.sleep(9.0)  # two times are missed
        daemon = _started(stage)
        began = time.monotonic()
        _awaited(stage, f"started again after a kill {moment}")
        stage.most("restart_s", round(time.monotonic() - began, 1))
        sent_again(stage, mark, int(moment != "between"), 0 if moment == "asked" else checker.IN_FLIGHT)
        stage.cycles += 1
    daemon.signal(signal.SIGTERM)
    _ended(stage, daemon, 0, 143)
    _closed(stage)


# --- alerts -----------------------------------------------------------------------------------------------------------


@dataclass
class Pager:
    """Where alerts go: what was said, in order. What comes again under the id of a message is the same news."""

    events: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(next(line for line in head.splitlines() if line.startswith("content-length:")).split(":")[1])
            body = json.loads(await reader.readexactly(length))
            id = next(line for line in head.splitlines() if line.startswith("webhook-id:"))
            self.events += [str(alert["event"]) for alert in body["alerts"]] if id not in self.ids else []
            self.ids.append(id)
            writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
        finally:
            writer.close()


@family(
    "F77", "the daemon killed around alerts: none is lost, none is told twice", nightly=3, warehouse="sqlite", waits=40
)
def alerted(stage: Stage) -> None:
    pager = Pager()
    refused = Act(apply=False, status=403, body=b'{"status":"error","category":"MISSING_SCOPES","message":"no"}')
    with served(pager.serve) as port:
        alerts = {
            "pager": {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "secret": "a-key-of-the-pager-0123456789"}
        }
        _prepared(stage, schedule="every 3 seconds", alerts={"to": ["pager"]})
        stage.project(daemon={**DAEMON, "alerts": alerts})
        daemon = _started(stage)
        _awaited(stage, "the first run")
        expected: list[str] = []
        for _ in range(1 if stage.small else 2):
            stage.fake.script = lambda _call: refused
            _changed(stage)
            daemon = _told_once(stage, daemon, pager, [*expected, "failed"])
            stage.fake.heal()
            daemon = _told_once(stage, daemon, pager, [*expected, "failed", "recovered"])
            expected += ["failed", "recovered"]
            stage.cycles += 1
        daemon.signal(signal.SIGTERM)
        _ended(stage, daemon, 0, 143)
    _closed(stage)


def _told_once(stage: Stage, daemon: Running, pager: Pager, expected: list[str]) -> Running:
    """The alert comes; the daemon is killed and started again; after two more runs there is no other."""
    if not _until(lambda: len(pager.events) >= len(expected)):
        stage.wrong("I10", f"told was {pager.events}, expected {expected}")
    daemon.kill()
    _ended(stage, daemon, -signal.SIGKILL)
    again = _started(stage)
    _until(lambda: _begun(again) >= 3)
    if pager.events != expected:
        stage.wrong("I10", f"after a restart told was {pager.events}, expected {expected}")
    stage.most("alerts", len(pager.events))
    stage.most("same_id_again", len(pager.ids) - len({*pager.ids}))
    return again


# --- files ------------------------------------------------------------------------------------------------------------


@family(
    "F78",
    "under a running daemon: a definition broken, mended, added, removed; the project broken; a secret changed",
    nightly=3,
    warehouse="sqlite",
    waits=40,
)
def files_changed(stage: Stage) -> None:
    """The last good version stays in force, a new one comes into it, and the old secret goes out of it."""
    _secret(stage, "one")
    _prepared(stage, schedule="every 3 seconds")
    stage.project(settings={"access_token": "${LIVE_TOKEN}"}, daemon=DAEMON)
    daemon = _started(stage)
    _awaited(stage, "the first run")
    people = stage.folder / "syncs" / "people.yml"
    whole, project = people.read_text(), stage.folder / "reverse_etl.yml"
    everything = project.read_text()

    people.write_text(whole.replace("mapping:", "maping:"))
    time.sleep(3.0)
    _changed(stage)
    _awaited(stage, "with a broken definition")
    people.write_text(whole)
    project.write_text(everything + "\n  - what: [is this\n")
    time.sleep(3.0)
    _changed(stage)
    _awaited(stage, "with a broken project file")
    project.write_text(everything)
    stage.cycles += 2

    _secret(stage, "two")
    time.sleep(4.0)
    mark = len(stage.fake.calls)
    _changed(stage)
    _awaited(stage, "with another secret")
    used = {call.bearer for call in stage.fake.calls[mark:]}
    if used != {f"{HANDLE}-two"}:
        stage.wrong("I8", f"after the secret had changed calls were made with {used}")
    stage.cycles += 1
    if not stage.small:
        _added_and_removed(stage, daemon)
    daemon.signal(signal.SIGTERM)
    _ended(stage, daemon, 0, 143)
    if not people.exists():
        people.write_text(whole)
    _closed(stage)


def _secret(stage: Stage, name: str) -> None:
    (stage.folder / ".env").write_text(f"LIVE_TOKEN={HANDLE}-{name}\n")
    (stage.folder / ".env").chmod(0o600)


def _added_and_removed(stage: Stage, daemon: Running) -> None:
    stage.define("others", schedule="every 3 seconds")
    (stage.folder / "syncs" / "people.yml").unlink()
    if not _until(lambda: _begun(daemon, "others") > 0):
        stage.wrong("I1", "a sync whose file was added did not run")
    time.sleep(3.0)
    before = _begun(daemon)
    _changed(stage)
    _awaited(stage, "by the sync that was added")
    if _begun(daemon) > before:
        stage.wrong("I5", "a sync whose file was removed ran again")
    stage.cycles += 2


# --- clocks -----------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """The daemon's clock, set from outside while it runs."""

    file: Path

    def set(self, moment: datetime) -> None:
        """Now it is this moment; the clock goes on from there."""
        fresh = self.file.with_suffix(".new")
        ahead = moment.timestamp() - time.time()
        fresh.write_text(f"{ahead:+.0f}\n")
        fresh.replace(self.file)

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


SUMMER = (
    # what is set, and how many runs follow, by a daily time of 02:30 in Berlin
    ("a night that skips 02:30", datetime(2026, 3, 29, 1, 29, 55, tzinfo=UTC), 1),
    ("set back by two hours", datetime(2026, 3, 28, 23, 29, 55, tzinfo=UTC), 0),
    ("the same time once more", datetime(2026, 3, 29, 1, 29, 55, tzinfo=UTC), 0),
    ("the next day's time", datetime(2026, 3, 30, 0, 29, 55, tzinfo=UTC), 1),
    ("ten days later, between times", datetime(2026, 4, 9, 12, 0, 0, tzinfo=UTC), 1),
)
WINTER = (
    ("a night that doubles 02:30, at the first", datetime(2026, 10, 25, 0, 29, 55, tzinfo=UTC), 1),
    ("at the second", datetime(2026, 10, 25, 1, 29, 55, tzinfo=UTC), 0),
    ("the next day's time", datetime(2026, 10, 26, 1, 29, 55, tzinfo=UTC), 1),
)


@family(
    "F79",
    "the daemon's clock set ahead, back, and through the nights when clocks change; the fold of missed times",
    nightly=2,
    warehouse="sqlite",
    waits=60,
)
def clock_set(stage: Stage) -> None:
    """A daily time is due once each local day; missed ones are made up for by one run; none is repeated."""
    if not FAKETIME.exists():
        raise NotHere("faketime is not installed (Debian: apt-get install faketime)")
    _prepared(stage, schedule="30 2 * * *", timezone="Europe/Berlin")
    for moments in (stage.random.choice((SUMMER, WINTER)),) if stage.small else (SUMMER, WINTER):
        with _clocked(stage, moments[0][1].replace(hour=0, minute=10)) as (clock, daemon):
            for what, moment, runs in moments:
                before = _begun(daemon)
                clock.set(moment)
                asked = time.monotonic()
                while _begun(daemon) - before < runs and time.monotonic() - asked < PATIENCE:
                    time.sleep(0.5)
                time.sleep(12.0 - min(8.0, time.monotonic() - asked))  # for one more than were due
                found = _begun(daemon) - before
                _calm(daemon)
                if found != runs:
                    stage.wrong("I10", f"{what}: {found} runs began, {runs} were due")
                stage.count("missed", max(0, runs - found))
                stage.count("doubled", max(0, found - runs))
                stage.cycles += 1
    _closed(stage)


@contextmanager
def _clocked(stage: Stage, start: datetime) -> Iterator[tuple[Clock, Running]]:
    """A daemon that has just run what it had to, by a clock of its own."""
    clock = Clock(stage.folder.parent / "clock")
    clock.set(start)
    daemon = _started(stage, **clock.variables)
    time.sleep(3.0)
    _calm(daemon)
    yield clock, daemon
    daemon.signal(signal.SIGTERM)
    _ended(stage, daemon, 0, 143)
