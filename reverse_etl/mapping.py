"""Warehouse columns to destination fields, as SQL over one spooled result.

Each value gets a canonical type first, so that a change of type that changes no value changes nothing downstream:
whole numbers are BIGINT, floats DOUBLE, decimals keep every digit, times carry an offset (a naive one is read in the
sync's time zone), lists are lists of text, structures JSON text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from reverse_etl.config.problems import nearest
from reverse_etl.config.sync import FieldMapping, SyncConfig
from reverse_etl.digests import Digests
from reverse_etl.errors import ConfigError
from reverse_etl.localdb import canonical_text, literal, quoted

SMALL_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32())


@dataclass(frozen=True)
class Column:
    """One value of a row: the SQL that gives it, its DuckDB type, and the name it has from then on."""

    name: str
    expression: str
    type: str


@dataclass(frozen=True)
class PayloadColumn(Column):
    """A mapped field. `compare` False: sent along, never a reason to send; `keep_on_null`: a NULL is not a value.

    `links`: the value is what finds another record. `digested`: what is kept of it is a digest, and of one that finds
    records (`finds`) a second one, in which case and outer blanks don't count.
    """

    field: str
    compare: bool
    keep_on_null: bool
    links: bool = False
    digested: bool = False
    finds: bool = False

    @property
    def old(self) -> str:
        """The name of the acknowledged value, or its digest, beside the new one."""
        return f"o_{self.field}"

    @property
    def digest(self) -> str:
        """The name of the value's digest."""
        return f"x_{self.field}"

    @property
    def folded(self) -> str:
        """The name of the digest in which case and outer blanks don't count."""
        return f"y_{self.field}"

    @property
    def old_folded(self) -> str:
        """The name of the acknowledged one, beside the new one."""
        return f"z_{self.field}"

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of what the snapshot keeps of it."""
        if not self.digested:
            return (self.name,)
        return (self.digest, self.folded) if self.finds else (self.digest,)

    @property
    def goes(self) -> str:
        """The name of the flag that says whether the value goes out."""
        return f"d_{self.field}"

    @property
    def sent_with(self) -> tuple[str, ...]:
        """The names that its batch needs of it; a link that changes is taken off before it is made."""
        names = (self.name, self.goes, self.old) if self.links else (self.name, self.goes)
        return (*names, *self.kept) if self.digested else names


@dataclass(frozen=True)
class Shape:
    """What a sync makes of a result: its key columns, its cursor column, its payload."""

    keys: tuple[Column, ...]
    key_text: str
    payload: tuple[PayloadColumn, ...]
    cursor: str | None
    sources: frozenset[str]  # the result's columns that any of this is made of
    digests: Digests | None = None  # where no values are kept

    @property
    def key_order(self) -> str:
        """Key order as a person expects it: numbers by value, not by their text."""
        return ", ".join(quoted(key.name) for key in self.typed_keys) or "key"

    @property
    def typed_keys(self) -> tuple[Column, ...]:
        """Key columns that are kept beside the key's text, for their order; a single text is its own."""
        return () if len(self.keys) == 1 and self.keys[0].type == "VARCHAR" else self.keys

    @property
    def compared(self) -> tuple[PayloadColumn, ...]:
        return tuple(column for column in self.payload if column.compare)

    @property
    def hash(self) -> str:
        """A 64-bit fingerprint of what is compared; equal ones mean unchanged; where they differ, the columns decide.

        It begins with the columns' names and types: in DuckDB `hash(0)` and `hash(0, 0)` are one number, and without
        them a field added to the mapping could pass for no change.
        """
        named = ",".join(f"{column.name} {column.type}" for column in self.compared)
        plain = f"hash({', '.join([literal(named), *(quoted(column.name) for column in self.compared)])})"
        return plain if self.digests is None else self.digests.of_fingerprint(plain)

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of what the snapshot keeps of the payload."""
        return tuple(name for column in self.payload for name in column.kept)

    def column(self, field: str) -> PayloadColumn:
        return next(column for column in self.payload if column.field == field)


def shape_of(sync: SyncConfig, schema: pa.Schema, digests: Digests | None = None) -> Shape:
    """How this result becomes the sync's payload. Raises ConfigError when a mapped, key or cursor column is missing."""
    digested = digests is not None
    _refuse_missing(sync, schema)
    keys = tuple(
        Column(f"k{position}", *_canonical(quoted(name), schema.field(name).type, sync.timezone))
        for position, name in enumerate(sync.key)
    )
    return Shape(
        keys=keys,
        key_text=_key_text(keys),
        payload=tuple(
            _payload_column(field, entry, schema, sync, digested=digested) for field, entry in sync.mapping.items()
        ),
        digests=digests,
        cursor=None if sync.cursor is None else quoted(sync.cursor.column),
        sources=frozenset(
            {*sync.key, *([sync.cursor.column] if sync.cursor else [])}
            | {entry.column for entry in sync.mapping.values() if entry.column is not None}
        ),
    )


def literal_as(value: object, type: str) -> str:
    """A scalar of a definition file as SQL of a column's type."""
    return f"CAST({literal(value)} AS {type})"


def key_kinds(shape: Shape) -> tuple[str, ...]:
    """For each key column whether its text stands for a number, a boolean or itself; see `key_value`."""
    return tuple(_kind(key.type) for key in shape.keys)


def _kind(type: str) -> str:
    if type == "BOOLEAN":
        return "boolean"
    return "number" if type in ("BIGINT", "DOUBLE") or type.startswith("DECIMAL") else "text"


def _key_text(keys: Sequence[Column]) -> str:
    if len(keys) == 1:
        return canonical_text(keys[0].expression, keys[0].type)
    parts = []
    for key in keys:
        text = canonical_text(key.expression, key.type)
        parts.append(text if _kind(key.type) != "text" else f"CAST(to_json({text}) AS VARCHAR)")
    return "'[' || " + " || ', ' || ".join(parts) + " || ']'"


def _payload_column(
    field: str, entry: FieldMapping, schema: pa.Schema, sync: SyncConfig, *, digested: bool
) -> PayloadColumn:
    if entry.column is None:
        expression, type = literal(entry.value), _literal_type(entry.value)
    else:
        expression, type = _canonical(quoted(entry.column), schema.field(entry.column).type, sync.timezone)
        if entry.default is not None:
            expression = f"coalesce({expression}, CAST({literal(entry.default)} AS {type}))"
    return PayloadColumn(
        name=f"f_{field}",
        expression=f"CAST({expression} AS {type})",
        type=type,
        field=field,
        compare=entry.compare,
        keep_on_null=entry.nulls == "ignore",
        links=entry.parent is not None,
        digested=digested and entry.parent is None,  # a link's old parent has to be found to be taken off
        finds=field == sync.match,
    )


def _literal_type(value: object) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT"
    return "DOUBLE" if isinstance(value, float) else "VARCHAR"


def _canonical(column: str, arrow: pa.DataType, timezone: str) -> tuple[str, str]:  # noqa: PLR0912, C901  # one table
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
    if pa.types.is_boolean(arrow):
        return column, "BOOLEAN"
    if arrow in SMALL_INTEGERS:
        return column, "BIGINT"
    if pa.types.is_uint64(arrow):
        return column, "DECIMAL(20,0)"
    if pa.types.is_decimal(arrow):
        return column, f"DECIMAL({arrow.precision},{arrow.scale})"
    if pa.types.is_float32(arrow) or pa.types.is_float16(arrow):
        return f"CAST(CAST({column} AS VARCHAR) AS DOUBLE)", "DOUBLE"  # 0.1 stays 0.1
    if pa.types.is_float64(arrow):
        return column, "DOUBLE"
    if pa.types.is_date(arrow):
        return column, "DATE"
    if pa.types.is_time(arrow):
        return column, "TIME"
    if pa.types.is_timestamp(arrow):
        if arrow.tz is not None:
            return column, "TIMESTAMP WITH TIME ZONE"
        naive = f"CAST({column} AS TIMESTAMP)"
        if timezone == "UTC":  # the same, without asking the calendar for every row
            quick, endless = f"make_timestamptz(epoch_us({naive}))", f"timezone('UTC', {naive})"
            return f"CASE WHEN isfinite({naive}) THEN {quick} ELSE {endless} END", "TIMESTAMP WITH TIME ZONE"
        return f"timezone({literal(timezone)}, {naive})", "TIMESTAMP WITH TIME ZONE"
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow):
        return column, "VARCHAR[]"
    if pa.types.is_struct(arrow) or pa.types.is_map(arrow):
        return f"CAST(to_json({column}) AS VARCHAR)", "VARCHAR"
    return column, "VARCHAR"


def _refuse_missing(sync: SyncConfig, schema: pa.Schema) -> None:
    wanted: list[tuple[str, tuple[str | int, ...]]] = [(name, ("key", at)) for at, name in enumerate(sync.key)]
    for field, entry in sync.mapping.items():
        if entry.column is not None:
            wanted.append((entry.column, ("mapping", field, "column")))
    if sync.cursor is not None:
        wanted.append((sync.cursor.column, ("cursor", "column")))
    problems = [
        sync.problem(
            *path,
            message=f"the query's result has no column {name!r}; it has {', '.join(schema.names)}",
            nearest=nearest(name, schema.names),
        )
        for name, path in wanted
        if name not in schema.names
    ]
    if problems:
        raise ConfigError(problems, hint="correct the mapping or the query; nothing was sent")
