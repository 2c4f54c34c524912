"""HubSpot's allowances, and what each of its failures makes of a call and of its rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest

from reverse_etl.destinations.hubspot import HubSpot
from reverse_etl.destinations.hubspot.allowances import Allowances
from reverse_etl.destinations.hubspot.config import HubSpotConfig
from reverse_etl.destinations.hubspot.paths import bucket
from reverse_etl.errors import BatchRefused, DailyLimit, DestinationError, InDoubt, Unavailable
from reverse_etl.model import Operation
from reverse_etl.protocols import Opening
from reverse_etl.verdicts import Outcomes, Verdict
from tests.unit.destinations.hubspot.script import EMAIL, NoMemory, Script, answer, batch, record, refused
from tests.virtual_time import VirtualClock

# --- which allowance a call uses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/crm/objects/2026-09/contacts/batch/upsert", "ordinary"),
        ("/crm/v3/objects/contacts/batch/read", "ordinary"),
        ("/crm/objects/2026-09/contacts/search", "search"),
        ("/crm/v3/objects/2-345/search", "search"),
        ("/crm/lists/2026-09/search", "ordinary"),
        ("/crm/associations/2026-09/contacts/companies/batch/create", "associations"),
        ("/crm/v4/associations/contacts/companies/labels", "associations"),
        ("/crm/objects/2026-09/contacts/1/associations/companies", "associations"),
        ("/crm/v4/objects/contacts/1/associations/default/companies/2", "associations"),
        ("/events/custom/2026-09/send/batch", "events"),
        ("/events/v3/send", "events"),
        ("/events/custom/2026-09/event-definitions", "ordinary"),
        ("/oauth/2026-09/token", "ordinary"),
    ],
)
def test_a_path_tells_which_allowance_it_uses(path: str, expected: str) -> None:
    assert bucket(path) == expected


def allowances(**rate_limit: Any) -> Allowances:
    config = HubSpotConfig.model_validate({"type": "hubspot", "access_token": "t", "rate_limit": rate_limit})
    return Allowances(config, Opening("crm", NoMemory(), VirtualClock()), "account")


SEARCH, LINKS, OTHER = "/crm/objects/2026-09/contacts/search", "/crm/associations/2026-09/a/b/batch/create", "/x"


@pytest.mark.parametrize(
    ("rate_limit", "ordinary", "links", "searches"),
    [
        ({}, 100, 100, 5),
        ({"reserve": "10%"}, 90, 90, 4),
        ({"requests": 190, "per": "10s"}, 190, 100, 5),
        ({"requests": 40, "per": "10s"}, 40, 40, 5),
        ({"requests": 4, "per": "1s"}, 4, 4, 5),
    ],
)
def test_P18_searches_and_links_have_allowances_of_their_own(
    rate_limit: Any, ordinary: int, links: int, searches: int
) -> None:
    account = allowances(**rate_limit)
    assert [account.of(path).allowance for path in (OTHER, LINKS, SEARCH)] == [ordinary, links, searches]


def told(**more: int) -> httpx.Response:
    names = {"most": "Max", "remaining": "Remaining", "daily": "Daily", "left": "Daily-Remaining"}
    headers = {f"X-HubSpot-RateLimit-{names[name]}": str(number) for name, number in more.items()}
    return httpx.Response(200, json={"portalId": 1, "timeZone": "Europe/Berlin"}, headers=headers)


def test_P18_searches_are_five_in_any_second_beside_other_calls() -> None:
    script = Script(*[told(most=190, remaining=180)] * 30)

    async def ask(hubspot: HubSpot) -> float:
        started = script.clock.monotonic()
        async with anyio.create_task_group() as tasks:
            for _ in range(15):
                tasks.start_soon(send, hubspot, SEARCH)
                tasks.start_soon(send, hubspot, OTHER)
        return script.clock.monotonic() - started

    assert 2 <= script.run(ask) <= 2.1


async def send(hubspot: HubSpot, path: str = OTHER) -> None:
    await hubspot._http.send("POST", path, json={}, idempotent=True)


def test_an_answer_teaches_the_allowance_that_its_call_used() -> None:
    script = Script(told(most=150, remaining=149), told(most=190, remaining=189), told(daily=1000, left=999))

    async def ask(hubspot: HubSpot) -> list[int]:
        await send(hubspot, LINKS)
        await send(hubspot, OTHER)
        await send(hubspot, SEARCH)
        return [hubspot._allowances.of(path).allowance for path in (OTHER, LINKS, SEARCH)]

    assert script.run(ask) == [190, 150, 5]


# --- the day ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "left", "said"),
    [
        ({}, 0, "of HubSpot's 1,000 calls for today 0 are left"),
        ({"rate_limit": {"reserve": "10%"}}, 100, "100 are left, which are reserved for others (reserve: 10%)"),
    ],
)
def test_P17_a_run_ends_before_the_day_is_used_up_and_tells_when_it_begins_anew(
    settings: Any, left: int, said: str
) -> None:
    script = Script(told(daily=1000, left=left + 1), told(daily=1000, left=left))

    async def ask(hubspot: HubSpot) -> None:
        await hubspot.account()
        await send(hubspot)
        with pytest.raises(DailyLimit) as caught:
            await send(hubspot)
        assert said in caught.value.message
        assert caught.value.retry_after == 21 * 3600  # 03:00 in Berlin
        assert "2026-11-24T00:00+01:00" in str(caught.value.hint)
        with pytest.raises(DailyLimit):
            await send(hubspot, SEARCH)

    script.run(ask, **settings)


def test_links_do_not_count_in_the_day_of_other_calls() -> None:
    script = Script(told(daily=1000, left=0), told(most=100, remaining=99))

    async def ask(hubspot: HubSpot) -> None:
        await hubspot.account()
        await send(hubspot, LINKS)

    script.run(ask)


def test_the_next_run_asks_once_and_the_next_day_is_another_one() -> None:
    script = Script(told(daily=9, left=0), told(daily=9, left=0), *[told(daily=9, left=8)] * 2)

    async def ask(hubspot: HubSpot) -> None:
        await hubspot.account()
        later = script.destination(access_token="one-token")
        await send(later)
        with pytest.raises(DailyLimit):
            await send(later)
        await anyio.sleep(21 * 3600)
        await send(later)
        await send(later)
        await later.aclose()

    script.run(ask, access_token="one-token")


def test_an_account_in_an_unknown_zone_is_asked_again_after_an_hour() -> None:
    script = Script(told(daily=9, left=0), told(daily=9, left=8))

    async def ask(hubspot: HubSpot) -> None:
        await send(hubspot)
        await anyio.sleep(3601)
        await send(hubspot)

    script.run(ask)


def test_the_connection_as_it_reads_now_holds_for_runs_that_are_under_way() -> None:
    script = Script()
    first = script.destination(access_token="changing")
    script.destination(access_token="changing", rate_limit={"reserve": "50%"}, patience="1m")
    shared = first._allowances
    assert (shared.allowance, shared.of(SEARCH).allowance, shared.day.reserve) == (50, 2, 0.5)
    assert shared.breaker.patience == 60


# --- what each failure means -----------------------------------------------------------------------------------------

ROWS = {EMAIL: ["a@x.io", "b@x.io"]}


def status(code: int, category: str | None = None, **headers: str) -> httpx.Response:
    body = {"status": "error", "message": "no", "correlationId": "c-1", **({"category": category} if category else {})}
    return httpx.Response(code, json=body, headers=headers)


def gateway(code: int) -> httpx.Response:
    return httpx.Response(code, text="<html>Bad Gateway</html>")


TABLE: list[tuple[str, httpx.Response, type[DestinationError], int, float]] = [
    # what, the answer for ever, how a batch of two fails, after how many calls, the shortest pause between them
    ("locked", status(423), BatchRefused, 3, 2.0),
    ("two writers met", status(409, "CONFLICT_OTHER"), BatchRefused, 3, 0.0),
    ("migrated, back soon", status(477, **{"Retry-After": "20"}), Unavailable, 6, 20.0),
    ("migrated, back tomorrow", status(477, **{"Retry-After": "86400"}), Unavailable, 1, 0.0),
    ("an error of theirs", status(500), InDoubt, 3, 0.0),
    ("processing limit", gateway(502), BatchRefused, 2, 0.0),
    ("unavailable", status(503), InDoubt, 6, 0.0),
    ("unavailable, says a gateway", gateway(503), InDoubt, 6, 0.0),
    ("unavailable, back soon", status(503, **{"Retry-After": "7"}), InDoubt, 6, 7.0),
    ("gateway", gateway(504), BatchRefused, 2, 0.0),
    ("down", gateway(521), InDoubt, 6, 0.0),
    ("no connection", gateway(522), Unavailable, 3, 0.0),
    ("unreachable", gateway(523), InDoubt, 6, 0.0),
    ("timeout", gateway(524), BatchRefused, 2, 0.0),
    ("TLS", gateway(525), Unavailable, 3, 0.0),
    ("a certificate", gateway(526), Unavailable, 3, 0.0),
    ("too large", status(413), BatchRefused, 1, 0.0),
    ("too long", status(414), BatchRefused, 1, 0.0),
    ("not allowed", status(405), DestinationError, 1, 0.0),
    ("not JSON", status(415), DestinationError, 1, 0.0),
]


@pytest.mark.parametrize(("what", "told", "kind", "count", "pause"), TABLE, ids=[row[0] for row in TABLE])
def test_P19_each_failure_is_repeated_as_often_as_it_may_help(
    what: str, told: httpx.Response, kind: type[DestinationError], count: int, pause: float
) -> None:
    at: list[float] = []
    script = Script()

    def answering(request: httpx.Request) -> httpx.Response:
        at.append(script.clock.monotonic())
        return told

    script.steps = [answering] * count

    async def write(hubspot: HubSpot) -> None:
        with pytest.raises(DestinationError) as caught:
            await hubspot.write(batch(Operation.UPSERT, ROWS))
        assert isinstance(caught.value, kind)
        assert kind is not DestinationError or type(caught.value) is DestinationError

    script.run(write)
    assert all(later - earlier >= pause for earlier, later in pairwise(at))


def test_an_account_that_moves_for_a_day_is_said_to() -> None:
    script = Script(status(477, **{"Retry-After": "86400"}))
    with pytest.raises(Unavailable) as caught:
        script.run(lambda hubspot: hubspot.account())
    assert "moving the account" in str(caught.value.hint)
    assert caught.value.retry_after == 86400


@pytest.mark.parametrize("told", [status(423, "LOCKED"), status(409, "CONFLICT_OTHER")])
def test_a_row_whose_record_stays_locked_is_rejected_and_no_other(told: httpx.Response) -> None:
    script = Script(*[told] * 3)

    async def write(hubspot: HubSpot) -> Outcomes:
        return await hubspot.write(batch(Operation.UPSERT, {EMAIL: ["a@x.io"]}))

    outcomes = script.run(write)
    assert outcomes.verdicts == [Verdict.REJECTED]
    assert outcomes.refusals[0].code in ("LOCKED", "CONFLICT_OTHER")


def test_a_lock_that_is_released_costs_a_pause_and_no_row() -> None:
    script = Script(status(423), answer([record("1", email="a@x.io"), record("2", email="b@x.io")]))

    async def write(hubspot: HubSpot) -> Outcomes:
        return await hubspot.write(batch(Operation.UPSERT, ROWS))

    assert set(script.run(write).verdicts) == {Verdict.UPDATED}


@pytest.mark.parametrize(
    ("code", "category"), [(401, "INVALID_AUTHENTICATION"), (403, "MISSING_SCOPES"), (403, "USER_LEVEL"), (404, None)]
)
def test_what_no_repeat_mends_is_asked_once(code: int, category: str | None) -> None:
    script = Script(refused("no", status=code, category=category))
    with pytest.raises(DestinationError):
        script.run(lambda hubspot: hubspot.account())


def test_a_batch_whose_second_call_is_not_made_any_more_tells_what_the_first_one_settled() -> None:
    used_up = refused("You have reached your daily limit.", status=429, errorType="RATE_LIMIT", policyName="DAILY")
    script = Script(answer([record("7", email="a@x.io")]), used_up)
    rows = batch(Operation.UPDATE, ROWS, record_ids=["7", None], sends={"email": [True, True]})

    async def write(hubspot: HubSpot) -> list[Verdict]:
        with pytest.raises(DailyLimit) as caught:
            await hubspot.write(rows)
        assert caught.value.answered is not None
        return caught.value.answered.verdicts

    assert script.run(write) == [Verdict.UPDATED, Verdict.NO_ANSWER]
