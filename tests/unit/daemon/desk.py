"""A daemon without its process: files in a folder, a fake clock, alarms that a test reads and rings itself."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from reverse_etl.daemon.definitions import Changes, Definitions
from reverse_etl.daemon.front import Front
from reverse_etl.daemon.life import Life
from reverse_etl.daemon.metrics import Metrics
from reverse_etl.daemon.notebook import SIGNATURES, Notebook
from reverse_etl.daemon.scheduler import Scheduler
from reverse_etl.daemon.signature import Used
from reverse_etl.daemon.workforce import Order, Pool
from reverse_etl.report import RunReport
from reverse_etl.stop import Stop
from reverse_etl.testing import FakeClock

PROJECT = """\
sources:
  warehouse:
    url: duckdb:///warehouse.duckdb
destinations:
  hubspot: {type: hubspot, access_token: "${TOKEN:-sandbox-token}", base_url: "http://127.0.0.1:1"}
"""
SYNC = """\
source: warehouse
query: select email from people
key: email
destination: hubspot
object: contacts
mapping: {email: email}
"""


class Clocks:
    """Alarms as they are set; nothing rings by itself."""

    def __init__(self) -> None:
        self.due: dict[str, datetime] = {}

    def set(self, name: str, moment: datetime) -> None:
        self.due[name] = moment

    def clear(self, name: str) -> None:
        self.due.pop(name, None)


class Desk:
    """The parts of a daemon over a project folder, put together as `service` does."""

    def __init__(self, root: Path, daemon: str = "", env: dict[str, str] | None = None) -> None:
        self.root = root
        self.clock = FakeClock()
        self.alarms = Clocks()
        self.write("reverse_etl.yml", PROJECT + daemon)
        self.definitions = Definitions(root, env or {})
        self.notebook = Notebook(root)
        self.notebook.open()
        self.life = Life(self.clock)
        self.standing_by = ""
        self.scheduler = Scheduler(self.clock)
        self.pool = Pool(4, self._carry_out, self.scheduler, self.scheduler.priorities)
        self.metrics = Metrics(
            self.scheduler.agenda, self.pool, lambda: self.definitions.broken, lambda: self.life.ready
        )
        self.scheduler.watchers.append(self.metrics)
        self.scheduler.attach(self.alarms, self.pool)

    def front(self) -> Front:
        used = Used(self.notebook.page(SIGNATURES))
        return Front(
            self.life,
            self.scheduler,
            self.pool,
            self.definitions,
            lambda: self.notebook,
            used,
            self.metrics.text,
            self.clock,
            lambda: self.life.ready,
            lambda: self.standing_by,
        )

    def write(self, name: str, text: str) -> Path:
        """A file anew: never with the marks of the one before, however fast it is replaced."""
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(text)
        os.replace(fresh, path)  # noqa: PTH105  # as an editor does it
        return path

    def define(self, name: str = "people", more: str = "") -> Path:
        return self.write(f"syncs/{name}.yml", f"{SYNC}{more}\n")

    def look(self) -> Changes | None:
        """Another look at the files; what has changed takes effect."""
        changes = self.definitions.read()
        if changes is not None:
            self.scheduler.take(self.definitions.current, changes, {})
        return changes

    async def _carry_out(self, order: Order, stop: Stop) -> RunReport:
        return RunReport(order.sync, "run", self.clock.now(), finished_at=self.clock.now())
