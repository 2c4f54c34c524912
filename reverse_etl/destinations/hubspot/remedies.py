"""What a person can do about a row that HubSpot refused, in a few words by code; docs/hubspot.md says more."""

from collections.abc import Mapping

REMEDIES: Mapping[str, str] = {
    "INVALID_EMAIL": "correct the address in the warehouse, or leave it out in the query",
    "INVALID_OPTION": "add the option in HubSpot, or send one that exists; of an owner, the id",
    "INVALID_INTEGER": "cast it to a number in the query: no text, no exponent",
    "INVALID_LONG": "cast it to a time in the query",
    "INVALID_DATE": "cast it to a date in the query: no time of day",
    "CONFLICT": "another record has the e-mail address: merge the two in HubSpot, or correct the row",
    "CONFLICTING_UNIQUE_VALUE": "another record has this unique value: merge the two in HubSpot, or correct the row",
    "VALIDATION_ERROR": "the words say which: map a property that is required, relax a rule, or merge two records",
    "PROPERTY_DOESNT_EXIST": "take the property out of the mapping, or bring it back in HubSpot",
    "READ_ONLY_VALUE": "take the property out of the mapping, or make it writable in HubSpot",
    "OBJECT_NOT_FOUND": "a record that the row is linked to is gone: sync its object first",
    "missing_record": "create the record in HubSpot, or use `mode: upsert`; for a list, sync the object first",
}
