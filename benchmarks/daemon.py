"""Many syncs on one daemon, each due every minute and idle: how late they start, and what that costs."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import bench

ROWS = 100
EVERY_SECONDS = 60
PROJECT = """\
sources:
  warehouse: {{url: "duckdb:///warehouse.duckdb"}}
destinations:
  crm: {{type: hubspot, access_token: none-is-needed, base_url: "http://127.0.0.1:9"}}
daemon: {{listen: "127.0.0.1:0", runs: {places}}}
"""
SYNC = """\
source: warehouse
query: select * from people where team % {teams} = {team}
key: email
destination: crm
object: contacts
match: email
first_run: baseline
schedule: every 1 minute
mapping: {{email: email, firstname: name}}
"""


@dataclass(frozen=True)
class Outcome:
    """`lags` in seconds; `missed` and `doubled` are runs, `cpu` a share of one core."""

    starts: int
    lags: list[float]
    missed: int
    doubled: int
    cpu: float
    megabytes: list[float]
    run_milliseconds: float

    def p95(self) -> float:
        return statistics.quantiles(self.lags, n=20)[-1] if len(self.lags) > 1 else 0.0


def daemon(folder: Path, syncs: int, minutes: float, places: int) -> None:
    tell(measure(folder, syncs, minutes, places), syncs, minutes)


def measure(folder: Path, syncs: int, minutes: float, places: int) -> Outcome:
    """The first minutes, in which every sync runs for the first time and finds its place, don't count."""
    project = prepared(folder, syncs, places)
    log = folder / "daemon.log"
    with running(project, log) as process:
        until_all_have_run(log, syncs)
        time.sleep(EVERY_SECONDS)  # until the waves of the start have parted
        begun, used = time.time(), cpu_seconds(process.pid)
        sizes = [megabytes(process.pid)]
        while time.time() - begun < minutes * 60:
            time.sleep(5)
            sizes.append(megabytes(process.pid))
        ended, more = time.time(), cpu_seconds(process.pid)
    return outcome(read(log), begun, ended, (more - used) / (ended - begun), sizes)


def prepared(folder: Path, syncs: int, places: int) -> Path:
    project = folder / "project"
    (project / "syncs").mkdir(parents=True)
    (project / "reverse_etl.yml").write_text(PROJECT.format(places=places))
    for number in range(syncs):
        (project / f"syncs/sync{number:03d}.yml").write_text(SYNC.format(teams=syncs, team=number))
    with duckdb.connect(str(project / "warehouse.duckdb")) as connection:
        connection.execute(
            "create table people as select i as team, 'p' || i || '@example.com' as email, 'Ada' as name "
            f"from range({ROWS * syncs}) series(i)"
        )
    return project


@contextmanager
def running(project: Path, log: Path, command: str = "daemon") -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [bench.COMMAND, command, "--log-format", "json", "--project", str(project)],
            stdout=subprocess.DEVNULL,
            stderr=sink,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def until_all_have_run(log: Path, syncs: int) -> None:
    while len({line["sync"] for line in read(log) if " succeeded in " in line["event"]}) < syncs:
        failed = [line["event"] for line in read(log) if line["level"] == "error"]
        if failed:
            raise SystemExit(f"a run has failed: {failed[0]}")
        time.sleep(2)


def read(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]


def outcome(lines: list[dict[str, Any]], begun: float, ended: float, cpu: float, sizes: list[float]) -> Outcome:
    starts: dict[str, list[float]] = defaultdict(list)
    lags: list[float] = []
    took: list[float] = []
    for line in lines:
        moment = datetime.fromisoformat(line["timestamp"]).timestamp()
        if not begun <= moment <= ended:
            continue
        if ": run begins: " in line["event"]:
            starts[line["sync"]].append(moment)
            lags.append(line["late_seconds"])
        elif " succeeded in " in line["event"]:
            took.append(float(line["event"].split(" succeeded in ")[1].split(" s:")[0]))
    known = {line["sync"] for line in lines if ": run begins: " in line["event"]}
    # The ends count, too: a sync that didn't start at all has missed every time.
    gaps = [after - before for sync in known for before, after in pairwise([begun, *starts[sync], ended])]
    between = [after - before for moments in starts.values() for before, after in pairwise(moments)]
    return Outcome(
        starts=len(lags),
        lags=lags,
        missed=sum(max(0, round(gap / EVERY_SECONDS) - 1) for gap in gaps),
        doubled=sum(gap < EVERY_SECONDS / 2 for gap in between),
        cpu=cpu,
        megabytes=sizes,
        run_milliseconds=statistics.mean(took) * 1000 if took else 0.0,
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, as proc(5) has them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def tell(found: Outcome, syncs: int, minutes: float) -> None:
    sizes, cores = found.megabytes, os.cpu_count() or 1
    each = found.cpu / max(found.starts, 1) * minutes * 60_000
    print(
        f"{syncs} syncs every minute for {minutes:g} min: {found.starts} starts, "
        f"lag p95 {found.p95():.1f} s (at most 2), missed {found.missed}, doubled {found.doubled} (none)\n"
        f"  CPU {found.cpu / cores:.0%} of {cores} cores (at most 60 %), {each:.0f} ms a run; "
        f"a run took {found.run_milliseconds:.0f} ms\n"
        f"  memory {sizes[0]:.0f} MB at first, {sizes[-1]:.0f} MB at last, {max(sizes):.0f} MB at most (800)",
        flush=True,
    )
