"""What is remembered of a sync, with either store: SQLite beside the snapshot, and PostgreSQL."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa

from reverse_etl import localdb
from reverse_etl.errors import LeaseLost, StateError, SyncBusy
from reverse_etl.ledgers import Flight
from reverse_etl.report import RunReport, RunStatus
from reverse_etl.standing import Acknowledged, Acknowledgement, RefusedRow
from reverse_etl.state import bases, beside, copies, lease, migrations
from reverse_etl.state.archive import StateArchive
from reverse_etl.state.forgetting import forget, reset
from reverse_etl.state.home import StateHome
from reverse_etl.state.journal import Journal
from reverse_etl.state.ledger import Ledger
from reverse_etl.state.snapshot import Snapshot
from reverse_etl.state.syncs import Syncs
from reverse_etl.testing.clock import MIDDAY

IDENTITY: dict[str, object] = {"key": ["id"], "type": "memory", "object": "contacts", "match": "email"}
ROOT = Path(__file__).parents[2]
UNDONE = {  # what each migration has made
    2: ("ALTER TABLE syncs DROP COLUMN incarnation", "DROP TABLE bases", "DROP TABLE leases"),
    3: ("DROP TABLE limiters", "DROP TABLE places"),
    4: ("DROP TABLE outbox",),
    5: ("DROP TABLE under_way",),
}
assert UNDONE.keys() == set(range(2, migrations.NEWEST + 1))


def rows(*keys: str, **fields: pa.Array) -> pa.RecordBatch:
    """Acknowledged rows as a run hands them on."""
    columns = {"key": pa.array(keys, pa.string()), "record_id": pa.array([f"r{key}" for key in keys])}
    return pa.RecordBatch.from_pydict({**columns, "h": pa.array([1] * len(keys), pa.uint64()), **fields})


def refused(key: str, code: str = "NO") -> RefusedRow:
    row = RefusedRow("rejected", code, "not this one", MIDDAY, MIDDAY, key_text=key, key=key, attempts=1)
    return row.again(None)


class LedgerSuite:
    """One sync's memory, through a store at `self.url` and snapshots under `self.root`."""

    root: Path
    url: str

    def ledger(self, sync: str = "people", **identity: object) -> Ledger:
        return Ledger(StateHome(self.root), self.url, sync, {**IDENTITY, **identity})

    @contextmanager
    def running(self, run: str = "run-1", sync: str = "people", **identity: object) -> Iterator[Ledger]:
        """A ledger as a run holds it."""
        with closing(self.ledger(sync, **identity)) as ledger, ledger.hold(run, MIDDAY):
            ledger.state()
            ledger.begin(RunReport(sync, run, MIDDAY))
            yield ledger

    def acknowledge(self, ledger: Ledger, batch: pa.RecordBatch, **told: Any) -> None:
        done = Acknowledged(batch, "run-1", "2026-06-01T12:00:00.000Z", **told)
        ledger.record(Acknowledgement(ledger.sync, "run-1", [done]))

    def known(self, sync: str = "people") -> dict[str, dict[str, Any]]:
        with closing(self.ledger(sync)) as ledger, duckdb.connect(":memory:") as connection:
            localdb.settle(connection)
            ledger.known.lay(connection)
            found = connection.sql("SELECT * FROM known").to_arrow_table().to_pylist()
            ledger.known.release(connection)
        return {row["key"]: row for row in found}

    def position(self, ledger: Ledger) -> tuple[str | None, str | None]:
        state = ledger.state()
        assert state is not None
        return state.cursor_value, state.last_run_at

    # --- a run's life ------------------------------------------------------------------------------------------------

    def test_before_the_first_run_there_is_nothing_and_nothing_is_made(self) -> None:
        with closing(self.ledger()) as ledger:
            assert ledger.state() is None
            assert ledger.refused() == []
        assert not (self.root / ".reverse_etl").exists()

    def test_what_was_acknowledged_is_known_before_and_after_a_fold(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", "b", f_plan=pa.array(["free", None])))
            before = self.known()
            ledger.known.fold()
        assert before == {key: {**row, "position": before[key]["position"]} for key, row in self.known().items()}
        assert (before["a"]["f_plan"], before["a"]["record_id"], before["a"]["sent"]) == ("free", "ra", True)

    def test_the_latest_of_several_acknowledgements_counts(self) -> None:
        with self.running() as ledger:
            for plan in ("free", "pro", "team"):
                self.acknowledge(ledger, rows("a", f_plan=pa.array([plan])))
            assert self.known()["a"]["f_plan"] == "team"
            ledger.known.fold()
        assert self.known()["a"]["f_plan"] == "team"

    def test_a_removed_record_is_forgotten_and_a_gone_row_remembered_as_gone(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", "b", f_plan=pa.array(["free", "free"])))
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["free"])), gone=True, removed=True)
            self.acknowledge(ledger, rows("b", f_plan=pa.array(["left"])), gone=True)
            ledger.known.fold()
        assert {key: row["gone"] for key, row in self.known().items()} == {"b": True}

    def test_folding_again_changes_nothing(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["free"])))
            ledger.known.fold()
            ledger.known.fold()
        with self.running("run-2") as ledger:
            ledger.known.fold()
        assert list(self.known()) == ["a"]

    def test_refused_rows_stand_on_the_list_until_they_are_settled(self) -> None:
        with self.running() as ledger:
            ledger.record(Acknowledgement("people", "run-1", refused=[refused("a"), refused("b")]))
            ledger.record(Acknowledgement("people", "run-1", settled=[refused("a").slot]))
            ledger.record(Acknowledgement("people", "run-1", refused=[refused("b", "STILL_NO")]))
            assert [(row.key, row.code) for row in ledger.refused()] == [("b", "STILL_NO")]

    def test_an_unfinished_run_is_on_record_as_running(self) -> None:
        with self.running() as ledger:
            store = ledger.access.store()
            assert [run["status"] for run in store.runs.recent("people")] == ["running"]
            report = RunReport("people", "run-1", MIDDAY, finished_at=MIDDAY, status=RunStatus.PARTIAL)
            ledger.finish(report, None, None)
            assert [run["status"] for run in store.runs.recent("people")] == ["partial"]

    def test_a_reset_beside_a_look_is_one_step_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))
            ledger.known.fold()
        with closing(self.ledger()) as looking:
            of = Syncs.of

            def reset_first(syncs: Syncs, sync: str) -> Any:
                monkeypatch.setattr(Syncs, "of", of)
                reset(self.ledger())
                return of(syncs, sync)

            monkeypatch.setattr(Syncs, "of", reset_first)  # the folder has been looked at by then
            assert looking.state() is None

    def test_a_look_that_a_reset_has_cut_in_two_is_refused(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))
            ledger.known.fold()
        with closing(self.ledger()) as looking, duckdb.connect(":memory:") as connection:
            assert looking.state() is not None
            reset(self.ledger())
            with pytest.raises(SyncBusy, match="reset while it was looked at"):
                looking.known.lay(connection)

    def test_a_first_run_that_died_before_the_folder_named_its_sync_stops_no_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Died(Exception):
            pass

        def die(*_: object) -> None:
            raise Died

        monkeypatch.setattr(StateHome, "enter", die)
        with pytest.raises(Died), self.running():
            pass
        monkeypatch.undo()
        with self.running("run-2") as ledger:
            assert ledger.state() is not None

    def test_the_cursor_moves_only_from_where_the_run_found_it(self) -> None:
        report = RunReport("people", "run-1", MIDDAY, finished_at=MIDDAY)
        with self.running() as ledger:
            assert ledger.finish(report, {"cursor_value": "5", "last_run_at": "t1"}, None)
            assert not ledger.finish(report, {"cursor_value": "6", "last_run_at": "t2"}, None)
            assert not ledger.finish(report, {"cursor_value": "6", "last_run_at": "t2"}, "4")
            assert self.position(ledger) == ("5", "t1")
            assert ledger.finish(report, {"cursor_value": "6", "last_run_at": "t2"}, "5")
            assert self.position(ledger) == ("6", "t2")

    def test_a_plan_is_used_once(self) -> None:
        with self.running() as ledger:
            ledger.plans.hold("abc", MIDDAY, b"rows")
            assert ledger.plans.held("abc") == ("people", "2026-06-01T12:00:00.000Z", b"rows", None)
            assert ledger.plans.use("abc", MIDDAY + timedelta(hours=1))
            assert not ledger.plans.use("abc", MIDDAY + timedelta(hours=2))
            assert ledger.plans.held("other") is None

    def test_a_connection_remembers_between_runs(self) -> None:
        with self.running() as ledger:
            ledger.memory("crm", lasting=True).put("token", "one")
            ledger.memory("other", lasting=True).put("token", "two")
        with self.running("run-2") as ledger:
            memory = ledger.memory("crm", lasting=True)
            assert memory.get("token") == "one"
            memory.put("token", None)
            assert memory.get("token") is None
            look = ledger.memory("other", lasting=False)
            assert look.get("token") == "two"
            look.put("token", "three")  # as long as the process only: a look writes nothing
            assert (look.get("token"), ledger.memory("other", lasting=True).get("token")) == ("three", "two")

    # --- under way ---------------------------------------------------------------------------------------------------

    def send(self, ledger: Ledger, slot: int, *keys: str) -> Flight:
        """A slot's batch goes out."""
        flight = ledger.under_way.flight(slot)
        anyio.run(flight.begin, pa.array(keys, pa.string()))
        return flight

    def die_sending(self, *keys: str) -> None:
        """A run whose process is gone with these rows under way, and others that it has settled."""
        with self.running("run-1") as ledger:
            ledger.note_keys(["text"])
            anyio.run(self.send(ledger, 1, "settled").end)
            self.send(ledger, 0, *keys)

    def test_what_a_dead_run_was_sending_is_in_doubt_to_the_next_one(self) -> None:
        self.die_sending("a", "b")
        with closing(self.ledger()) as looking:
            assert [row.key for row in looking.under_way.rows(MIDDAY)] == ["a", "b"]
        with self.running("run-2") as ledger:
            assert [(row.key, row.kind, row.last_at) for row in ledger.refused()] == [
                (key, "in_doubt", MIDDAY) for key in ("a", "b")
            ]
            assert ledger.under_way.rows(MIDDAY) == []

    def test_a_slot_has_under_way_what_it_sent_last(self) -> None:
        with self.running("run-1") as ledger:
            ledger.note_keys(["number"])
            self.send(ledger, 0, "1", "2")
            anyio.run(ledger.under_way.flight(0).begin, pa.array(["3"], pa.string()))
        with closing(self.ledger()) as looking:
            assert [row.key for row in looking.under_way.rows(MIDDAY)] == [3]

    def test_a_key_that_was_under_way_can_be_forgotten_and_so_can_all(self) -> None:
        self.die_sending("a", "b")
        with closing(self.ledger()) as ledger:
            forget(ledger, "a", "run-2", MIDDAY)
            assert [row.key for row in ledger.under_way.rows(MIDDAY)] == ["b"]
        reset(self.ledger())
        with self.running("run-3") as ledger:
            assert ledger.refused() == []

    # --- whose state it is -------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("other", [{"key": ["email"]}, {"object": "companies"}, {"match": "id"}, {"type": "x"}])
    def test_state_made_with_another_target_is_refused(self, other: dict[str, object]) -> None:
        with self.running():
            pass
        with closing(self.ledger("people", **other)) as ledger, pytest.raises(StateError) as refused:
            ledger.state()
        assert (refused.value.code, refused.value.exit_code) == ("state_other_target", 6)
        assert "reset people" in (refused.value.hint or "")

    def test_state_belongs_to_one_account(self) -> None:
        with self.running() as ledger:
            ledger.bind("portal-1")
            ledger.bind("portal-1")
            with pytest.raises(StateError) as refused:
                ledger.bind("portal-2")
        assert refused.value.code == "state_other_target"
        assert "portal-1" in refused.value.message
        assert "portal-2" in refused.value.message

    def test_two_syncs_do_not_share_anything(self) -> None:
        for sync in ("people", "companies"):
            with self.running("run-of-" + sync, sync) as ledger:
                self.acknowledge(ledger, rows(sync, f_plan=pa.array(["x"])))
                ledger.record(Acknowledgement(sync, "run-1", refused=[refused("r" + sync)]))
                ledger.known.fold()
        assert list(self.known()) == ["people"]
        assert list(self.known("companies")) == ["companies"]
        reset(self.ledger("companies"))
        assert list(self.known()) == ["people"]

    def test_a_reset_forgets_everything_and_the_next_run_is_a_first_one(self) -> None:
        with self.running() as ledger:
            ledger.bind("portal-1")
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))
            ledger.record(Acknowledgement("people", "run-1", refused=[refused("b")]))
            ledger.known.fold()
        reset(self.ledger(object="companies"))
        with self.running("run-2", object="companies") as ledger:
            ledger.bind("portal-2")
            assert ledger.refused() == []
        with closing(self.ledger(object="companies")) as ledger:
            state = ledger.state()
            assert state is not None
            assert (state.cursor_value, state.folded_seq) == (None, 0)

    def test_one_key_can_be_forgotten(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", "b", f_plan=pa.array(["x", "x"])))
            ledger.record(Acknowledgement("people", "run-1", refused=[refused("c")]))
        with closing(self.ledger()) as ledger:
            assert forget(ledger, "a", "run-2", MIDDAY)
            assert forget(ledger, "c", "run-3", MIDDAY)
            assert not forget(ledger, "nobody", "run-4", MIDDAY)
            assert ledger.refused() == []
        assert list(self.known()) == ["b"]

    # --- the mapping changes -----------------------------------------------------------------------------------------

    def test_a_mapping_edited_between_two_acknowledgements_is_folded_in_order(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", "b", f_plan=pa.array(["x", "y"])))
            self.acknowledge(ledger, rows("b", "c", f_city=pa.array(["Delft", None]), f_plan=pa.array(["z", None])))
            self.acknowledge(ledger, rows("c", f_seats=pa.array([7])))
            before = self.known()
            ledger.known.fold()
        known = self.known()
        told = {key: (row["f_plan"], row["f_city"], row["f_seats"]) for key, row in known.items()}
        assert told == {"a": ("x", None, None), "b": ("z", "Delft", None), "c": (None, None, 7)}
        assert {key: row["f_plan"] for key, row in before.items()} == {key: told[key][0] for key in told}

    def test_a_field_that_is_mapped_no_more_keeps_its_value(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"]), f_city=pa.array(["Delft"])))
            ledger.known.fold()
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["y"])))
            ledger.known.fold()
        assert (self.known()["a"]["f_plan"], self.known()["a"]["f_city"]) == ("y", "Delft")

    def test_a_column_whose_type_changes_is_kept_as_text(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", "b", f_seats=pa.array([7, None])))
            ledger.known.fold()
            self.acknowledge(ledger, rows("c", f_seats=pa.array(["many"])))
            ledger.known.fold()
            self.acknowledge(ledger, rows("d", f_seats=pa.array([7.5])))
            ledger.known.fold()
        assert {key: row["f_seats"] for key, row in self.known().items()} == {
            "a": "7",
            "b": None,
            "c": "many",
            "d": "7.5",
        }

    # --- alone -------------------------------------------------------------------------------------------------------

    def test_a_second_run_is_busy_and_names_the_first(self) -> None:
        with (
            self.running(),
            closing(self.ledger()) as other,
            pytest.raises(SyncBusy) as busy,
            other.hold("run-2", MIDDAY),
        ):
            raise AssertionError("two runs hold one sync")
        assert "run-1" in busy.value.message
        assert busy.value.exit_code == 5
        with self.running("run-3"), self.running("run-of-companies", "companies"):
            pass

    # --- lost and damaged --------------------------------------------------------------------------------------------

    def refuses(self, code: str, *words: str) -> None:
        """Looking and running are both refused, and leave every file as it is."""
        before = self.files()
        with pytest.raises(StateError) as looking:
            self.known()
        with pytest.raises(StateError) as going, self.running("run-2") as ledger, duckdb.connect(":memory:") as rows_:
            ledger.known.lay(rows_)
        for found in (looking, going):
            assert (found.value.code, found.value.exit_code) == (code, 6)
            assert found.value.hint
            for word in words:
                assert word in found.value.message
        assert self.files() == before

    def files(self) -> dict[str, bytes]:
        folder = self.root / ".reverse_etl"
        kept = (path for path in folder.rglob("*") if path.is_file() and "lock" not in path.name)
        return {path.name: path.read_bytes() for path in kept if not path.name.endswith(("-shm", "-wal"))}

    def folded(self) -> Path:
        """A sync with state, all in its snapshot. Returns the snapshot's file."""
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))
            ledger.known.fold()
        return self.root / ".reverse_etl" / "snapshots" / "people.duckdb"

    def test_a_project_file_that_is_not_one_is_refused(self) -> None:
        self.folded()
        (self.root / ".reverse_etl" / "project.json").write_text("[]")
        with closing(self.ledger()) as ledger, pytest.raises(StateError):
            ledger.state()

    @pytest.mark.parametrize("schema", range(2, migrations.NEWEST))
    def test_P13_state_of_an_older_schema_is_known_as_it_is_and_migrated_by_a_run(self, schema: int) -> None:
        self.goes_on_from(schema)

    def goes_on_from(self, schema: int) -> None:
        with self.running() as ledger:
            ledger.note_keys(["text"])
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))
            ledger.known.fold()
            ledger.record(Acknowledgement("people", "run-1", refused=[refused("b")]))
        self.made_older(schema)
        before = self.files()
        assert list(self.known()) == ["a"]
        with closing(self.ledger()) as looking:
            assert ([row.key for row in looking.refused()], looking.under_way.rows(MIDDAY)) == (["b"], [])
        assert self.files() == before
        with self.running("run-2") as ledger:
            self.acknowledge(ledger, rows("c", f_plan=pa.array(["y"])))
            self.send(ledger, 0, "d")
            ledger.known.fold()
        assert sorted(self.known()) == ["a", "c"]
        with self.running("run-3") as ledger:
            assert [row.key for row in ledger.refused()] == ["b", "d"]

    def made_older(self, schema: int) -> None:
        """The store as a release of that schema has left it."""
        engine = sa.create_engine(self.url, poolclass=sa.pool.NullPool)
        with engine.begin() as connection:
            for number, statements in UNDONE.items():
                for statement in statements if number > schema else ():
                    connection.execute(sa.text(statement))
            connection.execute(sa.text(f"UPDATE meta SET value = '{schema}' WHERE name = 'schema_version'"))


class TestSqlite(LedgerSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.root = tmp_path
        self.url = f"sqlite:///{tmp_path}/.reverse_etl/state.db"

    @property
    def store_file(self) -> Path:
        return self.root / ".reverse_etl" / "state.db"

    def sql(self, statement: str, parameters: Sequence[object] = ()) -> None:
        with closing(sqlite3.connect(self.store_file, isolation_level=None)) as connection:
            connection.execute(statement, parameters)

    def test_a_snapshot_that_is_no_database_is_refused(self) -> None:
        self.folded().write_bytes(b"not a database" * 1000)
        self.refuses("state_snapshot", "people.duckdb")

    def test_a_snapshot_of_a_newer_release_is_refused(self) -> None:
        with duckdb.connect(str(self.folded())) as connection:
            connection.execute("UPDATE meta SET value = '99' WHERE name = 'format'")
        self.refuses("state_newer", "newer release")

    def test_the_snapshot_of_another_sync_is_refused(self) -> None:
        path = self.folded()
        with duckdb.connect(str(path)) as connection:
            connection.execute("UPDATE meta SET value = 'somebody/else' WHERE name = 'owner'")
        self.refuses("state_mismatch", "somebody/else")

    def test_a_lost_store_is_refused(self) -> None:
        self.folded()
        for path in self.store_file.parent.glob("state.db*"):
            path.unlink()
        self.refuses("state_missing", "state.db")

    def test_a_lost_snapshot_is_refused(self) -> None:
        self.folded().unlink()
        self.refuses("state_missing", "snapshot of people")

    def test_a_store_from_which_the_sync_has_vanished_is_refused(self) -> None:
        self.folded()
        self.sql("DELETE FROM syncs")
        self.refuses("state_missing", "people")

    def test_a_damaged_store_is_refused(self) -> None:
        self.folded()
        body = bytearray(self.store_file.read_bytes())
        body[:100] = b"x" * 100
        self.store_file.write_bytes(body)
        self.refuses("state_unusable", "state.db")

    def test_a_store_of_a_newer_release_is_refused(self) -> None:
        self.folded()
        self.sql("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
        self.refuses("state_newer", "newer release")

    def test_a_store_of_another_project_is_refused(self) -> None:
        self.folded()
        self.sql("UPDATE meta SET value = 'another' WHERE name = 'project_id'")
        self.refuses("state_mismatch", "another")

    def test_an_older_snapshot_beside_a_newer_store_is_refused(self) -> None:
        path = self.folded()
        old = path.read_bytes()
        with self.running("run-2") as ledger:
            self.acknowledge(ledger, rows("b", f_plan=pa.array(["x"])))
            ledger.known.fold()
        path.write_bytes(old)
        self.refuses("state_mismatch", "not of one time")

    def test_an_older_store_beside_a_newer_snapshot_is_refused(self) -> None:
        self.folded()
        self.sql("UPDATE syncs SET folded_seq = 0")
        self.refuses("state_mismatch", "not of one time")

    def test_a_crash_between_the_snapshot_and_the_store_repeats_nothing(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))
            entries = Journal(ledger.access.store(), "people").entries()
            beside.snapshot(ledger.home, "people").fold(entries)  # and no `folded`: killed here
        assert list(self.known()) == ["a"]
        with self.running("run-2") as ledger:
            ledger.known.fold()
            state = ledger.state()
            assert state is not None
            assert (state.folded_seq, state.last_seq, state.known_rows) == (1, 1, 1)
        assert list(self.known()) == ["a"]

    def test_P03_the_journal_is_on_the_disk_before_it_is_folded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A power cut would otherwise leave a snapshot that is newer than its store."""
        synced: list[str] = []
        fsync = os.fsync

        def noted(handle: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
            fsync(handle)

        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))
            monkeypatch.setattr(os, "fsync", noted)
            ledger.known.fold()
        assert synced[0] == f"{self.store_file}-wal"
        assert str(self.root / ".reverse_etl" / "snapshots") in synced  # where the snapshot's name has appeared

    def test_a_run_beside_a_look_is_no_mismatch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folded()
        with closing(self.ledger()) as looking:
            attach = Snapshot.attach

            def attach_late(self_: Any, connection: Any, *names: str) -> int:
                monkeypatch.setattr(Snapshot, "attach", attach)
                with self.running("run-2") as ledger:
                    self.acknowledge(ledger, rows("b", f_plan=pa.array(["x"])))
                    ledger.known.fold()
                return int(attach(self_, connection, *names))

            monkeypatch.setattr(Snapshot, "attach", attach_late)
            assert looking.state() is not None

    @pytest.mark.parametrize("mask", [0o000, 0o077])
    def test_files_and_folders_are_private_under_any_umask(self, mask: int) -> None:
        before = os.umask(mask)
        try:
            self.folded()
            with closing(self.ledger()) as ledger, ledger.spool("run-9", dry=False) as folder:
                (folder / "spill").touch(0o600)
                modes = {path: path.stat().st_mode for path in (self.root / ".reverse_etl").rglob("*")}
        finally:
            os.umask(before)
        modes[self.root / ".reverse_etl"] = (self.root / ".reverse_etl").stat().st_mode
        wrong = {
            path.name: oct(stat.S_IMODE(mode))
            for path, mode in modes.items()
            if stat.S_IMODE(mode) != (0o700 if stat.S_ISDIR(mode) else 0o600)
        }
        assert wrong == {}

    def test_a_first_run_that_died_before_it_had_made_its_tables_is_no_run(self) -> None:
        with closing(self.ledger()) as ledger, ledger.hold("run-0", MIDDAY):
            self.store_file.touch(0o600)
        with closing(self.ledger()) as ledger:
            assert ledger.state() is None
        self.folded()
        assert list(self.known()) == ["a"]

    def test_a_store_that_became_empty_is_refused(self) -> None:
        self.folded()
        for path in self.store_file.parent.glob("state.db*"):
            path.unlink()
        self.store_file.touch(0o600)
        self.refuses("state_missing", "is empty")

    def test_a_folder_that_cannot_be_written_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folded()

        def read_only(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Path, "chmod", read_only)  # root may write to a folder whose rights say no
        with closing(self.ledger()) as ledger, pytest.raises(StateError) as refused, ledger.hold("run-2", MIDDAY):
            raise AssertionError("held without a lock")
        assert "can't be written: Read-only file system" in refused.value.message

    def test_a_link_in_place_of_the_folder_is_refused(self) -> None:
        elsewhere = self.root / "elsewhere"
        elsewhere.mkdir()
        (self.root / ".reverse_etl").symlink_to(elsewhere)
        with pytest.raises(StateError), self.running():
            raise AssertionError("state was kept behind a link")

    def test_a_killed_holder_lets_go_at_once_and_leaves_no_spool(self) -> None:
        script = (
            "import sys, time; from pathlib import Path; from reverse_etl.state.home import StateHome\n"
            "home = StateHome(Path(sys.argv[1])); home.prepare()\n"
            "with home.lock('people', 'run run-0'), home.spool('people.run-0'):\n"
            "    print('held', flush=True); time.sleep(60)\n"
        )
        command = [sys.executable, "-c", script, str(self.root)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(SyncBusy) as busy, self.running():
                raise AssertionError("two runs hold one sync")
            assert "run-0" in busy.value.message
            assert list((self.root / ".reverse_etl" / "spool").iterdir())
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            with self.running("run-2"):
                assert list((self.root / ".reverse_etl" / "spool").iterdir()) == []

    def test_P13_state_of_the_first_schema_is_copied_migrated_and_known(self) -> None:
        self.goes_on_from(1)
        with closing(sqlite3.connect(self.store_file.with_name("state.db.schema-1"))) as copy:
            assert copy.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone() == ("1",)


class TestPostgres(LedgerSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, postgres: str) -> None:
        self.root = tmp_path
        self.url = postgres

    def test_a_lost_local_copy_is_made_again_from_the_journal(self) -> None:
        with self.running() as ledger:
            self.acknowledge(ledger, rows("a", "b", f_plan=pa.array(["x", "y"])))
            ledger.known.fold()
            self.acknowledge(ledger, rows("b", f_plan=pa.array(["z"])))
            ledger.known.fold()
        (self.root / ".reverse_etl" / "snapshots" / "people.duckdb").unlink()
        assert {key: row["f_plan"] for key, row in self.known().items()} == {"a": "x", "b": "z"}

    def test_an_older_local_copy_is_brought_up_to_date_from_the_journal(self) -> None:
        path = self.folded()
        old = path.read_bytes()
        with self.running("run-2") as ledger:
            self.acknowledge(ledger, rows("b", f_plan=pa.array(["y"])))
            ledger.known.fold()
        path.write_bytes(old)
        assert {key: row["f_plan"] for key, row in self.known().items()} == {"a": "x", "b": "y"}
        with self.running("run-3") as ledger:
            self.acknowledge(ledger, rows("c", f_plan=pa.array(["z"])))
            ledger.known.fold()
        assert sorted(self.known()) == ["a", "b", "c"]

    # --- several machines --------------------------------------------------------------------------------------------

    @contextmanager
    def on_another_machine(self) -> Iterator[None]:
        """The same store, from a folder that knows nothing."""
        here = self.root
        self.root = here / "another"
        self.root.mkdir(exist_ok=True)
        yield
        self.root = here

    def test_another_machine_knows_what_the_first_one_recorded_and_goes_on_from_it(self) -> None:
        self.folded()
        with self.on_another_machine():
            assert list(self.known()) == ["a"]
            with self.running("run-2") as ledger:
                self.acknowledge(ledger, rows("b", f_plan=pa.array(["y"])))
                ledger.known.fold()
        assert sorted(self.known()) == ["a", "b"]
        with self.running("run-3") as ledger:
            self.acknowledge(ledger, rows("c", f_plan=pa.array(["z"])))
            ledger.known.fold()
        with self.on_another_machine():
            assert sorted(self.known()) == ["a", "b", "c"]

    def test_a_machine_that_only_looks_leaves_no_file(self) -> None:
        self.folded()
        with self.on_another_machine():
            assert list(self.known()) == ["a"]
            assert list(self.root.iterdir()) == []

    def test_P35_a_run_on_another_machine_is_busy_and_names_the_first(self) -> None:
        with self.running("run-1"), self.on_another_machine():
            with pytest.raises(SyncBusy, match="run-1"), self.running("run-2"):
                raise AssertionError("two machines hold one sync")
            with self.running("run-of-companies", "companies"):
                pass
        with self.on_another_machine(), self.running("run-3"):
            pass

    def test_first_runs_that_begin_together_on_several_machines_make_one_state(self) -> None:
        machines, together = [f"machine-{number}" for number in range(4)], threading.Barrier(4)

        def first_run(machine: str) -> None:
            home = StateHome(self.root / machine)
            (self.root / machine).mkdir()
            with closing(Ledger(home, self.url, machine, {"key": ["email"]})) as ledger:
                together.wait()
                with ledger.hold(f"run of {machine}", MIDDAY):
                    ledger.begin(RunReport(machine, f"run of {machine}", MIDDAY))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(first_run, machines))
        for machine in machines:
            with closing(Ledger(StateHome(self.root / machine), self.url, machine, {"key": ["email"]})) as ledger:
                assert ledger.state() is not None

    def test_P36_a_run_that_lost_its_lease_commits_nothing(self) -> None:
        with closing(self.ledger()) as ours, ours.hold("run-1", MIDDAY) as still_held:
            ours.begin(RunReport("people", "run-1", MIDDAY))
            still_held()
            self.expire()
            with self.on_another_machine(), self.running("run-2") as theirs:
                self.acknowledge(theirs, rows("b", f_plan=pa.array(["theirs"])))
                for write in (
                    lambda: self.acknowledge(ours, rows("a", f_plan=pa.array(["late"]))),
                    lambda: ours.finish(RunReport("people", "run-1", MIDDAY), {"cursor_value": "9"}, None),
                    lambda: ours.note_keys(["text", "text"]),
                ):
                    with pytest.raises(LeaseLost, match="cut off from the state"):
                        write()
        assert {key: row["f_plan"] for key, row in self.known().items()} == {"b": "theirs"}

    def test_P36_no_request_starts_after_the_lease_s_own_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with closing(self.ledger()) as ours, ours.hold("run-1", MIDDAY) as still_held:
            asleep = time.monotonic() + lease.RUN.lasts
            monkeypatch.setattr("reverse_etl.state.lease.time.monotonic", lambda: asleep)
            with pytest.raises(LeaseLost):
                still_held()

    def test_P37_the_machine_that_takes_over_knows_what_the_dead_one_was_sending(self) -> None:
        with closing(self.ledger()) as dead, dead.hold("run-1", MIDDAY):
            dead.begin(RunReport("people", "run-1", MIDDAY))
            self.send(dead, 0, "a")
            self.expire()
            with self.on_another_machine(), self.running("run-2") as ledger:
                assert [(row.key, row.kind) for row in ledger.refused()] == [("a", "in_doubt")]
                with pytest.raises(LeaseLost):  # and it begins nothing any more
                    self.send(dead, 0, "b")
                self.send(ledger, 0, "c")
                anyio.run(dead.under_way.flight(0).end)  # nor does it end what isn't its own
            with self.on_another_machine(), closing(self.ledger()) as looking:
                assert [row.key for row in looking.under_way.rows(MIDDAY)] == ["c"]
        assert list((self.root / ".reverse_etl" / "underway").iterdir()) == []

    def test_how_long_ago_it_was_sent_goes_by_the_database_s_clock(self) -> None:
        self.die_sending("a")
        self.execute("UPDATE under_way SET since = since - interval '1 hour'")
        now = datetime.now(UTC)
        with closing(self.ledger()) as looking:
            (row,) = looking.under_way.rows(now)
        assert timedelta(hours=1) <= now - row.last_at + timedelta(seconds=5) < timedelta(hours=1, minutes=1)

    def test_what_is_under_way_is_written_without_waiting_for_the_disk(self) -> None:
        with self.running("run-1") as ledger:
            store = ledger.access.store()
            with store.at_once() as connection:
                self.send(ledger, 0, "a")
                assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"  # but for these writes
        assert self.execute("SELECT count(*) FROM under_way")[0][0] == 1

    def test_a_lease_is_kept_alive_while_its_run_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease, "RUN", lease.Term(lasts=0.6, beat=0.1))
        with self.running("run-1"), self.on_another_machine():
            for _ in range(4):
                time.sleep(0.25)
                with pytest.raises(SyncBusy), self.running("run-2"):
                    raise AssertionError("two machines hold one sync")

    def test_P37_a_dead_holder_is_replaced_when_its_lease_has_run_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease, "RUN", lease.Term(lasts=0.3, beat=60.0))  # dead: it never beats
        with closing(self.ledger()) as dead, dead.hold("run-1", MIDDAY), self.on_another_machine():
            time.sleep(0.35)
            with self.running("run-2") as ledger:
                self.acknowledge(ledger, rows("a", f_plan=pa.array(["x"])))

    def expire(self) -> None:
        self.execute("UPDATE leases SET expires_at = '-infinity'")

    def execute(self, sql: str) -> list[Any]:
        engine = sa.create_engine(self.url, poolclass=sa.pool.NullPool)
        with engine.begin() as connection:
            found = connection.execute(sa.text(sql))
            return [*found] if found.returns_rows else []

    # --- bases -------------------------------------------------------------------------------------------------------

    def grown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """State whose journal was compacted into a base on the way."""
        monkeypatch.setattr(copies, "WORTH_A_BASE", 2000)
        monkeypatch.setattr(bases, "PART", 100_000)
        for number in range(4):
            with self.running(f"grown-{number}") as ledger:
                self.acknowledge(ledger, rows(f"k{number:02}", f_plan=pa.array(["x"])))
                ledger.known.fold()
        monkeypatch.setattr(copies, "WORTH_A_BASE", 10**9)

    def test_the_journal_is_compacted_into_a_base_that_other_machines_begin_with(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.grown(monkeypatch)
        ((entries, parts),) = self.execute("SELECT (SELECT count(*) FROM journal), (SELECT count(*) FROM bases)")
        assert entries < 4
        assert parts > 1
        keys = [f"k{number:02}" for number in range(4)]
        assert sorted(self.known()) == keys
        with self.on_another_machine():
            assert sorted(self.known()) == keys
            with self.running("run-x") as ledger:
                self.acknowledge(ledger, rows("k99", f_plan=pa.array(["y"])))
                ledger.known.fold()
        assert sorted(self.known()) == [*keys, "k99"]

    def test_a_copy_older_than_the_base_is_made_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        path = self.folded()
        old = path.read_bytes()
        self.grown(monkeypatch)
        path.write_bytes(old)
        assert len(self.known()) == 5
        with self.running("run-x") as ledger:
            ledger.known.fold()
        assert len(self.known()) == 5

    @pytest.mark.parametrize("harm", ["damage", "another", "gone"])
    def test_a_copy_that_cannot_be_used_is_made_anew(self, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.grown(monkeypatch)
        path = self.root / ".reverse_etl" / "snapshots" / "people.duckdb"
        if harm == "damage":
            path.write_bytes(b"not a database" * 1000)
        elif harm == "gone":
            path.unlink()
        else:
            with duckdb.connect(str(path)) as connection:
                connection.execute("UPDATE meta SET value = 'somebody/else' WHERE name = 'owner'")
        assert len(self.known()) == 4
        with self.running("run-x") as ledger:
            self.acknowledge(ledger, rows("k99", f_plan=pa.array(["y"])))
            ledger.known.fold()
        assert len(self.known()) == 5

    def test_a_copy_made_before_a_reset_on_another_machine_is_none_any_more(self) -> None:
        self.folded()
        with self.on_another_machine():
            reset(self.ledger())
            with self.running("run-2") as ledger:
                self.acknowledge(ledger, rows("b", f_plan=pa.array(["y"])))
                ledger.known.fold()
        with self.running("run-3") as ledger:
            ledger.known.fold()
        assert list(self.known()) == ["b"]

    def test_a_reset_on_another_machine_makes_the_next_run_here_a_first_one(self) -> None:
        self.folded()
        with self.on_another_machine():
            reset(self.ledger())
        assert StateArchive(StateHome(self.root), self.url).verify() == ([], [])
        with closing(self.ledger()) as ledger:
            assert ledger.state() is None
        with self.running("run-2") as ledger:
            self.acknowledge(ledger, rows("b", f_plan=pa.array(["x"])))
        assert list(self.known()) == ["b"]
        self.execute("DELETE FROM syncs")
        with closing(self.ledger()) as ledger, pytest.raises(StateError, match="the state of people is missing"):
            ledger.state()

    def test_a_journal_with_a_gap_is_refused(self) -> None:
        with self.running() as ledger:
            for key in "abc":
                self.acknowledge(ledger, rows(key, f_plan=pa.array(["x"])))
        self.execute("DELETE FROM journal WHERE seq = 1")
        with closing(self.ledger()) as ledger, duckdb.connect(":memory:") as rows_, pytest.raises(StateError) as found:
            ledger.known.lay(rows_)
        assert found.value.code == "state_mismatch"
