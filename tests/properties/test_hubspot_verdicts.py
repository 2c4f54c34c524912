"""Whatever HubSpot answers, in whatever order: a row's verdict is what the answer says of that row, or none."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from urllib.parse import unquote

import anyio
import httpx
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.answer import Answer
from reverse_etl.deliver import deliver
from reverse_etl.destinations.hubspot.calls import Call
from reverse_etl.destinations.hubspot.verdicts import read
from reverse_etl.model import Batch, Field, FieldType, Operation
from reverse_etl.plan import Parcel
from reverse_etl.stop import Stop
from reverse_etl.verdicts import Outcomes, Verdict
from tests.unit.destinations.hubspot.script import EMAIL, Script, batch, invalid, record, refused

FATES = st.sampled_from(["created", "updated", "refused", "left out"])


@settings(max_examples=200, deadline=None)
@given(
    fates=st.lists(FATES, min_size=1, max_size=30),
    operation=st.sampled_from([Operation.UPSERT, Operation.UPDATE, Operation.CREATE]),
    by_id=st.booleans(),
    echoes=st.booleans(),
    strangers=st.integers(0, 3),
    together=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_P21_each_row_gets_what_the_answer_says_of_it_and_nothing_else(
    *,
    fates: list[str],
    operation: Operation,
    by_id: bool,
    echoes: bool,
    strangers: int,
    together: bool,
    random: Any,
) -> None:
    positions = list(range(0, 2 * len(fates), 2))  # a call may carry only some rows of its batch
    by_id = by_id and operation is Operation.UPDATE
    keys = [str(1000 + at) if by_id else f"Person{at}@X.io" for at in positions]
    properties = [{"email": f"person{at}@x.io"} for at in positions]
    call = Call(operation, None if by_id else "email", positions, keys, properties)

    results: list[dict[str, Any]] = []
    refused: list[int] = []
    for at, fate in zip(positions, fates, strict=True):
        if fate == "refused":
            refused.append(at)
        elif fate != "left out":
            said = {"id": str(1000 + at), "properties": {"email": f"person{at}@x.io"}, "new": fate == "created"}
            results.append(said | ({"objectWriteTraceId": str(at)} if echoes else {}))
    results += [{"id": str(9000 + n), "properties": {"email": f"who{n}@x.io"}} for n in range(strangers)]
    random.shuffle(results)
    groups = [refused] if together and refused else [[at] for at in refused]
    errors = [
        {"category": "VALIDATION_ERROR", "message": "no", "context": {"objectWriteTraceId": [str(at) for at in group]}}
        for group in groups
    ]
    random.shuffle(errors)

    reading = read(call, Answer(207, {}, json.dumps({"results": results, "errors": errors}).encode()))

    told = {at: fate for at, fate in zip(positions, fates, strict=True) if fate in ("created", "updated")}
    assert {at: ("created" if result["new"] else "updated") for at, result in reading.results.items()} == told
    assert all(result["id"] == str(1000 + at) for at, result in reading.results.items())
    assert sorted(reading.faults) == refused
    assert reading.empty == (not results and not errors)


# --- a whole HubSpot -------------------------------------------------------------------------------------------------

SEATS = Field("seats", FieldType.NUMBER)
BAD = 13  # a number of seats that this HubSpot takes for no valid one


@dataclass(frozen=True)
class Habits:
    """How an account answers. Whatever it is like, it only says of a row what it did with it, or nothing."""

    traces: bool  # errors name the rows by trace id; without, one bad row fails its request
    echoes: bool  # results carry the trace id
    together: bool  # one error for all rows that it fits
    values: bool  # a refusal of a whole request quotes the values it is about
    status: int  # of a success with errors in it
    forgets: float  # how often a row that was written is left out of the answer
    contradicts: float  # how often a row that was written is also complained of
    races: float  # how often an upsert is told that its record is there already
    strangers: int
    empty: int  # so many first answers name nobody


HABITS = st.builds(
    Habits,
    traces=st.booleans(),
    echoes=st.booleans(),
    together=st.booleans(),
    values=st.booleans(),
    status=st.sampled_from([200, 207]),
    forgets=st.sampled_from([0.0, 0.3, 1.0]),
    contradicts=st.sampled_from([0.0, 0.3]),
    races=st.sampled_from([0.0, 0.5]),
    strangers=st.integers(0, 2),
    empty=st.integers(0, 1),
)


class Account:
    """Contacts by id, and what is done with a request for them."""

    def __init__(self, habits: Habits, random: Random) -> None:
        self.habits = habits
        self.random = random
        self.records: dict[str, dict[str, str]] = {}
        self.empty_left = habits.empty

    def add(self, email: str) -> str:
        record_id = str(100 + len(self.records))
        self.records[record_id] = {"email": email.lower()}
        return record_id

    def id_of(self, email: str) -> str | None:
        return next((id for id, record in self.records.items() if record["email"] == email.strip().lower()), None)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            found = self.id_of(unquote(request.url.path.rpartition("/")[2]))
            return httpx.Response(200, json={"id": found}) if found else refused("resource not found", status=404)
        inputs, verb = json.loads(request.content)["inputs"], request.url.path.rpartition("/")[2]
        if self.empty_left:
            self.empty_left -= 1
            return httpx.Response(200, json={"results": [], "errors": []})
        if not self.habits.traces and (bad := [each for each in inputs if is_bad(each)]):
            return refused(invalid(*(self.complaint(each) for each in bad)))
        results: list[dict[str, Any]] = []
        errors: list[tuple[str, str, dict[str, Any]]] = []
        for each in inputs:
            self.write(verb, each, results, errors)
        return self.said(results, errors)

    def write(self, verb: str, each: Any, results: list[Any], errors: list[Any]) -> None:
        trace, email = each["objectWriteTraceId"], each["properties"].get("email", "")
        own = each["id"] if "id" in each and "idProperty" not in each else self.id_of(each.get("id", email))
        if is_bad(each):
            errors.append((trace, "VALIDATION_ERROR", {"message": invalid(self.complaint(each))}))
        elif verb == "update" and own not in self.records:
            errors.append((each["id"], "OBJECT_NOT_FOUND", {"message": "Could not get some CONTACT objects"}))
        elif own is not None and (verb == "create" or (verb == "upsert" and self.chance(self.habits.races))):
            said = {"message": f"Contact already exists. Existing ID: {own}"}
            errors.append((trace, "CONFLICT", said))
        else:
            record_id = own or self.add(email)
            self.records[record_id] |= each["properties"] | {"email": self.records[record_id]["email"]}
            result = {"id": record_id, "properties": {"email": self.records[record_id]["email"]}, "new": own is None}
            results.append(result | ({"objectWriteTraceId": trace} if self.habits.echoes else {}))
            if self.chance(self.habits.contradicts):
                errors.append((trace, "VALIDATION_ERROR", {"message": "or perhaps not"}))

    def said(self, results: list[dict[str, Any]], errors: list[tuple[str, str, dict[str, Any]]]) -> httpx.Response:
        told_of = [result for result in results if not self.chance(self.habits.forgets)]
        results = told_of + [record(f"9{n}", True, email=f"who{n}@else.io") for n in range(self.habits.strangers)]
        self.random.shuffle(results)
        groups: dict[tuple[str, str], list[str]] = {}
        for at, (name, category, said) in enumerate(errors):
            one = "" if self.habits.together and category != "CONFLICT" else str(at)
            groups.setdefault((category, said["message"] if one == "" else said["message"] + "\n" + one), []).append(
                name
            )
        told = [
            {
                "category": category,
                "message": message.partition("\n")[0],
                "context": {"ids" if category == "OBJECT_NOT_FOUND" else "objectWriteTraceId": names},
            }
            for (category, message), names in groups.items()
        ]
        self.random.shuffle(told)
        status = self.habits.status if told else 200
        return httpx.Response(status, json={"results": results, "errors": told, "numErrors": len(told)})

    def complaint(self, each: Any) -> dict[str, Any]:
        quoted = {"propertyValue": str(BAD)} if self.habits.values else {}
        return {"message": "not a valid number.", "error": "INVALID_INTEGER", "name": "seats", **quoted}

    def chance(self, share: float) -> bool:
        return self.random.random() < share


def is_bad(each: Any) -> bool:
    return bool(each["properties"].get("seats") == str(BAD))


def delivered(account: Account, sent: Batch) -> dict[str, tuple[Verdict, str | None]]:
    """Each row's verdict and record id, as it was recorded, by key."""
    told: dict[str, tuple[Verdict, str | None]] = {}

    async def record_outcomes(parcel: Parcel, outcomes: Outcomes) -> None:
        assert len(outcomes) == len(parcel.batch)
        assert set(outcomes.refusals) == set(outcomes.places(Verdict.REJECTED))
        for at, key in enumerate(parcel.batch.keys.to_pylist()):
            assert key not in told, "a row has two verdicts"
            told[key] = (outcomes.verdicts[at], outcomes.record_ids[at])

    async def scenario() -> None:
        script = Script()
        script.answer = account.answer  # type: ignore[method-assign]
        hubspot = script.destination()
        parcel = Parcel(sent, pa.array(range(len(sent)), pa.uint64()), again=False)
        await deliver(iter([[parcel]]), hubspot, record_outcomes, Stop(), slots=1)
        await hubspot.aclose()

    anyio.run(scenario)
    return told


@settings(max_examples=100, deadline=None)
@given(
    habits=HABITS,
    seats=st.lists(st.sampled_from([1, 2, 3, BAD]), min_size=1, max_size=9),
    operation=st.sampled_from([Operation.UPSERT, Operation.UPDATE, Operation.CREATE]),
    there=st.sets(st.integers(0, 8)),
    gone=st.sets(st.integers(0, 8)),
    random=st.randoms(use_true_random=False),
)
def test_P21_whatever_hubspot_is_like_a_row_has_one_verdict_and_what_is_claimed_is_written(
    *, habits: Habits, seats: list[int], operation: Operation, there: set[int], gone: set[int], random: Random
) -> None:
    emails = [f"Person{at}@X.io" for at in range(len(seats))]
    account = Account(habits, random)
    ids = [account.add(email) if at in there else None for at, email in enumerate(emails)]
    updating = operation is Operation.UPDATE
    if updating:  # every row remembers a record, and some of these are gone
        ids = ["404" if at in gone else account.add(email) for at, email in enumerate(emails)]
    before = {id: dict(properties) for id, properties in account.records.items()}
    sent = batch(operation, {EMAIL: emails, SEATS: seats}, record_ids=ids if updating else None)

    told = delivered(account, replace(sent, recreates=False))

    assert [*told] == [f"k{at}" for at in range(len(seats))]
    for at, (verdict, record_id) in enumerate(told.values()):
        now = account.records.get(record_id or "", {})
        if verdict in (Verdict.CREATED, Verdict.UPDATED):
            assert (now["email"], now["seats"]) == (emails[at].lower(), str(seats[at]))
        elif verdict is Verdict.SKIPPED:
            assert operation is Operation.CREATE and now["email"] == emails[at].lower()
        elif verdict is Verdict.REJECTED and seats[at] != BAD and not habits.contradicts:
            assert updating and ids[at] == "404"
        if seats[at] == BAD:
            assert verdict in (Verdict.REJECTED, Verdict.NO_ANSWER)
            assert account.records.get(ids[at] or "") == before.get(ids[at] or "")
        elif not (habits.forgets or habits.contradicts):
            assert verdict is not Verdict.NO_ANSWER
