"""What each of Salesforce's codes means for the request, and for the row that got it: one table.

A request that fails as a whole answers with a list of `{"errorCode", "message", "fields"}`; a row refused inside a
successful answer carries `{"statusCode", "message", "fields"}`; the login endpoint answers with one object
`{"error", "error_description"}`. Gateways in between answer with a bare object, HTML or nothing at all.
(REST API guide, "Status Codes and Error Responses"; SOAP API guide, "StatusCode"; v62.0, read in 2026.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

from reverse_etl.answer import Answer
from reverse_etl.errors import (
    AuthError,
    BatchRefused,
    DailyLimit,
    DestinationError,
    InDoubt,
    Throttled,
    Unavailable,
)
from reverse_etl.retries import TIMEOUT
from reverse_etl.verdicts import Refusal

# `code` of our errors; each stands with its remedy in docs/errors.md.
SESSION = "destination_session"
CONFIG = "destination_config"
OBJECT = "destination_object"
BATCH_FAILED = "destination_batch_failed"
JOB_REFUSED = "destination_bulk_refused"
NO_BULK = "destination_no_bulk"


class ForRow(Enum):
    """What a code means for a row that was refused with it."""

    REFUSED = "this row only"
    GONE = "the record that was addressed by id does not exist"
    STOP = "no row can be delivered until somebody mends the org"
    ECHO = "not a cause: another error of the same answer is"


@dataclass(frozen=True)
class Rule:
    """What to raise when a whole request fails with a code, and what the code means for one row."""

    raises: type[DestinationError] = BatchRefused
    row: ForRow = ForRow.REFUSED
    code: str | None = None
    hint: str | None = None
    tries: int | None = None


_NO_API = Rule(
    AuthError, hint="the connected user's profile or the org's edition has no API access: enable 'API Enabled'"
)
_SECURITY_POLICY = Rule(
    AuthError, ForRow.STOP, hint="a transaction security policy blocks this user: exempt the integration user from it"
)
_MAINTENANCE = Rule(Unavailable)
_DOUBT = Rule(InDoubt)
_TOO_SLOW = Rule(InDoubt, code=TIMEOUT)
_BROKE = Rule(InDoubt, code=BATCH_FAILED, tries=3)
_LOGIN_AGAIN = "check the credentials of this connection"
_NOT_THERE = "there is no such object, or the connected user may not see it: run `reverse-etl check --connect`"
_GONE = Rule(DestinationError, ForRow.GONE, code=OBJECT, hint=_NOT_THERE)
_NO_COLUMN = Rule(
    DestinationError,
    ForRow.STOP,
    code=CONFIG,
    hint="the field is gone, or the connected user may not see it: run `reverse-etl check --connect`",
)
_NOT_EXTERNAL = Rule(
    DestinationError,
    ForRow.STOP,
    code=CONFIG,
    hint="`match` needs a field with 'External ID' ticked that the connected user can see and edit",
)

RULES: Mapping[str, Rule] = {
    # the session
    "INVALID_SESSION_ID": Rule(AuthError, code=SESSION, hint=_LOGIN_AGAIN),
    "INVALID_AUTH_HEADER": Rule(AuthError, hint="the access token is malformed: " + _LOGIN_AGAIN),
    "API_DISABLED_FOR_ORG": _NO_API,
    "API_CURRENTLY_DISABLED": _NO_API,
    "FUNCTIONALITY_NOT_ENABLED": _NO_API,
    "INSUFFICIENT_ACCESS": Rule(AuthError, hint="the connected user lacks a permission for this object"),
    "TXN_SECURITY_NO_ACCESS": _SECURITY_POLICY,
    "TXN_SECURITY_APEX_ERROR": _SECURITY_POLICY,
    "TXN_SECURITY_RUNTIME_ERROR": _SECURITY_POLICY,
    "TXN_SECURITY_FAIL_CLOSE": _SECURITY_POLICY,
    "TXN_SECURITY_METERING_ERROR": Rule(Unavailable, hint=_SECURITY_POLICY.hint, tries=3),
    # allowances
    "REQUEST_LIMIT_EXCEEDED": Rule(
        DailyLimit, hint="the org's calls of the last 24 hours are used up; the next run goes on with the waiting rows"
    ),
    "STORAGE_LIMIT_EXCEEDED": Rule(
        DestinationError, ForRow.STOP, code="destination_storage", hint="the org's data storage is full: free some"
    ),
    # trouble that passes
    "SERVER_UNAVAILABLE": _MAINTENANCE,
    "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE": _MAINTENANCE,
    "INVALID_READ_ONLY_USER_DML": _MAINTENANCE,
    "TOO_MANY_APEX_REQUESTS": _BROKE,
    "UNKNOWN_EXCEPTION": _BROKE,
    "QUERY_TIMEOUT": _TOO_SLOW,
    "REQUEST_RUNNING_TOO_LONG": _TOO_SLOW,
    # the org no longer is what the sync was written for
    "INVALID_FIELD": Rule(DestinationError, code=CONFIG, hint=_NO_COLUMN.hint),
    "INVALID_EXTERNAL_ID_FIELD_NAME": _NOT_EXTERNAL,
    "INVALID_TYPE": Rule(DestinationError, ForRow.STOP, code=OBJECT, hint=_NOT_THERE),
    "UNSUPPORTED_API_VERSION": Rule(
        DestinationError, code=CONFIG, hint="set api_version to one the org offers, such as v62.0"
    ),
    "MALFORMED_QUERY": Rule(DestinationError, code=CONFIG, hint="`match` must be a field that can be filtered by"),
    "QUERY_TOO_COMPLICATED": Rule(
        DestinationError, code=CONFIG, hint="`match` must be a field that can be filtered by"
    ),
    # records addressed by id
    "NOT_FOUND": _GONE,
    "ENTITY_IS_DELETED": Rule(row=ForRow.GONE),
    "INVALID_CROSS_REFERENCE_KEY": Rule(row=ForRow.GONE),
    # bulk jobs
    "INVALIDENTITY": Rule(DestinationError, code=NO_BULK),
    "LIMIT_EXCEEDED": Rule(DestinationError, code=NO_BULK),
    "EXCEEDEDQUOTA": Rule(DestinationError, code=NO_BULK),
    "TOO_MANY_JOBS": Rule(DestinationError, code=NO_BULK),
    "FEATURENOTENABLED": Rule(DestinationError, code=NO_BULK),
    # told beside the real cause
    "ALL_OR_NONE_OPERATION_ROLLED_BACK": Rule(row=ForRow.ECHO),
    "PROCESSING_HALTED": Rule(row=ForRow.ECHO),
}
_OTHER = Rule()
# Codes that mean several things, told apart only by their words.
BY_WORDS: tuple[tuple[str, str, Rule], ...] = (
    ("REQUEST_LIMIT_EXCEEDED", "concurrent", Rule(Throttled)),
    ("NOT_FOUND", "external id field", _NOT_EXTERNAL),
    ("INVALID_FIELD", "foreign key external id", _OTHER),
    ("INVALID_FIELD", "no such column", _NO_COLUMN),
)

# Without a known code the status decides. 420 is the edge saying that it has no route to the org; any other 5xx without
# one is a gateway's, which can't know what the org did with the request.
_BY_STATUS: Mapping[int, Rule] = {
    401: Rule(AuthError, hint=_LOGIN_AGAIN),
    403: Rule(AuthError, hint="the connected user lacks a permission"),
    404: _GONE,
    410: RULES["UNSUPPORTED_API_VERSION"],
    420: Rule(Unavailable),
    429: Rule(Throttled),
}
_PASSING = frozenset({"UNABLE_TO_LOCK_ROW", "TooManyLockFailure", "Timeout"})  # the latter two are jobs' words
# What a trigger says when it was the other rows of the call that were too much.
_OF_THE_CALL = ("unable_to_lock_row", "too many soql queries", "apex cpu time limit")
# A 401 of these kinds would come again with any new session.
_NOT_RENEWABLE = ("not valid for use with the rest api", "connected app is not attached to agent")


@dataclass(frozen=True)
class Fault:
    """One error of an answer, in whichever shape it came."""

    code: str
    message: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The words as they came, and the fields where the words name only labels."""
        unnamed = [name for name in self.fields if name not in self.message]
        return self.message + (f" (field: {', '.join(unnamed)})" if unnamed else "")


def faults(items: Any) -> Iterator[Fault]:
    """The errors of a failed request or a refused row; whatever has no readable code is left out."""
    for item in items if isinstance(items, list) else [items]:
        if not isinstance(item, dict):
            continue
        code = item.get("errorCode") or item.get("statusCode")
        if isinstance(code, str):
            named = item.get("fields")
            fields = tuple(str(name) for name in named) if isinstance(named, list) else ()
            yield Fault(code, str(item.get("message") or code), fields)


def of_request(name: str, answer: Answer) -> DestinationError | None:
    """The error that an answer of the connection `name` stands for, None when the request went through."""
    if 200 <= answer.status < 300:
        return None
    fault = next(faults(_parsed(answer.body)), Fault("", f"HTTP {answer.status} without an explanation"))
    rule = _rule(fault, answer.status)
    words = _without_query(fault.message)
    kind, code = rule.raises, rule.code
    if code == SESSION and any(phrase in words.lower() for phrase in _NOT_RENEWABLE):
        code = None
    if kind is BatchRefused:  # becomes the refusal of the row that proves guilty, in Salesforce's own words
        said = str(fault)
        return kind(said, code=fault.code or None, status=answer.status, request_id=answer.request_id, said=said)
    told = f"{fault.code}: {words}" if fault.code else words
    error = kind(
        f"destination {name!r}: Salesforce answered {told}",
        hint=rule.hint,
        code=code,
        status=answer.status,
        request_id=answer.request_id,
        said=words,
    )
    error.tries = rule.tries
    return error


def of_row(errors: Any, request_id: str | None) -> tuple[Rule, Refusal]:
    """The rule for a row that was refused with these errors, and its refusal in Salesforce's own words."""
    found = list(faults(errors))
    causes = [fault for fault in found if _rule(fault).row is not ForRow.ECHO] or found
    if not causes:
        return _OTHER, Refusal(BatchRefused.code, "Salesforce refused the record without saying why", request_id)
    words = "; ".join(str(cause) for cause in causes)
    return _decisive(causes), Refusal(causes[0].code, words, request_id)


def passes(refusal: Refusal) -> bool:
    """Whether a row was refused only for what others did at the same time, or in the same call."""
    words = refusal.message.lower()
    if refusal.code == "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY":
        return any(part in words for part in _OF_THE_CALL)
    return refusal.code in _PASSING


def stopping(name: str, rule: Rule, refusal: Refusal) -> DestinationError:
    """The error that ends a run after a row was refused for a reason that no other row escapes."""
    return rule.raises(
        f"destination {name!r}: Salesforce answered {refusal.code}: {refusal.message}",
        hint=rule.hint,
        code=rule.code,
        request_id=refusal.request_id,
        said=refusal.message,
    )


def _decisive(causes: Sequence[Fault]) -> Rule:
    rules = [_rule(cause) for cause in causes]
    stop = next((rule for rule in rules if rule.row is ForRow.STOP), None)
    if stop is not None:
        return stop
    # With fields named, it is the record behind a lookup that is missing, not the one that was addressed.
    addressed = all(field.lower() == "id" for cause in causes for field in cause.fields)
    return rules[0] if addressed and all(rule.row is ForRow.GONE for rule in rules) else _OTHER


def _rule(fault: Fault, status: int | None = None) -> Rule:
    words = fault.message.lower()
    for code, part, rule in BY_WORDS:
        if fault.code == code and part in words:
            return rule
    known = RULES.get(fault.code) or RULES.get(fault.code.upper())  # bulk jobs also say ExceededQuota
    if known is not None:
        return known
    if status is None:
        return _OTHER
    return _BY_STATUS.get(status, _DOUBT if status >= 500 or status == 406 else _OTHER)


def _without_query(message: str) -> str:
    """A refused query is quoted in the message, values and all, above the line that says what is wrong with it."""
    head, marker, tail = message.partition("ERROR at Row:")
    return tail.partition("\n")[2].strip() or "the query was refused" if marker else head.strip()


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
