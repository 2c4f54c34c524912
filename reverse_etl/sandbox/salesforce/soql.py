"""The part of SOQL that a sync needs, parsed: fields, parents, conditions, order, limit, COUNT()."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reverse_etl.sandbox.salesforce.errors import Refusal

TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:\\.|[^'\\])*')
      | (?P<moment>\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2}))?)
      | (?P<number>[+-]?\d+(?:\.\d+)?)
      | (?P<word>[A-Za-z_][\w.]*)
      | (?P<mark><=|>=|!=|<>|[=<>(),])
    )""",
    re.VERBOSE,
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
MOST_STATEMENT = 100_000


@dataclass
class Literal:
    """A value in a statement; `kind` is text, number, date, datetime, boolean or null."""

    kind: str
    value: Any


@dataclass
class Condition:
    path: str
    operator: str
    values: list[Literal]
    place: int


@dataclass
class Group:
    """Conditions joined: `word` is AND, OR or NOT (of one)."""

    word: str
    parts: list[Condition | Group] = field(default_factory=list)


@dataclass
class Order:
    path: str
    descending: bool
    nulls_last: bool


@dataclass
class Statement:
    text: str
    fields: list[str] = field(default_factory=list)
    count: bool = False
    object: str = ""
    where: Condition | Group | None = None
    order: list[Order] = field(default_factory=list)
    limit: int | None = None
    offset: int = 0


def malformed(text: str, place: int, message: str) -> Refusal:
    """The platform's three lines: the statement's part, a caret, what is wrong."""
    line = text[max(0, place - 20) : place + 20].replace("\n", " ")
    caret = " " * min(place, 20) + "^"
    return Refusal(400, "MALFORMED_QUERY", f"\n{line}\n{caret}\nERROR at Row:1:Column:{place + 1}\n{message}")


def parse(text: str) -> Statement:
    """Raises the platform's 400 for what it can't read."""
    if len(text) > MOST_STATEMENT:
        raise Refusal(400, "QUERY_TOO_COMPLICATED", "Query is either selecting too many fields or is too long.")
    return _Parser(text).statement()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        stripped = text.rstrip()
        while place < len(stripped):
            match = TOKEN.match(stripped, place)
            if match is None or match.lastgroup is None:
                raise malformed(text, place, f"unexpected token: '{stripped[place]}'")
            self._tokens.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            place = match.end()
        self._next = 0

    def statement(self) -> Statement:
        statement = Statement(self._text)
        self._expect("SELECT")
        self._fields(statement)
        self._expect("FROM")
        statement.object = self._take("word")
        if self._skip("WHERE"):
            statement.where = self._either()
        if self._skip("ORDER"):
            self._expect("BY")
            statement.order.append(self._order())
            while self._skip(","):
                statement.order.append(self._order())
        if self._skip("LIMIT"):
            statement.limit = self._whole()
        if self._skip("OFFSET"):
            statement.offset = self._whole()
        if self._next < len(self._tokens):
            raise self._unexpected()
        return statement

    def _whole(self) -> int:
        text = self._take("number")
        if not text.isdecimal():
            raise self._unexpected(back=1)
        return int(text)

    def _fields(self, statement: Statement) -> None:
        statement.fields.append(self._take("word"))
        if statement.fields[0].upper() == "COUNT" and self._skip("("):
            self._expect(")")
            statement.count, statement.fields = True, []
            return
        while self._skip(","):
            statement.fields.append(self._take("word"))

    def _order(self) -> Order:
        path = self._take("word")
        descending = self._skip("DESC")
        if not descending:
            self._skip("ASC")
        last = False
        if self._skip("NULLS"):
            last = self._skip("LAST")
            if not last:
                self._expect("FIRST")
        return Order(path, descending, last)

    def _either(self) -> Condition | Group:
        parts = [self._both()]
        while self._skip("OR"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Group("OR", parts)

    def _both(self) -> Condition | Group:
        parts = [self._single()]
        while self._skip("AND"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else Group("AND", parts)

    def _single(self) -> Condition | Group:
        if self._skip("NOT"):
            return Group("NOT", [self._single()])
        if self._skip("("):
            inner = self._either()
            self._expect(")")
            return inner
        place = self._place()
        path = self._take("word")
        if self._skip("NOT"):
            self._expect("IN")
            return Condition(path, "NOT IN", self._list(), place)
        if self._skip("IN"):
            return Condition(path, "IN", self._list(), place)
        if self._skip("LIKE"):
            return Condition(path, "LIKE", [self._literal()], place)
        operator = self._take("mark")
        if operator not in ("=", "!=", "<>", "<", "<=", ">", ">="):
            raise self._unexpected(back=1)
        return Condition(path, "!=" if operator == "<>" else operator, [self._literal()], place)

    def _list(self) -> list[Literal]:
        self._expect("(")
        values = [self._literal()]
        while self._skip(","):
            values.append(self._literal())
        self._expect(")")
        return values

    def _literal(self) -> Literal:
        if self._next >= len(self._tokens):
            raise self._unexpected()
        kind, text, _ = self._tokens[self._next]
        self._next += 1
        if kind == "text":
            return Literal("text", re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), text[1:-1]))
        if kind == "number":
            return Literal("number", float(text) if "." in text else int(text))
        if kind == "moment":
            try:
                datetime.fromisoformat(text)
            except ValueError:
                raise self._unexpected(back=1) from None
            return Literal("datetime" if "T" in text else "date", text)
        if kind == "word" and text.lower() in ("true", "false"):
            return Literal("boolean", text.lower() == "true")
        if kind == "word" and text.lower() == "null":
            return Literal("null", None)
        raise self._unexpected(back=1)

    def _place(self) -> int:
        return self._tokens[self._next][2] if self._next < len(self._tokens) else len(self._text)

    def _take(self, kind: str) -> str:
        if self._next >= len(self._tokens) or self._tokens[self._next][0] != kind:
            raise self._unexpected()
        self._next += 1
        return self._tokens[self._next - 1][1]

    def _skip(self, word: str) -> bool:
        if self._next < len(self._tokens):
            kind, text, _ = self._tokens[self._next]
            if kind in ("word", "mark") and text.upper() == word:
                self._next += 1
                return True
        return False

    def _expect(self, word: str) -> None:
        if not self._skip(word):
            raise self._unexpected()

    def _unexpected(self, back: int = 0) -> Refusal:
        place = self._next - back
        if place < len(self._tokens):
            _, text, start = self._tokens[place]
            return malformed(self._text, start, f"unexpected token: '{text}'")
        return malformed(self._text, len(self._text), "unexpected token: '<EOF>'")
