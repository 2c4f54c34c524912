"""Fields whose value HubSpot moves forward only: a lifecycle stage further back is taken, and changes nothing.

To go back, such a field is cleared with the row's other values, and set by a second request. A row that is refused
keeps the stage it had; one that HubSpot took and whose second request failed has none until it is offered again.
"""

from __future__ import annotations

from collections.abc import Sequence

from reverse_etl.destinations.hubspot.calls import Call, Properties
from reverse_etl.destinations.hubspot.reads import Records
from reverse_etl.destinations.hubspot.schema import RECORD_ID
from reverse_etl.model import Field, Operation


async def steps_back(records: Records, call: Call, fields: Sequence[Field]) -> dict[int, Properties]:
    """For each row of a call that would move a record back: the fields to clear first, with their new values."""
    names = [field.name for field in fields]
    if not names or call.operation not in (Operation.UPSERT, Operation.UPDATE):
        return {}
    rows = zip(call.positions, call.ids, call.properties, strict=True)
    sending = {position: (id, sent) for position, id, sent in rows if any(sent.get(name) for name in names)}
    if not sending:
        return {}
    found = await records.find(call.id_property or RECORD_ID, [id for id, _ in sending.values()], names)
    steps: dict[int, Properties] = {}
    for position, (id, sent) in sending.items():
        present = found.get(id, {})
        back = {
            field.name: sent[field.name]
            for field in fields
            if sent.get(field.name) and _lies_behind(field, sent[field.name], present.get(field.name))
        }
        if back:
            steps[position] = back
    return steps


def _lies_behind(field: Field, new: str, present: object) -> bool:
    """Whether a value comes before the record's own; of one that has no place in the order that can't be excluded."""
    order = field.options or ()
    if not present or present == new:
        return False
    return new not in order or present not in order or order.index(new) < order.index(str(present))
