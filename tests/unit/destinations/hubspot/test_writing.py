"""What goes out for a batch, and which verdict each row gets for each thing that can come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest

from reverse_etl.errors import BatchRefused, DestinationError, InDoubt, Throttled
from reverse_etl.model import Batch, Field, FieldType, Operation
from reverse_etl.retries import TRIES
from reverse_etl.verdicts import Outcomes, Verdict
from tests.unit.destinations.hubspot.script import (
    APP_ID,
    EMAIL,
    PLAN,
    RECORD_ID,
    SEATS,
    Script,
    Step,
    answer,
    batch,
    fault,
    invalid,
    record,
    refused,
)

ADA, BOB, CAT = "ada@x.io", "bob@x.io", "cat@x.io"


def write(script: Script, sent: Batch) -> Outcomes:
    return script.run(lambda hubspot: hubspot.write(sent))


def upsert(
    *steps: Step, emails: Sequence[str] = (ADA, BOB), seats: Sequence[object] = (1, 2)
) -> tuple[Outcomes, Script]:
    script = Script(*steps)
    return write(script, batch(Operation.UPSERT, {EMAIL: emails, SEATS: seats})), script


def update(*steps: Step, ids: Sequence[str | None] = ("151", "152")) -> tuple[Outcomes, Script]:
    script = Script(*steps)
    sent = batch(Operation.UPDATE, {EMAIL: [ADA, BOB], SEATS: [1, 2]}, record_ids=ids)
    return write(script, sent), script


def create(*steps: Step) -> tuple[Outcomes, Script]:
    script = Script(*steps)
    return write(script, batch(Operation.CREATE, {EMAIL: [ADA, BOB], SEATS: [1, 2]})), script


def verdicts(outcomes: Outcomes) -> list[str]:
    return [verdict.name for verdict in outcomes.verdicts]


# --- what goes out ---------------------------------------------------------------------------------------------------


def test_an_upsert_carries_key_trace_id_and_every_value_that_is_not_null() -> None:
    outcomes, script = upsert(
        answer([record("151", True, email=ADA, seats="1"), record("152", False, email=BOB)]),
        emails=(" Ada@X.io", BOB),
        seats=(1.50, None),
    )
    assert script.paths() == ["/crm/objects/2026-09/contacts/batch/upsert"]
    assert script.bodies()[0] == {
        "inputs": [
            {
                "id": ADA,
                "idProperty": "email",
                "objectWriteTraceId": "0",
                "properties": {"email": " Ada@X.io", "seats": "1.5"},
            },
            {"id": BOB, "idProperty": "email", "objectWriteTraceId": "1", "properties": {"email": BOB}},
        ]
    }
    assert verdicts(outcomes) == ["CREATED", "UPDATED"]
    assert outcomes.record_ids == ["151", "152"]


def test_an_update_addresses_record_ids_and_clears_with_empty_text() -> None:
    script = Script(answer([record("152"), record("151")]))
    sent = batch(
        Operation.UPDATE,
        {EMAIL: [ADA, BOB], PLAN: ["pro", None], SEATS: [None, 3]},
        record_ids=["151", "152"],
        sends={"email": [False, False], "plan": [True, True], "seats": [True, False]},
    )
    outcomes = write(script, sent)
    assert script.paths() == ["/crm/objects/2026-09/contacts/batch/update"]
    assert script.bodies()[0] == {
        "inputs": [
            {"id": "151", "objectWriteTraceId": "0", "properties": {"plan": "pro", "seats": ""}},
            {"id": "152", "objectWriteTraceId": "1", "properties": {"plan": ""}},
        ]
    }
    assert verdicts(outcomes) == ["UPDATED", "UPDATED"]


def test_an_update_without_a_remembered_id_goes_by_match_in_a_call_of_its_own() -> None:
    outcomes, script = update(answer([record("151")]), answer([record("152", email=BOB)]), ids=("151", None))
    first, second = script.bodies()
    assert [each.get("idProperty") for each in first["inputs"]] == [None]
    assert [(each["id"], each["idProperty"]) for each in second["inputs"]] == [(BOB, "email")]
    assert (verdicts(outcomes), outcomes.record_ids) == (["UPDATED", "UPDATED"], ["151", "152"])


def test_an_update_matched_on_the_record_id_does_not_write_it() -> None:
    script = Script(answer([record("151")]))
    outcomes = write(script, batch(Operation.UPDATE, {RECORD_ID: [151], SEATS: [1]}, match="hs_object_id"))
    assert script.bodies()[0]["inputs"] == [{"id": "151", "objectWriteTraceId": "0", "properties": {"seats": "1"}}]
    assert verdicts(outcomes) == ["UPDATED"]


def test_a_create_is_told_nothing_it_lacks() -> None:
    script = Script(httpx.Response(201, json={"results": [record("9", email=ADA)]}))
    sent = batch(
        Operation.CREATE, {EMAIL: [ADA], PLAN: [None]}, sends={"email": [True], "plan": [True]}, record_ids=[None]
    )
    outcomes = write(script, sent)
    assert script.bodies()[0]["inputs"] == [
        {"objectWriteTraceId": "0", "associations": [], "properties": {"email": ADA}}
    ]
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED"], ["9"])


def test_an_archive_covers_every_id_asked_for() -> None:
    script = Script(httpx.Response(204))
    outcomes = write(script, batch(Operation.REMOVE, {EMAIL: [ADA, BOB, CAT]}, record_ids=["151", "152", None]))
    assert script.paths() == ["/crm/objects/2026-09/contacts/batch/archive"]
    assert script.bodies()[0] == {"inputs": [{"id": "151"}, {"id": "152"}]}
    assert verdicts(outcomes) == ["REMOVED", "REMOVED", "REJECTED"]


def test_two_keys_that_look_alike_never_share_a_call() -> None:
    script = Script(
        answer([record("1", True, app_user_id="u1"), record("3", True, app_user_id="u2")]),
        answer([record("2", True, app_user_id="U1")]),
    )
    sent = batch(Operation.UPSERT, {APP_ID: ["u1", "U1", "u2"], SEATS: [1, 2, 3]}, match="app_user_id")
    outcomes = write(script, sent)
    assert [[each["id"] for each in body["inputs"]] for body in script.bodies()] == [["u1", "u2"], ["U1"]]
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED"] * 3, ["1", "2", "3"])


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("2026-03", "/crm/objects/2026-03/contacts/batch/upsert"),
        ("2025-09", "/crm/objects/2025-09/contacts/batch/upsert"),
        ("v3", "/crm/v3/objects/contacts/batch/upsert"),
    ],
)
def test_older_versions_are_written_at_their_own_paths(version: str, path: str) -> None:
    script = Script(answer([record("151", True, email=ADA)]))
    sent = batch(Operation.UPSERT, {EMAIL: [ADA]})
    script.run(lambda hubspot: hubspot.write(sent), api_version=version)
    assert script.paths() == [path]


# --- which row an answer speaks of -----------------------------------------------------------------------------------


def test_P21_results_are_matched_by_key_whatever_their_order_and_case() -> None:
    outcomes, _ = upsert(
        answer([record("152", False, email=BOB), record("151", True, email=ADA)]), emails=("ADA@x.io", "Bob@X.io")
    )
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED", "UPDATED"], ["151", "152"])


def test_results_are_matched_by_trace_id_where_it_is_echoed() -> None:
    echoed = [{**record("152", True), "objectWriteTraceId": "1"}, {**record("151", True), "objectWriteTraceId": "0"}]
    outcomes, _ = upsert(answer(echoed))
    assert outcomes.record_ids == ["151", "152"]


def test_P21_a_row_left_out_has_no_answer_and_a_stranger_is_no_ones() -> None:
    outcomes, script = upsert(
        answer([record("151", True, email=ADA), record("999", True, email="who@x.io")]),
        httpx.Response(200, json=record("152", email=BOB)),  # it exists, but this answer was not about it
    )
    assert (verdicts(outcomes), outcomes.unanswered()) == (["CREATED", "NO_ANSWER"], [1])
    assert script.paths()[1] == "/crm/objects/2026-09/contacts/bob@x.io"


def test_a_contact_found_by_a_secondary_address_is_recognised_by_looking_it_up() -> None:
    outcomes, script = upsert(
        answer([record("151", True, email=ADA), record("77", False, email="bob@work.io")]),
        httpx.Response(200, json=record("77", email="bob@work.io")),
    )
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED", "UPDATED"], ["151", "77"])
    assert [*outcomes.remarks] == [1]
    assert dict(script.asked[1].url.params) == {"properties": "hs_object_id", "idProperty": "email"}


def test_the_id_of_a_merged_record_is_kept() -> None:
    outcomes, _ = update(answer([record("151"), record("900")]), httpx.Response(200, json=record("900")))
    assert (verdicts(outcomes), outcomes.record_ids) == (["UPDATED", "UPDATED"], ["151", "900"])


def test_P25_a_row_with_both_a_result_and_an_error_has_no_answer() -> None:
    outcomes, _ = upsert(
        answer([record("151", True, email=ADA), record("152", True, email=BOB)], [fault("no", trace=[1])])
    )
    assert verdicts(outcomes) == ["CREATED", "NO_ANSWER"]


@pytest.mark.parametrize("status", [200, 201, 207])
def test_errors_are_read_in_every_success(status: int) -> None:
    body = {"results": [record("151", True, email=ADA)], "errors": [fault(invalid(), trace=[1])]}
    outcomes, _ = upsert(httpx.Response(status, json=body))
    assert verdicts(outcomes) == ["CREATED", "REJECTED"]


def test_a_bad_row_is_rejected_with_hubspots_code_words_and_correlation_id() -> None:
    item = {"message": "x was not a valid number.", "error": "INVALID_INTEGER", "name": "seats"}
    outcomes, _ = upsert(answer([record("151", True, email=ADA)], [fault(invalid(item), trace=[1])]))
    refusal = outcomes.refusals[1]
    assert (refusal.code, refusal.message, refusal.request_id) == (
        "INVALID_INTEGER",
        "seats: x was not a valid number.",
        "c-7",
    )


def test_the_list_of_all_options_is_cut_from_the_reason() -> None:
    text = "gold was not one of the allowed options: [" + ", ".join(f"option {n}" for n in range(3000)) + "]"
    item = {"message": text, "error": "INVALID_OPTION", "name": "plan"}
    outcomes, _ = upsert(answer([record("151", True, email=ADA)], [fault(invalid(item), trace=[1])]))
    message = outcomes.refusals[1].message
    assert message.startswith("plan: gold was not one of the allowed options: [option 0, ")
    assert len(message) < 250


def test_an_error_without_trace_ids_is_attributed_by_value() -> None:
    item = {"message": "2 was not valid", "error": "INVALID_INTEGER", "name": "seats", "propertyValue": "2"}
    outcomes, _ = upsert(answer([record("151", True, email=ADA)], [fault(invalid(item))]))
    assert verdicts(outcomes) == ["CREATED", "REJECTED"]


def test_an_error_that_names_no_row_rejects_none() -> None:
    outcomes, _ = upsert(
        answer([record("151", True, email=ADA)], [fault("something went wrong")]),
        httpx.Response(404, json={"status": "error", "message": "resource not found"}),
    )
    assert verdicts(outcomes) == ["CREATED", "NO_ANSWER"]


def test_records_that_are_gone_are_missing_in_an_update() -> None:
    gone = fault(
        "Could not get some CONTACT objects, they may be deleted or not exist. Check that ids are valid.",
        category="OBJECT_NOT_FOUND",
        ids=["152", "151"],
    )
    outcomes, _ = update(answer([], [gone]))
    assert outcomes.verdicts == [Verdict.MISSING, Verdict.MISSING]


def test_a_unique_value_that_another_record_has_rejects_the_row_naming_both() -> None:
    text = (
        "Cannot set PropertyValueCoordinates{portalId=1, objectTypeId=ObjectTypeId{legacyObjectType=CONTACT}, "
        "propertyName=app_user_id, value=7} on 152. 5522 already has that value."
    )
    outcomes, _ = update(answer([record("151")], [fault(text)]))
    assert verdicts(outcomes) == ["UPDATED", "REJECTED"]
    assert "on 152. 5522 already has" in outcomes.refusals[1].message


def test_P25_a_success_that_names_no_row_is_sent_once_more_and_then_left_open() -> None:
    outcomes, script = upsert(answer(), answer())
    assert (verdicts(outcomes), len(script.asked)) == (["NO_ANSWER", "NO_ANSWER"], 2)
    outcomes, _ = upsert(answer(), answer([record("1", True, email=ADA), record("2", True, email=BOB)]))
    assert verdicts(outcomes) == ["CREATED", "CREATED"]


@pytest.mark.parametrize("body", ["[]", '{"results": [1]}', '"a"', '{"results": 3}', '{"errors": {"a": 1}}'])
def test_P25_an_answer_of_another_shape_is_in_doubt(body: str) -> None:
    with pytest.raises(InDoubt) as caught:
        upsert(*[httpx.Response(200, text=body)] * TRIES)
    assert caught.value.code == "destination_unreadable"
    outcomes, _ = upsert(httpx.Response(200, text=body), answer([record("1", email=ADA), record("2", email=BOB)]))
    assert verdicts(outcomes) == ["UPDATED", "UPDATED"]


def test_P25_a_truncated_answer_to_a_harmless_write_is_asked_for_again() -> None:
    outcomes, script = upsert(
        httpx.Response(200, text='{"results": [{"id": "1'),
        answer([record("1", False, email=ADA), record("2", True, email=BOB)]),
    )
    assert (verdicts(outcomes), len(script.asked)) == (["UPDATED", "CREATED"], 2)


def test_P04_a_create_with_a_lost_answer_is_repeated_and_then_found_to_exist() -> None:
    exists = [
        fault(f"Contact already exists. Existing ID: {id}", category="CONFLICT", trace=[at], existingId=[str(id)])
        for at, id in enumerate((151, 152))
    ]
    outcomes, script = create(httpx.ReadError("reset"), answer([], exists))
    assert (verdicts(outcomes), outcomes.record_ids, len(script.asked)) == (["SKIPPED", "SKIPPED"], ["151", "152"], 2)


# --- records that exist already --------------------------------------------------------------------------------------


def test_an_existing_record_is_skipped_by_an_insert() -> None:
    exists = fault("Contact already exists. Existing ID: 3401", category="CONFLICT", trace=[1], existingId=["3401"])
    outcomes, _ = create(answer([record("151", email=ADA)], [exists]))
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED", "SKIPPED"], ["151", "3401"])


def test_an_existing_record_without_a_told_id_is_skipped_too() -> None:
    outcomes, _ = create(
        answer([record("151", email=ADA)], [fault("Contact already exists", category="CONFLICT", trace=[1])])
    )
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED", "SKIPPED"], ["151", None])


def by_app_id(operation: Operation, *steps: Step) -> tuple[Outcomes, Script]:
    script = Script(*steps)
    sent = batch(operation, {APP_ID: ["u1"], EMAIL: [ADA]}, match="app_user_id")
    return write(script, sent), script


EXISTS = fault("Contact already exists. Existing ID: 3401", category="CONFLICT", trace=[0], existingId=["3401"])


def test_an_insert_is_skipped_only_if_the_record_is_the_rows_own() -> None:
    outcomes, _ = by_app_id(Operation.CREATE, answer([], [EXISTS]), answer([record("3401", app_user_id="u1")]))
    assert (verdicts(outcomes), outcomes.record_ids) == (["SKIPPED"], ["3401"])
    outcomes, _ = by_app_id(Operation.CREATE, answer([], [EXISTS]), answer())
    assert (verdicts(outcomes), outcomes.refusals[0].code) == (["REJECTED"], "CONFLICT")


def test_an_upsert_that_meets_its_own_record_updates_it_by_id() -> None:
    exists = fault("Contact already exists. Existing ID: 3401", category="CONFLICT", trace=[1])
    outcomes, script = upsert(answer([record("151", True, email=ADA)], [exists]), answer([record("3401", email=BOB)]))
    assert script.bodies()[1]["inputs"] == [
        {"id": "3401", "objectWriteTraceId": "1", "properties": {"email": BOB, "seats": "2"}}
    ]
    assert (verdicts(outcomes), outcomes.record_ids) == (["CREATED", "UPDATED"], ["151", "3401"])


def test_an_upsert_adopts_a_record_that_shares_the_email_and_has_no_match_value_yet() -> None:
    outcomes, script = by_app_id(
        Operation.UPSERT,
        answer([], [EXISTS]),
        answer([record("3401", app_user_id=None)]),
        answer([record("3401", app_user_id="u1")]),
    )
    assert script.bodies()[1]["inputs"] == [{"id": "3401"}]
    assert "idProperty" not in script.bodies()[1]
    assert (verdicts(outcomes), outcomes.record_ids) == (["UPDATED"], ["3401"])


def test_an_upsert_leaves_a_record_alone_that_belongs_to_another_match_value() -> None:
    outcomes, _ = by_app_id(Operation.UPSERT, answer([], [EXISTS]), answer([record("3401", app_user_id="u9")]))
    assert (verdicts(outcomes), outcomes.refusals[0].code) == (["REJECTED"], "CONFLICT")
    assert "3401" in outcomes.refusals[0].message


def test_an_upsert_whose_record_vanished_meanwhile_is_rejected_with_the_first_reason() -> None:
    gone = fault("Could not get some CONTACT objects", category="OBJECT_NOT_FOUND", ids=["3401"])
    outcomes, _ = by_app_id(
        Operation.UPSERT, answer([], [EXISTS]), answer([record("3401", app_user_id="")]), answer([], [gone])
    )
    assert (verdicts(outcomes), outcomes.refusals[0].code) == (["REJECTED"], "CONFLICT")


# --- requests refused as a whole -------------------------------------------------------------------------------------


def test_P20_a_whole_refusal_is_attributed_by_value_and_the_innocent_go_out_at_once() -> None:
    item = {"message": "x was not a valid number.", "error": "INVALID_INTEGER", "name": "seats", "propertyValue": "x"}
    outcomes, script = upsert(refused(invalid(item)), answer([record("151", True, email=ADA)]), seats=("1", "x"))
    assert [len(body["inputs"]) for body in script.bodies()] == [2, 1]
    assert verdicts(outcomes) == ["CREATED", "REJECTED"]
    assert outcomes.refusals[1].request_id == "c-9"


def test_a_whole_refusal_of_an_older_kind_is_attributed_by_the_text() -> None:
    item = {"message": "Email address bad@@x is invalid", "error": "INVALID_EMAIL", "name": "email"}
    outcomes, _ = upsert(refused(invalid(item)), answer([record("1", True, email=ADA)]), emails=(ADA, "bad@@x"))
    assert verdicts(outcomes) == ["CREATED", "REJECTED"]


def test_a_whole_refusal_without_a_list_is_attributed_by_its_errors() -> None:
    said = {"message": "x was not a valid number.", "code": "INVALID_INTEGER", "context": {"propertyName": ["seats"]}}
    outcomes, _ = upsert(refused("invalid", errors=[said]), answer([record("1", True, email=ADA)]), seats=("1", "x"))
    assert verdicts(outcomes) == ["CREATED", "REJECTED"]


def test_P20_a_whole_refusal_that_points_at_no_row_is_left_to_be_halved() -> None:
    with pytest.raises(BatchRefused) as caught:
        upsert(refused("Duplicate IDs found in batch input: [12877907025]. IDs must be unique"))
    assert (caught.value.request_id, caught.value.status) == ("c-9", 400)
    assert "12877907025" not in caught.value.message


def test_a_single_row_that_is_refused_is_rejected() -> None:
    outcomes, _ = upsert(refused("Invalid input JSON on line 3", category=None), emails=(ADA,), seats=(1,))
    assert verdicts(outcomes) == ["REJECTED"]
    assert outcomes.refusals[0].message == "Invalid input JSON on line 3"


def test_a_whole_conflict_of_a_single_row_is_resolved_like_any_other() -> None:
    script = Script(refused("Contact already exists. Existing ID: 3401", status=409, category="CONFLICT"))
    outcomes = write(script, batch(Operation.CREATE, {EMAIL: [ADA]}))
    assert (verdicts(outcomes), outcomes.record_ids) == (["SKIPPED"], ["3401"])


@pytest.mark.parametrize("status", [413, 414])
def test_a_request_too_large_is_left_to_be_halved(status: int) -> None:
    with pytest.raises(BatchRefused):
        upsert(httpx.Response(status, text="<html>too large</html>"))


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("PROPERTY_DOESNT_EXIST", 'Property "seets" does not exist'),
        ("READ_ONLY_VALUE", '"seets" is a read only property; its value cannot be set.'),
    ],
)
def test_a_property_that_is_wrong_for_every_row_stops_the_sync(code: str, text: str) -> None:
    item = {"message": text, "error": code, "name": "seets"}
    for said in (refused(invalid(item)), answer([], [fault(invalid(item), trace=[0, 1])])):
        with pytest.raises(DestinationError, match="seets") as caught:
            upsert(said)
        assert caught.value.code == "destination_config"


def test_a_wrong_property_never_hides_what_was_written() -> None:
    item = {"message": 'Property "seets" does not exist', "error": "PROPERTY_DOESNT_EXIST", "name": "seets"}
    outcomes, _ = upsert(answer([record("151", True, email=ADA)], [fault(invalid(item), trace=[1])]))
    assert verdicts(outcomes) == ["CREATED", "REJECTED"]


def test_a_match_that_is_not_unique_stops_the_sync() -> None:
    with pytest.raises(DestinationError, match="can't find records by 'domain'") as caught:
        upsert(refused("Unable to perform update/upsert by non-unique 0-2 property domain in portal ID 123"))
    assert caught.value.code == "destination_config"


def test_an_unknown_object_type_stops_the_sync() -> None:
    with pytest.raises(DestinationError) as caught:
        upsert(refused("Unable to infer object type from: butterflies", category=None))
    assert caught.value.code == "destination_object"


# --- answers about the run -------------------------------------------------------------------------------------------


def fine() -> httpx.Response:
    return answer([record("1", True, email=ADA), record("2", True, email=BOB)])


@pytest.mark.parametrize("status", [423, 429, 477, 500, 502, 503, 504, 521, 522, 523, 524, 525, 526])
def test_P19_what_may_heal_is_sent_again(status: int) -> None:
    outcomes, script = upsert(httpx.Response(status, text="<html>"), fine())
    assert (verdicts(outcomes), len(script.asked)) == (["CREATED", "CREATED"], 2)


def test_two_writers_that_meet_try_again() -> None:
    outcomes, _ = upsert(refused("The record was changed meanwhile", status=409, category=None), fine())
    assert verdicts(outcomes) == ["CREATED", "CREATED"]


@pytest.mark.parametrize("status", [405, 415])
def test_P19_what_cannot_heal_is_not_sent_again(status: int) -> None:
    with pytest.raises(DestinationError) as caught:
        upsert(httpx.Response(status))
    assert caught.value.status == status


def test_a_throttled_create_is_repeated() -> None:
    with pytest.raises(Throttled):
        create(*[httpx.Response(429)] * 6)


# --- a stage that HubSpot moves forward only --------------------------------------------------------------------------

STAGES = ("subscriber", "lead", "customer")
ONE_WAY = Field("lifecyclestage", FieldType.CHOICE, options=STAGES, one_way=True)
BACK = replace(ONE_WAY, backward=True)
NOT_MOVED = "lifecyclestage was not moved back to an earlier value by HubSpot"


def staged(operation: Operation, field: Field, stages: Sequence[str | None], *steps: Step) -> tuple[Outcomes, Script]:
    """Ada's and Bob's stages, by e-mail or by record id."""
    script = Script(*steps)
    known = {"record_ids": ["151", "152"], "sends": {"email": [False] * 2, "lifecyclestage": [True] * 2}}
    more: dict[str, Any] = known if operation is Operation.UPDATE else {}
    return write(script, batch(operation, {EMAIL: [ADA, BOB], field: stages}, **more)), script


def stage(id: str, stage: str | None, email: str = ADA, new: bool | None = None) -> dict[str, Any]:
    return record(id, new, email=email, lifecyclestage=stage)


def test_a_stage_that_was_not_moved_back_is_told_with_the_remedy() -> None:
    outcomes, script = staged(
        Operation.UPDATE, ONE_WAY, ["lead", "customer"], answer([stage("151", "customer"), stage("152", "customer")])
    )
    assert (verdicts(outcomes), len(script.asked)) == (["UPDATED", "UPDATED"], 1)
    assert outcomes.remarks == {0: f"{NOT_MOVED}: set `allow_backward: true` in its mapping"}


def test_an_answer_that_does_not_name_the_stage_is_no_remark() -> None:
    outcomes, _ = staged(Operation.UPDATE, ONE_WAY, ["lead", None], answer([record("151"), record("152")]))
    assert outcomes.remarks == {}


def test_a_move_back_clears_with_the_rows_other_values_and_sets_by_a_second_request() -> None:
    outcomes, script = staged(
        Operation.UPSERT,
        BACK,
        ["lead", "customer"],
        answer([stage("151", "customer"), stage("152", "lead", BOB)]),
        answer([stage("151", "", new=False), stage("152", "customer", BOB, new=False)]),
        answer([stage("151", "lead")]),
    )
    assert [path.rpartition("/")[2] for path in script.paths()] == ["read", "upsert", "update"]
    read, first, second = script.bodies()
    assert (read["properties"][:2], read["idProperty"]) == (["email", "lifecyclestage"], "email")
    assert [each["properties"] for each in first["inputs"]] == [
        {"email": ADA, "lifecyclestage": ""},
        {"email": BOB, "lifecyclestage": "customer"},
    ]
    assert second["inputs"] == [
        {"id": "151", "objectWriteTraceId": "0", "properties": {"lifecyclestage": "lead"}},
    ]
    assert (verdicts(outcomes), outcomes.record_ids, outcomes.remarks) == (["UPDATED", "UPDATED"], ["151", "152"], {})


def test_a_move_forward_needs_no_second_request() -> None:
    outcomes, script = staged(
        Operation.UPDATE,
        BACK,
        ["customer", None],
        answer([stage("151", "lead")]),
        answer([stage("151", "customer"), stage("152", "")]),
    )
    assert [each["id"] for each in script.bodies()[0]["inputs"]] == ["151"]
    assert (verdicts(outcomes), len(script.asked)) == (["UPDATED", "UPDATED"], 2)


def test_a_row_that_is_refused_is_not_set_and_keeps_its_stage() -> None:
    outcomes, script = staged(
        Operation.UPSERT,
        BACK,
        ["lead", "lead"],
        answer([stage("151", "customer"), stage("152", "customer", BOB)]),
        answer([stage("151", "", new=False)], [fault("no", trace=[1])]),
        answer([stage("151", "lead")]),
    )
    assert [each["id"] for each in script.bodies()[2]["inputs"]] == ["151"]
    assert verdicts(outcomes) == ["UPDATED", "REJECTED"]


def test_P21_a_row_whose_stage_was_cleared_and_not_set_has_the_second_answers_verdict() -> None:
    outcomes, _ = staged(
        Operation.UPDATE,
        BACK,
        ["lead", "lead"],
        answer([stage("151", "customer"), stage("152", "customer")]),
        answer([stage("151", ""), stage("152", "")]),
        answer([stage("151", "lead")], [fault("locked", trace=[1])]),
    )
    assert verdicts(outcomes) == ["UPDATED", "REJECTED"]


def test_a_stage_without_a_place_in_the_order_is_cleared_first() -> None:
    _, script = staged(
        Operation.UPDATE,
        BACK,
        ["lead", None],
        answer([stage("151", "of the account's own")]),
        answer([stage("151", ""), stage("152", "")]),
        answer([stage("151", "lead")]),
    )
    assert script.bodies()[1]["inputs"][0]["properties"] == {"lifecyclestage": ""}


# --- contacts with another primary address ----------------------------------------------------------------------------


def test_a_contact_with_another_primary_address_is_told_and_its_id_kept() -> None:
    outcomes, _ = upsert(
        answer([{**record("77", False, email="bob@work.io"), "objectWriteTraceId": "1"}, record("151", email=ADA)])
    )
    assert outcomes.record_ids == ["151", "77"]
    assert outcomes.remarks == {1: "found by a secondary address: the contact has another primary e-mail address"}


def test_an_address_in_another_case_is_the_same_address() -> None:
    outcomes, _ = upsert(answer([record("151", email=ADA), record("152", email=BOB)]), emails=("ADA@x.io", BOB))
    assert outcomes.remarks == {}
