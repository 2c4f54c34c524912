"""Answers that are refused, cut, late, slow, wrong, huge or silent about some rows; refusals told in every form."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from math import ceil, log2
from typing import Any

from tests.faults import checker
from tests.faults.fake import running
from tests.faults.families import family, needs
from tests.faults.ground import Row
from tests.faults.scripted import TRUE, Act, Call, too_many
from tests.faults.stage import Ended, Stage

ROWS = 1200
Script = Callable[[Call], Act]
HTML = b"<html><body>Bad gateway</body></html>"


def prepared(stage: Stage, rows: int = ROWS) -> None:
    """A first load that goes well, and changes for the run that won't."""
    stage.ground.add(rows)
    stage.ground.put()
    stage.sync()
    stage.ground.change(rows * 3 // 4)
    stage.ground.add(rows // 10)
    stage.ground.put()


def troubled(stage: Stage, script: Script, *, codes: Sequence[int] = (0, 1, 3), runs: int = 1) -> Ended:
    """Runs under a script; whatever comes of them must be true, and two clean runs put it right."""
    stage.fake.script = script
    ended = None
    for _ in range(runs):
        mark = stage.fake.writes
        ended = stage.sync()
        if ended.code not in codes:
            stage.wrong("I10", f"ended with {ended.code}: {ended.out[-300:]} {ended.err[-300:]}")
        checker.balanced(stage, ended)
        checker.honest(stage, ended)
        stage.most("longest_s", ended.seconds)
        if ended.code == 0:
            rows = ended.run["rows"]["added"], ended.run["rows"]["changed"]
            stage.most("amplification", round((stage.fake.writes - mark) / max(1, sum(ceil(n / 100) for n in rows)), 2))
        stage.cycles += 1
    assert ended is not None
    return ended


def settled(stage: Stage, **wishes: Any) -> None:
    """Clean runs put everything right. In the smoke tier only chains of kills look at idle runs and at the records."""
    checker.heal(stage, changed=set(stage.ground.rows), **wishes)
    if not stage.small:
        checker.idle(stage)
        checker.records(stage)
    checker.no_deletions(stage)
    checker.polite(stage)
    checker.silent(stage)


def sometimes(stage: Stage, share: float, *acts: Act) -> Script:
    """One of these acts for this share of the writing calls, and surely for two of them."""
    sure = {stage.fake.writes + 3, stage.fake.writes + 8}

    def script(call: Call) -> Act:
        if not call.number or (call.number not in sure and stage.random.random() > share):
            return TRUE
        stage.count("troubled_calls")
        return stage.random.choice(acts)

    return script


@family("F10", "500, 502, 503, 504, 524, before and after the commit")
def server_errors(stage: Stage) -> None:
    prepared(stage)
    broken = [
        Act(apply=done, status=status, body=HTML) for status in (500, 502, 503, 504, 524) for done in (True, False)
    ]
    troubled(stage, sometimes(stage, 0.25, *broken))
    settled(stage)


@family("F24", "two calls of five fail in a large run: what is repeated stays in proportion")
def repeated_in_proportion(stage: Stage) -> None:
    """Ten calls and a fifth of those that are made; then the run ends, and says why."""
    stage.ground.add(3000 if stage.small else 8000)
    stage.ground.put()
    broken = Act(apply=False, status=503, body=HTML)
    asked: dict[str, int] = {}

    def script(call: Call) -> Act:
        if not call.number:
            return TRUE
        batch = str(sorted(each["id"] for each in call.inputs))
        asked[batch] = asked.get(batch, 0) + 1
        return broken if call.number % 5 < 2 else TRUE  # never so many in a row that the destination is left alone

    calls = len(stage.fake.calls)
    troubled(stage, script)
    again = sum(asked.values()) - len(asked)
    made = len(stage.fake.calls) - calls - again  # what is read counts, too
    most = 10 + 0.2 * made
    stage.most("repeated_of_allowed", round(again / most, 2))
    if again > most:
        stage.wrong("I7", f"{again} calls were repeated, of {made}; allowed were {most:.0f}")
    settled(stage)


@family("F11", "429: seconds, HTTP date, ISO time, no time told, the day's limit")
def too_many_calls(stage: Stage) -> None:
    prepared(stage)

    def script(call: Call) -> Act:
        if not call.number or stage.random.random() > 0.3:
            return TRUE
        soon = datetime.now(UTC) + timedelta(seconds=2)
        return too_many(stage.random.choice(("1", "2", format_datetime(soon, usegmt=True), soon.isoformat(), None)))

    troubled(stage, script)
    checker.polite(stage)
    stage.ground.change(ROWS)
    stage.ground.put()
    daily = _on_nth(stage.fake.writes + 4, too_many(None, policy="DAILY"))
    ended = troubled(stage, daily, codes=(3,))
    if (ended.run.get("error") or {}).get("code") != "daily_limit":
        stage.wrong("I10", f"the day's limit is told as {ended.run.get('error')}")
    settled(stage)


def _on_nth(number: int, act: Act) -> Script:
    return lambda call: act if call.number >= number else TRUE


@family("F12", "the connection cut: before the commit, after it, inside the answer, after an unannounced close")
def connections_cut(stage: Stage) -> None:
    prepared(stage)
    acts = [Act(apply=done, cut=share) for done in (True, False) for share in (0.0, 0.3, 0.95)]
    troubled(stage, sometimes(stage, 0.3, *acts, Act(hang_up=True), Act(hang_up=True)))
    settled(stage)


def _without_some(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"results": document.get("results", [])[::2]}


def _strangers(document: dict[str, Any]) -> dict[str, Any]:
    stranger = {"id": "99999999", "properties": {"email": "stranger@example.net"}, "new": True}
    return document | {"results": [stranger, *document.get("results", [])[1:]]}


WRONG: list[Callable[[dict[str, Any]], Any]] = [
    _without_some,
    _strangers,
    lambda document: document | {"results": []},
    lambda document: document | {"results": None},
    lambda document: document | {"results": "all well"},
    lambda document: [document],
    lambda _document: "COMPLETE",
    lambda _document: {},
    lambda document: document | {"results": [each | {"id": None} for each in document.get("results", [])]},
    lambda document: document | {"results": [{"id": each["id"]} for each in document.get("results", [])]},
]


@family("F13", "answers of 200 that say nothing of some rows, or nothing at all; wrong types; halves of JSON")
def wrong_answers(stage: Stage) -> None:
    """None of the rows was carried out where the answer proves nothing: whoever believes it loses them."""
    prepared(stage)
    lies = [
        Act(apply=False, edit=edit) for edit in WRONG if edit not in (_strangers, _without_some, WRONG[-1], WRONG[-2])
    ]
    texts = [
        Act(apply=False, status=200, body=body) for body in (b"", HTML, b'{"results": [{"id": "1', b"\xff\xfe\x00")
    ]
    troubled(stage, sometimes(stage, 0.35, *lies, *texts), codes=(0, 1, 3))
    settled(stage)
    stage.ground.change(ROWS // 2)
    stage.ground.put()
    troubled(stage, sometimes(stage, 0.3, *[Act(edit=edit) for edit in WRONG]))
    settled(stage)


@family("F14", "rows left out of the answer, and not carried out")
def left_out(stage: Stage) -> None:
    """An answer that names half of the rows, of which only those were written."""
    prepared(stage)
    left: set[str] = set()

    def script(call: Call) -> Act:
        if not call.number or stage.random.random() > 0.4:
            return TRUE
        kept = call.inputs[::2]
        left.update(each["id"] for each in call.inputs[1::2])
        call.inputs[:] = kept
        return TRUE

    troubled(stage, script)
    stage.count("rows_left_out", len(left))
    settled(stage)


@family("F15", "rows refused one by one, and batches refused whole without a name")
def refusals(stage: Stage) -> None:
    """The innocent arrive in the same run, the guilty are listed, and offered again once changed."""
    prepared(stage)
    guilty = set(stage.random.sample(sorted(stage.ground.rows), stage.random.choice((1, 3, 12))))
    guilty -= {key for key in guilty if _as_wanted(stage, key)}
    whole = stage.random.random() < 0.6
    body = json.dumps({"status": "error", "message": "something is wrong", "category": "VALIDATION_ERROR"}).encode()

    def script(call: Call) -> Act:
        if whole and call.number and any(_owner(stage, each) in guilty for each in call.inputs):
            return Act(apply=False, status=400, body=body)
        return TRUE

    if not whole:
        stage.fake.refuses = lambda values: "that is not valid" if values["email"] in guilty else None
    mark = stage.fake.writes
    ended = troubled(stage, script, codes=(3,) if guilty else (0,))
    checker.converged(stage, excused=guilty)
    batches = ceil(ROWS * 3 / 4 / 100) + ceil(ROWS / 10 / 100) + 1
    most = batches + (2 * len(guilty) * (log2(100) + 2) + 1 if whole else 0)
    if stage.fake.writes - mark > most:
        stage.wrong(
            "I7", f"{stage.fake.writes - mark} calls to find {len(guilty)} guilty rows; at most {most:.0f} were due"
        )
    _listed(stage, guilty, ended)
    stage.fake.heal()
    for key in guilty:
        stage.ground.rows[key] = Row(key, "Better", 1, stage.ground.now)
    stage.ground.put()
    settled(stage)


def _owner(stage: Stage, each: dict[str, Any]) -> str:
    record = stage.fake.records.get(each["id"], {})
    return str(record.get("email") or each.get("properties", {}).get("email") or each["id"])


def _as_wanted(stage: Stage, key: str) -> bool:
    record = stage.fake.values(key) or {}
    return all(record.get(name, "") == value for name, value in stage.ground.rows[key].wanted.items())


def _listed(stage: Stage, guilty: set[str], ended: Ended) -> None:
    rows = (stage.tool("rejected", "people", "--json").document() or {}).get("rows", [])
    found = {row["key"] for row in rows}
    if found != guilty or ended.run.get("rejected") != len(guilty):
        stage.wrong(
            "I10", f"refused were {sorted(guilty)}, listed are {sorted(found)}, told {ended.run.get('rejected')}"
        )


@family("F16", "the token refused in the middle of a run, a scope missing")
def locked_out(stage: Stage) -> None:
    prepared(stage)
    category = stage.random.choice(
        (("INVALID_AUTHENTICATION", 401), ("EXPIRED_AUTHENTICATION", 401), ("MISSING_SCOPES", 403))
    )
    body = json.dumps({"status": "error", "message": "not you", "category": category[0]}).encode()
    number = stage.fake.writes + stage.random.randint(1, 6)
    ended = troubled(stage, _on_nth(number, Act(apply=False, status=category[1], body=body)), codes=(1,))
    after = stage.fake.writes - number + 1
    stage.most("calls_after_refusal", after)
    if after > 8:
        stage.wrong("I7", f"{after} calls after the token was refused")
    if (ended.run.get("error") or {}).get("code") in (None, "bug"):
        stage.wrong("I10", f"a refused token is told as {ended.run.get('error')}")
    settled(stage)


@family("F17", "redirects, and answers of 40 MB: credentials go nowhere else")
def led_astray(stage: Stage) -> None:
    prepared(stage)
    with running(1) as other:
        acts = [
            Act(
                apply=False,
                status=status,
                headers={"location": f"{other.url}/crm/objects/2026-09/contacts/batch/upsert"},
            )
            for status in (301, 302, 303, 307, 308)
        ]
        troubled(stage, sometimes(stage, 0.4, *acts))
        if other.calls:
            stage.wrong("I8", f"{len(other.calls)} calls followed a redirect, with {other.bearers}")
    stage.ground.change(ROWS // 2)
    stage.ground.put()
    huge = Act(status=200, body=b'{"results": [' + b" " * 40_000_000 + b"]}")
    troubled(stage, sometimes(stage, 0.15, huge))
    settled(stage)


@family("F18", "a small allowance that is shared and enforced")
def small_allowance(stage: Stage) -> None:
    stage.fake.allowance = (8, 2.0)
    prepared(stage)
    ended = troubled(stage, lambda _call: TRUE, codes=(0,))
    stage.most("throttled", ended.run.get("throttled", 0))
    stage.most(
        "calls_a_second", round(len(stage.fake.calls) / max(0.1, stage.fake.calls[-1].at - stage.fake.calls[0].at), 2)
    )
    settled(stage)


@family("F19", "an outage of some seconds in the middle of a run; answers that drip", waits=15)
def outage(stage: Stage) -> None:
    prepared(stage)
    until = time.monotonic() + 4.0
    troubled(stage, lambda call: Act(apply=False, cut=0.0) if call.number and time.monotonic() < until else TRUE)
    stage.ground.change(150)
    stage.ground.put()
    troubled(stage, sometimes(stage, 0.5, Act(drip=0.0002), Act(wait=1.5)))
    settled(stage)


@family("F20", "an attempt that lands late, over a newer value", waits=30)
def lands_late(stage: Stage) -> None:
    """Answered with 504, carried out seconds later: later runs see to it that the newest value stands."""
    faketime = needs("faketime", "faketime")
    stage.ground.add(150)
    stage.ground.put()
    stage.sync()
    stage.ground.change(150)
    stage.ground.put()
    stage.fake.script = lambda call: Act(status=504, body=HTML, late=25.0) if call.number else TRUE
    first = stage.sync()
    checker.balanced(stage, first)
    landing = time.monotonic() + 26.0
    stage.fake.heal()
    stage.ground.change(150)
    stage.ground.put()
    checker.balanced(stage, stage.sync())
    time.sleep(max(0.0, landing - time.monotonic()))
    for ahead in ("+2m", "+4m"):
        checker.balanced(stage, stage.sync(prefix=(faketime, "-f", ahead)))
    stage.cycles += 1
    checker.converged(stage)
    checker.silent(stage)
