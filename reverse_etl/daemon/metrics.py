"""Figures for Prometheus: what runs have done, what stands, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reverse_etl import pace
from reverse_etl.config.sync import SyncConfig
from reverse_etl.daemon import rhythm
from reverse_etl.daemon.agenda import Entry
from reverse_etl.report import RunReport, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reverse_etl.model import Problem

PREFIX = "reverse_etl"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG_BUCKETS = (0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
SENT, KEPT = ("created", "updated", "removed", "skipped"), ("unchanged", "invalid")
STANDING = ("rejected", "in_doubt", "pending")
RUN_BUCKETS = (0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)


class Occupied(Protocol):
    """How many runs there are, and may be."""

    @property
    def places(self) -> int: ...
    @property
    def running(self) -> Collection[object]: ...
    @property
    def waiting(self) -> Collection[object]: ...


class Metrics:
    """Listens to runs; `text` is what a scrape gets. Counters begin with the daemon."""

    def __init__(
        self,
        agenda: Iterable[Entry],
        pool: Occupied,
        broken: Callable[[], Mapping[str, Sequence[Problem]]],
        schedules: Callable[[], bool] | None = None,
    ) -> None:
        """`schedules`: whether this process does; None for one that never would."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody asks for
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(_Present(agenda, pool, broken, schedules))
        self._runs = self._counter("runs", "Runs that have ended", "sync", "status")
        self._rows = self._counter("rows", "Rows by what became of them", "sync", "verdict")
        self._requests = self._counter("requests", "Calls to the destination", "sync")
        self._throttled = self._counter("throttled", "Calls that the destination refused for their number", "sync")
        self._left_out = self._counter("left_out", "Due times that came during a run", "sync")
        self._seconds = self._histogram("run_seconds", "How long runs took", RUN_BUCKETS, "sync")
        self._lag = self._histogram("start_lag_seconds", "From being due to the start", LAG_BUCKETS)
        self._standing = self._gauge(
            "standing_rows", "Rows that are not delivered, after the last run", "sync", "state"
        )
        self._success = self._gauge("last_success_timestamp_seconds", "End of the last good run", "sync")
        self._behind = self._gauge(
            "acknowledgement_lag_seconds", "Age of the newest row when the last run had acknowledged it", "sync"
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def remember(self, last: Mapping[str, RunReport]) -> None:
        """What is known from before the daemon started."""
        for name, report in last.items():
            if report.status in rhythm.GOOD and report.finished_at is not None:
                self._success.labels(name).set(report.finished_at.timestamp())
                self._stand(name, report)

    def forget(self, name: str) -> None:
        """The sync is gone: an alert on its last figures would never end."""
        for metric in (self._requests, self._throttled, self._left_out, self._seconds, self._success, self._behind):
            _remove(metric, name)
        for status in RunStatus:
            _remove(self._runs, name, status.value)
        for verdict in (*SENT, *KEPT):
            _remove(self._rows, name, verdict)
        for state in STANDING:
            _remove(self._standing, name, state)

    def stand_down(self) -> None:
        """What stands is told by the daemon that schedules now; what this one has counted stays counted."""
        for gauge in (self._standing, self._success, self._behind):
            gauge.clear()

    # --- scheduler.Watcher --------------------------------------------------------------------------------------------

    def begun(self, entry: Entry, lag: timedelta) -> None:
        self.started(lag)

    def started(self, lag: timedelta) -> None:
        """A run has begun so long after it was due."""
        self._lag.observe(max(0.0, lag.total_seconds()))

    def skipped(self, entry: Entry) -> None:
        self._left_out.labels(entry.sync.name).inc()

    def ended(self, entry: Entry, report: RunReport) -> None:
        self.count(entry.sync, report)

    def count(self, sync: SyncConfig, report: RunReport) -> None:
        """A run of this sync has ended."""
        name, ended = report.sync, report.finished_at or report.started_at
        self._runs.labels(name, report.status.value).inc()
        self._seconds.labels(name).observe((ended - report.started_at).total_seconds())
        for verdict in SENT:
            self._rows.labels(name, verdict).inc(getattr(report.delivered, verdict))
        for verdict in KEPT:
            self._rows.labels(name, verdict).inc(getattr(report.rows, verdict))
        self._requests.labels(name).inc(report.requests)
        self._throttled.labels(name).inc(report.throttled)
        self._stand(name, report)
        if report.status in rhythm.GOOD:
            self._success.labels(name).set(ended.timestamp())
            behind = report.lag_seconds(sync.timezone)
            if behind is not None and report.cursor_to != report.cursor_from:
                self._behind.labels(name).set(behind)

    def _stand(self, name: str, report: RunReport) -> None:
        for state in STANDING:
            self._standing.labels(name, state).set(getattr(report, state))

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", said, labels, registry=self.registry)

    def _gauge(self, name: str, said: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", said, labels, registry=self.registry)

    def _histogram(self, name: str, said: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", said, labels, buckets=buckets, registry=self.registry)


class _Present(Collector):
    """What is so at the moment of a scrape."""

    def __init__(
        self,
        agenda: Iterable[Entry],
        pool: Occupied,
        broken: Callable[[], Mapping[str, Sequence[Problem]]],
        schedules: Callable[[], bool] | None,
    ) -> None:
        self._agenda = agenda
        self._pool = pool
        self._broken = broken
        self._schedules = schedules

    def collect(self) -> Iterator[Metric]:
        coming = _family("next_run_timestamp_seconds", "When a sync is due next", "sync")
        for entry in self._agenda:
            if entry.due is not None:
                coming.add_metric([entry.sync.name], entry.due.timestamp())
        yield coming
        if self._schedules is not None:
            yield _single("scheduling", "1 while this daemon schedules, 0 while it stands by", int(self._schedules()))
        yield _single("runs_under_way", "Runs under way", len(self._pool.running))
        yield _single("runs_waiting", "Runs that wait for a free place", len(self._pool.waiting))
        yield _single("places", "How many runs may be under way at once", self._pool.places)
        yield _single("broken_files", "Syncs and files that can't be read as they are", len(self._broken()))
        used = _family("limiter_used_calls", "Calls that count in an account's present window", "account")
        allowed = _family("limiter_allowed_calls", "Calls that an account allows in a window", "account")
        for account, held, allowance in pace.usage():
            used.add_metric([account], held)
            allowed.add_metric([account], allowance)
        left = _family("quota_left_calls", "Calls that are left of an account's day", "account")
        ends = _family("quota_ends_timestamp_seconds", "When they end at the rate of the last hour", "account")
        for forecast in pace.forecasts():
            left.add_metric([forecast.account], forecast.left)
            ends.add_metric([forecast.account], forecast.ends_at.timestamp())
        yield from (used, allowed, left, ends)


def _remove(metric: Counter | Gauge | Histogram, *labels: str) -> None:
    """No more of these labels, if there were any: older releases of the library raise where there were none."""
    with suppress(KeyError):
        metric.remove(*labels)


def _family(name: str, said: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", said, labels=labels)


def _single(name: str, said: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", said, value=value)
