"""Plans that the guard has stopped, until somebody approves them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from reverse_etl import clock
from reverse_etl.state import audit
from reverse_etl.state.access import Access
from reverse_etl.state.tables import plans


class Plans:
    """Of one sync."""

    def __init__(self, access: Access, sync: str) -> None:
        self._access = access
        self._sync = sync

    def hold(self, plan_id: str, made_at: datetime, rows: bytes) -> None:
        """Remember a plan, so that it can be approved."""
        with self._access.store().writing(durable=True) as connection:
            connection.execute(sa.delete(plans).where(plans.c.plan_id == plan_id))
            told = {"plan_id": plan_id, "sync": self._sync, "made_at": clock.text(made_at), "rows": rows}
            connection.execute(sa.insert(plans).values(told))

    def held(self, plan_id: str) -> tuple[str, str, bytes, str | None] | None:
        """Sync, when it was made, its rows, and when it was used."""
        columns = (plans.c.sync, plans.c.made_at, plans.c.rows, plans.c.used_at)
        with self._access.store().reading() as connection:
            row = connection.execute(sa.select(*columns).where(plans.c.plan_id == plan_id)).first()
        return None if row is None else (row[0], row[1], bytes(row[2]), row[3])

    def use(self, plan_id: str, now: datetime) -> bool:
        """An approval counts once. Returns whether this was the time."""
        audit.note(self._access.home, "approve", now, sync=self._sync, plan_id=plan_id)
        unused = sa.and_(plans.c.plan_id == plan_id, plans.c.used_at.is_(None))
        with self._access.store().writing(durable=True) as connection:
            update = sa.update(plans).where(unused).values(used_at=clock.text(now))
            return bool(connection.execute(update).rowcount)
