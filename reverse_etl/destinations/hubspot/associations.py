"""Associations: which records of two object types belong together, and under which labels.

What the outside is like, and what follows from it
(https://developers.hubspot.com/docs/api-reference/legacy/crm/associations/associate-records/guide, read 2026-11):

- A pair has one type without a label, and any number of labels. Direction matters: contact to company is another type
  than company to contact. The plain association is made without naming its type.
- `batch/create` replaces the labels of a pair: those to keep have to be sent along. `batch/archive` takes the whole
  pair apart, `batch/labels/archive` only the labels named.
- Answers name the pairs that were made; errors name records by their ids, which are unique within an object type only.
- All of it may be repeated without harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from reverse_etl.answer import Answer
from reverse_etl.destinations.hubspot.errors import NotFound, Refused, context, listed
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.errors import DestinationError
from reverse_etl.http import Http

MOST_MADE = 2_000
MOST_READ = 1_000
MOST_ARCHIVED = 100

Pair = tuple[str, str]  # the record's id, the parent's
Error = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """One type of association, known by its category and id; without a label it is the plain one."""

    category: str
    type_id: int
    label: str | None = field(default=None, compare=False)

    def document(self) -> dict[str, Any]:
        return {"associationCategory": self.category, "associationTypeId": self.type_id}


@dataclass
class Told:
    """What answers say of pairs: `done`, or why not; `request_id` is of an error that has none of its own."""

    done: set[Pair] = field(default_factory=set)
    faults: dict[Pair, tuple[Error, str | None]] = field(default_factory=dict)

    def silent(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Pairs of which nothing is said, or both."""
        return [pair for pair in pairs if (pair in self.done) == (pair in self.faults)]


@dataclass(frozen=True)
class Associations:
    """From one object type to another."""

    http: Http
    paths: Paths
    source: str
    target: str

    async def kinds(self) -> list[Kind]:
        """All types of association there are from here to there; empty when there can be none."""
        path = self.paths.association_labels(self.source, self.target)
        answer = await self.http.send("GET", path, idempotent=True)
        return [_kind(each) for each in listed(answer)]

    async def of(self, ids: Iterable[str]) -> dict[str, dict[str, list[Kind]]]:
        """The associations of these records: by record, by the other one's id."""
        found: dict[str, dict[str, list[Kind]]] = {}
        waiting: list[dict[str, str]] = [{"id": id} for id in dict.fromkeys(ids)]
        while waiting:
            some, waiting = waiting[:MOST_READ], waiting[MOST_READ:]
            for result in await self._read(some):
                id = _id(result.get("from"))
                others = found.setdefault(id, {})
                for each in result.get("to") or []:
                    kinds = [_kind(kind) for kind in each.get("associationTypes") or []]
                    others.setdefault(str(each.get("toObjectId")), []).extend(kinds)
                after = ((result.get("paging") or {}).get("next") or {}).get("after")
                if after:
                    waiting.append({"id": id, "after": str(after)})
        return found

    async def make(self, pairs: Iterable[Pair]) -> Told:
        """The plain association of each pair."""
        inputs = {pair: _ends(pair) for pair in pairs}
        return await self._carry_out("associate/default", inputs, MOST_MADE)

    async def label(self, kinds: Mapping[Pair, Sequence[Kind]]) -> Told:
        """Each pair with exactly these labels."""
        inputs = {pair: {**_ends(pair), "types": [kind.document() for kind in some]} for pair, some in kinds.items()}
        return await self._carry_out("create", inputs, MOST_MADE)

    async def unlabel(self, pairs: Iterable[Pair], kind: Kind) -> Told:
        """Takes one label off each pair."""
        inputs = {pair: {**_ends(pair), "types": [kind.document()]} for pair in pairs}
        return await self._carry_out("labels/archive", inputs, MOST_MADE)

    async def part(self, pairs: Iterable[Pair]) -> Told:
        """Takes the pairs apart, whatever they are labelled."""
        inputs = {pair: {"from": {"id": pair[0]}, "to": [{"id": pair[1]}]} for pair in pairs}
        return await self._carry_out("archive", inputs, MOST_ARCHIVED)

    async def _read(self, inputs: Sequence[Mapping[str, str]]) -> list[Mapping[str, Any]]:
        """A record that has no association is an error of the answer, or no part of it."""
        path = self.paths.associations(self.source, self.target, "read")
        try:
            return listed(await self.http.send("POST", path, json={"inputs": inputs}, idempotent=True))
        except NotFound:
            return []

    async def _carry_out(self, verb: str, inputs: Mapping[Pair, Mapping[str, Any]], most: int) -> Told:
        told, pairs = Told(), iter(inputs)
        while some := list(islice(pairs, most)):
            await self._send(verb, {pair: inputs[pair] for pair in some}, told)
        return told

    async def _send(self, verb: str, inputs: Mapping[Pair, Mapping[str, Any]], told: Told) -> None:
        """One call; refused as a whole it is halved, until the guilty pairs stand alone."""
        path = self.paths.associations(self.source, self.target, verb)
        try:
            answer = await self.http.send("POST", path, json={"inputs": [*inputs.values()]}, idempotent=True)
        except (Refused, NotFound) as refused:
            pairs = list(inputs)
            if len(pairs) == 1:
                told.faults[pairs[0]] = (_body(refused), refused.request_id)
                return
            for half in (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]):
                await self._send(verb, {pair: inputs[pair] for pair in half}, told)
            return
        _sort(answer, list(inputs), told, covers_all=verb.endswith("archive"))


def _sort(answer: Answer, pairs: Sequence[Pair], told: Told, *, covers_all: bool) -> None:
    """What an answer says of the pairs of its request. `covers_all`: what it doesn't mention is done, too."""
    body = answer.json() if answer.body else {}
    errors = [each for each in body.get("errors") or [] if isinstance(each, dict)] if isinstance(body, dict) else []
    made = {_pair(result) for result in listed(answer)} if answer.body else set()
    told.done.update(pair for pair in pairs if pair in made)
    for error in errors:
        told.faults |= {pair: (error, answer.request_id) for pair in _meant(error, pairs, made)}
    if covers_all:
        told.done.update(pair for pair in pairs if pair not in told.faults)


def _meant(error: Error, pairs: Sequence[Pair], made: set[Pair]) -> Iterator[Pair]:
    """The pairs that an error names: both ends where it tells them apart, else by an id that one of them has."""
    sources, targets = context(error, "fromObjectId"), context(error, "toObjectId")
    if sources or targets:
        fits = (pair for pair in pairs if pair[0] in (sources or pair) and pair[1] in (targets or pair))
        yield from fits
        return
    ids = {*context(error, "id"), *context(error, "ids"), *context(error, "objectId")}
    yield from (pair for pair in pairs if pair not in made and not ids.isdisjoint(pair))


def _pair(result: Mapping[str, Any]) -> Pair:
    """Plain ones come as `from` and `to`, labelled ones as `fromObjectId` and `toObjectId`; numbers or text."""
    if "fromObjectId" in result:
        return str(result["fromObjectId"]), str(result.get("toObjectId"))
    return _id(result.get("from")), _id(result.get("to"))


def _id(end: object) -> str:
    return str(end.get("id", "")) if isinstance(end, dict) else ""


def _ends(pair: Pair) -> dict[str, Any]:
    return {"from": {"id": pair[0]}, "to": {"id": pair[1]}}


def _kind(told: Mapping[str, Any]) -> Kind:
    label = told.get("label")
    return Kind(str(told.get("category")), int(told.get("typeId") or 0), str(label) if label else None)


def _body(refused: DestinationError) -> Error:
    if isinstance(refused, Refused):
        return refused.body
    return {"category": "OBJECT_NOT_FOUND", "message": refused.message}
