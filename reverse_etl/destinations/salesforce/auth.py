"""Sessions: how one is opened, kept for the whole process, and replaced when Salesforce ends it.

A login answers with a token, the org's own address (every later call goes there) and an `id` URL that ends in
`/{org id}/{user id}`. It tells no lifetime: a session lasts as long as the org says, so its end shows as a 401.
(help.salesforce.com, "OAuth Authorization Flows" and "OAuth 2.0 Authorization Errors"; read in 2026.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
import orjson
from anyio.lowlevel import RunVar
from pydantic import SecretStr

from reverse_etl.answer import Answer
from reverse_etl.destinations.salesforce import assertion
from reverse_etl.destinations.salesforce.config import (
    AccessToken,
    ClientCredentials,
    JwtBearer,
    RefreshToken,
    SalesforceConfig,
)
from reverse_etl.errors import AuthError, DestinationError, InDoubt, Throttled, Unavailable
from reverse_etl.http import Http
from reverse_etl.protocols import Opening
from reverse_etl.redaction import SECRETS
from reverse_etl.urls import checked_base_url

TOKEN_PATH = "/services/oauth2/token"  # noqa: S105  # a path, not a secret
# Looks, in seconds after one another, whether another process has used the same refresh token a moment before.
CHANGED_ELSEWHERE = (0.0, 0.5, 2.0)


@dataclass(frozen=True)
class Identity:
    """Whose session it is."""

    organization: str
    user: str


@dataclass(frozen=True)
class Session:
    """An open door. `identity` is None when the token was given to us ready-made."""

    token: SecretStr
    instance_url: str
    identity: Identity | None = None


_sessions: dict[str, Session] = {}  # of the process, by what opens them
_opening: RunVar[dict[str, anyio.Lock]] = RunVar("reverse_etl_salesforce_logins")


class Sessions:
    """The session of one connection, as `http.Credential`.

    Runs of one process share it: it is opened once, however many ask, and a newer one that another run got is taken
    over instead of opening yet another.
    """

    def __init__(self, config: SalesforceConfig, opening: Opening, login: Http) -> None:
        self._name = opening.name
        self._auth = config.auth
        self._login_url = config.login_url
        self._memory = opening.memory
        self._clock = opening.clock
        self._login = login
        self._key = fingerprint(config)
        self._session: Session | None = None
        self._refused: AuthError | None = None

    async def current(self) -> Session:
        """The session, opened first if there is none."""
        if self._session is None:
            self._session = await self._open(refused=None)
        return self._session

    async def headers(self) -> Mapping[str, str]:
        session = await self.current()
        return {"authorization": f"Bearer {session.token.get_secret_value()}"}

    async def renew(self) -> bool:
        if isinstance(self._auth, AccessToken):
            return False
        refused = await self.current()
        self._session = await self._open(refused)
        if self._session.instance_url != refused.instance_url:
            raise AuthError(
                f"destination {self._name!r}: the org has moved to {self._session.instance_url}",
                hint="run the sync again: it will go there",
            )
        return True

    async def _open(self, refused: Session | None) -> Session:
        if isinstance(self._auth, AccessToken):
            return Session(self._auth.access_token, self._auth.instance_url)
        async with self._alone():
            known = _sessions.get(self._key)
            if known is None or known == refused:
                if self._refused is not None:  # to a call beside this one
                    raise self._refused
                known = _sessions[self._key] = await self._log_in()
        return known

    def _alone(self) -> anyio.Lock:
        locks = _opening.get({})
        _opening.set(locks)
        return locks.setdefault(self._key, anyio.Lock())

    async def _log_in(self) -> Session:
        form = self._form()
        try:
            answer = await self._granted(form)
        except AuthError as refused:
            answer = await self._granted(await self._changed_elsewhere(form, refused))
        return self._session_in(answer)

    async def _granted(self, form: Mapping[str, str]) -> Answer:
        return await self._login.send("POST", TOKEN_PATH, form=form, idempotent=True, authorized=False)

    async def _changed_elsewhere(self, shown: Mapping[str, str], refused: AuthError) -> dict[str, str]:
        """What to show instead, as another process was told a newer refresh token. Raises `refused`."""
        for pause in CHANGED_ELSEWHERE if isinstance(self._auth, RefreshToken) else ():
            await self._clock.sleep(pause)
            if (form := self._form()) != shown:
                return form
        self._refused = refused
        raise refused

    def _session_in(self, answer: Answer) -> Session:
        granted = answer.json()
        try:
            token, instance_url = granted["access_token"], checked_base_url(granted["instance_url"])
            identity = identity_in(granted["id"])
        except (KeyError, TypeError, ValueError, AttributeError) as unreadable:
            raise DestinationError(
                f"destination {self._name!r}: the login answered with something that is not a session",
                hint="check login_url: it must be the org's own address (Setup, My Domain)",
                code="destination_unreadable",
                request_id=answer.request_id,
            ) from unreadable
        SECRETS.learn(str(given) for given in (token, granted.get("refresh_token")) if given)
        self._keep_rotated(granted.get("refresh_token"))
        return Session(SecretStr(str(token)), instance_url, identity)

    def _form(self) -> dict[str, str]:
        auth = self._auth
        if isinstance(auth, JwtBearer):
            told = assertion.signed(self._name, auth, self._login_url, self._clock.now())
            SECRETS.learn([told])
            return {"grant_type": assertion.GRANT, "assertion": told}
        form: dict[str, str] = {"grant_type": auth.flow}
        if isinstance(auth, ClientCredentials | RefreshToken):
            form["client_id"] = auth.client_id
            if auth.client_secret is not None:
                form["client_secret"] = auth.client_secret.get_secret_value()
        if isinstance(auth, RefreshToken):
            form["refresh_token"] = self._memory.get(self._rotated) or auth.refresh_token.get_secret_value()
        return form

    @property
    def _rotated(self) -> str:
        """Where the newest refresh token is remembered; another configured one starts afresh."""
        return f"refresh_token.{self._key[:16]}"

    def _keep_rotated(self, token: object) -> None:
        if isinstance(self._auth, RefreshToken) and isinstance(token, str) and token:
            self._memory.put(self._rotated, token)


def fingerprint(config: SalesforceConfig) -> str:
    """What tells two connections apart, without telling their secrets."""
    auth = config.auth
    match auth:
        case ClientCredentials():
            parts = [config.login_url, auth.client_id, auth.client_secret.get_secret_value()]
        case JwtBearer():
            parts = [config.login_url, auth.client_id, auth.username]
        case RefreshToken():
            parts = [config.login_url, auth.client_id, auth.refresh_token.get_secret_value()]
        case AccessToken():
            parts = [auth.instance_url, auth.access_token.get_secret_value()]
    return hashlib.sha256(orjson.dumps([auth.flow, *parts])).hexdigest()


def identity_in(identity_url: str) -> Identity:
    """Org and user out of `https://.../id/{org}/{user}`. Raises ValueError when they aren't there."""
    parts = urlsplit(identity_url).path.strip("/").split("/")
    if len(parts) != 3 or parts[0] != "id":
        raise ValueError("not an identity URL")
    return Identity(full_id(parts[1]), parts[2])


def full_id(record_id: str) -> str:
    """The 18-character form of an id: three more characters say which of the first 15 are capitals."""
    if len(record_id) == 18:
        return record_id
    if len(record_id) != 15 or not record_id.isalnum():
        raise ValueError("not a Salesforce id")
    check = (
        sum(1 << place for place, letter in enumerate(record_id[start : start + 5]) if "A" <= letter <= "Z")
        for start in (0, 5, 10)
    )
    return record_id + "".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[bits] for bits in check)


# What a refused login means, by error and a part of its description ("" is any), the first that fits.
_REFUSALS: tuple[tuple[str, str, str], ...] = (
    ("invalid_grant", "expired access/refresh token", "the refresh token was revoked or has expired: connect again"),
    (
        "invalid_grant",
        "request not supported on this domain",
        "set login_url to the org's own address, such as https://acme.my.salesforce.com (Setup, My Domain)",
    ),
    (
        "invalid_grant",
        "no client credentials user enabled",
        "name a user to run as: Setup, App Manager, the app, Edit Policies, Client Credentials Flow",
    ),
    (
        "invalid_grant",
        "user hasn't approved this consumer",
        "let the user use the app beforehand: Setup, App Manager, the app, Edit Policies, Permitted Users: Admin "
        "approved users are pre-authorized; then add one of the user's profiles or permission sets",
    ),
    (
        "invalid_grant",
        "audience",
        "login_url must be the page of this very org: test.salesforce.com or its My Domain for a sandbox",
    ),
    (
        "invalid_grant",
        "assertion",
        "the key must belong to the certificate that was uploaded to the app; also check this machine's clock",
    ),
    ("invalid_grant", "", "the credentials were refused: check them, and that the user is active and may use the app"),
    (
        "invalid_client_id",
        "",
        "client_id is not known there: copy the Consumer Key again; a new app may take ten minutes to become known",
    ),
    (
        "invalid_client",
        "",
        "client_id and client_secret don't fit together: copy both again; a new app may take ten minutes",
    ),
    ("inactive_user", "", "the user is deactivated: activate it, or let the app run as another"),
    ("inactive_org", "", "the org is locked, closed or suspended: ask Salesforce"),
    ("app_not_found", "", "the app is not installed in this org, or was deleted: check client_id and login_url"),
    ("unsupported_grant_type", "", "the app doesn't allow this flow: enable it in the app's settings"),
    ("invalid_request", "", "the request was refused: check client_id, the secret and login_url"),
)


def of_login(name: str, answer: Answer) -> DestinationError | None:
    """The error that a login's answer stands for, with the remedy; None when it was granted."""
    if 200 <= answer.status < 300:
        return None
    told = _told(answer)
    error, description = str(told.get("error", "")), str(told.get("error_description", ""))
    words = f"{error}: {description}" if error else f"HTTP {answer.status}"
    message = f"destination {name!r}: the login to Salesforce was refused: {words}"
    if answer.status == 429 or error == "rate_limit_exceeded" or "login rate exceeded" in description:
        return Throttled(message, hint="too many logins within the hour", status=answer.status)
    if answer.status == 420:
        return Unavailable(message, status=answer.status)
    if answer.status >= 500:
        return InDoubt(message, status=answer.status)
    hint = next(
        (remedy for known, part, remedy in _REFUSALS if known == error and part in description.lower()),
        "check login_url and the credentials of this connection",
    )
    return AuthError(message, hint=hint, status=answer.status, request_id=answer.request_id)


def _told(answer: Answer) -> dict[str, object]:
    try:
        told = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}
