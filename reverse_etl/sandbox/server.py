"""The sandbox as a running server: started by `reverse-etl sandbox`, and in a thread by tests and the demo.

    with running(rate=None) as sandbox:
        httpx.post(sandbox.url + "/crm/v3/objects/contacts/batch/upsert", ...)
        sandbox.hubspot.records("contacts")
        sandbox.faults.add("status", status=503, path="batch/upsert", times=2)
        sandbox.requests.matching("POST", "batch")

It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverse_etl.sandbox.admin import Admin
from reverse_etl.sandbox.clock import Clock
from reverse_etl.sandbox.datafile import DataFile
from reverse_etl.sandbox.faults import Faults
from reverse_etl.sandbox.fieldfile import add_fields
from reverse_etl.sandbox.front import Front
from reverse_etl.sandbox.hubspot.app import HubSpot
from reverse_etl.sandbox.hubspot.writes import Rules
from reverse_etl.sandbox.journal import Ledger, RequestLog
from reverse_etl.sandbox.salesforce.app import Salesforce
from reverse_etl.sandbox.wire import Connection

HOST = "127.0.0.1"
PORT = 8750
RATE = 190
SAVE_EVERY = 30.0
BULK_PAUSE = 0.02


@dataclass(frozen=True)
class Settings:
    """`rate`: HubSpot requests in ten seconds, None for no limit. `search_lag`: seconds until search sees a write.

    `hubspot_daily` and `salesforce_daily`: requests a day. `bulk_polls`: how often a finished bulk job is still seen in
    progress. `seed` decides ids' gaps, the order of results and probabilities.
    """

    data: Path | None = None
    rate: int | None = RATE
    fields: Path | None = None
    seed: int = 7
    search_lag: float = 2.0
    hubspot_daily: int = 625_000
    salesforce_daily: int = 100_000
    bulk_polls: int = 1
    rules: Rules = field(default_factory=Rules)


class Sandbox:
    """The emulated platforms and what a test may do with them. Its store is shared with the server's thread."""

    def __init__(self, url: str, settings: Settings) -> None:
        self.url = url
        self.clock = Clock()
        self.requests = RequestLog(self.clock)
        self.ledger = Ledger(self.clock)
        self.faults = Faults(settings.seed)
        self.hubspot = HubSpot(
            self.clock,
            self.ledger,
            seed=settings.seed,
            rate=settings.rate,
            daily_requests=settings.hubspot_daily,
            search_lag=settings.search_lag,
            rules=settings.rules,
        )
        self.salesforce = Salesforce(
            self.clock,
            self.ledger,
            seed=settings.seed,
            daily_requests=settings.salesforce_daily,
            origin=url,
            bulk_polls=settings.bulk_polls,
        )
        if settings.fields is not None:
            add_fields(settings.fields, self.hubspot, self.salesforce)
        self._file = DataFile(settings.data, self.hubspot, self.salesforce) if settings.data else None
        if self._file is not None:
            self._file.load()
        admin = Admin(
            self.hubspot,
            self.salesforce,
            faults=self.faults,
            requests=self.requests,
            ledger=self.ledger,
            clock=self.clock,
            reset=self.reset,
        )
        self.application = Front(self.hubspot, self.salesforce, self.faults, self.requests, admin)

    def reset(self) -> None:
        """Forgets every record, fault and request. Fields and tokens are again those it started with."""
        with self.application.lock:
            self.hubspot.clear()
            self.salesforce.clear()
            self.faults.clear()
            self.requests.clear()
            self.ledger.clear()

    def save(self) -> None:
        """Writes the data file, when there is one and something has changed."""
        if self._file is not None:
            with self.application.lock:
                self._file.save((self.requests.changing, len(self.ledger)))


@contextmanager
def running(port: int = 0, **settings: Any) -> Iterator[Sandbox]:
    """A sandbox in a thread of its own, answering until the block is left. Takes what `Settings` has."""
    with _listen(port) as listener:
        sandbox = Sandbox(_url(listener), Settings(**settings))
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        ready = threading.Event()
        main = _serve(sandbox, listener, stop, ready.set)
        thread = threading.Thread(target=loop.run_until_complete, args=[main], name="sandbox", daemon=True)
        thread.start()
        ready.wait()
        try:
            yield sandbox
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()
            sandbox.save()


def serve(
    port: int = PORT,
    data: Path | None = None,
    rate: int | None = RATE,
    fields: Path | None = None,
    *,
    ready: Callable[[str], None],
) -> None:
    """Runs until SIGINT or SIGTERM; `ready` gets the bare URL once the sandbox answers there.

    Raises OSError when the port is taken, ValueError when a file can't be used.
    """
    with _listen(port) as listener:
        sandbox = Sandbox(_url(listener), Settings(data=data, rate=rate, fields=fields))

        async def main() -> None:
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await _serve(sandbox, listener, stop, lambda: ready(sandbox.url))

        asyncio.run(main())
        sandbox.save()


async def _serve(sandbox: Sandbox, listener: socket.socket, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    connections: set[Connection] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(sandbox.application, connections), sock=listener
    )
    worker = asyncio.create_task(_work(sandbox))
    ready()
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), SAVE_EVERY)
        except TimeoutError:
            sandbox.save()
    worker.cancel()
    server.close()
    for connection in list(connections):
        connection.close()
    await server.wait_closed()


async def _work(sandbox: Sandbox) -> None:
    """Carries bulk jobs out, a chunk at a time between requests."""
    while True:
        with sandbox.application.lock:
            busy = sandbox.salesforce.bulk.step()
        await asyncio.sleep(0 if busy else BULK_PAUSE)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError:
        listener.close()
        raise
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}"
