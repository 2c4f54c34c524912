"""The other objects of an account in memory, and the links to them.

account = MemoryAccount(EMAIL, parents=MemoryParents(companies=("domain",)))
acme = account.parents.add("companies", domain="acme.io")
account.parents.fail(InDoubt("cut off"), call=1)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reverse_etl import values
from reverse_etl.errors import DestinationError
from reverse_etl.model import Batch, Field, FieldType, Parent
from reverse_etl.protocols import LINK_WAITING, RECORD_GONE
from reverse_etl.verdicts import Outcomes, Refusal

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Linked:
    """One call of `link`: by key, the match value that each row's link had, and the one that it is to have."""

    field: str
    changes: dict[str, tuple[Any, Any]]


class MemoryParents:
    """`objects` are the fields that find each object's records. Its records come by `add` only."""

    def __init__(self, **objects: Sequence[str]) -> None:
        self.objects = objects
        self.records: dict[str, dict[str, Record]] = {object: {} for object in objects}
        self.links: set[tuple[str, str, str]] = set()  # record id, field, parent's id
        self.calls: list[Linked] = []
        self._made = 0
        self._refuse: Callable[[Record], bool] = lambda parent: False
        self._faults: dict[int, tuple[DestinationError, bool]] = {}

    def add(self, object: str, **fields: Any) -> str:
        """A record that somebody made. Returns its id."""
        self._made += 1
        self.records[object][f"p{self._made}"] = fields
        return f"p{self._made}"

    def of(self, record_id: str, field: str) -> set[str]:
        """The ids of the records that this one is linked to."""
        return {parent for id, name, parent in self.links if (id, name) == (record_id, field)}

    def refuse(self, when: Callable[[Record], bool]) -> None:
        """Links to parents of which `when` is true are refused from now on."""
        self._refuse = when

    def fail(self, error: DestinationError, *, call: int = 1, applied: bool = False) -> None:
        """Raise on the so-many-th call of `link` from now (1: the next)."""
        self._faults[len(self.calls) + call] = (error, applied)

    def obey(self) -> None:
        """Forget all orders: behave from now on."""
        self._refuse, self._faults = (lambda parent: False), {}

    # --- what the destination does ------------------------------------------------------------------------------------

    def describe(self, name: str, parent: Parent) -> Field:
        fields = self.objects.get(parent.object or "")
        if fields is None:
            raise _unusable(f"there is no object {parent.object!r} to link to", [*self.objects])
        if parent.match not in fields:
            raise _unusable(f"{parent.object} has no field {parent.match!r}", fields)
        return Field(name, FieldType.REFERENCE, parent=parent)

    def link(self, batch: Batch, record_ids: Sequence[str], living: Collection[str]) -> dict[int, Refusal]:
        """`living` are the records that are there to be linked."""
        (field,) = batch.fields
        new = [values.canonical(value) for value in batch.rows.column(field.name).to_pylist()]
        old = new if batch.linked is None else batch.linked.column(field.name).to_pylist()
        self.calls.append(
            Linked(field.name, dict(zip(batch.keys.to_pylist(), zip(old, new, strict=True), strict=True)))
        )
        error, applied = self._faults.pop(len(self.calls), (None, True))
        refused: dict[int, Refusal] = {}
        for at, record_id in enumerate(record_ids if applied else ()):
            if record_id not in living:
                refused[at] = Refusal(RECORD_GONE, f"there is no record {record_id}")
            elif reason := self._relink(field, record_id, values.canonical(old[at]), new[at]):
                refused[at] = reason
        if error is not None:
            if applied:  # and nobody knows
                error.answered = Outcomes(len(batch))
                for at in set(range(len(batch))) - set(refused):
                    error.answered.removed(at)
            raise error
        return refused

    def _relink(self, field: Field, record_id: str, old: Any, new: Any) -> Refusal | None:
        wanted = self._found(field, new)
        if new is not None and not wanted:
            return Refusal(LINK_WAITING, f"there is no such record yet: {new}")
        if len(wanted) > 1:
            return Refusal("ambiguous_match", f"{new} finds several records: {', '.join(wanted)}")
        self.links -= {(record_id, field.name, parent) for parent in self._found(field, old) if parent not in wanted}
        for parent in wanted:
            if self._refuse(self._all(field)[parent]):
                return Refusal("TOO_MANY_LINKS", "the account's rule forbids it", "request-1")
            self.links.add((record_id, field.name, parent))
        return None

    def _found(self, field: Field, value: Any) -> list[str]:
        match = field.parent.match if field.parent else ""
        return [id for id, record in self._all(field).items() if value is not None and record.get(match) == value]

    def _all(self, field: Field) -> dict[str, Record]:
        return self.records[(field.parent and field.parent.object) or ""]


def _unusable(message: str, known: Sequence[str]) -> DestinationError:
    return DestinationError(message, code="destination_config", hint=f"there are: {', '.join(known) or 'none'}")
