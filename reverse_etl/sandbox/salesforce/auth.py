"""Logging in, sessions, and the org's daily allowance.

Flows and errors: https://help.salesforce.com/s/articleView?id=sf.remoteaccess_oauth_flow_errors.htm (November 2026).
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import Any

import orjson

from reverse_etl.sandbox.clock import Clock
from reverse_etl.sandbox.messages import Request
from reverse_etl.sandbox.salesforce.errors import OAuthRefusal, Refusal, expired_session
from reverse_etl.sandbox.salesforce.org import ORG_ID, USER_ID

CLIENT_ID = "sandbox"
CLIENT_SECRET = "sandbox-secret"  # noqa: S105  # the emulator's published credential
ACCESS_TOKEN = "sandbox-access-token"  # noqa: S105  # likewise
REFRESH_TOKEN = "sandbox-refresh-token"  # noqa: S105  # likewise
USERNAME = "integration@sandbox.example"
PASSWORD = "sandbox-password"  # noqa: S105  # likewise
SECURITY_TOKEN = "sandbox-security-token"  # noqa: S105  # likewise; follows the password where an address isn't trusted
SESSION = 7200.0
DAY = 86_400
JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass
class Sessions:
    """`daily`: requests in 24 hours, of all clients of the org. `expired` holds tokens that are no longer valid."""

    clock: Clock
    daily: int
    used: int = 0
    until: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.until = {ACCESS_TOKEN: float("inf")}
        self.refresh_tokens = {REFRESH_TOKEN}
        self.used = 0
        self._day = self.clock.now() // DAY

    def admit(self, request: Request) -> None:
        """Counts the request; raises the 401 or 403 that it gets."""
        header = request.headers.get("authorization")
        if header is not None and request.bearer() is None:
            raise Refusal(401, "INVALID_AUTH_HEADER", "INVALID_HEADER_TYPE")
        token = request.bearer() or ""
        if self.until.get(token, 0.0) <= self.clock.now():
            raise expired_session()
        if self.until[token] != float("inf"):
            self.until[token] = self.clock.now() + SESSION
        today = self.clock.now() // DAY
        if today != self._day:
            self._day, self.used = today, 0
        if self.used >= self.daily:
            raise daily_limit()
        self.used += 1

    def expire(self, token: str) -> None:
        self.until.pop(token, None)

    def expire_all(self) -> None:
        self.until.clear()

    def login(self, request: Request, origin: str) -> dict[str, Any]:
        """The token endpoint's answer; raises `OAuthRefusal`."""
        form = request.form()
        grant = form.get("grant_type")
        match grant:
            case "client_credentials":
                self._check_client(request, form)
            case "refresh_token":
                self._check_client(request, form, secret_needed=False)
                if form.get("refresh_token") not in self.refresh_tokens:
                    raise OAuthRefusal("invalid_grant", "expired access/refresh token")
            case "password":
                self._check_client(request, form)
                if form.get("username") != USERNAME or form.get("password") not in (
                    PASSWORD,
                    PASSWORD + SECURITY_TOKEN,
                ):
                    raise OAuthRefusal("invalid_grant", "authentication failure")
            case _ if grant == JWT:
                self._check_assertion(form.get("assertion", ""))
            case None | "":
                raise OAuthRefusal("invalid_request", "must provide grant_type")
            case _:
                raise OAuthRefusal("unsupported_grant_type", "grant type not supported")
        return self._granted(origin, bare=grant == JWT)

    def open(self) -> str:
        """A fresh access token."""
        token = f"{ORG_ID[:15]}!AQ{secrets.token_urlsafe(60)}"
        self.until[token] = self.clock.now() + SESSION
        return token

    def _granted(self, origin: str, *, bare: bool) -> dict[str, Any]:
        answer = {
            "access_token": self.open(),
            "instance_url": origin,
            "id": f"{origin}/id/{ORG_ID}/{USER_ID}",
            "token_type": "Bearer",
            "scope": "api",
        }
        if not bare:
            answer |= {"issued_at": str(int(self.clock.now() * 1000)), "signature": "c2FuZGJveA=="}
        return answer

    def _check_client(self, request: Request, form: dict[str, str], *, secret_needed: bool = True) -> None:
        client, secret = form.get("client_id"), form.get("client_secret")
        scheme, _, packed = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                client, _, secret = base64.b64decode(packed, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise OAuthRefusal("invalid_client", "invalid client credentials") from None
        if client != CLIENT_ID:
            raise OAuthRefusal("invalid_client_id", "client identifier invalid")
        if secret != CLIENT_SECRET and (secret_needed or secret is not None):
            raise OAuthRefusal("invalid_client", "invalid client credentials")

    def _check_assertion(self, assertion: str) -> None:
        """The claims of a JWT. Its signature isn't verified: the sandbox knows no certificate."""
        try:
            _, claims_text, _ = assertion.split(".")
            claims = orjson.loads(base64.urlsafe_b64decode(claims_text + "=" * (-len(claims_text) % 4)))
            until = float(claims["exp"])
        except (ValueError, KeyError, TypeError):
            raise OAuthRefusal("invalid_grant", "invalid assertion") from None
        if claims.get("iss") != CLIENT_ID:
            raise OAuthRefusal("invalid_client_id", "client identifier invalid")
        if claims.get("sub") != USERNAME:
            raise OAuthRefusal("invalid_grant", "user hasn't approved this consumer")
        if not str(claims.get("aud", "")).startswith("http"):
            raise OAuthRefusal("invalid_grant", "audience is invalid")
        if until <= self.clock.now():
            raise OAuthRefusal("invalid_grant", "expired authorization code")


def daily_limit() -> Refusal:
    return Refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")


def concurrent_limit() -> Refusal:
    return Refusal(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded.")
