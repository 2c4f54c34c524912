"""The error bodies HubSpot answers, word for word where its wording is known.

Sources: https://developers.hubspot.com/docs/api-reference/error-handling and recorded public traffic (November 2026).
"""

from __future__ import annotations

from typing import Any

import orjson

Body = dict[str, Any]


class Refusal(Exception):
    """Ends a request: the platform's answer to it as a whole."""

    def __init__(self, status: int, message: str, category: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body: Body = {"status": "error", "message": message}
        if category is not None:
            self.body["category"] = category
        self.body.update(more)
        self.headers: dict[str, str] = {}


class RowError(Exception):
    """One row's refusal. `conflict` marks those that answer 409 where the whole request fails with them."""

    def __init__(self, category: str, message: str, *, conflict: bool = False, **context: list[str]) -> None:
        super().__init__(message)
        self.category = category
        self.message = message
        self.conflict = conflict
        self.context = context

    def item(self, trace: str | None) -> Body:
        context: dict[str, list[str]] = dict(self.context)
        if trace is not None:
            context = {"objectWriteTraceId": [trace], **context}
        return {"status": "error", "category": self.category, "message": self.message, "context": context}

    def refusal(self) -> Refusal:
        more: Body = {"context": self.context} if self.context else {}
        return Refusal(409 if self.conflict else 400, self.message, self.category, **more)


class InvalidValues(RowError):
    """One row's values that the properties don't take."""

    def __init__(self, problems: list[Body]) -> None:
        super().__init__("VALIDATION_ERROR", "Property values were not valid: " + orjson.dumps(problems).decode())
        self.problems = problems


def invalid_values(problems: list[Body]) -> Refusal:
    """The whole request refused, with the problems of all its rows in one text."""
    errors = [
        {"message": problem["message"], "code": problem["error"], "context": {"propertyName": [problem["name"]]}}
        for problem in problems
    ]
    return Refusal(
        400, "Property values were not valid: " + orjson.dumps(problems).decode(), "VALIDATION_ERROR", errors=errors
    )


def no_credentials() -> Refusal:
    return Refusal(
        401,
        "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more "
        "details at https://developers.hubspot.com/docs/methods/auth/oauth-overview",
        "INVALID_AUTHENTICATION",
    )


def expired(seconds: int, at: str) -> Refusal:
    return Refusal(
        401,
        f"The OAuth token used to make this call expired {seconds} second(s) ago.",
        "EXPIRED_AUTHENTICATION",
        context={"expire time": [at]},
    )


def missing_scopes(scopes: list[str]) -> Refusal:
    return Refusal(
        403,
        "This app hasn't been granted all required scopes to make this call. Read more about required scopes here: "
        "https://developers.hubspot.com/scopes.",
        "MISSING_SCOPES",
        errors=[
            {
                "message": "One or more of the following scopes are required.",
                "context": {"requiredGranularScopes": scopes},
            }
        ],
        links={"scopes": "https://developers.hubspot.com/scopes"},
    )


def not_found() -> Refusal:
    return Refusal(404, "resource not found")


def missing_rows(singular: str, ids: list[str]) -> Body:
    """One error object for all ids of a batch that don't exist."""
    return {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": f"Could not get some {singular} objects, they may be deleted or not exist. "
        "Check that ids are valid.",
        "context": {"ids": ids},
    }
