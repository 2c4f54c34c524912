"""The HTTP server under `routes`: uvicorn, without its own signals and logs, and with limits on its callers."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from reverse_etl.config.daemon import DaemonFile
from reverse_etl.errors import ConfigError
from reverse_etl.model import Problem

HEAD_SECONDS = 10.0  # within which a caller must have sent a request
MOST_HEAD = 16 * 1024
MOST_CONNECTIONS = 64
CLOSING_SECONDS = 1


class _Connection(H11Protocol):
    """uvicorn waits for ever for a request's head; who opens a connection and never says what for is let go."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._listen()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._listen()

    def connection_lost(self, exc: Exception | None) -> None:
        self._be_patient()
        super().connection_lost(exc)

    def _listen(self) -> None:
        """The clock runs while a head is incomplete; between two requests uvicorn's own does."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._be_patient()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.transport.close)

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The daemon has its own way with signals."""
        yield


class Listener:
    """A socket that is bound at once, so that a port in use ends the start, and a server on it."""

    def __init__(self, settings: DaemonFile) -> None:
        """Raises ConfigError when the address can't be used."""
        self.settings = settings
        self._server: _Server | None = None
        self._ended = anyio.Event()
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        try:
            self._socket = socket.create_server((settings.host, settings.port), family=family)
        except OSError as failure:
            words = os.strerror(failure.errno or errno.EADDRNOTAVAIL)
            problem = Problem(
                "reverse_etl.yml", 0, 0, settings.listen, f"{settings.listen} can't be listened at: {words}"
            )
            raise ConfigError([problem], hint="name another port, or end what answers there") from failure
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # for who asks here
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"

    async def serve(self, application: ASGIApp) -> None:
        """Answers until `stop`."""
        self._server = _Server(
            uvicorn.Config(
                application,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=CLOSING_SECONDS,
                limit_concurrency=MOST_CONNECTIONS,
                h11_max_incomplete_event_size=MOST_HEAD,
            )
        )
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """No call is taken any more; those under way have a moment to end."""
        if self._server is None:
            return
        self._server.should_exit = True
        with anyio.move_on_after(CLOSING_SECONDS + 1):
            await self._ended.wait()
