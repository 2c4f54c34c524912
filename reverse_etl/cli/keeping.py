"""`reverse-etl state`: the state as a whole, verified, backed up, restored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from reverse_etl.cli import documents, edge, options, tables
from reverse_etl.cli.options import TEXT, WARNING
from reverse_etl.cli.session import Session

if TYPE_CHECKING:
    from reverse_etl.state.archive import StateArchive

STATE_UNUSABLE = 6

app = typer.Typer(help="Verify, back up or restore what is remembered.", rich_markup_mode=None)


@app.command()
def verify(
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> int:
    """Read all of the state and say what is wrong with it; writes nothing."""
    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    syncs, findings = _archive(session).verify()
    session.show(documents.verified(syncs, findings), lambda: tables.verified(syncs, findings))
    return STATE_UNUSABLE if findings else 0


@app.command()
def backup(
    file: Annotated[Path, Argument(metavar="FILE", help="The archive to write; it must not exist.")],
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """Write the state into one file, of one moment; waits for runs that are under way."""
    from reverse_etl import clock

    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    made = _archive(session).backup(file, clock.SYSTEM.now())
    session.show(documents.archived(made), lambda: tables.backed_up(made, file))


@app.command()
def restore(
    file: Annotated[Path, Argument(metavar="FILE", help="An archive that `state backup` wrote.")],
    yes: Annotated[bool, Option("--yes", help="Don't ask.")] = False,
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """Put a backup in place of the state, which is put aside."""
    from reverse_etl import clock

    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    archive = _archive(session)
    if not yes and not edge.confirm(tables.restore_question(file), instead="--yes"):
        return
    made = archive.restore(file, clock.SYSTEM.now())
    session.show(documents.archived(made), lambda: tables.was_restored(made, session.commands))


def _archive(session: Session) -> StateArchive:
    return session.load(only=[]).parts.archive()
