"""Converting a lead, as a person does in the user interface: it becomes an account and a contact and is frozen."""

from __future__ import annotations

from reverse_etl.sandbox.salesforce.errors import RowError
from reverse_etl.sandbox.salesforce.org import Org, read_id
from reverse_etl.sandbox.salesforce.saving import Saver, parse_row

CONTACT_FIELDS = ("LastName", "FirstName", "Salutation", "Title", "Email", "Phone", "MobilePhone", "Fax", "LeadSource")
CONVERTED = "Closed - Converted"


def convert(org: Org, lead_id: str) -> dict[str, str]:
    """The ids of what the lead became; raises `RowError` for one that isn't there or is converted already."""
    leads = org.object("Lead")
    whole = read_id(lead_id) or ""
    before = leads.table.get(whole)
    if before is None:
        raise RowError("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
    if before.get("IsConverted"):
        raise RowError("CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
    account = _create(org, "Account", {"Name": before["Company"]})
    values = {name: before[name] for name in CONTACT_FIELDS if name in before}
    contact = _create(org, "Contact", {**values, "AccountId": account})
    became = {"ConvertedAccountId": account, "ConvertedContactId": contact}
    today = org.now()
    after = {**before, **became, "IsConverted": True, "ConvertedDate": today[:10], "Status": CONVERTED}
    leads.table.put(whole, after | {"LastModifiedDate": today}, before)
    return became


def _create(org: Org, name: str, values: dict[str, str]) -> str:
    sobject = org.object(name)
    return Saver(org, sobject).create(parse_row(org, sobject, values))
