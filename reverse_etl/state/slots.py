"""What runs have under way in a state that several machines share: a row a slot, with the keys that it sent last.

A machine that takes over from a dead one finds them here, as one that lives on finds its own files. A row is written by
the holder of the sync's lease, or not at all. Nothing here waits for the database's disk: a crash of the server may
take the latest rows along.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import sqlalchemy as sa
from anyio import to_thread

from reverse_etl.state import lease
from reverse_etl.state.access import Access
from reverse_etl.state.flights import JOBS, Left, decoded, encoded
from reverse_etl.state.tables import under_way

_SOON = "(SELECT set_config('synchronous_commit', 'off', true)) AS soon"  # for this one transaction
_BEGIN = sa.text(
    "INSERT INTO under_way (sync, slot, token, since, body) "
    f"SELECT leases.sync, :slot, token, clock_timestamp(), :body FROM leases, {_SOON} "
    "WHERE leases.sync = :sync AND token = :token FOR SHARE OF leases "
    "ON CONFLICT (sync, slot) DO UPDATE SET token = excluded.token, since = excluded.since, body = excluded.body"
)
_END = sa.text(f"DELETE FROM under_way USING {_SOON} WHERE sync = :sync AND slot = :slot AND token = :token")
_FORGET = sa.text("DELETE FROM under_way WHERE sync = :sync AND token < :token")
_LEFT = sa.text(
    "SELECT slot, body, extract(epoch FROM clock_timestamp() - since) FROM under_way WHERE sync = :sync ORDER BY slot"
)


@dataclass(frozen=True)
class SharedFlight:
    """One slot's row. `ledgers.Flight`."""

    access: Access
    sync: str
    slot: int

    async def begin(self, keys: pa.Array) -> None:
        if not await to_thread.run_sync(self._change, _BEGIN, {"body": encoded(keys).to_pybytes()}):
            raise lease.lost(self.sync)

    async def end(self) -> None:
        await to_thread.run_sync(self._change, _END, {})

    def _change(self, statement: sa.TextClause, more: dict[str, object]) -> int:
        """One round trip, and one to make sure of the connection. Returns how many rows were changed."""
        store = self.access.store()
        mine = {"sync": self.sync, "slot": self.slot, "token": store.lease.token if store.lease is not None else None}
        with store.at_once() as connection:
            return connection.execute(statement, mine | more).rowcount


class Slots:
    """Those of one sync. But for `left`, the caller holds it."""

    def __init__(self, access: Access, sync: str) -> None:
        self._access = access
        self._sync = sync

    def flight(self, slot: int) -> SharedFlight:
        return SharedFlight(self._access, self._sync, slot)

    def left(self) -> Iterator[Left]:
        """What a run which died had under way, its times by this machine's clock."""
        store = self._access.existing()
        if store is None or not (self._access.is_alone or (store.check() and not store.is_older)):
            return
        with store.reading() as connection:
            rows = connection.execute(_LEFT, {"sync": self._sync}).all()
        for slot, body, seconds in rows:
            since = datetime.now(UTC) - timedelta(seconds=float(seconds))
            for key in decoded(bytes(body)):
                yield Left(key, since, in_job=slot >= JOBS)

    def forget(self) -> None:
        """What holders before this one have left has been taken up."""
        store = self._access.store()
        with store.at_once() as connection:
            connection.execute(_FORGET, {"sync": self._sync, "token": store.lease.token if store.lease else None})

    def drop(self, key: str) -> None:
        """What was left, without one row and its key's bytes."""
        mine = (under_way.c.sync == self._sync) & (under_way.c.slot == sa.bindparam("of_slot"))
        with self._access.store().writing() as connection:
            query = sa.select(under_way.c.slot, under_way.c.body).where(under_way.c.sync == self._sync)
            for slot, body in connection.execute(query).all():
                keys = decoded(bytes(body))
                if key in keys:
                    rest = encoded(pa.array([each for each in keys if each != key], pa.string()))
                    less = sa.update(under_way).where(mine).values(body=rest.to_pybytes())
                    connection.execute(less, {"of_slot": slot})

    def close(self) -> None:
        """Nothing is open; what is under way still stays, for who takes it up."""
