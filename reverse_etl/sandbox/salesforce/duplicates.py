"""Duplicate rules: a record that looks like another one is refused, or only with a header that allows it.

https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/headers_duplicaterules.htm (November 2026)
"""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.messages import Request
from reverse_etl.sandbox.salesforce.errors import RowError
from reverse_etl.sandbox.salesforce.org import DuplicateRule, SObject

HEADER = "sforce-duplicate-rule-header"
MESSAGE = "Use one of these records?"


def saves_duplicates(request: Request) -> bool:
    """Whether the request's header lets alert rules pass."""
    given = request.headers.get(HEADER, "").replace(" ", "").lower()
    return "allowsave=true" in given.split(";")


def defend(sobject: SObject, rule: DuplicateRule, values: dict[str, Any], record_id: str | None) -> None:
    """Raises the error of a record whose value another one has, with that record."""
    value = values.get(rule.field)
    if value is None:
        return
    wanted = str(value).lower()
    for other, held in sobject.table.items():
        if other != record_id and str(held.get(rule.field, "")).lower() == wanted:
            error = RowError("DUPLICATES_DETECTED", MESSAGE)
            error.more = {"duplicateResult": _result(sobject, rule, other)}
            raise error


def _result(sobject: SObject, rule: DuplicateRule, other: str) -> dict[str, Any]:
    url = f"/services/data/v62.0/sobjects/{sobject.name}/{other}"
    found = {
        "additionalInformation": [],
        "fieldDiffs": [],
        "matchConfidence": 100.0,
        "record": {"attributes": {"type": sobject.name, "url": url}, "Id": other},
    }
    return {
        "allowSave": rule.alert,
        "duplicateRule": f"Standard_{sobject.name}_Duplicate_Rule",
        "duplicateRuleEntityType": sobject.name,
        "errorMessage": MESSAGE,
        "matchResults": [
            {
                "entityType": sobject.name,
                "errors": [],
                "matchEngine": "FuzzyMatchEngine",
                "matchRecords": [found],
                "rule": f"Standard_{sobject.name}_Match_Rule_v1_1",
                "size": 1,
                "success": True,
            }
        ],
    }
