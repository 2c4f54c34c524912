"""What people are told: each change of a sync's state once, and once more when it is over.

The watch decides; `courier` brings the news. What has been told outlives the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from reverse_etl import clock
from reverse_etl.clock import Clock
from reverse_etl.config.alerts import AlertRules, Event
from reverse_etl.daemon.agenda import Entry, Phase
from reverse_etl.daemon.books import Standing
from reverse_etl.model import JSON
from reverse_etl.quota import Forecast
from reverse_etl.report import RunReport, RunStatus

GOOD = "good"
_EVENTS: Mapping[RunStatus, Event] = {
    RunStatus.FAILED: "failed",
    RunStatus.GUARDED: "guarded",
    RunStatus.PARTIAL: "partial",
}


@dataclass(frozen=True)
class Alert:
    """One change of one sync, told in a sentence that holds no value of a row."""

    sync: str
    event: Event | str
    at: datetime
    text: str
    to: tuple[str, ...] | None = None  # channels; None for all
    run_id: str | None = None
    code: str | None = None
    hint: str | None = None

    def to_json(self) -> dict[str, JSON]:
        return {
            "sync": self.sync,
            "event": self.event,
            "at": clock.text(self.at),
            "text": self.text,
            "run_id": self.run_id,
            "code": self.code,
            "hint": self.hint,
        }


@dataclass(frozen=True)
class Known:
    """What has been told of a sync. `failures` counts failed runs in a row."""

    state: str = GOOD
    failures: int = 0
    silent: bool = False
    stuck: bool = False

    @classmethod
    def of(cls, page: Mapping[str, Any]) -> Known:
        """What `asdict` made; of a page that reads otherwise, nothing."""
        try:
            return cls(str(page["state"]), int(page["failures"]), bool(page["silent"]), bool(page["stuck"]))
        except (KeyError, TypeError, ValueError):
            return cls()


@dataclass
class Watch:
    """Listens to runs and looks at the time; `raise_` takes the alerts, `keep` what must be remembered."""

    clock: Clock
    raise_: Callable[[Alert], None]
    keep: Callable[[dict[str, Any]], None]
    known: dict[str, Known] = field(default_factory=dict)

    # --- scheduler.Watcher --------------------------------------------------------------------------------------------

    def begun(self, entry: Entry, lag: timedelta) -> None:
        """A start is no news."""

    def skipped(self, entry: Entry) -> None:
        """Nor is a time that was left out: `look` tells when it lasts."""

    def ended(self, entry: Entry, report: RunReport) -> None:
        if report.status in {RunStatus.SKIPPED, RunStatus.INTERRUPTED}:
            return
        rules, before = entry.sync.alerts, self._of(report.sync)
        failures = before.failures + 1 if report.status is RunStatus.FAILED else 0
        state = _state(rules, report, failures) or before.state
        self._note(report.sync, replace(before, state=state, failures=failures, silent=False))
        if state not in {GOOD, before.state}:
            self._tell(rules, _of_run(report, state, failures))
        elif state == GOOD and (before.state != GOOD or before.silent):
            was = f"had {before.state}" if before.state == "failed" else f"was {before.state}"
            what = "was silent" if before.state == GOOD else was
            text = f"{report.sync} is well again: its run has succeeded, after it {what}"
            self._tell(rules, Alert(report.sync, "recovered", self.clock.now(), text, run_id=report.run_id))

    # --- by time ------------------------------------------------------------------------------------------------------

    def look(self, entries: Iterable[Entry]) -> None:
        """Syncs of which no run has ended long after one was due."""
        now = self.clock.now()
        for entry in entries:
            rules, before = entry.sync.alerts, self._of(entry.sync.name)
            since = entry.overdue_since
            if since is None or before.silent or now - since < rules.silent_after:
                continue
            self._note(entry.sync.name, replace(before, silent=True))
            text = f"{entry.sync.name} is silent: a run was due at {clock.text(since)}, and {_holds(entry)}"
            self._tell(rules, Alert(entry.sync.name, "silent", now, text))

    def look_at_rows(self, entries: Iterable[Entry], standing: Mapping[str, Standing]) -> None:
        """Rows that have stood refused for too long."""
        now = self.clock.now()
        for entry in entries:
            name, rules, before = entry.sync.name, entry.sync.alerts, self._of(entry.sync.name)
            rows = standing.get(name, Standing())
            stuck = rows.oldest is not None and now - rows.oldest >= rules.stuck_after
            if stuck == before.stuck:
                continue
            self._note(name, replace(before, stuck=stuck))
            if stuck and rows.oldest is not None:
                number = rows.rejected + rows.in_doubt
                text = f"{name} has {_rows(number)} that stand{'s' if number == 1 else ''} refused, "
                text += f"the oldest since {clock.text(rows.oldest)}"
                hint = f"`reverse-etl rejected {name}` tells which, and why"
                self._tell(rules, Alert(name, "stuck", now, text, hint=hint))
            else:
                text = f"{name} has no row any more that stands refused for long"
                self._tell(rules, Alert(name, "recovered", now, text))

    def look_at_days(self, forecasts: Iterable[Forecast]) -> None:
        """Accounts whose calls of the day will be used up before there are new ones. Every channel hears of them."""
        now = self.clock.now()
        for each in forecasts:
            before = self._of(each.account)
            if each.too_soon == (before.state == "quota"):
                continue
            self._note(each.account, replace(before, state="quota" if each.too_soon else GOOD))
            if each.too_soon:
                text = f"{each.account}: {each.left:,} of the day's {each.allowed:,} calls are left, which at the rate "
                text += (
                    f"of the last hour end at {clock.text(each.ends_at)}; new ones come at {clock.text(each.resets_at)}"
                )
                hint = "run large syncs less often, or give others of the account less"
                self._tell(AlertRules(), Alert(each.account, "quota", now, text, hint=hint))
            else:
                text = f"{each.account}: the day's calls last until there are new ones"
                self._tell(AlertRules(), Alert(each.account, "recovered", now, text))

    def forget(self, name: str) -> None:
        """The sync is gone."""
        if self.known.pop(name, None) is not None:
            self._keep()

    def _of(self, name: str) -> Known:
        return self.known.get(name, Known())

    def _note(self, name: str, now: Known) -> None:
        if now == self._of(name):
            return
        self.known[name] = now
        if now == Known():
            del self.known[name]
        self._keep()

    def _keep(self) -> None:
        self.keep({name: asdict(each) for name, each in self.known.items()})

    def _tell(self, rules: AlertRules, alert: Alert) -> None:
        if alert.event in rules.events:
            self.raise_(replace(alert, to=rules.to))


def _state(rules: AlertRules, report: RunReport, failures: int) -> str | None:
    """The state that a run leaves its sync in; None when it changes nothing yet."""
    if report.status is RunStatus.FAILED:
        return "failed" if failures >= rules.failures else None
    if report.status is RunStatus.PARTIAL and report.error is None:
        return "partial" if _standing(report) >= rules.rejected else GOOD
    return str(_EVENTS.get(report.status, GOOD))


def _of_run(report: RunReport, state: str, failures: int) -> Alert:
    at = report.finished_at or report.started_at
    if report.error is not None:
        times = f" {failures} times in a row" if failures > 1 else ""
        verb = "was stopped by its guard" if state == "guarded" else f"has {state}{times}"
        if state == "partial":
            verb = "has ended early"
        text = f"{report.sync} {verb}: {report.error.discreet}"
        return Alert(report.sync, state, at, text, None, report.run_id, report.error.code, report.error.hint)
    number = _standing(report)
    text = f"{report.sync} has delivered all but {_rows(number)}, which stand{'s' if number == 1 else ''} refused"
    hint = f"`reverse-etl rejected {report.sync}` tells which, and why"
    return Alert(report.sync, state, at, text, None, report.run_id, "rejected", hint)


def _standing(report: RunReport) -> int:
    """Rows that could not be delivered, for whatever reason."""
    return report.rejected + report.in_doubt + report.rows.invalid


def _holds(entry: Entry) -> str:
    since = "" if entry.phase_since is None else f" since {clock.text(entry.phase_since)}"
    if entry.phase is Phase.RUNNING:
        return f"it has been under way{since} without an end"
    if entry.phase is Phase.WAITING:
        return f"it has been waiting for a free place{since}"
    return "none has ended since: another process holds the sync"


def _rows(number: int) -> str:
    return "one row" if number == 1 else f"{number:,} rows"
