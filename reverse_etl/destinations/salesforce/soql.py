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

from reverse_etl.destinations.salesforce.rest import Rest
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


async def matching(
    rest: Rest, object: str, match: Field, values: Iterable[str], fields: Sequence[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """The records that each value finds, in the order of their ids; a value that finds none is left out.

    Each record has "Id", the match field and the fields asked for.
    """
    asked: defaultdict[str, list[str]] = defaultdict(list)
    for value in dict.fromkeys(values):
        asked[_comparable(match, value)].append(value)
    found: dict[str, list[dict[str, Any]]] = {}
    for query in queries(object, match, [value for same in asked.values() for value in same], fields):
        for record in await rest.query(query):
            for value in asked.get(_comparable(match, record.get(match.name)), ()):
                known = found.setdefault(value, [])
                if all(record["Id"] != other["Id"] for other in known):
                    known.append(record)
    return {value: sorted(records, key=lambda record: str(record["Id"])) for value, records in found.items()}


def queries(object: str, match: Field, values: Iterable[str], fields: Sequence[str] = ()) -> Iterator[str]:
    """Statements that together ask for every value; one that no record can hold is not asked for."""
    columns = list(dict.fromkeys(["Id", match.name, *fields]))
    for name in (object, *columns):
        if IDENTIFIER.fullmatch(name) is None:
            raise PluginError(f"{name!r} is not the name of an object or field in Salesforce")
    head = f"SELECT {', '.join(columns)} FROM {object} WHERE {match.name} IN ("
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
