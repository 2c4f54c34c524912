"""Reading back: SOQL in as few queries as the length of a URL allows.

A request's line and headers may take 16,384 bytes, a string in a condition 4,000 characters; a number must stand
bare and a text quoted, or the query is refused. (REST API guide, "Query"; SOQL and SOSL reference, "Quoted String
Escape Sequences"; v62.0, read in 2026.)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

from reverse_etl.destinations.salesforce.schema import IDENTIFIER
from reverse_etl.errors import PluginError
from reverse_etl.model import Field, FieldType

MOST_BYTES = 12_000
MOST_VALUES = 1_000
LONGEST_TEXT = 4_000

_ESCAPES = str.maketrans(
    {"\\": "\\\\", "'": "\\'", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")


class Found:
    """The records that each of some values finds, in the order of their ids."""

    def __init__(self, match: Field, values: Iterable[str]) -> None:
        self._match = match
        self._asked: defaultdict[str, list[str]] = defaultdict(list)
        for value in dict.fromkeys(values):
            self._asked[_comparable(match, value)].append(value)
        self._found: dict[str, dict[str, dict[str, Any]]] = {}

    @property
    def values(self) -> list[str]:
        """What was asked for, spellings of one value side by side."""
        return [value for same in self._asked.values() for value in same]

    def add(self, record: dict[str, Any]) -> None:
        """A record, with its "Id" and the field that is matched; one that nobody asked for is left out."""
        for value in self._asked.get(_comparable(self._match, record.get(self._match.name)), ()):
            self._found.setdefault(value, {}).setdefault(str(record["Id"]), record)

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """By value, in the order in which they were asked for; one that finds none is left out."""
        found = ((value, self._found[value]) for value in self.values if value in self._found)
        return {value: [known[each] for each in sorted(known)] for value, known in found}


def queries(object: str, match: Field, values: Iterable[str], fields: Sequence[str] = ()) -> Iterator[str]:
    """Statements that together ask for every value; one that no record can hold is not asked for."""
    head = f"{_selection(object, columns(match, fields))} WHERE {match.name} IN ("
    room = MOST_BYTES - len(quote(head, safe=""))
    packed: list[str] = []
    size = 0
    for literal in (literal for value in values if (literal := _literal(match, value)) is not None):
        cost = len(quote(literal + ",", safe=""))
        if packed and (size + cost > room or len(packed) == MOST_VALUES):
            yield f"{head}{','.join(packed)})"
            packed, size = [], 0
        packed.append(literal)
        size += cost
    if packed:
        yield f"{head}{','.join(packed)})"


def columns(match: Field, fields: Sequence[str]) -> list[str]:
    """What is read of a record: its id, the matched field, and the fields asked for."""
    return list(dict.fromkeys(["Id", match.name, *fields]))


def every(object: str, match: Field, fields: Sequence[str] = ()) -> str:
    """The statement that reads all records which any value could find."""
    return f"{_selection(object, columns(match, fields))} WHERE {match.name} != null"


def count(object: str, match: Field) -> str:
    """The statement that counts them."""
    _, _, rest = every(object, match).partition(" FROM ")
    return f"SELECT COUNT() FROM {rest}"


def _selection(object: str, columns: Sequence[str]) -> str:
    for name in (object, *columns):
        if IDENTIFIER.fullmatch(name) is None:
            raise PluginError(f"{name!r} is not the name of an object or field in Salesforce")
    return f"SELECT {', '.join(columns)} FROM {object}"


def _literal(match: Field, value: str) -> str | None:
    """A value as SOQL writes it for the type of the field, None when the field can't hold it."""
    match match.type:
        case FieldType.NUMBER | FieldType.INTEGER:
            number = _number(value)
            return None if number is None else format(number, "f")
        case FieldType.BOOLEAN:
            return value if value in ("true", "false") else None
        case FieldType.DATE:
            return value if _DATE.fullmatch(value) else None
        case FieldType.DATETIME:
            return value if _DATETIME.fullmatch(value) else None
    return f"'{value.translate(_ESCAPES)}'" if len(value) <= LONGEST_TEXT else None


def _comparable(match: Field, value: Any) -> str:
    """What two spellings of one value have in common: Salesforce trims text, and compares most of it without case."""
    if match.type in (FieldType.NUMBER, FieldType.INTEGER):
        number = _number(str(value))
        return str(value) if number is None else format(number.normalize(), "f")
    text = str(value).strip()
    return text.casefold() if match.folds_case or not match.identifies else text


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
