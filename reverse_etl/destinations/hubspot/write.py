"""One batch on its way: as a rule one call, a few more where an answer leaves something open; one verdict a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reverse_etl.answer import Answer
from reverse_etl.destinations.hubspot.calls import VERBS, Call, Properties, calls, fold
from reverse_etl.destinations.hubspot.errors import (
    MAPPING_CODES,
    Complaint,
    Conflict,
    Refused,
    complaints,
    conflict_in,
    refusal,
    request_id,
)
from reverse_etl.destinations.hubspot.oneway import steps_back
from reverse_etl.destinations.hubspot.reads import LOOKUPS, Records
from reverse_etl.destinations.hubspot.schema import RECORD_ID, nearest
from reverse_etl.destinations.hubspot.verdicts import Reading, blamed, read
from reverse_etl.errors import DestinationError
from reverse_etl.model import Batch, Operation
from reverse_etl.verdicts import DELIVERED, Outcomes, Refusal, Verdict

# How often the innocent rows of a refused request are sent again without the guilty before it is left to be halved.
RESENDS = 3


class Writing:
    """`run` once. `known` are the object's field names, to suggest the nearest for one that doesn't exist."""

    def __init__(self, records: Records, batch: Batch, known: Iterable[str]) -> None:
        self.records = records
        self.batch = batch
        self.known = known
        self.outcomes = Outcomes(len(batch))
        self.one_way = [field for field in batch.fields if field.one_way]
        self.back: dict[int, Properties] = {}  # fields that are cleared, and set when the row's record was written
        self.calls: dict[int, Call] = {}
        self.conflicts: dict[int, tuple[Conflict, Refusal]] = {}

    async def run(self) -> Outcomes:
        addressed: set[int] = set()
        for call in calls(self.batch):
            addressed.update(call.positions)
            steps = await steps_back(self.records, call, [field for field in self.one_way if field.backward])
            self.back |= steps
            await self._deliver(call.clearing(steps))
        for position in set(range(len(self.batch))) - addressed:
            reason = f"the row has neither a remembered record id nor a value of {self.batch.match}"
            self.outcomes.rejected(position, Refusal("no_match", reason))
        if self.conflicts and self.batch.operation is Operation.CREATE:
            await self._skip_existing()
        elif self.conflicts:
            await self._update_existing()
        if self.back:
            await self._set_again()
        return self.outcomes

    # --- one call ---------------------------------------------------------------------------------------------------

    async def _deliver(self, call: Call) -> None:
        for position in call.positions:
            self.calls[position] = call
        if call.operation is Operation.REMOVE:
            await self._send(call)  # an answer without error covers every id of the request
            for position in call.positions:
                self.outcomes.removed(position)
            return
        reading = Reading(empty=True)
        for _ in range(2):  # a success that names no row has written nothing: seen in production, once more helps
            call, reading = await self._answered(call)
            if not reading.empty:
                break
        self._record(call, reading)
        await self._look_up(call, reading)

    async def _send(self, call: Call) -> Answer:
        """Every call may be repeated without harm: a create whose record is there already is answered by a conflict."""
        path = self.records.paths.batch(self.records.type, VERBS[call.operation])
        return await self.records.http.send(
            "POST", path, json=call.body(), idempotent=True, splittable=len(call.ids) > 1
        )

    async def _answered(self, call: Call) -> tuple[Call, Reading]:
        """The answer, and the rows it is about: those to blame for a refusal of the whole are taken out."""
        for resends_left in range(RESENDS, -1, -1):
            try:
                answer = await self._send(call)
            except Refused as refused:
                if not resends_left:
                    raise
                call = self._without_guilty(call, refused)
                if not call.positions:
                    break
            else:
                return call, read(call, answer)
        return call, Reading()

    def _without_guilty(self, call: Call, refused: Refused) -> Call:
        found = complaints(refused.body)
        self._refuse_mapping(found)
        if len(call.positions) == 1:
            self._fault(call, call.positions[0], refused.body, found, refused.request_id)
            return call.only([])
        guilty = dict(blamed(call, found))
        if not guilty:
            raise refused
        for position, fitting in guilty.items():
            self.outcomes.rejected(position, refusal(refused.body, fitting, refused.request_id))
        return call.only([position for position in call.positions if position not in guilty])

    # --- one answer -------------------------------------------------------------------------------------------------

    def _record(self, call: Call, reading: Reading) -> None:
        for position, (error, found) in reading.faults.items():
            if position not in reading.results:  # both a result and an error: in doubt
                self._fault(call, position, error, found, reading.request_id)
        for position, result in reading.results.items():
            if position not in reading.faults:
                self._written(call, position, result)
        if not DELIVERED.intersection(self.outcomes.verdicts):
            self._refuse_mapping([complaint for _, found in reading.faults.values() for complaint in found])

    def _written(self, call: Call, position: int, result: Mapping[str, Any]) -> None:
        new = call.operation is Operation.CREATE or (call.operation is Operation.UPSERT and result.get("new") is True)
        settle = self.outcomes.created if new else self.outcomes.updated
        settle(position, str(result["id"]) if result.get("id") else None)
        if remark := self._remark(call, position, result.get("properties") or {}):
            self.outcomes.remarks[position] = remark

    def _remark(self, call: Call, position: int, told: Mapping[str, Any]) -> str | None:
        """What a person should know of a row that was written: its values are not, or not all, what HubSpot has now."""
        if call.id_property == "email" and told.get("email"):
            own = str(told["email"])
            if call.position_by_key.get(fold(own)) != position:
                return "found by a secondary address: the contact has another primary e-mail address"
        for field in self.one_way:
            sent = call.sent(position).get(field.name)
            if sent and told.get(field.name, sent) != sent:
                remedy = "" if field.backward else ": set `allow_backward: true` in its mapping"
                return f"{field.name} was not moved back to an earlier value by HubSpot{remedy}"
        return None

    def _fault(
        self, call: Call, position: int, error: Mapping[str, Any], found: list[Complaint], request: str | None
    ) -> None:
        if call.operation is Operation.UPDATE and error.get("category") == "OBJECT_NOT_FOUND":
            self.outcomes.missing(position)
            return
        reason = refusal(error, found, request_id(error) or request)
        conflict = conflict_in(error, self.records.type)
        if conflict is not None and call.operation in (Operation.CREATE, Operation.UPSERT):
            self.conflicts[position] = (conflict, reason)
        else:
            self.outcomes.rejected(position, reason)

    async def _look_up(self, call: Call, reading: Reading) -> None:
        """Rows whose record answered under another id or address: after a merge, or found by a secondary e-mail."""
        spoken = {*reading.results, *reading.faults}
        silent = [position for position in call.positions if position not in spoken]
        if not reading.record_ids or len(silent) > LOOKUPS:
            return
        ids = dict(zip(call.positions, call.ids, strict=True))
        for position in silent:
            id = await self.records.current_id(ids[position], call.id_property)
            if id in reading.record_ids:
                self._written(call, position, reading.record_ids[id])

    def _refuse_mapping(self, found: Iterable[Complaint]) -> None:
        """A property that doesn't exist or can't be written is no row's fault: the sync stops."""
        for complaint in found:
            if complaint.code in MAPPING_CODES:
                near = nearest(complaint.property or "", self.known)
                raise DestinationError(
                    f"HubSpot, {self.batch.object}.{complaint.property}: {complaint.text}",
                    code="destination_config",
                    hint=f"did you mean {near!r}?" if near else "take the field out of the mapping",
                )

    # --- records that exist already -----------------------------------------------------------------------------------

    async def _skip_existing(self) -> None:
        """Insert: a row whose record exists is skipped; one that only shares another unique value is refused."""
        keys = {position: self._key(position) for position in self.conflicts}
        unsure = [
            keys[position]
            for position, (conflict, _) in self.conflicts.items()
            if conflict.property != self.batch.match
        ]
        found = await self.records.find(self.batch.match, unsure, []) if unsure else {}
        for position, (conflict, reason) in self.conflicts.items():
            if conflict.property == self.batch.match:
                self.outcomes.skipped(position, conflict.record_id)
            elif (record := found.get(keys[position])) is not None:
                self.outcomes.skipped(position, str(record["id"]))
            else:
                self.outcomes.rejected(position, reason)

    async def _update_existing(self) -> None:
        """Upsert: a record found through another unique value becomes the row's, unless it is another row's already."""
        match = self.batch.match
        records = await self._existing(match)
        targets: dict[str, int] = {}
        for position, (conflict, reason) in self.conflicts.items():
            record_id = conflict.record_id
            is_ours = conflict.property == match or (record_id in records and not records[record_id][match])
            if record_id is None or not is_ours or record_id in targets:
                self.outcomes.rejected(position, reason)
            else:
                targets[record_id] = position
        if not targets:
            return
        reasons = {position: reason for position, (_, reason) in self.conflicts.items()}
        self.conflicts = {}
        positions = list(targets.values())
        sent = [self._spared(position, records.get(id, {})) for id, position in targets.items()]
        await self._deliver(Call(Operation.UPDATE, None, positions, list(targets), sent))
        for position in positions:
            if self.outcomes.verdicts[position] is Verdict.MISSING:
                self.outcomes.rejected(position, reasons[position])

    async def _existing(self, match: str) -> dict[str, dict[str, object]]:
        """What decides whose the records are that were there already, and what of them stays."""
        if_empty = [field.name for field in self.batch.fields if field.written == "if_empty"]
        known = (told for told, _ in self.conflicts.values() if if_empty or told.property != match)
        ids = [told.record_id for told in known if told.record_id]
        return await self.records.find(RECORD_ID, ids, [match, *if_empty]) if ids else {}

    def _spared(self, position: int, record: Mapping[str, object]) -> Properties:
        """What a row sends to a record that is there after all: not what it only writes to new or empty fields."""
        sent = self.calls[position].sent(position)
        kept = {
            field.name
            for field in self.batch.fields
            if field.name in sent
            and (field.written == "on_create" or (field.written == "if_empty" and record.get(field.name)))
        }
        if kept:
            self.outcomes.kept[position] = len(kept)
        return {name: value for name, value in sent.items() if name not in kept}

    async def _set_again(self) -> None:
        """The second half of a move back. Until it is answered for, its rows have no verdict."""
        ids = {place: self.outcomes.record_ids[place] for place in self.back}
        written = [(place, id) for place, id in ids.items() if id and self.outcomes.verdicts[place] in DELIVERED]
        for place, _ in written:
            self.outcomes.unanswer(place)
        places, targets = [place for place, _ in written], [id for _, id in written]
        whole = Call(Operation.UPDATE, None, places, targets, [self.back[place] for place in places])
        for call in whole.waves() if places else ():
            await self._deliver(call)

    def _key(self, position: int) -> str:
        call = self.calls[position]
        return call.ids[call.positions.index(position)]
