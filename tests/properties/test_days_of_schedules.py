"""Whatever runs take and however they end: no start is lost, doubled, or beside its schedule."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.config.schedule import Every, parse_schedule
from reverse_etl.report import RunStatus
from tests.unit.daemon.day import START, Day, sync

LASTING = st.integers(1, 7200).map(lambda seconds: timedelta(seconds=seconds))
INTERVALS = st.sampled_from(["every 1 minute", "every 7 minutes", "every 1 hour", "every 90 seconds"])
LINES = st.sampled_from(["* * * * *", "*/7 * * * *", "30 * * * *", "0 6,18 * * *", "15 2 * * *"])
ENDS = st.sampled_from([RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.PARTIAL, RunStatus.SKIPPED])


@settings(max_examples=40, deadline=None)
@given(schedule=INTERVALS, lasting=LASTING, ending=ENDS)
def test_P55_every_time_of_an_interval_is_a_start_or_is_left_out(
    schedule: str, lasting: timedelta, ending: RunStatus
) -> None:
    day = Day(lasting={"people": lasting}, ending={"people": ending})
    day.define(sync(schedule=schedule))
    day.until(START + timedelta(hours=8))
    parsed = parse_schedule(schedule)
    interval = parsed.interval if isinstance(parsed, Every) else timedelta()
    times = sorted([moment for _, moment in day.begun + day.skipped])
    assert times == [START + number * interval for number in range(len(times))]
    assert len(times) == timedelta(hours=8) // interval + 1
    assert all(after - before >= lasting for (_, before), (_, after) in pairwise(day.begun))


@settings(max_examples=40, deadline=None)
@given(line=LINES, lasting=LASTING, zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
def test_P55_every_time_of_a_cron_line_is_a_start_or_is_left_out(line: str, lasting: timedelta, zone: str) -> None:
    day = Day(lasting={"people": lasting})
    day.define(sync(schedule=line, zone=zone))
    end = START + timedelta(hours=8)
    day.until(end)
    expected, moment = [], START
    while (moment := parse_schedule(line).next_after(moment, zone)) <= end:
        expected.append(moment)
    assert sorted(moment for _, moment in day.begun + day.skipped) == expected
    assert all(after - before >= lasting for (_, before), (_, after) in pairwise(day.begun))


@settings(max_examples=40, deadline=None)
@given(
    every=INTERVALS,
    parent=LASTING,
    child=LASTING,
    endings=st.lists(st.sampled_from([RunStatus.SUCCEEDED, RunStatus.FAILED]), min_size=2, max_size=2),
)
def test_a_child_never_runs_without_a_parents_success_before_it(
    every: str, parent: timedelta, child: timedelta, endings: list[RunStatus]
) -> None:
    day = Day(lasting={"parent": parent, "child": child})
    day.define(sync("parent", every), sync("child", after=["parent"]))
    for number, ending in enumerate(endings, 1):
        day.ending["parent"] = ending
        day.until(START + timedelta(hours=3 * number))
    if RunStatus.SUCCEEDED not in endings:
        assert day.starts("child") == []
    day.ending["parent"] = RunStatus.SUCCEEDED
    day.until(START + timedelta(hours=15))
    assert 1 <= len(day.starts("child")) <= len(day.starts("parent"))
