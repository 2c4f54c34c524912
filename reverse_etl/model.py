"""The nouns, as data: no input or output happens here.

A *row* is ours (a line of the query's result), a *record* is theirs. Rows stay in Arrow columns up to
`Batch.records`, the one place where they become dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import pyarrow as pa

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]


# --- what the user's files are told -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Something wrong in a project's files, with its place; `line` and `column` count from 1, 0 is the whole file.

    Without a `file` it is about what was asked for on the command line.
    """

    file: str
    line: int
    column: int
    text: str
    message: str
    nearest: str | None = None

    def __str__(self) -> str:
        place = self.file if not self.line else f"{self.file}:{self.line}:{self.column}"
        said = f"{place}: {self.message}" if place else self.message
        if self.text:
            said += f" (found: {self.text})"
        if self.nearest:
            said += f"; did you mean {self.nearest!r}?"
        return said

    def to_json(self) -> dict[str, JSON]:
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "text": self.text,
            "message": self.message,
            "nearest": self.nearest,
        }


# --- what is read ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query:
    """One statement for a source. `parameters` are bound by name (`:cursor`, `:last_run_at`), never spliced in."""

    sql: str
    parameters: Mapping[str, object] = field(default_factory=dict)


# --- what a destination is ---------------------------------------------------------------------------------------


class FieldType(StrEnum):
    """What a field takes, over all destinations; `values` has one rendering for each pair of Arrow type and this."""

    TEXT = "text"
    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    TIME = "time"
    CHOICE = "choice"
    CHOICES = "choices"
    REFERENCE = "reference"
    OTHER = "other"


@dataclass(frozen=True)
class Parent:
    """What a field that links to another record names: that record's object, the field that finds it, a label.

    Without an `object` it is the one that the destination's own relationship leads to.
    """

    match: str
    object: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Field:
    """A field of an object at the destination.

    `read_only` is the reason in a few words, None for a field that can be written; `create_only`: it can, but only
    while its record is made. `options` are the values the
    field accepts (None: anything), `folds_case` says that two values differing by case or outer blanks find the same
    record. `max_length` counts characters. `digits` and `scale` bound a number: digits in all, and after the point.
    `labels` are what people see for an option, each with the value that goes out for it. `allowed_with` names another
    field and the pairs of its value and of this one's that go together. A field with a `parent` holds that record's
    match value. `one_way`: the destination moves its value through the options in their order only; `backward`: it is
    made to go back. `is_email`: every value is an e-mail address. `written` is "if_empty" or "on_create" where the
    mapping leaves alone what a record has. `sets` is the field that a link changes under a name of its own.
    """

    name: str
    type: FieldType
    label: str = ""
    identifies: bool = False
    folds_case: bool = False
    read_only: str | None = None
    create_only: bool = False
    required_on_create: bool = False
    clearable: bool = True
    options: tuple[str, ...] | None = None
    max_length: int | None = None
    digits: int | None = None
    scale: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    allowed_with: tuple[str, tuple[tuple[str, str], ...]] | None = None
    parent: Parent | None = None
    one_way: bool = False
    backward: bool = False
    is_email: bool = False
    written: str = "always"
    sets: str | None = None

    @cached_property
    def by_label(self) -> dict[str, str]:
        """Option values by their labels: those that are no option's value, and stand for one option only."""
        found: dict[str, str] = {}
        for label, value in self.labels:
            if found.setdefault(label, value) != value:
                found[label] = ""
        taken = {*(self.options or ()), ""}
        return {label: value for label, value in found.items() if label not in taken and value}

    @property
    def shared_labels(self) -> list[str]:
        """Labels that stand for several options, so that nobody can tell which is meant."""
        known = {*(self.options or ()), *self.by_label, ""}
        return [label for label in dict.fromkeys(label for label, _ in self.labels) if label not in known]


# Renders a whole column for a field, one value a row; see `values`.
Wire = Callable[[pa.Array, Field], Sequence[Any]]


@dataclass(frozen=True)
class ObjectSchema:
    """An object as its destination describes it; `name` is spelled as the destination spells it.

    `modes` are those that this object takes, None: all that its destination has. `needs_one_of`: each row says by one
    of these whose it is. `looks_up` False: a row can't be laid beside its record before it goes out.

    `id_field` is the field by which a record can be read back by its own id, where there is one. `extensible`: fields
    can be made in it.
    """

    name: str
    fields: Mapping[str, Field]
    id_field: str | None = None
    modes: frozenset[str] | None = None
    needs_one_of: tuple[str, ...] = ()
    looks_up: bool = True
    extensible: bool = False


@dataclass(frozen=True)
class Limits:
    """How much a destination takes on one of its write paths: rows a batch, batches at once.

    `path` is the destination's own name for the way, which it finds again in `Batch.path`; `calls` is how many a batch
    takes there. `repeatable` False: a batch that is sent twice does harm, such as a message that people read twice. It
    is written down before it goes out, and what nobody answered for is decided by the sync's `in_doubt`. Removals by id
    always are.
    """

    batch_size: int
    in_flight: int = 4
    path: str = ""
    calls: int = 1
    repeatable: bool = True


class Operation(StrEnum):
    """What a batch asks for. Every row of a batch asks for the same."""

    UPSERT = "upsert"  # find by match; create when absent
    UPDATE = "update"  # by record id when known, else find by match; never create
    CREATE = "create"  # never touch an existing record
    REMOVE = "remove"  # by record id: archive or delete, whichever the destination has
    APPEND = "append"  # a new event or message, which finds and changes nothing


class Chunk:
    """Rows as they come out of the local database, many batches at once; a column is rendered once for all of them."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self.rows = rows
        self._rendered: dict[tuple[Wire, str], Sequence[Any]] = {}

    def rendered(self, wire: Wire, field: Field) -> Sequence[Any]:
        """A whole column as wire values."""
        known = self._rendered.get((wire, field.name))
        if known is None:
            known = self._rendered[wire, field.name] = wire(self.rows.column(field.name), field)
        return known


@dataclass(frozen=True)
class Batch:
    """Rows that go out together: one object, one operation, at most `Limits.batch_size` of them.

    `rows` has one column a mapped field, under the destination's name, in the mapping's order. `sends` says which
    values of a row go out: a boolean column a field, or None for "every value that isn't NULL". `keys` are the rows'
    keys as text, `record_ids` what we remember (NULL where nothing is). `linked` has the acknowledged value of each
    field with a parent.
    """

    object: str
    operation: Operation
    match: str
    fields: tuple[Field, ...]
    rows: pa.RecordBatch
    keys: pa.StringArray
    record_ids: pa.StringArray
    sends: pa.RecordBatch | None = None
    linked: pa.RecordBatch | None = None
    recreates: bool = True  # whether a record found to be gone may be made anew
    refinds: bool = False  # whether it may be another one, which the match value finds
    sync: str = ""
    path: str = ""  # of `Limits`
    repeatable: bool = True  # of `Limits`
    chunk: Chunk | None = None  # the larger part that `rows` is a window on, from `start`
    start: int = 0

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def slice(self, start: int, size: int) -> Batch:
        """A part of the same batch, without copying."""
        part = self._with(lambda columns: columns.slice(start, size))
        return replace(part, start=self.start + start)

    def take(self, positions: Sequence[int]) -> Batch:
        """The rows at these positions, in this order."""
        chosen = pa.array(positions, pa.int64())
        return replace(self._with(lambda columns: columns.take(chosen)), chunk=None, start=0)

    def of(self, fields: Sequence[Field]) -> Batch:
        """The same rows with only these of their fields."""
        names = [field.name for field in fields]
        return replace(
            self,
            fields=tuple(fields),
            rows=self.rows.select(names),
            sends=None if self.sends is None else self.sends.select(names),
        )

    def records(self, wire: Wire) -> Iterator[dict[str, Any]]:
        """Each row as the destination's field names and wire values: None clears a field, an absent one is left alone.

        `wire` renders a whole column for a field and returns as many values; see `values`.
        """
        columns = [self.rendered(wire, field) for field in self.fields]
        names = [field.name for field in self.fields]
        if self.sends is None:
            for values in zip(*columns, strict=True):
                record = dict(zip(names, values, strict=True))
                yield {name: value for name, value in record.items() if value is not None} if None in values else record
            return
        masks = [column.to_pylist() for column in self.sends.columns]
        for values, sent in zip(zip(*columns, strict=True), zip(*masks, strict=True), strict=True):
            yield {name: value for name, value, goes in zip(names, values, sent, strict=True) if goes}

    def match_values(self, wire: Wire) -> Sequence[Any]:
        """The value that finds each row's record, as it goes on the wire."""
        return self.rendered(wire, next(field for field in self.fields if field.name == self.match))

    def rendered(self, wire: Wire, field: Field) -> Sequence[Any]:
        """One field's values, as they go on the wire."""
        if self.chunk is None:
            return wire(self.rows.column(field.name), field)
        return self.chunk.rendered(wire, field)[self.start : self.start + len(self)]

    def _with(self, cut: Callable[[pa.RecordBatch | pa.Array], pa.RecordBatch | pa.Array]) -> Batch:
        return replace(
            self,
            rows=cut(self.rows),
            keys=cut(self.keys),
            record_ids=cut(self.record_ids),
            sends=None if self.sends is None else cut(self.sends),
            linked=None if self.linked is None else cut(self.linked),
        )
