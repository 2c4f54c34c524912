"""What a person can do about a row that Salesforce refused, in a few words by code; docs/salesforce.md says more."""

from collections.abc import Mapping

_LOCKED = "somebody else was saving it or its parent: it is offered again by itself"
_IN_APPROVAL = "an approval is under way: it is offered again by itself"
REMEDIES: Mapping[str, str] = {
    "REQUIRED_FIELD_MISSING": "map the required field, or give it a `default:`",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "a validation rule of the org: correct the data, or exempt this user in it",
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": "add the option, also to the record type, or map the value in the query",
    "STRING_TOO_LONG": "shorten the text in the query, or enlarge the field",
    "NUMBER_OUTSIDE_VALID_RANGE": "correct the number in the query, or enlarge the field",
    "INVALID_EMAIL_ADDRESS": "correct the address in the query, or leave it out there",
    "INVALID_TYPE_ON_FIELD_IN_RECORD": "give the value the field's type in the query",
    "TOO_MANY_ENUM_VALUE": "send fewer options: a multi-select field takes 100",
    "TEXT_DATA_OUTSIDE_SUPPORTED_CHARSET": "take the characters that Salesforce can't keep out in the query",
    "FIELD_FILTER_VALIDATION_EXCEPTION": "the lookup's own filter forbids this record: send another, or relax it",
    "FIELD_INTEGRITY_EXCEPTION": "the value doesn't go with another field of the record: the words say which",
    "DUPLICATES_DETECTED": "merge the records; where the rule only warns, `allow_duplicates: true` passes it",
    "DUPLICATE_VALUE": "another record has this unique value: merge them, or correct one",
    "DUPLICATE_EXTERNAL_ID": "several records have this match value: merge them, and tick 'Unique' on the field",
    "UNABLE_TO_LOCK_ROW": _LOCKED,
    "TooManyLockFailure": _LOCKED,
    "Timeout": "look for triggers and flows that take long; it is offered again by itself",
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": "a trigger or flow of the org broke: show the words to whoever made it",
    "CANNOT_UPDATE_CONVERTED_LEAD": "`on_converted: contact` follows the lead; else leave converted ones out",
    "MISSING_ARGUMENT": "fill the column that `match` is mapped to",
    "MALFORMED_ID": "send the record's id, 15 or 18 characters as Salesforce shows it",
    "INVALID_ID_FIELD": "send the record's id, 15 or 18 characters as Salesforce shows it",
    "INVALID_CROSS_REFERENCE_KEY": "the record behind a lookup isn't there: sync the parents first",
    "INVALID_FIELD": "the record behind a lookup isn't there: sync the parents first",
    "ENTITY_IS_DELETED": "the record is gone: with `mode: upsert` it is made anew",
    "NOT_FOUND": "the record is gone: with `mode: upsert` it is made anew",
    "ENTITY_IS_LOCKED": _IN_APPROVAL,
    "INVALID_OPERATION": _IN_APPROVAL,
    "INSUFFICIENT_ACCESS_OR_READONLY": "let the integration user edit the record",
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": "let the integration user see the record behind the lookup",
    "INVALID_FIELD_FOR_INSERT_UPDATE": "give the integration user 'Edit' on the field, or unmap it",
    "INACTIVE_OWNER_OR_USER": "map an active owner",
    "TRANSFER_REQUIRES_READ": "let the new owner see the object, or map another",
}
