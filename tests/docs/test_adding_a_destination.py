"""The example destination of the documentation works, and the page quotes it word for word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow as pa
import pytest

from examples.a_destination.beacon import Beacon, BeaconConfig
from reverse_etl.errors import AuthError, BatchRefused, DestinationError, ReverseEtlError
from reverse_etl.model import Batch, Field, FieldType, Operation
from reverse_etl.protocols import Opening
from reverse_etl.verdicts import Outcomes, Verdict
from tests.virtual_time import VirtualClock, run

ROOT = Path(__file__).parents[2]
FIELDS = (Field("email", FieldType.TEXT, identifies=True), Field("plan", FieldType.TEXT))


class Forgetful:
    """A memory for a destination that needs none."""

    def get(self, name: str) -> str | None:
        return None

    def put(self, name: str, value: str | None) -> None:
        raise AssertionError("nothing to remember")


class Service:
    """The service's side: people by e-mail, a token, and the one plan that it refuses."""

    def __init__(self, token: str = "secret") -> None:
        self.token = token
        self.people: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path}")
        if request.headers["authorization"] != f"Bearer {self.token}":
            return httpx.Response(401)
        match self.asked[-1]:
            case "GET /account":
                return httpx.Response(200, json={"id": 7})
            case "GET /people/fields":
                return httpx.Response(200, json=[{"name": field.name, "type": field.type} for field in FIELDS])
            case "PUT /people":
                return httpx.Response(200, json=[self.put(each) for each in reversed(orjson.loads(request.content))])
            case "DELETE /people":
                return httpx.Response(200, json={})
        return httpx.Response(404)

    def put(self, person: dict[str, Any]) -> dict[str, Any]:
        email = person["email"]
        if person.get("plan") == "gold":
            return {"email": email, "refused": "NO_SUCH_PLAN", "why": "gold is sold out"}
        new = email not in self.people
        self.people.setdefault(email, {}).update(person)
        return {"email": email, "id": f"p-{email}", "new": new}


def batch(operation: Operation, *rows: tuple[str, str | None]) -> Batch:
    emails, plans = [row[0] for row in rows], [row[1] for row in rows]
    return Batch(
        object="people",
        operation=operation,
        match="email",
        fields=FIELDS,
        rows=pa.record_batch({"email": pa.array(emails), "plan": pa.array(plans, pa.string())}),
        keys=pa.array(emails),
        record_ids=pa.array([f"p-{email}" for email in emails]),
    )


def beacon(service: Any, token: str = "secret") -> Beacon:
    config = BeaconConfig.model_validate({"token": token, "base_url": "http://127.0.0.1:1"})
    return Beacon(config, Opening("beacon", Forgetful(), VirtualClock()), transport=httpx.MockTransport(service))


def written(service: Any, sent: Batch) -> Outcomes:
    async def scenario() -> Outcomes:
        destination = beacon(service)
        try:
            return await destination.write(sent)
        finally:
            await destination.aclose()

    return run(scenario)


def test_every_row_gets_its_own_verdict_in_whatever_order_the_answer_comes() -> None:
    service = Service()
    service.people["old@x.io"] = {}
    outcomes = written(service, batch(Operation.UPSERT, ("old@x.io", "free"), ("bad@x.io", "gold"), ("new@x.io", None)))
    assert outcomes.verdicts == [Verdict.UPDATED, Verdict.REJECTED, Verdict.CREATED]
    assert outcomes.record_ids == ["p-old@x.io", None, "p-new@x.io"]
    assert outcomes.refusals[1].code == "NO_SUCH_PLAN"
    assert service.people == {"old@x.io": {"email": "old@x.io", "plan": "free"}, "new@x.io": {"email": "new@x.io"}}


def test_a_row_that_the_answer_leaves_out_stays_without_an_answer() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[{"email": "b@x.io", "id": "1", "new": True}, {"email": "z", "new": True}])

    outcomes = written(answer, batch(Operation.UPSERT, ("a@x.io", None), ("b@x.io", None)))
    assert outcomes.unanswered() == [0]


def test_a_removal_covers_every_row_of_the_request() -> None:
    service = Service()
    outcomes = written(service, batch(Operation.REMOVE, ("a@x.io", None), ("b@x.io", None)))
    assert outcomes.verdicts == [Verdict.REMOVED, Verdict.REMOVED]
    assert service.asked == ["DELETE /people"]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthError), (422, BatchRefused), (404, DestinationError)], ids=["401", "422", "404"]
)
def test_an_answer_becomes_an_error_named_by_what_to_do_next(status: int, kind: type[ReverseEtlError]) -> None:
    with pytest.raises(kind, match=str(status)):
        written(lambda request: httpx.Response(status), batch(Operation.UPSERT, ("a@x.io", None)))


def test_it_describes_its_one_object_and_its_account() -> None:
    async def scenario() -> tuple[str, list[str]]:
        destination = beacon(Service())
        schema = await destination.describe("people")
        with pytest.raises(DestinationError, match="no object 'planets'"):
            await destination.describe("planets")
        account = await destination.account()
        await destination.aclose()
        return account, [field.name for field in schema.fields.values() if field.identifies]

    assert run(scenario) == ("7", ["email"])


def test_the_page_quotes_the_example_word_for_word() -> None:
    code = (ROOT / "examples" / "a_destination" / "beacon.py").read_text()
    page = (ROOT / "docs" / "adding-a-destination.md").read_text()
    quoted = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert quoted
    assert [block for block in quoted if block not in code] == []


def test_the_example_is_short() -> None:
    code = (ROOT / "examples" / "a_destination" / "beacon.py").read_text()
    assert len(code.split("class Beacon:")[1].split("\n\n\ndef ")[0].strip().splitlines()) <= 64
