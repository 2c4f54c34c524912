"""A batch as the calls HubSpot takes: which endpoint, which inputs, and whose row each input is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import pyarrow as pa

from reverse_etl.destinations.hubspot.schema import RECORD_ID
from reverse_etl.model import Batch, Field, Operation
from reverse_etl.values import as_text

Properties = dict[str, str]

VERBS = {
    Operation.UPSERT: "upsert",
    Operation.UPDATE: "update",
    Operation.CREATE: "create",
    Operation.REMOVE: "archive",
}


def fold(key: str) -> str:
    """Keys that HubSpot may take for the same one; no two such keys share a call."""
    return key.strip().lower()


@dataclass(frozen=True)
class Call:
    """Rows that share a request. `ids` find their records: values of `id_property`, or record ids where that is None.

    `positions` are the rows' places in the batch, and serve as their trace ids.
    """

    operation: Operation
    id_property: str | None
    positions: Sequence[int]
    ids: Sequence[str]
    properties: Sequence[Properties]

    @cached_property
    def position_by_key(self) -> dict[str, int]:
        return {id.strip().lower(): position for id, position in zip(self.ids, self.positions, strict=True)}  # `fold`

    @cached_property
    def _places(self) -> dict[int, int]:
        return {position: place for place, position in enumerate(self.positions)}

    def sent(self, position: int) -> Properties:
        """What goes out for a row."""
        return self.properties[self._places[position]]

    def clearing(self, fields: Mapping[int, Iterable[str]]) -> Call:
        """The same call with these fields of these rows cleared."""
        if not fields:
            return self
        rows = zip(self.positions, self.properties, strict=True)
        return replace(self, properties=[sent | dict.fromkeys(fields.get(position, ()), "") for position, sent in rows])

    def body(self) -> dict[str, Any]:
        """The request."""
        rows = zip(self.positions, self.ids, self.properties, strict=True)
        if self.operation is Operation.REMOVE:
            return {"inputs": [{"id": id} for id in dict.fromkeys(self.ids)]}
        if self.operation is Operation.CREATE:
            return {
                "inputs": [
                    {"objectWriteTraceId": str(position), "associations": [], "properties": properties}
                    for position, _, properties in rows
                ]
            }
        if self.id_property is None:
            return {
                "inputs": [
                    {"id": id, "objectWriteTraceId": str(position), "properties": properties}
                    for position, id, properties in rows
                ]
            }
        by = self.id_property
        return {
            "inputs": [
                {"id": id, "idProperty": by, "objectWriteTraceId": str(position), "properties": properties}
                for position, id, properties in rows
            ]
        }

    def only(self, keep: Sequence[int]) -> Call:
        """The rows at these positions."""
        chosen = set(keep)
        places = [place for place, position in enumerate(self.positions) if position in chosen]
        return Call(
            self.operation,
            self.id_property,
            [self.positions[place] for place in places],
            [self.ids[place] for place in places],
            [self.properties[place] for place in places],
        )

    def waves(self) -> Iterator[Call]:
        """The call, split where two of its keys look alike: HubSpot refuses the whole of a request that repeats one."""
        if len(self.position_by_key) == len(self.positions) or self.operation is Operation.REMOVE:
            yield self
            return
        waves: list[list[int]] = []
        seen: dict[str, int] = {}
        for id, position in zip(self.ids, self.positions, strict=True):
            turn = seen[fold(id)] = seen.get(fold(id), -1) + 1
            if turn == len(waves):
                waves.append([])
            waves[turn].append(position)
        for wave in waves:
            yield self.only(wave)


def calls(batch: Batch) -> Iterator[Call]:
    """The calls a batch takes: one, unless only some of its rows have a remembered record id."""
    record_ids: list[str | None] = batch.record_ids.to_pylist()
    if batch.operation is Operation.REMOVE:
        yield from _split(batch.operation, None, record_ids, [{}] * len(batch))
        return
    properties = _properties(batch)
    by_match: str | None = batch.match
    match_values = list(batch.match_values(as_text))
    folds = batch.fields[batch.rows.schema.get_field_index(batch.match)].folds_case
    keys = [fold(value) if folds and value is not None else value for value in match_values]
    if batch.match == RECORD_ID:
        by_match = None
        for each in properties:
            each.pop(RECORD_ID, None)
    if batch.operation is Operation.UPDATE:
        known = None if None in record_ids else record_ids
        if known is not None:
            yield from _split(batch.operation, None, known, properties)
            return
        keys = [None if record_id is not None else key for key, record_id in zip(keys, record_ids, strict=True)]
        yield from _split(batch.operation, None, record_ids, properties)
    yield from _split(batch.operation, by_match, keys, properties)


def _split(
    operation: Operation, id_property: str | None, ids: Sequence[str | None], properties: Sequence[Properties]
) -> Iterator[Call]:
    """The call for the rows that have an id; none when no row has."""
    if ids and all(ids):
        yield from Call(operation, id_property, range(len(ids)), cast("Sequence[str]", ids), properties).waves()
        return
    rows = [(at, id, sent) for at, (id, sent) in enumerate(zip(ids, properties, strict=True)) if id]
    if rows:
        positions, present, carried = zip(*rows, strict=True)
        yield from Call(operation, id_property, positions, present, carried).waves()


def _properties(batch: Batch) -> list[Properties]:
    """What each row sends: a value cleared is the empty text; a record to be created is not told what it lacks."""
    if batch.operation is Operation.CREATE and batch.sends is not None:
        return [
            {name: value for name, value in record.items() if value is not None} for record in batch.records(as_text)
        ]
    return list(batch.records(as_text if batch.sends is None else _cleared))


def _cleared(column: pa.Array, field: Field) -> Sequence[str | None]:
    texts = as_text(column, field)
    return ["" if text is None else text for text in texts] if column.null_count else texts
