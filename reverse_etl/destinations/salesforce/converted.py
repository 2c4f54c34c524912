"""Leads that were converted: frozen themselves, but their contacts are there.

What a row says of such a lead goes to its contact, in the fields that are mapped and that a contact has, too; the lead
stays as it is, and is never made anew. (SOAP API guide, "CANNOT_UPDATE_CONVERTED_LEAD"; Object Reference, "Lead".)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reverse_etl.destinations.salesforce import collections
from reverse_etl.destinations.salesforce.calls import Calls, remembered
from reverse_etl.destinations.salesforce.finding import Finder
from reverse_etl.destinations.salesforce.links import Describe
from reverse_etl.model import Batch, ObjectSchema, Operation
from reverse_etl.values import as_text
from reverse_etl.verdicts import Outcomes, Refusal, Verdict

CODE = "CANNOT_UPDATE_CONVERTED_LEAD"
LEAD, IS_CONVERTED = "Lead", "IsConverted"
CONTACT, CONTACT_ID = "Contact", "ConvertedContactId"
FOLLOWED = "converted leads: the row went to the lead's contact"


def signs(schema: ObjectSchema) -> list[str]:
    """The fields that tell whether a record is a converted lead, as far as this user may see them."""
    wanted = (IS_CONVERTED, CONTACT_ID) if schema.name == LEAD else ()
    return [name for name in wanted if name in schema.fields]


def frozen(lead: Mapping[str, Any], *, follows: bool) -> str | None:
    """What becomes of a row whose lead, read with its `signs`, was converted; None where it was not."""
    if str(lead.get(IS_CONVERTED)).lower() != "true":  # a job's result tells it as text
        return None
    contact = lead.get(CONTACT_ID)
    if follows and contact:
        return f"the lead was converted: the row goes to its contact {contact}"
    if follows:
        return "the lead was converted, and has no contact that this user can see: Salesforce refuses the row"
    return "the lead was converted: Salesforce refuses the row; `on_converted: contact` sends it to the contact"


class Converted:
    """Follows the converted leads of one run to their contacts."""

    def __init__(self, finder: Finder, calls: Calls, describe: Describe) -> None:
        self._finder = finder
        self._calls = calls
        self._describe = describe

    async def follow(self, batch: Batch, outcomes: Outcomes) -> None:
        """Settles the rows that were refused for a converted lead."""
        places = sorted(at for at, refusal in outcomes.refusals.items() if refusal.code == CODE)
        if not places or batch.operation is Operation.REMOVE:
            return
        leads = await self._leads(batch, places)
        contacts = {place: str(lead[CONTACT_ID]) for place, lead in leads.items() if lead.get(CONTACT_ID)}
        for place in places:
            if place not in contacts:
                told = "the lead was converted, and has no contact that this user can see"
                outcomes.rejected(place, Refusal(CODE, told, outcomes.refusals[place].request_id))
        for start in range(0, len(contacts), collections.MOST_RECORDS):
            part = dict([*contacts.items()][start : start + collections.MOST_RECORDS])
            await self._write(batch, part, {place: str(leads[place]["Id"]) for place in part}, outcomes)

    async def _leads(self, batch: Batch, places: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Each row's lead, by the id that we know, or by its match value."""
        fields = (await self._describe(batch.object)).schema.fields
        known, values = remembered(batch), batch.match_values(as_text)
        by_id = {place: known[place] for place in places if place in known}
        by_match = {place: str(values[place] or "") for place in places if place not in known}
        found: dict[int, dict[str, Any]] = {}
        for field, wanted in (("Id", by_id), (batch.match, by_match)):
            if not wanted:
                continue
            records = await self._finder.matching(batch.object, fields[field], wanted.values(), [CONTACT_ID])
            for place, value in wanted.items():
                if len(same := records.get(value, [])) == 1:
                    found[place] = same[0]
        return found

    async def _write(
        self, batch: Batch, contacts: Mapping[int, str], leads: Mapping[int, str], outcomes: Outcomes
    ) -> None:
        theirs = (await self._describe(CONTACT)).schema.fields
        shared = [
            field
            for field in batch.fields
            if field.name in theirs
            and theirs[field.name].read_only is None
            and not theirs[field.name].create_only
            and field.name != batch.match
            and field.parent is None
        ]
        places = [*contacts]
        part = replace(batch.take(places).of(shared), object=CONTACT, operation=Operation.UPDATE, path="")
        settled = Outcomes(len(places))
        await self._calls.update(part, [*contacts.values()], settled)
        for at, place in enumerate(places):
            if settled.verdicts[at] is Verdict.UPDATED:
                del outcomes.refusals[place]
                outcomes.updated(place, leads[place])
                outcomes.remarks[place] = FOLLOWED
            elif settled.verdicts[at] is Verdict.MISSING:
                outcomes.rejected(place, Refusal(CODE, "the lead was converted, and its contact is gone"))
            elif at in settled.refusals:
                outcomes.rejected(place, settled.refusals[at])
