"""Looks at all syncs: `status`, with what a daemon makes of it, and `explain --all`."""

from __future__ import annotations

from reverse_etl.cli import documents, stories, tables
from reverse_etl.cli.session import Session
from reverse_etl.clock import SYSTEM
from reverse_etl.daemon.forecast import outlooks
from reverse_etl.daemon.notebook import running_at


def show_status(session: Session) -> None:
    project = session.load()
    found = project.status()
    last = {each.sync: each.last_run for each in found if each.last_run is not None}
    coming, daemon = outlooks(project.syncs, last, SYSTEM), running_at(project.root)
    session.show(
        documents.statuses(found, coming, daemon), lambda: tables.statuses(found, coming, daemon, session.commands)
    )


def show_everywhere(session: Session, text: str) -> int:
    found = session.load().search(text)
    session.show(found.to_json(), lambda: stories.everywhere(found, SYSTEM.now(), session.commands))
    return found.exit_code
