"""`fields SYNC --create`: shows what is missing, asks, makes it, and says what became of each."""

from __future__ import annotations

from reverse_etl.cli import documents, edge, tables
from reverse_etl.cli.session import Session

ALL_REFUSED, SOME_REFUSED = 1, 3


def make_missing(session: Session, sync: str, *, yes: bool) -> int:
    """Nothing is made before it was shown, and `yes` given or answered."""
    if session.json and not yes:
        edge.refuse("--create with --json needs --yes: nobody can be asked")
    loaded = session.load(only=[sync])
    named = loaded.syncs[sync]
    missing = loaded.missing_fields(sync)
    if not session.json:
        session.screen.show(*tables.missing(named.object, named.destination, missing))
    if missing and not yes and not edge.confirm(tables.make_question(named.object, missing), instead="--yes"):
        return 0
    refused = loaded.make_fields(sync, [field.new for field in missing]) if missing else {}
    made = [field.new for field in missing if field.new.name not in refused]
    session.show(
        documents.made(named.object, made, refused),
        lambda: tables.made(named.object, missing, refused) if missing else [],
    )
    if not refused:
        return 0
    return SOME_REFUSED if made else ALL_REFUSED
