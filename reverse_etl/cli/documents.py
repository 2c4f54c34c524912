"""What the commands print with --json, where it isn't a run report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverse_etl.daemon.forecast import Outlook
    from reverse_etl.model import Field, ObjectSchema, Problem
    from reverse_etl.protocols import NewField
    from reverse_etl.report import SyncStatus
    from reverse_etl.standing import RefusedRow
    from reverse_etl.state.archive import Archived
    from reverse_etl.state.verify import Finding
    from reverse_etl.verdicts import Refusal

Document = dict[str, object]


def check(problems: Sequence[Problem], warnings: Sequence[Problem] = ()) -> Document:
    """`warnings` only stands there when there are some."""
    document: Document = {"runs": [], "problems": [problem.to_json() for problem in problems]}
    return document | {"warnings": [warning.to_json() for warning in warnings]} if warnings else document


def statuses(syncs: Sequence[SyncStatus], outlooks: Mapping[str, Outlook], daemon: str | None) -> Document:
    """`daemon` is the address of the one that runs on this machine: without it, the next runs are what would be."""
    return {"syncs": [sync.to_json() | _outlook(outlooks[sync.sync]) for sync in syncs], "daemon_at": daemon}


def _outlook(outlook: Outlook) -> Document:
    due = outlook.next_run_at
    from reverse_etl import clock

    return {"next_run_at": None if due is None else clock.text(due), "held_by": [*outlook.held_by]}


def rejected(rows: Sequence[RefusedRow], arrived: Sequence[RefusedRow] = ()) -> Document:
    """`arrived` are the keys of rows that a person has just taken off the list; it only stands there then."""
    document: Document = {"rows": [row.to_json() for row in rows]}
    return document | {"arrived": [row.key for row in arrived]} if arrived else document


def fields(schema: ObjectSchema) -> Document:
    return {"object": schema.name, "fields": [_field(field) for field in schema.fields.values()]}


def made(object: str, fields: Sequence[NewField], refused: Mapping[str, Refusal]) -> Document:
    """`created` are the fields that are there now; `refused` says why the others aren't."""
    return {
        "object": object,
        "created": [_new(field) for field in fields],
        "refused": [{"name": name, "code": why.code, "message": why.message} for name, why in refused.items()],
    }


def verified(syncs: Sequence[str], findings: Sequence[Finding]) -> Document:
    found = [{"code": finding.code, "message": finding.message, "hint": finding.hint} for finding in findings]
    return {"ok": not findings, "syncs": list(syncs), "findings": found}


def archived(made: Archived) -> Document:
    """A backup that was written, or restored; `aside` is where the state is that a restore replaced."""
    from reverse_etl import clock

    return {
        "made_at": clock.text(made.made_at),
        "syncs": list(made.syncs),
        "bytes": made.bytes,
        "aside": None if made.aside is None else str(made.aside),
    }


def _new(field: NewField) -> Document:
    return {
        "name": field.name,
        "label": field.label,
        "type": field.type,
        "control": field.control,
        "group": field.group,
        "unique": field.unique,
    }


def _field(field: Field) -> Document:
    return {
        "name": field.name,
        "type": field.type.value,
        "label": field.label,
        "identifies": field.identifies,
        "read_only": field.read_only,
        "required_on_create": field.required_on_create,
        "options": field.options,
        "labels": {value: label for label, value in field.labels},
        "max_length": field.max_length,
    }
