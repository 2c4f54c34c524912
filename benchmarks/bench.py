"""What the measurements share: sample tables, a project folder, the fake CRM, and a stop-watch for whole processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.bare import COLUMNS

ROOT = Path(__file__).parent.parent
COMMAND = str(Path(sys.executable).with_name("reverse-etl"))

PROJECT = """\
sources:
  warehouse: {{url: "duckdb:///warehouse.duckdb"}}
destinations:
  crm:
    type: hubspot
    access_token: sandbox-token
    base_url: {address}
{rate}
"""
UNLIMITED = "    rate_limit: {requests: 100000, per: 10s}"

SYNC = """\
source: warehouse
query: select {columns} from users
key: app_user_id
destination: crm
object: contacts
match: app_user_id
mode: upsert
first_run: {first_run}
mapping:
{mapping}
"""

SANDBOX_FIELDS = """\
hubspot:
  contacts:
    - {name: seats, type: number}
    - {name: mrr, type: number}
    - {name: score, type: number}
    - {name: active, type: bool}
    - {name: signed_up, type: date}
    - {name: last_seen, type: datetime}
"""

TABLE = """
create or replace table users as
select 'u' || lpad(i::varchar, 9, '0') as app_user_id,
       'user' || i || '@example.com' as email,
       ['Ada', 'Grace', 'Linus', 'Barbara', 'Edsger', 'Donald', 'Margaret'][1 + i % 7] as firstname,
       'Company ' || (i // 8) as company,
       ['DE', 'FR', 'US', 'JP', 'BR', 'IN'][1 + (hash(i) % 6)::integer] as country,
       ['free', 'team', 'enterprise'][1 + (hash(i + 1) % 3)::integer] as plan,
       (hash(i + 2) % 500)::integer as seats,
       (hash(i + 3) % 1000000)::decimal(12, 2) / 100 as mrr,
       (hash(i + 4) % 100000)::double / 1000 as score,
       hash(i + 5) % 4 > 0 as active,
       date '2024-01-01' + (hash(i + 6) % 700)::integer as signed_up,
       timestamp '2026-01-01' + to_seconds((hash(i + 7) % 20000000)::bigint) as last_seen
from range({rows}) series(i)
"""


@dataclass(frozen=True)
class Measure:
    """One process: how long it took from start to end, and its largest resident size."""

    seconds: float
    megabytes: float
    output: str


def timed(command: Sequence[str], *, well: Sequence[int] = (0,)) -> Measure:
    """Run a command to its end; anything but one of the `well` exit codes stops the benchmark with its words."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT, env=_environment()
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        said = out.read().decode()
        if process.returncode not in well:
            sys.exit(
                f"{' '.join(command)} ended with {process.returncode}\n{said[-3000:]}{err.read().decode()[-3000:]}"
            )
        return Measure(seconds, usage.ru_maxrss / 1024, said)


def _environment() -> dict[str, str]:
    """As an installed command has it: compiled modules are kept, also where the caller's shell forbids that."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "reverse-etl-bench-compiled")}


def bare(*arguments: str) -> Measure:
    return timed([sys.executable, "-m", "benchmarks.bare", *arguments])


def sync(project: Path, **expected: int) -> Measure:
    """One `reverse-etl sync` as a whole process; its own counts must be the ones expected."""
    measure = timed([COMMAND, "sync", "users", "--json", "--project", str(project)])
    run: dict[str, Any] = json.loads(measure.output)["runs"][0]
    counts = {**run["rows"], **{f"delivered_{name}": count for name, count in run["delivered"].items()}, **run}
    wrong = {name: counts[name] for name, count in expected.items() if counts[name] != count}
    if wrong:
        sys.exit(f"the sync counted {wrong}, expected {expected}")
    return measure


def interleaved(runs: int, pairs: Mapping[str, Callable[[], Measure]]) -> dict[str, Measure]:
    """The median of each, taken in turns so that a slow minute of the machine falls on all; a first turn warms up."""
    taken: dict[str, list[Measure]] = {name: [] for name in pairs}
    for turn in range(runs + 1):
        for name, run in pairs.items():
            measure = run()
            if turn:
                taken[name].append(measure)
    return {
        name: Measure(
            statistics.median(each.seconds for each in measures), max(each.megabytes for each in measures), ""
        )
        for name, measures in taken.items()
    }


@contextmanager
def crm(*options: str, record: Path | None = None) -> Iterator[str]:
    """The fake in a process of its own; gives its address."""
    command = [sys.executable, "-m", "benchmarks.fake", *options, *(["--record", str(record)] if record else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@contextmanager
def sandbox(folder: Path) -> Iterator[str]:
    """The product's own sandbox in a process of its own, with every check that it makes; gives its address."""
    fields = folder / "fields.yml"
    fields.write_text(SANDBOX_FIELDS)
    command = [sys.executable, "-m", "reverse_etl.sandbox", "--port", "0", "--rate", "off", "--fields", str(fields)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def project(folder: Path, rows: int, address: str, *, first_run: str, rate: str = UNLIMITED) -> Path:
    """A project folder with a warehouse of `rows` users and one sync; no state yet."""
    (folder / "syncs").mkdir(parents=True)
    write_table(folder / "warehouse.duckdb", rows)
    (folder / "reverse_etl.yml").write_text(PROJECT.format(address=address, rate=rate))
    mapping = "\n".join(f"  {name}: {name}" for name in COLUMNS)
    text = SYNC.format(columns=", ".join(COLUMNS), mapping=mapping, first_run=first_run)
    (folder / "syncs" / "users.yml").write_text(text)
    return folder


def write_table(file: Path, rows: int) -> None:
    """The same rows for the same number, whenever it is called."""
    with duckdb.connect(str(file)) as connection:
        connection.execute(TABLE.format(rows=rows))


def change_one_percent(project: Path, round: int) -> None:
    """Give every hundredth user another number of seats; the same users each time."""
    with duckdb.connect(str(project / "warehouse.duckdb")) as connection:
        connection.execute(f"update users set seats = {1000 + round} where right(app_user_id, 2) = '07'")
