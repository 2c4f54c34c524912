"""Rows refused before any call: what a destination's own schema forbids, as conditions on the rows that would go out.

Each rule is one SQL condition over the table of outgoing rows; the first that holds names the reason. Rows without a
key, or with a key that comes twice, never get this far: `diff` sets them aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from reverse_etl.config.problems import nearest
from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError
from reverse_etl.localdb import literal, number, quoted
from reverse_etl.mapping import PayloadColumn, Shape
from reverse_etl.model import Field, FieldType, ObjectSchema, Problem

NUMBER = r"^\s*[+-]?\d+(\.\d+)?\s*$"
NO_NUMBER = (FieldType.DATE, FieldType.DATETIME)


@dataclass(frozen=True)
class Rule:
    condition: str
    code: str
    column: str
    message: str


def general_rules(shape: Shape) -> list[Rule]:
    """What no destination can take, known without asking it."""
    rules = []
    for column in shape.payload:
        name = quoted(column.name)
        if column.type == "DOUBLE":
            broken = f"{quoted(column.goes)} AND (isnan({name}) OR isinf({name}))"
            rules.append(Rule(broken, "invalid_number", column.field, "the value is NaN or infinite"))
        elif column.type in ("TIMESTAMP WITH TIME ZONE", "DATE"):
            calendar = f"CAST('0001-01-01' AS {column.type}) AND CAST('9999-12-31 23:59:59.999999' AS {column.type})"
            beyond = f"{quoted(column.goes)} AND {name} NOT BETWEEN {calendar}"
            rules.append(Rule(beyond, "invalid_time", column.field, "the time is not of a year from 1 to 9999"))
        elif column.type == "VARCHAR":
            broken = f"{quoted(column.goes)} AND contains({name}, chr(0))"
            rules.append(Rule(broken, "invalid_text", column.field, "the text holds a NUL character"))
    return rules


def match_rules(shape: Shape, matches: Sequence[str]) -> list[Rule]:
    """A row that no record could be found for: its match values are empty, and no record id is remembered."""
    if not matches:
        return []
    names = [quoted(shape.column(match).name) for match in matches]
    empty = " AND ".join(f"coalesce(trim(CAST({name} AS VARCHAR)), '') = ''" for name in names)
    message = "the field that finds the record is empty"
    if len(matches) > 1:
        message = f"the fields that find the record are all empty: {', '.join(matches)}"
    return [Rule(f"record_id IS NULL AND {empty}", "invalid_null_match", matches[0], message)]


def schema_rules(shape: Shape, fields: Mapping[str, Field]) -> list[Rule]:
    """What this object's own field list forbids."""
    return [rule for column in shape.payload for rule in _field_rules(column, fields[column.field])]


def check_fields(sync: SyncConfig, schema: ObjectSchema, shape: Shape | None = None) -> list[Problem]:
    """Mapped fields that the object doesn't have, or that can't be written, or can't take such a column."""
    return [*_field_problems(sync, schema, shape)]


def refuse_fields(sync: SyncConfig, schema: ObjectSchema, shape: Shape) -> None:
    """Raises ConfigError with everything `check_fields` finds."""
    problems = check_fields(sync, schema, shape)
    if problems:
        raise ConfigError(
            problems, hint=f"see `reverse-etl fields {sync.destination} {sync.object}`; nothing was written"
        )


def refuse_defaults(sync: SyncConfig, shape: Shape, connection: duckdb.DuckDBPyConnection) -> None:
    """Raises ConfigError for a `default` that can't stand in for its column; a NULL need not have come yet."""
    problems = []
    for field, entry in sync.mapping.items():
        type = shape.column(field).type
        if entry.column is None or entry.default is None:
            continue
        if number(connection, f"SELECT count(TRY_CAST({literal(entry.default)} AS {type}))") == 0:
            message = f"`{entry.default}` can't stand in for the column {entry.column}, which is {type}"
            problems.append(sync.problem("mapping", field, "default", message=message))
    if problems:
        raise ConfigError(problems, hint="give a default of the column's type; nothing was sent")


def _field_rules(column: PayloadColumn, field: Field) -> Iterator[Rule]:
    name, goes = quoted(column.name), quoted(column.goes)
    is_text = column.type == "VARCHAR"
    if field.max_length is not None and is_text:
        yield Rule(
            f"{goes} AND length({name}) > {field.max_length}",
            "invalid_too_long",
            field.name,
            f"the text is longer than the {field.max_length} characters the field takes",
        )
    if field.options is not None and field.type in (FieldType.CHOICE, FieldType.CHOICES):
        yield Rule(
            f"{goes} AND {_outside(column, field, name)}",
            "invalid_option",
            field.name,
            f"the value is not one of the field's options ({_shortened(field.options)})",
        )
    if is_text and field.type in (FieldType.NUMBER, FieldType.INTEGER):
        broken = f"{goes} AND NOT regexp_full_match({name}, {literal(NUMBER)})"
        yield Rule(broken, "invalid_number", field.name, "the text is not a number")
    if is_text and field.type in NO_NUMBER:
        broken = f"{goes} AND {name} IS NOT NULL AND TRY_CAST({name} AS TIMESTAMPTZ) IS NULL"
        yield Rule(broken, "invalid_time", field.name, "the text is not a date or time in ISO form")
    if is_text and field.type is FieldType.BOOLEAN:
        broken = f"{goes} AND lower({name}) NOT IN ('true', 'false')"
        yield Rule(broken, "invalid_boolean", field.name, "the text is neither `true` nor `false`")
    yield from _size_rules(column, field, name, goes)


def _size_rules(column: PayloadColumn, field: Field, name: str, goes: str) -> Iterator[Rule]:
    if column.type in ("VARCHAR", "BOOLEAN", "DATE", "TIME") or field.type not in (FieldType.NUMBER, FieldType.INTEGER):
        return
    if field.digits is None or column.type.startswith("TIMESTAMP"):
        return
    whole = field.digits - (field.scale or 0)
    if whole < 18:
        yield Rule(
            f"{goes} AND abs(CAST({name} AS DOUBLE)) >= 1e{whole}",
            "invalid_out_of_range",
            field.name,
            f"the number has more than {whole} digits before the point",
        )


def _outside(column: PayloadColumn, field: Field, name: str) -> str:
    options = "[" + ", ".join(literal(option) for option in field.options or ()) + "]"
    if column.type.endswith("[]"):
        return f"NOT list_has_all({options}, {name})"
    if field.type is FieldType.CHOICES:  # `;a` and the empty text are fine: blank parts name no option
        return f"NOT list_has_all(list_append({options}, ''), string_split(CAST({name} AS VARCHAR), ';'))"
    return f"{name} IS NOT NULL AND NOT list_contains({options}, CAST({name} AS VARCHAR))"


def _shortened(options: Sequence[str]) -> str:
    shown = ", ".join(options[:6])
    return shown if len(options) <= 6 else f"{shown} and {len(options) - 6} more"


def _field_problems(sync: SyncConfig, schema: ObjectSchema, shape: Shape | None) -> Iterator[Problem]:
    for name in sync.mapping:
        field = schema.fields.get(name)
        at = ("mapping", name)
        if field is None:
            message = f"{schema.name} has no field `{name}`"
            yield sync.problem(*at, message=message, nearest=nearest(name, [*schema.fields]), of_key=True)
        elif field.read_only is not None and not (name == sync.match and sync.mode == "update"):
            yield sync.problem(*at, message=f"{schema.name}.{name} can't be written: {field.read_only}", of_key=True)
        elif shape is not None and (misfit := _misfit(shape.column(name), field)):
            yield sync.problem(*at, message=misfit)
    yield from _match_problems(sync, schema)
    if sync.mode in ("upsert", "insert", "mirror"):
        for field in schema.fields.values():
            if field.required_on_create and field.name not in sync.mapping:
                message = f"{schema.name}.{field.name} is required to create a record: map it, or use `mode: update`"
                yield sync.problem("mapping", message=message, of_key=True)


def _match_problems(sync: SyncConfig, schema: ObjectSchema) -> Iterator[Problem]:
    if sync.mode == "append" or (sync.mode == "update" and not sync.fallbacks):
        return
    for at, name in enumerate(sync.matches):
        match = schema.fields.get(name)
        if match is not None and not match.identifies:
            unique = [field.name for field in schema.fields.values() if field.identifies and field.read_only is None]
            message = (
                f"{schema.name}.{name} is not unique at the destination, so it can't find a record; "
                f"unique ones are {', '.join(unique) or 'none yet: make one there first'}"
            )
            yield sync.problem("match", *([at] if sync.fallbacks else []), message=message)


def _misfit(column: PayloadColumn, field: Field) -> str | None:
    """A column type that could never become such a field."""
    if field.type in NO_NUMBER and (
        column.type in ("BIGINT", "DOUBLE", "BOOLEAN") or column.type.startswith("DECIMAL")
    ):
        return f"{field.name} takes a {field.type}, the column is {column.type}: make it a time in the query"
    if field.type in (FieldType.NUMBER, FieldType.INTEGER) and column.type in ("DATE", "TIME", "BOOLEAN"):
        return f"{field.name} takes a number, the column is {column.type}: make it a number in the query"
    return None
