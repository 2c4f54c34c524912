"""Links as a sync has them, one parent a field, made of associations.

Old and new parent are looked up first: while the new one isn't there, nothing is touched. The old link is taken off
before the new one is made, as an account may allow a record only one of a kind. A labelled link takes no other label
along: those of the pair that somebody else gave it stay, and where there is none, the pair is taken apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from reverse_etl.destinations.hubspot.associations import Associations, Error, Kind, Pair, Told
from reverse_etl.destinations.hubspot.errors import NotFound, Refused, refusal
from reverse_etl.destinations.hubspot.parents import Parents
from reverse_etl.destinations.hubspot.paths import Paths
from reverse_etl.destinations.hubspot.reads import LOOKUPS, Records
from reverse_etl.destinations.hubspot.schema import RECORD_ID, STANDARD, nearest
from reverse_etl.errors import DestinationError, InDoubt, ReverseEtlError
from reverse_etl.http import Http
from reverse_etl.model import Batch, Field, FieldType, ObjectSchema, Parent
from reverse_etl.protocols import LINK_WAITING, RECORD_GONE
from reverse_etl.values import as_text
from reverse_etl.verdicts import Outcomes, Refusal

# Properties by which a record can't sensibly be found.
UNFIT = frozenset({FieldType.BOOLEAN, FieldType.DATE, FieldType.DATETIME, FieldType.TIME, FieldType.CHOICES})
NOT_SAID = Refusal(LINK_WAITING, "HubSpot's answer doesn't speak of this link, and it isn't there")


@dataclass(frozen=True)
class Relation:
    """Where one kind of link leads: to which records, and under which label (None: by the plain association)."""

    associations: Associations
    parents: Parents
    label: Kind | None


@dataclass
class Links:
    """The links of one run. What HubSpot says of labels and parents is asked for once."""

    http: Http
    paths: Paths
    type_of: Callable[[str], Awaitable[str]]
    schema_of: Callable[[str], Awaitable[ObjectSchema]]
    relations: dict[tuple[str, Parent], Relation] = field(default_factory=dict)
    labels: dict[tuple[str, str], dict[str, Kind | None]] = field(default_factory=dict)  # by ends and field

    async def describe(self, object: str, name: str, parent: Parent) -> Field:
        """Raises DestinationError(code="destination_config") for a link that can't be."""
        relation = await self._relation(object, parent)
        target = relation.associations.target
        labels = self.labels.setdefault((object, STANDARD.get(target, target)), {})
        labels[name] = relation.label
        for other, label in labels.items():
            if other != name and (label == relation.label or None in (label, relation.label)):
                raise _unusable(
                    f"`{other}` leads to {parent.object}, too, and one of them would take off what the other has made",
                    "give each a `label` of its own",
                )
        return Field(name, FieldType.REFERENCE, label=parent.label or "", parent=parent)

    async def write(self, batch: Batch, record_ids: Sequence[str]) -> dict[int, Refusal]:
        """See `protocols.Linker.link`."""
        refused: dict[int, Refusal] = {}
        for each in batch.fields:
            if each.parent is not None:
                linking = Linking(await self._relation(batch.object, each.parent), each.name)
                refused |= await linking.run(batch, record_ids)
        return refused

    async def _relation(self, object: str, parent: Parent) -> Relation:
        known = self.relations.get((object, parent))
        if known is None:
            known = self.relations[object, parent] = await self._resolved(object, parent)
        return known

    async def _resolved(self, object: str, parent: Parent) -> Relation:
        if parent.object is None:
            hint = "add `object: companies`, or whatever the link leads to"
            raise _unusable("a link in HubSpot must say which object it leads to", hint)
        try:
            schema = await self.schema_of(parent.object)
        except DestinationError as failure:
            if failure.code != "destination_object":
                raise
            raise _unusable(failure.message, failure.hint) from failure
        if not schema.extensible:
            raise _unusable(f"{parent.object} has no records of its own to link to", "link to another object")
        match = _match(parent.object, parent.match, schema)
        source, target = await self.type_of(object), await self.type_of(parent.object)
        associations = Associations(self.http, self.paths, source, target)
        label = await _label(associations, object, parent)
        return Relation(associations, Parents(parent.object, Records(self.http, self.paths, target), match), label)


class Linking:
    """The links of one field for one batch; `run` once."""

    def __init__(self, relation: Relation, name: str) -> None:
        self.relation = relation
        self.name = name
        self.size = 0
        self.refused: dict[int, Refusal] = {}
        self.rows: dict[Pair, list[int]] = {}  # whose link a pair is to be
        self.off: defaultdict[Pair, list[int]] = defaultdict(list)  # whose link it is no longer

    async def run(self, batch: Batch, record_ids: Sequence[str]) -> dict[int, Refusal]:
        self.size = len(batch)
        new = _texts(batch, self.name, linked=False)
        old = _texts(batch, self.name, linked=True)
        await self._look_up(new, old, record_ids)
        held = await self._held()
        await self._take_off(held)
        await self._make(held)
        return self.refused

    async def _look_up(self, new: Sequence[str | None], old: Sequence[str | None], record_ids: Sequence[str]) -> None:
        parents = self.relation.parents
        leaving = {at: value for at, value in enumerate(old) if value and value != new[at]}
        await parents.look_up([*filter(None, new), *leaving.values()])
        for at, (id, value) in enumerate(zip(record_ids, new, strict=True)):
            found = parents.one(value) if value else None
            if isinstance(found, Refusal):
                self.refused[at] = found
                continue
            if found is not None:
                self.rows.setdefault((id, found), []).append(at)
            for gone in parents.ids(leaving[at]) if at in leaving else ():  # whichever of them it was
                if gone != found:
                    self.off[id, gone].append(at)

    async def _held(self) -> dict[str, dict[str, list[Kind]]]:
        """The labels that the pairs have now: asked for only where some are to be kept."""
        if self.relation.label is None:
            return {}
        return await self.relation.associations.of(id for id, _ in [*self.rows, *self.off])

    # --- taken off ----------------------------------------------------------------------------------------------------

    async def _take_off(self, held: dict[str, dict[str, list[Kind]]]) -> None:
        label, associations = self.relation.label, self.relation.associations
        pairs = [pair for pair in self.off if pair not in self.rows]
        if label is None:
            await self._off(await associations.part(pairs))
            return
        ours = [pair for pair in pairs if label in held.get(pair[0], {}).get(pair[1], ())]
        shared = [pair for pair in ours if _others(held[pair[0]][pair[1]], label)]
        await self._off(await associations.unlabel(shared, label))
        await self._off(await associations.part(pair for pair in ours if pair not in shared))

    async def _off(self, told: Told) -> None:
        """A link that can't be taken off keeps its row from getting another one; one that is gone is off."""
        for pair, (error, request) in told.faults.items():
            if not _is_not_found(error):
                for at in self.off[pair]:
                    self._refuse(at, refusal(error, request=request))

    # --- made ---------------------------------------------------------------------------------------------------------

    async def _make(self, held: dict[str, dict[str, list[Kind]]]) -> None:
        label, associations = self.relation.label, self.relation.associations
        pairs = [pair for pair, rows in self.rows.items() if any(at not in self.refused for at in rows)]
        try:
            if label is None:
                told = await associations.make(pairs)
            else:
                has = {pair: held.get(pair[0], {}).get(pair[1], []) for pair in pairs}
                pairs = [pair for pair in pairs if label not in has[pair]]
                told = await associations.label({pair: [*_others(has[pair], label), label] for pair in pairs})
            await self._look_again(told, pairs)
        except ReverseEtlError as failure:
            if failure.doubtful or isinstance(failure, InDoubt):
                failure.answered = self._perhaps(pairs)
            raise
        faults = {pair: told.faults[pair] for pair in pairs if pair in told.faults}
        if label is not None and faults and label not in await associations.kinds():
            raise _unusable(f"the label {label.label!r} was removed from HubSpot", "take it out of the mapping")
        await self._explain(faults)

    def _perhaps(self, pairs: Sequence[Pair]) -> Outcomes:
        """The rows of these pairs, whose old link is off and whose new one was perhaps made."""
        outcomes = Outcomes(self.size)
        for at in (at for pair in pairs for at in self.rows[pair] if at not in self.refused):
            outcomes.removed(at)
        return outcomes

    async def _look_again(self, told: Told, pairs: Sequence[Pair]) -> None:
        """Of what the answer leaves open, HubSpot's own list decides."""
        silent = told.silent(pairs)
        if not silent:
            return
        held = await self.relation.associations.of(id for id, _ in silent)
        for id, parent in silent:
            kinds = held.get(id, {}).get(parent)
            if kinds is None and self.relation.parents.match.name == RECORD_ID:  # merged, it answers by its new id
                now = await self.relation.parents.records.current_id(parent, None)
                kinds = held.get(id, {}).get(now or "")
            if kinds is not None and self.relation.label in (None, *kinds):
                told.faults.pop((id, parent), None)
            elif (id, parent) not in told.faults:
                self._refuse_all((id, parent), NOT_SAID)

    async def _explain(self, faults: dict[Pair, tuple[Error, str | None]]) -> None:
        """Why a link was refused: one of its ends is gone, or whatever HubSpot says."""
        if not faults:
            return
        lost = [pair for pair, (error, _) in faults.items() if _is_not_found(error)]
        parents, source = self.relation.parents, self.relation.associations.source
        ours = Records(parents.records.http, parents.records.paths, source)
        gone = await _gone(ours, (id for id, _ in lost))
        parents_gone = await _gone(parents.records, (id for _, id in lost))
        for pair, (error, request) in faults.items():
            if pair in lost and pair[0] in gone:
                self._refuse_all(pair, Refusal(RECORD_GONE, f"record {pair[0]} is no longer in HubSpot", request))
            elif pair in lost and pair[1] in parents_gone:
                reason = f"record {pair[1]} of {parents.object} is not in HubSpot"
                self._refuse_all(pair, Refusal(LINK_WAITING, reason, request))
                parents.forget(pair[1])
            else:
                self._refuse_all(pair, refusal(error, request=request))

    def _refuse_all(self, pair: Pair, reason: Refusal) -> None:
        for at in self.rows[pair]:
            self._refuse(at, reason)

    def _refuse(self, at: int, reason: Refusal) -> None:
        self.refused.setdefault(at, reason)


def _texts(batch: Batch, name: str, *, linked: bool) -> list[str | None]:
    """Match values as they go on the wire; blank ones are none."""
    rows = batch.linked if linked else batch.rows
    if rows is None:
        return [None] * len(batch)
    texts = as_text(rows.column(name), Field(name, FieldType.TEXT))
    return [text.strip() or None if text is not None else None for text in texts]


def _others(kinds: Iterable[Kind], label: Kind) -> list[Kind]:
    """The labels beside ours; the plain association comes along by itself."""
    return [kind for kind in kinds if kind.label is not None and kind != label]


def _is_not_found(error: Error) -> bool:
    return "NOT_FOUND" in str(error.get("category"))


async def _gone(records: Records, ids: Iterable[str]) -> set[str]:
    """Those of these ids that no living record answers to, merged ones included."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return set()
    found = await records.find(RECORD_ID, wanted, [], merged=False)
    missing = [id for id in wanted if id not in found]
    merged = {id for id in missing[:LOOKUPS] if await records.current_id(id, None) is not None}
    return set(missing) - merged


def _match(object: str, name: str, schema: ObjectSchema) -> Field:
    """The property that finds the parent."""
    match = schema.fields.get(name)
    if match is None:
        near = nearest(name, schema.fields)
        hint = f"did you mean {near!r}?" if near else f"see `reverse-etl fields` for what {object} have"
        raise _unusable(f"{object} have no property {name!r} to find the link's other record by", hint)
    if match.type in UNFIT:
        raise _unusable(
            f"{object}.{name} is a {match.type}: no record is found by it",
            "find the other record by a text, a number, or hs_object_id",
        )
    return match


async def _label(associations: Associations, object: str, parent: Parent) -> Kind | None:
    """The label's type for this pair and direction. Raises DestinationError, with the labels that there are."""
    try:
        kinds = await associations.kinds()
    except (NotFound, Refused) as refused:
        raise _unusable(
            f"HubSpot can't associate {object} with {parent.object}", "link to another object, or leave the link out"
        ) from refused
    if parent.label is None:
        return None
    by_label = {kind.label.casefold(): kind for kind in kinds if kind.label is not None}
    wanted = parent.label.strip().casefold()
    if wanted in by_label:
        return by_label[wanted]
    near = by_label.get(nearest(wanted, by_label) or "")
    known = ", ".join(str(kind.label) for kind in by_label.values())
    raise _unusable(
        f"from {object} to {parent.object} there is no label {parent.label!r}",
        (f"did you mean {near.label!r}? " if near else "")
        + (f"the labels are: {known}" if known else "there are no labels: make it in HubSpot")
        + "; without `label` the plain association is made",
    )


def _unusable(message: str, hint: str | None) -> DestinationError:
    return DestinationError(message, code="destination_config", hint=hint)
