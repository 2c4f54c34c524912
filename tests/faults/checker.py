"""The checker: warehouse, the fake's ledger and the tool's own words against each other. Knows nothing of the inside.

I1 no loss, I2 no early claim, I3 repeats within what was in flight, I4 the newest value, I5 nothing invented or wrongly
deleted, I6 books balance, I7 polite, I8 no secret in any byte, I9 one holder, I10 code, report and ledger agree.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import quote

from tests.faults.door import SECRET
from tests.faults.scripted import Entry
from tests.faults.stage import Ended, Stage

IN_FLIGHT = 4 * 100
IDLE_RUNS = 4
CODES = {
    "succeeded": {0},
    "partial": {3},
    "failed": {1, 2, 6},
    "guarded": {4},
    "skipped": {5},
    "interrupted": {130, 143},
}


def converged(stage: Stage, *, excused: Collection[str] = (), removes: bool = False) -> None:
    """The destination holds what the warehouse holds: nothing lost, nothing old, nothing invented."""
    missing, stale = [], []
    for key, row in stage.ground.rows.items():
        if key in excused:
            continue
        record = stage.fake.values(key)
        if record is None:
            missing.append(key)
        elif any(record.get(name, "") != value for name, value in row.wanted.items()):
            stale.append(key)
    if missing:
        stage.wrong("I1", f"{len(missing)} rows never arrived, e.g. {missing[:3]}")
    if stale:
        told = {key: (stage.fake.values(key), stage.ground.rows[key].wanted) for key in stale[:2]}
        stage.wrong("I4", f"{len(stale)} records hold other values than their rows, e.g. {told}")
    strangers = [key for key in stage.fake.by_key if key not in stage.ground.ever]
    if strangers:
        stage.wrong("I5", f"{len(strangers)} records of no row, e.g. {strangers[:3]}")
    left = [key for key in stage.fake.by_key if key not in stage.ground.rows and key not in excused]
    if removes and left:
        stage.wrong("I1", f"{len(left)} removed rows still have a record, e.g. {left[:3]}")


def no_deletions(stage: Stage, *, allowed: Collection[str] = ()) -> None:
    """Archived were only records of rows that left."""
    gone = [entry.key for entry in stage.fake.ledger if entry.verb == "archive" and entry.applied]
    wrongly = [key for key in gone if key not in allowed]
    if wrongly:
        stage.wrong("I5", f"{len(wrongly)} records deleted without cause, e.g. {wrongly[:3]}")


def unclaimed(stage: Stage, sent: Iterable[Entry], changed: Collection[str]) -> None:
    """After a kill: rows that the next run did not send must have arrived before it."""
    again = {entry.key for entry in sent}
    early = [key for key in changed if key not in again and key in stage.ground.rows and not _arrived(stage, key)]
    if early:
        stage.wrong("I2", f"{len(early)} rows were taken for delivered and never arrived, e.g. {early[:3]}")


def repeats(stage: Stage, before: Iterable[Entry], after: Iterable[Entry], bound: int = IN_FLIGHT) -> int:
    """Rows that were applied, and sent again with the same values by the next run: at most what was in flight."""
    done = Counter((entry.key, tuple(sorted(entry.values.items()))) for entry in before if entry.applied)
    again = [entry for entry in after if done[(entry.key, tuple(sorted(entry.values.items())))]]
    stage.most("repeats", len(again))
    if len(again) > bound:
        stage.wrong("I3", f"{len(again)} rows were sent again; in flight were at most {bound}")
    return len(again)


def balanced(stage: Stage, ended: Ended) -> None:
    """The figures of every report add up, and its status fits the exit code."""
    for run in (ended.document() or {}).get("runs", []):
        balanced_report(stage, run)
        if len((ended.document() or {}).get("runs", [])) == 1 and not run.get("dry_run"):
            expected = CODES.get(str(run["status"]), set())
            if ended.code not in expected:
                stage.wrong("I10", f"status {run['status']} with exit code {ended.code}")


def balanced_report(stage: Stage, run: dict[str, Any]) -> None:
    rows, told = run["rows"], run["delivered"]
    if rows["read"] != rows["unchanged"] + rows["added"] + rows["changed"] + rows["invalid"]:
        stage.wrong("I6", f"read {rows['read']} is not unchanged + added + changed + invalid: {rows}")
    offered = rows["added"] + rows["changed"] + rows["removed"] + rows["retried"]
    settled = told["created"] + told["updated"] + told["removed"] + told["skipped"]
    open_rows = run["rejected"] + run["in_doubt"] + run["pending"]
    if run["status"] not in ("failed", "guarded", "running") and settled > offered:
        stage.wrong("I6", f"{settled} rows delivered of {offered} to send: {rows} {told}")
    if not run.get("dry_run") and settled + open_rows < offered:
        stage.wrong("I6", f"{offered} rows to send, {settled} delivered and {open_rows} told open: {run}")


def honest(stage: Stage, ended: Ended, *, removes: bool = False, since: int | None = None) -> None:
    """What one run says it delivered is what arrived while it ran, or in a job of an earlier one, `since` which."""
    run = ended.run
    if not run:
        return
    entries = [entry for entry in stage.fake.ledger[ended.since if since is None else since :] if entry.applied]
    kept = {entry.key for entry in entries if entry.verb != "archive"}
    said = run["delivered"]["created"] + run["delivered"]["updated"]
    if said > len(kept) and not removes:
        stage.wrong("I10", f"{said} rows reported as delivered, {len(kept)} arrived")
    if run["status"] == "succeeded" and run["pending"]:
        stage.wrong("I10", f"succeeded with {run['pending']} rows pending")


def polite(stage: Stage) -> None:
    """Nothing beyond the allowance, and nothing before a told pause was over."""
    over, early = (sum(getattr(call, name) for call in stage.fake.calls) for name in ("over", "early"))
    if over:
        stage.wrong("I7", f"{over} calls beyond the allowance")
    if early:
        stage.wrong("I7", f"{early} calls before the told pause was over")


def silent(stage: Stage) -> None:
    """The secret stands in no byte that the tool printed or wrote, in any of the forms it travels in."""
    raw = SECRET.encode()
    forms = {raw, base64.b64encode(raw).rstrip(b"="), quote(SECRET, safe="").encode(), raw.hex().encode(), raw[::-1]}
    places = {f"output of {ended.arguments}": (ended.out + ended.err).encode() for ended in stage.ended}
    places |= {str(path.name): path.read_bytes() for path in stage.folder.rglob("*") if path.is_file()}
    for place, content in places.items():
        if any(form in content for form in forms):
            stage.wrong("I8", f"the access token stands in {place}")
    for ended in stage.ended:
        starting = (
            ended.err.rstrip().endswith("KeyboardInterrupt") and "/edge.py" not in ended.err
        )  # Python's own imports
        if "Traceback" in ended.out + ended.err and not starting:
            stage.wrong("I10", f"a traceback was shown by {ended.arguments}: {ended.err[-300:]}")


def idle(stage: Stage) -> None:
    """A run with nothing to do makes no call.

    What was in doubt is sent once more a minute later, just as it stands: a run or two may do that before.
    """
    for _ in range(IDLE_RUNS):
        calls, entries = len(stage.fake.calls), len(stage.fake.ledger)
        ended = stage.sync()
        if ended.code != 0:
            stage.wrong("I10", f"an idle run ended with {ended.code}: {ended.out[-300:]}")
        if ended.code != 0 or len(stage.fake.calls) == calls:
            return
        again = stage.fake.ledger[entries:]
        stage.most("sent_once_more", len(again))
        changed = [entry.key for entry in again if not entry.values.items() <= _values(stage, entry.key).items()]
        if changed:
            stage.wrong("I4", f"{len(changed)} rows went out anew by a run with nothing to do, e.g. {changed[:3]}")
    stage.wrong("I3", f"after {IDLE_RUNS} runs with nothing to do there are still calls")


def records(stage: Stage) -> None:
    """Every run on record balances, killed ones too."""
    ended = stage.tool("runs", "--json")
    for run in (ended.document() or {}).get("runs", []):
        balanced_report(stage, run)


def heal(
    stage: Stage, *, changed: Collection[str] = (), most: int = 2, since: int | None = None, **wishes: Any
) -> Ended:
    """No more faults: at most two clean runs, and everything is as it should be."""
    stage.fake.heal()
    ended = stage.sync()
    balanced(stage, ended)
    honest(stage, ended, since=since)
    unclaimed(stage, stage.fake.ledger[ended.since :], changed)
    for _ in range(most - 1):
        if ended.code == 0:
            break
        ended = stage.sync()
        balanced(stage, ended)
    if ended.code != 0:
        stage.wrong("I10", f"still code {ended.code} after {most} clean runs: {ended.out[-600:]} {ended.err[-300:]}")
    converged(stage, **wishes)
    return ended


def _values(stage: Stage, key: str) -> dict[str, str]:
    return stage.fake.values(key) or {}


def _arrived(stage: Stage, key: str) -> bool:
    record = stage.fake.values(key)
    wanted = stage.ground.rows[key].wanted
    return record is not None and all(record.get(name, "") == value for name, value in wanted.items())
