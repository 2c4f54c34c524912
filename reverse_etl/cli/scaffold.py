"""A new project that runs as it lies: one source, one destination, one sync."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from reverse_etl.cli.render import Commands
from reverse_etl.cli.screen import Block, Span, Table, line
from reverse_etl.errors import ConfigError
from reverse_etl.model import Problem

FILES = {
    "reverse_etl.yml": "reverse_etl.yml",
    "syncs/people_to_hubspot.yml": "people_to_hubspot.yml",
    ".env.example": "env.example",
    ".gitignore": "gitignore",
}


def scaffold(folder: Path) -> list[Block]:
    """Writes the files that aren't there yet and says what to type next. Raises ConfigError for a project that is."""
    if (folder / "reverse_etl.yml").exists():
        taken = Problem(
            str(folder / "reverse_etl.yml"), 0, 0, "", "this folder is a project already; nothing was written"
        )
        raise ConfigError([taken])
    try:
        written = list(_write(folder))
    except OSError as failure:
        place = str(failure.filename or folder)
        raise ConfigError([Problem(place, 0, 0, "", f"can't be written: {failure.strerror}")]) from failure
    where = Commands(None if folder == Path() else str(folder))
    return [
        *(line(Span("+", "good"), " ", str(file)) for file in written),
        line(""),
        line("next, with the emulator of the destinations running in another terminal:"),
        Table(
            [
                (Commands()("sandbox"), "in the other terminal"),
                (where("check", "--connect"), "files, credentials, columns, fields"),
                (where("sync", "--dry-run"), "what would be sent"),
                (where("sync"), "send it; a second time nothing is left to send"),
            ],
            indent=2,
        ),
    ]


def _write(folder: Path) -> Iterator[Path]:
    source = files("reverse_etl.cli") / "scaffolding"
    for name, template in FILES.items():
        file = folder / name
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((source / template).read_text(encoding="utf-8"), encoding="utf-8")
        yield file
