"""Bulk jobs in memory: stored before anything happens, forgotten when nothing is owed any more."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.destinations.salesforce.remembered import KEPT_SECONDS, Carried, Remembered, Work
from tests.unit.destinations.salesforce.org import RememberedInMemory

NUMBERS = st.lists(st.integers(0, 2**64 - 1), max_size=50)
WORK = Work(
    number=0, organization="00D", object="Lead", operation="upsert", key="K", columns=("K", "L"), asked_at=1_000_000.0
)


def carried(*keys: int) -> Carried:
    numbers = pa.array(keys, pa.uint64())
    return Carried(numbers, numbers)


def jobs(memory: RememberedInMemory, now: float = 1_000_000.0) -> list[tuple[Work, list[int]]]:
    return [(work, rows.keys.to_pylist()) for work, rows in Remembered(memory, "leads", now)]


@given(NUMBERS)
def test_rows_come_back_as_they_were(numbers: list[int]) -> None:
    keys = pa.array([0, *numbers], pa.uint64()).slice(1)
    back = Carried.from_text(Carried(keys, keys).to_text())
    assert back.keys.to_pylist() == back.cells.to_pylist() == numbers


def test_what_a_run_knows_of_a_job_is_there_for_the_next() -> None:
    memory = RememberedInMemory()
    known = Remembered(memory, "leads", WORK.asked_at)
    work = known.add(WORK, carried(1, 2))
    assert jobs(memory) == [(work, [1, 2])]
    known.put(replace(work, id="750", uploaded=True))
    assert jobs(memory) == [(replace(work, id="750", uploaded=True), [1, 2])]


def test_a_job_is_forgotten_with_its_last_row() -> None:
    memory = RememberedInMemory()
    known = Remembered(memory, "leads", WORK.asked_at)
    first, second = known.add(WORK, carried(1, 2)), known.add(WORK, carried(2, 3))
    known.settle(pa.array([2, 9], pa.uint64()))
    assert jobs(memory) == [(first, [1]), (second, [3])]
    known.settle(pa.array([1], pa.uint64()))
    assert jobs(memory) == [(second, [3])]
    known.drop(second)
    assert memory == {}


def test_syncs_do_not_see_each_others_jobs() -> None:
    memory = RememberedInMemory()
    Remembered(memory, "contacts", WORK.asked_at).add(WORK, carried(1))
    assert jobs(memory) == []


def test_a_job_whose_results_are_thrown_away_by_now_is_forgotten() -> None:
    memory = RememberedInMemory()
    Remembered(memory, "leads", WORK.asked_at).add(WORK, carried(1))
    assert len(jobs(memory, WORK.asked_at + KEPT_SECONDS - 1)) == 1
    assert jobs(memory, WORK.asked_at + KEPT_SECONDS + 1) == []
    assert memory == {}
