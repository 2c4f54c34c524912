"""Tokens, scopes and limits of the emulated HubSpot."""

from __future__ import annotations

import httpx

from reverse_etl.sandbox.hubspot.limits import Token
from reverse_etl.sandbox.server import Sandbox, running

DETAILS = "/account-info/2026-09/details"


def test_a_missing_an_unknown_and_an_expired_token_get_their_own_401(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    missing = httpx.get(sandbox.url + DETAILS, trust_env=False)
    assert (missing.status_code, missing.json()["category"]) == (401, "INVALID_AUTHENTICATION")
    unknown = hubspot.get(DETAILS, headers={"Authorization": "Bearer nonsense"})
    assert (unknown.status_code, unknown.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    assert unknown.json()["context"]["expire time"] == ["1970-01-01T00:00:00.000Z"]
    token = sandbox.hubspot.limits.grant(60)
    headers = {"Authorization": f"Bearer {token}"}
    assert hubspot.get(DETAILS, headers=headers).status_code == 200
    sandbox.clock.advance(135)
    expired = hubspot.get(DETAILS, headers=headers).json()
    assert expired["message"] == "The OAuth token used to make this call expired 75 second(s) ago."


def test_a_token_without_the_scope_is_told_which_it_lacks(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.hubspot.limits.tokens["reader"] = Token(frozenset({"crm.objects.contacts.read"}))
    headers = {"Authorization": "Bearer reader"}
    assert hubspot.get("/crm/v3/objects/contacts", headers=headers).status_code == 200
    refused = hubspot.post("/crm/v3/objects/contacts/batch/upsert", json={}, headers=headers)
    assert (refused.status_code, refused.json()["category"]) == (403, "MISSING_SCOPES")
    assert refused.json()["errors"][0]["context"] == {"requiredGranularScopes": ["crm.objects.contacts.write"]}


def test_more_requests_in_ten_seconds_than_allowed_get_a_429_until_the_window_has_room() -> None:
    with running(rate=5) as sandbox:
        headers = {"Authorization": "Bearer sandbox-token"}
        with httpx.Client(base_url=sandbox.url, trust_env=False, headers=headers) as client:
            answers = [client.get(DETAILS) for _ in range(6)]
            assert [answer.status_code for answer in answers] == [200] * 5 + [429]
            assert [answer.headers["X-HubSpot-RateLimit-Remaining"] for answer in answers[:5]] == [
                "4",
                "3",
                "2",
                "1",
                "0",
            ]
            assert answers[0].headers["X-HubSpot-RateLimit-Max"] == "5"
            assert answers[0].headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
            body = answers[5].json()
            assert (body["errorType"], body["policyName"]) == ("RATE_LIMIT", "TEN_SECONDLY_ROLLING")
            assert body["correlationId"] == answers[5].headers["X-HubSpot-Correlation-Id"]
            sandbox.clock.advance(10.1)
            assert client.get(DETAILS).status_code == 200


def test_the_daily_quota_ends_the_day_and_starts_anew_at_midnight() -> None:
    with running(rate=None, hubspot_daily=2) as sandbox:
        headers = {"Authorization": "Bearer sandbox-token"}
        with httpx.Client(base_url=sandbox.url, trust_env=False, headers=headers) as client:
            assert client.get(DETAILS).headers["X-HubSpot-RateLimit-Daily-Remaining"] == "1"
            client.get(DETAILS)
            refused = client.get(DETAILS)
            assert (refused.status_code, refused.json()["policyName"]) == (429, "DAILY")
            sandbox.clock.advance(86_400)
            assert client.get(DETAILS).status_code == 200


def test_search_has_a_bucket_of_its_own_and_no_interval_headers(hubspot: httpx.Client) -> None:
    answers = [hubspot.post("/crm/v3/objects/contacts/search", json={}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[5].json()["category"] == "RATE_LIMITS"
    assert "X-HubSpot-RateLimit-Max" not in answers[0].headers
    assert "X-HubSpot-RateLimit-Daily" in answers[0].headers


def test_an_oauth_app_refreshes_its_token_and_sees_no_daily_quota(sandbox: Sandbox) -> None:
    form = {
        "grant_type": "refresh_token",
        "client_id": "sandbox",
        "client_secret": "sandbox-secret",
        "refresh_token": "sandbox-refresh-token",
    }
    with httpx.Client(base_url=sandbox.url, trust_env=False) as client:
        granted = client.post("/oauth/2026-09/token", data=form).json()
        assert (granted["expires_in"], granted["refresh_token"]) == (1800, "sandbox-refresh-token")
        answer = client.get(DETAILS, headers={"Authorization": f"Bearer {granted['access_token']}"})
        assert answer.status_code == 200
        assert "X-HubSpot-RateLimit-Daily" not in answer.headers
        sandbox.hubspot.oauth.refresh_tokens.clear()
        revoked = client.post("/oauth/v3/token", data=form)
        assert (revoked.status_code, revoked.json()["status"]) == (400, "BAD_REFRESH_TOKEN")
        assert revoked.json()["error"] == "invalid_grant"
        wrong = client.post("/oauth/v3/token", data={**form, "client_secret": "no"})
        assert wrong.json()["status"] == "BAD_CLIENT_SECRET"
        in_query = client.post("/oauth/v3/token", params=form)
        assert in_query.status_code == 400


def test_associations_have_a_window_and_a_day_of_their_own() -> None:
    with running(rate=3) as sandbox:
        headers = {"Authorization": "Bearer sandbox-token"}
        labels = "/crm/v4/associations/contacts/companies/labels"
        pair = "/crm/v4/objects/contacts/1/associations/companies"
        with httpx.Client(base_url=sandbox.url, trust_env=False, headers=headers) as client:
            assert [client.get(path).status_code for path in (labels, pair, labels, labels)] == [200, 200, 200, 429]
            spared = client.get(DETAILS)
            assert (spared.status_code, spared.headers["X-HubSpot-RateLimit-Remaining"]) == (200, "2")
            assert sandbox.hubspot.limits.used_today == 1
            sandbox.clock.advance(10.1)
            assert client.get(labels).headers["X-HubSpot-RateLimit-Max"] == "3"
            sandbox.hubspot.limits.daily_associations = sandbox.hubspot.limits.associations_today
            assert client.get(labels).json()["policyName"] == "DAILY"
            assert client.get(DETAILS).status_code == 200
            sandbox.clock.advance(86_400)
            assert client.get(labels).status_code == 200


def test_a_large_account_may_make_150_association_calls_in_ten_seconds() -> None:
    with running(rate=190) as sandbox, running(rate=None) as unlimited:
        assert sandbox.hubspot.limits.association_rate == 150
        assert unlimited.hubspot.limits.association_rate is None


def test_associations_need_the_scopes_of_both_sides(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.hubspot.limits.tokens["reader"] = Token(frozenset({"crm.objects.contacts.read"}))
    headers = {"Authorization": "Bearer reader"}
    for path, needed in (
        ("/crm/associations/2026-09/contacts/0-2/labels", ["contacts", "companies"]),
        ("/crm/v4/objects/0-1/1/associations/default/companies", ["contacts", "companies"]),
    ):
        refused = hubspot.get(path, headers=headers)
        assert refused.json()["errors"][0]["context"] == {
            "requiredGranularScopes": [f"crm.objects.{name}.read" for name in needed]
        }


def test_tickets_and_custom_objects_have_scopes_by_other_names(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    car = {"name": "cars", "labels": {"singular": "Car", "plural": "Cars"}, "properties": []}
    hubspot.post("/crm-object-schemas/v3/schemas", json=car)
    sandbox.hubspot.limits.tokens["nobody"] = Token(frozenset())
    for kind, scope in (
        ("0-5", "tickets"),
        ("cars", "crm.objects.custom.read"),
        ("contact", "crm.objects.contacts.read"),
    ):
        refused = hubspot.get(f"/crm/v3/objects/{kind}", headers={"Authorization": "Bearer nobody"}).json()
        assert refused["errors"][0]["context"] == {"requiredGranularScopes": [scope]}


def test_a_token_can_be_looked_into_and_revoked_and_lives_as_long_as_told(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    sandbox.hubspot.oauth.seconds = 5
    form = {
        "grant_type": "refresh_token",
        "client_id": "sandbox",
        "client_secret": "sandbox-secret",
        "refresh_token": "sandbox-refresh-token",
    }
    token = hubspot.post("/oauth/2026-09/token", data=form).json()["access_token"]
    app = {"Authorization": f"Bearer {token}"}
    assert hubspot.post("/oauth/2026-09/token/introspect", data={"token": token}).json()["active"] is True
    assert hubspot.get(DETAILS, headers=app).status_code == 200
    assert hubspot.post("/__time", json={"advance": 6}).status_code == 200
    assert hubspot.get(DETAILS, headers=app).json()["category"] == "EXPIRED_AUTHENTICATION"
    hubspot.post("/oauth/2026-09/token/revoke", data={"token": "sandbox-refresh-token"})
    assert hubspot.post("/oauth/2026-09/token", data=form).json()["status"] == "BAD_REFRESH_TOKEN"


def test_events_that_are_sent_count_in_no_limit_but_need_a_token(sandbox: Sandbox) -> None:
    event = {"eventName": "pe1_visit", "email": "ada@x.io", "properties": {}}
    sandbox.hubspot.limits.rate = 1
    with httpx.Client(base_url=sandbox.url, trust_env=False) as client:
        assert client.post("/events/v3/send", json=event).status_code == 401
        headers = {"Authorization": "Bearer sandbox-token"}
        assert {client.post("/events/v3/send", json=event, headers=headers).status_code for _ in range(3)} == {204}
    assert sandbox.hubspot.limits.used_today == 0
