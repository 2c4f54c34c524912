"""Where text goes: colours and fitted tables on a terminal, plain aligned lines in a pipe.

What is to be shown is data (`Line`, `Table`), so that it can be compared in a test and looks the same on both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from reverse_etl.cli.text import printable

STYLES = {"good": "green", "bad": "bold red", "warn": "yellow", "dim": "dim", "strong": "bold", "command": "cyan"}
GAP = "  "  # between the columns of a table
_ASCII = str.maketrans({"→": "->", "·": "-", "…": "...", "✓": "*", "✗": "x", "●": "*", "—": "-"})


@dataclass(frozen=True)
class Span:
    """A piece of text with one of STYLES."""

    text: str
    style: str


Part = str | Span


@dataclass(frozen=True)
class Line:
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return "".join(plain(part) for part in self.parts)


@dataclass(frozen=True)
class Table:
    """Columns in line; those named in `right` are numbers. Without a head it is a list of aligned pairs."""

    rows: Sequence[Sequence[Part]]
    head: Sequence[str] = ()
    right: frozenset[int] = frozenset()
    indent: int = 0


Block = Line | Table


def line(*parts: Part) -> Line:
    return Line(parts)


class Screen(Protocol):
    """Shows blocks in order. Never raises when nobody listens any more: a closed pipe must not stop a delivery."""

    def show(self, *blocks: Block) -> None: ...


class PlainScreen:
    """Lines without colours, never cut, tables aligned by spaces."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._ascii = not (stream.encoding or "utf-8").lower().replace("-", "").startswith("utf")

    def show(self, *blocks: Block) -> None:
        for block in blocks:
            for text in _lines(block):
                self._stream.write((text.translate(_ASCII) if self._ascii else text) + "\n")
        self._stream.flush()


def plain(part: Part) -> str:
    """A part's text, made harmless for a terminal."""
    return printable(part.text if isinstance(part, Span) else part)


def width(table: Table) -> int:
    return max([len(table.head), *(len(row) for row in table.rows)])


def aligned(table: Table) -> Iterator[list[str]]:
    """The cells of each line, the head's first, as wide as their columns."""
    rows = [[plain(cell) for cell in row] for row in ([table.head] if table.head else []) + list(table.rows)]
    sizes = [max(len(row[position]) for row in rows if position < len(row)) for position in range(width(table))]
    for row in rows:
        yield [
            cell.rjust(size) if position in table.right else cell.ljust(size)
            for position, (cell, size) in enumerate(zip(row, sizes, strict=False))
        ]


def _lines(block: Block) -> Iterable[str]:
    if isinstance(block, Line):
        yield str(block)
        return
    for cells in aligned(block):
        yield (" " * block.indent + GAP.join(cells)).rstrip()
