"""What became of a row that was offered: a verdict for each, and what may stand beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Verdict(IntEnum):
    """What became of a row that was offered. NO_ANSWER is where every row starts, and means doubt."""

    NO_ANSWER = 0
    CREATED = 1
    UPDATED = 2
    REMOVED = 3
    SKIPPED = 4
    REJECTED = 5
    MISSING = 6  # the record that was addressed is gone; `deliver` decides what that means


DELIVERED = frozenset({Verdict.CREATED, Verdict.UPDATED, Verdict.REMOVED, Verdict.SKIPPED})


@dataclass(frozen=True)
class Refusal:
    """The destination's own reason for refusing a row: its code, its words, the id to quote to its support."""

    code: str
    message: str
    request_id: str | None = None


class Outcomes:
    """One verdict for each row of a batch, by position; a destination fills it, a row it leaves out is in doubt.

    Beside the verdict a delivered row may have links that are still `waiting`, fields that were `kept` as they are at
    the destination, and a remark for the run's report: one sentence, the same for all rows that it fits. `doubted`: a
    try of the batch before the one that was answered may still land.
    """

    def __init__(self, size: int) -> None:
        self.verdicts: list[Verdict] = [Verdict.NO_ANSWER] * size
        self.record_ids: list[str | None] = [None] * size
        self.refusals: dict[int, Refusal] = {}
        self.waiting: dict[int, dict[str, Refusal]] = {}  # by position and field
        self.kept: dict[int, int] = {}
        self.remarks: dict[int, str] = {}
        self.doubted = False

    def __len__(self) -> int:
        return len(self.verdicts)

    def created(self, position: int, record_id: str | None = None) -> None:
        self.verdicts[position] = Verdict.CREATED
        self.record_ids[position] = record_id

    def updated(self, position: int, record_id: str | None = None) -> None:
        self.verdicts[position] = Verdict.UPDATED
        self.record_ids[position] = record_id

    def removed(self, position: int) -> None:
        self._settle(position, Verdict.REMOVED, None)

    def skipped(self, position: int, record_id: str | None = None) -> None:
        self._settle(position, Verdict.SKIPPED, record_id)

    def missing(self, position: int) -> None:
        self._settle(position, Verdict.MISSING, None)

    def rejected(self, position: int, refusal: Refusal) -> None:
        self._settle(position, Verdict.REJECTED, None)
        self.refusals[position] = refusal

    @property
    def all_delivered(self) -> bool:
        return sum(map(self.count, DELIVERED)) == len(self)

    @property
    def all_done(self) -> bool:
        """Whether nothing is owed to any row: no refusal, no doubt, no link that waits."""
        return not self.waiting and self.all_delivered

    def count(self, verdict: Verdict) -> int:
        """How many have this verdict; lists are told apart by it faster than one by one."""
        return self.verdicts.count(verdict)

    def places(self, verdict: Verdict) -> list[int]:
        """Where this verdict stands."""
        return [place for place, given in enumerate(self.verdicts) if given is verdict] if self.count(verdict) else []

    def unanswered(self) -> list[int]:
        """Rows that no part of the answer spoke of."""
        return self.places(Verdict.NO_ANSWER)

    def unanswer(self, position: int) -> None:
        """Take a verdict back: the row is offered in another way."""
        self._settle(position, Verdict.NO_ANSWER, None)

    def take(self, places: Sequence[int]) -> Outcomes:
        """The verdicts of these rows."""
        part = Outcomes(len(places))
        part.doubted = self.doubted
        for at, place in enumerate(places):
            part._settle(at, self.verdicts[place], self.record_ids[place])
        for mine, theirs in zip(self._asides(), part._asides(), strict=True):
            theirs.update((at, mine[place]) for at, place in enumerate(places) if place in mine)
        return part

    def take_over(self, places: Sequence[int], part: Outcomes) -> None:
        """The verdicts of a part, put where its rows stand in the whole."""
        if places == range(len(self)):
            self.verdicts[:], self.record_ids[:] = part.verdicts, part.record_ids
        else:
            for place, verdict, record_id in zip(places, part.verdicts, part.record_ids, strict=True):
                self.verdicts[place] = verdict
                self.record_ids[place] = record_id
        for mine, theirs in zip(self._asides(), part._asides(), strict=True):
            mine.update((places[at], aside) for at, aside in theirs.items())

    def _asides(self) -> tuple[dict[int, Any], ...]:
        """What may stand beside a verdict, by position."""
        return self.refusals, self.waiting, self.kept, self.remarks

    def _settle(self, position: int, verdict: Verdict, record_id: str | None) -> None:
        self.verdicts[position] = verdict
        self.record_ids[position] = record_id
