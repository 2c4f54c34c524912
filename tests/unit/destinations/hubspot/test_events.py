"""Custom events by hand-written answers: definitions, ids, envelopes, refusals."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.destinations.hubspot.events import ENVELOPE, LIMITS, event_id
from reverse_etl.errors import AuthError, BatchRefused, DestinationError
from reverse_etl.model import Batch, Field, FieldType, ObjectSchema, Operation
from reverse_etl.verdicts import Verdict
from tests.unit.destinations.hubspot.script import Script, answer, batch, refused

NAME = "pe123_opened"
EMAIL, AT = ENVELOPE["email"], ENVELOPE["occurredAt"]
SEATS = Field("seats", FieldType.NUMBER)
TYPED = Field("properties.email", FieldType.TEXT)


def definition(name: str, *properties: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "fullyQualifiedName": f"pe123_{name}", "properties": [*properties]}


def definitions(*names: str, after: str | None = None) -> httpx.Response:
    body: dict[str, Any] = {"results": [definition(name) for name in names]}
    return httpx.Response(200, json=body | ({"paging": {"next": {"after": after}}} if after else {}))


def described(script: Script, object: str) -> ObjectSchema:
    return script.run(lambda hubspot: hubspot.describe(object))


def events(columns: dict[Field, list[Any]]) -> Batch:
    return replace(batch(Operation.APPEND, columns, object=NAME, match=""), sync="opened")


def test_definitions_are_read_page_by_page() -> None:
    script = Script(definitions("closed", after="2"), definitions("opened"))
    assert described(script, "pe123_opened").name == NAME
    assert [dict(request.url.params).get("after") for request in script.asked] == [None, "2"]
    assert all(request.url.params["includeProperties"] == "true" for request in script.asked)


def test_a_definition_tells_its_fields_and_their_sizes() -> None:
    script = Script(
        httpx.Response(
            200,
            json={
                "results": [
                    definition(
                        "opened",
                        {"name": "seats", "type": "number", "fieldType": "number"},
                        {"name": "note", "type": "string", "fieldType": "text"},
                        {"name": "hs_referrer", "type": "string", "fieldType": "text"},
                        {"name": "utk", "type": "string", "fieldType": "text"},
                        {"name": "old", "type": "string", "fieldType": "text", "archived": True},
                        {"name": "plan", "type": "enumeration", "options": [{"label": "Pro", "value": "pro"}]},
                        {"label": "nameless"},
                    )
                ]
            },
        )
    )
    schema = described(script, NAME)
    assert (schema.modes, schema.needs_one_of) == (frozenset({"append"}), ("email", "objectId", "utk"))
    sizes = {name: field.max_length for name, field in schema.fields.items() if field.max_length}
    assert sizes == {"note": 256, "hs_referrer": 1024, "properties.utk": 256, "old": 256}
    assert schema.fields["old"].read_only is not None
    assert schema.fields["plan"].options == ("pro",)
    assert {*schema.fields} > {"email", "objectId", "utk", "occurredAt", "seats"}


def test_an_account_without_events_says_what_they_need() -> None:
    script = Script(refused("This feature is not part of your plan", status=403, category=None))
    with pytest.raises(AuthError) as failure:
        described(script, NAME)
    assert "Enterprise" in str(failure.value.hint)
    assert "analytics.behavioral_events.send" in str(failure.value.hint)


def test_a_plain_name_costs_no_error_where_events_cannot_be_seen() -> None:
    no_objects, no_events = answer(), refused("not part of your plan", status=403, category=None)
    properties = answer(results=[{"name": "subject", "type": "string", "fieldType": "text"}])
    assert "subject" in described(Script(no_objects, no_events, properties), "quotes").fields


def test_a_name_that_is_nothing_offers_the_nearest_event_too() -> None:
    nothing = refused("resource not found", status=404, category=None)
    script = Script(answer(), definitions("workspace_created"), nothing, answer())
    with pytest.raises(DestinationError) as failure:
        described(script, "workspace_craeted")
    assert (failure.value.code, failure.value.hint) == ("destination_object", "did you mean 'workspace_created'?")


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (["opened"], "did you mean 'pe123_opened'?"),
        (["sold", "bought"], "there are pe123_sold, pe123_bought"),
        ([], "define it in HubSpot first"),
    ],
)
def test_a_full_name_that_is_not_there_offers_what_is(names: list[str], hint: str) -> None:
    with pytest.raises(DestinationError) as failure:
        described(Script(definitions(*names)), "pe123_opend")
    assert hint in str(failure.value.hint)


def test_an_event_carries_its_name_its_id_its_envelope_and_text_properties() -> None:
    script = Script(httpx.Response(204))
    at = datetime(2026, 11, 23, 2, 0, 0, 120_999, UTC)
    sent = events({EMAIL: ["ada@x.io", "bo@x.io"], AT: [at, None], SEATS: [3, None], TYPED: ["typo", None]})
    outcomes = script.run(lambda hubspot: hubspot.write(sent))
    assert outcomes.verdicts == [Verdict.CREATED] * 2
    assert script.paths() == ["/events/custom/2026-09/send/batch"]
    assert script.bodies()[0]["inputs"] == [
        {
            "eventName": NAME,
            "uuid": event_id("opened", "k0"),
            "email": "ada@x.io",
            "occurredAt": "2026-11-23T02:00:00.120Z",
            "properties": {"seats": "3", "email": "typo"},
        },
        {"eventName": NAME, "uuid": event_id("opened", "k1"), "email": "bo@x.io", "properties": {}},
    ]


def test_a_refusal_of_many_is_left_to_be_halved_and_of_one_is_its_verdict() -> None:
    said = refused("Property value is too long", status=400)
    many, one = events({EMAIL: ["a@x.io", "b@x.io"]}), events({EMAIL: ["a@x.io"]})
    with pytest.raises(BatchRefused):
        Script(said).run(lambda hubspot: hubspot.write(many))
    outcomes = Script(said).run(lambda hubspot: hubspot.write(one))
    assert outcomes.verdicts == [Verdict.REJECTED]
    refusal = outcomes.refusals[0]
    assert (refusal.code, refusal.message, refusal.request_id) == (
        "VALIDATION_ERROR",
        "Property value is too long",
        "c-9",
    )


def test_events_go_out_five_hundred_a_call() -> None:
    hubspot = Script().destination()
    assert hubspot.limits(NAME, Operation.APPEND, 10**6) == LIMITS
    assert LIMITS.batch_size == 500


# --- ids -------------------------------------------------------------------------------------------------------------


def test_an_events_id_never_changes_between_releases() -> None:
    assert event_id("workspaces", "ws_1") == "7d743bfc-5258-58b4-b089-5906067f15ba"


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_two_events_never_share_an_id(one: tuple[str, str], other: tuple[str, str]) -> None:
    names_are_files = "\n" not in one[0] + other[0]
    assert uuid.UUID(event_id(*one)).version == 5
    if names_are_files:
        assert (event_id(*one) == event_id(*other)) == (one == other)
