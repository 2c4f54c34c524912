"""What the daemon answers over HTTP: health, metrics, status, and requests to run a sync.

    GET  /healthz             200 while the daemon turns, else 503
    GET  /readyz              200 while it does its part, which for one of several daemons is to stand by
    GET  /leader              200 while this daemon schedules, else 503
    GET  /metrics             Prometheus text
    GET  /status              what `reverse-etl status --json` prints, and what the daemon is about to do
    POST /syncs/NAME/run      signed: 202 when the sync runs now, or follows the run that is under way

An error is `{"error": {"code", "message"}}`.
"""

from __future__ import annotations

import hmac
import logging
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from reverse_etl.config.daemon import DaemonFile
from reverse_etl.daemon import signature
from reverse_etl.daemon.metrics import CONTENT_TYPE
from reverse_etl.errors import StateError
from reverse_etl.redaction import SECRETS

log = logging.getLogger(__name__)

MOST_BODY = 64 * 1024
BODY_SECONDS = 10.0
ANSWER_SECONDS = 60.0
HEALTHY_SECONDS = 30.0  # without a sign of life the daemon counts as stuck
TRIGGER = "/syncs/"
UNREADY = "no runs are taken on: it starts, is about to end, or can't reach the state's database"


class Watched(Protocol):
    """What the routes may ask of a daemon or a worker."""

    def silent_seconds(self) -> float: ...
    def ready(self) -> bool:
        """Whether it takes on runs."""
        ...

    def standing_by(self) -> str:
        """Who schedules instead of this daemon, in a sentence; empty when it isn't known that somebody does."""
        ...

    def broken(self) -> Mapping[str, Sequence[str]]:
        """What is wrong with the files, by sync or file."""
        ...

    def metrics(self) -> bytes: ...


class Daemon(Watched, Protocol):
    """What they may ask of a daemon alone."""

    async def status(self) -> dict[str, Any]:
        """Raises StateError."""
        ...

    def has(self, sync: str) -> bool: ...
    def ask(self, sync: str, reason: str, who: str) -> bool:
        """A run now. False: one follows that is under way, or waits already. Raises StateError."""
        ...

    def use(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raises BadSignature for a message that isn't signed as it should be, or was taken before."""
        ...

    async def settled(self) -> None:
        """Returns when what was asked for outlives the daemon. Raises StateError."""
        ...


def application(daemon: Daemon, settings: DaemonFile) -> Starlette:
    """The daemon's routes. Each answers only to callers that `settings` lets in."""
    routes = _Routes(daemon, signed=settings.trigger_secret is not None)
    more = [
        Route("/leader", routes.leader, methods=["GET"]),
        Route("/status", routes.status, methods=["GET"]),
        Route(TRIGGER + "{name}/run", routes.run, methods=["POST"]),
    ]
    return _application(_Looks(daemon), settings, more)


def watched(worker: Watched, settings: DaemonFile) -> Starlette:
    """A worker's routes: health, readiness and metrics, for the same callers."""
    return _application(_Looks(worker), settings, [])


def _application(looks: _Looks, settings: DaemonFile, more: Sequence[Route]) -> Starlette:
    return Starlette(
        routes=[
            Route("/healthz", looks.healthz, methods=["GET"]),
            Route("/readyz", looks.readyz, methods=["GET"]),
            Route("/metrics", looks.metrics, methods=["GET"]),
            *more,
        ],
        middleware=[Middleware(Door, settings=settings)],
        exception_handlers={HTTPException: _refuse, StateError: _unusable},
    )


class _Json(JSONResponse):
    """Without secrets, whatever others' words repeat."""

    def render(self, content: Any) -> bytes:
        return SECRETS.clean(super().render(content).decode()).encode()


class Door:
    """Lets in who may: by the name that was called (a page in a browser can't borrow this machine's), and by token."""

    def __init__(self, app: ASGIApp, settings: DaemonFile) -> None:
        self._app = app
        self._token = settings.token.get_secret_value() if settings.token is not None else None
        self._hosts = _hosts(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        with anyio.move_on_after(ANSWER_SECONDS):  # for who doesn't read what he has asked for
            await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if self._hosts is not None and _host_of(request.headers.get("host", "")) not in self._hosts:
            return _error(421, "unknown_host", "this name isn't one of the daemon's: see daemon.allowed_hosts")
        if self._token is None or request.url.path.startswith(TRIGGER):  # those are signed
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token.encode()):
            return None
        return _error(401, "unauthorized", "send `Authorization: Bearer` and daemon.token", bearer=True)


@dataclass(frozen=True)
class _Looks:
    process: Watched

    async def healthz(self, request: Request) -> Response:
        silent = self.process.silent_seconds()
        well = silent < HEALTHY_SECONDS
        status = "ok" if well else f"no sign of life for {silent:.0f} s"
        return _Json({"status": status}, 200 if well else 503)

    async def readyz(self, request: Request) -> Response:
        ready, other = self.process.ready(), self.process.standing_by()
        standing = {"status": _standing(ready, other), "standing_by": other or None, "broken": self.process.broken()}
        return _Json(standing, 200 if ready or other else 503)

    async def metrics(self, request: Request) -> Response:
        return Response(SECRETS.clean(self.process.metrics().decode()), headers={"content-type": CONTENT_TYPE})


@dataclass(frozen=True)
class _Routes:
    daemon: Daemon
    signed: bool

    async def leader(self, request: Request) -> Response:
        ready, other = self.daemon.ready(), self.daemon.standing_by()
        return _Json({"status": _standing(ready, other), "standing_by": other or None}, 200 if ready else 503)

    async def status(self, request: Request) -> Response:
        return _Json(await self.daemon.status())

    async def run(self, request: Request) -> Response:
        if not self.signed:
            return _error(403, "no_trigger_secret", "requests need a key to be signed with: set daemon.trigger_secret")
        if self.daemon.standing_by():  # its signature stays good for the other one
            return _error(503, "standing_by", "another daemon schedules for this state: ask that one")
        if not self.daemon.ready():
            return _error(503, "not_ready", UNREADY)
        body = await _body(request)
        try:
            self.daemon.use(request.headers, body)
        except signature.BadSignature as refused:
            log.warning("a request to run a sync was refused: %s", refused, extra={"code": refused.code})
            return _error(409 if refused.code == "replayed" else 401, refused.code, str(refused))
        name = request.path_params["name"]
        if not self.daemon.has(name):
            return _error(404, "no_such_sync", "there is no such sync")
        asked = f"request {request.headers[signature.ID]}"
        caller = request.client.host if request.client is not None else "an unknown address"
        fresh = self.daemon.ask(name, f"asked for by {asked}", f"daemon.trigger_secret, {asked} from {caller}")
        await self.daemon.settled()
        return _Json({"sync": name, "run": "starts" if fresh else "follows"}, 202)


def _standing(ready: bool, other: str) -> str:
    if ready:
        return "ready"
    return "standing by" if other else UNREADY


async def _body(request: Request) -> bytes:
    """The body, which is small and comes soon."""
    parts: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > MOST_BODY:
                    raise HTTPException(413, f"the body is larger than {MOST_BODY // 1024} KiB")
                parts.append(part)
    except TimeoutError as late:
        raise HTTPException(408, f"the body wasn't complete within {BODY_SECONDS:g} s") from late
    except ClientDisconnect as gone:
        raise HTTPException(400, "the body never ended") from gone
    return b"".join(parts)


_CODES = {404: "not_found", 405: "method", 408: "too_slow", 413: "too_large"}


async def _refuse(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)  # noqa: S101  # what it is registered for
    return _error(failure.status_code, _CODES.get(failure.status_code, "refused"), failure.detail)


async def _unusable(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, StateError)  # noqa: S101  # as above
    return _error(503, failure.code, failure.message)


def _error(status: int, code: str, message: str, *, bearer: bool = False) -> Response:
    headers = {"www-authenticate": "Bearer"} if bearer else None
    return _Json({"error": {"code": code, "message": message}}, status, headers)


def _hosts(settings: DaemonFile) -> Collection[str] | None:
    """The names that it answers to; None for any, where a token is asked for anyway."""
    named = {name.lower() for name in settings.allowed_hosts}
    if not settings.only_here and not named:
        return None
    return named | {settings.host, "localhost", "127.0.0.1", "::1", socket.gethostname().lower()}


def _host_of(header: str) -> str:
    """The name without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()
