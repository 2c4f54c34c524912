"""Draws docs/images/demo.svg from a real run of the demo: `python -m docs.picture`, or `make picture`."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from reverse_etl.cli.audience import ScreenAudience
from reverse_etl.cli.terminal import RichScreen
from reverse_etl.demo.story import tell

FILE = Path(__file__).parent / "images" / "demo.svg"
COLUMNS = 122
BEGINS = "3."  # the chapter with which the picture begins; the whole story is too tall for a page
NORMAL = "16181d e86871 7ec67e deb861 62a0ea c084d6 56c2cc b0b5bf"
BRIGHT = "6e7480 f08088 96d896 eccc80 80b6f4 d0a0e4 78d4dc f0f2f6"


def _theme() -> TerminalTheme:
    def colours(several: str) -> list[tuple[int, int, int]]:
        return [(each[0], each[1], each[2]) for each in map(bytes.fromhex, several.split())]

    (ground,), (ink,) = colours("16181d"), colours("d6d9e0")
    return TerminalTheme(ground, ink, colours(NORMAL), colours(BRIGHT))


class Painter(ScreenAudience):
    """Forgets what was told before the picture begins."""

    def __init__(self, screen: RichScreen) -> None:
        super().__init__(screen)
        self._console = screen.console

    def chapter(self, title: str, *sentences: str) -> None:
        if title.startswith(BEGINS):
            self._console.export_text(clear=True)
        super().chapter(title, *sentences)


def draw() -> str:
    """The demo's second half as it looks in a terminal, as SVG that loads nothing from elsewhere."""
    screen = RichScreen(io.StringIO())
    screen.console = Console(
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        color_system="truecolor",
        width=COLUMNS,
        highlight=False,
        markup=False,
        emoji=False,
    )
    if code := tell(Painter(screen)):
        raise SystemExit(f"the demo ended with {code}")
    drawn = screen.console.export_svg(title="make demo", theme=_theme(), unique_id="demo")
    return re.sub(r"@font-face \{.*?\}\n?", "", drawn, flags=re.DOTALL)


def main() -> None:
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(draw())
    print(FILE)


if __name__ == "__main__":
    main()
