"""Describe and find: an object's fields in our words, records read back."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.destinations.salesforce import Salesforce
from reverse_etl.destinations.salesforce.schema import field_of
from reverse_etl.destinations.salesforce.soql import MOST_BYTES, queries
from reverse_etl.errors import DestinationError, InDoubt, PluginError
from reverse_etl.model import Field, FieldType, ObjectSchema, Operation
from reverse_etl.protocols import OTHERS
from tests.unit.destinations.salesforce.org import DATA, FIELDS, Org, batch, refused

TEXT = {"type": "string", "length": 80, "createable": True, "updateable": True, "nillable": True}


def told(name: str, **settings: Any) -> dict[str, Any]:
    return {"name": name, "label": name.title(), **TEXT, **settings}


LEAD: dict[str, Any] = {
    "name": "Lead",
    "createable": True,
    "updateable": True,
    "deletable": False,
    "fields": [
        told("Id", type="id", length=18, nillable=False, createable=False, updateable=False, idLookup=True),
        told("External_Id__c", externalId=True, idLookup=True, unique=True, caseSensitive=False),
        told("Score__c", type="double", length=0, precision=18, scale=2),
        told("Number__c", type="double", length=0, precision=18, scale=0, unique=True, externalId=True),
    ],
}


async def describe(salesforce: Salesforce) -> ObjectSchema:
    await salesforce.describe("Lead")
    return await salesforce.describe("lead")


def test_an_object_is_found_in_any_case_described_once_and_spelled_as_salesforce_spells_it() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/sobjects/Lead/describe", LEAD)
    schema = org.use(describe)
    assert schema.name == "Lead"
    assert list(schema.fields) == ["Id", "External_Id__c", "Score__c", "Number__c"]
    assert len(org.asked) == 2


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Field("x", FieldType.TEXT, label="X", max_length=80)),
        ({"length": 0}, Field("x", FieldType.TEXT, label="X")),
        (
            {"unique": True, "externalId": True, "caseSensitive": False},
            Field("x", FieldType.TEXT, label="X", identifies=True, folds_case=True, max_length=80),
        ),
        (
            {"unique": True, "externalId": True, "caseSensitive": True},
            Field("x", FieldType.TEXT, label="X", identifies=True, max_length=80),
        ),
        ({"externalId": True}, Field("x", FieldType.TEXT, label="X", max_length=80)),
        (
            {"unique": True, "caseSensitive": True},  # no upsert finds a record by it
            Field("x", FieldType.TEXT, label="X", max_length=80),
        ),
        (
            {"nillable": False, "defaultedOnCreate": False},
            Field("x", FieldType.TEXT, label="X", required_on_create=True, clearable=False, max_length=80),
        ),
        (
            {"type": "boolean", "length": 0, "nillable": False, "defaultedOnCreate": True},
            Field("x", FieldType.BOOLEAN, label="X", clearable=False),
        ),
        (
            {"type": "int", "length": 0, "digits": 8},
            Field("x", FieldType.INTEGER, label="X", digits=8, scale=0),
        ),
        (
            {"type": "currency", "length": 0, "precision": 18, "scale": 2},
            Field("x", FieldType.NUMBER, label="X", digits=18, scale=2),
        ),
        (
            {
                "type": "picklist",
                "restrictedPicklist": True,
                "picklistValues": [
                    {"active": True, "label": "Hot!", "value": "Hot"},
                    {"active": False, "label": "Cold", "value": "Cold"},
                ],
            },
            Field("x", FieldType.CHOICE, label="X", options=("Hot",), max_length=80),
        ),
        (
            {"type": "multipicklist", "restrictedPicklist": False, "picklistValues": [{"active": True, "value": "A"}]},
            Field("x", FieldType.CHOICES, label="X"),
        ),
        ({"type": "reference", "length": 18}, Field("x", FieldType.REFERENCE, label="X")),
        ({"updateable": False}, Field("x", FieldType.TEXT, label="X", max_length=80, create_only=True)),
        ({"type": "datetime", "length": 0}, Field("x", FieldType.DATETIME, label="X")),
    ],
)
def test_a_field_is_told_in_our_words(settings: dict[str, Any], expected: Field) -> None:
    assert field_of(told("x", **settings)) == expected


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"calculated": True}, "formula"),
        ({"autoNumber": True}, "assigns"),
        ({"type": "address"}, "map its parts"),
        ({"type": "base64"}, "file"),
        ({"createable": False, "updateable": False}, "field-level security"),
        ({"createable": False}, "only once a record exists"),
    ],
)
def test_a_field_that_can_not_be_written_says_why(settings: dict[str, Any], reason: str) -> None:
    assert reason in (field_of(told("x", **settings)).read_only or "")


def test_an_unknown_object_is_refused_with_the_nearest_name() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/sobjects/Leads/describe", refused(404, "NOT_FOUND"))
    org.tell("GET", f"{DATA}/sobjects", {"sobjects": [{"name": "Account"}, {"name": "Lead"}]})

    async def unknown(salesforce: Salesforce) -> None:
        await salesforce.describe("Leads")

    with pytest.raises(DestinationError, match=r"no object 'Leads'.*did you mean 'Lead'") as caught:
        org.use(unknown)
    assert caught.value.code == "destination_object"


def test_a_name_that_could_be_none_is_never_put_into_an_address() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/sobjects", {"sobjects": []})

    async def odd(salesforce: Salesforce) -> None:
        await salesforce.describe("../Lead")

    with pytest.raises(DestinationError, match="no object"):
        org.use(odd)


def test_a_description_that_can_not_be_read_is_no_description() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/sobjects/Lead/describe", {"fields": None})
    with pytest.raises(InDoubt, match="not a description"):
        org.use(describe)


def test_a_write_that_the_user_has_no_right_to_is_refused_before_any_call() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/sobjects/Lead/describe", LEAD)

    async def remove(salesforce: Salesforce) -> None:
        await salesforce.describe("Lead")
        await salesforce.write(batch(Operation.REMOVE, {"External_Id__c": ["a"]}, ids=["00Q000000000001"]))

    with pytest.raises(DestinationError, match="may not delete Lead records"):
        org.use(remove)


# --- find ----------------------------------------------------------------------------------------------------------


def find(org: Org, values: list[str], match: str = "External_Id__c") -> dict[str, dict[str, object]]:
    async def scenario(salesforce: Salesforce) -> dict[str, dict[str, object]]:
        return await salesforce.find("Lead", match, values, ["Score__c"])

    org.tell("GET", f"{DATA}/sobjects/Lead/describe", LEAD)
    return org.use(scenario)


def test_records_are_found_by_the_values_as_they_were_sent_whatever_their_case_there() -> None:
    org = Org()
    record = {"attributes": {"type": "Lead"}, "Id": "1", "External_Id__c": "ADA", "Score__c": 7}
    org.tell("GET", f"{DATA}/query", {"totalSize": 1, "done": True, "records": [record]})
    assert find(org, ["Ada", "bob", "Ada"]) == {"Ada": {"id": "1", "Score__c": 7}}
    assert org.queries() == ["SELECT Id, External_Id__c, Score__c FROM Lead WHERE External_Id__c IN ('Ada','bob')"]


def test_a_value_that_finds_several_records_gives_the_first_and_names_the_others() -> None:
    org = Org()
    records = [{"Id": id, "Score__c": 7, "Number__c": 1} for id in ("3", "1", "2")]
    org.tell("GET", f"{DATA}/query", {"totalSize": 3, "done": True, "records": records})
    assert find(org, ["1"], "Number__c") == {"1": {"id": "1", "Score__c": 7, OTHERS: ["2", "3"]}}


def test_a_number_stands_bare_and_is_found_in_any_spelling() -> None:
    org = Org()
    record = {"Id": "1", "Number__c": 1.2e7, "Score__c": None}
    org.tell("GET", f"{DATA}/query", {"totalSize": 1, "done": True, "records": [record]})
    assert find(org, ["12000000", "not a number"], "Number__c") == {"12000000": {"id": "1", "Score__c": None}}
    assert org.queries()[0].endswith("IN (12000000)")


def test_all_pages_of_a_result_are_read() -> None:
    org = Org()
    following = f"{DATA}/query/01g-2000"
    first = {"Id": "1", "External_Id__c": "a", "Score__c": 1}
    second = {"Id": "2", "External_Id__c": "b", "Score__c": 2}
    org.tell("GET", f"{DATA}/query", {"totalSize": 2, "done": False, "records": [first], "nextRecordsUrl": following})
    org.tell("GET", following, {"totalSize": 2, "done": True, "records": [second]})
    assert find(org, ["a", "b"]) == {"a": {"id": "1", "Score__c": 1}, "b": {"id": "2", "Score__c": 2}}


def test_a_refused_query_never_shows_the_values_it_asked_for() -> None:
    org = Org()
    words = (
        "\nSELECT Id FROM Lead WHERE External_Id__c IN ('canary@x.io')\n   ^\n"
        "ERROR at Row:1:Column:12\nNo such column 'External_Id__c' on entity 'Lead'."
    )
    org.tell("GET", f"{DATA}/query", refused(400, "INVALID_FIELD", words))
    with pytest.raises(DestinationError, match="No such column 'External_Id__c'") as caught:
        find(org, ["canary@x.io"])
    assert "canary" not in str(caught.value)


def test_a_query_answered_with_no_result_is_no_answer() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/query", httpx.Response(200, json={"records": None}))
    with pytest.raises(InDoubt, match="not one"):
        find(org, ["a"])


def test_quotes_and_control_characters_can_not_leave_their_literal() -> None:
    (query,) = queries("Lead", FIELDS["External_Id__c"], ["x') OR (Name != '\\", "line\nbreak"])
    assert query.endswith(r"IN ('x\') OR (Name != \'\\','line\nbreak')")


def test_a_field_name_that_is_none_is_a_bug() -> None:
    with pytest.raises(PluginError, match="not the name"):
        list(queries("Lead", FIELDS["External_Id__c"], ["a"], ["Name FROM User --"]))


@given(st.lists(st.text(max_size=300), max_size=200))
def test_packed_queries_ask_for_every_value_within_the_length_of_a_url(values: list[str]) -> None:
    packed = list(queries("Lead", FIELDS["External_Id__c"], values))
    alone = [next(queries("Lead", FIELDS["External_Id__c"], [value])) for value in values]
    literals = [query.partition(" IN (")[2][:-1] for query in alone]
    assert ",".join(query.partition(" IN (")[2][:-1] for query in packed) == ",".join(literals)
    assert all(len(quote(query, safe="")) <= MOST_BYTES + len(quote(")")) for query in packed)
    assert all(query.startswith("SELECT Id, External_Id__c FROM Lead WHERE External_Id__c IN (") for query in packed)
