"""What the model says of a sync: rows as plain data, and a definition that is written as a file.

Everything here is reckoned without the product's code, from what the documentation says.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from reverse_etl.model import Field, FieldType

LONGEST_PLAN = 10
FIELDS = (
    Field("email", FieldType.TEXT, identifies=True, folds_case=True),
    Field("plan", FieldType.TEXT, max_length=LONGEST_PLAN),
    Field("seats", FieldType.NUMBER),
    Field("chairs", FieldType.NUMBER),
)
COLUMNS = "region VARCHAR, id INTEGER, email VARCHAR, plan VARCHAR, seats DOUBLE, seen TIMESTAMPTZ, company VARCHAR"
PROJECT = {
    "sources": {"warehouse": {"url": "duckdb:///warehouse.duckdb"}},
    "destinations": {"crm": {"type": "memory"}},
}


@dataclass(frozen=True)
class Row:
    region: str | None
    id: int | None
    email: str | None
    plan: str | None = None
    seats: float | None = None
    seen: datetime | None = None
    company: str | None = None

    @property
    def line(self) -> tuple[object, ...]:
        return (self.region, self.id, self.email, self.plan, self.seats, self.seen, self.company)


@dataclass(frozen=True)
class Entry:
    """One line of the mapping. `links`: to the company with that domain."""

    column: str
    default: str | None = None
    nulls: str = "clear"
    compare: bool = True
    links: bool = False

    def document(self) -> dict[str, Any]:
        if self.links:
            return {"match": {"domain": self.column}, "object": "companies", "nulls": self.nulls}
        told = {"column": self.column, "nulls": self.nulls, "compare": self.compare}
        return told if self.default is None else {**told, "default": self.default}


MAPPING = {"email": Entry("email"), "plan": Entry("plan"), "seats": Entry("seats")}
LINKED = {**MAPPING, "company": Entry("company", links=True)}
DOMAINS = ("acme.io", "globex.io", "late.io")  # of companies; the last one comes late


@dataclass(frozen=True)
class Definition:
    mode: str = "upsert"
    composite: bool = False
    cursor: bool = False
    mapping: Mapping[str, Entry] = field(default_factory=lambda: dict(MAPPING))
    on_removed: str = "ignore"  # or the plan that a record gets
    on_duplicate: str = "owner"
    first_run: str = "send"
    max_removed: float | None = None
    max_changed: float | None = None
    in_doubt: str = "hold"
    values: str = "keep"  # or hashes; the project's
    tags: tuple[str, ...] = ("crm",)

    @property
    def key(self) -> list[str]:
        return ["region", "id"] if self.composite else ["id"]

    @property
    def removes(self) -> bool:
        return self.mode == "mirror" or self.on_removed != "ignore"

    @property
    def compared(self) -> list[str]:
        return [name for name, entry in self.mapping.items() if entry.compare]

    def written(self, names: Iterable[str]) -> frozenset[str]:
        """Those of these fields that are part of the record; links are made apart from it."""
        return frozenset(name for name in names if not self.mapping[name].links)

    @property
    def leaves(self) -> dict[str, Any] | None:
        """What a record gets when its row has left the result; None where it is removed, or left alone."""
        return None if self.mode == "mirror" or self.on_removed == "ignore" else {"plan": self.on_removed}

    def with_entry(self, name: str, **changes: Any) -> Definition:
        return replace(self, mapping={**self.mapping, name: replace(self.mapping[name], **changes)})

    def document(self) -> str:
        """The file; JSON is YAML."""
        told: dict[str, Any] = {
            "source": "warehouse",
            "query": "select * from people",
            "key": self.key,
            "destination": "crm",
            "object": "contacts",
            "match": "email",
            "mode": self.mode,
            "mapping": {name: entry.document() for name, entry in self.mapping.items()},
            "on_duplicate": self.on_duplicate,
            "first_run": self.first_run,
            "in_doubt": self.in_doubt,
            "tags": list(self.tags),
        }
        guard = {"max_removed": self.max_removed, "max_changed": self.max_changed}
        told["guard"] = {name: f"{100 * share:g}%" for name, share in guard.items() if share is not None}
        if self.leaves is not None:
            told["on_removed"] = {"set": self.leaves}
        if self.cursor:
            told["cursor"] = "seen"
        if self.cursor and self.removes:
            told["full_scan"] = "every 1 day"
        if self.mode == "append":
            del told["match"], told["on_duplicate"]
        return json.dumps(told, indent=2)

    def key_of(self, row: Row) -> str | None:
        """A row's key as text; None when part of it is NULL."""
        if self.composite:
            return None if row.region is None or row.id is None else json.dumps([row.region, row.id])
        return None if row.id is None else str(row.id)

    def order_of(self, key: str) -> Any:
        return json.loads(key) if self.composite else int(key)

    def payload(self, row: Row) -> dict[str, Any]:
        """The row under the destination's names, NULLs included."""
        return {name: _or(getattr(row, entry.column), entry.default) for name, entry in self.mapping.items()}


def folded(value: Any) -> str | None:
    """A match value as the destination compares it; None where it finds nothing."""
    return None if value is None or not value.strip() else value.strip().lower()


def _or(value: Any, default: str | None) -> Any:
    return default if value is None else value
