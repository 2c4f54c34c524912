"""Batches to verdicts: halving, missing records, answers that leave rows out, and stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pyarrow as pa
import pytest

from reverse_etl.deliver import deliver
from reverse_etl.errors import AuthError, DailyLimit, InDoubt, Interrupted, PluginError, Throttled, Unavailable
from reverse_etl.model import Batch, Operation
from reverse_etl.plan import Parcel
from reverse_etl.stop import Stop
from reverse_etl.testing import MemoryAccount, MemoryDestination
from reverse_etl.verdicts import Outcomes, Verdict
from tests.house import FIELDS, House, sync


def parcel(
    keys: Sequence[str], operation: Operation = Operation.UPSERT, ids: Sequence[str | None] | None = None
) -> Parcel:
    rows = pa.RecordBatch.from_pydict({"email": pa.array([f"{key}@x.io" for key in keys])})
    batch = Batch(
        object="contacts",
        operation=operation,
        match="email",
        fields=FIELDS[:1],
        rows=rows,
        keys=pa.array(keys, pa.string()),
        record_ids=pa.array(ids or [None] * len(keys), pa.string()),
        sends=None if operation is Operation.UPSERT else pa.RecordBatch.from_pydict({"email": [True] * len(keys)}),
    )
    return Parcel(batch, pa.array(range(len(keys)), pa.uint64()), again=False)


class Book:
    """What was recorded: a verdict a key; a second one for the same key fails the test."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.codes: dict[str, str] = {}

    async def record(self, parcel: Parcel, outcomes: Outcomes) -> None:
        keys = parcel.batch.keys.to_pylist()
        for at, (key, verdict) in enumerate(zip(keys, outcomes.verdicts, strict=True)):
            assert key not in self.verdicts, f"{key} has two verdicts"
            self.verdicts[key] = verdict
            if at in outcomes.refusals:
                self.codes[key] = outcomes.refusals[at].code


def delivered(
    crm: MemoryAccount, *parcels: Parcel, stop: Stop | None = None, failing: type[Exception] | None = None
) -> Book:
    book = Book()

    async def scenario() -> None:
        await deliver(
            iter([list(parcels)]),
            MemoryDestination(account=crm),
            book.record,
            stop or Stop(),
            slots=crm.limits.in_flight,
        )

    if failing is None:
        anyio.run(scenario)
    else:
        with pytest.raises(failing):
            anyio.run(scenario)
    return book


def stopping(stop: Stop) -> Callable[[Any], bool]:
    """A rule that refuses nothing, but whoever asks it asks the run to stop."""

    def rule(record: object) -> bool:
        stop.ask(Interrupted("by a signal"))
        return False

    return rule


def poison(*keys: str) -> Callable[[Any], bool]:
    return lambda record: record["email"].split("@")[0] in keys


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100])
@pytest.mark.parametrize("guilty", [0, 1, 2, 5])
def test_halving_finds_the_guilty_rows_within_the_promised_calls(size: int, guilty: int) -> None:
    keys = [f"k{number}" for number in range(size)]
    bad = keys[:: max(1, size // guilty)][:guilty] if guilty else []
    crm = MemoryAccount(*FIELDS)
    crm.refuse_batches(poison(*bad))
    book = delivered(crm, parcel(keys))
    assert [key for key in keys if book.verdicts[key] is Verdict.REJECTED] == bad
    assert {book.verdicts[key] for key in keys if key not in bad} <= {Verdict.CREATED}
    assert all(book.codes[key] == "BAD_BATCH" for key in bad)
    allowed = 2 * len(bad) * (math.log2(size / len(bad)) + 1) + 1 if bad else 1
    assert len(crm.writes) <= math.ceil(allowed)


def test_the_innocent_half_goes_out_in_order() -> None:
    crm = MemoryAccount(*FIELDS)
    crm.refuse_batches(poison("c"))
    delivered(crm, parcel(["a", "b", "c", "d"]))
    assert [call.keys for call in crm.writes] == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["d"]]


def test_a_record_that_is_gone_is_made_anew() -> None:
    crm = MemoryAccount(*FIELDS)
    here = crm.add(email="a@x.io")
    book = delivered(crm, parcel(["a", "b"], Operation.UPDATE, [here, "r99"]))
    assert book.verdicts == {"a": Verdict.UPDATED, "b": Verdict.CREATED}
    assert [(call.operation, call.keys) for call in crm.writes] == [
        (Operation.UPDATE, ["a", "b"]),
        (Operation.UPSERT, ["b"]),
    ]


def test_a_record_to_remove_that_is_gone_is_removed() -> None:
    crm = MemoryAccount(*FIELDS)
    book = delivered(crm, parcel(["a"], Operation.REMOVE, ["r99"]))
    assert book.verdicts == {"a": Verdict.REMOVED}


def test_a_refused_row_made_anew_gets_its_own_reason() -> None:
    crm = MemoryAccount(*FIELDS)
    crm.refuse(poison("b"), code="NO_B")
    book = delivered(crm, parcel(["a", "b"], Operation.UPDATE, ["r98", "r99"]))
    assert book.verdicts["a"] is Verdict.CREATED
    assert (book.verdicts["b"], book.codes["b"]) == (Verdict.REJECTED, "NO_B")


def test_of_rows_made_anew_one_guilty_row_takes_no_other_along() -> None:
    crm = MemoryAccount(*FIELDS)
    parcels = parcel(["a", "b", "c", "d"], Operation.UPDATE, ["r96", "r97", "r98", "r99"])
    crm.refuse_batches(lambda record: record["email"] == "c@x.io" and crm.writes != [])
    book = delivered(crm, parcels)
    assert book.verdicts == {
        "a": Verdict.CREATED,
        "b": Verdict.CREATED,
        "c": Verdict.REJECTED,
        "d": Verdict.CREATED,
    }


def test_a_row_that_the_answer_leaves_out_is_asked_once_more() -> None:
    crm = MemoryAccount(*FIELDS)
    crm.leave_out("b")
    book = delivered(crm, parcel(["a", "b", "c"]))
    assert set(book.verdicts.values()) == {Verdict.CREATED}
    assert [call.keys for call in crm.writes] == [["a", "b", "c"], ["b"]]


def test_a_row_that_no_answer_speaks_of_is_in_doubt_and_asked_no_third_time() -> None:
    crm = MemoryAccount(*FIELDS)
    crm.leave_out("b", times=9)
    book = delivered(crm, parcel(["a", "b", "c"]))
    assert book.verdicts["b"] is Verdict.NO_ANSWER
    assert len(crm.writes) == 2


@pytest.mark.parametrize("extra", [1, -1])
def test_an_answer_of_another_length_is_the_connectors_bug(extra: int) -> None:
    crm = MemoryAccount(*FIELDS)
    crm.answer_with_too_many(extra)
    book = delivered(crm, parcel(["a", "b"]), failing=PluginError)
    assert set(book.verdicts.values()) == {Verdict.NO_ANSWER}


@pytest.mark.parametrize("error", [Throttled, Unavailable, DailyLimit, AuthError])
def test_what_concerns_the_whole_run_stops_it_and_leaves_its_rows_pending(error: type[Exception]) -> None:
    crm = MemoryAccount(*FIELDS, in_flight=1)
    crm.fail(error("no"), call=2)
    book = delivered(crm, parcel(["a"]), parcel(["b"]), parcel(["c"]), failing=error)
    assert book.verdicts == {"a": Verdict.CREATED}


def test_a_cut_request_leaves_its_rows_in_doubt_and_stops_the_run() -> None:
    crm = MemoryAccount(*FIELDS, in_flight=1)
    crm.fail(InDoubt("cut off"), call=1, applied=True)
    book = delivered(crm, parcel(["a", "b"]), parcel(["c"]), failing=InDoubt)
    assert book.verdicts == {"a": Verdict.NO_ANSWER, "b": Verdict.NO_ANSWER}


def test_a_failure_while_asking_again_loses_no_verdict_already_given() -> None:
    crm = MemoryAccount(*FIELDS, in_flight=1)
    crm.leave_out("b")
    crm.fail(Unavailable("down"), call=2)
    book = delivered(crm, parcel(["a", "b", "c"]), failing=Unavailable)
    assert (book.verdicts["a"], book.verdicts["c"]) == (Verdict.CREATED, Verdict.CREATED)
    assert book.verdicts["b"] is Verdict.NO_ANSWER


def test_a_failure_lets_the_other_slots_finish() -> None:
    crm = MemoryAccount(*FIELDS, in_flight=4)
    crm.fail(AuthError("revoked"), call=1)
    book = delivered(crm, *(parcel([key]) for key in "abcdefgh"), failing=AuthError)
    assert all(verdict is Verdict.CREATED for verdict in book.verdicts.values())
    assert len(book.verdicts) == len(crm.writes) - 1 < 8


def test_no_more_requests_are_under_way_than_the_destination_takes() -> None:
    crm = MemoryAccount(*FIELDS, in_flight=3)
    book = delivered(crm, *(parcel([f"k{number}"]) for number in range(20)))
    assert len(book.verdicts) == 20
    assert crm.most_under_way == 3


def test_a_stopped_run_starts_no_request_and_records_what_was_answered() -> None:
    crm = MemoryAccount(*FIELDS, in_flight=1)
    stop = Stop()
    crm.refuse(stopping(stop))
    book = delivered(crm, parcel(["a"]), parcel(["b"]), stop=stop, failing=Interrupted)
    assert book.verdicts == {"a": Verdict.CREATED}


def test_a_stop_between_two_halves_leaves_the_second_pending() -> None:
    crm = MemoryAccount(*FIELDS, in_flight=1)
    stop = Stop()
    crm.refuse_batches(lambda record: len(crm.writes) == 0)
    crm.refuse(stopping(stop))
    book = delivered(crm, parcel(["a", "b"]), stop=stop, failing=Interrupted)
    assert book.verdicts == {"a": Verdict.CREATED}


def test_a_row_in_doubt_is_sent_again_by_the_next_run(tmp_path: Path) -> None:
    house = House(tmp_path, sync())
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.crm.fail(InDoubt("cut off"), call=1, applied=True)
    report = house.run()
    assert (report.status, report.exit_code, report.in_doubt) == ("failed", 1, 2)
    assert {row.kind for row in house.refused().values()} == {"in_doubt"}
    report = house.go()
    assert (report.delivered.updated, report.in_doubt, report.exit_code) == (2, 0, 0)
    assert len(house.crm.records) == 2


def test_a_row_in_doubt_is_sent_again_when_it_is_what_it_was_before(tmp_path: Path) -> None:
    house = House(tmp_path, sync())
    house.people((1, "a@x.io", "free"))
    house.go()
    house.people((1, "a@x.io", "gold"))
    house.crm.fail(InDoubt("cut off"), call=1, applied=True)
    house.run()
    house.people((1, "a@x.io", "free"))  # changed back, while nobody knows what the destination has
    house.go()
    assert house.crm.by("email")["a@x.io"]["plan"] == "free"


def test_a_removal_in_doubt_whose_row_comes_back_is_made_good(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="mirror", on_removed="delete"))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    house.people((2, "b@x.io", "free"))
    house.crm.fail(InDoubt("cut off"), call=1, applied=True)
    house.run()
    assert house.explain("1").state == "absent"
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    assert house.explain("1").state == "in_doubt"
    house.go()
    assert set(house.crm.by("email")) == {"a@x.io", "b@x.io"}
    house.idle()


class Halfway(MemoryDestination):
    """Settles the first row of a batch, then fails; remembers which batches it was told are stored."""

    stored: ClassVar[list[list[str]]] = []

    async def write(self, batch: Batch) -> Outcomes:
        settled = Outcomes(len(batch))
        settled.take_over([0], await super().write(batch.slice(0, 1)))
        failure = DailyLimit("enough for today")
        failure.answered = settled
        raise failure

    async def recorded(self, batch: Batch) -> None:
        self.stored.append(batch.keys.to_pylist())


def test_what_was_settled_before_a_failure_is_recorded_the_rest_waits_and_the_destination_hears_of_it() -> None:
    book = Book()

    async def scenario() -> None:
        crm = Halfway(account=MemoryAccount(*FIELDS))
        await deliver(iter([[parcel(["a", "b", "c"])]]), crm, book.record, Stop(), slots=1)

    Halfway.stored.clear()
    with pytest.raises(DailyLimit, match="enough"):
        anyio.run(scenario)
    assert book.verdicts == {"a": Verdict.CREATED}
    assert Halfway.stored == [["a"]]
