"""How both CRMs look in the end, and what happened to one person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from reverse_etl.demo.warehouse import ADA

if TYPE_CHECKING:
    from reverse_etl.demo.audience import Audience
    from reverse_etl.sandbox.server import Sandbox

Record = Mapping[str, Any]
OBJECTS = (("HubSpot", "contacts"), ("HubSpot", "companies"), ("Salesforce", "Lead"))


class Crm:
    """Both CRMs, read where they keep their records: past every API, as an auditor would."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def records(self, system: str, object: str) -> list[Record]:
        """The values of every record that isn't archived."""
        if system == "Salesforce":
            return list(self._sandbox.salesforce.records(object))
        return [record["properties"] for record in self._sandbox.hubspot.records(object)]

    def counts(self) -> dict[str, int]:
        """Records by object, and contacts that still get the drip e-mail."""
        counts = {object: len(self.records(system, object)) for system, object in OBJECTS}
        counts["drip"] = sum(_number(record, "workspaces_total") == 0 for record in self.records("HubSpot", "contacts"))
        return counts


@dataclass(frozen=True)
class Person:
    """Ada in both CRMs, at one moment."""

    contact: Record
    lead: Record

    @classmethod
    def found(cls, crm: Crm) -> Self:
        return cls(
            next(record for record in crm.records("HubSpot", "contacts") if record["email"] == ADA),
            next(record for record in crm.records("Salesforce", "Lead") if record["Email"] == ADA),
        )


def summary(audience: Audience, crm: Crm, before: Mapping[str, int], ada: Person, calls: Sequence[int]) -> None:
    """`before` and `ada` are as they were after the first run; `calls` are those of the three runs."""
    after = crm.counts()
    audience.chapter("What happened in both CRMs")
    rows = [(system, object, f"{before[object]:,}", f"{after[object]:,}") for system, object in OBJECTS]
    rows.append(("HubSpot", "contacts without a workspace", f"{before['drip']:,}", f"{after['drip']:,}"))
    audience.table(("", "records", "first run", "a day later"), rows, numbers=(2, 3))
    audience.say("")
    first, later, idle = calls
    audience.say(f"  {first} calls for the first run, {later} a day later, {idle or 'none'} with nothing new.")
    audience.say("")
    audience.say("Ada Lindqvist created her first workspace.", "strong")
    now = Person.found(crm)
    contact, lead = _change(ada.contact, now.contact, "workspaces_total"), _change(ada.lead, now.lead, "Lead_Score__c")
    rows = [
        ("HubSpot contact", *contact, "the drip e-mail that asks for one can stop"),
        ("Salesforce lead", *lead, "sales sees that she is active"),
    ]
    audience.table((), rows)


def _change(before: Record, after: Record, field: str) -> tuple[str, str]:
    return field, f"{_number(before, field)} → {_number(after, field)}"


def _number(record: Record, field: str) -> int:
    return int(float(record.get(field) or 0))
