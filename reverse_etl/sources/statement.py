"""A user's query as text: one statement, its parameters found outside of strings and comments, ready to be wrapped."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from reverse_etl.errors import SourceError

# Warehouses in which a backslash escapes the next character of a string; elsewhere it is a character like any other.
BACKSLASH_DIALECTS = frozenset(
    {"mysql", "mariadb", "bigquery", "databricks", "snowflake", "clickhouse", "clickhousedb"}
)
READING = frozenset({"select", "with", "from", "values", "table"})

_PLAIN_STRING = r"'(?:[^']|'')*'"
_BACKSLASH_STRING = r"'(?:[^'\\]|\\.|'')*'"
# A parameter never follows a word, a quote or a bracket directly: those are casts, slices and struct keys.
_GRAMMAR = r"""
      (?P<comment> --[^\n]* | /\* )
    | (?P<quoted>  \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$
                 | (?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'
                 | STRING | "(?:[^"]|"")*" | `[^`]*` )
    | (?P<parameter> (?<![\w:"'`\])}]) : (?P<name>[A-Za-z_]\w*) (?!\w|:(?!:)) )
    | (?P<end> ; )
"""
_PLAIN = re.compile(_GRAMMAR.replace("STRING", _PLAIN_STRING), re.VERBOSE | re.DOTALL)
_BACKSLASH = re.compile(_GRAMMAR.replace("STRING", _BACKSLASH_STRING), re.VERBOSE | re.DOTALL)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Piece:
    """A stretch of the statement. `kind` is code, comment, quoted, parameter or end (a semicolon)."""

    kind: str
    text: str
    name: str = ""


@dataclass(frozen=True)
class Statement:
    """One query; `backslashes` says whether its warehouse escapes with them."""

    sql: str
    backslashes: bool = False

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(self._pieces())

    @property
    def names(self) -> frozenset[str]:
        """The parameters that the statement names as `:name`."""
        return frozenset(piece.name for piece in self.pieces if piece.kind == "parameter")

    def body(self, parameter: Callable[[str], str], code: Callable[[str], str] = str) -> str:
        """The statement without its closing semicolons, fit to stand in parentheses that close on a line of their own.

        `parameter` writes each named parameter as the driver wants it, `code` everything else.
        """
        self._refuse_several()
        parts = []
        for piece in self.pieces:
            if piece.kind == "end":
                continue
            parts.append(parameter(piece.name) if piece.kind == "parameter" else code(piece.text))
        return "".join(parts)

    def refuse_writing(self) -> None:
        """Raise SourceError unless this is one SELECT; the connection's own read-only mode is the real guard."""
        self._refuse_several()
        code = " ".join(piece.text for piece in self.pieces if piece.kind in ("code", "quoted"))
        first = re.search(r"\w+", code)
        if first is None:
            raise SourceError("the query is empty", code="source_query", hint="write one SELECT statement")
        if first[0].lower() not in READING:
            raise SourceError(
                f"the query begins with {first[0]!r}; only one SELECT (or WITH ... SELECT) is taken",
                code="source_query",
                hint="a sync only reads its source: move other statements to where the warehouse is built",
            )

    def _refuse_several(self) -> None:
        ended = False
        for piece in self.pieces:
            if ended and piece.kind == "code" and piece.text.lstrip().startswith(")"):
                ended = False  # the statement stands in parentheses with its semicolon: only that is dropped
            elif ended and piece.kind not in ("end", "comment") and piece.text.strip():
                raise SourceError(
                    f"the query holds more than one statement; the second begins with {piece.text.strip()[:40]!r}",
                    code="source_query",
                    hint="keep one SELECT, without a semicolon in the middle",
                )
            ended = ended or piece.kind == "end"

    def _pieces(self) -> Iterator[Piece]:
        grammar = _BACKSLASH if self.backslashes else _PLAIN
        start = 0
        while (token := grammar.search(self.sql, start)) is not None:
            if token.start() > start:
                yield Piece("code", self.sql[start : token.start()])
            end = _end_of_comment(self.sql, token.end()) if token[0] == "/*" else token.end()
            yield Piece(str(token.lastgroup and _kind(token)), self.sql[token.start() : end], token["name"] or "")
            start = end
        if start < len(self.sql):
            yield Piece("code", self.sql[start:])


def _kind(token: re.Match[str]) -> str:
    return next(kind for kind in ("comment", "quoted", "parameter", "end") if token[kind] is not None)


def _end_of_comment(sql: str, start: int) -> int:
    """Block comments nest in PostgreSQL and DuckDB; an unclosed one is for the warehouse to complain about."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)
