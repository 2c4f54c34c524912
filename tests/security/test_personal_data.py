"""S6: values of rows stay out of logs and alerts, only what is mapped is kept, and one person can be forgotten."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from sqlalchemy.engine import make_url

from reverse_etl import Project
from reverse_etl.daemon.agenda import Entry
from reverse_etl.daemon.alerts import Alert, Watch
from reverse_etl.daemon.rhythm import Past
from reverse_etl.daemon.scheduler import told
from reverse_etl.report import RunError, RunReport, RunStatus
from reverse_etl.testing import FakeClock
from tests.house import House, sync
from tests.sandbox.scene import PEOPLE, START, Scene, scene_in

WANDA = ("wanda-unmistakable@x.example", "Wandalinde", 77001122)
BAD = ("bad..canaryaddress@x.example", "Canarianus", 88223344)
OTHERS = [(f"other{number}@x.example", f"Other{number}", number) for number in range(50)]


@pytest.fixture
def scene(tmp_path: Path) -> Any:
    with scene_in(tmp_path) as ready:
        ready.people(WANDA, BAD, *OTHERS)
        ready.define()
        yield ready


def bytes_under(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- logs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_S06_no_key_and_no_value_of_a_row_is_in_a_log(scene: Scene, form: str) -> None:
    scene.define({**PEOPLE, "query": "select email, cast(first_name as integer) n from people", "mapping":
                  {"email": "email", "workspaces_total": "n"}}, name="broken")  # fmt: skip
    ended = scene.cli("sync", "--log-level", "debug", "--log-format", form)
    assert ended.returncode == 1
    assert "canary" not in ended.stderr.lower() and "wanda" not in ended.stderr.lower()
    assert "a row was refused" in ended.stderr
    assert "#" in ended.stderr  # what the row's key is called in logs
    assert "Wandalinde" in ended.stdout  # the warehouse's own words, for who asked for the run


def test_S06_log_values_shows_keys_and_values_in_logs(scene: Scene) -> None:
    scene.write_project(log_values=True)
    ended = scene.cli("sync", "--log-level", "debug", "--log-format", "json")
    (line,) = [json.loads(line) for line in ended.stderr.splitlines() if "a row was refused" in line]
    assert line["row"] == BAD[0]
    assert json.loads(line["values"])["firstname"] == "Canarianus"


def test_S06_what_people_ask_for_is_shown(scene: Scene) -> None:
    scene.cli("sync")
    assert BAD[0] in scene.cli("rejected", "people").stdout
    assert "Wandalinde" in scene.cli("explain", "people", WANDA[0]).stdout
    scene.people(("new@x.example", "Newlinde", 1), WANDA, BAD, *OTHERS)
    assert "Newlinde" in scene.cli("sync", "--dry-run").stdout


WORDS = 'invalid input syntax for type integer: "Wandalinde"'
FAILED = RunError("source_query", f"the source 'w' refused the query: {WORDS}", "correct the query", WORDS)


def test_S06_the_daemon_s_log_and_alerts_leave_out_the_words_of_others() -> None:
    clock, raised = FakeClock(), list[Alert]()
    report = RunReport("people", "r1", clock.now(), RunStatus.FAILED, finished_at=clock.now(), error=FAILED)
    watch = Watch(clock, raised.append, lambda page: None)
    watch.ended(Entry(sync(), clock.now(), Past(), None), report)
    for said in (told(report), raised[0].text):
        assert "Wandalinde" not in said
        assert "the source 'w' refused the query" in said
        assert "reverse-etl show" in said
    assert WORDS in told(report, values=True)
    assert WORDS in str(report.to_json())  # `show` tells


def test_S06_a_report_that_came_back_from_the_store_is_logged_discreetly_too() -> None:
    report = RunReport("people", "r1", datetime.now(UTC), RunStatus.FAILED, error=FAILED)
    assert "Wandalinde" not in told(RunReport.from_json(report.to_json()))


def test_S06_another_library_s_log_is_not_heard_below_warning(scene: Scene) -> None:
    scene.cli("sync", "--log-level", "debug")
    assert logging.getLogger("httpcore").getEffectiveLevel() >= logging.WARNING


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_S06_only_the_key_the_cursor_and_mapped_columns_are_stored(tmp_path: Path) -> None:
    house = House(tmp_path, sync(cursor="seen"))
    columns = "id INTEGER, email VARCHAR, plan VARCHAR, salary VARCHAR, seen INTEGER"
    house.people((1, "ada@x.example", "pro", "unmapped-canary-91", 5), columns=columns)
    spooled: list[bytes] = []

    class Looking:
        def stage(self, sync: str, stage: str) -> None:
            if stage == "comparing":
                spooled.extend(path.read_bytes() for path in (tmp_path / ".reverse_etl/spool").rglob("*.arrow"))

        def planned(self, report: RunReport) -> None: ...
        def progress(self, sync: str, done: int, total: int, requests: int) -> None: ...
        def finished(self, report: RunReport) -> None: ...

    house.go(observer=Looking())
    kept = bytes_under(tmp_path / ".reverse_etl")
    assert spooled and any(b"ada@x.example" in content for content in spooled)
    assert not any(b"unmapped-canary-91" in content for content in [*kept.values(), *spooled])


def test_S06_what_a_killed_run_has_spooled_goes_with_the_next_start(scene: Scene) -> None:
    scene.define(query="select * from people, range(400000)", on_duplicate="none")
    process = subprocess.Popen(
        [sys.executable, "-c", START, "sync"],
        cwd=scene.folder,
        env=scene.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    spool = scene.folder / ".reverse_etl/spool"
    end = time.monotonic() + 30
    while not any(spool.rglob("*.arrow")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(spool.rglob("*.arrow"))
    scene.define()
    scene.cli("sync")
    assert list(spool.iterdir()) == []


# --- forget ----------------------------------------------------------------------------------------------------------


def test_S06_a_forgotten_person_is_in_no_file_any_more(scene: Scene) -> None:
    scene.sync()
    before = bytes_under(scene.folder / ".reverse_etl")
    for person in (WANDA, BAD):
        assert any(person[0].encode() in content for content in before.values())
        ended = scene.cli("forget", "people", person[0])
        assert ended.returncode == 0
        assert "still holds it" not in ended.stdout
    assert "take it out of the warehouse first" in ended.stdout
    for name, content in bytes_under(scene.folder / ".reverse_etl").items():
        for person in (WANDA, BAD):
            for text in (person[0], person[1]):
                assert text.encode() not in content, (name, text)
    with duckdb.connect(str(scene.folder / ".reverse_etl/snapshots/people.duckdb"), read_only=True) as kept:
        assert kept.execute("select count(*) from rows").fetchall() == [(len(OTHERS),)]


def test_S06_the_state_is_sound_after_a_forget_and_the_others_are_unchanged(scene: Scene) -> None:
    scene.sync()
    scene.cli("forget", "people", WANDA[0])
    assert scene.cli("state", "verify").returncode == 0
    scene.people(*OTHERS)
    again = scene.sync()
    assert (again["rows"]["unchanged"], again["rows"]["added"], again["rows"]["removed"]) == (len(OTHERS), 0, 0)


def test_S06_a_forgotten_person_is_gone_from_the_record_of_runs(scene: Scene) -> None:
    scene.sync()
    project = Project.load(scene.folder)
    (report,) = project.runs("people")
    report.notes.append(f"somebody changed it: {WANDA[0]}")
    report.error = RunError("destination", f"refused Wandalinde of {WANDA[0]}")
    project.keep(report)
    assert project.forget("people", WANDA[0])
    (kept,) = project.runs("people")
    assert kept.notes == ["somebody changed it: (forgotten)"]
    assert kept.error is not None and kept.error.message == "refused (forgotten) of (forgotten)"
    assert kept.rows == report.rows


def test_S06_what_a_forget_can_not_reach_is_named(scene: Scene) -> None:
    scene.define(name="twin")
    scene.cli("sync")
    aside = scene.folder / ".reverse_etl.before-20260101T000000"
    aside.mkdir()
    (aside / "state.db").write_bytes(b"..." + WANDA[0].encode() + b"...")
    said = scene.cli("forget", "people", WANDA[0]).stdout
    assert ".reverse_etl.before-20260101T000000/state.db still holds it" in said
    assert ".reverse_etl/snapshots/twin.duckdb still holds it" in said  # another sync's state is another matter
    assert "people.duckdb" not in said


def test_S06_a_forgotten_person_is_gone_from_postgresql_too(scene: Scene, postgres: str) -> None:
    scene.write_project(state={"url": postgres})
    scene.sync()
    ended = scene.cli("forget", "people", WANDA[0])
    assert "PostgreSQL keeps old versions of rows until it has vacuumed" in ended.stdout
    kept = make_url(postgres).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(kept) as connection:
        for table, column in (("journal", "body"), ("bases", "body"), ("runs", "report"), ("refused", "row_values")):
            rows = connection.execute(f"select {column} from {table}".encode()).fetchall()
            for (content,) in rows:
                text = content if isinstance(content, bytes) else str(content).encode()
                assert WANDA[0].encode() not in text and WANDA[1].encode() not in text, table
    for name, content in bytes_under(scene.folder / ".reverse_etl").items():
        assert WANDA[0].encode() not in content and WANDA[1].encode() not in content, name
    scene.people(*OTHERS)
    again = scene.sync()
    assert (again["rows"]["unchanged"], again["rows"]["added"]) == (len(OTHERS), 0)


def test_S06_nothing_is_said_of_who_was_never_known(scene: Scene) -> None:
    scene.sync()
    ended = scene.cli("forget", "people", "nobody@x.example")
    assert (ended.returncode, ended.stdout) == (0, "people remembers nothing of nobody@x.example\n")
