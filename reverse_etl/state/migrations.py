"""How an older SQL store comes to its present shape: numbered steps, never edited again. `tables` makes a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from reverse_etl.errors import StateError
from reverse_etl.state import tables


@dataclass(frozen=True)
class Migration:
    number: int
    sentence: str
    apply: Callable[[sa.Connection], None]


def _several_machines(connection: sa.Connection) -> None:
    tables.bases.create(connection)
    tables.leases.create(connection)
    connection.execute(sa.text("ALTER TABLE syncs ADD COLUMN incarnation TEXT"))


def _shared_limits(connection: sa.Connection) -> None:
    tables.limiters.create(connection)
    tables.places.create(connection)


def _log(connection: sa.Connection) -> None:
    tables.outbox.create(connection)


def _under_way(connection: sa.Connection) -> None:
    tables.under_way.create(connection)


MIGRATIONS = (
    Migration(2, "Leases, snapshots in the store, incarnations of a sync's state", _several_machines),
    Migration(3, "Rate limits that several machines keep together", _shared_limits),
    Migration(4, "What waits to be written back to the warehouse", _log),
    Migration(5, "What a run has under way, for the machine that takes over from it", _under_way),
)
NEWEST = MIGRATIONS[-1].number


def version(connection: sa.Connection) -> int:
    """The number of the last step this store has seen; 0 for an empty one."""
    if not sa.inspect(connection).has_table(tables.meta.name):
        return 0
    found = connection.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.name == "schema_version"))
    try:
        return int(found) if found is not None else 0
    except ValueError as failure:
        raise StateError(
            f"the store says {found!r} of its schema, which is no number",
            hint="restore .reverse_etl from a backup, or `reverse-etl reset SYNC` to start over",
        ) from failure


def refuse_newer(found: int, place: str) -> None:
    """A store that a newer release wrote is left alone: reading it half-understood could lose rows."""
    if found > NEWEST:
        raise StateError(
            f"{place} was written by a newer release (schema {found}; this release knows {NEWEST})",
            code="state_newer",
            hint="upgrade reverse-etl, or point state.url at another store",
        )


def migrate(connection: sa.Connection, found: int) -> None:
    """Bring the store to the newest schema. The caller holds the transaction, and has kept a copy of an older one."""
    if found == 0:
        tables.metadata.create_all(connection)
    for migration in MIGRATIONS if found else ():
        if migration.number > found:
            migration.apply(connection)
    connection.execute(sa.delete(tables.meta).where(tables.meta.c.name == "schema_version"))
    connection.execute(sa.insert(tables.meta).values(name="schema_version", value=str(NEWEST)))
