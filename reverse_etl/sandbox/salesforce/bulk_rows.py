"""Bulk CSV: columns resolved once, rows read one by one, values written back as the platform re-formats them.

Rules: https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/datafiles.htm (November 2026).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reverse_etl.sandbox.salesforce import values as checks
from reverse_etl.sandbox.salesforce.errors import RowError, Unparsable
from reverse_etl.sandbox.salesforce.fields import NUMBER_TYPES, Field
from reverse_etl.sandbox.salesforce.org import Org, SObject
from reverse_etl.sandbox.salesforce.saving import ParsedRow

DELIMITERS = {"COMMA": ",", "TAB": "\t", "PIPE": "|", "SEMICOLON": ";", "CARET": "^", "BACKQUOTE": "`"}
NULL = "#N/A"
MOST_FIELD = 131_072


class JobFailure(Exception):
    """The job as a whole can't be carried out; the text is its `errorMessage`."""


@dataclass
class Column:
    """A column of the file: a field of the object, or the key of a parent."""

    name: str
    field: Field
    target: SObject | None = None
    key: Field | None = None


def check_line_ends(data: bytes, ending: str) -> None:
    if ending == "LF" and b"\r\n" in data:
        raise JobFailure("ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is LF")
    if ending == "CRLF" and b"\n" in data.replace(b"\r\n", b""):
        raise JobFailure("ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is CRLF")


def rows(data: bytes, delimiter: str) -> Iterator[list[str]]:
    """The file's rows, its header first; raises `JobFailure` for text that is no CSV."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise JobFailure("InvalidBatch : Failed to parse CSV: not valid UTF-8") from None
    csv.field_size_limit(MOST_FIELD * 4)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[delimiter], strict=True)
    try:
        for row in reader:
            if row:
                yield row
    except csv.Error as error:
        raise JobFailure(f"InvalidBatch : Failed to parse CSV: {error}") from None


def columns(org: Org, sobject: SObject, header: list[str]) -> list[Column]:
    seen: set[str] = set()
    found: list[Column] = []
    for name in header:
        if name.lower() in seen:
            raise JobFailure(f"InvalidBatch : Duplicate column: {name}")
        seen.add(name.lower())
        found.append(_column(org, sobject, name))
    return found


def _column(org: Org, sobject: SObject, name: str) -> Column:
    field = sobject.field(name)
    if field is not None:
        return Column(name, field)
    path, typed, target_name = name, False, None
    if ":" in name:
        target_name, _, path = name.partition(":")
        typed = True
    relation_name, _, key_name = path.partition(".")
    relation = sobject.by_relation.get(relation_name.lower())
    if not key_name:
        raise JobFailure(f"InvalidBatch : Field name not found : {name}")
    if relation is None:
        raise JobFailure(f"InvalidBatch : Unable to find relationship: {relation_name}")
    polymorphic = len(relation.reference_to) > 1
    if typed and not polymorphic:
        raise JobFailure(
            f"InvalidBatch : type is not needed for non polymorphic foreign key references: {relation_name}"
        )
    if polymorphic and not typed:
        raise JobFailure(f"InvalidBatch : type is needed for polymorphic foreign key references: {relation_name}")
    target = org.objects.get(target_name or relation.reference_to[0])
    key = target.field(key_name) if target else None
    if target is None or key is None or not (key.id_lookup or key.name == "Id"):
        raise JobFailure(f"InvalidBatch : Field name not found : {name}")
    return Column(name, relation, target, key)


def parse(columns_: list[Column], row: list[str]) -> tuple[ParsedRow, str | None]:
    """A row's values, and its Id when it has one. An empty cell leaves its field alone, #N/A clears it."""
    values: dict[str, Any] = {}
    parents: dict[str, tuple[SObject, Field, Any]] = {}
    record_id: str | None = None
    unparsable: Unparsable | None = None
    for column, cell in zip(columns_, row, strict=True):
        if column.target is not None and column.key is not None:
            if cell and cell != NULL:
                parents[column.field.name] = (column.target, column.key, cell)
        elif column.field.name == "Id":
            record_id = cell or None
        elif cell:
            try:
                values[column.field.name] = None if cell == NULL else checks.parse(column.field, cell)
            except Unparsable as error:
                unparsable = unparsable or error
    return ParsedRow(values, parents, unparsable), record_id


def check_cells(row: list[str]) -> None:
    if any(len(cell) > MOST_FIELD for cell in row):
        raise RowError("STRING_TOO_LONG", f"a field is longer than {MOST_FIELD} characters")


def written(columns_: list[Column], row: list[str]) -> list[str]:
    """The cells as result files show them: parsed and re-formatted, text unchanged."""
    return [_written(column, cell) for column, cell in zip(columns_, row, strict=True)]


def _written(column: Column, cell: str) -> str:
    if column.target is not None or not cell or cell == NULL:
        return cell
    try:
        value: Any = cell if column.field.is_text else checks.parse(column.field, cell)
    except Unparsable:
        return cell
    if column.field.type in NUMBER_TYPES and value is not None:
        return double_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if column.field.type == "datetime" and value:
        return str(value).replace("+0000", "Z")
    return str(value)


def double_text(value: float) -> str:
    """A double as Java writes it: from ten million on, and below a thousandth, with an exponent."""
    number = Decimal(repr(float(value)))
    if number == 0 or Decimal("0.001") <= abs(number) < Decimal(10_000_000):
        return f"{number:f}" if "." in f"{number:f}" else f"{number:f}.0"
    _, digits, _ = number.normalize().as_tuple()
    mantissa = "".join(map(str, digits))
    sign = "-" if number < 0 else ""
    return f"{sign}{mantissa[0]}.{mantissa[1:] or '0'}E{number.adjusted()}"


def line(cells: list[str], delimiter: str, ending: str) -> str:
    """A line of a result file, every value quoted."""
    mark = DELIMITERS[delimiter]
    return mark.join('"' + cell.replace('"', '""') + '"' for cell in cells) + ("\r\n" if ending == "CRLF" else "\n")
