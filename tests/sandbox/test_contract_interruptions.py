"""Runs that are killed, stopped, or find another one at work: no change is lost, none claimed early."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reverse_etl import Project
from reverse_etl.errors import SyncBusy
from tests.sandbox.scene import LEADS, START, Scene

COUNT = 1500


@pytest.fixture
def many(scene: Scene) -> Scene:
    """Enough people for fifteen batches, each answered slowly."""
    scene.warehouse(
        "create table people as select 'u' || range || '@x.example' as email, 'U' || range as first_name, "
        f"range as workspaces from range({COUNT})"
    )
    scene.define()
    scene.sandbox.faults.add("slow", path="batch/", seconds=0.15, times=None)
    return scene


def started(scene: Scene, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, "sync", "--json", *arguments],
        cwd=scene.folder,
        env=scene.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def batches(scene: Scene) -> int:
    return len(scene.sandbox.requests.matching("POST", "batch/"))


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in out + err
    return process.returncode, out, err


@pytest.mark.parametrize("after", [0, 2, 7])
def test_P01_a_killed_run_loses_nothing_and_repeats_at_most_what_was_in_flight(many: Scene, after: int) -> None:
    process = started(many)
    wait_for(lambda: batches(many) >= after and many.calls() > 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    many.sandbox.faults.clear()
    assert many.sync(dry_run=True)["exit"] == (3 if after else 0)  # what was under way is in doubt
    (killed, *_) = many.json("runs")[1]["runs"]
    assert killed["status"] not in ("succeeded", "partial")
    run = many.sync()
    assert (run["exit"], run["pending"]) == (0, 0)
    assert many.contacts("firstname") == {f"u{n}@x.example": f"U{n}" for n in range(COUNT)}
    assert len(many.sandbox.ledger) <= COUNT + 4 * 100
    assert many.sync()["requests"] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_asked_stop_records_what_was_answered_and_the_next_run_goes_on(
    many: Scene, number: signal.Signals, code: int
) -> None:
    process = started(many)
    wait_for(lambda: batches(many) >= 3)
    process.send_signal(number)
    returned, out, _ = ended(process)
    (run,) = json.loads(out)["runs"]
    assert (returned, run["status"], run["error"]["code"]) == (code, "interrupted", "interrupted")
    delivered = run["delivered"]["created"] + run["delivered"]["updated"]
    assert delivered + run["pending"] == COUNT
    assert len(many.sandbox.ledger) == delivered
    many.sandbox.faults.clear()
    run = many.sync()
    assert (run["exit"], run["rows"]["added"]) == (0, COUNT - delivered)
    assert len(many.sandbox.ledger) == COUNT


def test_P52_an_asked_stop_does_not_sit_out_the_rate_limit(many: Scene) -> None:
    many.sandbox.faults.clear()
    many.sandbox.hubspot.limits.rate = 5
    process = started(many)
    wait_for(lambda: many.calls() == 5)  # the next place comes free in ten seconds
    time.sleep(0.5)
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    returned, out, _ = ended(process)
    assert time.monotonic() - before < 5
    (run,) = json.loads(out)["runs"]
    assert (returned, run["status"], run["throttled"]) == (143, "interrupted", 0)
    assert run["delivered"]["created"] == len(many.sandbox.ledger) > 0
    assert run["in_doubt"] == 0


def test_a_second_signal_ends_the_process_at_once(many: Scene) -> None:
    many.sandbox.faults.clear()
    many.sandbox.faults.add("slow", path="batch/", seconds=20, times=None)
    process = started(many)
    wait_for(lambda: any("account" in entry.path for entry in many.sandbox.requests))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # what is on the wire may still be answered
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    returned, _, _ = ended(process)
    assert time.monotonic() - before < 5
    assert returned == -signal.SIGINT
    many.sandbox.faults.clear()
    assert many.sync()["exit"] == 0


def test_an_asked_stop_while_the_warehouse_is_read_ends_at_once(scene: Scene) -> None:
    query = "select 'x' || sum(a.range * b.range) || '@x.example' as email from range(4000000) a, range(100000) b"
    scene.warehouse("create table nothing (a int)")
    scene.define(query=query, mapping={"email": "email"})
    process = started(scene)
    wait_for((scene.folder / ".reverse_etl/state.db").exists)
    time.sleep(0.5)
    before = time.monotonic()
    process.send_signal(signal.SIGTERM)
    returned, out, _ = ended(process)
    assert time.monotonic() - before < 5
    assert (returned, json.loads(out)["runs"][0]["status"]) == (143, "interrupted")


@pytest.fixture
def held(many: Scene) -> Iterator[tuple[Scene, int]]:
    """A run in another process that stays at its first batches for three seconds; its process id."""
    many.sandbox.faults.clear()
    many.sandbox.faults.add("slow", path="batch/", seconds=3, times=4)
    process = started(many, "people")
    wait_for(lambda: any("account" in entry.path for entry in many.sandbox.requests))
    yield many, process.pid
    code, out, err = ended(process)
    assert code == 0, out + err
    assert len(many.sandbox.ledger) >= COUNT


def test_P35_a_second_run_at_the_same_time_is_skipped_and_names_the_first(held: tuple[Scene, int]) -> None:
    scene, process = held
    run = scene.sync()
    assert (run["exit"], run["status"], run["error"]["code"], run["requests"]) == (5, "skipped", "busy", 0)
    assert str(process) in run["error"]["message"]


def test_looking_works_beside_a_run_and_resetting_does_not(held: tuple[Scene, int]) -> None:
    scene, _ = held
    project = Project.load(scene.folder)
    with pytest.raises(SyncBusy):
        project.reset("people")
    assert project.status()[0].last_run is not None
    assert project.explain("people", "u0@x.example").to_json()["row"] is not None
    looked = scene.sync(dry_run=True)
    assert (looked["status"], looked["in_doubt"]) == ("succeeded", 0)
    assert any("is at work beside this" in note for note in looked["notes"])


def test_exit_5_only_when_every_run_was_skipped(held: tuple[Scene, int]) -> None:
    scene, _ = held
    scene.define(name="other", query="select * from people limit 1")
    result = Project.load(scene.folder).sync()
    assert (result.exit_code, sorted(run.status for run in result.runs)) == (0, ["skipped", "succeeded"])


def test_P52_a_pipe_that_closes_early_changes_no_delivery_and_shows_no_traceback(scene: Scene) -> None:
    scene.people(*[(f"u{n}@x.example", "U", n) for n in range(50)])
    scene.define()
    for command in ("sync", "runs --json", "schema", "fields hubspot contacts"):
        shell = f'{{ {sys.executable} -c "$0" {command}; }} | head -c 1 > /dev/null'
        done = subprocess.run(
            ["sh", "-c", shell, START],
            cwd=scene.folder,
            env=scene.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, (command, done.stderr)
        assert "BrokenPipe" not in done.stderr, (command, done.stderr)
    assert len(scene.contacts()) == 50


def test_P52_a_closed_stdout_changes_no_delivery(scene: Scene) -> None:
    scene.people(("ada@x.example", "Ada", 1))
    scene.define()
    done = subprocess.run(
        ["sh", "-c", f'exec {sys.executable} -c "$0" sync >&- 2>&-', START],
        cwd=scene.folder,
        env=scene.environment,
        check=False,
    )
    assert done.returncode == 0
    assert len(scene.contacts()) == 1


def test_a_full_disk_behind_stdout_changes_no_delivery(scene: Scene) -> None:
    scene.people(("ada@x.example", "Ada", 1))
    scene.define()
    done = subprocess.run(
        ["sh", "-c", f'exec {sys.executable} -c "$0" sync --json > /dev/full', START],
        cwd=scene.folder,
        env=scene.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert len(scene.contacts()) == 1


def test_a_run_that_was_killed_between_answer_and_record_sends_again_and_ends_right(scene: Scene) -> None:
    columns = "id text, name text, company text, email text"
    scene.table("leads", columns, [(str(n), f"N{n}", "C", None) for n in range(10)])
    scene.define(LEADS)
    scene.sandbox.faults.add("slow", path="composite", seconds=5, applied=True)
    process = started(scene)
    wait_for(lambda: len(scene.sandbox.ledger) > 0 or bool(scene.sandbox.requests.matching(None, "describe")))
    time.sleep(0.3)
    process.kill()
    process.communicate()
    scene.sandbox.faults.clear()
    run: dict[str, Any] = scene.sync()
    assert run["exit"] == 0
    assert len(scene.sandbox.salesforce.records("Lead")) == 10
