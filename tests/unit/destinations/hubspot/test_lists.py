"""List memberships by hand-written answers: which call, and which verdict for each thing that can come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from reverse_etl.errors import DestinationError, InDoubt
from reverse_etl.model import Batch, Operation
from reverse_etl.verdicts import Outcomes, Verdict
from tests.unit.destinations.hubspot.script import (
    EMAIL,
    RECORD_ID,
    Script,
    Step,
    answer,
    batch,
    record,
    refused,
)

ADA, BO = "ada@x.io", "bo@x.io"
OBJECT = "list:VIPs"


def found(processing: str = "MANUAL", **more: Any) -> httpx.Response:
    told = {"listId": "15", "name": "VIPs", "objectTypeId": "0-1", "processingType": processing, **more}
    return httpx.Response(200, json={"list": told})


def changed(**ids: list[Any]) -> httpx.Response:
    return httpx.Response(200, json=ids)


def write(*steps: Step, sent: Batch) -> tuple[Outcomes, Script]:
    script = Script(found(), *steps)
    return script.run(lambda hubspot: hubspot.write(sent)), script


def joining(*emails: str | None, ids: Sequence[str | None] | None = None) -> Batch:
    operation = Operation.UPDATE if ids else Operation.UPSERT
    sends = {"email": [True] * len(emails)} if ids else None
    return batch(operation, {EMAIL: emails}, object=OBJECT, record_ids=ids, sends=sends)


def leaving(*ids: str | None) -> Batch:
    return batch(Operation.REMOVE, {EMAIL: [ADA] * len(ids)}, object=OBJECT, record_ids=ids)


def people(**ids: str) -> httpx.Response:
    return answer([record(id, email=f"{name}@x.io") for name, id in ids.items()])


def verdicts(outcomes: Outcomes) -> list[str]:
    return [verdict.name for verdict in outcomes.verdicts]


# --- one call --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["recordsIdsAdded", "recordIdsAdded"])
def test_who_joined_is_created_who_was_in_updated_and_who_is_nobody_rejected(spelling: str) -> None:
    sent = joining(ADA, BO, "cy@x.io", "dee@x.io")
    told = httpx.Response(200, json={spelling: [7], "recordIdsRemoved": [], "recordIdsMissing": ["9"]})
    outcomes, script = write(people(ada="7", bo="8", cy="9"), told, sent=sent)
    assert verdicts(outcomes) == ["CREATED", "UPDATED", "REJECTED", "REJECTED"]
    assert outcomes.record_ids[:2] == ["7", "8"]
    assert {refusal.code for refusal in outcomes.refusals.values()} == {"missing_record"}
    assert script.paths()[-1] == "/crm/lists/2026-09/15/memberships/add"
    assert script.bodies()[-1] == ["7", "8", "9"]


def test_two_rows_of_one_record_are_one_member() -> None:
    read = answer([record("7", email=ADA, hs_additional_emails=BO)])
    outcomes, script = write(read, changed(recordsIdsAdded=["7"]), sent=joining(ADA, BO))
    assert (verdicts(outcomes), script.bodies()[-1]) == (["CREATED", "UPDATED"], ["7"])


def test_nobody_to_put_in_makes_no_call() -> None:
    outcomes, script = write(answer(), sent=joining(ADA))
    assert (verdicts(outcomes), len(script.asked)) == (["REJECTED"], 2)


def test_members_leave_by_their_remembered_ids() -> None:
    told = changed(recordIdsRemoved=["7"], recordIdsMissing=["8"])
    outcomes, script = write(told, sent=leaving("8", "7", None))
    assert verdicts(outcomes) == ["REMOVED", "REMOVED", "REJECTED"]
    assert outcomes.refusals[2].code == "no_match"
    assert (script.paths()[-1].rpartition("/")[2], script.bodies()[-1]) == ("remove", ["7", "8"])


def test_a_row_with_another_record_than_before_changes_places_in_one_call() -> None:
    sent = joining(ADA, BO, None, ids=["1", "8", "3"])
    told = changed(recordsIdsAdded=["7"], recordIdsRemoved=["1"])
    outcomes, script = write(people(ada="7", bo="8"), answer([record("1")]), told, sent=sent)
    assert verdicts(outcomes) == ["CREATED", "UPDATED", "UPDATED"]
    assert outcomes.record_ids == ["7", "8", "3"]
    assert script.paths()[-1].rpartition("/")[2] == "add-and-remove"
    assert script.bodies()[-1] == {"recordIdsToAdd": ["7", "8", "3"], "recordIdsToRemove": ["1"]}


def test_two_rows_that_swap_their_records_take_nobody_out() -> None:
    sent = joining(ADA, BO, ids=["8", "7"])
    there = answer([record("7"), record("8")])
    outcomes, script = write(people(ada="7", bo="8"), there, changed(recordsIdsAdded=[]), sent=sent)
    assert verdicts(outcomes) == ["UPDATED", "UPDATED"]
    assert script.paths()[-1].rpartition("/")[2] == "add"


def test_a_record_merged_into_another_is_not_taken_out_by_its_old_id() -> None:
    merged = answer([record("7")])  # what the old id leads to
    sent = joining(ADA, ids=["1"])
    outcomes, script = write(people(ada="7"), merged, changed(recordsIdsAdded=["7"]), sent=sent)
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED"], ["7"])
    assert (script.paths()[-1].rpartition("/")[2], script.bodies()[-1]) == ("add", ["7"])


def test_who_joined_in_this_run_does_not_leave_with_another_row() -> None:
    script = Script(found(), people(ada="7"), changed(recordsIdsAdded=["7"]), changed(recordIdsRemoved=["8"]))

    async def one_after_the_other(hubspot: Any) -> Outcomes:
        await hubspot.write(joining(ADA))
        outcomes: Outcomes = await hubspot.write(leaving("7", "8"))
        assert verdicts(await hubspot.write(leaving("7"))) == ["REMOVED"]
        return outcomes

    assert verdicts(script.run(one_after_the_other)) == ["REMOVED", "REMOVED"]
    assert script.bodies()[-1] == ["8"]


def test_record_ids_need_no_look() -> None:
    sent = batch(Operation.UPSERT, {RECORD_ID: [7, 8]}, object=OBJECT, match="hs_object_id")
    outcomes, script = write(changed(recordsIdsAdded=["7", "8"]), sent=sent)
    assert (verdicts(outcomes), script.bodies()[-1]) == (["CREATED", "CREATED"], ["7", "8"])


@pytest.mark.parametrize("silent", [httpx.Response(204), changed(results=[])])
def test_an_answer_that_names_nobody_leaves_the_rows_without_one(silent: httpx.Response) -> None:
    outcomes, _ = write(people(ada="7"), silent, silent, sent=joining(ADA))
    assert outcomes.verdicts == [Verdict.NO_ANSWER]


def test_one_refused_row_has_hubspots_reason() -> None:
    said = refused("Memberships of this list can't be changed", status=400)
    outcomes, _ = write(people(ada="7"), said, sent=joining(ADA))
    assert (outcomes.refusals[0].code, outcomes.refusals[0].request_id) == ("VALIDATION_ERROR", "c-9")


# --- which list ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("object", "paths"),
    [
        ("list:15", ["/15"]),
        ("list:Active users", ["/object-type-id/0-1/name/Active%20users"]),
        ("list:companies/Big ones", ["/object-type-id/0-2/name/Big%20ones"]),
        ("list:2-77/Pets", ["/object-type-id/2-77/name/Pets"]),
        ("list:a/b", ["/crm-object-schemas/2026-09/schemas", "/object-type-id/0-1/name/a%2Fb"]),
    ],
)
def test_where_a_list_is_looked_for(object: str, paths: list[str]) -> None:
    script = Script(*[answer()] * (len(paths) - 1), found(), answer())
    script.run(lambda hubspot: hubspot.describe(object))
    asked = [request.url.raw_path.decode().removeprefix("/crm/lists/2026-09") for request in script.asked]
    assert asked[: len(paths)] == paths


def test_a_list_that_is_not_there_offers_several_names() -> None:
    lists = [{"listId": str(n), "name": name, "objectTypeId": "0-1"} for n, name in enumerate(["VIP 1", "VIP 2"])]
    nothing = refused("resource not found", status=404, category=None)
    script = Script(nothing, httpx.Response(200, json={"lists": lists}))
    with pytest.raises(DestinationError) as failure:
        script.run(lambda hubspot: hubspot.describe("list:VIP"))
    assert failure.value.hint == "did you mean 'VIP 2' or 'VIP 1'?"
    assert script.bodies()[-1]["processingTypes"] == ["MANUAL", "SNAPSHOT"]


def test_an_answer_without_a_list_proves_nothing() -> None:
    with pytest.raises(InDoubt):
        Script(httpx.Response(200, json={"list": {}})).run(lambda hubspot: hubspot.describe(OBJECT))


def test_members_are_read_once_page_by_page() -> None:
    first = {"results": [{"recordId": 7}], "paging": {"next": {"after": "p2"}}}
    pages = [httpx.Response(200, json=first), httpx.Response(200, json={"results": [{"recordId": "9"}]})]
    script = Script(found(), people(ada="7", bo="8"), *pages, people(ada="7"))

    async def twice(hubspot: Any) -> list[str]:
        members = await hubspot.find(OBJECT, "email", [ADA, BO], ["email"])
        return [*members, *await hubspot.find(OBJECT, "email", [ADA], ["email"])]

    assert script.run(twice) == [ADA, ADA]
