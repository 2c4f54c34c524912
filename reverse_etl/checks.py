"""Rows refused before any call: what a destination's own schema forbids, as conditions on the rows that would go out.

Each rule is one SQL condition over the table of outgoing rows; the first that holds names the reason. Rows without a
key, or with a key that comes twice, never get this far: `diff` sets them aside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from reverse_etl.config.problems import nearest
from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError
from reverse_etl.localdb import literal, number, quoted
from reverse_etl.mapping import PayloadColumn, Shape
from reverse_etl.model import Field, FieldType, ObjectSchema, Problem

NUMBER = r"^\s*[+-]?\d+(\.\d+)?\s*$"
EMAIL = r"^\s*[^@\s]+@[^@\s]+\.[^@\s]+\s*$"
DAY = r"^\s*\d{4}-\d{2}-\d{2}\s*$"
LARGEST = "9" * 38
NO_NUMBER = (FieldType.DATE, FieldType.DATETIME)
CHOICE = (FieldType.CHOICE, FieldType.CHOICES)


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
        elif column.type == "DECIMAL(38,0)":  # DuckDB's HUGEINT reaches a little further
            broken = f"{quoted(column.goes)} AND {name} NOT BETWEEN -{LARGEST} AND {LARGEST}"
            rules.append(Rule(broken, "invalid_number", column.field, "the number has more than 38 digits"))
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
    rules = [rule for column in shape.payload for rule in _field_rules(column, fields[column.field])]
    return [*rules, *_pair_rules(shape, fields)]


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
    if field.is_email and is_text:
        broken = f"{goes} AND trim({name}) <> '' AND NOT regexp_full_match({name}, {literal(EMAIL)})"
        yield Rule(broken, "invalid_email", field.name, "the text is not an e-mail address")
    if field.type in CHOICE:
        yield from _choice_rules(column, field, name, goes)
    if is_text and field.type in (FieldType.NUMBER, FieldType.INTEGER):
        broken = f"{goes} AND NOT regexp_full_match({name}, {literal(NUMBER)})"
        yield Rule(broken, "invalid_number", field.name, "the text is not a number")
    if field.type is FieldType.INTEGER and (is_text or _is_number(column)):
        broken = f"{goes} AND TRY_CAST({name} AS DOUBLE) <> trunc(TRY_CAST({name} AS DOUBLE))"
        yield Rule(broken, "invalid_number", field.name, "the number has a fraction, and the field takes whole ones")
    if is_text and field.type in NO_NUMBER:
        broken = f"{goes} AND {name} IS NOT NULL AND TRY_CAST(trim({name}) AS TIMESTAMPTZ) IS NULL"
        yield Rule(broken, "invalid_time", field.name, "the text is not a date or time in ISO form")
    if is_text and field.type is FieldType.DATE:
        broken = f"{goes} AND {name} IS NOT NULL AND NOT regexp_full_match({name}, {literal(DAY)})"
        yield Rule(broken, "invalid_time", field.name, "the text has a time of day, and the field takes a date")
    if field.type is FieldType.BOOLEAN:
        yield from _boolean_rules(column, field, name, goes)
    yield from _size_rules(column, field, name, goes)


def _boolean_rules(column: PayloadColumn, field: Field, name: str, goes: str) -> Iterator[Rule]:
    if column.type == "VARCHAR":
        broken = f"{goes} AND lower(trim({name})) NOT IN ('true', 'false')"
        yield Rule(broken, "invalid_boolean", field.name, "the text is neither `true` nor `false`")
    elif _is_number(column):
        broken = f"{goes} AND {name} NOT IN (0, 1)"
        yield Rule(broken, "invalid_boolean", field.name, "the number is neither 1 nor 0")


def _is_number(column: PayloadColumn) -> bool:
    return column.type == "DOUBLE" or column.type.endswith("INT") or column.type.startswith("DECIMAL")


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


def _choice_rules(column: PayloadColumn, field: Field, name: str, goes: str) -> Iterator[Rule]:
    if column.type.endswith("[]") and field.type is FieldType.CHOICES:
        message = "a value of the list holds `;`, which stands between values"
        broken = f"{goes} AND len(list_filter({name}, lambda part: contains(part, ';'))) > 0"
        yield Rule(broken, "invalid_option", field.name, message)
    if shared := field.shared_labels:
        message = "the label belongs to several options: give the value of the one that is meant"
        yield Rule(f"{goes} AND {_is_among(shared, column, field)}", "invalid_option", field.name, message)
    if field.options is not None:
        known = [*field.options, *field.by_label]
        message = f"the value is not one of the field's options ({_shortened(field.options)})"
        outside = f"NOT {_is_among(known, column, field, whole=True)}"
        yield Rule(f"{goes} AND {outside}", "invalid_option", field.name, message)


def _is_among(known: Sequence[str], column: PayloadColumn, field: Field, *, whole: bool = False) -> str:
    """Whether a choice is one of these, or of several any is, or all are, `whole`."""
    name, test = quoted(column.name), "list_has_all" if whole else "list_has_any"
    if column.type.endswith("[]"):
        return f"{test}({_list(known)}, {name})"
    listed = _list([*known, *([""] if whole else [])])  # `;a` and the empty text are fine: they name no other option
    if field.type is FieldType.CHOICES:
        return f"{test}({listed}, string_split(CAST({name} AS VARCHAR), ';'))"
    return f"list_contains({listed}, CAST({name} AS VARCHAR))"


def _pair_rules(shape: Shape, fields: Mapping[str, Field]) -> Iterator[Rule]:
    """Two fields of a row that don't go together, such as a stage and the pipeline of another one."""
    mapped = {column.field: column for column in shape.payload}
    for column in shape.payload:
        field = fields[column.field]
        other = None if field.allowed_with is None else mapped.get(field.allowed_with[0])
        if field.allowed_with is None or other is None:
            continue
        allowed = _list(
            f"{one}\n{own}"
            for theirs, mine in field.allowed_with[1]
            for one in _spellings(fields[other.field], theirs)
            for own in _spellings(field, mine)
        )
        name, by = (f"CAST({quoted(each.name)} AS VARCHAR)" for each in (column, other))
        goes = f"({quoted(column.goes)} OR {quoted(other.goes)}) AND {name} <> '' AND {by} <> ''"
        message = f"the value does not belong to this row's {other.field}"
        apart = f"{goes} AND NOT list_contains({allowed}, {by} || chr(10) || {name})"
        yield Rule(apart, "invalid_option", field.name, message)


def _spellings(field: Field, value: str) -> list[str]:
    """An option's value, and the labels that stand for it."""
    return [value, *(label for label, meant in field.by_label.items() if meant == value)]


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(literal(text) for text in texts) + "]::VARCHAR[]"


def _shortened(options: Sequence[str]) -> str:
    shown = ", ".join(options[:6])
    return shown if len(options) <= 6 else f"{shown} and {len(options) - 6} more"


def _field_problems(sync: SyncConfig, schema: ObjectSchema, shape: Shape | None) -> Iterator[Problem]:
    for name in sync.mapping:
        field = schema.fields.get(name)
        at = ("mapping", name)
        if field is None:
            made = f"; `reverse-etl fields {sync.name} --create` makes it" if schema.extensible else ""
            message = f"{schema.name} has no field `{name}`{made}"
            yield sync.problem(*at, message=message, nearest=nearest(name, [*schema.fields]), of_key=True)
        elif (unwritable := _unwritable(sync, field)) is not None:
            yield sync.problem(*at, message=f"{schema.name}.{name} {unwritable}", of_key=True)
        elif field.backward and not field.one_way:
            message = f"{schema.name}.{name} moves either way by itself: take `allow_backward` out"
            yield sync.problem(*at, "allow_backward", message=message, of_key=True)
        elif shape is not None and (misfit := _misfit(shape.column(name), field)):
            yield sync.problem(*at, message=misfit)
    if misplaced := [*_object_problems(sync, schema)]:
        yield from misplaced
        return
    yield from _match_problems(sync, schema)
    if sync.mode in ("upsert", "insert", "mirror"):
        mapped = {name: schema.fields.get(name) for name in sync.mapping}
        given = {*mapped, *(field.sets for field in mapped.values() if field is not None)}
        for field in schema.fields.values():
            if field.required_on_create and field.name not in given:
                message = f"{schema.name}.{field.name} is required to create a record: map it, or use `mode: update`"
                yield sync.problem("mapping", message=message, of_key=True)


def _unwritable(sync: SyncConfig, field: Field) -> str | None:
    """Why this sync can't write a field."""
    if field.read_only is not None and not (field.name == sync.match and sync.mode == "update"):
        return f"can't be written: {field.read_only}"
    if field.create_only and sync.mode != "insert" and field.written != "on_create":
        remedy = "use `mode: insert`" if field.parent else "use `mode: insert`, or add `write: on_create`"
        return f"can be set only while a record is created: {remedy}"
    return None


def _object_problems(sync: SyncConfig, schema: ObjectSchema) -> Iterator[Problem]:
    """What the destination has, and this object of its doesn't."""
    if schema.modes is not None and sync.mode not in schema.modes:
        modes = sorted(schema.modes)
        message = f"{schema.name} has no mode `{sync.mode}`; it has {', '.join(modes)}"
        yield sync.problem("mode", message=message, nearest=modes[0] if len(modes) == 1 else None)
    elif schema.needs_one_of and not sync.mapping.keys() & set(schema.needs_one_of):
        message = f"nothing says whose {schema.name} a row is: map one of {', '.join(schema.needs_one_of)}"
        yield sync.problem("mapping", message=message, of_key=True)
    looks = sync.fallbacks or sync.protects_match or any(entry.write != "always" for entry in sync.mapping.values())
    if looks and not schema.looks_up:
        message = f"{schema.name} finds its rows by one field: leave the list of `match`, `secondary` and `write` out"
        yield sync.problem("match", message=message)


def _match_problems(sync: SyncConfig, schema: ObjectSchema) -> Iterator[Problem]:
    if sync.mode == "append" or (sync.mode == "update" and not sync.fallbacks):
        return
    for at, name in enumerate(sync.matches):
        match = schema.fields.get(name)
        if match is not None and not match.identifies:
            message = (
                f"{schema.name}.{name} is not unique at the destination, so it can't find a record; "
                + _unique_ones(sync, schema)
            )
            yield sync.problem("match", *([at] if sync.fallbacks else []), message=message)


def _unique_ones(sync: SyncConfig, schema: ObjectSchema) -> str:
    """By what records can be found instead."""
    unique = [field.name for field in schema.fields.values() if field.identifies and field.read_only is None]
    if not schema.extensible:
        return f"unique ones are {', '.join(unique) or 'none yet: make one there first'}"
    return (
        f"unique ones are {', '.join(unique) or 'none yet'}. Match by one that holds an id of your own, or map a new "
        f"field, name it in `match`, and `reverse-etl fields {sync.name} --create` makes it as a unique one"
    )


def _misfit(column: PayloadColumn, field: Field) -> str | None:
    """A column type that could never become such a field."""
    if field.type in NO_NUMBER and (
        column.type in ("BIGINT", "DOUBLE", "BOOLEAN") or column.type.startswith("DECIMAL")
    ):
        return f"{field.name} takes a {field.type}, the column is {column.type}: make it a time in the query"
    if field.type in (FieldType.NUMBER, FieldType.INTEGER) and column.type in ("DATE", "TIME", "BOOLEAN"):
        return f"{field.name} takes a number, the column is {column.type}: make it a number in the query"
    return None
