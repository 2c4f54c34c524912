"""Sessions: opened once, renewed once, and every refusal with its remedy."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import anyio
import httpx
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from reverse_etl.destinations.salesforce import Salesforce
from reverse_etl.destinations.salesforce.auth import fingerprint, full_id, identity_in
from reverse_etl.destinations.salesforce.config import SalesforceConfig
from reverse_etl.errors import AuthError, DestinationError, InDoubt, Throttled
from reverse_etl.model import Operation
from reverse_etl.verdicts import Verdict
from tests.unit.destinations.salesforce.org import (
    DATA,
    INSTANCE,
    LOGIN,
    ORG_ID,
    TOKEN,
    UPSERT,
    Org,
    batch,
    new_process,
    refused,
    saved,
    session,
)
from tests.virtual_time import run

KEY = generate_private_key(65537, 2048)
ONE = batch(Operation.UPSERT, {"External_Id__c": ["a"]})
READY = {"flow": "access_token", "access_token": "canary-token", "instance_url": INSTANCE}
REFRESH = {"flow": "refresh_token", "client_id": "app", "refresh_token": "first"}


async def write(salesforce: Salesforce) -> list[Verdict]:
    return (await salesforce.write(ONE)).verdicts


async def account(salesforce: Salesforce) -> str:
    return await salesforce.account()


def test_client_credentials_log_in_at_the_login_url_and_call_the_instance() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved("00Q1", created=True)])
    org.use(write)
    login, call = org.asked
    assert str(login.url) == LOGIN + TOKEN
    assert org.forms() == [{"grant_type": "client_credentials", "client_id": "app", "client_secret": "canary-secret"}]
    assert "authorization" not in login.headers
    assert str(call.url) == INSTANCE + UPSERT
    assert call.headers["authorization"] == "Bearer token-1"
    assert call.headers["sforce-auto-assign"] == "FALSE"
    assert call.headers["sforce-call-options"] == "client=reverse-etl"


def test_a_jwt_is_signed_for_the_login_page_and_renewed_like_any_session() -> None:
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    auth = {"flow": "jwt", "client_id": "app", "username": "sync@acme.com", "private_key": pem.replace("\n", "\\n")}
    org = Org()
    org.tell("PATCH", UPSERT, refused(401, "INVALID_SESSION_ID"), [saved("00Q1", created=True)])
    assert org.use(write, auth=auth, login_url="https://acme--dev.sandbox.my.salesforce.com") == [Verdict.CREATED]
    first, second = org.forms()
    assert first["grant_type"] == second["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, body, signature = (urlsafe_b64decode(part + "==") for part in first["assertion"].split("."))
    signed = first["assertion"].rpartition(".")[0].encode()
    KEY.public_key().verify(signature, signed, PKCS1v15(), SHA256())
    claims = orjson.loads(body)
    assert orjson.loads(head)["alg"] == "RS256"
    assert claims["aud"] == "https://test.salesforce.com"
    assert (claims["iss"], claims["sub"]) == ("app", "sync@acme.com")


@pytest.mark.parametrize("pem", ["-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", None])
def test_a_key_that_can_not_sign_is_named_without_being_shown(pem: str | None) -> None:
    key = {"private_key": pem} if pem else {"private_key_file": "/nowhere/app.pem"}
    with pytest.raises(AuthError, match=r"private.key.*can't be read") as stopped:
        Org().use(account, auth={"flow": "jwt", "client_id": "app", "username": "u", **key})
    assert "AAAA" not in str(stopped.value)
    assert "without a passphrase" in str(stopped.value.hint)


def test_the_account_is_the_org_that_the_login_names() -> None:
    org = Org()
    assert org.use(account) == ORG_ID
    assert len(org.asked) == 1


def test_with_a_ready_token_the_org_is_asked_for_its_id() -> None:
    org = Org()
    org.tell("GET", f"{DATA}/", {"identity": f"https://login.salesforce.com/id/{ORG_ID}/005000000000001AAA"})
    assert org.use(account, auth=READY) == ORG_ID
    assert org.asked[0].headers["authorization"] == "Bearer canary-token"


@pytest.mark.parametrize("answer", [{}, [], {"identity": "https://login.salesforce.com"}, {"identity": 7}])
def test_an_org_that_does_not_tell_its_id_is_not_taken_for_any(answer: object) -> None:
    org = Org()
    org.tell("GET", f"{DATA}/", answer)
    with pytest.raises(InDoubt, match="did not tell its id"):
        org.use(account, auth=READY)


def test_many_calls_at_once_open_one_session() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved("00Q1")])

    async def crowd(salesforce: Salesforce) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(salesforce.write, ONE)

    org.use(crowd)
    assert org.logins == 1


def test_a_second_run_of_the_process_uses_the_session_again() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, [saved("00Q1")])

    async def twice() -> None:
        for salesforce in (org.open(), org.open()):
            await salesforce.write(ONE)
            await salesforce.aclose()

    run(twice)
    assert org.logins == 1


def test_a_session_that_ended_is_renewed_once_for_all_and_the_call_replayed() -> None:
    org = Org()

    def by_token(request: httpx.Request) -> httpx.Response:
        if request.headers["authorization"] == "Bearer token-1":
            return refused(401, "INVALID_SESSION_ID", "Session expired or invalid")
        return httpx.Response(200, json=[saved("00Q1", created=False)])

    org.tell("PATCH", UPSERT, by_token)
    verdicts: list[Verdict] = []

    async def crowd(salesforce: Salesforce) -> None:
        async def one() -> None:
            verdicts.extend(await write(salesforce))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(one)

    org.use(crowd)
    assert verdicts == [Verdict.UPDATED] * 4
    assert org.logins == 2


def test_a_session_refused_again_after_renewal_stops_the_run() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, refused(401, "INVALID_SESSION_ID", "Session expired or invalid"))
    with pytest.raises(AuthError, match=r"'sales'.*INVALID_SESSION_ID"):
        org.use(write)
    assert org.logins == 2
    assert len(org.calls("PATCH", UPSERT)) == 2


def test_a_ready_token_that_ended_can_not_be_renewed() -> None:
    org = Org()
    org.tell("PATCH", UPSERT, refused(401, "INVALID_SESSION_ID", "Session expired or invalid"))
    with pytest.raises(AuthError):
        org.use(write, auth=READY)
    assert len(org.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        refused(401, "INVALID_SESSION_ID", "This session is not valid for use with the REST API"),
        refused(401, "INVALID_SESSION_ID", "Connected app is not attached to Agent"),
        refused(401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE"),
        httpx.Response(401, text="nope"),
    ],
)
def test_a_refusal_that_a_new_session_would_meet_again_is_not_tried_again(answer: httpx.Response) -> None:
    org = Org()
    org.tell("PATCH", UPSERT, answer)
    with pytest.raises(AuthError):
        org.use(write)
    assert org.logins == 1


def test_an_org_that_moved_while_the_run_was_on_ends_it() -> None:
    org = Org()
    org.tell("POST", TOKEN, session("old"), session("new", "https://acme.na2.my.salesforce.com"))
    org.tell("PATCH", UPSERT, refused(401, "INVALID_SESSION_ID"))
    with pytest.raises(AuthError, match=r"moved to https://acme\.na2"):
        org.use(write)


def test_a_refresh_token_opens_a_session_and_its_successor_is_remembered() -> None:
    org = Org()
    org.tell("POST", TOKEN, {**session("one"), "refresh_token": "second"}, session("two"))
    org.use(account, auth=REFRESH, login_url="https://login.salesforce.com")
    new_process()
    org.use(account, auth=REFRESH, login_url="https://login.salesforce.com")
    assert [form["refresh_token"] for form in org.forms()] == ["first", "second"]
    assert "client_secret" not in org.forms()[0]
    org.use(account, auth={**REFRESH, "refresh_token": "anew"}, login_url="https://login.salesforce.com")
    assert org.forms()[2]["refresh_token"] == "anew"


@pytest.mark.parametrize(
    ("error", "description", "remedy"),
    [
        ("invalid_grant", "authentication failure", "check them"),
        ("invalid_grant", "expired access/refresh token", "connect again"),
        ("invalid_grant", "no client credentials user enabled", "name a user to run as"),
        ("invalid_grant", "request not supported on this domain", "the org's own address"),
        ("invalid_grant", "user hasn't approved this consumer", "pre-authorized"),
        ("invalid_grant", "audience is invalid", "login_url"),
        ("invalid_grant", "invalid assertion", "this machine's clock"),
        ("invalid_client_id", "client identifier invalid", "Consumer Key"),
        ("invalid_client", "invalid client credentials", "client_secret"),
        ("inactive_user", "user is inactive", "activate it"),
        ("inactive_org", "organization locked", "ask Salesforce"),
        ("app_not_found", "External client app is not installed", "not installed"),
        ("unsupported_grant_type", "grant type not supported", "enable it"),
        ("invalid_request", "must have a refresh token", "client_id"),
        ("something_new", "who knows", "login_url"),
    ],
)
def test_a_refused_login_names_the_connection_and_the_remedy(error: str, description: str, remedy: str) -> None:
    org = Org()
    org.tell("POST", TOKEN, httpx.Response(400, json={"error": error, "error_description": description}))
    with pytest.raises(AuthError) as caught:
        org.use(account)
    assert "'sales'" in caught.value.message
    assert error in caught.value.message
    assert remedy in (caught.value.hint or "")
    assert "canary" not in str(caught.value)
    assert org.logins == 0


def test_too_many_logins_are_waited_for() -> None:
    org = Org()
    limit = httpx.Response(400, json={"error": "invalid_grant", "error_description": "login rate exceeded"})
    org.tell("POST", TOKEN, limit)
    with pytest.raises(Throttled, match="6 attempts"):
        org.use(account)


@pytest.mark.parametrize("answer", [{"access_token": "t"}, ["x"], session("t", "http://evil.example.com")])
def test_a_login_that_answers_with_no_session_is_refused(answer: object) -> None:
    org = Org()
    org.tell("POST", TOKEN, answer)
    with pytest.raises(DestinationError, match="not a session"):
        org.use(account)


def test_a_short_id_grows_its_check_characters() -> None:
    assert full_id("0014S000007Nxml") == "0014S000007NxmlQAC"
    assert full_id("0014S000007NxmlQAC") == "0014S000007NxmlQAC"
    assert identity_in("https://login.salesforce.com/id/00D000000000001/005x").organization == "00D000000000001EAA"
    for wrong in ("https://x/y", "", "https://login.salesforce.com/id/short/005"):
        with pytest.raises(ValueError, match="not a"):
            identity_in(wrong)


def test_every_call_counts_the_login_included() -> None:
    org = Org()
    org.tell(
        "PATCH", UPSERT, refused(429, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests Limit exceeded."), [saved("1")]
    )

    async def count(salesforce: Salesforce) -> tuple[int, int]:
        await write(salesforce)
        return salesforce.traffic.requests, salesforce.traffic.throttled

    assert org.use(count) == (3, 1)


def test_a_refresh_token_that_another_process_used_a_moment_before_is_looked_up_again() -> None:
    org = Org()
    config = SalesforceConfig.model_validate({"type": "salesforce", "auth": REFRESH, "login_url": LOGIN})

    def of_another_process(_request: httpx.Request) -> httpx.Response:
        org.memory.put(f"refresh_token.{fingerprint(config)[:16]}", "second")
        return httpx.Response(400, json={"error": "invalid_grant", "error_description": "expired access/refresh token"})

    org.tell("POST", TOKEN, of_another_process, session("two"))
    assert org.use(account, auth=REFRESH) == ORG_ID
    assert [form["refresh_token"] for form in org.forms()] == ["first", "second"]


def test_P22_a_refused_login_is_asked_for_once_however_many_calls_wait_for_it() -> None:
    org = Org()
    org.tell("POST", TOKEN, httpx.Response(400, json={"error": "invalid_grant"}))
    refusals: list[AuthError] = []

    async def crowd(salesforce: Salesforce) -> None:
        async def one() -> None:
            with pytest.raises(AuthError) as caught:
                await write(salesforce)
            refusals.append(caught.value)

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(one)

    org.use(crowd)
    assert (len(refusals), len(org.forms())) == (4, 1)
