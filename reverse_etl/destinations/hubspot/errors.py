"""What HubSpot's refusals mean: which are about the run, which about the call, which about a row.

Bodies are read with care: every part is optional, and gateways answer with HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from reverse_etl.answer import Answer
from reverse_etl.errors import AuthError, BatchRefused, DailyLimit, DestinationError, InDoubt, Throttled, Unavailable
from reverse_etl.http import SESSION
from reverse_etl.verdicts import Refusal

LOCKED_SECONDS = 2.0
FEW_TRIES = 3
MOVING = "HubSpot is moving the account to another data centre; nothing is lost, run again when that is done"
MOST_TEXT = 300

INVALID_VALUES = "Property values were not valid: "
MAPPING_CODES = frozenset({"PROPERTY_DOESNT_EXIST", "READ_ONLY_VALUE"})
_EXISTING_ID = re.compile(r"Existing ID: (\d+)")
_TAKEN = re.compile(r"propertyName=(\w+),.* on (\d+)\. (\d+) already has that value", re.DOTALL)
_TAKEN_IDS = re.compile(r"on (\d+)\. (\d+) already has that value")
_NON_UNIQUE = re.compile(r"non-unique (?:\S+ property )?(\w+)")
_OPTIONS = re.compile(r"(was not one of the allowed options|Valid options are): .*", re.DOTALL)


class Refused(BatchRefused):
    """A request refused as a whole, with what HubSpot said; its body may tell which rows are to blame."""

    body: Mapping[str, Any]


class Contended(Refused, Unavailable):
    """Somebody else writes to a record of the request: it passes, and if not, it concerns that row only."""


class NotFound(DestinationError):
    """There is nothing at this address: no such object type, or no such record."""

    code = "destination_object"


@dataclass(frozen=True)
class Complaint:
    """One thing HubSpot found wrong with one value; parts it didn't name are None."""

    code: str
    text: str
    property: str | None = None
    value: str | None = None

    def fits(self, properties: Mapping[str, str]) -> bool:
        """Whether a row with these properties can be the one meant: it has the very value complained of."""
        sent = properties.get(self.property) if self.property is not None else None
        if not sent:
            return False
        if self.value is not None:
            return sent == self.value
        return self.text.startswith(f"{sent} ") or self.text == f"Email address {sent} is invalid"


@dataclass(frozen=True)
class Conflict:
    """Another record already has what a row wants: the record's id and the property, where they are told."""

    record_id: str | None
    property: str | None


@dataclass(frozen=True)
class Access:
    """How we came in: the connection's name, and whether its token can be exchanged for a newer one."""

    connection: str
    renewable: bool = False


def classify(answer: Answer, *, access: Access, zone: ZoneInfo | None, now: datetime) -> DestinationError | None:
    """What the answer means for the call; None when it can be read for verdicts."""
    if 200 <= answer.status < 300:
        return _unreadable(answer)
    said = body_of(answer)
    text = shortened(str(said.get("message") or f"HTTP {answer.status}"))
    kind = _KINDS.get(answer.status) or (InDoubt if answer.status >= 500 else DestinationError)
    if answer.status == 429:
        return _too_many(answer, said, text, zone, now)
    if kind is AuthError:
        return _forbidden(answer, said, text, access)
    if answer.status in (400, 422) and (mistake := _mistake(said, text)):
        return mistake
    if answer.status == 409 and conflict_in(said, "contacts") is None:
        kind = Contended  # two writers met; nothing was written
    return _failure(kind, answer, said, text)


def _failure(kind: type[DestinationError], answer: Answer, said: Mapping[str, Any], text: str) -> DestinationError:
    if issubclass(kind, Refused):  # its words may hold values of rows: they stay in the body
        text = f"a request was refused as a whole ({said.get('category') or f'HTTP {answer.status}'})"
    error = kind(f"HubSpot: {text}", status=answer.status, request_id=request_id(said, answer), said=text)
    if isinstance(error, Refused):
        error.body = said if said.get("message") else {**said, "message": _WORDLESS.get(answer.status, text)}
    if isinstance(error, Contended) or answer.status in _SELDOM_HELPS:
        error.tries = FEW_TRIES
    if answer.status == 423:
        error.retry_after = LOCKED_SECONDS
    elif answer.status == 477:
        error.hint = MOVING
    return error


_WORDLESS = {413: "the request is too large (HTTP 413)", 423: "the record is locked (HTTP 423)"}
_SELDOM_HELPS = frozenset({500, 522, 525, 526})  # to send the same again
_KINDS: dict[int, type[DestinationError]] = {
    400: Refused,
    401: AuthError,
    403: AuthError,
    404: NotFound,
    409: Refused,
    413: Refused,
    414: Refused,
    422: Refused,
    423: Contended,  # the record is locked
    477: Unavailable,  # the account is being moved
    522: Unavailable,  # no connection from the gateway to HubSpot
    525: Unavailable,
    526: Unavailable,
}


def body_of(answer: Answer) -> Mapping[str, Any]:
    """The JSON object in an answer, empty when there is none."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def listed(answer: Answer) -> list[Mapping[str, Any]]:
    """The `results` of an answer. Raises InDoubt when they aren't there, or aren't objects."""
    body = answer.json()
    results = body.get("results", []) if isinstance(body, dict) else None
    if not isinstance(results, list) or not all(isinstance(each, dict) for each in results):
        raise unreadable("an answer that should list something lists nothing", answer)
    return results


def unreadable(what: str, answer: Answer) -> InDoubt:
    """For an answer of another shape than HubSpot's: it proves nothing."""
    return InDoubt(
        f"HubSpot: {what}",
        code="destination_unreadable",
        hint="look whether a proxy stands between here and HubSpot",
        status=answer.status,
        request_id=answer.request_id,
    )


def request_id(error: Mapping[str, Any], answer: Answer | None = None) -> str | None:
    """HubSpot's correlation id."""
    told = error.get("correlationId")
    return str(told) if told else (answer.request_id if answer else None)


def complaints(error: Mapping[str, Any]) -> list[Complaint]:
    """Everything an error says about values, from its message's JSON list, its `errors`, or its bare words."""
    message = str(error.get("message") or "")
    found = [*_listed(message)] or [*_repeated(error)]
    return found or [Complaint(str(error.get("category") or Refused.code), message or "refused without a reason")]


def refusal(error: Mapping[str, Any], found: list[Complaint] | None = None, request: str | None = None) -> Refusal:
    """The reason as it is kept with a rejected row: HubSpot's words, cut where it lists every option there is."""
    about = found or complaints(error)
    texts = [f"{each.property}: {shortened(each.text)}" if each.property else shortened(each.text) for each in about]
    return Refusal(about[0].code, "; ".join(dict.fromkeys(texts)), request_id(error) or request)


def conflict_in(error: Mapping[str, Any], object: str) -> Conflict | None:
    """Who already has the value a row wants, None when the error is about something else."""
    message = str(error.get("message") or "")
    if taken := _TAKEN.search(message):
        return Conflict(taken[3], taken[1])
    if taken := _TAKEN_IDS.search(message):
        return Conflict(taken[2], None)
    if error.get("category") == "CONFLICT" or "already exists" in message:
        told = first(error, "existingId")
        named = _EXISTING_ID.search(message)
        record_id = told or (named[1] if named else None)
        return Conflict(record_id, "email" if object in ("contacts", "0-1") else None)
    return None


def addressed_id(error: Mapping[str, Any]) -> str | None:
    """The record that a taken value could not be written to."""
    taken = _TAKEN_IDS.search(str(error.get("message") or ""))
    return taken[1] if taken else None


def context(error: Mapping[str, Any], name: str) -> list[str]:
    """A list of an error's context, whatever shape it came in."""
    told = error.get("context")
    found = told.get(name) if isinstance(told, dict) else None
    if found is None:
        return []
    return [str(each) for each in found] if isinstance(found, list) else [str(found)]


def first(error: Mapping[str, Any], name: str) -> str | None:
    """The first item of a list of an error's context."""
    return next(iter(context(error, name)), None)


def shortened(text: str) -> str:
    """A message without the list of every option, and of bearable length."""
    text = _OPTIONS.sub(lambda found: found[0][:160] + ("…" if len(found[0]) > 160 else ""), text)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 1] + "…"


def _listed(message: str) -> Iterator[Complaint]:
    _, marker, listed = message.partition(INVALID_VALUES)
    if not marker:
        return
    try:
        items = orjson.loads(listed)
    except orjson.JSONDecodeError:
        return
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict):
            value = item.get("propertyValue")
            yield Complaint(
                code=str(item.get("error") or "VALIDATION_ERROR"),
                text=str(item.get("message") or item.get("localizedErrorMessage") or "invalid"),
                property=str(item["name"]) if item.get("name") else None,
                value=None if value is None else str(value),
            )


def _repeated(error: Mapping[str, Any]) -> Iterator[Complaint]:
    for item in _items(error):
        if item.get("message"):
            code = str(item.get("code") or error.get("category") or Refused.code)
            yield Complaint(code, str(item["message"]), first(item, "propertyName"))


def _items(error: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = error.get("errors")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _unreadable(answer: Answer) -> DestinationError | None:
    if not answer.body:
        return None
    try:
        body = answer.json()
    except InDoubt as error:
        return error
    if isinstance(body, dict) and _lists(body.get("results")) and _lists(body.get("errors")):
        return None
    return unreadable("the answer is not of the shape that its answers have", answer)


def _lists(part: object) -> bool:
    """Whether a part of an answer is what it should be: a list of objects, or nothing."""
    return part is None or (isinstance(part, list) and all(isinstance(each, dict) for each in part))


def _mistake(said: Mapping[str, Any], text: str) -> DestinationError | None:
    """A refusal that no row is to blame for."""
    if "Unable to infer object type" in text:
        return NotFound(f"HubSpot: {text}", status=400, request_id=request_id(said), said=text)
    if found := _NON_UNIQUE.search(text):
        return DestinationError(
            f"HubSpot can't find records by {found[1]!r}, as its values need not be unique: {text}",
            code="destination_config",
            hint="match on a property created with hasUniqueValue, or on email for contacts",
            status=400,
            request_id=request_id(said),
        )
    return None


def _too_many(
    answer: Answer, said: Mapping[str, Any], text: str, zone: ZoneInfo | None, now: datetime
) -> DestinationError:
    if said.get("policyName") != "DAILY":
        return Throttled(f"HubSpot: {text}", status=429, request_id=request_id(said, answer))
    error = daily_limit("HubSpot's allowance of calls for today is used up", zone, now)
    error.status, error.request_id = 429, request_id(said, answer)
    return error


def daily_limit(message: str, zone: ZoneInfo | None, now: datetime) -> DailyLimit:
    """With the time at which the account's day ends, where its time zone is known."""
    error = DailyLimit(
        message, hint="what wasn't sent stays pending; run again after midnight of the account's time zone"
    )
    if zone is not None:
        today = now.astimezone(zone)
        midnight = (today + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        error.retry_after = (midnight - now).total_seconds()
        error.hint = f"what wasn't sent stays pending; run again after {midnight.isoformat(timespec='minutes')}"
    return error


def _forbidden(answer: Answer, said: Mapping[str, Any], text: str, access: Access) -> DestinationError:
    refuse = partial(AuthError, status=answer.status, request_id=request_id(said, answer))
    app = "app" if access.renewable else "private app"
    if answer.status == 401:
        expired = access.renewable and said.get("category") == "EXPIRED_AUTHENTICATION"
        return refuse(
            f"HubSpot refused the access token of the connection {access.connection!r}: {text}",
            hint=_REMEDY_OAUTH if access.renewable else _REMEDY_STATIC,
            code=SESSION if expired else None,
        )
    scopes = [scope for item in _items(said) for scope in context(item, "requiredGranularScopes")]
    if scopes:
        again = "install the app in the account again, then run again" if access.renewable else "then run again"
        return refuse(
            f"the token of the connection {access.connection!r} lacks a scope: {', '.join(dict.fromkeys(scopes))}",
            hint=f"tick it on the Scopes page of the {app} in HubSpot, {again}",
        )
    return refuse(
        f"the token of the connection {access.connection!r} may not do this: {text}",
        hint=f"look at the scopes of the {app}, and at what the HubSpot plan includes",
    )


_REMEDY_STATIC = "copy the token anew from the private app's page in HubSpot and put it where access_token reads it"
_REMEDY_OAUTH = "run again; if it persists, install the app in the account again and use its new refresh token"
