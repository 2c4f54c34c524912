"""Custom events: what an event's definition says, and the occurrences of it that go out.

HubSpot takes up to 500 in a call and answers with an empty 204, which says that they were taken, not whom they led to.
Of several with one `uuid` it keeps the first for a year; ours follows from the sync and the row's key, so that an event
sent twice is there once (https://developers.hubspot.com/docs/api-reference/legacy/events/send-event-data/guide, read
2026-11).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reverse_etl.destinations.hubspot.errors import NotFound, Refused, body_of, listed, refusal
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.hubspot.schema import field_of, nearest
from reverse_etl.errors import AuthError, DestinationError
from reverse_etl.http import Http
from reverse_etl.model import Batch, Field, FieldType, Limits, ObjectSchema
from reverse_etl.values import as_text
from reverse_etl.verdicts import Outcomes

LIMITS = Limits(batch_size=500, in_flight=4)
MODES = frozenset({"append"})
PAGE = 100
NO_EVENTS = "define it in HubSpot first, under Data Management > Custom Events"
SCOPES = "behavioral_events.event_definitions.read_write and analytics.behavioral_events.send"

OBJECT_ID, OCCURRED_AT = "objectId", "occurredAt"
WHOSE = ("email", OBJECT_ID, "utk")
ENVELOPE = {
    "email": Field("email", FieldType.TEXT, label="E-mail address of the contact", is_email=True),
    OBJECT_ID: Field(OBJECT_ID, FieldType.REFERENCE, label="Id of the record"),
    "utk": Field("utk", FieldType.TEXT, label="Visitor's token, from the cookie hubspotutk"),
    OCCURRED_AT: Field(OCCURRED_AT, FieldType.DATETIME, label="When it happened"),
}
OWN = "properties."  # before the name of a property that is called like a part of the envelope

MOST_CHARACTERS = 256
MOST_CHARACTERS_OF = {"hs_url": 1024, "hs_referrer": 1024}

_FULL_NAME = re.compile(r"pe\d+_\w+")
_UUIDS = uuid.UUID("6f1b7d3e-5c0a-5e0c-9f43-2a7f0c8e4b11")  # the name space of our events: never to be changed


def is_full_name(object: str) -> bool:
    """Whether this can only be an event."""
    return _FULL_NAME.fullmatch(object) is not None


class Events:
    """The custom events of one account; their definitions are read once. `names` are the plain ones of those read."""

    def __init__(self, http: Http, paths: Paths) -> None:
        self.http = http
        self.paths = paths
        self.names: list[str] = []

    async def describe(self, object: str) -> ObjectSchema | None:
        """The event of this name, plain or full; None where a plain name is no event's. Raises DestinationError."""
        surely = is_full_name(object)
        try:
            known = await self._definitions()
        except (AuthError, NotFound, Refused) as refused:
            if surely and isinstance(refused, AuthError) and refused.status == 403:
                refused.hint = f"custom events are part of HubSpot's Enterprise plans; the token needs {SCOPES}"
            if surely or refused.status == 401:
                raise
            return None  # no events in this plan, or not for this token: then it names no event
        found = next((each for each in known if _is_called(each, object)), None)
        if found is not None:
            return _schema(found)
        if not surely:
            return None
        raise _unknown(object, [str(each["fullyQualifiedName"]) for each in known])

    async def send(self, batch: Batch) -> Outcomes:
        """Every row as an event. The answer covers all of them; repeating it does no harm."""
        body = {"inputs": [*_inputs(batch)]}
        path, outcomes = self.paths.events_batch(), Outcomes(len(batch))
        try:
            await self.http.send("POST", path, json=body, idempotent=True, splittable=len(batch) > 1)
        except Refused as refused:
            if len(batch) > 1:
                raise
            outcomes.rejected(0, refusal(refused.body, request=refused.request_id))
            return outcomes
        for position in range(len(batch)):
            outcomes.created(position)
        return outcomes

    async def _definitions(self) -> list[Mapping[str, Any]]:
        params = {"limit": str(PAGE), "includeProperties": "true"}
        found: list[Mapping[str, Any]] = []
        while True:
            answer = await self.http.send("GET", self.paths.event_definitions(), params=params, idempotent=True)
            found += [each for each in listed(answer) if each.get("fullyQualifiedName")]
            following = ((body_of(answer).get("paging") or {}).get("next") or {}).get("after")
            if not following:
                self.names = [str(each.get("name") or each["fullyQualifiedName"]) for each in found]
                return found
            params = {**params, "after": str(following)}


def event_id(sync: str, key: str) -> str:
    """The same for a row whenever it is sent, by whichever run."""
    return str(uuid.uuid5(_UUIDS, f"{sync}\n{key}"))


def _is_called(definition: Mapping[str, Any], object: str) -> bool:
    names = (definition["fullyQualifiedName"], definition.get("name"))
    return object.casefold() in {str(name).casefold() for name in names if name}


def _unknown(object: str, names: Sequence[str]) -> DestinationError:
    """Of full names only what is behind the account's number tells them apart."""
    plain = {name.partition("_")[2]: name for name in names}
    near = nearest(object.partition("_")[2], plain)
    hint = f"there are {', '.join(names)}" if names else NO_EVENTS
    if near:
        hint = f"did you mean {plain[near]!r}?"
    return DestinationError(f"HubSpot has no custom event {object!r}", code="destination_object", hint=hint)


def _schema(definition: Mapping[str, Any]) -> ObjectSchema:
    properties = [field for each in definition.get("properties") or [] if (field := _property(each)) is not None]
    fields = {**ENVELOPE, **{field.name: field for field in properties}}
    return ObjectSchema(str(definition["fullyQualifiedName"]), fields, modes=MODES, needs_one_of=WHOSE, looks_up=False)


def _property(told: Mapping[str, Any]) -> Field | None:
    if not told.get("name"):
        return None
    known = field_of(told, "event")
    name = f"{OWN}{known.name}" if known.name in ENVELOPE else known.name
    long = MOST_CHARACTERS_OF.get(known.name, MOST_CHARACTERS)
    return Field(
        name=name,
        type=known.type,
        label=known.label,
        read_only=known.read_only,
        options=known.options,
        labels=known.labels,
        max_length=long if known.type in (FieldType.TEXT, FieldType.OTHER) else None,
    )


def _inputs(batch: Batch) -> Iterator[dict[str, Any]]:
    keys: Sequence[str] = batch.keys.to_pylist()
    for key, record in zip(keys, batch.records(as_text), strict=True):
        told = {name: record.pop(name) for name in ENVELOPE if record.get(name)}
        properties = {name.removeprefix(OWN): value for name, value in record.items() if name not in ENVELOPE}
        yield {"eventName": batch.object, "uuid": event_id(batch.sync, key), **told, "properties": properties}
