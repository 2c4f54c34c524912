"""The daemon as callers over HTTP see it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from reverse_etl import clock
from reverse_etl.clock import Clock
from reverse_etl.daemon import signature
from reverse_etl.daemon.agenda import Decision, Phase
from reverse_etl.daemon.books import Books
from reverse_etl.daemon.definitions import Definitions
from reverse_etl.daemon.life import Life
from reverse_etl.daemon.notebook import SIGNATURES, Pages
from reverse_etl.daemon.scheduler import Scheduler
from reverse_etl.daemon.workforce import Pool


@dataclass(frozen=True)
class Front:
    """What `routes.Daemon` asks for."""

    life: Life
    scheduler: Scheduler
    pool: Pool
    definitions: Definitions
    notebook: Callable[[], Pages]
    used: signature.Used
    scrape: Callable[[], bytes]
    clock: Clock
    schedules: Callable[[], bool]
    standby: Callable[[], str] = lambda: ""

    def silent_seconds(self) -> float:
        return self.life.silent_seconds

    def ready(self) -> bool:
        return self.schedules()

    def standing_by(self) -> str:
        return self.standby()

    def broken(self) -> Mapping[str, Sequence[str]]:
        return {name: [str(problem) for problem in each] for name, each in self.definitions.broken.items()}

    def metrics(self) -> bytes:
        return self.scrape()

    async def status(self) -> dict[str, Any]:
        """The syncs as `status --json` has them, each with what the daemon knows beside. Raises StateError."""
        found = await to_thread.run_sync(Books(self.definitions.current).statuses)
        return {
            "syncs": [each.to_json() | self._coming(each.sync) for each in found],
            "daemon": {
                "process": os.getpid(),
                "started_at": clock.text(self.scheduler.started),
                "ready": self.ready(),
                "standing_by": self.standing_by() or None,
                "places": self.pool.places,
                "running": sorted(self.pool.running),
                "waiting": sorted(self.pool.waiting),
                "broken": self.broken(),
            },
        }

    def has(self, sync: str) -> bool:
        return sync in self.scheduler.agenda

    def ask(self, sync: str, reason: str, who: str) -> bool:
        self.scheduler.definitions[sync].project.note("run", who=who, sync=sync)
        return self.scheduler.ask(sync, reason) is Decision.START

    def use(self, headers: Mapping[str, str], body: bytes) -> None:
        secret, now = self.definitions.settings.trigger_secret, self.clock.now()
        if secret is None:
            raise signature.BadSignature("no_trigger_secret", "daemon.trigger_secret is gone from the project file")
        message_id, seconds = signature.checked(secret.get_secret_value(), headers, body, now)
        self.notebook().write(SIGNATURES, self.used.take(message_id, seconds, now))

    async def settled(self) -> None:
        await self.notebook().settled()

    def _coming(self, name: str) -> dict[str, Any]:
        if name not in self.scheduler.agenda:
            return {"next_run_at": None, "phase": Phase.IDLE.value, "phase_since": None, "left_out": 0, "held_by": []}
        entry = self.scheduler.agenda[name]
        return {
            "next_run_at": None if entry.due is None else clock.text(entry.due),
            "phase": entry.phase.value,
            "phase_since": None if entry.phase_since is None else clock.text(entry.phase_since),
            "left_out": entry.skipped,
            "held_by": self.scheduler.agenda.held_by(name),
        }
