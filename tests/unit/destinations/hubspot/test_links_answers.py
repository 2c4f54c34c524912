"""HubSpot's answers about associations, by hand: whose link each part of one is about, and what is asked next."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx
import pyarrow as pa
import pytest

from reverse_etl.destinations.hubspot import HubSpot
from reverse_etl.errors import AuthError, DestinationError
from reverse_etl.model import Batch, Field, FieldType, Operation, Parent
from reverse_etl.verdicts import Refusal, Verdict
from tests.unit.destinations.hubspot.script import Script, answer, fault, refused

DOMAIN = Parent("domain", "companies")
BY_ID = Parent("hs_object_id", "companies")
PRIMARY = {"category": "HUBSPOT_DEFINED", "typeId": 1, "label": "Primary"}
PLAIN = {"category": "HUBSPOT_DEFINED", "typeId": 279, "label": None}
VIP = {"category": "USER_DEFINED", "typeId": 36, "label": "VIP"}


def schema() -> httpx.Response:
    fields = [("domain", "string"), ("seats", "number"), ("hs_object_id", "string")]
    return answer([{"name": name, "type": type, "fieldType": "text", "label": name} for name, type in fields])


def labels(*kinds: Mapping[str, Any]) -> httpx.Response:
    return answer(kinds or [PLAIN, PRIMARY, VIP])


def links(
    ids: Sequence[str], new: Sequence[object], old: Sequence[object] | None = None, parent: Parent = BY_ID
) -> Callable[[HubSpot], Awaitable[dict[int, Refusal]]]:
    field = Field("company", FieldType.REFERENCE, parent=parent)
    batch = Batch(
        object="contacts",
        operation=Operation.UPDATE,
        match="email",
        fields=(field,),
        rows=pa.RecordBatch.from_pydict({"company": pa.array(new)}),
        keys=pa.array([str(at) for at in range(len(ids))]),
        record_ids=pa.array(ids, pa.string()),
        linked=None if old is None else pa.RecordBatch.from_pydict({"company": pa.array(old, pa.string())}),
    )

    async def scenario(hubspot: HubSpot) -> dict[int, Refusal]:
        return await hubspot.link(batch, ids)

    return scenario


def plain(source: object, target: object) -> dict[str, Any]:
    return {"from": {"id": source}, "to": {"id": target}, "associationSpec": {}}


def codes(refused: Mapping[int, Refusal]) -> dict[int, str]:
    return {at: reason.code for at, reason in refused.items()}


# --- made ------------------------------------------------------------------------------------------------------------


def test_results_are_matched_by_both_ids_in_any_order_as_numbers_too() -> None:
    script = Script(schema(), labels(), answer([plain(8, 78), plain(78, 8), plain("7", "77")]))
    assert script.run(links(["7", "8"], ["77", "78"])) == {}
    assert script.paths()[-1] == "/crm/associations/2026-09/contacts/companies/batch/associate/default"
    ends = [({"id": "7"}, {"id": "77"}), ({"id": "8"}, {"id": "78"})]
    assert script.bodies()[-1] == {"inputs": [{"from": source, "to": target} for source, target in ends]}


def test_an_id_that_a_contact_and_a_company_share_blames_no_link_that_was_made() -> None:
    error = fault("no such company", category="OBJECT_NOT_FOUND", id=["77"])
    made = answer([plain("77", "5")], [error])
    nothing = answer(errors=[fault("none", category="OBJECT_NOT_FOUND", ids=["77"])])
    gone = httpx.Response(404, json={"message": "resource not found"})
    script = Script(schema(), labels(), made, answer([{"id": "7", "properties": {}}]), nothing, gone)
    assert codes(script.run(links(["77", "7"], ["5", "77"]))) == {1: "link_waiting"}


def test_two_rows_with_one_link_share_its_fate() -> None:
    error = fault("too many", category="LIMIT_EXCEEDED", fromObjectId=["7"], toObjectId=["77"])
    script = Script(schema(), labels(), answer([], [error]))
    found = script.run(links(["7", "7"], ["77", "77"]))
    assert codes(found) == {0: "LIMIT_EXCEEDED", 1: "LIMIT_EXCEEDED"}
    assert found[0].request_id == "c-7"
    assert len(script.bodies()[-1]["inputs"]) == 1


@pytest.mark.parametrize("status", [400, 404])
def test_a_request_refused_whole_is_halved_down_to_the_link_to_blame(status: int) -> None:
    def judge(request: httpx.Request) -> httpx.Response:
        pairs = [(each["from"]["id"], each["to"]["id"]) for each in json.loads(request.content)["inputs"]]
        if any(target == "99" for _, target in pairs):
            return refused("an id is wrong", status=status, category="VALIDATION_ERROR")
        return answer([plain(*pair) for pair in pairs])

    there = answer([{"id": "3", "properties": {}}])
    absent = answer(errors=[fault("none", category="OBJECT_NOT_FOUND", ids=["99"])])
    gone = httpx.Response(404, json={"message": "resource not found"})
    looks = [there, absent, gone] if status == 404 else []
    script = Script(schema(), labels(), *[judge] * 5, *looks)
    found = script.run(links(["1", "2", "3", "4"], ["77", "77", "99", "77"]))
    assert codes(found) == {2: "link_waiting" if status == 404 else "VALIDATION_ERROR"}


def test_what_the_answer_leaves_out_is_read_back_page_by_page() -> None:
    pages = [
        answer([{"from": {"id": 7}, "to": [{"toObjectId": 1}], "paging": {"next": {"after": "500"}}}]),
        answer([{"from": {"id": "7"}, "to": [{"toObjectId": 77, "associationTypes": [PLAIN]}]}]),
    ]
    script = Script(schema(), labels(), answer(), *pages)
    assert script.run(links(["7"], ["77"])) == {}
    assert script.bodies()[-2:] == [{"inputs": [{"id": "7"}]}, {"inputs": [{"id": "7", "after": "500"}]}]


def test_a_failure_while_links_are_made_says_which_old_ones_are_off() -> None:
    unknown = refused("the token was revoked meanwhile", status=401, category="INVALID_AUTHENTICATION")
    script = Script(schema(), labels(), httpx.Response(204), httpx.ReadError("cut"), unknown)
    with pytest.raises(AuthError) as failed:
        script.run(links(["7", "8"], ["77", None], ["70", "71"]))
    assert failed.value.answered is not None
    assert failed.value.answered.verdicts == [Verdict.REMOVED, Verdict.NO_ANSWER]


# --- taken off -------------------------------------------------------------------------------------------------------


def test_a_link_that_cant_be_taken_off_gets_no_successor_and_one_that_is_gone_is_off() -> None:
    errors = [
        fault("locked", category="FORBIDDEN", fromObjectId=["7"], toObjectId=["70"]),
        fault("gone", category="OBJECT_NOT_FOUND", fromObjectId=["8"], toObjectId=["71"]),
    ]
    script = Script(schema(), labels(), answer(errors=errors), answer([plain("8", "77")]))
    assert codes(script.run(links(["7", "8"], ["77", "77"], ["70", "71"]))) == {0: "FORBIDDEN"}
    assert script.paths()[-2].endswith("/batch/archive")
    assert script.bodies()[-1] == {"inputs": [{"from": {"id": "8"}, "to": {"id": "77"}}]}


def test_labels_of_others_are_sent_along_and_ours_alone_is_taken_off() -> None:
    held = answer(
        [
            {"from": {"id": "7"}, "to": [{"toObjectId": "77", "associationTypes": [PLAIN, VIP]}]},
            {"from": {"id": "8"}, "to": [{"toObjectId": "70", "associationTypes": [PLAIN, PRIMARY, VIP]}]},
            {"from": {"id": "9"}, "to": [{"toObjectId": "70", "associationTypes": [PLAIN, PRIMARY]}]},
        ]
    )
    created = {"fromObjectId": 7, "toObjectId": 77, "labels": ["VIP", "Primary"]}
    script = Script(schema(), labels(), held, httpx.Response(204), httpx.Response(204), answer([created]))
    parent = Parent("hs_object_id", "companies", " primary ")
    assert script.run(links(["7", "8", "9"], ["77", None, None], [None, "70", "70"], parent)) == {}
    types = [
        {"associationCategory": "USER_DEFINED", "associationTypeId": 36},
        {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1},
    ]
    assert [path.rpartition("batch/")[2] for path in script.paths()[3:]] == ["labels/archive", "archive", "create"]
    assert script.bodies()[3:] == [
        {"inputs": [{"from": {"id": "8"}, "to": {"id": "70"}, "types": types[1:]}]},
        {"inputs": [{"from": {"id": "9"}, "to": [{"id": "70"}]}]},
        {"inputs": [{"from": {"id": "7"}, "to": {"id": "77"}, "types": types}]},
    ]


def test_a_label_that_is_removed_while_a_run_goes_stops_it() -> None:
    wrong = refused("One or more association types don't fit")
    script = Script(schema(), labels(), answer(), wrong, labels(PLAIN))
    with pytest.raises(DestinationError, match="the label 'VIP' was removed from HubSpot") as stopped:
        script.run(links(["7"], ["77"], parent=Parent("hs_object_id", "companies", "VIP")))
    assert stopped.value.code == "destination_config"


# --- parents ---------------------------------------------------------------------------------------------------------


def test_search_is_paged_and_asked_once_a_run_for_each_value() -> None:
    def company(id: int, domain: str) -> dict[str, Any]:
        return {"id": str(id), "properties": {"domain": domain}}

    first = answer([company(1, "acme.io"), company(2, "globex.io")]).json() | {"paging": {"next": {"after": "200"}}}
    pages = [httpx.Response(200, json=first), answer([company(3, "Acme.IO")])]
    script = Script(schema(), labels(), *pages, answer([plain("8", "2")]), answer([plain("9", "2")]))

    async def twice(hubspot: HubSpot) -> list[dict[int, Refusal]]:
        batches = (
            links(["7", "8", "6"], ["ACME.io", "globex.io", " "], parent=DOMAIN),
            links(["9"], ["globex.io"], parent=DOMAIN),
        )
        return [await use(hubspot) for use in batches]

    found, again = script.run(twice)
    assert (codes(found), again) == ({0: "ambiguous_match"}, {})
    assert "1, 3" in found[0].message
    search = script.bodies()[2]
    assert search["filterGroups"][0]["filters"][0]["values"] == ["acme.io", "globex.io"]
    assert [body["after"] for body in script.bodies()[2:4]] == ["0", "200"]


def test_a_number_finds_its_parent_however_it_is_written() -> None:
    hits = answer([{"id": "5", "properties": {"seats": "12.50"}}])
    script = Script(schema(), labels(), hits, answer([plain("7", "5")]))
    assert script.run(links(["7"], [12.5], parent=Parent("seats", "companies"))) == {}


def test_searches_stay_below_the_length_that_hubspot_takes() -> None:
    seen: list[int] = []

    def search(request: httpx.Request) -> httpx.Response:
        seen.append(len(request.content))
        return answer()

    domains = [f"{'x' * 60}{number}.example.com" for number in range(100)] + ["y" * 4_000]
    script = Script(schema(), labels(), *[search] * 4)
    found = script.run(links([str(at) for at in range(101)], domains, parent=DOMAIN))
    assert (len(found), set(codes(found).values()), max(seen) <= 3_000) == (101, {"link_waiting"}, True)


# --- described -------------------------------------------------------------------------------------------------------


def described(*steps: httpx.Response, parent: Parent) -> DestinationError:
    script = Script(*steps)
    with pytest.raises(DestinationError) as caught:
        script.run(lambda hubspot: hubspot.describe_link("contacts", "company", parent))
    assert caught.value.code == "destination_config"
    return caught.value


def test_an_unknown_label_is_told_with_those_that_there_are() -> None:
    error = described(schema(), labels(), parent=Parent("domain", "companies", "Vips"))
    assert error.message == "from contacts to companies there is no label 'Vips'"
    assert (
        error.hint == "did you mean 'VIP'? the labels are: Primary, VIP; without `label` the plain association is made"
    )
    error = described(schema(), labels(PLAIN), parent=Parent("domain", "companies", "VIP"))
    assert error.hint is not None
    assert error.hint.startswith("there are no labels: make it in HubSpot")


def test_nothing_is_linked_to_a_list() -> None:
    told = {"list": {"listId": "15", "name": "VIPs", "objectTypeId": "0-1", "processingType": "MANUAL", "size": 1}}
    error = described(httpx.Response(200, json=told), schema(), parent=Parent("domain", "list:VIPs"))
    assert error.message == "list:VIPs has no records of its own to link to"


def test_objects_that_can_not_be_associated_are_refused() -> None:
    error = described(schema(), refused("no such pair", status=400), parent=DOMAIN)
    assert error.message == "HubSpot can't associate contacts with companies"


def test_what_a_link_may_be_is_asked_once_a_run() -> None:
    script = Script(schema(), labels())

    async def twice(hubspot: HubSpot) -> list[Field]:
        return [await hubspot.describe_link("contacts", name, DOMAIN) for name in ("company", "company")]

    assert [field.name for field in script.run(twice)] == ["company", "company"]
