"""Logging in to the emulated Salesforce, sessions, and the org's daily allowance."""

from __future__ import annotations

import base64
import json
import time

import httpx
import pytest

from reverse_etl.sandbox.salesforce.org import full_id
from reverse_etl.sandbox.server import Sandbox, running

CLIENT = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"}


def login(sandbox: Sandbox, form: dict[str, str], **more: str) -> httpx.Response:
    return httpx.post(sandbox.url + "/services/oauth2/token", data=form, headers=more, trust_env=False)


def test_client_credentials_are_taken_from_the_body_and_from_basic_authentication(sandbox: Sandbox) -> None:
    packed = base64.b64encode(b"sandbox:sandbox-secret").decode()
    for answer in (
        login(sandbox, CLIENT),
        login(sandbox, {"grant_type": "client_credentials"}, Authorization=f"Basic {packed}"),
    ):
        granted = answer.json()
        assert answer.status_code == 200
        assert granted["instance_url"] == sandbox.url
        assert granted["id"].startswith(sandbox.url + "/id/00D")
        assert "expires_in" not in granted
        headers = {"Authorization": f"Bearer {granted['access_token']}"}
        assert httpx.get(granted["id"], headers=headers, trust_env=False).json()["organization_id"].startswith("00D")
        info = httpx.get(sandbox.url + "/services/oauth2/userinfo", headers=headers, trust_env=False).json()
        assert info["user_id"].startswith("005")


@pytest.mark.parametrize(
    ("form", "error", "description"),
    [
        ({**CLIENT, "client_id": "x"}, "invalid_client_id", "client identifier invalid"),
        ({**CLIENT, "client_secret": "x"}, "invalid_client", "invalid client credentials"),
        ({**CLIENT, "grant_type": "x"}, "unsupported_grant_type", "grant type not supported"),
        ({}, "invalid_request", "must provide grant_type"),
        (
            {**CLIENT, "grant_type": "refresh_token", "refresh_token": "x"},
            "invalid_grant",
            "expired access/refresh token",
        ),
        ({**CLIENT, "grant_type": "password", "username": "x"}, "invalid_grant", "authentication failure"),
    ],
)
def test_a_refused_login_is_an_object_with_its_error(
    sandbox: Sandbox, form: dict[str, str], error: str, description: str
) -> None:
    answer = login(sandbox, form)
    assert (answer.status_code, answer.json()) == (400, {"error": error, "error_description": description})


def test_an_assertion_is_judged_by_its_claims(sandbox: Sandbox) -> None:
    def assertion(**claims: object) -> dict[str, str]:
        named = {"iss": "sandbox", "sub": "integration@sandbox.example", "aud": "https://login.salesforce.com"}
        packed = base64.urlsafe_b64encode(json.dumps({**named, **claims}).encode()).decode().rstrip("=")
        return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": f"e30.{packed}.c2ln"}

    soon = int(time.time()) + 180
    assert login(sandbox, assertion(exp=str(soon))).status_code == 200
    assert (
        login(sandbox, assertion(exp=soon, sub="x")).json()["error_description"] == "user hasn't approved this consumer"
    )
    assert login(sandbox, assertion(exp=1)).status_code == 400
    assert login(sandbox, {**assertion(), "assertion": "nonsense"}).status_code == 400


def test_an_expired_session_is_a_401_with_a_list(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    token = login(sandbox, CLIENT).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert salesforce.get("/limits", headers=headers).status_code == 200
    sandbox.salesforce.sessions.expire(token)
    answer = salesforce.get("/limits", headers=headers)
    assert answer.status_code == 401
    assert answer.json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
    malformed = salesforce.get("/limits", headers={"Authorization": "sandbox-access-token"})
    assert malformed.json()[0]["errorCode"] == "INVALID_AUTH_HEADER"


def test_a_session_lives_two_hours_after_its_last_use(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {login(sandbox, CLIENT).json()['access_token']}"}
    for _ in range(3):
        sandbox.clock.advance(7000)
        assert salesforce.get("/limits", headers=headers).status_code == 200
    sandbox.clock.advance(7300)
    assert salesforce.get("/limits", headers=headers).status_code == 401


def test_every_answer_counts_down_the_days_allowance_until_it_is_used_up() -> None:
    with running(salesforce_daily=2) as sandbox:
        base = sandbox.url + "/services/data"
        headers = {"Authorization": "Bearer sandbox-access-token"}
        with httpx.Client(trust_env=False, headers=headers) as client:
            assert "Sforce-Limit-Info" not in client.get(base).headers
            assert client.get(base + "/v62.0").headers["Sforce-Limit-Info"] == "api-usage=1/2"
            assert client.get(base + "/v62.0/limits").json()["DailyApiRequests"] == {"Max": 2, "Remaining": 0}
            refused = client.get(base + "/v62.0/limits")
            assert refused.status_code == 403
            assert refused.json()[0] == {
                "message": "TotalRequests Limit exceeded.",
                "errorCode": "REQUEST_LIMIT_EXCEEDED",
            }


def test_versions_are_listed_without_a_login_and_retired_ones_are_gone(sandbox: Sandbox) -> None:
    versions = httpx.get(sandbox.url + "/services/data", trust_env=False).json()
    assert {"label": "Winter '25", "url": "/services/data/v62.0", "version": "62.0"} in versions
    headers = {"Authorization": "Bearer sandbox-access-token"}
    retired = httpx.get(sandbox.url + "/services/data/v30.0/limits", headers=headers, trust_env=False)
    assert retired.status_code == 410


def test_an_ids_three_check_characters_tell_its_capitals() -> None:
    assert full_id("0014S000007Nxml") == "0014S000007NxmlQAC"


LOGIN = """<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" {declared}><soapenv:Body>
<{prefix}login{default}><{prefix}username>{name}</{prefix}username><{prefix}password>{password}</{prefix}password>
</{prefix}login></soapenv:Body></soapenv:Envelope>"""
PARTNER = "urn:partner.soap.sforce.com"


def soap(sandbox: Sandbox, body: str, version: str = "59.0") -> httpx.Response:
    headers = {"Content-Type": "text/xml", "SOAPAction": "login"}
    url = f"{sandbox.url}/services/Soap/u/{version}"
    return httpx.post(url, content=body, headers=headers, trust_env=False)


@pytest.mark.parametrize(
    ("prefix", "declared", "default"),
    [("urn:", f'xmlns:urn="{PARTNER}"', ""), ("n1:", f'xmlns:n1="{PARTNER}"', ""), ("", "", f' xmlns="{PARTNER}"')],
)
def test_soap_login_takes_any_prefix_and_answers_bare_elements(
    sandbox: Sandbox, prefix: str, declared: str, default: str
) -> None:
    parts = {"prefix": prefix, "declared": declared, "default": default, "name": "integration@sandbox.example"}
    answer = soap(sandbox, LOGIN.format(**parts, password="sandbox-password"))
    assert answer.status_code == 200
    found = {
        name: answer.text.partition(f"<{name}>")[2].partition("</")[0]
        for name in ("serverUrl", "sessionId", "userId", "organizationId", "passwordExpired")
    }
    assert found["serverUrl"].startswith(f"{sandbox.url}/services/Soap/u/59.0/00D")
    assert (found["userId"][:3], found["organizationId"][:3], found["passwordExpired"]) == ("005", "00D", "false")
    headers = {"Authorization": f"Bearer {found['sessionId']}"}
    assert httpx.get(f"{sandbox.url}/services/data/v59.0/limits", headers=headers, trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("body", "version", "code"),
    [
        (
            LOGIN.format(prefix="", declared="", default=f' xmlns="{PARTNER}"', name="x", password="y"),
            "59.0",
            "INVALID_LOGIN",
        ),
        (
            LOGIN.format(prefix="", declared="", default=f' xmlns="{PARTNER}"', name="x", password="y"),
            "65.0",
            "UNSUPPORTED_API_VERSION",
        ),
        ("<a/>", "59.0", "INVALID_OPERATION"),
        ("nonsense", "59.0", "INVALID_SOAP"),
    ],
)
def test_a_refused_soap_call_is_a_fault_with_its_code(sandbox: Sandbox, body: str, version: str, code: str) -> None:
    answer = soap(sandbox, body, version)
    assert answer.status_code == 500
    assert f"<sf:exceptionCode>{code}</sf:exceptionCode>" in answer.text
    assert f"<faultstring>{code}: " in answer.text


def test_who_one_is_can_be_asked_with_the_token_in_the_address(sandbox: Sandbox) -> None:
    identity = login(sandbox, CLIENT).json()
    query = {"format": "json", "oauth_token": identity["access_token"]}
    answer = httpx.get(identity["id"], params=query, trust_env=False).json()
    assert answer["username"] == "integration@sandbox.example"
    assert httpx.get(identity["id"], params={"oauth_token": "x"}, trust_env=False).status_code == 401
    data = httpx.get(f"{sandbox.url}/services/data/v62.0/limits", params=query, trust_env=False)
    assert data.status_code == 401


def test_the_list_of_versions_costs_nothing(sandbox: Sandbox) -> None:
    answer = httpx.get(sandbox.url + "/services/data", trust_env=False)
    assert "Sforce-Limit-Info" not in answer.headers
    assert sandbox.salesforce.sessions.used == 0


def test_the_days_allowance_starts_anew_after_a_day() -> None:
    with running(salesforce_daily=1) as sandbox:
        headers = {"Authorization": "Bearer sandbox-access-token"}
        with httpx.Client(base_url=sandbox.url, headers=headers, trust_env=False) as client:
            path = "/services/data/v62.0/limits"
            assert [client.get(path).status_code for _ in range(2)] == [200, 403]
            sandbox.clock.advance(86_400)
            assert client.get(path).status_code == 200
