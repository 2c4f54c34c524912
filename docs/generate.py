"""Writes docs/reference/ anew: `python -m docs.generate`. A test fails while a page is stale."""

from __future__ import annotations

from pathlib import Path

from docs import commands, files

FOLDER = Path(__file__).parent / "reference"


def pages() -> dict[Path, str]:
    """Every generated page by its place."""
    return {FOLDER / "commands.md": commands.page(), FOLDER / "files.md": files.page()}


def main() -> None:
    for file, text in pages().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        print(file)


if __name__ == "__main__":
    main()
