"""What a definition means, and what it must keep to: defaults put in, forms made one, parts held against each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reverse_etl.config.alerts import AlertRules, alert_rules
from reverse_etl.config.definition import (
    AfterFile,
    CursorFile,
    DefaultsFile,
    GuardFile,
    MappingFile,
    MatchFile,
    RemovedSetFile,
    SyncFile,
)
from reverse_etl.config.problems import Places, elsewhere, from_pydantic, nearest
from reverse_etl.config.schedule import After, Cron, Every, Schedule, parse_duration, parse_schedule
from reverse_etl.config.sync import CursorConfig, FieldMapping, GuardConfig, RemovedSet, SyncConfig
from reverse_etl.config.timing import Timing, timing_of
from reverse_etl.config.tree import read_file
from reverse_etl.config.words import share_of
from reverse_etl.model import Parent, Problem
from reverse_etl.protocols import Destination

OPTIONS = frozenset({"allow_duplicates", "hard", "on_converted"})  # known to some kinds of destination only
MAX_SQL_BYTES = 1024 * 1024
# Takes the place of keys that are broken, so that the rest of a definition is looked at in the same go.
_STAND_IN: dict[str, Any] = {"source": "-", "key": "-", "destination": "-", "object": "-", "mapping": {"-": "-"}}


@dataclass(frozen=True)
class Surroundings:
    """What a definition may refer to; None is what can't be told, as the project file is broken.

    `connectors` lacks the destinations that are broken themselves.
    """

    root: Path
    sources: Sequence[str] | None
    destinations: Sequence[str] | None
    connectors: Mapping[str, type[Destination]]
    syncs: Collection[str]
    channels: Sequence[str] | None = None


@dataclass(frozen=True)
class Definition:
    """A definition's file. `places` knows the project's defaults, too, for what the file leaves out."""

    name: str
    file: Path
    places: Places


def settle(
    definition: Definition,
    data: dict[str, Any],
    defaults: DefaultsFile,
    around: Surroundings,
    known: Sequence[Problem] = (),
) -> tuple[SyncConfig | None, list[Problem]]:
    """The sync that a definition describes, or everything that is wrong with it beyond the problems known already."""
    problems: list[Problem] = []
    broken = definition.places.keys_with(known)
    try:
        written = SyncFile.model_validate(data)
    except ValidationError as failure:
        problems = from_pydantic(failure, definition.places, SyncFile)
        refused = {str(error["loc"][0]) for error in failure.errors()}
        broken |= refused | {problem.nearest for problem in problems if problem.nearest is not None}
        written = SyncFile.model_validate(_STAND_IN | {key: data[key] for key in data if key not in refused})
    rules = _Rules(definition, written, _merged(written, defaults), around, broken)
    sync = rules.settled()
    problems = elsewhere([*problems, *rules.problems], known)
    return (None if problems else sync.located(definition.places)), problems


def _merged(written: SyncFile, defaults: DefaultsFile) -> SyncFile:
    """The definition with the project's defaults for the keys that it leaves out; guards are merged one by one."""
    inherited = {key: getattr(defaults, key) for key in defaults.model_fields_set - written.model_fields_set}
    if "guard" in defaults.model_fields_set and "guard" in written.model_fields_set:
        own = {key: getattr(written.guard, key) for key in written.guard.model_fields_set}
        inherited["guard"] = defaults.guard.model_copy(update=own)
    return written.model_copy(update=inherited)


class _Rules:
    """Holds the parts of one definition against each other; a part that is broken itself is held against nothing."""

    def __init__(
        self, definition: Definition, own: SyncFile, merged: SyncFile, around: Surroundings, broken: AbstractSet[str]
    ) -> None:
        self.problems: list[Problem] = []
        self._broken = broken
        self._name = definition.name
        self._file = definition.file
        self._places = definition.places
        self._own = own
        self._merged = merged
        self._around = around
        self._connector = around.connectors.get(merged.destination)

    def settled(self) -> SyncConfig:
        merged = self._merged
        self._known("source", merged.source, self._around.sources)
        self._known("destination", merged.destination, self._around.destinations)
        key = (merged.key,) if isinstance(merged.key, str) else tuple(merged.key)
        if len(set(key)) < len(key):
            self._complain(("key",), "names a column twice")
        mapping = {field: self._field(field, entry) for field, entry in merged.mapping.items()}
        cursor = self._cursor()
        on_removed = self._on_removed(mapping)
        self._mode()
        matches = self._matches(key, mapping)
        return SyncConfig(
            name=self._name,
            file=self._file,
            description=merged.description or "",
            source=merged.source,
            sql=self._sql(),
            table=merged.table,
            key=key,
            cursor=cursor,
            destination=merged.destination,
            object=merged.object,
            match=matches[0] if matches else "",
            fallbacks=matches[1:],
            protects_match=isinstance(merged.match, MatchFile) and merged.match.secondary == "protect",
            mode=merged.mode,
            mapping=mapping,
            on_removed=on_removed,
            first_run=merged.first_run,
            schedule=self._schedule(),
            timezone=merged.timezone,
            guard=_guard(merged.guard),
            full_scan=self._full_scan(removes=on_removed != "ignore"),
            in_doubt=merged.in_doubt,
            on_duplicate=merged.on_duplicate,
            log_to=merged.log_to,
            options=self._options(),
            tags=tuple(merged.tags),
            enabled=merged.enabled,
            timing=self._timing(),
            alerts=self._alerts(),
        )

    def _options(self) -> dict[str, bool | str]:
        """What is set of the keys that only some kinds of destination know."""
        known = OPTIONS if self._connector is None else getattr(self._connector, "options", frozenset())
        for key in sorted(OPTIONS & self._own.model_fields_set - known):
            self._complain((key,), f"`{self._merged.destination}` has no such choice: take it out", of_key=True)
        return {key: getattr(self._merged, key) for key in sorted(OPTIONS & known)}

    def _known(self, kind: str, name: str, known: Sequence[str] | None) -> None:
        if known is not None and name not in known:
            listed = ", ".join(known) if known else "none"
            message = f"reverse_etl.yml has no {kind} `{name}`; it has {listed}"
            self._complain((kind,), message, nearest=nearest(name, known))

    def _sql(self) -> str | None:
        given = [key for key in ("query", "query_file", "table") if getattr(self._own, key) is not None]
        if len(given) != 1:
            if given:
                self._complain((given[1],), f"stands beside `{given[0]}`: keep one of them", of_key=True)
            else:
                message = "`query` is missing here (or `query_file`, or `table`)"
                self._complain((), message, beside=("query", "query_file", "table"), of_key=True)
            return None
        if self._own.query_file is not None:
            return self._sql_of_file(self._own.query_file)
        if self._own.query is not None and not self._own.query.strip():
            self._complain(("query",), "should not be empty", of_key=True)
        return self._own.query

    def _sql_of_file(self, written: str) -> str:
        root = self._around.root.resolve()
        path = (self._file.parent / written).resolve()
        if not path.is_relative_to(root):
            self._complain(("query_file",), "should stay inside the project's folder")
            return ""
        if not path.is_file():
            beside = sorted(found.name for found in self._file.parent.glob("*.sql"))
            message = "there is no such file; its path goes from the folder of this one"
            self._complain(("query_file",), message, nearest=nearest(written, beside))
            return ""
        text, problems = read_file(path, path.relative_to(root).as_posix(), most=MAX_SQL_BYTES)
        self.problems += problems
        if not text.strip() and not problems:
            self._complain(("query_file",), "is an empty file")
        return text

    def _field(self, field: str, entry: str | MappingFile) -> FieldMapping:
        if isinstance(entry, str):
            return FieldMapping(column=entry, nulls=self._merged.nulls)
        at = ("mapping", field)
        given = entry.model_fields_set
        if entry.match is not None:
            return self._link(at, entry)
        for key in sorted(given & {"object", "label"}):
            message = f"`{key}` is for a link, which has a `match: {{field: column}}`, too"
            self._complain((*at, key), message, of_key=True)
        if ("column" in given) == ("value" in given):
            message = "should have either `column` or `value`" + (", not both" if "value" in given else "")
            self._complain(at, message, of_key=True)
        if "value" in given:
            for key in sorted(given & {"default", "nulls"}):
                self._complain((*at, key), f"`{key}` makes no sense for a constant, which is never NULL", of_key=True)
        return FieldMapping(
            column=entry.column,
            value=entry.value,
            default=entry.default,
            nulls=entry.nulls or self._merged.nulls,
            compare=entry.compare,
            write=entry.write,
            allow_backward=entry.allow_backward,
        )

    def _link(self, at: tuple[str, str], entry: MappingFile) -> FieldMapping:
        """A field that names another record."""
        for key in sorted(entry.model_fields_set & {"column", "value", "write", "allow_backward"}):
            self._complain((*at, key), f"`{key}` makes no sense for a link: leave it out", of_key=True)
        ((field, column),) = (entry.match or {"": ""}).items()
        return FieldMapping(
            column=column,
            default=entry.default,
            nulls=entry.nulls or self._merged.nulls,
            compare=entry.compare,
            parent=Parent(field, entry.object, entry.label),
        )

    def _matches(self, key: tuple[str, ...], mapping: Mapping[str, FieldMapping]) -> tuple[str, ...]:
        """The fields that find a record, in the order in which they are asked; an event finds none."""
        match = self._merged.match
        if self._merged.mode == "append":
            looks = [("mapping", field, "write") for field, entry in mapping.items() if entry.write != "always"]
            for at in [*looks, *([("match",)] if match is not None else [])]:
                self._complain(at, "`mode: append` finds no record: leave it out", of_key=True)
            return ()
        if isinstance(match, list):
            if len(set(match)) < len(match):
                self._complain(("match",), "names a field twice")
            return tuple(self._found_by(each, ("match", at), mapping) for at, each in enumerate(match))
        if isinstance(match, MatchFile):
            return (self._found_by(match.field, ("match", "field"), mapping),)
        if match is not None:
            return (self._found_by(match, ("match",), mapping),)
        return self._default_match(key, mapping)

    def _default_match(self, key: tuple[str, ...], mapping: Mapping[str, FieldMapping]) -> tuple[str, ...]:
        fields = [
            field
            for field, entry in mapping.items()
            if len(key) == 1 and entry.column == key[0] and entry.parent is None
        ]
        if len(fields) == 1:
            return (fields[0],)
        why = f"the key has {len(key)} columns" if len(key) > 1 else f"{len(fields)} fields hold the key's column"
        message = f"`match` is missing here: name the field that finds the record, as {why}"
        self._complain((), message, beside=("match", "mapping", "key"), of_key=True)
        return ()

    def _found_by(self, field: str, at: tuple[str | int, ...], mapping: Mapping[str, FieldMapping]) -> str:
        entry = mapping.get(field)
        if entry is None:
            message = f"the mapping has no field `{field}`: what finds the record must be mapped"
            self._complain(at, message, beside=["mapping"], nearest=nearest(field, list(mapping)))
        elif entry.column is None or entry.parent is not None:
            what = "a link" if entry.parent is not None else "a constant"
            self._complain(at, f"`{field}` is {what} in the mapping: it can't tell records apart", beside=["mapping"])
        elif entry.write != "always":
            message = f"`{field}` finds the record, so it can't be written {entry.write.replace('_', ' ')}"
            self._complain(at, message, beside=["mapping"])
        return field

    def _cursor(self) -> CursorConfig | None:
        cursor = self._merged.cursor
        if not isinstance(cursor, CursorFile):
            return None if cursor is None else CursorConfig(column=cursor)
        lag: timedelta | None = None
        if cursor.lag is not None:
            lag = parse_duration(cursor.lag) if isinstance(cursor.lag, str) else timedelta()
        return CursorConfig(column=cursor.column, start=cursor.start, lag=lag)

    def _mode(self) -> None:
        mode, connector = self._merged.mode, self._connector
        if connector is not None and mode not in connector.modes:
            modes = sorted(connector.modes)
            message = f"`{self._merged.destination}` has no mode `{mode}`; it has {', '.join(modes)}"
            self._complain(("mode",), message)

    def _on_removed(self, mapping: Mapping[str, FieldMapping]) -> Any:
        written, mirrors = self._merged.on_removed, self._merged.mode == "mirror"
        word = self._connector.removal if self._connector is not None else None
        if self._merged.mode == "append":
            if self._own.on_removed not in (None, "ignore"):
                self._complain(("on_removed",), "`mode: append` takes nothing back: leave it out", of_key=True)
            return "ignore"
        if mirrors:
            if word is not None and self._own.on_removed not in {None, word}:
                message = f"contradicts `mode: mirror`, which means `{word}` here: leave it out"
                self._complain(("on_removed",), message, nearest=word)
            return word or "archive"
        if isinstance(written, RemovedSetFile):
            for field in written.set:
                if field not in mapping:
                    message = f"the mapping has no field `{field}`: what is set must be mapped"
                    near = nearest(field, list(mapping))
                    self._complain(("on_removed", "set", field), message, beside=["mapping"], nearest=near, of_key=True)
            return RemovedSet(set=dict(written.set))
        if written not in {None, "ignore", word} and word is not None:
            message = f"`{self._merged.destination}` can't {written} records: the word here is `{word}`"
            self._complain(("on_removed",), message, nearest=word)
        return written or "ignore"

    def _schedule(self) -> Schedule | None:
        schedule = self._merged.schedule
        if not isinstance(schedule, AfterFile):
            return None if schedule is None else parse_schedule(schedule)
        after = (schedule.after,) if isinstance(schedule.after, str) else tuple(schedule.after)
        for position, other in enumerate(after):
            at = ("schedule", "after") if isinstance(schedule.after, str) else ("schedule", "after", position)
            if other == self._name:
                self._complain(at, "a sync can't wait for itself")
            elif other not in self._around.syncs:
                others = sorted(name for name in self._around.syncs if name != self._name)
                self._complain(at, f"there is no sync `{other}`", nearest=nearest(other, others))
        return After(after)

    def _full_scan(self, *, removes: bool) -> Every | Cron | None:
        written = self._merged.full_scan
        if self._merged.cursor is None:
            if self._own.full_scan is not None:
                message = "is only for a sync with a `cursor`: without one every run reads completely"
                self._complain(("full_scan",), message, beside=["cursor"], of_key=True)
            return None
        if written is None and removes:
            message = (
                "hides which rows have left the result, and this sync must know (`mode: mirror` or `on_removed`): "
                "add `full_scan`, such as `full_scan: every 1 day`, or drop the cursor"
            )
            beside = ("full_scan", "mode", "on_removed")
            self._complain(("cursor",), message, beside=beside, of_key=True)
        if isinstance(written, AfterFile):
            self._complain(
                ("full_scan", "after"), "`after` is not supported yet here: write an interval or a cron line"
            )
            return None
        return None if written is None else parse_schedule(written)

    def _timing(self) -> Timing:
        if self._own.after_failure is not None and not isinstance(self._merged.schedule, AfterFile):
            message = "is only for a sync that runs after others: `schedule: {after: ...}`"
            self._complain(("after_failure",), message, beside=["schedule"], of_key=True)
        return timing_of(self._merged)

    def _alerts(self) -> AlertRules:
        rules = alert_rules(self._merged.alerts)
        for name in rules.to or ():
            if self._around.channels is not None and name not in self._around.channels:
                listed = ", ".join(self._around.channels) or "none"
                message = f"reverse_etl.yml has no channel `{name}` under daemon.alerts; it has {listed}"
                self._complain(("alerts", "to"), message, nearest=nearest(name, self._around.channels))
        return rules

    def _complain(
        self,
        path: tuple[str | int, ...],
        message: str,
        *,
        beside: Sequence[str] = (),
        nearest: str | None = None,
        of_key: bool = False,
    ) -> None:
        """Notes a problem unless the key, or one of those it is held against, is broken."""
        if self._broken and not self._broken.isdisjoint([*path[:1], *beside]):
            return
        self.problems.append(self._places.problem(path, message, nearest=nearest, of_key=of_key))


def _guard(written: GuardFile) -> GuardConfig:
    """The shares as numbers; a floor only stays beside the default that it belongs to."""
    shares: dict[str, Any] = {}
    for key in written.model_fields_set:
        shares[key] = share_of(getattr(written, key))
        if key != "max_changed":
            shares[key.replace("max_", "") + "_floor"] = 0
    return GuardConfig(**shares)
