"""Tells the demo's story on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reverse_etl.cli import render
from reverse_etl.cli.screen import Block, Screen, Span, Table, line

if TYPE_CHECKING:
    from reverse_etl.report import RunReport


class ScreenAudience:
    """What `demo.story.Audience` asks for."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._fresh = False  # a chapter has begun, and only its title stands there

    def chapter(self, title: str, *sentences: str) -> None:
        self._screen.show(line(""), line(Span(title, "strong")), *(line(Span(said, "dim")) for said in sentences))
        self._fresh = True

    def run(self, report: RunReport) -> None:
        self._show(*render.run(report, render.Commands(), samples=1))

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
        self._show(Table(rows, head, right=frozenset(numbers), indent=2))

    def say(self, text: str, style: str = "") -> None:
        self._show(line(Span(text, style) if style else text))

    def _show(self, *blocks: Block) -> None:
        self._screen.show(*([line("")] if self._fresh else []), *blocks)
        self._fresh = False
