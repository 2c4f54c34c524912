"""The token endpoint for OAuth apps: form fields in the body, tokens of half an hour, the same refresh token back."""

from __future__ import annotations

import uuid
from typing import Any

from reverse_etl.sandbox.hubspot.errors import Refusal, not_found
from reverse_etl.sandbox.hubspot.limits import APP_ID, Limits
from reverse_etl.sandbox.hubspot.portal import PORTAL_ID
from reverse_etl.sandbox.messages import Request, Response, empty, json_response

CLIENT_ID = "sandbox"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105  # the emulator's published credential
REFRESH_TOKEN = "sandbox-refresh-token"  # noqa: S105  # likewise
USER_ID = 456
SCOPES = ["oauth", "crm.objects.contacts.read", "crm.objects.contacts.write"]


class OAuth:
    """`seconds`: a token's life. `refresh_tokens` can be emptied, as an account does that removes the app.

    `rotates`: every exchange ends the refresh token it was asked with and gives another one, as OAuth allows and
    HubSpot doesn't do today.
    """

    def __init__(self, limits: Limits, seconds: float = 1800) -> None:
        self._limits = limits
        self.seconds = seconds
        self.refresh_tokens = {REFRESH_TOKEN}
        self.rotates = False

    def answer(self, request: Request, rest: list[str]) -> Response:
        form = request.form()
        match request.method, rest:
            case "POST", ["token"]:
                return self._token(form)
            case "POST", ["token", "introspect"]:
                known = self._limits.tokens.get(form.get("token", ""))
                return json_response(200, {"active": known is not None, "hub_id": PORTAL_ID})
            case "POST", ["token", "revoke"]:
                self.refresh_tokens.discard(form.get("token", ""))
                self._limits.tokens.pop(form.get("token", ""), None)
                return empty()
            case "GET", ["access-tokens", token] if (held := self._limits.tokens.get(token)) is not None:
                left = 0.0 if held.until is None else held.until - self._limits.now()
                return json_response(200, {**_about(token, "access"), "expires_in": max(0, int(left))})
            case "GET", ["refresh-tokens", token] if token in self.refresh_tokens:
                return json_response(200, {**_about(token, "refresh"), "client_id": CLIENT_ID})
            case "DELETE", ["refresh-tokens", token]:
                self.refresh_tokens.discard(token)
                return empty()
        raise not_found()

    def _token(self, form: dict[str, str]) -> Response:
        grant, refresh = form.get("grant_type"), form.get("refresh_token", "")
        if grant not in ("refresh_token", "authorization_code", "client_credentials"):
            raise _refused("BAD_GRANT_TYPE", "unsupported_grant_type", "missing or unknown grant_type")
        if form.get("client_id") != CLIENT_ID:
            raise _refused("BAD_CLIENT_ID", "invalid_client", "missing or invalid client id")
        if form.get("client_secret") != CLIENT_SECRET:
            raise _refused("BAD_CLIENT_SECRET", "invalid_client", "missing or invalid client secret")
        if grant == "refresh_token" and refresh not in self.refresh_tokens:
            raise _refused("BAD_REFRESH_TOKEN", "invalid_grant", "refresh token is invalid, expired or revoked")
        if grant == "authorization_code" and not form.get("code"):
            raise _refused("BAD_AUTH_CODE", "invalid_grant", "missing or invalid auth code")
        if refresh and self.rotates:
            self.refresh_tokens.discard(refresh)
            refresh = f"{REFRESH_TOKEN}-{uuid.uuid4().hex}"
            self.refresh_tokens.add(refresh)
        answer = {
            "access_token": self._limits.grant(self.seconds),
            "refresh_token": refresh or REFRESH_TOKEN,
            "expires_in": int(self.seconds),
            "token_type": "bearer",
            "hub_id": PORTAL_ID,
            "user_id": USER_ID,
            "scopes": SCOPES,
            "token_use": "access_token",
        }
        return json_response(200, answer)


def _about(token: str, kind: str) -> dict[str, Any]:
    return {
        "token": token,
        "token_type": kind,
        "user": "integration@sandbox.example",
        "hub_domain": "sandbox.example",
        "hub_id": PORTAL_ID,
        "app_id": APP_ID,
        "user_id": USER_ID,
        "scopes": SCOPES,
    }


def _refused(status: str, error: str, description: str) -> Refusal:
    refusal = Refusal(400, description, error=error, error_description=description)
    refusal.body["status"] = status
    return refusal
