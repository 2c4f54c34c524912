"""Lists (segments, in newer accounts): a row is a member, a row that leaves the result leaves the list.

HubSpot takes members by record id, so that each row's record is looked up first. Its answer names those that it added
and those that there are not; who was in the list already stands nowhere in it. Only lists that people fill take
members: the others are what their filters say
(https://developers.hubspot.com/docs/api-reference/2026-03/crm/lists/memberships/add-to-list, read 2026-11).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import anyio

from reverse_etl.destinations.hubspot import schema
from reverse_etl.destinations.hubspot.errors import NotFound, Refused, body_of, listed, refusal, unreadable
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.hubspot.reads import Records
from reverse_etl.destinations.hubspot.schema import RECORD_ID, STANDARD
from reverse_etl.errors import DestinationError
from reverse_etl.http import Http
from reverse_etl.model import Batch, Field, FieldType, Limits, ObjectSchema, Operation
from reverse_etl.values import as_text
from reverse_etl.verdicts import Outcomes, Refusal

PREFIX = "list:"
LIMITS = Limits(batch_size=500, in_flight=4)
MODES = frozenset({"upsert", "mirror"})
FILLED_BY_PEOPLE = frozenset({"MANUAL", "SNAPSHOT"})
CONTACTS = STANDARD["contacts"]
PAGE = 250
NAMES = 500  # lists looked through for a name like one that isn't there
TRIES = 2  # a success that says nothing has changed nothing: seen with other calls, once more helps

SPELLINGS = ("recordIds", "recordsIds")  # HubSpot has both in one answer
ANSWERED = frozenset(f"{ids}{what}" for ids in SPELLINGS for what in ("Added", "Removed", "Missing"))

ABSENT = Refusal("missing_record", "no record has this match value: a list takes only records that are in HubSpot")
GONE = Refusal("missing_record", "HubSpot says that there is no record of this id")
UNNAMED = Refusal("no_match", "no record is remembered for this row")


def is_list(object: str) -> bool:
    """Whether an object is spelled as a list."""
    return object.startswith(PREFIX)


class Lists:
    """The lists of one account, each looked up once. `type_of` gives an object's type by its name."""

    def __init__(self, http: Http, paths: Paths, type_of: Callable[[str], Awaitable[str]]) -> None:
        self._http = http
        self._paths = paths
        self._type_of = type_of
        self._known: dict[str, Members] = {}

    async def named(self, object: str) -> Members:
        """`list:NAME` of contacts, `list:OBJECT/NAME` or `list:ID`. Raises DestinationError for one that can't be."""
        if object not in self._known:
            found = await self._found(object.removeprefix(PREFIX).strip())
            _refuse_computed(found)
            self._known[object] = Members(self._http, self._paths, object, found)
        return self._known[object]

    async def _found(self, name: str) -> Mapping[str, Any]:
        readings = [] if name.isdecimal() else await self._readings(name)
        places = [self._paths.list_named(*each) for each in readings] or [self._paths.list(name)]
        for place in places:
            try:
                answer = await self._http.send("GET", place, idempotent=True)
            except NotFound:
                continue
            found = body_of(answer).get("list")
            if not isinstance(found, dict) or not found.get("listId") or not found.get("objectTypeId"):
                raise unreadable("the answer for a list describes none", answer)
            return found
        raise await self._unknown(name, readings)

    async def _readings(self, name: str) -> list[tuple[str, str]]:
        """What a name may mean, as type and name: one before a slash is an object's, where there is such an object."""
        object, slash, rest = name.partition("/")
        type = await self._type_of(object.strip()) if slash else ""
        of_object = [(STANDARD.get(type, type), rest.strip())] if schema.is_certain(type) else []
        return [*of_object, (CONTACTS, name)]

    async def _unknown(self, name: str, readings: Sequence[tuple[str, str]]) -> DestinationError:
        type, wanted = readings[0] if readings else ("", name)
        known = await self._listed()
        near = get_close_matches(wanted, [str(each["name"]) for each in known if each.get("objectTypeId") == type])
        elsewhere = [each for each in known if str(each["name"]).casefold() == wanted.casefold()]
        hint = "lists that filters fill take no members: make a static one in HubSpot"
        if near:
            hint = "did you mean " + " or ".join(repr(each) for each in near) + "?"
        elif elsewhere:
            hint = f"there is one of another object: write `object: {PREFIX}{elsewhere[0]['listId']}`"
        return DestinationError(f"HubSpot has no list {name!r}", code="destination_object", hint=hint)

    async def _listed(self) -> list[Mapping[str, Any]]:
        """Lists that take members."""
        body = {
            "query": "",
            "listIds": [],
            "processingTypes": sorted(FILLED_BY_PEOPLE),
            "offset": 0,
            "count": NAMES,
            "additionalProperties": [],
        }
        answer = await self._http.send("POST", self._paths.list_search(), json=body, idempotent=True)
        found = body_of(answer).get("lists") or []
        return [each for each in found if isinstance(each, dict) and each.get("name") and each.get("listId")]


class Members:
    """One list, as a sync sees it.

    What goes in and out is sent one call after the other: what one row leaves, another may be about to enter.
    """

    def __init__(self, http: Http, paths: Paths, object: str, told: Mapping[str, Any]) -> None:
        self._http = http
        self._paths = paths
        self._object = object
        self._id = str(told["listId"])
        self._type = str(told["objectTypeId"])
        self._records = Records(http, paths, self._type)
        self._turn = anyio.Lock()
        self._joined: set[str] = set()  # in this run
        self._standing: frozenset[str] | None = None

    async def describe(self) -> ObjectSchema:
        """What finds the list's records, as fields; all others are there to say why they can't be mapped."""
        described = await schema.describe(self._http, self._paths, self._object, self._type)
        fields = {name: _of_member(field) for name, field in described.fields.items()}
        return replace(described, fields=fields, modes=MODES, looks_up=False, extensible=False)

    async def write(self, batch: Batch) -> Outcomes:
        """Rows in or out. One whose record is another one than before takes the other's place."""
        outcomes = Outcomes(len(batch))
        before: list[str | None] = batch.record_ids.to_pylist()
        leaves = batch.operation is Operation.REMOVE
        now = [None] * len(batch) if leaves else await self._ids(batch, before)
        for at, (old, new) in enumerate(zip(before, now, strict=True)):
            if (old if leaves else new) is None:
                outcomes.rejected(at, UNNAMED if leaves else ABSENT)
        joining = [*dict.fromkeys(id for id in now if id)]
        leaving = {old for old, new in zip(before, now, strict=True) if old and old != new and (new or leaves)}
        if leaving and not leaves:  # the id of a merged record may lead to the one that is about to join
            leaving &= {*await self._records.find(RECORD_ID, sorted(leaving), [], merged=False)}
        try:
            told = await self._change(joining, leaving)
        except Refused as refused:
            if len(batch) > 1:
                raise
            outcomes.rejected(0, refusal(refused.body, request=refused.request_id))
            return outcomes
        if told is not None:
            _settle(outcomes, now, told, leaves=leaves)
        return outcomes

    async def find(self, match: str, values: Sequence[str], fields: Sequence[str]) -> dict[str, dict[str, object]]:
        """The records with these match values that are in the list."""
        found = await self._records.find(match, values, fields)
        members = await self._members() if found else frozenset()
        return {value: record for value, record in found.items() if record["id"] in members}

    async def _ids(self, batch: Batch, before: Sequence[str | None]) -> list[str | None]:
        """The record of each row, None where there is none. A row that lost its match value keeps the one it had."""
        texts: Sequence[str | None] = batch.match_values(as_text)
        if batch.match == RECORD_ID:
            return [text or old for text, old in zip(texts, before, strict=True)]
        found = await self._records.find(batch.match, [text for text in texts if text], [])
        ids = {value: str(record["id"]) for value, record in found.items()}
        return [ids.get(text) if text else old for text, old in zip(texts, before, strict=True)]

    async def _change(self, joining: Sequence[str], leaving: Collection[str]) -> Mapping[str, Any] | None:
        """What the answer says; None when it says nothing. Whoever joined in this run stays, whichever row left."""
        async with self._turn:
            leaving = sorted({*leaving} - self._joined - {*joining})
            if not joining and not leaving:
                return {}
            for _ in range(TRIES):
                told = await self._sent(joining, leaving)
                if told:
                    self._joined.update(joining)
                    return told
        return None

    async def _sent(self, joining: Sequence[str], leaving: Sequence[str]) -> Mapping[str, Any]:
        verb = "add-and-remove" if joining and leaving else "add" if joining else "remove"
        body: Any = [*joining, *leaving]
        if joining and leaving:
            body = {"recordIdsToAdd": joining, "recordIdsToRemove": leaving}
        path, many = self._paths.memberships(self._id, verb), len(joining) + len(leaving) > 1
        try:
            answer = await self._http.send("PUT", path, json=body, idempotent=True, splittable=many)
        except NotFound as gone:
            raise DestinationError(
                f"HubSpot has no {self._object!r} any more",
                code="destination_object",
                hint="restore the list in HubSpot, which is possible for 90 days, or name another",
                request_id=gone.request_id,
            ) from gone
        return {name: ids for name, ids in body_of(answer).items() if name in ANSWERED and isinstance(ids, list)}

    async def _members(self) -> frozenset[str]:
        """Everybody in the list, read once a run."""
        if self._standing is None:
            self._standing = frozenset([id async for id in self._pages()])
        return self._standing

    async def _pages(self) -> Any:
        params = {"limit": str(PAGE)}
        while True:
            answer = await self._http.send("GET", self._paths.memberships(self._id), params=params, idempotent=True)
            for each in listed(answer):
                yield str(each.get("recordId"))
            following = ((body_of(answer).get("paging") or {}).get("next") or {}).get("after")
            if not following:
                return
            params = {**params, "after": str(following)}


def _refuse_computed(told: Mapping[str, Any]) -> None:
    kind = told.get("processingType")
    if kind not in FILLED_BY_PEOPLE:
        raise DestinationError(
            f"HubSpot fills the list {told.get('name')!r} by its own filters ({kind}): nobody can be put into it",
            code="destination_config",
            hint="make a static list in HubSpot and name that; filters of others can ask who is in it",
        )


def _of_member(field: Field) -> Field:
    if field.name == RECORD_ID:
        return replace(field, type=FieldType.REFERENCE, identifies=True, read_only=None)
    if field.identifies:
        return field
    only = "a list takes members, not values: map it in a sync of the object itself"
    return replace(field, read_only=only, required_on_create=False)


def _settle(outcomes: Outcomes, now: Sequence[str | None], told: Mapping[str, Any], *, leaves: bool) -> None:
    """The rows' verdicts: who is not named as missing is in the list, or out of it."""
    added, missing = set(_named(told, "Added")), set(_named(told, "Missing"))
    for at, id in enumerate(now):
        if at in outcomes.refusals:
            continue
        if leaves:
            outcomes.removed(at)
        elif id in missing:
            outcomes.rejected(at, GONE)
        elif id in added:
            outcomes.created(at, id)
            added.remove(id)
        else:
            outcomes.updated(at, id)


def _named(told: Mapping[str, Any], what: str) -> Iterator[str]:
    """Ids of one part of an answer."""
    for spelling in SPELLINGS:
        yield from (str(id) for id in told.get(f"{spelling}{what}") or [])
