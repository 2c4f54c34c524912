"""What leaves the books in time, so that they don't grow for ever: old runs, plans that nobody can approve any more.

What stands never leaves: where a sync is, its lists, its last run. Room that becomes free in the store is used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from reverse_etl import clock

AT_ONCE = 500  # so that the first run after a long time, or a shorter `keep_runs`, isn't held up
PLANS_STAY = timedelta(days=2)  # an approval holds for one

_OLD_RUNS = sa.text(
    "DELETE FROM runs WHERE run_id IN ("
    "SELECT run_id FROM runs WHERE sync = :sync AND started_at < :before "
    "AND started_at < (SELECT max(started_at) FROM runs WHERE sync = :sync) ORDER BY started_at LIMIT :most)"
)
_OLD_LOG = sa.text("DELETE FROM outbox WHERE sync = :sync AND at < :before")
_OLD_PLANS = sa.text("DELETE FROM plans WHERE sync = :sync AND made_at < :before")


@dataclass(frozen=True)
class Retention:
    """How long runs stay on record, counted from when they began; so does what the warehouse hasn't taken of them."""

    runs: timedelta

    def prune(self, connection: sa.Connection, sync: str, now: datetime) -> None:
        """A run's share of the clearing up: a few rows, found by an index."""
        before = clock.text(now - self.runs)
        connection.execute(_OLD_RUNS, {"sync": sync, "before": before, "most": AT_ONCE})
        connection.execute(_OLD_LOG, {"sync": sync, "before": before})
        connection.execute(_OLD_PLANS, {"sync": sync, "before": clock.text(now - PLANS_STAY)})


DEFAULT = Retention(runs=timedelta(days=90))
