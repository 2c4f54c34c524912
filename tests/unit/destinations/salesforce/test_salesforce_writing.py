"""Writing through Collections: what is sent, and one verdict for every row."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import httpx
import orjson
import pytest

from reverse_etl.destinations.salesforce import Salesforce
from reverse_etl.destinations.salesforce.auth import full_id
from reverse_etl.errors import (
    AuthError,
    BatchRefused,
    DailyLimit,
    DestinationError,
    InDoubt,
    ReverseEtlError,
    Throttled,
    Unavailable,
)
from reverse_etl.model import Batch, Operation
from reverse_etl.verdicts import Outcomes, Refusal, Verdict
from tests.unit.destinations.salesforce.org import DATA, FIELDS, RECORDS, UPSERT, Org, batch, failed, refused, saved

A, B, C = (full_id(f"00Q00000000000{letter}") for letter in "ABC")


def write(org: Org, rows: Batch, **settings: Any) -> Outcomes:
    async def scenario(salesforce: Salesforce) -> Outcomes:
        return await salesforce.write(rows)

    return org.use(scenario, **settings)


def records_in(request: httpx.Request) -> list[Any]:
    found: list[Any] = orjson.loads(request.content)["records"]
    return found


def three(operation: Operation = Operation.UPSERT, **settings: Any) -> Batch:
    return batch(operation, {"External_Id__c": ["a", "b", "c"], "LastName": ["Ng", "Ito", "Roe"]}, **settings)


def test_more_rows_than_a_call_takes_go_in_several_a_few_at_once() -> None:
    org = Org()
    org.takes = 1.0
    org.tell("PATCH", UPSERT, lambda request: httpx.Response(200, json=[saved(A)] * len(records_in(request))))
    outcomes = write(org, batch(Operation.UPSERT, {"External_Id__c": [f"k{at}" for at in range(1_900)]}))
    assert outcomes.verdicts == [Verdict.UPDATED] * 1_900
    assert len(org.calls("PATCH", UPSERT)) == 10
    assert org.busiest == 4


# --- upsert --------------------------------------------------------------------------------------------------------


def test_an_upsert_names_the_external_id_in_the_address_and_holds_its_value_in_the_body() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved(A, created=True), saved(B, created=False), saved(C)])
    outcomes = write(org, three())
    assert org.bodies("PATCH", UPSERT) == [
        {
            "allOrNone": False,
            "records": [
                {"attributes": {"type": "Lead"}, "External_Id__c": "a", "LastName": "Ng"},
                {"attributes": {"type": "Lead"}, "External_Id__c": "b", "LastName": "Ito"},
                {"attributes": {"type": "Lead"}, "External_Id__c": "c", "LastName": "Roe"},
            ],
        }
    ]
    assert outcomes.verdicts == [Verdict.CREATED, Verdict.UPDATED, Verdict.UPDATED]
    assert outcomes.record_ids == [A, B, C]


def test_only_the_fields_that_changed_go_out_and_a_null_among_them_clears() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved(A), saved(B)])
    rows = batch(
        Operation.UPSERT,
        {"External_Id__c": ["a", "b"], "Email": [None, "b@x.io"], "Active__c": [True, None]},
        sends={"External_Id__c": [False, True], "Email": [True, False], "Active__c": [False, True]},
    )
    write(org, rows)
    sent = org.bodies("PATCH", UPSERT)[0]["records"]
    assert sent[0] == {"attributes": {"type": "Lead"}, "External_Id__c": "a", "Email": None}
    assert sent[1] == {"attributes": {"type": "Lead"}, "External_Id__c": "b", "Active__c": False}


def test_a_first_send_leaves_nulls_out_and_an_empty_text_clears() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved(A)])
    write(org, batch(Operation.UPSERT, {"External_Id__c": ["a"], "Email": [""], "LastName": [None]}))
    assert org.bodies("PATCH", UPSERT)[0]["records"] == [
        {"attributes": {"type": "Lead"}, "External_Id__c": "a", "Email": None}
    ]


def test_decimals_keep_every_digit_on_the_wire() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved(A)])
    exact = "12345678901234567890.123456789"
    write(org, batch(Operation.UPSERT, {"External_Id__c": ["a"], "Score__c": [Decimal(exact)]}))
    assert f'"Score__c":{exact}'.encode() in org.calls("PATCH", UPSERT)[0].content


def test_a_refused_row_keeps_salesforces_own_words_and_leaves_the_others_alone() -> None:
    org = Org()
    bad = failed("INVALID_EMAIL_ADDRESS", "Email: invalid email address: x", ["Email"])
    lock = failed("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
    told = httpx.Response(200, json=[bad, saved(B), lock], headers={"x-request-id": "r-1"})
    org.tell("PATCH", UPSERT, told, [lock])
    outcomes = write(org, three())
    assert outcomes.verdicts == [Verdict.REJECTED, Verdict.UPDATED, Verdict.REJECTED]
    assert outcomes.refusals[0] == Refusal("INVALID_EMAIL_ADDRESS", "Email: invalid email address: x", "r-1")
    assert outcomes.refusals[2].code == "UNABLE_TO_LOCK_ROW"


def test_fields_that_the_words_name_by_label_only_are_named_too() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [failed("STRING_TOO_LONG", "Last Name: data value too large", ["LastName"])])
    outcomes = write(org, batch(Operation.UPSERT, {"External_Id__c": ["a"]}))
    assert outcomes.refusals[0].message == "Last Name: data value too large (field: LastName)"


def test_a_row_that_only_echoes_anothers_failure_says_its_own_reason_first() -> None:
    org = Org()
    both = [*failed("PROCESSING_HALTED")["errors"], *failed("REQUIRED_FIELD_MISSING", "LastName")["errors"]]
    org.tell("PATCH", UPSERT, [{"success": False, "errors": both}])
    outcomes = write(org, batch(Operation.UPSERT, {"External_Id__c": ["a"]}))
    assert outcomes.refusals[0].code == "REQUIRED_FIELD_MISSING"


def test_a_refusal_without_a_reason_is_still_a_refusal() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [{"success": False, "errors": []}])
    outcomes = write(org, batch(Operation.UPSERT, {"External_Id__c": ["a"]}))
    assert outcomes.refusals[0].code == "destination_refused"


@pytest.mark.parametrize("answer", [[], [saved(A), saved(B)], [saved(A)] * 4, {"id": A, "success": True}])
def test_an_answer_of_another_length_speaks_of_nobody(answer: object) -> None:
    org = Org()
    org.tell("PATCH", UPSERT, answer)
    assert write(org, three()).unanswered() == [0, 1, 2]


def test_a_result_that_can_not_be_read_leaves_its_row_in_doubt() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [None, {"success": True}, {"id": C}])
    assert write(org, three()).unanswered() == [0, 1, 2]


def test_an_answer_that_is_not_json_is_no_answer() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, httpx.Response(200, text="<html>welcome</html>"))
    with pytest.raises(InDoubt, match="not JSON"):
        write(org, three())


def test_a_record_can_not_be_created_by_its_id() -> None:
    org = Org()
    with pytest.raises(DestinationError, match="can find records but not create"):
        write(org, batch(Operation.UPSERT, {"Id": [A]}, match="Id"))
    assert org.asked == []


# --- update --------------------------------------------------------------------------------------------------------


def test_rows_with_a_remembered_id_are_updated_by_it() -> None:
    org = Org()
    org.tell("PATCH", RECORDS, [saved(A), saved(B), saved(C)])
    outcomes = write(org, three(Operation.UPDATE, ids=[A, B, C]))
    sent = org.bodies("PATCH", RECORDS)[0]["records"]
    assert sent[0] == {"attributes": {"type": "Lead"}, "id": A, "External_Id__c": "a", "LastName": "Ng"}
    assert outcomes.verdicts == [Verdict.UPDATED] * 3
    assert org.queries() == []


def test_rows_without_an_id_are_looked_up_and_those_not_found_are_missing() -> None:
    org = Org()
    found = {"totalSize": 1, "done": True, "records": [{"Id": C, "External_Id__c": "C"}]}
    org.tell("GET", f"{DATA}/query", found)
    org.tell("PATCH", RECORDS, [saved(A), saved(C)])
    outcomes = write(org, three(Operation.UPDATE, ids=[A, None, None]))
    assert org.queries() == ["SELECT Id, External_Id__c FROM Lead WHERE External_Id__c IN ('b','c')"]
    assert [record["id"] for record in org.bodies("PATCH", RECORDS)[0]["records"]] == [A, C]
    assert outcomes.verdicts == [Verdict.UPDATED, Verdict.MISSING, Verdict.UPDATED]


def test_when_nothing_is_found_no_write_is_sent() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/query", {"totalSize": 0, "done": True, "records": []})
    assert write(org, three(Operation.UPDATE)).verdicts == [Verdict.MISSING] * 3


def test_a_match_that_finds_several_records_refuses_its_row() -> None:
    org = Org()
    records = [{"Id": B, "Email": "A@x.io"}, {"Id": A, "Email": "a@x.io"}]
    org.tell("GET", f"{DATA}/query", {"totalSize": 2, "done": True, "records": records})
    rows = batch(Operation.UPDATE, {"Email": ["a@x.io"], "LastName": ["Ng"]}, match="Email")
    outcomes = write(org, rows)
    assert outcomes.refusals[0] == Refusal("ambiguous_match", f"Email finds several records: {A}, {B}")


def test_a_mapped_id_addresses_the_record_and_is_not_a_field() -> None:
    org = Org()
    org.tell("PATCH", RECORDS, [saved(A)])
    rows = batch(Operation.UPDATE, {"Id": [A[:15]], "LastName": ["Ng"]}, match="Id")
    assert write(org, rows).verdicts == [Verdict.UPDATED]
    assert org.bodies("PATCH", RECORDS)[0]["records"] == [
        {"attributes": {"type": "Lead"}, "id": A[:15], "LastName": "Ng"}
    ]


@pytest.mark.parametrize("code", ["ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY"])
def test_a_record_that_is_gone_is_missing_unless_a_lookup_is_meant(code: str) -> None:
    org = Org()
    org.tell("PATCH", RECORDS, [failed(code), failed(code, fields=["Id"]), failed(code, fields=["CampaignId"])])
    outcomes = write(org, three(Operation.UPDATE, ids=[A, B, C]))
    assert outcomes.verdicts == [Verdict.MISSING, Verdict.MISSING, Verdict.REJECTED]


def test_an_answer_about_another_record_than_the_one_addressed_is_no_answer() -> None:
    org = Org()
    org.tell("PATCH", RECORDS, [saved(B), saved(A), saved(C)])
    assert write(org, three(Operation.UPDATE, ids=[A, B, C])).unanswered() == [0, 1]


# --- create --------------------------------------------------------------------------------------------------------


def test_a_creation_that_clashes_with_the_matched_record_is_skipped() -> None:
    org = Org()
    clash = "duplicate value found: {} duplicates value on record with id: {}"
    org.tell(
        "POST",
        RECORDS,
        [
            saved(A),
            failed("DUPLICATE_VALUE", clash.format("External_Id__c", B[:15])),
            failed("DUPLICATE_VALUE", clash.format("Badge__c", C)),
        ],
    )
    outcomes = write(org, three(Operation.CREATE))
    assert outcomes.verdicts == [Verdict.CREATED, Verdict.SKIPPED, Verdict.REJECTED]
    assert outcomes.record_ids == [A, B, None]
    assert "id" not in org.bodies("POST", RECORDS)[0]["records"][0]


def test_a_creation_whose_answer_was_lost_is_not_sent_again() -> None:
    org = Org()
    org.tell("POST", RECORDS, httpx.ReadError("cut"))
    with pytest.raises(InDoubt):
        write(org, three(Operation.CREATE))
    assert len(org.calls("POST", RECORDS)) == 1


# --- remove --------------------------------------------------------------------------------------------------------


def test_records_are_deleted_by_id_and_one_that_is_gone_already_counts_as_removed() -> None:
    org = Org()
    org.tell("DELETE", RECORDS, [saved(A), failed("ENTITY_IS_DELETED")])
    outcomes = write(org, three(Operation.REMOVE, ids=[A, None, C]))
    assert parse_qs(org.calls("DELETE", RECORDS)[0].url.query.decode()) == {"ids": [f"{A},{C}"], "allOrNone": ["false"]}
    assert outcomes.verdicts == [Verdict.REMOVED, Verdict.MISSING, Verdict.REMOVED]


def test_a_deletion_that_is_refused_rejects_its_row() -> None:
    org = Org()
    org.tell("DELETE", RECORDS, [failed("DELETE_FAILED", "has open opportunities")] * 2 + [saved(C)])
    outcomes = write(org, three(Operation.REMOVE, ids=[A, B, C]))
    assert outcomes.verdicts == [Verdict.REJECTED, Verdict.REJECTED, Verdict.REMOVED]


# --- the request as a whole ----------------------------------------------------------------------------------------

QUOTA = "TotalRequests Limit exceeded."
BUSY = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
COLUMN = "No such column 'Nope__c' on sobject of type Lead"
NO_KEY = "Provided external ID field does not exist or is not accessible: X"


@pytest.mark.parametrize(
    ("answer", "kind", "code", "tries"),
    [
        (refused(403, "REQUEST_LIMIT_EXCEEDED", QUOTA), DailyLimit, "daily_limit", 1),
        (refused(403, "REQUEST_LIMIT_EXCEEDED", BUSY), Throttled, "destination_throttled", 6),
        (refused(503, "SERVER_UNAVAILABLE"), Unavailable, "destination_unavailable", 6),
        (httpx.Response(420), Unavailable, "destination_unavailable", 6),
        (httpx.Response(503, text="<html>"), InDoubt, "destination_in_doubt", 6),  # a gateway may have passed it on
        (refused(503, "TXN_SECURITY_METERING_ERROR"), Unavailable, "destination_unavailable", 3),
        (httpx.Response(502, text="<html>"), BatchRefused, "destination_in_doubt", 2),
        (httpx.Response(406), InDoubt, "destination_in_doubt", 6),
        (refused(403, "API_DISABLED_FOR_ORG"), AuthError, "destination_credential", 1),
        (refused(403, "TXN_SECURITY_NO_ACCESS"), AuthError, "destination_credential", 1),
        (httpx.Response(403), AuthError, "destination_credential", 1),
        (refused(400, "INVALID_FIELD", COLUMN), DestinationError, "destination_config", 1),
        (refused(404, "NOT_FOUND", NO_KEY), DestinationError, "destination_config", 1),
        (refused(400, "INVALID_EXTERNAL_ID_FIELD_NAME"), DestinationError, "destination_config", 1),
        (refused(400, "INVALID_TYPE"), DestinationError, "destination_object", 1),
        (refused(410, "UNSUPPORTED_API_VERSION"), DestinationError, "destination_config", 1),
        (refused(400, "STORAGE_LIMIT_EXCEEDED"), DestinationError, "destination_storage", 1),
        (refused(400, "JSON_PARSER_ERROR"), BatchRefused, "JSON_PARSER_ERROR", 1),
        (refused(400, "MALFORMED_ID", "malformed id x"), BatchRefused, "MALFORMED_ID", 1),
        (refused(500, "UNKNOWN_EXCEPTION"), BatchRefused, "destination_batch_failed", 3),
        (refused(500, "TOO_MANY_APEX_REQUESTS"), BatchRefused, "destination_batch_failed", 3),
        (refused(400, "REQUEST_RUNNING_TOO_LONG"), BatchRefused, "destination_timeout", 1),
        (httpx.Response(301, headers={"location": "https://elsewhere"}), DestinationError, "destination", 1),
    ],
)
def test_each_failure_is_named_by_what_happens_next(
    answer: httpx.Response, kind: type[ReverseEtlError], code: str, tries: int
) -> None:
    org = Org()
    org.tell("PATCH", UPSERT, answer)
    with pytest.raises(ReverseEtlError) as caught:
        write(org, three())
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert len(org.calls("PATCH", UPSERT)) == tries


def test_a_column_that_is_gone_is_named_with_the_remedy() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, refused(400, "INVALID_FIELD", COLUMN))
    with pytest.raises(DestinationError, match=r"'sales'.*Nope__c") as caught:
        write(org, three())
    assert "check --connect" in (caught.value.hint or "")


def test_a_bare_object_as_an_error_is_read_too() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, httpx.Response(400, json={"errorCode": "INVALID_TYPE", "message": "no Lead"}))
    with pytest.raises(DestinationError, match="INVALID_TYPE: no Lead"):
        write(org, three())


def test_a_lone_row_that_runs_out_of_time_stays_in_doubt_and_one_that_breaks_the_server_is_refused() -> None:
    org = Org()
    one = batch(Operation.UPSERT, {"External_Id__c": ["a"]})
    org.tell("PATCH", UPSERT, refused(400, "REQUEST_RUNNING_TOO_LONG"))
    with pytest.raises(InDoubt):
        write(org, one)
    org.tell("PATCH", UPSERT, refused(500, "UNKNOWN_EXCEPTION"))
    with pytest.raises(BatchRefused):
        write(org, one)


# --- what stops a run ----------------------------------------------------------------------------------------------

FULL = failed("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded")


def test_a_reason_that_no_row_escapes_stops_the_run_at_once_when_nothing_was_delivered() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [FULL] * 3)
    with pytest.raises(DestinationError, match="storage limit exceeded") as caught:
        write(org, three())
    assert caught.value.code == "destination_storage"


def test_beside_delivered_rows_it_stops_the_run_with_their_verdicts_and_the_others_wait() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved(A), FULL, FULL])
    with pytest.raises(DestinationError, match="storage limit exceeded") as stopped:
        write(org, three())
    assert stopped.value.answered is not None
    assert stopped.value.answered.verdicts == [Verdict.UPDATED, Verdict.NO_ANSWER, Verdict.NO_ANSWER]


def test_rows_that_meet_a_lock_are_offered_again_in_ever_smaller_calls() -> None:
    org = Org()
    lock = failed("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
    org.tell("PATCH", UPSERT, [saved(A), lock, lock], [lock, lock], [saved(B), lock], [saved(C)])
    outcomes = write(org, three())
    assert outcomes.verdicts == [Verdict.UPDATED] * 3
    assert outcomes.record_ids == [A, B, C]
    assert outcomes.refusals == {}
    sizes = [len(body["records"]) for body in org.bodies("PATCH", UPSERT)]
    assert sizes == [3, 2, 2, 1]


def test_a_missing_parent_refuses_only_its_row() -> None:
    org = Org()
    words = "Foreign key external ID: a-9 not found for field Ext__c in entity Account"
    org.tell("PATCH", UPSERT, [failed("INVALID_FIELD", words), failed("INVALID_FIELD", words), saved(C)])
    assert write(org, three()).verdicts == [Verdict.REJECTED, Verdict.REJECTED, Verdict.UPDATED]


def with_usage(used: int) -> Callable[[httpx.Request], httpx.Response]:
    usage = f"api-usage={used}/1000; per-app-api-usage=1/2(appName=x)"
    return lambda _: httpx.Response(200, json=[saved(A), saved(B), saved(C)], headers={"Sforce-Limit-Info": usage})


@pytest.mark.parametrize(("used", "calls"), [(900, 2), (901, 1)])
def test_the_reserve_is_left_to_others(used: int, calls: int) -> None:
    org = Org()
    org.tell("PATCH", UPSERT, with_usage(used))

    async def twice(salesforce: Salesforce) -> None:
        await salesforce.write(three())
        await salesforce.write(three())

    if calls == 2:
        org.use(twice, rate_limit={"reserve": "10%"})
    else:
        with pytest.raises(DailyLimit, match="901 of the org's 1000 calls"):
            org.use(twice, rate_limit={"reserve": "10%"})
    assert len(org.calls("PATCH", UPSERT)) == calls


def test_the_users_own_rate_limit_paces_the_calls() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved(A), saved(B), saved(C)])

    async def seconds(salesforce: Salesforce) -> tuple[float, float]:
        started = org.clock.monotonic()
        for _ in range(5):
            await salesforce.write(three())
        return salesforce.requests_per_second, org.clock.monotonic() - started

    rate, took = org.use(seconds, rate_limit={"requests": 2, "per": "10s"})
    assert rate == 0.2
    assert took > 19


def test_limits_are_data() -> None:
    limits = Org().open().limits("Lead", Operation.UPSERT, 1)
    assert (limits.batch_size, limits.in_flight) == (200, 4)
    assert Org().open().requests_per_second == 8.0
    assert FIELDS["Id"].identifies
