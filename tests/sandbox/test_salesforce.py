"""Salesforce over real HTTP, against the emulator, which shares no code with the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pyarrow as pa
import pytest

from reverse_etl.clock import Clock
from reverse_etl.destinations.salesforce import Salesforce
from reverse_etl.destinations.salesforce.config import SalesforceConfig
from reverse_etl.errors import AuthError, BatchRefused, DailyLimit, DestinationError
from reverse_etl.model import Batch, Operation
from reverse_etl.protocols import Opening
from reverse_etl.sandbox.server import Sandbox, running
from reverse_etl.verdicts import Outcomes, Verdict
from tests.unit.destinations.salesforce.org import RememberedInMemory, new_process

T = TypeVar("T")
SANDBOX = {"flow": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"}


class Hasty(Clock):
    """The machine's clock, but nobody waits between attempts."""

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    def jitter(self, most: float) -> float:
        return 0.0


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    new_process()
    with running() as server:
        yield server


def use(sandbox: Sandbox, scenario: Callable[[Salesforce], Awaitable[T]], **settings: Any) -> T:
    async def all_of_it() -> T:
        config = SalesforceConfig.model_validate(
            {"type": "salesforce", "auth": SANDBOX, "login_url": sandbox.url, **settings}
        )
        salesforce = Salesforce(config, Opening(name="sales", memory=RememberedInMemory(), clock=Hasty()))
        try:
            return await scenario(salesforce)
        finally:
            await salesforce.aclose()

    return anyio.run(all_of_it)


async def batch(
    salesforce: Salesforce, operation: Operation, columns: dict[str, Any], ids: Sequence[str | None] | None = None
) -> Batch:
    schema = await salesforce.describe("lead")
    rows = pa.RecordBatch.from_pydict(columns)
    return Batch(
        object=schema.name,
        operation=operation,
        match="External_Id__c",
        fields=tuple(schema.fields[name] for name in columns),
        rows=rows,
        keys=pa.array([str(number) for number in range(rows.num_rows)], pa.string()),
        record_ids=pa.array(ids or [None] * rows.num_rows, pa.string()),
        sends=pa.RecordBatch.from_pydict({name: [True] * rows.num_rows for name in columns}) if ids else None,
    )


def write(sandbox: Sandbox, operation: Operation, columns: dict[str, Any], **settings: Any) -> Outcomes:
    ids = settings.pop("ids", None)

    async def scenario(salesforce: Salesforce) -> Outcomes:
        return await salesforce.write(await batch(salesforce, operation, columns, ids))

    return use(sandbox, scenario, **settings)


def people(*names: str) -> dict[str, Any]:
    return {
        "External_Id__c": [name.lower() for name in names],
        "LastName": list(names),
        "Company": ["Acme"] * len(names),
    }


def leads(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {record["External_Id__c"]: record for record in sandbox.salesforce.records("Lead")}


def test_leads_are_created_then_updated_and_keep_their_values(sandbox: Sandbox) -> None:
    columns = {
        **people("Ada", "Bob"),
        "Email": ["ada@x.io", None],
        "Lead_Score__c": pa.array([Decimal("87.5"), None], pa.decimal128(5, 1)),
        "Workspaces_Total__c": [3, 0],
    }
    first = write(sandbox, Operation.UPSERT, columns)
    assert first.verdicts == [Verdict.CREATED, Verdict.CREATED]
    ada = leads(sandbox)["ada"]
    assert (ada["Id"], ada["Email"], ada["Lead_Score__c"]) == (first.record_ids[0], "ada@x.io", 87.5)
    second = write(sandbox, Operation.UPSERT, {**people("ADA"), "Email": ["new@x.io"]})
    assert second.verdicts == [Verdict.UPDATED]
    assert second.record_ids == first.record_ids[:1]
    assert len(sandbox.salesforce.records("Lead")) == 2


def test_changes_go_to_the_remembered_record_and_a_null_clears(sandbox: Sandbox) -> None:
    first = write(sandbox, Operation.UPSERT, {**people("Ada"), "Email": ["ada@x.io"]})
    changes = {"External_Id__c": ["ada-2"], "Email": pa.array([None], pa.string())}
    assert write(sandbox, Operation.UPDATE, changes, ids=first.record_ids).verdicts == [Verdict.UPDATED]
    assert leads(sandbox)["ada-2"].get("Email") is None


def test_a_deleted_record_is_missing_for_an_update_and_removed_for_a_removal(sandbox: Sandbox) -> None:
    first = write(sandbox, Operation.UPSERT, people("Ada", "Bob"))
    removed = write(sandbox, Operation.REMOVE, people("Ada", "Bob"), ids=first.record_ids)
    assert removed.verdicts == [Verdict.REMOVED] * 2
    assert sandbox.salesforce.records("Lead") == []
    again = write(sandbox, Operation.REMOVE, people("Ada", "Bob"), ids=first.record_ids)
    assert again.verdicts == [Verdict.REMOVED] * 2
    late = write(sandbox, Operation.UPDATE, people("Ada", "Bob"), ids=first.record_ids)
    assert late.verdicts == [Verdict.MISSING] * 2


def test_an_existing_lead_is_skipped_by_an_insert(sandbox: Sandbox) -> None:
    first = write(sandbox, Operation.UPSERT, people("Ada"))
    second = write(sandbox, Operation.CREATE, people("Ada", "Bob"))
    assert second.verdicts == [Verdict.SKIPPED, Verdict.CREATED]
    assert second.record_ids[0] == first.record_ids[0]


def test_bad_rows_are_refused_in_salesforces_words_and_the_others_arrive(sandbox: Sandbox) -> None:
    columns = {**people("Ada", "Bob", "Cay"), "Email": ["ada@x.io", "badone", "cay@x.io"]}
    columns["LastName"] = ["Ada", "Bob", None]
    outcomes = write(sandbox, Operation.UPSERT, columns)
    assert outcomes.verdicts == [Verdict.CREATED, Verdict.REJECTED, Verdict.REJECTED]
    assert outcomes.refusals[1].code == "INVALID_EMAIL_ADDRESS"
    assert outcomes.refusals[2].code == "REQUIRED_FIELD_MISSING"


def test_two_hundred_leads_are_one_call(sandbox: Sandbox) -> None:
    outcomes = write(sandbox, Operation.UPSERT, people(*(f"Person {number}" for number in range(200))))
    assert outcomes.verdicts == [Verdict.CREATED] * 200
    assert len(sandbox.requests.matching("PATCH", "composite/sobjects")) == 1


def test_datetimes_and_checkboxes_arrive_as_salesforce_takes_them(sandbox: Sandbox) -> None:
    async def kinds(salesforce: Salesforce) -> dict[str, str]:
        return {name: field.type for name, field in (await salesforce.describe("Lead")).fields.items()}

    types = use(sandbox, kinds)
    checkbox = next((name for name, kind in types.items() if kind == "boolean" and name.endswith("__c")), None)
    moment = next((name for name, kind in types.items() if kind == "datetime" and name.endswith("__c")), None)
    columns = dict(people("Ada"))
    if checkbox:
        columns[checkbox] = [True]
    if moment:
        columns[moment] = [datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)]
    assert write(sandbox, Operation.UPSERT, columns).verdicts == [Verdict.CREATED]


def test_the_account_is_the_org_in_every_flow(sandbox: Sandbox) -> None:
    async def account(salesforce: Salesforce) -> str:
        return await salesforce.account()

    org = use(sandbox, account)
    ready = {"flow": "access_token", "access_token": "sandbox-access-token", "instance_url": sandbox.url}
    refresh = {"flow": "refresh_token", "client_id": "sandbox", "refresh_token": "sandbox-refresh-token"}
    assert org.startswith("00D")
    assert len(org) == 18
    assert use(sandbox, account, auth=ready) == use(sandbox, account, auth=refresh) == org


def test_a_wrong_secret_names_the_connection_and_the_remedy(sandbox: Sandbox) -> None:
    with pytest.raises(AuthError, match=r"'sales'.*invalid_client") as caught:
        write(sandbox, Operation.UPSERT, people("Ada"), auth={**SANDBOX, "client_secret": "wrong-canary"})
    assert "canary" not in f"{caught.value} {caught.value.hint}"


def test_an_unknown_object_is_answered_with_the_nearest_one(sandbox: Sandbox) -> None:
    async def unknown(salesforce: Salesforce) -> None:
        await salesforce.describe("Leed")

    with pytest.raises(DestinationError, match="did you mean 'Lead'"):
        use(sandbox, unknown)


def test_what_the_schema_says_of_the_external_id(sandbox: Sandbox) -> None:
    async def describe(salesforce: Salesforce) -> Any:
        return await salesforce.describe("LEAD")

    schema = use(sandbox, describe)
    key = schema.fields["External_Id__c"]
    assert schema.name == "Lead"
    assert (key.identifies, key.folds_case, key.read_only) == (True, True, None)
    required = {name for name, field in schema.fields.items() if field.required_on_create}
    assert required == {"LastName", "Company"}
    assert schema.fields["Id"].identifies
    assert schema.fields["CreatedDate"].read_only


def test_a_session_that_ends_between_two_calls_is_renewed(sandbox: Sandbox) -> None:
    sandbox.faults.add("expire", method="PATCH")
    assert write(sandbox, Operation.UPSERT, people("Ada")).verdicts == [Verdict.CREATED]
    assert len(sandbox.requests.matching("POST", "oauth2/token")) == 2


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("status", {"status": 503}),
        ("html", {}),
        ("cut", {"applied": False}),
        ("cut", {"applied": True}),
        ("truncate", {}),
        ("throttle", {"policy": "concurrent", "platform": "salesforce"}),
    ],
)
def test_what_passes_is_sent_again_and_nothing_is_doubled(sandbox: Sandbox, kind: str, order: dict[str, Any]) -> None:
    sandbox.faults.add(kind, method="PATCH", **order)
    outcomes = write(sandbox, Operation.UPSERT, people("Ada", "Bob"))
    assert set(outcomes.verdicts) <= {Verdict.CREATED, Verdict.UPDATED}
    assert len(sandbox.salesforce.records("Lead")) == 2


def test_a_used_up_day_ends_the_run_with_rows_waiting(sandbox: Sandbox) -> None:
    sandbox.faults.add("throttle", method="PATCH", policy="daily")
    with pytest.raises(DailyLimit):
        write(sandbox, Operation.UPSERT, people("Ada"))
    assert len(sandbox.requests.matching("PATCH", "composite")) == 1


@pytest.mark.parametrize("kind", ["omit", "stranger", "duplicate"])
def test_an_answer_of_another_length_leaves_all_rows_in_doubt(sandbox: Sandbox, kind: str) -> None:
    sandbox.faults.add(kind, method="PATCH")
    assert write(sandbox, Operation.UPSERT, people("Ada", "Bob", "Cay")).unanswered() == [0, 1, 2]


def test_answers_in_another_order_speak_of_nobody_where_records_are_known(sandbox: Sandbox) -> None:
    first = write(sandbox, Operation.UPSERT, people("Ada", "Bob"))
    sandbox.faults.add("reverse", method="PATCH")
    outcomes = write(sandbox, Operation.UPDATE, people("Ada", "Bob"), ids=first.record_ids)
    assert outcomes.unanswered() == [0, 1]


def test_an_answer_with_nothing_in_it_is_no_answer(sandbox: Sandbox) -> None:
    sandbox.faults.add("empty", method="PATCH")
    assert write(sandbox, Operation.UPSERT, people("Ada")).unanswered() == [0]
    assert sandbox.salesforce.records("Lead") == []


def test_a_record_that_was_locked_for_a_moment_is_delivered(sandbox: Sandbox) -> None:
    sandbox.faults.add("lock", method="PATCH", rows=1, times=3)
    assert write(sandbox, Operation.UPSERT, people("Ada", "Bob")).verdicts == [Verdict.CREATED] * 2


def test_a_record_that_stays_locked_is_refused_with_its_code(sandbox: Sandbox) -> None:
    sandbox.faults.add("lock", method="PATCH", rows=1, times=None)
    outcomes = write(sandbox, Operation.UPSERT, people("Ada", "Bob"))
    assert sorted(outcomes.verdicts) == [Verdict.CREATED, Verdict.REJECTED]
    assert {refusal.code for refusal in outcomes.refusals.values()} == {"UNABLE_TO_LOCK_ROW"}


def test_a_request_that_can_not_be_parsed_is_refused_whole(sandbox: Sandbox) -> None:
    columns = {**people("Ada", "Bob"), "Lead_Score__c": ["7", "many"]}
    with pytest.raises(BatchRefused) as caught:
        write(sandbox, Operation.UPSERT, columns)
    assert caught.value.code == "JSON_PARSER_ERROR"
    assert sandbox.salesforce.records("Lead") == []
