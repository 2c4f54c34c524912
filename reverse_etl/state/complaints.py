"""What can be wrong with a sync's state as a whole, in words, each with the way out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from reverse_etl.errors import DiskFull, StateError, SyncBusy


def missing(sync: str, what: str) -> StateError:
    return StateError(
        what,
        code="state_missing",
        hint=f"restore .reverse_etl from a backup, or `reverse-etl reset {sync}` to start over",
    )


def another_project(place: str, owner: str) -> StateError:
    return StateError(
        f"the state in {place} belongs to another project ({owner})",
        code="state_mismatch",
        hint="put the right file back, or remove .reverse_etl to start over",
    )


def of_two_times(sync: str, store: int, snapshot: int) -> StateError:
    return StateError(
        f"store and snapshot of {sync} are not of one time (store {store}, snapshot {snapshot})",
        code="state_mismatch",
        hint=f"restore both from one backup, or `reverse-etl reset {sync}` to start over",
    )


def other_target(sync: str, before: str, now: str) -> StateError:
    return StateError(
        f"the state of {sync} was made with {before}, the sync now says {now}",
        code="state_other_target",
        hint=f"`reverse-etl reset {sync}` forgets the old target, or set the definition back",
    )


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Around the reading of what only this project writes: if it can't be read, it is damaged. Raises StateError."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as failure:
        raise StateError(
            f"{what} can't be read: {failure}",
            hint="restore .reverse_etl from a backup, or `reverse-etl reset SYNC` to start over",
        ) from failure


def target(identity: str) -> str:
    """An identity as people read it."""
    with readable("what the sync was made with"):
        return ", ".join(f"{name} {value}" for name, value in dict(json.loads(identity)).items())


def reset_meanwhile(sync: str) -> SyncBusy:
    return SyncBusy(f"{sync} was reset while it was looked at", hint="look again")


def full() -> DiskFull:
    return DiskFull(
        "the disk is full; all that was sent has been recorded, and nothing more is sent",
        hint="make room where .reverse_etl lies and run again",
    )


def gap(sync: str) -> StateError:
    return StateError(
        f"the journal of {sync} has a gap",
        code="state_mismatch",
        hint=f"restore the database from a backup, or `reverse-etl reset {sync}` to start over",
    )
