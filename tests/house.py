"""One sync with everything that a run may touch: a small warehouse, state in a folder, a destination in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pyarrow as pa
from pydantic import SecretStr

from reverse_etl import localdb
from reverse_etl.config.sync import CursorConfig, FieldMapping, SyncConfig
from reverse_etl.errors import SourceError
from reverse_etl.explain import Explanation, explain
from reverse_etl.job import Job
from reverse_etl.model import Field, FieldType, Query
from reverse_etl.protocols import Destination, Source
from reverse_etl.report import RunReport
from reverse_etl.run import run
from reverse_etl.sources.statement import Statement
from reverse_etl.standing import RefusedRow, SyncState
from reverse_etl.state.home import StateHome
from reverse_etl.state.ledger import Ledger
from reverse_etl.state.retention import DEFAULT
from reverse_etl.testing import FakeClock, MemoryAccount, MemoryDestination
from reverse_etl.writeback import WarehouseLog
from tests import ducks

FIELDS = (
    Field("email", FieldType.TEXT, identifies=True, folds_case=True),
    Field("plan", FieldType.TEXT),
    Field("seats", FieldType.NUMBER),
)


def sync(**changes: Any) -> SyncConfig:
    """A plain definition; a mapping's entries may be column names."""
    given = {
        "name": "people",
        "source": "warehouse",
        "sql": "select * from people",
        "key": ("id",),
        "destination": "crm",
        "object": "contacts",
        "match": "email",
        "mapping": {"email": "email", "plan": "plan"},
        **changes,
    }
    if isinstance(given.get("cursor"), str):
        given["cursor"] = CursorConfig(column=given["cursor"])
    given["mapping"] = {
        field: FieldMapping(column=entry) if isinstance(entry, str) else entry
        for field, entry in given["mapping"].items()
    }
    return SyncConfig(**given)


class Warehouse:
    """Tables in DuckDB's memory. Every read is a session of its own, and can be told to break."""

    def __init__(self, clock: FakeClock) -> None:
        self._database = ducks.InMemory()
        self.connection = self._database.session()
        self.clock = clock
        self.asked: list[Query] = []
        self._failures: list[SourceError] = []
        self._batch_rows = 1000

    def sql(self, statement: str, parameters: Sequence[object] = ()) -> None:
        self.connection.execute(statement, parameters)

    def table(self, name: str, columns: str, rows: Iterable[Sequence[object]]) -> None:
        """A table anew, `columns` as in CREATE TABLE."""
        self.connection.execute(f"CREATE OR REPLACE TABLE {name} ({columns})")
        for row in rows:
            self.connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", list(row))

    def arrow(self, name: str, table: pa.Table) -> None:
        """A table anew, with the Arrow table's own types."""
        self.connection.register("given", table)
        self.connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM given")
        self.connection.unregister("given")

    def break_reads(self, *failures: SourceError) -> None:
        """The next reads break after their first batch, one with each of these."""
        self._failures += failures

    def opened(self) -> Source:
        """A connection to it, for one run."""
        return _Reader(self)

    # --- protocols.Source --------------------------------------------------------------------------------------------

    def describe(self, query: Query) -> pa.Schema:
        with self._relation(query) as relation:
            return relation.limit(0).to_arrow_table().schema

    @contextmanager
    def read(self, query: Query) -> Iterator[Iterator[pa.RecordBatch]]:
        self.asked.append(query)
        failure = self._failures.pop(0) if self._failures else None
        with self._relation(query) as relation:
            yield _breaking(relation.to_arrow_table().to_batches(self._batch_rows), failure)

    def names(self, query_sql: str) -> frozenset[str]:
        return Statement(query_sql).names

    def quote(self, identifier: str) -> str:
        return localdb.quoted(identifier)

    @contextmanager
    def _relation(self, query: Query) -> Iterator[duckdb.DuckDBPyRelation]:
        with closing(self._database.session()) as session:
            for name in self.names(query.sql) & query.parameters.keys():
                session.execute(f"SET VARIABLE {name} = $value", {"value": query.parameters[name]})
            try:
                relation = session.sql(Statement(query.sql).body(lambda name: f"getvariable('{name}')"))
            except duckdb.BinderException as refused:
                raise SourceError(str(refused), code="source_query") from refused
            yield relation


class _Reader:
    """A connection to a warehouse, for one run."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.describe, self.read = warehouse.describe, warehouse.read
        self.names, self.quote = warehouse.names, warehouse.quote
        self._warehouse = warehouse

    def clock(self) -> datetime:
        return self._warehouse.clock.now()

    def close(self) -> None:
        return


class House:
    """Runs of one sync, one after the other; a minute passes before each. Every report's books are checked."""

    def __init__(self, root: Path, definition: SyncConfig | None = None, *, crm: MemoryAccount | None = None) -> None:
        self.root = root
        self.sync = definition or sync()
        self.clock = FakeClock()
        self.warehouse = Warehouse(self.clock)
        self.crm = crm or MemoryAccount(*FIELDS)
        self.url = f"sqlite:///{root}/.reverse_etl/state.db"
        self.runs = 0
        self.log_to: WarehouseLog | None = None
        self.retention = DEFAULT
        self.hashes = False
        self.keys: Sequence[SecretStr] = ()
        self.unopened = False  # True: a run that opens the destination fails

    def people(self, *rows: Sequence[object], columns: str = "id INTEGER, email VARCHAR, plan VARCHAR") -> None:
        """The warehouse's rows from now on."""
        self.warehouse.table("people", columns, rows)

    def change(self, **changes: Any) -> None:
        """Edit the definition."""
        given = {name: getattr(self.sync, name) for name in type(self.sync).model_fields}
        self.sync = sync(**{**given, **changes})

    def ledger(self) -> Ledger:
        identity: dict[str, object] = {
            "key": list(self.sync.key),
            "type": "memory",
            "object": self.sync.object,
            "match": self.sync.match,
        }
        home, logged = StateHome(self.root), self.log_to is not None
        return Ledger(
            *(home, self.url, self.sync.name, identity),
            retention=self.retention,
            logged=logged,
            hashes=self.hashes,
            keys=self.keys,
        )

    def source(self) -> Source:
        return self.warehouse.opened()

    def destination(self) -> Destination:
        assert not self.unopened, "the destination was opened"
        return MemoryDestination(account=self.crm)

    def job(self, **wishes: Any) -> Job:
        self.clock.advance(timedelta(minutes=1))
        self.runs += 1
        given: dict[str, Any] = {
            "sync": self.sync,
            "run_id": f"run-{self.runs:03d}",
            "ledger": self.ledger(),
            "source": self.source,
            "destination": self.destination,
            "clock": self.clock,
            "log_to": self.log_to,
        }
        return Job(**{**given, **wishes})

    def run(self, **wishes: Any) -> RunReport:
        """One run, whatever comes of it."""
        report = anyio.run(run, self.job(**wishes))
        self._check_books(report)
        return report

    def go(self, **wishes: Any) -> RunReport:
        """One run that must not fail as a whole."""
        report = self.run(**wishes)
        assert report.error is None, f"{report.error}"
        return report

    def idle(self) -> RunReport:
        """One run that must find nothing to do, and not even open the destination."""
        self.unopened = True
        report = self.go()
        self.unopened = False
        assert (report.rows.added, report.rows.changed, report.rows.removed, report.requests) == (0, 0, 0, 0)
        return report

    def explain(self, key: str) -> Explanation:
        with closing(self.ledger()) as ledger:
            return explain(self.sync, self.source, ledger, key, "run-explain")

    # --- what stands ----------------------------------------------------------------------------------------------

    def state(self) -> SyncState:
        with closing(self.ledger()) as ledger:
            state = ledger.state()
        assert state is not None
        return state

    def refused(self) -> dict[str | None, RefusedRow]:
        """The list of refused rows, by key as text."""
        with closing(self.ledger()) as ledger:
            return {row.key_text: row for row in ledger.refused()}

    def codes(self) -> dict[str | None, str]:
        return {key: row.code for key, row in self.refused().items()}

    def known(self) -> dict[str, dict[str, Any]]:
        """The snapshot, by key: what the destination last acknowledged."""
        with closing(self.ledger()) as ledger, closing(duckdb.connect(":memory:")) as connection:
            localdb.settle(connection)
            ledger.known.lay(connection)
            rows = connection.sql("SELECT * EXCLUDE position FROM known").to_arrow_table().to_pylist()
        return {row["key"]: row for row in rows}

    def _check_books(self, report: RunReport) -> None:
        """What every report must add up to."""
        rows, told = report.rows, report.delivered
        assert rows.read == rows.unchanged + rows.added + rows.changed + rows.invalid, rows
        if report.dry_run:
            return
        owed = rows.added + rows.changed + rows.removed + rows.retried
        settled = told.created + told.updated + told.removed + told.skipped
        accounted = settled + report.rejected + report.in_doubt + report.pending
        if self.sync.cursor is None and report.status not in ("failed", "interrupted", "skipped"):
            assert owed == accounted, report
        json.dumps(report.to_json())


def _breaking(batches: Sequence[pa.RecordBatch], failure: SourceError | None) -> Iterator[pa.RecordBatch]:
    for nth, batch in enumerate(batches):
        if failure is not None and nth:
            break
        yield batch
    if failure is not None:
        raise failure


def mapping(**entries: Mapping[str, Any] | str) -> dict[str, FieldMapping]:
    """A mapping's entries in their long form."""
    return {
        field: FieldMapping(column=entry) if isinstance(entry, str) else FieldMapping(**entry)
        for field, entry in entries.items()
    }


__all__ = ["FIELDS", "House", "Warehouse", "mapping", "sync"]
