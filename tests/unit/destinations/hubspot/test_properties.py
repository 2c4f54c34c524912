"""New properties: where they go, what they are, and what becomes of each."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reverse_etl.destinations.hubspot import HubSpot
from reverse_etl.errors import AuthError, InDoubt
from reverse_etl.model import Field, FieldType
from reverse_etl.protocols import Destination, FieldMaker, NewField
from reverse_etl.verdicts import Refusal
from tests.unit.destinations.hubspot.script import Script, refused

SEATS = NewField("seats", "Seats", "number", "number", "contactinformation")
PAYING = NewField("paying", "Paying", "bool", "booleancheckbox", "contactinformation", unique=False)
CODE = NewField("code", "Code", "string", "text", "contactinformation", unique=True)
MADE = httpx.Response(201, json={"name": "x"})


def listing(**groups: str) -> httpx.Response:
    properties = [{"name": name, "type": "string", "fieldType": "text", "groupName": groups[name]} for name in groups]
    return httpx.Response(200, json={"results": properties})


def drafted(answer: httpx.Response, *fields: Field, object: str = "contacts") -> list[NewField]:
    return Script(answer).run(lambda hubspot: hubspot.draft_fields(object, fields))


def made(*steps: httpx.Response | Exception, fields: Any = (CODE, SEATS)) -> tuple[dict[str, Refusal], list[Any]]:
    script = Script(*steps)
    refusals = script.run(lambda hubspot: hubspot.make_fields("contacts", fields))
    assert set(script.paths()) == {"/crm/properties/2026-09/contacts"}
    return refusals, script.bodies()


def test_it_is_a_destination_in_which_fields_can_be_made() -> None:
    hubspot: Destination = Script().destination()
    assert isinstance(hubspot, FieldMaker)


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        (FieldType.TEXT, ("string", "text")),
        (FieldType.NUMBER, ("number", "number")),
        (FieldType.BOOLEAN, ("bool", "booleancheckbox")),
        (FieldType.DATE, ("date", "date")),
        (FieldType.DATETIME, ("datetime", "date")),
        (FieldType.OTHER, ("string", "text")),
    ],
)
def test_a_field_becomes_a_property_of_its_type(type: FieldType, expected: tuple[str, str]) -> None:
    (draft,) = drafted(listing(email="contactinformation"), Field("app_plan", type, identifies=True))
    assert (draft.type, draft.control) == expected
    assert (draft.label, draft.group, draft.unique, draft.impossible) == ("App plan", "contactinformation", True, None)


@pytest.mark.parametrize(
    ("object", "groups", "expected"),
    [
        ("contacts", {"a": "other", "b": "other", "c": "contactinformation"}, "contactinformation"),
        ("0-2", {"a": "other", "b": "companyinformation"}, "companyinformation"),
        ("deals", {"a": "own", "b": "own", "c": "rest"}, "own"),
        ("2-3456", {"a": "car_information", "b": "car_information", "c": "rest"}, "car_information"),
        ("contacts", {}, "contactinformation"),
    ],
)
def test_it_goes_to_the_main_group_else_where_most_are(object: str, groups: dict[str, str], expected: str) -> None:
    (draft,) = drafted(listing(**groups), Field("plan", FieldType.TEXT), object=object)
    assert draft.group == expected


@pytest.mark.parametrize("name", ["Plan", "1st", "my-plan", "größe", "_plan", "p" * 101])
def test_a_name_that_hubspot_can_not_have_says_so(name: str) -> None:
    (draft,) = drafted(listing(), Field(name, FieldType.TEXT))
    assert "small letters" in str(draft.impossible)


def test_each_is_made_by_a_call_of_its_own_and_a_checkbox_with_its_two_options() -> None:
    refusals, bodies = made(MADE, MADE, fields=(CODE, PAYING))
    assert refusals == {}
    assert bodies[0] == {
        "name": "code",
        "label": "Code",
        "groupName": "contactinformation",
        "type": "string",
        "fieldType": "text",
        "hasUniqueValue": True,
        "options": [],
    }
    assert [option["value"] for option in bodies[1]["options"]] == ["true", "false"]


def test_a_refused_one_says_why_and_the_others_are_made() -> None:
    exists = refused("A property named 'code' already exists.", status=409, category="OBJECT_ALREADY_EXISTS")
    refusals, bodies = made(exists, MADE)
    assert refusals == {
        "code": Refusal("OBJECT_ALREADY_EXISTS", "A property named 'code' already exists.", "c-9"),
    }
    assert len(bodies) == 2


def test_a_lost_answer_is_not_sent_again() -> None:
    with pytest.raises(InDoubt):
        made(httpx.ReadError("cut"))


def test_a_missing_scope_stops_all() -> None:
    scopes = [{"message": "required", "context": {"requiredGranularScopes": ["crm.schemas.contacts.write"]}}]
    script = Script(refused("not granted", status=403, category="MISSING_SCOPES", errors=scopes))
    with pytest.raises(AuthError, match=r"crm\.schemas\.contacts\.write"):
        script.run(lambda hubspot: HubSpot.make_fields(hubspot, "contacts", (CODE, SEATS)))
