"""What stands in the project's store, for all syncs at once: a look at hundreds of them must not take seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from reverse_etl import clock
from reverse_etl.daemon.definitions import Definition
from reverse_etl.project import Project
from reverse_etl.report import RunReport, SyncStatus

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore


@dataclass
class Standing:
    """Rows of one sync that stand refused."""

    rejected: int = 0
    in_doubt: int = 0
    oldest: datetime | None = None

    def add(self, kind: str, rows: int, oldest: datetime) -> None:
        if kind == "in_doubt":
            self.in_doubt += rows
        else:
            self.rejected += rows
        self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)


@dataclass
class Books:
    """Reads the stores of these definitions. Synchronous, for a worker thread. Raises StateError."""

    definitions: Mapping[str, Definition] = field(default_factory=dict)

    def last_runs(self, *, good: bool = False) -> dict[str, RunReport]:
        """Every sync's last run; `good`: the last that delivered what it could."""
        found: dict[str, RunReport] = {}
        for store in self._stores():
            found |= {name: RunReport.from_json(document) for name, document in store.runs.latest(good=good).items()}
        return found

    def standing(self) -> dict[str, Standing]:
        """The refused rows of every sync that has some."""
        found: dict[str, Standing] = {}
        for store in self._stores():
            for sync, kind, rows, oldest in store.lists.standing():
                found.setdefault(sync, Standing()).add(kind, rows, clock.parse(oldest))
        return found

    def statuses(self) -> list[SyncStatus]:
        """Every sync as the command `status` shows it, without opening its snapshot."""
        last, good, standing = self.last_runs(), self.last_runs(good=True), self.standing()
        states = {state.sync: state for store in self._stores() for state in store.syncs.all()}
        found: list[SyncStatus] = []
        for name, each in sorted(self.definitions.items()):
            state, refused, success = states.get(name), standing.get(name, Standing()), good.get(name)
            found.append(
                SyncStatus(
                    sync=name,
                    schedule=each.sync.schedule.text if each.sync.schedule is not None else None,
                    last_run=last.get(name),
                    known_rows=state.known_rows if state is not None else 0,
                    rejected=refused.rejected,
                    in_doubt=refused.in_doubt,
                    cursor=state.cursor_value if state is not None else None,
                    last_success=success,
                    lag_seconds=None if success is None else success.lag_seconds(each.sync.timezone),
                )
            )
        return found

    def _stores(self) -> Iterator[StateStore]:
        with ExitStack() as opened:
            for project in _projects(self.definitions.values()):
                store = opened.enter_context(project.parts.store())
                if store is not None:
                    yield store


def _projects(definitions: Iterable[Definition]) -> list[Project]:
    """One for every state that is in use: after an edit, old versions may still name the one before."""
    by_url = {each.project.config.state.url.get_secret_value(): each.project for each in definitions}
    return list(by_url.values())
