"""What must hold after every command, told from what the destination was asked and did, and from what is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reverse_etl.model import Operation
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.testing import MemoryAccount, Written
from reverse_etl.testing.parents import Linked
from tests.properties.model.definition import Definition, Row
from tests.properties.model.reckoning import Reckoned
from tests.properties.model.stage import Memory


@dataclass
class Witness:
    """What was carried out at the destination, and what people did there."""

    account: MemoryAccount
    told: set[tuple[str, str, Any]] = field(default_factory=set)  # record, field, value: carried out at some time
    owned: set[tuple[str, str, Any]] = field(
        default_factory=set
    )  # key, field, value: acknowledged since the key is known
    deleted: set[str] = field(default_factory=set)  # records that people deleted
    edited: set[tuple[str, str]] = field(default_factory=set)  # record, field: what people wrote, nobody since
    linked: set[tuple[str, Any]] = field(default_factory=set)  # record, company: stood at some time
    orphans: set[tuple[str, Any]] = field(default_factory=set)  # links of which a killed process could tell nobody
    _seen: int = 0

    def look(self) -> None:
        for done in self.account.applied[self._seen :]:
            for name, value in done.row.items():
                self.told.add((done.record_id or f"event {done.key}", name, value))
                self.edited.discard((done.record_id, name))
        self._seen = len(self.account.applied)
        self.linked |= self.links()

    def links(self) -> set[tuple[str, Any]]:
        """Those that stand: record and company's domain."""
        parents = self.account.parents
        return {(record, parents.records["companies"][parent]["domain"]) for record, _, parent in parents.links}

    def edit(self, record_id: str, values: Mapping[str, Any]) -> None:
        """Somebody writes into a record."""
        self.look()
        self.account.records[record_id].update(values)
        self.edited |= {(record_id, name) for name in values}

    def buries(self, memory: Memory) -> None:
        """A process was killed: links that stand and that nobody knows of may stay."""
        claimed = {(known.record_id, known.values.get("company")) for known in memory.known.values()}
        self.orphans |= self.links() - claimed

    def hears(self, memory: Memory) -> None:
        """Nothing is claimed that the destination did not do."""
        self.look()
        self.owned = {told for told in self.owned if told[0] in memory.known}
        for key, known in memory.known.items():
            for name, value in known.values.items():
                if not known.sent or value is None:
                    continue
                self.owned.add((key, name, value))
                if name == "company":
                    done = (known.record_id, value) in self.linked or memory.row(key) is not None
                else:
                    done = (known.record_id or f"event {key}", name, value) in self.told
                assert done, f"{key}: {name} {value!r} is remembered, and was never carried out"


def balanced(report: RunReport, found: Reckoned | None) -> None:
    """Every row is counted once, whatever became of the run."""
    rows, told = report.rows, report.delivered
    assert rows.read == rows.unchanged + rows.added + rows.changed + rows.invalid, rows
    if report.dry_run or found is None:
        return
    owed = rows.added + rows.changed + rows.removed + rows.retried
    settled = told.created + told.updated + told.removed + told.skipped
    standing = report.rejected + report.in_doubt - len(found.held & found.again)
    assert owed == settled + standing + report.pending, report


@dataclass(frozen=True)
class Offered:
    """What one run asked of the destination, against what it had to."""

    definition: Definition
    found: Reckoned
    before: Memory
    writes: Sequence[Written]
    links: Sequence[Linked] = ()

    def is_right(self, report: RunReport | None) -> None:
        """Nothing is invented, nothing removed without cause; a run that went well has offered everything."""
        offered: set[str] = set()
        for write in self.writes:
            for key, row, record_id in zip(write.keys, write.rows, write.record_ids, strict=True):
                if key in self.found.outgoing:
                    self._is_of_its_row(write.operation, key, row, first=key not in offered)
                else:
                    self._is_a_removal(write.operation, key, row, record_id)
                offered.add(key)
        if self.found.guarded and report is not None and report.error is not None:
            assert report.status in (RunStatus.GUARDED, RunStatus.FAILED), report
            assert not offered, "a guarded run sent something"
        if report is not None and report.error is None:
            offered |= {key for call in self.links for key in call.changes}
            removed = self.found.removed - self.found.later
            missed = (self.found.outgoing.keys() | removed) - offered
            assert not missed, f"not offered: {missed}"

    def _is_of_its_row(self, operation: Operation, key: str, row: dict[str, Any], *, first: bool) -> None:
        payload = self.definition.payload(self.found.delta[key])
        wrong = {name: value for name, value in row.items() if value != payload[name]}
        assert not wrong, f"{key}: {wrong} was sent, the row says {payload}"
        assert operation is not Operation.REMOVE, f"{key} was removed, and its row is there"
        if first:
            due = self.definition.written(self.found.outgoing[key])
            assert not due or row.keys() == due, f"{key}: {row} was sent instead of {due}"

    def _is_a_removal(self, operation: Operation, key: str, row: dict[str, Any], record_id: str | None) -> None:
        assert key in self.found.removed, f"{key} was sent as {operation}: {row}, and nothing asked for it"
        assert record_id == self.before.known[key].record_id
        if self.definition.leaves is None:
            assert operation is Operation.REMOVE
        else:
            assert (operation, row) == (Operation.UPDATE, self.definition.leaves)


@dataclass(frozen=True)
class AtRest:
    """After the last clean run: the destination holds what the rows say, but for what is named with its reason."""

    definition: Definition
    found: Reckoned  # what a further run would find
    memory: Memory
    witness: Witness
    rows: Sequence[Row]

    def is_right(self, skipped: Iterable[str] = ()) -> None:
        owed = self.found.outgoing.keys() | self.found.removed
        assert not owed, f"still to be sent: {owed}"
        single = {key: row for row in self.rows if (key := self.definition.key_of(row)) is not None}
        keys = [self.definition.key_of(row) for row in self.rows]
        for key, row in single.items():
            if keys.count(key) == 1 and key not in skipped and key not in self.found.delta.keys() | self.found.invalid:
                self._stands(key, row)

    def _stands(self, key: str, row: Row) -> None:
        known = self.memory.known[key]
        if not known.sent or self.definition.mode == "insert":
            return
        if self.definition.mode == "append":
            assert ("people", key) in self.witness.account.events, f"the event {key} is not there"
            return
        assert known.record_id is not None
        record = self.witness.account.records.get(known.record_id)
        if record is None:
            assert known.record_id in self.witness.deleted, f"{key}: its record {known.record_id} is not there"
            return
        if "company" in self.definition.mapping:
            self._is_linked(key, known.record_id, row)
        for name, value in self.definition.payload(row).items():
            if name in self.definition.written([name]) and (known.record_id, name) not in self.witness.edited:
                self._holds(key, record, name, value)

    def _is_linked(self, key: str, record_id: str, row: Row) -> None:
        """To the company that its row names, and to no other one that this sync knows of."""
        ignores = self.definition.mapping["company"].nulls == "ignore"
        have = {domain for record, domain in self.witness.links() if record == record_id}
        more = have - {row.company} - {domain for record, domain in self.witness.orphans if record == record_id}
        assert row.company is None or row.company in have, f"{key}: not linked to {row.company}"
        assert not more or (ignores and row.company is None), f"{key}: linked to {more}, the row says {row.company}"

    def _holds(self, key: str, record: dict[str, Any], name: str, value: Any) -> None:
        entry = self.definition.mapping[name]
        if not entry.compare or (value is None and entry.nulls == "ignore"):
            return
        have = record.get(name)
        if value is None and (key, name, have) not in self.witness.owned:
            return  # somebody else's value, from before the record was this row's: a new row clears nothing
        assert have == value, f"{key}: {name} is {have!r} in the record, the row says {value!r}"
