"""The two shapes of Salesforce's errors: a request's, a list with `errorCode`, and a row's, with `statusCode`."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """Ends a request: the platform's answer to it as a whole."""

    def __init__(self, status: int, code: str, message: str, fields: list[str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        item: dict[str, Any] = {"message": message, "errorCode": code}
        if fields is not None:
            item["fields"] = fields
        self.body: Any = [item | more]


class OAuthRefusal(Exception):
    """The token endpoint's own shape: an object, not a list."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.body = {"error": error, "error_description": description}


class RowError(Exception):
    """One row's refusal, as `errors` of its result; the single-record calls answer it as the request's."""

    def __init__(self, code: str, message: str, fields: list[str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = fields or []
        self.more: dict[str, Any] = {}  # what only the single-record calls tell

    def result(self) -> dict[str, Any]:
        return {
            "success": False,
            "errors": [{"statusCode": self.code, "message": self.message, "fields": self.fields}],
        }

    def refusal(self, status: int = 400) -> Refusal:
        return Refusal(status, self.code, self.message, self.fields, **self.more)

    def cell(self) -> str:
        """As `sf__Error` of a bulk job's failed results."""
        return f"{self.code}:{self.message}:{', '.join(self.fields)}{' ' if self.fields else ''}--"


class Unparsable(Exception):
    """A value that isn't even of its field's kind: JSON refuses the request for it, a bulk job only the row."""

    def __init__(self, kind: str, value: Any, name: str, label: str) -> None:
        super().__init__(f"{name}: {value!r}")
        self.kind, self.value, self.name, self.label = kind, value, name, label

    def refusal(self) -> Refusal:
        shapes = {
            str: "VALUE_STRING",
            bool: "VALUE_TRUE" if self.value is True else "VALUE_FALSE",
            int: "VALUE_NUMBER_INT",
            float: "VALUE_NUMBER_FLOAT",
            dict: "START_OBJECT",
            list: "START_ARRAY",
        }
        shape = shapes.get(type(self.value), "VALUE_NULL")
        return Refusal(
            400,
            "JSON_PARSER_ERROR",
            f"Cannot deserialize instance of {self.kind} from {shape} value {self.value} or request may be missing a "
            "required field at [line:1, column:1]",
        )

    def row_error(self) -> RowError:
        return RowError(
            "INVALID_TYPE_ON_FIELD_IN_RECORD",
            f"{self.label}: value not of required type: {self.value}",
            [self.name],
        )


def expired_session() -> Refusal:
    return Refusal(401, "INVALID_SESSION_ID", "Session expired or invalid")


def not_found() -> Refusal:
    return Refusal(404, "NOT_FOUND", "The requested resource does not exist")


def no_column(name: str, kind: str) -> Refusal:
    return Refusal(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind}")
