"""`init` as a person sees it: the files that were written, and what to type next."""

from __future__ import annotations

from pathlib import Path

from reverse_etl.cli.render import Commands
from reverse_etl.cli.screen import Block, Span, Table, line
from reverse_etl.config.scaffold import init


def scaffold(folder: Path) -> list[Block]:
    """Writes the project and says what to type next. Raises ConfigError rather than overwrite a file."""
    written = init(folder)
    where = Commands(None if folder == Path() else str(folder))
    return [
        *(line(Span("+", "good"), " ", str(file)) for file in written),
        line(""),
        line("next, with a sandbox of the destinations running in another terminal:"),
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
