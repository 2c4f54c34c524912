"""The notebook, systemd's datagrams, the alarms, and the scheduler's words."""

from __future__ import annotations

import os
import socket
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from reverse_etl.daemon.alarms import ApSchedulerAlarms
from reverse_etl.daemon.notebook import Notebook, running_at
from reverse_etl.daemon.scheduler import facts, told
from reverse_etl.daemon.systemd import Notifier
from reverse_etl.errors import StateError, SyncBusy
from reverse_etl.report import RunError, RunReport, RunStatus
from tests.unit.daemon.day import START
from tests.unit.daemon.desk import PROJECT, Desk


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    made = Notebook(tmp_path)
    made.open()
    return made


# --- the notebook -----------------------------------------------------------------------------------------------------


def test_what_is_written_is_there_after_a_restart(notebook: Notebook, tmp_path: Path) -> None:
    notebook.write("asked", {"people": True})
    again = Notebook(tmp_path)
    again.open()
    assert (again.page("asked"), again.page("told")) == ({"people": True}, {})


def test_S07_the_notebook_is_its_owners_alone(notebook: Notebook, tmp_path: Path) -> None:
    notebook.write("asked", {"people": True})
    folder = tmp_path / ".reverse_etl"
    assert stat.S_IMODE((folder / "daemon.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_S07_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".reverse_etl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match="is a link"):
        Notebook(tmp_path).open()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"asked": 7}', "\0"])
def test_a_damaged_notebook_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / ".reverse_etl").mkdir()
    (tmp_path / ".reverse_etl/daemon.json").write_text(text)
    notebook = Notebook(tmp_path)
    notebook.open()
    assert notebook.page("asked") == {}


def test_P50_a_disk_that_takes_nothing_stops_no_sync(
    notebook: Notebook, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".reverse_etl/daemon.new").mkdir()
    notebook.write("asked", {"people": True})
    assert notebook.page("asked") == {"people": True}
    assert "daemon.json can't be written, and is forgotten with a restart" in caplog.messages[0]


def test_one_daemon_holds_a_project_and_says_where_it_answers(notebook: Notebook, tmp_path: Path) -> None:
    assert running_at(tmp_path) is None
    with notebook.alone() as lock:
        lock.write_text("process 7\nhttp://127.0.0.1:8780\n")
        assert running_at(tmp_path) == "http://127.0.0.1:8780"
        with pytest.raises(SyncBusy, match=r"is running already \(process 7\)"), notebook.alone():
            pass
    assert running_at(tmp_path) is None


# --- systemd ----------------------------------------------------------------------------------------------------------


def test_systemd_is_told_by_a_datagram(tmp_path: Path) -> None:
    place = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        hearing.bind(place)
        Notifier({"NOTIFY_SOCKET": place}).tell("READY=1", "STATUS=well")
        assert hearing.recv(100) == b"READY=1\nSTATUS=well"


def test_an_abstract_socket_begins_with_an_at() -> None:
    name = f"reverse-etl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        hearing.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).tell("READY=1")
        assert hearing.recv(100) == b"READY=1"


@pytest.mark.parametrize("place", ["", "nowhere", "/nowhere/at/all"])
def test_nobody_who_listens_is_no_trouble(place: str) -> None:
    Notifier({"NOTIFY_SOCKET": place}).tell("READY=1")


# --- alarms -----------------------------------------------------------------------------------------------------------


def test_alarms_ring_in_their_order_once_and_late_ones_at_once() -> None:
    rung: list[str] = []

    async def scene() -> None:
        alarms = ApSchedulerAlarms(rung.append)
        alarms.start()
        now = datetime.now(UTC)
        alarms.set("soon", now + timedelta(seconds=0.1))
        alarms.set("late", now - timedelta(days=3))
        alarms.set("never", now + timedelta(seconds=0.05))
        alarms.clear("never")
        alarms.clear("unknown")
        await anyio.sleep(0.25)
        alarms.set("soon", now + timedelta(seconds=900))
        alarms.set("soon", now)
        await anyio.sleep(0.05)
        alarms.stop()
        alarms.look()

    anyio.run(scene)
    assert rung == ["late", "soon", "soon"]


def test_an_alarm_that_sets_itself_again_at_once_loses_no_ring() -> None:
    rung: list[str] = []

    async def scene() -> None:
        def again(name: str) -> None:
            rung.append(name)
            if len(rung) < 20:
                alarms.set(name, datetime.now(UTC))

        alarms = ApSchedulerAlarms(again)
        alarms.start()
        alarms.set("a", datetime.now(UTC))
        await anyio.sleep(0.3)
        alarms.stop()

    anyio.run(scene)
    assert len(rung) == 20


# --- words ------------------------------------------------------------------------------------------------------------


def test_a_run_ends_in_one_line_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    desk = Desk(tmp_path)
    desk.define("people", "schedule: every 1 hour")
    desk.define("child", "schedule: {after: people}")
    desk.look()
    desk.scheduler.ring("people")
    order = desk.pool._waiting["people"]
    desk.scheduler.run_begins(order)
    caplog.clear()
    desk.clock.advance(timedelta(seconds=3))
    report = RunReport("people", "r", START, RunStatus.FAILED, finished_at=START + timedelta(seconds=3))
    report.error = RunError("source_locked", "the file is locked", "run again when it is free")
    desk.scheduler.run_ended(order, report)
    assert caplog.messages == [
        "people: failed after 3.0 s: the file is locked (run again when it is free)",
        "child: left out, as people has not succeeded",
    ]
    assert caplog.records[0].levelname == "ERROR"


def test_a_run_s_end_tells_people_counts_and_the_next_step_and_machines_every_figure() -> None:
    report = RunReport("people", "r", START, RunStatus.PARTIAL, finished_at=START + timedelta(seconds=3))
    report.rows.read, report.rows.invalid, report.delivered.created, report.in_doubt = 5, 1, 3, 1
    assert told(report) == (
        "people: partial in 3.0 s: 5 read, 3 created, 0 updated, 0 removed, 1 invalid, 1 in doubt "
        "(`reverse-etl rejected people` tells which, and why)"
    )
    report.status, report.error = RunStatus.FAILED, RunError("disk", "the disk is full", "make room")
    assert told(report) == (
        "people: failed after 3.0 s: the disk is full (make room); "
        "5 read, 3 created, 0 updated, 0 removed, 1 invalid, 1 in doubt"
    )
    found: Any = facts(report)
    assert (found["run_id"], found["status"], found["code"]) == ("r", "failed", "disk")
    assert (found["run"]["seconds"], found["run"]["rows"]["read"], found["run"]["delivered"]["created"]) == (3.0, 5, 3)


def test_a_broken_project_file_stays_in_force_as_it_was_and_its_mending_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    desk = Desk(tmp_path)
    desk.define("people", "schedule: every 1 hour")
    desk.look()
    desk.write("reverse_etl.yml", "sources: [")
    desk.look()
    assert caplog.messages[-1].startswith("reverse_etl.yml is broken, and its last good version stays in force: ")
    desk.write("reverse_etl.yml", PROJECT)
    desk.look()
    assert caplog.messages[-1] == "reverse_etl.yml is right again"


def test_the_figures_of_a_sync_that_is_gone_are_gone_and_of_a_daemon_that_stands_down_those_that_stand(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    for name in ("people", "leads"):
        desk.define(name, "schedule: every 1 hour")
    desk.look()
    for name in ("people", "leads"):
        report = RunReport(name, "r", START, RunStatus.PARTIAL, finished_at=START)
        report.rejected, report.cursor_to = 7, "2026-06-01T11:00:00Z"
        desk.metrics.ended(desk.scheduler.agenda[name], report)
        desk.metrics.skipped(desk.scheduler.agenda[name])
    (tmp_path / "syncs/people.yml").unlink()
    desk.look()
    desk.metrics.forget("people")
    text = desk.metrics.text().decode()
    assert 'sync="people"' not in text
    assert 'reverse_etl_standing_rows{state="rejected",sync="leads"} 7.0' in text
    desk.metrics.stand_down()
    text = desk.metrics.text().decode()
    assert "reverse_etl_standing_rows{" not in text
    assert 'reverse_etl_runs_total{status="partial",sync="leads"} 1.0' in text


def test_the_log_says_why_a_run_is_due(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.define("people", "schedule: every 1 hour")
    desk.look()
    desk.clock.advance(timedelta(hours=3, minutes=1))
    desk.scheduler.agenda["people"].anchor = START
    desk.scheduler.ring("people")
    assert desk.pool._waiting["people"].reason == ("every 1 hour; 2 more times have passed since its last run")


def test_a_clock_that_is_set_back_is_said_and_alarms_are_set_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(tmp_path)
    desk.define("people", "schedule: every 1 hour")
    desk.look()
    desk.scheduler.ring("people")
    assert desk.alarms.due["people"] == START + timedelta(hours=1)
    desk.clock.set_back(timedelta(hours=5))
    desk.scheduler.look()
    assert desk.alarms.due["people"] == START - timedelta(hours=4)
    assert "set back by 5:00:00" in caplog.messages[-1]


def test_a_sync_that_is_gone_when_its_turn_comes_is_left_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    path = desk.define("people", "schedule: every 1 hour")
    desk.look()
    desk.scheduler.ring("people")
    order = desk.pool._waiting["people"]
    path.unlink()
    desk.look()
    assert desk.pool.waiting == ()
    from reverse_etl.stop import Stop  # noqa: PLC0415

    report = anyio.run(desk.scheduler.carry_out, order, Stop())
    assert report.status is RunStatus.SKIPPED
    desk.scheduler.run_begins(order)
    desk.scheduler.run_ended(order, report)
