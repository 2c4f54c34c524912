"""Salesforce by calls: killed, cut, answered with nonsense, locked, logged out in the middle, at the end of its day."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from math import ceil
from typing import Any

from tests.faults import checker, kills
from tests.faults.answers import HTML, ROWS, prepared, settled, sometimes, troubled
from tests.faults.families import family
from tests.faults.org import Org
from tests.faults.scripted import TRUE, Act, Call
from tests.faults.stage import Ended, Stage

A_CALL = 200
IN_FLIGHT = 4 * A_CALL


def org_of(stage: Stage) -> Org:
    assert isinstance(stage.fake, Org)
    return stage.fake


def error_of(ended: Ended) -> str:
    """The code of what stopped the one run; empty when nothing did."""
    return str((ended.run.get("error") or {}).get("code") or "")


def by_calls(stage: Stage, **settings: Any) -> Org:
    stage.project(settings={"bulk_from": "never", **settings})
    return org_of(stage)


@family("S01", "Salesforce: SIGKILL as the k-th call arrives, is applied, is answered", destination="salesforce")
def calls_killed(stage: Stage) -> None:
    by_calls(stage)
    kills.chain(stage, kills.at_a_call(5), bound=IN_FLIGHT)


def _one_too_few(results: Any) -> Any:
    return results[1:] if isinstance(results, list) else results


WRONG: tuple[Callable[[Any], Any], ...] = (
    _one_too_few,
    lambda results: [*results, results[0]],
    lambda _results: [],
    lambda results: {"results": results},
    lambda results: [None] * len(results),
    lambda results: ["saved"] * len(results),
    lambda results: [{**each, "success": "yes"} for each in results],
    lambda results: [{**each, "id": None} for each in results],
)


@family("S02", "Salesforce: 500 to 504, cut, and answers of 200 that can't be trusted", destination="salesforce")
def calls_troubled(stage: Stage) -> None:
    """What was not carried out is answered with words that prove nothing: whoever believes them loses rows."""
    by_calls(stage)
    prepared(stage)
    broken = [Act(apply=done, status=status, body=HTML) for status in (500, 502, 503, 504) for done in (True, False)]
    cut = [Act(apply=done, cut=share) for done in (True, False) for share in (0.0, 0.6)]
    troubled(stage, sometimes(stage, 0.3, *broken, *cut, Act(hang_up=True)))
    checker.heal(stage, changed=set(stage.ground.rows))
    stage.ground.change(ROWS)
    stage.ground.put()
    lies = [Act(apply=False, edit=edit) for edit in WRONG]
    texts = [Act(apply=False, status=200, body=body) for body in (b"", HTML, b'[{"id": "a0', b"\xff\xfe\x00")]
    troubled(stage, sometimes(stage, 0.3, *lies, *texts))
    settled(stage)


@family("S03", "Salesforce: rows locked for a while, some refused", destination="salesforce", waits=15)
def locked(stage: Stage) -> None:
    """What met a lock is offered again within the run; what is refused is listed, and nothing else is late."""
    fake = by_calls(stage)
    prepared(stage)
    offered: Counter[str] = Counter()
    chosen = set(stage.random.sample(sorted(stage.ground.rows), 150))

    def locks(key: str) -> bool:
        offered[key] += 1
        return key in chosen and offered[key] <= 2

    fake.locks = locks
    guilty = set(stage.random.sample(sorted(set(stage.ground.rows) - chosen), 5))
    fake.refuses = lambda values: "not valid" if values["email"] in guilty else None
    ended = troubled(stage, lambda _call: TRUE, codes=(3, 0))
    stage.most("locked", len(chosen & offered.keys()))
    checker.converged(stage, excused=guilty)
    listed(stage, guilty & offered.keys(), ended)
    fake.heal()
    stage.ground.change(ROWS)
    stage.ground.put()
    settled(stage)


def listed(stage: Stage, guilty: set[str], ended: Ended) -> None:
    """Refused rows stand on the list, each and no other."""
    rows = (stage.tool("rejected", "people", "--json").document() or {}).get("rows", [])
    found = {str(row["key"]) for row in rows}
    if found != guilty or ended.run.get("rejected") != len(guilty):
        said = ended.run.get("rejected")
        stage.wrong("I10", f"refused were {sorted(guilty)}, listed are {sorted(found)}, told {said}")


@family("S04", "Salesforce: the day's calls used up in the middle of a run; a reserve", destination="salesforce")
def day_over(stage: Stage) -> None:
    """The run ends, its rows wait, and nothing is sent beyond; the reserve is left to others."""
    fake = by_calls(stage)
    prepared(stage)
    fake.usage = [1000, 1000 + stage.random.randint(2, 5)]
    ended = troubled(stage, lambda _call: TRUE, codes=(3,))
    _stopped_for_the_day(stage, ended)
    beyond = fake.usage[0] - fake.usage[1]
    stage.most("calls_beyond", beyond)
    if beyond > 4:
        stage.wrong("I7", f"{beyond} calls after the day's were used up")
    stage.ground.change(ROWS)
    stage.ground.put()
    by_calls(stage, rate_limit={"reserve": "20%"})
    fake.usage = [797, 1000]
    ended = troubled(stage, lambda _call: TRUE, codes=(3,))
    _stopped_for_the_day(stage, ended)
    if fake.usage[0] > 800 + 5:
        stage.wrong("I7", f"{fake.usage[0] - 800} calls out of the reserve")
    by_calls(stage)
    fake.usage = [0, 100_000]
    settled(stage)


def _stopped_for_the_day(stage: Stage, ended: Ended) -> None:
    if error_of(ended) != "daily_limit":
        stage.wrong("I10", f"the day's limit is told as {ended.run.get('error')}")
    if not ended.run.get("pending"):
        stage.wrong("I6", f"with the day's calls used up no row is pending: {ended.out[-300:]}")


@family("S05", "Salesforce: sessions that end while four calls are under way", destination="salesforce")
def sessions_end(stage: Stage) -> None:
    """One new login for all of them, and each call once more; a login that is refused ends the run."""
    fake = by_calls(stage)
    prepared(stage)
    fake.latency = 0.2
    before, number = fake.door.exchanges, fake.writes + stage.random.randint(1, 4)

    def ends(call: Call) -> Act:
        if call.number == number:
            fake.door.end_all()
        return TRUE

    ended = troubled(stage, ends, codes=(0,))
    stage.most("logins", fake.door.exchanges - before)
    if fake.door.exchanges - before > 2:
        stage.wrong("I7", f"{fake.door.exchanges - before} logins for one session that ended")
    stage.ground.change(ROWS)
    stage.ground.put()
    kept = set(fake.door.refresh)
    mark = fake.writes + 3

    def shut(call: Call) -> Act:
        if call.number == mark:
            fake.door.end_all()
            fake.door.take_back()
        return TRUE

    ended = troubled(stage, shut, codes=(1,))
    if error_of(ended) in ("", "bug"):
        stage.wrong("I10", f"a refused login is told as {ended.run.get('error')}")
    fake.door.refresh |= kept
    settled(stage)


def words_of(status: int, code: str, message: str) -> Act:
    """A request refused as a whole."""
    body = json.dumps([{"errorCode": code, "message": message}]).encode()
    return Act(apply=False, status=status, body=body)


def _owner(stage: Stage, each: dict[str, Any]) -> str:
    """The key of a row that may be addressed by its record's id."""
    return str(each.get("email__c") or stage.fake.records.get(each.get("id", ""), {}).get("email"))


@family("S06", "Salesforce: too many calls at once, maintenance, whole calls refused", destination="salesforce")
def calls_refused(stage: Stage) -> None:
    """What passes is waited for. A call refused as a whole is halved until the guilty row stands alone."""
    by_calls(stage)
    prepared(stage)
    passing = (
        words_of(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
        words_of(503, "SERVER_UNAVAILABLE", "down for maintenance"),
        words_of(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred"),
    )
    troubled(stage, sometimes(stage, 0.15, *passing), codes=(0, 1, 3))
    checker.heal(stage, changed=set(stage.ground.rows))
    guilty = stage.random.choice(stage.ground.change(ROWS))
    stage.ground.put()
    whole = words_of(400, "JSON_PARSER_ERROR", "Cannot deserialize instance of double")
    mark = stage.fake.writes
    ended = troubled(
        stage,
        lambda call: whole if any(_owner(stage, each) == guilty for each in call.inputs) else TRUE,
        codes=(3,),
    )
    checker.converged(stage, excused={guilty})
    listed(stage, {guilty}, ended)
    calls, most = stage.fake.writes - mark, ceil(len(stage.ground.rows) / A_CALL) + 2 * 9 + 1
    if calls > most:
        stage.wrong("I7", f"{calls} calls to find one guilty row; at most {most} were due")
    stage.fake.heal()
    stage.ground.change(ROWS)
    stage.ground.put()
    settled(stage)
