"""Salesforce by bulk jobs: killed at every stage, calls lost, jobs that fail, are aborted, stuck, or say too little."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

from tests.faults import checker, kills
from tests.faults.answers import settled, troubled
from tests.faults.families import family
from tests.faults.ingest import ABORTED, FAILED, OPEN, Course, Job
from tests.faults.org import NUMBER, Org
from tests.faults.salesforce import error_of, listed, org_of, words_of
from tests.faults.scripted import TRUE, Act, Call, Script
from tests.faults.stage import Ended, Stage

ROWS, CHANGES = 600, 400
STAGES = ("create", "upload", "close", "poll", "saved", "refused", "unprocessed")
PENDING_CODES = (1, 3)


def by_jobs(stage: Stage, **settings: Any) -> Org:
    stage.project(settings={"bulk_from": 100, **settings})
    return org_of(stage)


def loaded(stage: Stage, **settings: Any) -> Org:
    """A first load by a job that goes well, and changes for the run that won't."""
    fake = by_jobs(stage, **settings)
    stage.ground.add(ROWS)
    stage.ground.put()
    checker.balanced(stage, stage.sync())
    moved(stage)
    return fake


def moved(stage: Stage) -> set[str]:
    """Other rows than those of a moment ago, in the warehouse."""
    changed = {*stage.ground.change(CHANGES), *stage.ground.add(10)}
    stage.ground.put()
    return changed


def never_twice(stage: Stage, mark: int, *, excused: int = 0) -> None:
    """No row went into a second job, or a call, in the words in which it had been carried out already."""
    done: Counter[tuple[str, str]] = Counter()
    for entry in stage.fake.ledger[mark:]:
        done[entry.key, repr(sorted(entry.values.items()))] += entry.applied
    again = sum(count - 1 for count in done.values() if count > 1)
    stage.most("repeats", again)
    if again > excused:
        stage.wrong("I3", f"{again} rows were carried out again by a second job; at most {excused} may be")


def nothing_left(stage: Stage) -> None:
    """No job with data is left open: it would be carried out by nobody, and by somebody one day."""
    jobs = org_of(stage).ingest.jobs.values()
    left = [job.id for job in jobs if job.state == OPEN and job.raw is not None]
    stage.most("empty_jobs_left", sum(job.state == OPEN for job in jobs) - len(left))
    if left:
        stage.wrong("I5", f"{len(left)} jobs with data were left open: {left[:3]}")


def jobs_since(fake: Org, number: int) -> list[Job]:
    return [job for job in fake.ingest.jobs.values() if job.number > number]


@family("S10", "bulk: SIGKILL at each stage of a job, rows changed meanwhile or not", destination="salesforce")
def jobs_killed(stage: Stage) -> None:
    fake = loaded(stage)
    fake.ingest.course = lambda _job: Course(seconds=0.5)
    mark = len(fake.ledger)
    stages = list(stage.random.sample(STAGES, 5) if stage.small else STAGES * 2)
    changed = set(stage.ground.rows)
    while stages:
        for _ in range(stage.random.choice((1, 1, 2, 3))):
            if not stages:
                break
            _killed_at(stage, stages.pop(), stage.random)
            if stage.random.random() < 0.4:
                changed |= moved(stage)
        checker.heal(stage, changed=changed, since=mark)
        never_twice(stage, mark)
        nothing_left(stage)
        fake.ingest.course = lambda _job: Course(seconds=0.5)
        mark, changed = len(fake.ledger), moved(stage)
    settled(stage)


def _killed_at(stage: Stage, verb: str, chance: random.Random) -> None:
    running = kills.killed_when(stage, lambda call: call.verb == verb, chance.choice(kills.MOMENTS))
    ended = stage.finish(running)
    stage.cycles += ended.code < 0
    stage.count("too_late", ended.code >= 0)
    checker.balanced(stage, ended)


@family("S11", "bulk: each call lost, before it is carried out and after", destination="salesforce")
def calls_lost(stage: Stage) -> None:
    """Found again by looking, or made anew; never carried out twice."""
    fake = loaded(stage)
    for after in (True, False) if stage.small else (True, False) * 3:
        lost = {verb: Act(apply=after, cut=stage.random.choice((0.0, 0.5) if after else (0.0,))) for verb in STAGES}
        mark = len(fake.ledger)
        troubled(stage, _once_each(stage, lost), codes=(0, 1, 3))
        checker.heal(stage, changed=set(stage.ground.rows), since=mark)
        never_twice(stage, mark)
        nothing_left(stage)
        moved(stage)
    settled(stage)


def _once_each(stage: Stage, acts: dict[str, Act]) -> Script:
    left = dict(acts)

    def script(call: Call) -> Act:
        act = left.pop(call.verb, None)
        stage.count("calls_lost", act is not None)
        return act or TRUE

    return script


@family("S12", "bulk: a job fails half-way, once and always", destination="salesforce")
def jobs_fail(stage: Stage) -> None:
    """What it left unprocessed goes into another; after three failures the run ends and the rows wait."""
    fake = loaded(stage)
    mark, number = len(fake.ledger), len(fake.ingest.jobs)

    def course(job: Job) -> Course:
        most = stage.random.randrange(CHANGES // 2)
        return (
            Course(after=most, ends=FAILED, error="InternalServerError : gone")
            if job.number == number + 1
            else Course()
        )

    fake.ingest.course = course
    troubled(stage, lambda _call: TRUE, codes=(0,))
    checker.converged(stage)
    never_twice(stage, mark)
    moved(stage)
    mark, number = len(fake.ledger), len(fake.ingest.jobs)
    fake.ingest.course = lambda _job: Course(after=30, ends=FAILED, error="InternalServerError : gone")
    ended = troubled(stage, lambda _call: TRUE, codes=PENDING_CODES)
    made = len(jobs_since(fake, number))
    if made > 3:
        stage.wrong("I7", f"{made} jobs were made that all failed; at most 3 were due")
    _waits(stage, ended, "destination_bulk_refused")
    settled(stage, since=mark)
    never_twice(stage, mark)


def _waits(stage: Stage, ended: Ended, code: str) -> None:
    """The run says why it ended, and that rows are open."""
    if error_of(ended) != code:
        stage.wrong("I10", f"told as {ended.run.get('error')}, not as {code}")
    if not ended.run.get("pending"):
        stage.wrong("I6", f"nothing is pending after {code}: {ended.out[-300:]}")


@family("S13", "bulk: a job aborted by somebody, open or at work", destination="salesforce")
def jobs_aborted(stage: Stage) -> None:
    fake = loaded(stage)
    for half in (stage.random.randrange(1, CHANGES),) if stage.small else (0, stage.random.randrange(1, CHANGES)):
        mark, ended_once = len(fake.ledger), [False]
        fake.ingest.course = lambda _job, half=half: Course(stuck=True, after=half)  # type: ignore[misc]

        def script(call: Call, ended_once: list[bool] = ended_once) -> Act:
            if call.verb == "poll" and not ended_once[0]:
                ended_once[0] = True
                fake.ingest.abort([*fake.ingest.jobs.values()][-1])
            return TRUE

        ended = troubled(stage, script, codes=PENDING_CODES)
        _waits(stage, ended, "destination_bulk_aborted")
        checker.heal(stage, changed=set(stage.ground.rows), since=mark)
        never_twice(stage, mark)
        if not any(job.state == ABORTED for job in fake.ingest.jobs.values()):
            stage.wrong("campaign", "no job was aborted")
        moved(stage)
    settled(stage)


@family("S14", "bulk: rows that stand in none of the result files, carried out or not", destination="salesforce")
def rows_hidden(stage: Stage) -> None:
    """Nobody knows of them: looked up, or offered again, and never taken for delivered."""
    fake = loaded(stage)
    for applied in (False, True):
        mark = len(fake.ledger)
        fake.ingest.course = lambda _job, applied=applied: Course(hides=0.3, hidden_applied=applied)  # type: ignore[misc]
        ended = troubled(stage, lambda _call: TRUE, codes=(0, 1, 3))
        stage.most("rows_in_doubt", ended.run.get("in_doubt", 0))
        checker.heal(stage, changed=set(stage.ground.rows), since=mark)
        never_twice(stage, mark, excused=CHANGES + 10)
        moved(stage)
    settled(stage)


@family(
    "S15",
    "bulk: results shuffled, numbers re-formatted, found by a numeric key; rows refused",
    destination="salesforce",
)
def results_anew(stage: Stage) -> None:
    """10000001 comes back as 1.0000001E7, in any order, beside rows that were refused."""
    by_jobs(stage)
    number = "10000000 + cast(substr(email, 2, 6) as integer)"
    stage.define(
        query=f"select *, {number} as number from people",
        key="number",
        match=NUMBER,
        mapping={NUMBER: "number", "email__c": "email", "firstname__c": "firstname", "seats__c": "seats"},
    )
    fake = org_of(stage)
    stage.ground.add(ROWS)
    stage.ground.put()
    for _ in range(1 if stage.small else 2):
        guilty = set(stage.random.sample(sorted(stage.ground.rows), stage.random.choice((1, 7, 40))))
        fake.refuses = lambda values, guilty=guilty: 'bad, "quoted" words' if values["email"] in guilty else None  # type: ignore[misc]
        mark = len(fake.ledger)
        ended = troubled(stage, lambda _call: TRUE, codes=(0, 3))
        offered = {entry.key for entry in fake.ledger[mark:]}
        checker.converged(stage, excused=guilty)
        _exactly(stage, ended, mark)
        keys = {str(10_000_000 + int(key[1:7])) for key in guilty & offered}
        listed(stage, keys, ended)
        never_twice(stage, mark)
        checker.heal(stage, changed=set(stage.ground.rows), since=mark)
        moved(stage)
    settled(stage)


def _exactly(stage: Stage, ended: Ended, mark: int) -> None:
    """The report's figures are those of the ledger."""
    arrived = sum(entry.applied for entry in stage.fake.ledger[mark:])
    said = ended.run["delivered"]["created"] + ended.run["delivered"]["updated"]
    if said != arrived:
        stage.wrong("I10", f"{said} rows reported as delivered, {arrived} arrived")


@family("S16", "bulk: a job that does not end while the run has patience", destination="salesforce", waits=8)
def job_stuck(stage: Stage) -> None:
    """The run ends, the next ones go on with the job; no other is made."""
    fake = loaded(stage, bulk_patience="2s")
    mark, number = len(fake.ledger), len(fake.ingest.jobs)
    fake.ingest.course = lambda _job: Course(stuck=True)
    for _ in range(2):
        ended = troubled(stage, lambda _call: TRUE, codes=PENDING_CODES)
        if error_of(ended) != "destination_bulk_running":
            stage.wrong("I10", f"a job that does not end is told as {ended.run.get('error')}")
    made = jobs_since(fake, number)
    if len(made) != 1:
        stage.wrong("I3", f"{len(made)} jobs were made for the rows of one that does not end")
    for job in made:
        job.course = Course(seconds=0.0)
    by_jobs(stage)
    settled(stage, since=mark)
    never_twice(stage, mark)


@family(
    "S17", "bulk: no batches left of the day, jobs refused, too small a share of calls left", destination="salesforce"
)
def no_jobs(stage: Stage) -> None:
    """The rows go by calls instead, in the same run."""
    fake = loaded(stage)
    for code in ("", "LIMIT_EXCEEDED") if stage.small else ("", "LIMIT_EXCEEDED", "INVALIDENTITY", "TOO_MANY_JOBS"):
        mark, number = len(fake.ledger), len(fake.ingest.jobs)
        fake.batches_left = 0 if not code else 15_000
        fake.ingest.refuses_jobs = code or None
        troubled(stage, lambda _call: TRUE, codes=(0,))
        checker.converged(stage)
        never_twice(stage, mark)
        if jobs_since(fake, number):
            stage.wrong("I7", "a job was made although none may be")
        moved(stage)
    fake.batches_left = 15_000
    settled(stage)


@family(
    "S18", "bulk: a session that ends at each stage; the day's calls used up; rows locked", destination="salesforce"
)
def jobs_troubled(stage: Stage) -> None:
    fake = loaded(stage)
    fake.ingest.course = lambda _job: Course(seconds=0.5)
    mark = len(fake.ledger)
    troubled(stage, _sessions_end(stage, fake, set(STAGES)), codes=(0,))
    checker.converged(stage)
    never_twice(stage, mark)
    mark = len(fake.ledger)
    moved(stage)
    verb = stage.random.choice(STAGES)
    over = words_of(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
    ended = troubled(stage, lambda call: over if call.verb == verb else TRUE, codes=(3,))
    if error_of(ended) != "daily_limit":
        stage.wrong("I10", f"the day's limit at {verb} is told as {ended.run.get('error')}")
    checker.heal(stage, changed=set(stage.ground.rows), since=mark)
    never_twice(stage, mark)
    moved(stage)
    offered: Counter[str] = Counter()
    chosen = set(stage.random.sample(sorted(stage.ground.rows), 60))

    def locks(key: str) -> bool:
        offered[key] += 1
        return key in chosen and offered[key] <= 1

    fake.locks = locks
    troubled(stage, lambda _call: TRUE, codes=(0,))
    checker.converged(stage)
    settled(stage)


def _sessions_end(stage: Stage, fake: Org, verbs: set[str]) -> Script:
    def script(call: Call) -> Act:
        if call.verb in verbs:
            verbs.discard(call.verb)
            fake.door.end_all()
            stage.count("sessions_ended")
        return TRUE

    return script


@family("S19", "bulk: killed while a job removes", destination="salesforce", release=10)
def removals_killed(stage: Stage) -> None:
    """Removed are only records of rows that left; what was cut off is finished, and nothing is removed twice."""
    fake = by_jobs(stage)
    stage.define(mode="mirror", guard={"max_removed": "90%"})
    stage.ground.add(ROWS)
    stage.ground.put()
    checker.balanced(stage, stage.sync())
    left = set(stage.ground.remove(300))
    stage.ground.put()
    fake.ingest.course = lambda _job: Course(seconds=0.5)
    for verb in stage.random.sample(("create", "upload", "close", "poll", "saved"), 2):
        _killed_at(stage, verb, stage.random)
        time.sleep(0.2)
        if stage.random.random() < 0.5:
            left |= set(stage.ground.remove(20))
            stage.ground.put()
    checker.heal(stage, removes=True)
    checker.no_deletions(stage, allowed=left)
    gone = Counter(entry.key for entry in fake.ledger if entry.verb == "archive")
    twice = [key for key, times in gone.items() if times > 1]
    if twice:
        stage.wrong("I3", f"{len(twice)} records were removed twice, e.g. {twice[:3]}")
    nothing_left(stage)
    checker.idle(stage)
    checker.silent(stage)
