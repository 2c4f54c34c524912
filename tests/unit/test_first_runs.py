"""First runs of several syncs that begin at the same moment, as a daemon's may."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from reverse_etl.report import RunReport
from reverse_etl.state.home import StateHome
from reverse_etl.state.ledger import Ledger

NAMES = [f"sync{number}" for number in range(6)]
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def ledger(folder: Path, name: str) -> Ledger:
    return Ledger(StateHome(folder), f"sqlite:///{folder}/.reverse_etl/state.db", name, {"key": "id"})


def together(*works: Callable[[], None]) -> None:
    barrier = threading.Barrier(len(works))

    def one(work: Callable[[], None]) -> None:
        barrier.wait(10)
        work()

    with ThreadPoolExecutor(len(works)) as threads:
        list(threads.map(one, works))


def test_all_of_them_find_one_project_and_are_on_its_list(tmp_path: Path) -> None:
    def begin(name: str) -> None:
        with closing(ledger(tmp_path, name)) as mine, mine.hold(f"run-of-{name}", NOW):
            assert mine.state() is None
            mine.begin(RunReport(name, f"run-of-{name}", NOW))
            assert mine.state() is not None

    together(*[lambda name=name: begin(name) for name in NAMES])
    assert json.loads((tmp_path / ".reverse_etl/project.json").read_text())["syncs"] == NAMES
    for name in NAMES:
        with closing(ledger(tmp_path, name)) as mine:
            assert mine.state() is not None
