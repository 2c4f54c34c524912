"""What the model plays on: a project's folder, a warehouse, an account; the product is opened anew for every command.

A killed process leaves what it had stored by then: from the moment of its death the store takes nothing more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa

from reverse_etl import localdb
from reverse_etl.config import files
from reverse_etl.config.project import ProjectConfig
from reverse_etl.config.sync import SyncConfig
from reverse_etl.job import Job
from reverse_etl.model import Batch
from reverse_etl.parts import Parts
from reverse_etl.project import Project
from reverse_etl.protocols import Destination, Source
from reverse_etl.report import RunReport
from reverse_etl.standing import LINKS_OWED, SETTLES, RefusedRow, SyncState
from reverse_etl.state.access import Access
from reverse_etl.state.flights import Flight, Flights
from reverse_etl.state.ledger import Ledger
from reverse_etl.state.store import StateStore
from reverse_etl.testing import FakeClock, MemoryAccount, MemoryDestination
from reverse_etl.verdicts import Outcomes
from tests.house import Warehouse
from tests.properties.model.definition import COLUMNS, FIELDS, PROJECT, Definition, Row


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Fate:
    """When the process dies: at the so-many-th write to its store, `before` it is done or after; never when 0."""

    call: int = 0
    before: bool = True
    dead: bool = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        self.call -= 1
        if self.dead or (self.call == 0 and self.before):
            raise self.kill()
        yield
        if self.call == 0:
            raise self.kill()

    def kill(self) -> Killed:
        self.dead = True
        return Killed()

    @contextmanager
    def living(self) -> Iterator[None]:
        if self.dead:
            raise Killed
        yield


class MortalStore(StateStore):
    """A store as a process sees it that may die at any of its writes."""

    fate: Fate

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        with self.fate.writing(), super().writing(durable=durable) as connection:
            yield connection

    @contextmanager
    def at_once(self) -> Iterator[sa.Connection]:
        with self.fate.living(), super().at_once() as connection:
            yield connection


class MortalAccess(Access):
    fate: Fate

    def store(self) -> StateStore:
        store = super().store()
        store.__class__ = MortalStore
        assert isinstance(store, MortalStore)
        store.fate = self.fate
        return store


class MortalFlight(Flight):
    """What is under way, which a dead process can't take back."""

    fate: Fate

    async def end(self) -> None:
        if not self.fate.dead:
            await super().end()


class MortalFlights(Flights):
    fate: Fate

    def flight(self, slot: int) -> Flight:
        made = super().flight(slot)
        made.__class__ = MortalFlight
        assert isinstance(made, MortalFlight)
        made.fate = self.fate
        return made


class MortalDestination(MemoryDestination):
    def __init__(self, *, account: MemoryAccount, fate: Fate) -> None:
        super().__init__(account=account)
        self.fate = fate

    async def write(self, batch: Batch) -> Outcomes:
        if self.fate.dead:
            raise Killed
        try:
            return await super().write(batch)
        except Killed:
            self.fate.dead = True
            raise


class PlayedParts(Parts):
    """The stage's warehouse and account, and a memory that dies with its process."""

    def __init__(self, config: ProjectConfig, stage: Stage, fate: Fate) -> None:
        super().__init__(config)
        self.stage = stage
        self.fate = fate

    def ledger(self, sync: SyncConfig) -> Ledger:
        ledger = super().ledger(sync)
        ledger.access.__class__ = MortalAccess  # whatever else it was made with stays
        assert isinstance(ledger.access, MortalAccess)
        ledger.access.fate = self.fate
        flights = ledger.under_way._flights
        if isinstance(flights, Flights):  # in PostgreSQL they are written through the store
            flights.__class__ = MortalFlights
            assert isinstance(flights, MortalFlights)
            flights.fate = self.fate
        return ledger

    def source(self, name: str) -> Source:
        return self.stage.warehouse.opened()

    def destination(self, *given: Any) -> Destination:
        return MortalDestination(account=self.stage.account, fate=self.fate)


class Played(Project):
    """The project as its files are now, by the stage's clock."""

    def __init__(self, stage: Stage, fate: Fate) -> None:
        super().__init__(*files.load(stage.root, stage.env, connector=lambda name: MemoryDestination))
        self.parts = PlayedParts(self.config, stage, fate)
        self.clock = stage.clock

    def _job(self, *given: Any) -> Job:
        return replace(super()._job(*given), clock=self.clock)


@dataclass(frozen=True)
class Known:
    """What the product holds to be acknowledged of one key."""

    record_id: str | None
    sent: bool
    gone: bool
    values: dict[str, Any]
    owes_links: bool = False


@dataclass(frozen=True)
class Memory:
    """All that the product remembers between two commands."""

    state: SyncState | None = None
    known: dict[str, Known] = field(default_factory=dict)
    listed: dict[str, RefusedRow] = field(default_factory=dict)  # by slot
    settling: dict[str, RefusedRow] = field(default_factory=dict)  # by key
    under_way: frozenset[str] = frozenset()  # keys that a process was sending when it was killed

    def row(self, key: str) -> RefusedRow | None:
        return self.listed.get(f"k{key}")


class Stage:
    def __init__(self, root: Path, account: MemoryAccount, state_url: str | None = None) -> None:
        self.root = root
        self.account = account
        self.clock = FakeClock()
        self.warehouse = Warehouse(self.clock)
        self.env: dict[str, str] = {}
        self.backups = 0
        self.shared = state_url is not None
        self._state = {} if state_url is None else {"url": state_url}
        self._waited = timedelta()
        self._values: set[Any] = {"gone", "free"}  # whatever the sync may have sent: by these digests are understood
        (root / "syncs").mkdir()
        self._looker: Played | None = None  # the project as it lies, read once
        self._looking = duckdb.connect(":memory:")
        localdb.settle(self._looking)

    def close(self) -> None:
        self._looking.close()
        self.warehouse.connection.close()

    def define(self, definition: Definition) -> None:
        project = {**PROJECT, "state": {**self._state, "values": definition.values}}
        (self.root / "reverse_etl.yml").write_text(json.dumps(project))
        (self.root / "syncs" / "people.yml").write_text(definition.document())
        self._looker = None

    def lay(self, rows: Sequence[Row]) -> None:
        self._values.update(value for row in rows for value in (row.email, row.plan, row.seats) if value is not None)
        self.warehouse.table("people", COLUMNS, [row.line for row in rows])

    # --- time -----------------------------------------------------------------------------------------------------

    def wait(self, by: timedelta) -> None:
        """Time passes; what was to come late has come before its try could no longer be carried out."""
        self._waited += by
        if self._waited >= SETTLES:
            self.account.land()
            self._waited = timedelta()
        self.clock.advance(by)

    # --- commands -------------------------------------------------------------------------------------------------

    def project(self, fate: Fate | None = None) -> Played:
        return Played(self, fate or Fate())

    def run(self, fate: Fate, **wishes: Any) -> RunReport | None:
        """One run; None when its process was killed."""
        return _unless_killed(lambda: self.project(fate).sync(**wishes).runs[0])

    def retry(self, fate: Fate) -> RunReport | None:
        return _unless_killed(lambda: self.project(fate).retry("people").runs[0])

    def remembered(self) -> Memory:
        """Looked at from outside, as `explain` and `rejected` would."""
        project = self._looker = self._looker or self.project()
        with closing(project.parts.ledger(project.syncs["people"])) as ledger:
            state, store = ledger.state(self._looking), ledger.access.existing()
            if state is None or store is None:
                return Memory()
            ledger.known.lay(self._looking)
            rows = localdb.table(self._looking, "SELECT * EXCLUDE position FROM known").to_pylist()
            ledger.known.release(self._looking)
            digested = any(name.startswith("x_") for row in rows for name in row)
            meanings = _meanings(ledger.known.digests().key, self._values) if digested else {}
            listed = {row.slot: row for row in store.lists.refused("people")}
            settling = {str(row.key_text): row for row in store.lists.settling("people")}
            under_way = frozenset(each.key for each in ledger.under_way._flights.left())
        return Memory(state, {row["key"]: _known(row, meanings) for row in rows}, listed, settling, under_way)

    def backup(self) -> Path:
        self.backups += 1
        target = self.root / f"backup-{self.backups}.tar"
        self.project().parts.archive().backup(target, self.clock.now())
        return target

    def restore(self, archive: Path) -> None:
        self.wait(timedelta(seconds=1))
        self.project().parts.archive().restore(archive, self.clock.now())


def _known(row: dict[str, Any], meanings: Mapping[tuple[str, int], Any]) -> Known:
    """A field's value, or what its digest means; both can't be."""
    values = {name[2:]: value for name, value in row.items() if name.startswith("f_")}
    for name, digest in row.items():
        if name.startswith("x_") and digest is not None:
            assert values.get(name[2:]) is None, f"{name[2:]} is kept beside its digest"
            values[name[2:]] = meanings[name[2:], digest]
    return Known(row["record_id"], row["sent"], row["gone"], values, owes_links=row["h"] == LINKS_OWED)


def _meanings(key: str, values: Iterable[Any]) -> dict[tuple[str, int], Any]:
    """By field and digest, the value that it was made of."""
    return {
        (field.name, int(hashlib.sha256(f"{key}{field.name}\n\n{_text(value)}".encode()).hexdigest()[:16], 16)): value
        for field in FIELDS
        for value in values
    }


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unless_killed(command: Callable[[], RunReport]) -> RunReport | None:
    """What a command gives; a killed process ends quietly."""
    try:
        return command()
    except Killed:
        return None
    except BaseExceptionGroup as group:
        _, others = group.split(Killed)
        if others is not None:
            raise
        return None
