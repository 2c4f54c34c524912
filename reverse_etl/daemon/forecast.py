"""When syncs run next, for whoever asks without a daemon: what one that started now would find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from reverse_etl.clock import Clock
from reverse_etl.config.sync import SyncConfig
from reverse_etl.daemon.agenda import Agenda
from reverse_etl.daemon.rhythm import Past
from reverse_etl.report import RunReport


@dataclass(frozen=True)
class Outlook:
    """`next_run_at` without the jitter; None when no time is known. `held_by` are parents that have failed."""

    next_run_at: datetime | None
    held_by: list[str]


def outlooks(syncs: Mapping[str, SyncConfig], last: Mapping[str, RunReport], clock: Clock) -> dict[str, Outlook]:
    """Every sync's, from the last runs. A time that has passed is that of a run which is owed."""
    agenda = Agenda(clock)
    for name, sync in syncs.items():
        punctual = sync.model_copy(update={"timing": sync.timing.model_copy(update={"jitter": timedelta()})})
        agenda.define(punctual, Past.of(last.get(name), alive=True))
    for name in syncs:
        agenda.reckon(name)  # parents may have been defined after their children
    return {name: Outlook(agenda[name].due, agenda.held_by(name)) for name in syncs}
