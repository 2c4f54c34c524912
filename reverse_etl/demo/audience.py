"""Who the demo's story is told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from reverse_etl.report import RunReport


class Audience(Protocol):
    """Who the story is told to."""

    def chapter(self, title: str, *sentences: str) -> None: ...

    def run(self, report: RunReport) -> None: ...

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None: ...

    def say(self, text: str, style: str = "") -> None: ...
