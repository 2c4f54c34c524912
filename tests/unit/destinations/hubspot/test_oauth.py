"""OAuth: one exchange for all, before the token ends; a newer consent is kept; every refusal has its remedy."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import anyio
import httpx
import pytest

from reverse_etl.destinations.hubspot import HubSpot, HubSpotConfig
from reverse_etl.destinations.hubspot.auth import fingerprint
from reverse_etl.errors import AuthError, DestinationError, InDoubt
from reverse_etl.http import SESSION
from reverse_etl.model import Operation
from reverse_etl.protocols import Opening
from reverse_etl.testing.clock import Forgetful
from tests.unit.destinations.hubspot.script import EMAIL, Script, batch, refused

_apps = itertools.count()
DETAILS = httpx.Response(200, json={"portalId": 4711, "timeZone": "UTC"})


def app() -> dict[str, str]:
    """The settings of an app that no other test shares."""
    return {"client_id": f"app-{next(_apps)}", "client_secret": "canary-secret", "refresh_token": "first-consent"}


def granted(token: str, *, refresh: str = "first-consent", seconds: object = 1800) -> httpx.Response:
    body = {"access_token": token, "refresh_token": refresh, "expires_in": seconds, "token_type": "bearer"}
    return httpx.Response(200, json=body)


def expired() -> httpx.Response:
    return refused("The OAuth token used to make this call expired.", status=401, category="EXPIRED_AUTHENTICATION")


def script(*steps: httpx.Response | Exception) -> Script:
    made = Script(*steps)
    made.memory = Forgetful()
    return made


def forms(script: Script) -> list[dict[str, str]]:
    return [dict(parse_qsl(request.content.decode())) for request in script.asked if "token" in request.url.path]


def tokens(script: Script) -> list[str]:
    return [
        request.headers["authorization"].removeprefix("Bearer ")
        for request in script.asked
        if "authorization" in request.headers
    ]


@pytest.mark.parametrize(
    ("version", "path"),
    [
        ("2026-09", "/oauth/2026-09/token"),
        ("2026-03", "/oauth/2026-03/token"),
        ("2025-09", "/oauth/v3/token"),
        ("v3", "/oauth/v3/token"),
    ],
)
def test_the_consent_is_exchanged_in_the_form_body_for_a_token(version: str, path: str) -> None:
    told, settings = script(granted("t1"), DETAILS), app()
    assert told.run(lambda hubspot: hubspot.account(), api_version=version, **settings) == "4711"
    exchange, call = told.asked
    assert (exchange.method, exchange.url.path, exchange.url.query) == ("POST", path, b"")
    assert exchange.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in exchange.headers
    assert forms(told) == [{"grant_type": "refresh_token", **settings}]
    assert call.headers["authorization"] == "Bearer t1"


def test_every_call_counts_also_the_exchange() -> None:
    told = script(granted("t1"), DETAILS)

    async def ask(hubspot: HubSpot) -> int:
        await hubspot.account()
        return hubspot.traffic.requests

    assert told.run(ask, **app()) == 2


def test_many_calls_at_once_exchange_once_and_a_second_run_takes_the_token_over() -> None:
    told, settings = script(granted("t1"), *[DETAILS] * 5), app()

    async def crowd(hubspot: HubSpot) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(hubspot.account)
        second = told.destination(**settings)
        await second.account()
        await second.aclose()

    told.run(crowd, **settings)
    assert tokens(told) == ["t1"] * 5


def test_a_token_is_renewed_at_85_percent_of_its_life() -> None:
    told = script(granted("t1", seconds=100), DETAILS, DETAILS, granted("t2"), DETAILS)

    async def ask(hubspot: HubSpot) -> None:
        await hubspot.account()
        await anyio.sleep(84)
        await hubspot.account()
        await anyio.sleep(2)
        await hubspot.account()

    told.run(ask, **app())
    assert tokens(told) == ["t1", "t1", "t2"]


@pytest.mark.parametrize("seconds", [None, 0, "soon"])
def test_a_lifetime_that_is_not_told_is_half_an_hour(seconds: object) -> None:
    told = script(granted("t1", seconds=seconds), DETAILS, DETAILS, granted("t2"), DETAILS)

    async def ask(hubspot: HubSpot) -> None:
        await hubspot.account()
        await anyio.sleep(1500)
        await hubspot.account()
        await anyio.sleep(40)
        await hubspot.account()

    told.run(ask, **app())
    assert tokens(told) == ["t1", "t1", "t2"]


def test_an_expired_token_is_exchanged_once_for_all_and_the_calls_repeated() -> None:
    told = script(granted("t1"), expired(), expired(), granted("t2"), DETAILS, DETAILS)

    async def crowd(hubspot: HubSpot) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(hubspot.account)

    told.run(crowd, **app())
    assert tokens(told) == ["t1", "t1", "t2", "t2"]


def test_a_second_refusal_stands() -> None:
    told = script(granted("t1"), expired(), granted("t2"), expired())
    with pytest.raises(AuthError, match="connection 'crm'") as caught:
        told.run(lambda hubspot: hubspot.account(), **app())
    assert caught.value.code == SESSION


def test_a_token_that_is_refused_for_another_reason_is_not_exchanged_again() -> None:
    other = refused("Authentication credentials not found.", status=401, category="INVALID_AUTHENTICATION")
    told = script(granted("t1"), other)
    with pytest.raises(AuthError, match="connection 'crm'") as caught:
        told.run(lambda hubspot: hubspot.account(), **app())
    assert "private app" not in str(caught.value.hint)


def test_a_static_token_is_never_renewed() -> None:
    told = Script(expired())
    with pytest.raises(AuthError, match="connection 'crm'") as caught:
        told.run(lambda hubspot: hubspot.account())
    assert (caught.value.code, len(told.asked)) == ("destination_credential", 1)


def test_a_newer_consent_is_kept_and_used_from_then_on() -> None:
    told, settings = script(granted("t1", refresh="second-consent", seconds=100), DETAILS), app()
    told.run(lambda hubspot: hubspot.account(), **settings)
    later = script(granted("t2", refresh="second-consent"), DETAILS)
    later.memory = told.memory
    later.run(lambda hubspot: hubspot.account(), **settings)  # its clock is another one: nothing is known but that
    assert [form["refresh_token"] for form in forms(told) + forms(later)] == ["first-consent", "second-consent"]


def test_the_same_consent_given_back_is_not_kept() -> None:
    told = Script(granted("t1"), DETAILS)

    class Untouched(Forgetful):
        def put(self, name: str, value: str | None) -> None:
            raise AssertionError("there is nothing new to keep")

    told.memory = Untouched()
    told.run(lambda hubspot: hubspot.account(), **app())


def test_another_configured_consent_starts_afresh() -> None:
    settings = app()
    told = script(granted("t1", refresh="second-consent"), DETAILS)
    told.run(lambda hubspot: hubspot.account(), **settings)
    later = script(granted("t2", refresh="new-consent"), DETAILS)
    later.memory = told.memory
    later.run(lambda hubspot: hubspot.account(), **{**settings, "refresh_token": "new-consent"})
    assert forms(later)[0]["refresh_token"] == "new-consent"


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        ("BAD_REFRESH_TOKEN", "invalid_grant", "install it in the account again"),
        ("BAD_CLIENT_ID", "invalid_client", "copy client_id anew"),
        ("BAD_CLIENT_SECRET", "invalid_client", "copy client_secret anew"),
        ("BAD_REDIRECT_URI", "invalid_request", "made for another app"),
        ("BAD_GRANT_TYPE", "unsupported_grant_type", "check base_url and api_version"),
        ("BAD_AUTH_CODE", "invalid_grant", "one-time code"),
        ("BAD_HUB", "access_denied", "gone or closed"),
        ("SOMETHING_NEW", "invalid_client", "copy client_id and client_secret anew"),
        ("SOMETHING_NEW", "something_new", "check client_id, client_secret, refresh_token and base_url"),
    ],
)
def test_P22_every_refused_exchange_names_the_connection_and_the_remedy(status: str, error: str, remedy: str) -> None:
    body = {"error": error, "error_description": "no", "status": status, "message": "no", "correlationId": "c-1"}
    told = script(httpx.Response(400, json=body))
    with pytest.raises(AuthError, match="connection 'crm'") as caught:
        told.run(lambda hubspot: hubspot.account(), **app())
    assert remedy in str(caught.value.hint)
    assert (caught.value.code, caught.value.request_id, len(told.asked)) == ("destination_credential", "c-1", 1)
    assert "canary" not in f"{caught.value} {caught.value.hint}"


def test_an_exchange_that_fails_for_now_is_tried_again() -> None:
    told = script(httpx.Response(429), httpx.Response(502, text="<html>"), granted("t1"), DETAILS)
    assert told.run(lambda hubspot: hubspot.account(), **app()) == "4711"


@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.Response(200, json={"token": 1})])
def test_without_a_token_nothing_was_sent_so_no_row_is_in_doubt(answer: httpx.Response) -> None:
    told = script(*[answer] * 6)
    rows = batch(Operation.CREATE, {EMAIL: ["ada@x.example"]})
    with pytest.raises(DestinationError) as caught:
        told.run(lambda hubspot: hubspot.write(rows), **app())
    assert not isinstance(caught.value, InDoubt)
    assert (caught.value.code, tokens(told)) == ("destination_unavailable", [])


def test_P18_connections_of_one_consent_share_its_allowance() -> None:
    settings, told = app(), Script()
    assert told.destination(**settings)._allowances is told.destination(**settings)._allowances
    assert told.destination(**settings)._allowances is not told.destination(**app())._allowances


def test_a_missing_scope_of_an_app_says_to_install_it_again() -> None:
    scopes = [{"message": "required", "context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}]
    told = script(granted("t1"), refused("not granted", status=403, category="MISSING_SCOPES", errors=scopes))
    with pytest.raises(AuthError, match="lacks a scope") as caught:
        told.run(lambda hubspot: hubspot.account(), **app())
    assert "install the app in the account again" in str(caught.value.hint)


def test_runs_in_several_event_loops_exchange_once() -> None:
    """As two threads of one process would: each refresh token is good for one exchange only."""
    settings, asked = app(), list[str]()
    memory, arrived = Forgetful(), threading.Barrier(2)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if "token" in request.url.path:
            time.sleep(0.2)
            return granted(f"t{len(asked)}", refresh=f"consent-{len(asked)}")
        return DETAILS

    async def ask() -> str:
        config = HubSpotConfig.model_validate({"type": "hubspot", **settings})
        hubspot = HubSpot(config, Opening("crm", memory), transport=httpx.MockTransport(answer))
        arrived.wait(5)
        try:
            return await hubspot.account()
        finally:
            await hubspot.aclose()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: anyio.run(ask), range(2))) == ["4711", "4711"]
    assert sum("token" in path for path in asked) == 1


def test_a_consent_that_another_process_changed_a_moment_before_is_looked_up_again() -> None:
    settings = app()
    told = script(granted("t2", refresh="third-consent"), DETAILS)
    kept = f"refresh_token.{fingerprint(HubSpotConfig.model_validate({'type': 'hubspot', **settings}))[:16]}"

    def too_late(_request: httpx.Request) -> httpx.Response:
        told.memory.put(kept, "second-consent")
        return httpx.Response(400, json={"status": "BAD_REFRESH_TOKEN"})

    told.steps.insert(0, too_late)
    assert told.run(lambda hubspot: hubspot.account(), **settings) == "4711"
    assert [form["refresh_token"] for form in forms(told)] == ["first-consent", "second-consent"]


def test_P22_a_refused_exchange_is_asked_for_once_however_many_calls_wait_for_it() -> None:
    told = script(httpx.Response(400, json={"status": "BAD_REFRESH_TOKEN"}))
    refusals: list[AuthError] = []

    async def crowd(hubspot: HubSpot) -> None:
        async def one() -> None:
            with pytest.raises(AuthError) as caught:
                await hubspot.account()
            refusals.append(caught.value)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(one)

    told.run(crowd, **app())
    assert (len(refusals), len(forms(told))) == (4, 1)
