"""sObject Collections: up to 200 records a call, answered one by one in the order of the request.

(REST API guide, "sObject Collections", v62.0, read in 2026.) `allOrNone` stays false: one bad record must not undo
the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reverse_etl import values
from reverse_etl.answer import Answer
from reverse_etl.destinations.salesforce.auth import full_id
from reverse_etl.destinations.salesforce.errors import ForRow, Rule, of_row
from reverse_etl.destinations.salesforce.links import Link
from reverse_etl.model import Batch, FieldType, Operation
from reverse_etl.verdicts import Outcomes, Refusal

MOST_RECORDS = 200


def upserts(batch: Batch, links: Mapping[str, Link]) -> dict[str, Any]:
    """The body of an upsert by `batch.match`, whose value every record holds."""
    records = _records(batch, links)
    for record, value in zip(records, batch.match_values(values.as_json), strict=True):
        record[batch.match] = value
    return {"allOrNone": False, "records": records}


def creations(batch: Batch, links: Mapping[str, Link]) -> dict[str, Any]:
    """The body of an insert."""
    return {"allOrNone": False, "records": _records(batch, links)}


def updates(batch: Batch, record_ids: Sequence[str], links: Mapping[str, Link]) -> dict[str, Any]:
    """The body of an update by record id, one for each row."""
    records = _records(batch, links)
    for record, record_id in zip(records, record_ids, strict=True):
        record.pop("Id", None)
        record["id"] = record_id
    return {"allOrNone": False, "records": records}


def read_results(
    answer: Answer, batch: Batch, positions: Sequence[int], record_ids: Sequence[str] | None, outcomes: Outcomes
) -> list[tuple[Rule, Refusal]]:
    """Settles the rows at `positions`, which the request held in this order; gives the refusals that stop everything,
    whose rows wait.

    An answer with another number of results speaks of nobody, and a result that can't be read, or that names another
    record than the one addressed, leaves its row without an answer.
    """
    results = answer.json()
    if not isinstance(results, list) or len(results) != len(positions):
        return []
    stops: list[tuple[Rule, Refusal]] = []
    for index, (position, result) in enumerate(zip(positions, results, strict=True)):
        addressed = None if record_ids is None else record_ids[index]
        if not isinstance(result, dict):
            continue
        if result.get("success") is True:
            record_id = result.get("id")
            if isinstance(record_id, str) and (addressed is None or record_id[:15] == addressed[:15]):
                succeeded(batch, position, record_id, outcomes, created=result.get("created") is True)
        elif result.get("success") is False:
            rule, refusal = of_row(result.get("errors"), answer.request_id)
            if rule.row is ForRow.STOP:
                stops.append((rule, refusal))
            else:
                refused(batch, position, rule.row, refusal, outcomes)
    return stops


def succeeded(batch: Batch, position: int, record_id: str, outcomes: Outcomes, *, created: bool) -> None:
    """Settles a row that Salesforce saved."""
    if batch.operation is Operation.REMOVE:
        outcomes.removed(position)
    elif batch.operation is Operation.CREATE or created:
        outcomes.created(position, record_id)
    else:
        outcomes.updated(position, record_id)


def refused(batch: Batch, position: int, meaning: ForRow, refusal: Refusal, outcomes: Outcomes) -> None:
    """Settles a row that Salesforce refused."""
    if meaning is ForRow.GONE and batch.operation is Operation.REMOVE:
        outcomes.removed(position)
    elif meaning is ForRow.GONE and batch.operation is Operation.UPDATE:
        outcomes.missing(position)
    elif batch.operation is Operation.CREATE and _exists_already(batch, refusal):
        outcomes.skipped(position, _named_record(refusal))
    else:
        outcomes.rejected(position, refusal)


def _exists_already(batch: Batch, refusal: Refusal) -> bool:
    """Whether the record that a creation clashes with is the one that `match` finds, not one that shares another field.

    Salesforce says: "duplicate value found: Ext__c duplicates value on record with id: 003...".
    """
    _, clash, words = refusal.message.partition("duplicate value found:")
    if refusal.code != "DUPLICATE_VALUE" or not clash:
        return False
    named = words.partition("duplicates value")[0].strip()
    return named.lower() in (batch.match.lower(), "", "<unknown>")


def _named_record(refusal: Refusal) -> str | None:
    named = re.search(r"record with id: ([A-Za-z0-9]{15})", refusal.message)
    return full_id(named[1]) if named else None


def _records(batch: Batch, links: Mapping[str, Link]) -> list[dict[str, Any]]:
    """Each row's record. Salesforce knows no empty text, only NULL, and no NULL in a checkbox: clearing unticks it."""
    records = list(batch.records(values.as_json))
    cleared = {
        field.name: False if field.type is FieldType.BOOLEAN and not field.clearable else None for field in batch.fields
    }
    for record in records:
        for name, value in record.items():
            if value is None or value == "":
                record[name] = cleared[name]
        for name, link in links.items():
            if name in record:
                link.put(record, record.pop(name))
        record["attributes"] = {"type": batch.object}
    return records
