"""What a run has under way: the keys that it is sending, and the room to record what becomes of them.

What a run that died has left here is in doubt: its calls have perhaps been carried out, and perhaps still will be.
"""

from __future__ import annotations

from datetime import datetime

from reverse_etl.ledgers import Flight
from reverse_etl.standing import RefusedRow
from reverse_etl.state import engine
from reverse_etl.state.access import Access
from reverse_etl.state.flights import JOBS, Flights, doubtful
from reverse_etl.state.look import Look
from reverse_etl.state.reserve import Reserve
from reverse_etl.state.slots import Slots


class UnderWay:
    """Of one sync. But for `rows`, the caller holds it."""

    def __init__(self, access: Access, look: Look, sync: str) -> None:
        self._look = look
        self._flights = Flights(access.home.underway, sync) if access.embedded else Slots(access, sync)
        self._reserve = _reserve(access, sync)

    def flight(self, slot: int, *, of_job: bool = False) -> Flight:
        """Where a slot writes down what it has under way, in calls or in a job."""
        return self._flights.flight(slot + JOBS if of_job else slot)

    def rows(self, now: datetime) -> list[RefusedRow]:
        """What was under way when a run died, as the next one lists it; none while one is at it."""
        left = list(self._flights.left())
        found = self._look.found() if left and self._look.holder() is None else None
        if found is None:
            return []
        listed = {row.slot: row for row in found.store.lists.refused(found.state.sync)}
        return [*{row.slot: row.again(listed.get(row.slot)) for row in doubtful(left, now, found.state)}.values()]

    def forget(self) -> None:
        """What was left stands on the list, or isn't to be known any more."""
        self._flights.forget()

    def forget_key(self, key: str) -> None:
        """What was left, without one row."""
        self._flights.drop(key)

    # --- room ---------------------------------------------------------------------------------------------------------

    def make_room(self, size: int) -> None:
        """So many bytes of acknowledgements can be recorded from now on. Raises DiskFull when there is no room."""
        if self._reserve is not None:
            self._reserve.hold(size)

    def sweep(self) -> None:
        """The room that a killed run had kept."""
        if self._reserve is not None:
            self._reserve.sweep()

    def give_room_back(self) -> bool:
        """Returns whether there was any."""
        return self._reserve is not None and self._reserve.give_back()

    def close(self) -> None:
        self._flights.close()
        self.give_room_back()


def _reserve(access: Access, sync: str) -> Reserve | None:
    """Only an embedded store has its disk on this machine."""
    file = engine.sqlite_file(access.url)
    return None if file is None else Reserve(file.with_name(f"{file.name}.reserve-{sync}"))
