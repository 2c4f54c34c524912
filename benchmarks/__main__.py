"""`python -m benchmarks [WHAT ...]`: ratios against bare scripts, medians of turns; --help names what."""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import bench, daemon
from benchmarks.bench import Measure
from benchmarks.bulk import bulk
from benchmarks.day import day
from benchmarks.limiter import limiter
from benchmarks.workers import workers


def idle_and_changed(folder: Path, rows: int, runs: int) -> None:
    """Nothing new, then 1 % changed, over a project whose every record the CRM knows."""
    with bench.crm() as address:
        project = bench.project(folder / "project", rows, address, first_run="send")
        known = folder / "known.duckdb"
        bench.write_table(known, rows)
        warehouse = str(project / "warehouse.duckdb")
        loaded = bench.sync(project, added=rows, delivered_created=rows)
        tell_one(f"first load of {rows:,} rows", loaded, f"{rows / loaded.seconds:,.0f} rows/s")
        found = bench.interleaved(
            runs,
            {
                "sync": lambda: bench.sync(project, unchanged=rows, requests=0),
                "bare": lambda: bench.bare("diff", warehouse, str(known)),
            },
        )
        tell(f"nothing new in {rows:,} rows", found, limit=3)
        rounds = itertools.count()

        def changed() -> Measure:
            bench.change_one_percent(project, next(rounds))
            return bench.sync(project, changed=rows // 100, delivered_updated=rows // 100)

        found = bench.interleaved(
            runs, {"sync": changed, "bare": lambda: bench.bare("push", warehouse, str(known), address)}
        )
        tell(f"1 % changed of {rows:,} rows", found, limit=3)


def load(folder: Path, rows: int, runs: int) -> None:
    """A first load, beside a loop that posts the very bodies the load posted."""
    bodies = folder / "bodies.jsonl"
    with bench.crm(record=bodies) as address:
        bench.sync(bench.project(folder / "recorded", rows, address, first_run="send"), delivered_created=rows)
    servers = {"the sandbox": bench.sandbox(folder), "a fake that does nothing": bench.crm()}
    for number, (server, opened) in enumerate(servers.items()):
        with opened as address:
            project = bench.project(folder / f"project{number}", rows, address, first_run="send")
            found = bench.interleaved(
                runs,
                {
                    "sync": partial(first_load, project, rows),
                    "bare": partial(bench.bare, "post", str(bodies), address),
                },
            )
        tell(f"first load of {rows:,} rows into {server}", found, limit=1.5)


def first_load(project: Path, rows: int) -> Measure:
    shutil.rmtree(project / ".reverse_etl", ignore_errors=True)
    return bench.sync(project, added=rows)


def memory(folder: Path, rows: int) -> None:
    """Peak memory of each kind of run at a size that must not fit."""
    with bench.crm() as address:
        project = bench.project(folder / "project", rows, address, first_run="baseline")
        tell_one(f"baseline of {rows:,} rows", bench.sync(project, read=rows), "at most 600 MB")
        tell_one(f"nothing new in {rows:,} rows", bench.sync(project, unchanged=rows), "at most 600 MB")
        bench.change_one_percent(project, 1)
        tell_one(f"1 % changed of {rows:,} rows", bench.sync(project, changed=rows // 100), "at most 600 MB")


def start_up(runs: int) -> None:
    """How long a person waits for the help text; at most 0.3 s."""
    found = bench.interleaved(
        max(runs, 5),
        {
            "sync": lambda: bench.timed([bench.COMMAND, "--help"]),
            "bare": lambda: bench.timed([sys.executable, "-c", "pass"]),
        },
    )
    tell_one("reverse-etl --help", found["sync"], f"at most 0.30 s; python itself {found['bare'].seconds:.2f} s")


def tell(what: str, found: dict[str, Measure], *, limit: float) -> None:
    ours, script = found["sync"], found["bare"]
    print(
        f"{what:<32} {ours.seconds:6.2f} s  {ours.megabytes:5.0f} MB   bare {script.seconds:5.2f} s   "
        f"ratio {ours.seconds / script.seconds:5.2f}  (at most {limit:g})",
        flush=True,
    )


def tell_one(what: str, measure: Measure, remark: str) -> None:
    print(f"{what:<32} {measure.seconds:6.2f} s  {measure.megabytes:5.0f} MB   {remark}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    measured = "help idle load bulk limiter memory daemon day workers"
    arguments.add_argument("what", nargs="*", default=["help", "idle", "load"], help=measured)
    arguments.add_argument("--runs", type=int, default=3, help="interleaved runs of each; the median counts")
    arguments.add_argument(
        "--rows", type=int, help="rows (idle, bulk 1,000,000, load 100,000, limiter 160,000, memory 10,000,000)"
    )
    arguments.add_argument("--syncs", type=int, default=500, help="daemon: syncs that are due every minute")
    arguments.add_argument("--minutes", type=float, default=4, help="daemon: how long it is watched")
    arguments.add_argument("--places", type=int, default=4, help="daemon: how many may run at once")
    given = arguments.parse_args()
    measures = measures_of(given)
    for what in given.what:
        if what not in measures:
            arguments.error(f"nothing to measure is called {what!r}")
        with tempfile.TemporaryDirectory(prefix="reverse-etl-bench-") as folder:
            measures[what](Path(folder))


def measures_of(given: argparse.Namespace) -> dict[str, Callable[[Path], None]]:
    rows, runs = given.rows, given.runs
    return {
        "help": lambda folder: start_up(runs),
        "idle": lambda folder: idle_and_changed(folder, rows or 1_000_000, runs),
        "changed": lambda folder: idle_and_changed(folder, rows or 1_000_000, runs),
        "load": lambda folder: load(folder, rows or 100_000, runs),
        "bulk": lambda folder: bulk(folder, rows or 1_000_000, runs),
        "limiter": lambda folder: limiter(folder, rows or 160_000),
        "memory": lambda folder: memory(folder, rows or 10_000_000),
        "daemon": lambda folder: daemon.daemon(folder, given.syncs, given.minutes, given.places),
        "day": lambda folder: day(folder, min(given.syncs, 100), given.places),
        "workers": lambda folder: workers(folder, rows),
    }


if __name__ == "__main__":
    main()
