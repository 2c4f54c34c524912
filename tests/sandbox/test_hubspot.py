"""HubSpot over real HTTP, against the emulator, which shares no code with the client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pyarrow as pa
import pytest

from reverse_etl.clock import Clock
from reverse_etl.destinations.hubspot import HubSpot, HubSpotConfig
from reverse_etl.errors import AuthError, BatchRefused, DailyLimit, DestinationError
from reverse_etl.model import Batch, Operation
from reverse_etl.protocols import Opening
from reverse_etl.sandbox.hubspot.writes import Rules
from reverse_etl.sandbox.server import Sandbox, running
from reverse_etl.verdicts import Outcomes, Verdict
from tests.unit.destinations.hubspot.script import NoMemory

T = TypeVar("T")


class Hasty(Clock):
    """The machine's clock, but what would be waited is skipped."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped

    async def sleep(self, seconds: float) -> None:
        self.skipped += seconds
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with running(rate=None) as server:
        yield server


def use(sandbox: Sandbox, scenario: Callable[[HubSpot], Awaitable[T]], **settings: Any) -> T:
    async def all_of_it() -> T:
        config = HubSpotConfig.model_validate(
            {"type": "hubspot", "access_token": "sandbox-token", "base_url": sandbox.url, **settings}
        )
        hubspot = HubSpot(config, Opening(name="crm", memory=NoMemory(), clock=Hasty()))
        try:
            return await scenario(hubspot)
        finally:
            await hubspot.aclose()

    return anyio.run(all_of_it)


async def batch(
    hubspot: HubSpot,
    operation: Operation,
    columns: Mapping[str, Sequence[object]],
    *,
    object: str = "contacts",
    match: str = "email",
    record_ids: Sequence[str | None] | None = None,
    sends: Mapping[str, Sequence[bool]] | None = None,
) -> Batch:
    """A batch as a run makes it, with the fields as HubSpot describes them."""
    fields = (await hubspot.describe(object)).fields
    rows = pa.RecordBatch.from_pydict({name: pa.array(list(values)) for name, values in columns.items()})
    size = rows.num_rows
    return Batch(
        object=object,
        operation=operation,
        match=match,
        fields=tuple(fields[name] for name in columns),
        rows=rows,
        keys=pa.array([str(at) for at in range(size)]),
        record_ids=pa.array(record_ids or [None] * size, pa.string()),
        sends=None if sends is None else pa.RecordBatch.from_pydict(dict(sends)),
    )


def write(
    sandbox: Sandbox,
    operation: Operation,
    columns: Mapping[str, Sequence[object]],
    *,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Outcomes:
    async def scenario(hubspot: HubSpot) -> Outcomes:
        return await hubspot.write(await batch(hubspot, operation, columns, **more))

    return use(sandbox, scenario, **(settings or {}))


def verdicts(outcomes: Outcomes) -> list[str]:
    return [verdict.name for verdict in outcomes.verdicts]


def people(count: int) -> dict[str, Sequence[object]]:
    return {"email": [f"Person{n}@Example.com" for n in range(count)], "firstname": [f"Per {n}" for n in range(count)]}


# --- the account and its fields ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2026-09", "2026-03", "2025-09", "v3"])
def test_every_version_opens_describes_and_writes(sandbox: Sandbox, version: str) -> None:
    async def scenario(hubspot: HubSpot) -> str:
        outcomes = await hubspot.write(await batch(hubspot, Operation.UPSERT, people(3)))
        assert verdicts(outcomes) == ["CREATED"] * 3
        return await hubspot.account()

    assert use(sandbox, scenario, api_version=version).isdecimal()
    assert len(sandbox.hubspot.records("contacts")) == 3


def test_the_fields_say_what_may_be_mapped(sandbox: Sandbox) -> None:
    fields = use(sandbox, lambda hubspot: hubspot.describe("contacts")).fields
    assert (fields["email"].identifies, fields["email"].folds_case) == (True, True)
    assert fields["app_user_id"].identifies
    assert "lead" in (fields["lifecyclestage"].options or ())
    assert fields["hubspot_owner_id"].options is None
    assert fields["lastmodifieddate"].read_only is not None


def test_an_unknown_object_is_named_with_the_nearest(sandbox: Sandbox) -> None:
    with pytest.raises(DestinationError, match="no object 'contcts'") as caught:
        use(sandbox, lambda hubspot: hubspot.describe("contcts"))
    assert (caught.value.code, caught.value.hint) == ("destination_object", "did you mean 'contacts'?")


def test_P22_a_wrong_token_and_a_missing_scope_stop_the_run(sandbox: Sandbox) -> None:
    with pytest.raises(AuthError, match="connection 'crm'"):
        use(sandbox, lambda hubspot: hubspot.account(), access_token="pat-na1-wrong")
    sandbox.hubspot.limits.tokens["sandbox-token"].scopes = frozenset({"crm.objects.contacts.read"})
    with pytest.raises(AuthError, match=r"crm\.objects\.contacts\.write"):
        write(sandbox, Operation.UPSERT, people(1))
    assert sandbox.hubspot.records("contacts") == []


def test_P17_the_daily_limit_ends_the_run() -> None:
    with running(rate=None, hubspot_daily=2) as sandbox, pytest.raises(DailyLimit) as caught:
        write(sandbox, Operation.UPSERT, people(1))  # describing is the first call
        write(sandbox, Operation.UPSERT, people(1))
    assert "run again after" in str(caught.value.hint)


# --- writing -------------------------------------------------------------------------------------------------------


def test_a_hundred_rows_arrive_in_one_call_and_are_told_apart(sandbox: Sandbox) -> None:
    write(sandbox, Operation.UPSERT, {"email": ["person7@example.com"], "firstname": ["Old"]})
    outcomes = write(sandbox, Operation.UPSERT, people(100))
    assert [at for at, verdict in enumerate(outcomes.verdicts) if verdict is Verdict.UPDATED] == [7]
    assert outcomes.verdicts.count(Verdict.CREATED) == 99
    for at in (0, 7, 99):
        record = sandbox.hubspot.record("contacts", str(outcomes.record_ids[at]))
        assert record is not None
        assert record["properties"]["firstname"] == f"Per {at}"
    assert len(sandbox.requests.matching("POST", "batch/upsert")) == 2


RULES = [
    Rules(),
    Rules(mixed_status=200),
    Rules(update_traces=False),
    Rules(echo_trace_ids=True),
    Rules(strict=True),
]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("version", ["2026-09", "v3"])
def test_every_row_gets_its_own_verdict_whichever_way_hubspot_answers(rules: Rules, version: str) -> None:
    with running(rate=None, rules=rules) as sandbox:
        outcomes = write(
            sandbox,
            Operation.UPSERT,
            {
                "email": ["ada@x.io", "bad@@x", "Cat@X.io", "dan@x.io"],
                "lifecyclestage": ["lead", "lead", "nonsense", "customer"],
            },
            settings={"api_version": version},
        )
        assert verdicts(outcomes) == ["CREATED", "REJECTED", "REJECTED", "CREATED"]
        assert [outcomes.refusals[at].code for at in (1, 2)] == ["INVALID_EMAIL", "INVALID_OPTION"]
        assert all(refusal.request_id for refusal in outcomes.refusals.values())

        ids = [outcomes.record_ids[0], "999999", outcomes.record_ids[3]]
        changed = write(
            sandbox,
            Operation.UPDATE,
            {"email": ["ada@x.io", "eve@x.io", "dan@x.io"], "workspaces_total": ["5", "6", "many"]},
            settings={"api_version": version},
            record_ids=ids,
        )
        assert verdicts(changed) == ["UPDATED", "MISSING", "REJECTED"]
        ada = sandbox.hubspot.find("contacts", "email", "ada@x.io")
        assert ada is not None
        assert ada["properties"]["workspaces_total"] == "5"


def test_only_the_changed_fields_are_sent_and_null_clears(sandbox: Sandbox) -> None:
    made = write(sandbox, Operation.UPSERT, {"email": ["a@x.io"], "firstname": ["Ada"], "lastname": ["L"]})
    sandbox.hubspot.change("contacts", str(made.record_ids[0]), {"firstname": "By hand"})
    write(
        sandbox,
        Operation.UPDATE,
        {"email": ["a@x.io"], "firstname": ["Ada"], "lastname": pa.array([None], pa.string()).to_pylist()},
        record_ids=made.record_ids,
        sends={"email": [False], "firstname": [False], "lastname": [True]},
    )
    record = sandbox.hubspot.record("contacts", str(made.record_ids[0]))
    assert record is not None
    assert record["properties"]["firstname"] == "By hand"
    assert not record["properties"].get("lastname")


def test_an_insert_skips_what_exists(sandbox: Sandbox) -> None:
    old = write(sandbox, Operation.UPSERT, {"email": ["a@x.io"], "firstname": ["Ada"]})
    outcomes = write(sandbox, Operation.CREATE, {"email": ["A@x.io", "b@x.io"], "firstname": ["Not me", "Bob"]})
    assert verdicts(outcomes) == ["SKIPPED", "CREATED"]
    assert outcomes.record_ids[0] == old.record_ids[0]
    ada = sandbox.hubspot.find("contacts", "email", "a@x.io")
    assert ada is not None
    assert ada["properties"]["firstname"] == "Ada"


def test_an_archived_record_is_gone_and_an_update_says_so(sandbox: Sandbox) -> None:
    made = write(sandbox, Operation.UPSERT, people(2))
    removed = write(sandbox, Operation.REMOVE, people(2), record_ids=made.record_ids)
    assert verdicts(removed) == ["REMOVED", "REMOVED"]
    assert sandbox.hubspot.records("contacts") == []
    assert verdicts(write(sandbox, Operation.REMOVE, people(2), record_ids=made.record_ids)) == ["REMOVED", "REMOVED"]
    assert verdicts(write(sandbox, Operation.UPDATE, people(2), record_ids=made.record_ids)) == ["MISSING", "MISSING"]
    assert verdicts(write(sandbox, Operation.UPDATE, people(2))) == ["MISSING", "MISSING"]


def test_a_contact_known_by_a_secondary_address_is_updated_and_its_id_kept(sandbox: Sandbox) -> None:
    both = write(sandbox, Operation.UPSERT, {"email": ["work@x.io", "home@x.io"], "firstname": ["Ada", "Ada"]})
    merge(sandbox, *[str(each) for each in both.record_ids])
    merged = sandbox.hubspot.find("contacts", "email", "home@x.io")
    assert merged is not None
    outcomes = write(sandbox, Operation.UPSERT, {"email": ["home@x.io", "new@x.io"], "firstname": ["Ada L.", "New"]})
    assert verdicts(outcomes) == ["UPDATED", "CREATED"]
    assert outcomes.record_ids[0] == merged["id"]
    by_old_id = write(
        sandbox,
        Operation.UPDATE,
        {"email": ["home@x.io"], "firstname": ["Ada B."]},
        record_ids=both.record_ids[1:],
        sends={"email": [False], "firstname": [True]},
    )
    assert (verdicts(by_old_id), by_old_id.record_ids) == (["UPDATED"], [merged["id"]])


def merge(sandbox: Sandbox, primary: str, other: str) -> None:
    async def scenario(hubspot: HubSpot) -> None:
        body = {"primaryObjectId": primary, "objectIdToMerge": other}
        await hubspot._http.send("POST", "/crm/objects/2026-09/contacts/merge", json=body, idempotent=True)

    use(sandbox, scenario)


def test_a_match_that_is_not_unique_is_a_configuration_error(sandbox: Sandbox) -> None:
    with pytest.raises(DestinationError, match="'domain'") as caught:
        write(sandbox, Operation.UPSERT, {"domain": ["x.io"], "name": ["X"]}, object="companies", match="domain")
    assert caught.value.code == "destination_config"


def test_two_rows_that_reach_one_record_by_secondary_addresses_are_left_to_be_halved(sandbox: Sandbox) -> None:
    both = write(sandbox, Operation.UPSERT, {"email": ["work@x.io", "home@x.io"], "firstname": ["A", "A"]})
    merge(sandbox, *[str(each) for each in both.record_ids])
    try:
        outcomes = write(sandbox, Operation.UPSERT, {"email": ["work@x.io", "home@x.io"], "firstname": ["B", "C"]})
    except BatchRefused:
        return
    assert verdicts(outcomes) == ["UPDATED", "UPDATED"]


def test_values_arrive_as_they_are(sandbox: Sandbox) -> None:
    when = datetime(2026, 11, 23, 2, 3, 4, 567_000, tzinfo=UTC)
    columns: dict[str, Sequence[object]] = {
        "email": ["zoë@exämple.com"],
        "firstname": ["Zoë 🦊 \u200d\n“x” \\ \x7f"],
        "workspaces_total": [Decimal("12345678901234567890.120")],
        "closedate": [when],
        "lifecyclestage": ["customer"],
    }
    outcomes = write(sandbox, Operation.UPSERT, columns)
    assert verdicts(outcomes) == ["CREATED"]
    record = sandbox.hubspot.record("contacts", str(outcomes.record_ids[0]))
    assert record is not None
    kept = record["properties"]
    assert kept["firstname"] == columns["firstname"][0]
    assert kept["workspaces_total"] == "12345678901234567890.12"
    assert kept["closedate"] == "2026-11-23T02:03:04.567Z"
    assert date.fromisoformat(kept["closedate"][:10]) == when.date()


def test_records_are_read_back_by_match(sandbox: Sandbox) -> None:
    made = write(sandbox, Operation.UPSERT, people(150 % 100))
    asked = ["PERSON3@example.com", "nobody@example.com"]
    found = use(sandbox, lambda hubspot: hubspot.find("contacts", "email", asked, ["firstname", "lastname"]))
    assert found == {"PERSON3@example.com": {"id": made.record_ids[3], "firstname": "Per 3", "lastname": None}}


# --- what goes wrong on the way ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 423},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 500, "applied": True},
        {"kind": "status", "status": 503},
        {"kind": "status", "status": 477, "retry_after": "3"},
        {"kind": "throttle", "policy": "ten_secondly"},
        {"kind": "throttle", "policy": "secondly", "retry_after": "1"},
        {"kind": "html", "status": 502},
        {"kind": "html", "status": 504, "applied": True},
        {"kind": "cut"},
        {"kind": "cut", "applied": True},
        {"kind": "truncate"},
        {"kind": "empty"},
        {"kind": "reverse"},
    ],
    ids=str,
)
def test_P04_what_heals_is_healed_and_every_row_arrives_once(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    sandbox.faults.add(fault.pop("kind"), path="batch/upsert", **fault)
    outcomes = write(sandbox, Operation.UPSERT, people(20))
    assert not outcomes.unanswered()
    assert {verdict.name for verdict in outcomes.verdicts} <= {"CREATED", "UPDATED"}
    assert len(sandbox.hubspot.records("contacts")) == 20


def test_P21_a_row_left_out_of_the_answer_stays_without_one(sandbox: Sandbox) -> None:
    sandbox.faults.add("omit", path="batch/upsert", rows=3)
    outcomes = write(sandbox, Operation.UPSERT, people(20))
    assert len(outcomes.unanswered()) == 3


def test_P21_a_stranger_in_the_answer_is_no_ones(sandbox: Sandbox) -> None:
    sandbox.faults.add("stranger", path="batch/upsert")
    outcomes = write(sandbox, Operation.UPSERT, people(20))
    assert verdicts(outcomes) == ["CREATED"] * 20
    known = {record["id"] for record in sandbox.hubspot.records("contacts")}
    assert set(outcomes.record_ids) == known


def test_a_record_mentioned_twice_is_one_verdict(sandbox: Sandbox) -> None:
    sandbox.faults.add("duplicate", path="batch/upsert")
    assert verdicts(write(sandbox, Operation.UPSERT, people(20))) == ["CREATED"] * 20


def test_a_row_that_the_destination_refuses_by_its_own_rules_is_rejected_alone(sandbox: Sandbox) -> None:
    sandbox.faults.add("refuse", path="batch/upsert", rows=2, code="CUSTOM_RULE", message="a rule of the admin")
    outcomes = write(sandbox, Operation.UPSERT, people(20))
    assert outcomes.verdicts.count(Verdict.REJECTED) == 2
    assert {refusal.code for refusal in outcomes.refusals.values()} == {"CUSTOM_RULE"}


@pytest.mark.parametrize("applied", [False, True])
def test_P04_an_insert_whose_answer_is_lost_is_sent_again_and_makes_no_second_record(
    sandbox: Sandbox, applied: bool
) -> None:
    sandbox.faults.add("cut", path="batch/create", applied=applied)
    outcomes = write(sandbox, Operation.CREATE, people(5))
    assert set(outcomes.verdicts) == {Verdict.SKIPPED if applied else Verdict.CREATED}
    assert len(sandbox.requests.matching("POST", "batch/create")) == 2
    assert len(sandbox.hubspot.records("contacts")) == 5


def test_P23_an_outage_gets_one_call_in_thirty_seconds_for_ten_minutes(sandbox: Sandbox) -> None:
    sandbox.faults.add("status", path="batch/upsert", status=503, times=None)
    with pytest.raises(DestinationError, match=r"has not answered for 6.. s") as caught:
        write(sandbox, Operation.UPSERT, people(5))
    assert caught.value.doubtful
    assert len(sandbox.requests.matching("POST", "batch/upsert")) <= 5 + 600 / 30 + 1


# --- an OAuth app ----------------------------------------------------------------------------------------------------

APP = {"access_token": None, "client_id": "sandbox", "client_secret": "sandbox-secret"}


def test_an_oauth_app_writes_and_its_token_is_renewed_when_hubspot_ends_it(sandbox: Sandbox) -> None:
    async def write_twice(hubspot: HubSpot) -> tuple[list[Verdict], list[Verdict]]:
        rows = await batch(hubspot, Operation.UPSERT, {"email": ["ada@x.example"], "firstname": ["Ada"]})
        first = await hubspot.write(rows)
        for token in list(sandbox.hubspot.limits.tokens):
            sandbox.hubspot.limits.expire(token)
        return first.verdicts, (await hubspot.write(rows)).verdicts

    verdicts = use(sandbox, write_twice, **APP, refresh_token="sandbox-refresh-token")
    assert verdicts == ([Verdict.CREATED], [Verdict.UPDATED])
    exchanges = [entry for entry in sandbox.requests if entry.path == "/oauth/2026-09/token"]
    assert len(exchanges) == 2


def test_an_oauth_token_is_renewed_before_it_ends(sandbox: Sandbox) -> None:
    async def look_twice(hubspot: HubSpot) -> None:
        await hubspot.account()
        assert isinstance(hubspot._opening.clock, Hasty)
        hubspot._opening.clock.skipped += 0.86 * 1800
        await hubspot.account()

    use(sandbox, look_twice, **APP, refresh_token="sandbox-refresh-token")
    assert [entry.status for entry in sandbox.requests] == [200] * 4


def test_a_revoked_consent_stops_with_the_remedy(sandbox: Sandbox) -> None:
    sandbox.hubspot.oauth.refresh_tokens.clear()
    with pytest.raises(AuthError, match="connection 'crm' no access token: BAD_REFRESH_TOKEN") as caught:
        use(sandbox, HubSpot.account, **APP, refresh_token="sandbox-refresh-token")
    assert "install it in the account again" in str(caught.value.hint)
