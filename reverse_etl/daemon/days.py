"""Accounts' days as workers know them: left in the state for the daemon, which tells people when one won't last.

Only who calls a destination learns what is left of a day; with `workers: queue` that is never the daemon.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from reverse_etl import clock
from reverse_etl.project import Project
from reverse_etl.quota import Forecast

SCOPE = ".days"  # of the state's memory: no connection has such a name
OLDEST = timedelta(minutes=10)  # what a worker that is gone has said counts no longer than this


def leave(project: Project, worker: str, forecasts: Sequence[Forecast], now: datetime) -> None:
    """What this worker knows now, instead of what it has left before. Synchronous; raises StateError."""
    told = json.dumps({"at": clock.text(now), "days": [_told(each) for each in forecasts]})
    with project.parts.store() as store:
        if store is not None:
            store.remembered.put(SCOPE, worker, told if forecasts else None)


def left(project: Project, now: datetime) -> list[Forecast]:
    """What all workers know. Forgets what has grown old. Synchronous; raises StateError."""
    found: list[Forecast] = []
    with project.parts.store() as store:
        for worker, told in {} if store is None else store.remembered.all(SCOPE).items():
            said = json.loads(told)
            if now - clock.parse(said["at"]) <= OLDEST:
                found += [_heard(each) for each in said["days"]]
            elif store is not None:
                store.remembered.put(SCOPE, worker, None)
    return found


def soonest(forecasts: Iterable[Forecast]) -> list[Forecast]:
    """One for each account. Who calls most knows best: by whose words it ends first."""
    found: dict[str, Forecast] = {}
    for each in forecasts:
        known = found.setdefault(each.account, each)
        found[each.account] = min(known, each, key=lambda forecast: forecast.ends_at)
    return list(found.values())


def _told(forecast: Forecast) -> dict[str, str | int]:
    ends_at, resets_at = clock.text(forecast.ends_at), clock.text(forecast.resets_at)
    return {
        "account": forecast.account,
        "left": forecast.left,
        "allowed": forecast.allowed,
        "ends_at": ends_at,
        "resets_at": resets_at,
    }


def _heard(said: dict[str, str | int]) -> Forecast:
    ends_at, resets_at = clock.parse(str(said["ends_at"])), clock.parse(str(said["resets_at"]))
    return Forecast(str(said["account"]), int(said["left"]), int(said["allowed"]), ends_at, resets_at)
