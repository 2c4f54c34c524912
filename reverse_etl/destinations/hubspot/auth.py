"""What opens an account: the token of a private app, or an OAuth app's consent that is exchanged for short tokens.

An OAuth access token lives for half an hour. HubSpot asks to exchange it by `expires_in`, and not to wait for a 401
(https://developers.hubspot.com/docs/api-reference/error-handling, read 2026-11); one that comes all the same is
answered by one more exchange. The endpoint takes form fields in the body only.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from pydantic import SecretStr

from reverse_etl.answer import Answer
from reverse_etl.clock import Clock
from reverse_etl.destinations.hubspot.config import HubSpotConfig, OAuthApp
from reverse_etl.destinations.hubspot.errors import body_of, request_id, shortened, unreadable
from reverse_etl.errors import AuthError, DestinationError, InDoubt, Throttled, Unavailable
from reverse_etl.http import Http
from reverse_etl.protocols import Memory, Opening
from reverse_etl.redaction import SECRETS

LIFETIME_SECONDS = 1800.0  # where the answer doesn't tell one
USED_SHARE = 0.85  # of a token's life


class StaticToken:
    """The token of a private app: it never expires by itself, and only a person can renew it."""

    def __init__(self, token: SecretStr) -> None:
        self._headers = {"authorization": f"Bearer {token.get_secret_value()}"}

    async def headers(self) -> Mapping[str, str]:
        return self._headers

    async def renew(self) -> bool:
        return False


@dataclass(frozen=True)
class Grant:
    """An access token, good until `renew_at` of the clock's monotonic time, and the refresh token that came with it."""

    token: SecretStr
    refresh_token: SecretStr
    renew_at: float


_grants: dict[tuple[str, Clock], Grant] = {}  # of the process, by what opens them
_exchanging: dict[str, threading.Lock] = {}  # held while one is asked for, in whatever event loop
LOOK_AGAIN_SECONDS = 0.05
# Looks, in seconds after one another, whether another process has exchanged the same refresh token a moment before.
CHANGED_ELSEWHERE = (0.0, 0.5, 2.0)


class Grants:
    """The access token of one OAuth connection, as `http.Credential`.

    Runs of one process share it: it is exchanged once, however many ask, and one that another run got is taken over.
    """

    def __init__(self, app: OAuthApp, key: str, path: str, opening: Opening, http: Http) -> None:
        self._app = app
        self._key = key
        self._path = path
        self._connection = opening.name
        self._memory: Memory = opening.memory
        self._clock = opening.clock
        self._http = http
        self._used: Grant | None = None
        self._refused: AuthError | None = None

    async def headers(self) -> Mapping[str, str]:
        grant = self._known()
        if grant is None or grant.renew_at <= self._clock.monotonic():
            grant = await self._newer_than(grant)
        self._used = grant
        return {"authorization": f"Bearer {grant.token.get_secret_value()}"}

    async def renew(self) -> bool:
        self._used = await self._newer_than(self._used)
        return True

    async def _newer_than(self, stale: Grant | None) -> Grant:
        async with self._alone():
            known = self._known()
            if known is None or known == stale:
                if self._refused is not None:  # to a call beside this one
                    raise self._refused
                known = _grants[self._key, self._clock] = await self._exchange(known)
        return known

    def _known(self) -> Grant | None:
        return _grants.get((self._key, self._clock))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One exchange at a time: a second one could be made with a refresh token that the first has ended."""
        lock = _exchanging.setdefault(self._key, threading.Lock())
        while not lock.acquire(blocking=False):
            await self._clock.sleep(LOOK_AGAIN_SECONDS)
        try:
            yield
        finally:
            lock.release()

    async def _exchange(self, known: Grant | None) -> Grant:
        refresh_token = self._refresh_token(known)
        try:
            granted = body_of(await self._granted(refresh_token))
        except AuthError as refused:
            refresh_token = await self._changed_elsewhere(refresh_token, refused)
            granted = body_of(await self._granted(refresh_token))
        newer = granted.get("refresh_token")
        if isinstance(newer, str) and newer and newer != refresh_token:
            self._memory.put(self._rotated, newer)
            refresh_token = newer
        token = str(granted["access_token"])
        SECRETS.learn([token, refresh_token])
        return Grant(
            token=SecretStr(token),
            refresh_token=SecretStr(refresh_token),
            renew_at=self._clock.monotonic() + USED_SHARE * _lifetime(granted),
        )

    async def _changed_elsewhere(self, shown: str, refused: AuthError) -> str:
        """The refresh token that another process was told in exchange for the one we showed. Raises `refused`."""
        for pause in CHANGED_ELSEWHERE:
            await self._clock.sleep(pause)
            kept = self._memory.get(self._rotated)
            if kept is not None and kept != shown:
                return kept
        self._refused = refused
        raise refused

    async def _granted(self, refresh_token: str) -> Answer:
        """The answer. The call that waits for the token was not made: a doubt about the exchange is none about rows."""
        form = {
            "grant_type": "refresh_token",
            "client_id": self._app.client_id,
            "client_secret": self._app.client_secret.get_secret_value(),
            "refresh_token": refresh_token,
        }
        try:
            return await self._http.send("POST", self._path, form=form, idempotent=True)
        except (Throttled, Unavailable, InDoubt) as failure:
            raise DestinationError(
                failure.message,
                hint=failure.hint or "nothing was sent; run again",
                code="destination_unavailable",
                status=failure.status,
                request_id=failure.request_id,
            ) from failure

    def _refresh_token(self, known: Grant | None) -> str:
        """The newest there is; what other processes kept counts for more than what this one has seen."""
        kept = self._memory.get(self._rotated)
        if kept is not None:
            return kept
        return (known.refresh_token if known is not None else self._app.refresh_token).get_secret_value()

    @property
    def _rotated(self) -> str:
        """Where the newest refresh token is remembered; another configured one starts afresh."""
        return f"refresh_token.{self._key[:16]}"


def fingerprint(config: HubSpotConfig) -> str:
    """What tells two accounts' connections apart, without telling their secrets."""
    app = config.oauth
    parts = [config.token.get_secret_value()] if app is None else [app.client_id, app.refresh_token.get_secret_value()]
    return hashlib.sha256(orjson.dumps([config.base_url, *parts])).hexdigest()


# What a refused exchange means, by HubSpot's `status` or OAuth's `error`, and what to do.
_REMEDIES: dict[str, str] = {
    "BAD_REFRESH_TOKEN": "the app was uninstalled or its consent revoked: install it in the account again, and put the "
    "new refresh token where refresh_token reads it",
    "BAD_CLIENT_ID": "copy client_id anew from the app's Auth page in HubSpot",
    "BAD_CLIENT_SECRET": "copy client_secret anew from the app's Auth page in HubSpot: it belongs to client_id",
    "BAD_REDIRECT_URI": "the refresh token was made for another app: check client_id, and install the app again",
    "BAD_GRANT_TYPE": "the address takes no refresh tokens: check base_url and api_version",
    "BAD_AUTH_CODE": "refresh_token seems to hold a one-time code: exchange it for a refresh token first",
    "BAD_HUB": "the HubSpot account is gone or closed: connect one that is open",
    "invalid_grant": "install the app in the account again, and put the new refresh token where refresh_token reads it",
    "invalid_client": "copy client_id and client_secret anew from the app's Auth page in HubSpot",
    "access_denied": "the HubSpot account is gone or closed: connect one that is open",
}


def of_exchange(answer: Answer, connection: str) -> DestinationError | None:
    """The error that a token endpoint's answer stands for, with the remedy; None when a token was granted."""
    said = body_of(answer)
    if 200 <= answer.status < 300:
        token = said.get("access_token")
        return None if isinstance(token, str) and token else unreadable("the answer holds no access token", answer)
    status, error = str(said.get("status") or ""), str(said.get("error") or "")
    words = shortened(str(said.get("message") or said.get("error_description") or f"HTTP {answer.status}"))
    code = status if status in _REMEDIES else error
    message = f"HubSpot granted the connection {connection!r} no access token: {f'{code}: ' if code else ''}{words}"
    if answer.status >= 429:
        kind = Throttled if answer.status == 429 else InDoubt
        return kind(message, status=answer.status, request_id=request_id(said, answer))
    return AuthError(
        message,
        hint=_REMEDIES.get(code, "check client_id, client_secret, refresh_token and base_url of this connection"),
        status=answer.status,
        request_id=request_id(said, answer),
    )


def _lifetime(granted: Mapping[str, object]) -> float:
    told = granted.get("expires_in")
    return float(told) if isinstance(told, int | float) and told > 0 else LIFETIME_SECONDS
