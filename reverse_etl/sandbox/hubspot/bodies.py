"""Reading a request's JSON body as the CRM's endpoints expect it."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.hubspot.errors import Refusal
from reverse_etl.sandbox.messages import MalformedBody, Request

MOST_INPUTS = 100


def malformed(wanted: str) -> Refusal:
    return Refusal(400, f"Invalid input JSON on line 1, column 1: Cannot deserialize value of type {wanted}")


def document(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    value = json(request)
    if not isinstance(value, dict):
        raise malformed("object")
    return value


def json(request: Request) -> Any:
    try:
        return request.json()
    except MalformedBody as error:
        raise Refusal(400, f"Invalid input JSON on {error}") from None


def mapping(value: Any) -> dict[str, Any]:
    """A part of a body that must be an object; an absent one is empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise malformed("object")
    return value


def mappings(value: Any) -> list[dict[str, Any]]:
    """A part of a body that must be a list of objects; an absent one is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise malformed("list")
    return [mapping(entry) for entry in value]


def texts(value: Any) -> list[str]:
    """A part of a body that must be a list of texts; an absent one is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise malformed("list")
    return [str(entry) for entry in value]


def count(value: Any, default: int) -> int:
    """A number of a query or a body that must be whole and not negative; an absent one is the default."""
    if value in (None, ""):
        return default
    if isinstance(value, bool) or not str(value).isdecimal():
        raise Refusal(400, f"{value} is not a valid number", "VALIDATION_ERROR")
    return int(str(value))


def flag(request: Request, name: str) -> bool:
    """A yes or no of the query, in whichever case the client's language writes it."""
    return request.query.get(name, "").lower() == "true"


def inputs(request: Request, most: int = MOST_INPUTS) -> list[dict[str, Any]]:
    """The rows of a batch; raises the 400 for none, too many, and those of another shape."""
    rows = document(request).get("inputs")
    if not isinstance(rows, list) or not rows:
        raise Refusal(400, "Some required fields were not set: [inputs]", "VALIDATION_ERROR")
    if len(rows) > most:
        raise Refusal(400, f"The maximum number of inputs is {most}, received {len(rows)}.", "VALIDATION_ERROR")
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("properties") or {}, dict | list):
            raise malformed("input")
    return rows
