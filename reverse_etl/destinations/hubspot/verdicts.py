"""Which row an answer speaks of: by trace id, by id or by key, never by position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reverse_etl.answer import Answer
from reverse_etl.destinations.hubspot.calls import Call, fold
from reverse_etl.destinations.hubspot.errors import Complaint, addressed_id, complaints, context, unreadable
from reverse_etl.model import Operation

Error = Mapping[str, Any]
Result = Mapping[str, Any]


@dataclass
class Reading:
    """An answer sorted by row. `record_ids` are all it names, those of results that fit no row included.

    `request_id` is the answer's own, for errors that carry none.
    """

    results: dict[int, Result] = field(default_factory=dict)
    faults: dict[int, tuple[Error, list[Complaint]]] = field(default_factory=dict)
    record_ids: dict[str, Result] = field(default_factory=dict)
    empty: bool = False
    request_id: str | None = None


def read(call: Call, answer: Answer) -> Reading:
    """Sorts an answer to `call`. Raises InDoubt when it isn't what HubSpot answers."""
    results, errors = _parts(answer)
    reading = Reading(empty=not results and not errors, request_id=answer.request_id)
    for error in errors:
        for position, found in _meant(call, error):
            reading.faults[position] = (error, found)
    _sort_results(call, results, reading)
    return reading


def _sort_results(call: Call, results: list[Result], reading: Reading) -> None:
    traces = {str(position): position for position in call.positions} if _echoes(results) else {}
    by_key, key = call.position_by_key, call.id_property
    placed, contested = reading.results, set()
    for result in results:
        id = str(result.get("id", ""))
        reading.record_ids[id] = result
        place = traces.get(result.get("objectWriteTraceId", ""))
        if place is None:
            told = id if key is None else (result.get("properties") or {}).get(key)
            place = by_key.get(told or "")
            if place is None and told:
                place = by_key.get(fold(str(told)))
        if place is None:
            continue
        if place in placed and str(placed[place].get("id", "")) != id:
            contested.add(place)  # two records answer for one row: neither is believed
        placed[place] = result
    for place in contested:
        del placed[place]


def _echoes(results: list[Result]) -> bool:
    return any("objectWriteTraceId" in result for result in results)


def _parts(answer: Answer) -> tuple[list[Result], list[Error]]:
    body = answer.json() if answer.body else {}
    if isinstance(body, dict):
        results, errors = body.get("results") or [], body.get("errors") or []
        if all(isinstance(part, list) and all(isinstance(each, dict) for each in part) for part in (results, errors)):
            return results, errors
    raise unreadable("the answer to a batch has neither results nor errors in it", answer)


def blamed(call: Call, found: list[Complaint]) -> Iterator[tuple[int, list[Complaint]]]:
    """The rows that have the very values complained of, each with the complaints that fit it."""
    for position, properties in zip(call.positions, call.properties, strict=True):
        fitting = [complaint for complaint in found if complaint.fits(properties)]
        if fitting:
            yield position, fitting


def _meant(call: Call, error: Error) -> Iterator[tuple[int, list[Complaint]]]:
    found = complaints(error)
    traced = [int(trace) for trace in context(error, "objectWriteTraceId") if trace.isdecimal()]
    if traced:
        asked = set(call.positions)
        yield from ((position, found) for position in traced if position in asked)
        return
    ids = context(error, "ids") or context(error, "id")
    if not ids and call.operation is Operation.UPDATE and call.id_property is None:
        ids = [id for id in [addressed_id(error)] if id]
    named = [call.position_by_key.get(fold(id)) for id in ids]
    if any(position is not None for position in named):
        yield from ((position, found) for position in named if position is not None)
        return
    yield from blamed(call, found)
