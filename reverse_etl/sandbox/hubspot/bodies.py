"""Reading a request's JSON body as the CRM's endpoints expect it."""

from __future__ import annotations

from typing import Any

from reverse_etl.sandbox.hubspot.errors import Refusal
from reverse_etl.sandbox.messages import MalformedBody, Request

MOST_INPUTS = 100


def document(request: Request) -> dict[str, Any]:
    """The body as a JSON object."""
    try:
        value = request.json()
    except MalformedBody as error:
        raise Refusal(400, f"Invalid input JSON on {error}") from None
    if not isinstance(value, dict):
        raise Refusal(400, "Invalid input JSON on line 1, column 1: Cannot deserialize value of type object")
    return value


def inputs(request: Request, most: int = MOST_INPUTS) -> list[dict[str, Any]]:
    rows = document(request).get("inputs")
    if not isinstance(rows, list) or not rows:
        raise Refusal(400, "Some required fields were not set: [inputs]", "VALIDATION_ERROR")
    if len(rows) > most:
        raise Refusal(400, f"The maximum number of inputs is {most}, received {len(rows)}.", "VALIDATION_ERROR")
    if not all(isinstance(row, dict) for row in rows):
        raise Refusal(400, "Invalid input JSON on line 1, column 1: Cannot deserialize value of type input")
    return rows
