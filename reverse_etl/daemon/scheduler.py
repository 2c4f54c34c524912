"""Joins the parts: alarms ring, the agenda decides, the workforce runs, and everything is written to the log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Protocol

from anyio import to_thread

from reverse_etl import clock
from reverse_etl.blame import blame, bug
from reverse_etl.clock import Clock
from reverse_etl.config import files
from reverse_etl.config.schedule import After
from reverse_etl.config.timing import Priority
from reverse_etl.daemon.agenda import Agenda, Decision, Entry, Phase
from reverse_etl.daemon.alarms import Alarms
from reverse_etl.daemon.definitions import Changes, Definition
from reverse_etl.daemon.rhythm import Past
from reverse_etl.daemon.workforce import Order, Workforce
from reverse_etl.errors import ReverseEtlError
from reverse_etl.job import Observer
from reverse_etl.model import Problem
from reverse_etl.project import Project
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.stop import Stop

log = logging.getLogger(__name__)

SET_BACK = timedelta(seconds=2)  # less is how clocks are kept right
NOT_KEPT = frozenset({5, 6})  # exit codes of runs that have left nothing on record
LEVELS = {
    RunStatus.SUCCEEDED: logging.INFO,
    RunStatus.FAILED: logging.ERROR,
    RunStatus.GUARDED: logging.ERROR,
}


class Watcher(Protocol):
    """Who wants to hear of every run: metrics and alerts."""

    def begun(self, entry: Entry, lag: timedelta) -> None: ...
    def skipped(self, entry: Entry) -> None: ...
    def ended(self, entry: Entry, report: RunReport) -> None: ...


class Away(Protocol):
    """Has a run carried out elsewhere, and waits for its report."""

    async def carry_out(self, project: Project, order: Order, stop: Stop) -> RunReport: ...


class Scheduler:
    """One project's syncs in their time. Everything here happens on the event loop, one thing after the other."""

    def __init__(self, clock: Clock) -> None:
        self.agenda = Agenda(clock)
        self.definitions: Mapping[str, Definition] = {}
        self.started = clock.now()
        self.asked: Callable[[Sequence[str]], None] = lambda names: None  # keeps wishes over a restart
        self._clock = clock
        self.watchers: list[Watcher] = []
        self._alarms: Alarms
        self._workforce: Workforce
        self._wishes: dict[str, None] = {}
        self.away: Away | None = None  # who has runs carried out in other processes
        self._drift = clock.now().timestamp() - clock.monotonic()

    def attach(self, alarms: Alarms, workforce: Workforce) -> None:
        """What rings, and who runs. Called once, before anything else."""
        self._alarms, self._workforce = alarms, workforce

    # --- definitions --------------------------------------------------------------------------------------------------

    def take(self, definitions: Mapping[str, Definition], changes: Changes, past: Mapping[str, Past]) -> None:
        """Changed files take effect; runs under way go on with what they began with. `past` is that of new syncs."""
        self.definitions = definitions
        for name in changes.removed:
            self.agenda.drop(name)
            self._alarms.clear(name)
            self._workforce.withdraw(name)
            log.info("%s: its file is gone, and it runs no more", name, extra={"sync": name})
        for name in changes.defined:
            self.agenda.define(definitions[name].sync, past.get(name, Past()))
        for name in self._affected(changes.defined):
            self._plan(name)
        for name, problems in changes.broken.items():
            stays = name in definitions or name == files.PROJECT_FILE  # without it the daemon would not have started
            log.error("%s", _told_broken(name, problems, stays), extra={"file": problems[0].file})
        for name in changes.mended:
            if name == files.PROJECT_FILE:
                log.info("%s is right again", name)
            else:
                log.info("%s: its file is right again", name, extra={"sync": name})

    def clear(self) -> None:
        """Another daemon schedules: nothing is due here any more."""
        for entry in self.agenda:
            self.agenda.drop(entry.sync.name)
            self._alarms.clear(entry.sync.name)
            self._workforce.withdraw(entry.sync.name)
        self._wishes.clear()

    def priorities(self) -> dict[str, Priority]:
        """Of every sync that may become due."""
        return {entry.sync.name: entry.sync.timing.priority for entry in self.agenda if _scheduled(entry)}

    # --- what is due --------------------------------------------------------------------------------------------------

    def ring(self, name: str) -> None:
        """A sync's alarm rings."""
        if name not in self.agenda:
            return
        entry = self.agenda[name]
        due, missed, cut = entry.due or self._clock.now(), self.agenda.missed(name), entry.past.owed
        decision = self.agenda.ring(name)
        if decision is Decision.START:
            reason = "it was cut short" if cut else _reason(entry)
            if missed:
                reason += f"; {missed} more {'time has' if missed == 1 else 'times have'} passed since its last run"
            self._workforce.give(Order(name, reason, due, entry.sync.timing.priority))
        elif decision is Decision.SKIP:
            self._tell_skipped(entry, due)
        if name in self.agenda:
            self._plan(name)

    def ask(self, name: str, reason: str) -> Decision:
        """A run now, at somebody's wish. It is remembered until it begins, over a restart too."""
        decision = self.agenda.ask(name)
        self._remember_wish(name)
        if decision is Decision.START:
            entry = self.agenda[name]
            self._workforce.give(Order(name, reason, self._clock.now(), entry.sync.timing.priority))
            self._plan(name)
        return decision

    def adopt(self, order: Order) -> None:
        """Another daemon has given this order, and workers have it: what comes of it is waited for here."""
        if order.sync in self.agenda:
            self.agenda.adopt(order.sync, order.due)
            self._workforce.give(order)
            self._plan(order.sync)

    def look(self) -> None:
        """Called every few seconds: notices a clock that was set back."""
        drift = self._clock.now().timestamp() - self._clock.monotonic()
        moved, self._drift = timedelta(seconds=drift - self._drift), drift
        if moved < -SET_BACK:
            log.warning("the machine's clock was set back by %s: intervals go on by the time that has passed", -moved)
            self.agenda.set_back(-moved)
            for entry in self.agenda:
                self._plan(entry.sync.name)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def run_begins(self, order: Order) -> None:
        if order.sync not in self.agenda:
            return
        entry, now = self.agenda[order.sync], self._clock.now()
        self.agenda.begin(order.sync, order.due if order.number is not None else None)
        if order.sync in self._wishes:
            del self._wishes[order.sync]
            self.asked(list(self._wishes))
        self._plan(order.sync)
        lag = now - order.due
        extra = {"sync": order.sync, "due": clock.text(order.due), "late_seconds": _seconds(lag)}
        log.info("%s: run begins: %s", order.sync, order.reason, extra=extra)
        for watcher in self.watchers:
            watcher.begun(entry, lag)

    async def carry_out(self, order: Order, stop: Stop, observer: Observer | None = None) -> RunReport:
        """One run, to its report, whatever happens in it."""
        definition = self.definitions.get(order.sync)
        report = RunReport(order.sync, "", self._clock.now())
        try:
            if definition is None:
                return _gone(report)
            if self.away is None:
                report = await definition.project.carry_out(order.sync, stop, observer)
            else:
                report = await self.away.carry_out(definition.project, order, stop)
            await self._note_skips(definition, report)
        except ReverseEtlError as failure:
            blame(report, failure)
        except Exception as failure:
            log.debug("a run broke", exc_info=failure, extra={"sync": order.sync})
            blame(report, bug(failure))
        report.finished_at = report.finished_at or self._clock.now()
        return report

    def run_ended(self, order: Order, report: RunReport) -> None:
        name = order.sync
        values = name in self.definitions and self.definitions[name].sync.log_values
        said = told(report, values=values)
        log.log(LEVELS.get(report.status, logging.WARNING), "%s", said, extra=facts(report))
        if name not in self.agenda:
            return
        entry = self.agenda[name]
        again = entry.again
        entry.again = False
        affected = self.agenda.end(name, report)
        for watcher in self.watchers:
            watcher.ended(entry, report)
        if again:
            self.ask(name, "asked for while the last run was under way")
        self._follow(name, affected)

    def noticed(self, reports: Iterable[RunReport]) -> list[RunReport]:
        """Runs that others have carried out have ended; returns those that nothing could be made of yet."""
        affected: dict[str, list[str]] = {}
        later: list[RunReport] = []
        for report in reports:
            name = report.sync
            if name not in self.agenda:
                continue
            if self.agenda[name].phase is Phase.RUNNING:
                later.append(report)
                continue
            log.info("%s: run by somebody else: %s", name, told(report), extra=facts(report))
            affected[name] = self.agenda.learn(name, report)
            for watcher in self.watchers:
                watcher.ended(self.agenda[name], report)
        for name, names in affected.items():  # only now: a command runs parents and children
            self._follow(name, names)
        return later

    def abandoned(self, name: str) -> None:
        """Somebody else's run has lost its process: it is gone on with."""
        if name in self.agenda and self.agenda[name].phase is not Phase.RUNNING:
            self.agenda.abandon(name)
            self._plan(name)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _follow(self, name: str, affected: Iterable[str]) -> None:
        """The end of a run has changed when these are due."""
        for each in affected:
            self._plan(each)
            if name in self.agenda.held_by(each):
                log.warning("%s: left out, as %s has not succeeded", each, name, extra={"sync": each, "parent": name})

    def _plan(self, name: str) -> None:
        due = self.agenda[name].due
        if due is None:
            self._alarms.clear(name)
        else:
            self._alarms.set(name, due)

    def _affected(self, names: Iterable[str]) -> list[str]:
        """These syncs, and those that wait for one of them."""
        changed = set(names)
        waiting = [
            entry.sync.name
            for entry in self.agenda
            if isinstance(entry.sync.schedule, After) and changed.intersection(entry.sync.schedule.syncs)
        ]
        for name in waiting:
            self.agenda.reckon(name)
        return list(dict.fromkeys([*names, *waiting]))

    def _remember_wish(self, name: str) -> None:
        if name not in self._wishes:
            self._wishes[name] = None
            self.asked(list(self._wishes))

    def _tell_skipped(self, entry: Entry, due: datetime) -> None:
        for watcher in self.watchers:
            watcher.skipped(entry)
        if entry.skips.number > 1:  # once is enough; how many there were stands in the run's record
            return
        what = "is still waiting for a free place" if entry.phase is Phase.WAITING else "is still under way"
        log.warning(
            "%s: the run due at %s is left out, as the last one %s",
            entry.sync.name,
            clock.text(due),
            what,
            extra={"sync": entry.sync.name},
        )

    async def _note_skips(self, definition: Definition, report: RunReport) -> None:
        """What was left out because of this run stands in its record."""
        if report.sync not in self.agenda or report.exit_code in NOT_KEPT:
            return
        skips = self.agenda[report.sync].skips
        if skips.number:
            report.notes.append(skips.told())
            await to_thread.run_sync(definition.project.keep, report)


def _scheduled(entry: Entry) -> bool:
    return entry.sync.enabled and entry.sync.schedule is not None


def _reason(entry: Entry) -> str:
    schedule = entry.sync.schedule
    return schedule.text if schedule is not None else "asked for"


def _gone(report: RunReport) -> RunReport:
    report.status = RunStatus.SKIPPED
    report.exit_code = 5
    report.finished_at = report.started_at
    return report


def told(report: RunReport, *, values: bool = False) -> str:
    """A run's end in one line, for a person who is woken up by it; `values`: values of rows may stand in it."""
    if report.error is not None:
        message = report.error.message if values else report.error.discreet
        advice = f" ({report.error.hint})" if report.error.hint else ""
        counts = f"; {_counts(report)}" if report.rows.read else ""
        return f"{report.sync}: {report.status.value} after {_took(report):.1f} s: {message}{advice}{counts}"
    refused = report.rejected or report.rows.invalid
    advice = f" (`reverse-etl rejected {report.sync}` tells which, and why)" if refused else ""
    return f"{report.sync}: {report.status.value} in {_took(report):.1f} s: {_counts(report)}{advice}"


def _counts(report: RunReport) -> str:
    sent = report.delivered
    counts = f"{report.rows.read} read, {sent.created} created, {sent.updated} updated, {sent.removed} removed"
    others = (
        (report.rows.invalid, "invalid"),
        (report.rejected, "refused"),
        (report.in_doubt, "in doubt"),
        (report.pending, "pending"),
    )
    return counts + "".join(f", {number} {word}" for number, word in others if number)


def _took(report: RunReport) -> float:
    return ((report.finished_at or report.started_at) - report.started_at).total_seconds()


def facts(report: RunReport) -> dict[str, object]:
    """A run's end for machines: what stands beside `told` in the log. Text logs leave out what is nested."""
    found: dict[str, object] = {"sync": report.sync, "run_id": report.run_id, "status": report.status.value}
    if report.error is not None:
        found["code"] = report.error.code
    return found | {
        "run": {
            "seconds": round(_took(report), 3),
            "rows": asdict(report.rows),
            "delivered": asdict(report.delivered),
            "rejected": report.rejected,
            "in_doubt": report.in_doubt,
            "pending": report.pending,
            "requests": report.requests,
        }
    }


def _told_broken(name: str, problems: Sequence[Problem], has_version: bool) -> str:
    goes_on = "its last good version stays in force" if has_version else "nothing of it runs"
    return f"{name} is broken, and {goes_on}: {'; '.join(str(problem) for problem in problems)}"


def _seconds(span: timedelta) -> float:
    return round(max(0.0, span.total_seconds()), 3)
