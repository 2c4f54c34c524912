"""Rows that were under way when a process died, and a disk that fills up meanwhile: nothing is lost or unknown."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from threading import Timer

import anyio
import duckdb
import pyarrow as pa
import pytest
import sqlalchemy as sa
from anyio import to_thread

from reverse_etl.errors import DiskFull
from reverse_etl.model import Batch
from reverse_etl.report import RunReport
from reverse_etl.standing import Acknowledged, Acknowledgement
from reverse_etl.state.forgetting import forget
from reverse_etl.state.reserve import Reserve
from reverse_etl.testing import MemoryAccount, MemoryDestination
from reverse_etl.testing.clock import MIDDAY
from reverse_etl.verdicts import Outcomes
from tests.house import FIELDS, House, sync


@pytest.fixture
def house(tmp_path: Path) -> House:
    built = House(tmp_path)
    built.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    built.go()
    return built


def killed_while_sending(house: House, *keys: str) -> None:
    """What a killed run leaves: the keys of the batch that a slot had sent."""
    with closing(house.ledger()) as ledger:
        ledger.home.prepare()
        anyio.run(ledger.under_way.flight(0).begin, pa.array(keys, pa.string()))


def sent(house: House) -> list[str]:
    return [key for _, key, _ in house.crm.sent()]


def left(house: House) -> list[str]:
    return [path.name for path in (house.root / ".reverse_etl" / "underway").iterdir()]


def test_P04_what_a_killed_run_was_sending_is_sent_again_and_once_more_when_its_call_cannot_land_any_more(
    house: House,
) -> None:
    house.people((1, "a@x.io", "newer"), (2, "b@x.io", "free"))
    killed_while_sending(house, "1")
    before = len(sent(house))
    house.go()
    assert (sent(house)[before:], house.refused(), left(house)) == (["1"], {}, [])
    house.crm.records["r1"]["plan"] = "of the killed run"  # its call, at last
    house.go()
    assert house.crm.by("email")["a@x.io"]["plan"] == "newer"
    assert sent(house)[before:] == ["1", "1"]
    house.idle()


def test_a_row_that_went_back_to_what_it_was_before_the_killed_run_is_put_right(house: House) -> None:
    house.crm.records["r2"]["plan"] = "arrived, and nobody recorded it"
    killed_while_sending(house, "2")
    house.go()
    assert house.crm.by("email")["b@x.io"]["plan"] == "free"


def test_P34_a_dry_run_shows_them_as_the_next_run_sends_them(house: House) -> None:
    killed_while_sending(house, "2")
    shown = house.go(dry_run=True)
    assert (shown.rows.changed, house.refused()) == (1, {})
    assert house.go().rows == shown.rows


def test_such_a_row_is_in_doubt_before_the_next_run_takes_it_up(house: House) -> None:
    killed_while_sending(house, "2")
    told = house.explain("2")
    assert (told.state, "has not said what became of it" in told.reason) == ("in_doubt", True)
    assert house.explain("1").state == "unchanged"


def test_with_a_cursor_they_are_read_again_by_their_keys(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="n"))
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, n INTEGER"
    house.people((1, "a@x.io", "free", 1), (2, "b@x.io", "free", 2), columns=columns)
    house.go()
    killed_while_sending(house, "1")
    report = house.go()
    assert (report.rows.retried, sent(house)[2:]) == (1, ["1"])


def test_a_row_whose_run_died_long_ago_is_only_sent_once(house: House) -> None:
    killed_while_sending(house, "1")
    (file,) = (house.root / ".reverse_etl" / "underway").iterdir()
    long_ago = (house.clock.now() - timedelta(hours=1)).timestamp()
    os.utime(file, (long_ago, long_ago))
    house.go()
    house.idle()


def test_a_forgotten_key_is_none_of_them_any_more(house: House) -> None:
    killed_while_sending(house, "1", "2")
    with closing(house.ledger()) as ledger:
        forget(ledger, "1", "run-forget", house.clock.now())
    with closing(house.ledger()) as ledger:
        assert [each.key for each in ledger.under_way._flights.left()] == ["2"]


def test_what_a_power_cut_left_of_such_a_file_is_passed_over(house: House) -> None:
    killed_while_sending(house, "1")
    (file,) = (house.root / ".reverse_etl" / "underway").iterdir()
    file.write_bytes(file.read_bytes()[:20])
    house.idle()
    assert left(house) == []


def test_P50_nothing_is_sent_where_the_disk_has_no_room_to_record_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int, _start: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    house.people((1, "a@x.io", "pro"), (2, "b@x.io", "free"))
    before = len(sent(house))
    report = house.run()
    assert report.error is not None
    assert (report.error.code, report.exit_code, len(sent(house))) == ("disk", 1, before)
    assert "0.5 MB are needed" in report.error.message
    monkeypatch.undo()
    assert house.go().delivered.updated == 1
    assert not list((house.root / ".reverse_etl").glob("*reserve*"))


def test_P50_what_was_sent_is_recorded_on_a_full_disk_with_the_room_that_was_kept(house: House) -> None:
    """The store may not grow any more, until the reserve has been given back."""
    with closing(house.ledger()) as ledger, ledger.hold("run-x", MIDDAY):
        ledger.state()
        ledger.begin(RunReport(house.sync.name, "run-x", MIDDAY))
        store = ledger.access.store()

        class Kept(Reserve):
            def give_back(self) -> bool:
                _grow(store.engine, 1_000_000)
                return super().give_back()

        ledger.under_way._reserve = Kept(house.root / ".reverse_etl" / "reserve")
        ledger.under_way.make_room(1000)
        _grow(store.engine, 1)
        keys = [str(at) for at in range(5000)]
        rows = pa.record_batch(
            {"key": keys, "record_id": keys, "h": pa.array(range(5000), pa.uint64()), "f_plan": ["pro"] * 5000}
        )
        with pytest.raises(DiskFull, match="all that was sent has been recorded"):
            ledger.record(Acknowledgement(house.sync.name, "run-x", [Acknowledged(rows, "run-x", "")]))
    with closing(house.ledger()) as ledger, duckdb.connect(":memory:") as connection:
        ledger.known.lay(connection)
        assert connection.execute("SELECT count(*) FROM known").fetchone() == (5000,)


def _grow(engine: sa.Engine, pages: int) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def test_a_dry_run_beside_a_run_says_so_and_counts_nothing_of_it_as_in_doubt(house: House) -> None:
    house.people((1, "a@x.io", "newer"), (2, "b@x.io", "free"))
    with closing(house.ledger()) as ledger, ledger.hold("run-beside", house.clock.now()):
        ledger.begin(RunReport("people", "run-beside", house.clock.now()))
        anyio.run(ledger.under_way.flight(0).begin, pa.array(["1"], pa.string()))
        shown, told = house.go(dry_run=True), house.explain("1")
    assert (shown.rows.changed, shown.pending, shown.in_doubt, shown.exit_code) == (1, 1, 0, 0)
    assert [note for note in shown.notes if "run run-beside, process" in note and "at work" in note]
    assert (told.state, "run run-beside, process" in told.reason) == ("pending", True)
    assert house.go(dry_run=True).notes == []


def test_what_a_run_has_only_just_sent_once_is_not_in_doubt_to_a_dry_run_beside_it(tmp_path: Path) -> None:
    house = House(tmp_path, sync(mode="append", match=""), crm=MemoryAccount(*FIELDS, repeatable=False))
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.crm.leave_out("1")
    house.go()
    seen = list[RunReport]()

    class Watched(MemoryDestination):
        async def write(self, batch: Batch) -> Outcomes:
            seen.append(await to_thread.run_sync(lambda: house.go(dry_run=True)))
            return await super().write(batch)

    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"), (3, "c@x.io", "free"))
    house.go(destination=lambda: Watched(account=house.crm))
    assert [(shown.in_doubt, shown.pending) for shown in seen] == [(1, 1)]


def test_who_looks_whether_a_sync_is_held_keeps_no_run_from_it(house: House) -> None:
    with closing(house.ledger()) as ledger:
        assert ledger.holder() is None
        path = ledger.home.folder / "locks" / "people.lock"
        look = os.open(path, os.O_RDONLY)
        fcntl.flock(look, fcntl.LOCK_SH)
        Timer(0.003, os.close, [look]).start()
        assert house.go().status == "succeeded"
