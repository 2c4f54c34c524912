"""Which types of a warehouse arrive exactly, and what to write instead for those that don't."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from reverse_etl.errors import SourceError

# DuckDB's types that arrive exactly through Arrow, by the driver's own names (tried with 1.4.5, 1.5.5 and 2.0.0).
EXACT_DUCKDB = frozenset({
    "boolean", "tinyint", "smallint", "integer", "bigint", "hugeint", "utinyint", "usmallint", "uinteger", "ubigint",
    "decimal", "float", "double", "varchar", "uuid", "enum", "null", "date", "time", "time_ns", "timestamp",
    "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone", "timestamptz_ns",
    "list", "array", "struct", "map",
})  # fmt: skip
# What the others would lose, and the type to cast to; one that isn't named here is newer than this release.
LOST_DUCKDB = {
    "uhugeint": ("is wider than Arrow's decimals", "varchar"),
    "bignum": ("is wider than Arrow's decimals", "varchar"),
    "time with time zone": ("would lose its offset", "varchar"),
    "interval": ("is longer or shorter from month to month", "varchar"),
    "blob": ("is binary", "varchar"),
    "bit": ("is binary", "varchar"),
    "geometry": ("is binary", "varchar"),
    "variant": ("has no fixed type", "json"),
    "union": ("has no fixed type", "varchar"),
    "tuple": ("has no names for its parts", "varchar"),
}


def refuse_duckdb_type(column: str, type: Any) -> None:
    """Raise SourceError when a column's DuckDB type can't arrive exactly; looks inside lists, structs and maps."""
    for part in _parts(type):
        if part.id not in EXACT_DUCKDB:
            why, instead = LOST_DUCKDB.get(part.id, ("this release doesn't know", "varchar"))
            raise unsupported(column, str(type), why, instead)


def holds_hugeint(type: Any) -> bool:
    """Whether values of this DuckDB type can have 39 digits, one more than Arrow's decimals promise."""
    return any(part.id == "hugeint" for part in _parts(type))


def _parts(type: Any) -> Iterator[Any]:
    yield type
    if type.id in ("list", "array", "struct", "map"):
        for _, child in type.children:
            if not isinstance(child, int):  # an array's length stands among its children
                yield from _parts(child)


def refuse_names(names: Sequence[str]) -> None:
    """Raise SourceError when a name is missing or repeated: a mapping could not say which column it means."""
    seen: dict[str, str] = {}
    for name in names:
        if not name:
            raise SourceError("a column of the result has no name", code="source_columns", hint="name it: ... as x")
        earlier = seen.setdefault(name.lower(), name)
        if len(seen) == len(names):
            return
        if list(names).count(name) > 1 or earlier != name:
            spelled = repr(name) if earlier == name else f"{earlier!r} and {name!r} (upper and lower case don't count)"
            raise SourceError(
                f"the result has two columns named {spelled}",
                code="source_columns",
                hint="give each column a name of its own with AS, or list the columns instead of *",
            )


def exact_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that rows are handed on with: enumerations, extension types and NULL columns become text.

    Raises SourceError for a column of a type that can't arrive exactly.
    """
    return pa.schema([pa.field(field.name, _exact_type(field.name, field.type)) for field in schema])


def exact_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in the schema of `exact_schema`; columns that are so already are not copied."""
    if batch.schema.equals(schema):
        return batch
    columns = [_exact_column(batch.column(position), field.type) for position, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _exact_column(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return column if column.type.equals(wanted) else column.cast(wanted)


def _exact_type(name: str, type: pa.DataType) -> pa.DataType:
    if isinstance(type, pa.BaseExtensionType):
        type = type.storage_type
    if pa.types.is_dictionary(type):
        type = type.value_type
    if pa.types.is_null(type) or pa.types.is_large_string(type) or _is_string_view(type):
        return pa.string()
    if pa.types.is_nested(type):
        return _exact_nested(name, type)
    if _is_exact_scalar(type):
        return type
    raise unsupported(name, str(type), "has no exact form", "varchar")


def _exact_nested(name: str, type: pa.DataType) -> pa.DataType:
    if pa.types.is_union(type):
        raise unsupported(name, str(type), "has no fixed type", "varchar")
    if pa.types.is_struct(type):
        return pa.struct([pa.field(part.name, _exact_type(name, part.type)) for part in type])
    if pa.types.is_map(type):
        return pa.map_(_exact_type(name, type.key_type), _exact_type(name, type.item_type))
    if pa.types.is_fixed_size_list(type):
        return pa.list_(_exact_type(name, type.value_type), type.list_size)
    return pa.list_(_exact_type(name, type.value_type))


def _is_exact_scalar(type: pa.DataType) -> bool:
    return bool(
        pa.types.is_boolean(type)
        or pa.types.is_integer(type)
        or pa.types.is_floating(type)
        or pa.types.is_decimal128(type)
        or pa.types.is_string(type)
        or pa.types.is_date32(type)
        or pa.types.is_time(type)
        or pa.types.is_timestamp(type)
    )


def _is_string_view(type: pa.DataType) -> bool:
    return str(type) == "string_view"


def unsupported(name: str, type: str, why: str, instead: str) -> SourceError:
    return SourceError(
        f"column {name!r} is of type {type}, which {why}",
        code="source_type",
        hint=f"cast it in the query, for example: cast({name} as {instead}) as {name}",
    )
