"""What describes the org: versions, resources, objects, limits, the user."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.salesforce.auth import USERNAME, Sessions
from reverse_etl.sandbox.salesforce.org import ORG_ID, USER_ID, Org, SObject

OLDEST, NEWEST = 31, 67
RESOURCES = ["composite", "jobs", "limits", "query", "queryAll", "sobjects", "tooling"]


def versions() -> list[dict[str, str]]:
    names = ("Spring", "Summer", "Winter")
    return [
        {
            "label": f"{names[(number - 30) % 3]} '{14 + (number - 29) // 3:02d}",
            "url": f"/services/data/v{number}.0",
            "version": f"{number}.0",
        }
        for number in range(OLDEST, NEWEST + 1)
    ]


def resources(version: str, origin: str) -> dict[str, str]:
    root = f"/services/data/{version}"
    return {name: f"{root}/{name}" for name in RESOURCES} | {"identity": f"{origin}/id/{ORG_ID}/{USER_ID}"}


def brief(sobject: SObject, version: str) -> dict[str, Any]:
    """An object as the list of objects shows it."""
    root = f"/services/data/{version}/sobjects/{sobject.name}"
    system = sobject.name == "User"
    return {
        "name": sobject.name,
        "label": sobject.label,
        "labelPlural": sobject.plural,
        "keyPrefix": sobject.prefix,
        "activateable": False,
        "custom": sobject.name.endswith("__c"),
        "customSetting": False,
        "createable": not system,
        "updateable": not system,
        "deletable": not system,
        "deprecatedAndHidden": False,
        "feedEnabled": True,
        "layoutable": True,
        "mergeable": sobject.name in ("Account", "Contact", "Lead"),
        "mruEnabled": True,
        "queryable": True,
        "replicateable": True,
        "retrieveable": True,
        "searchable": True,
        "triggerable": True,
        "undeletable": not system,
        "urls": {
            "sobject": root,
            "describe": f"{root}/describe",
            "rowTemplate": f"{root}/{{ID}}",
        },
    }


def describe(org: Org, sobject: SObject, version: str) -> dict[str, Any]:
    children = [
        {
            "childSObject": child.name,
            "field": field.name,
            "cascadeDelete": False,
            "relationshipName": child.plural,
            "deprecatedAndHidden": False,
        }
        for child in org.objects.values()
        for field in child.fields.values()
        if sobject.name in field.reference_to
    ]
    return brief(sobject, version) | {
        "fields": [field.document() for field in sobject.fields.values()],
        "childRelationships": children,
        "recordTypeInfos": [
            {
                "active": True,
                "available": True,
                "defaultRecordTypeMapping": True,
                "master": True,
                "name": "Master",
                "recordTypeId": "012000000000000AAA",
            }
        ],
    }


def limits(sessions: Sessions, bulk_batches: int) -> dict[str, Any]:
    def entry(most: int, used: int = 0) -> dict[str, int]:
        return {"Max": most, "Remaining": max(0, most - used)}

    return {
        "DailyApiRequests": entry(sessions.daily, sessions.used),
        "DailyBulkApiBatches": entry(15_000, bulk_batches),
        "DailyBulkV2QueryJobs": entry(10_000),
        "DailyBulkV2QueryFileStorageMB": entry(1_048_576),
        "DataStorageMB": entry(1024),
        "FileStorageMB": entry(1024),
    }


def identity(origin: str) -> dict[str, Any]:
    return {
        "id": f"{origin}/id/{ORG_ID}/{USER_ID}",
        "asserted_user": True,
        "user_id": USER_ID,
        "organization_id": ORG_ID,
        "username": USERNAME,
        "display_name": "Integration User",
        "email": USERNAME,
        "active": True,
        "user_type": "STANDARD",
        "language": "en_US",
        "locale": "en_US",
        "utcOffset": 0,
    }


def userinfo(origin: str) -> dict[str, Any]:
    return {
        "sub": f"{origin}/id/{ORG_ID}/{USER_ID}",
        "user_id": USER_ID,
        "organization_id": ORG_ID,
        "preferred_username": USERNAME,
        "nickname": "integration",
        "name": "Integration User",
        "email": USERNAME,
        "email_verified": True,
        "active": True,
        "user_type": "STANDARD",
    }
