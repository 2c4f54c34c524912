"""The daemon as a process of its own: files, runs, signals, kill and restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reverse_etl import Project
from reverse_etl.report import RunReport
from tests.sandbox.scene import START, Scene

PATIENCE_SECONDS = 20.0


class Daemon:
    """A running daemon, and the lines that it has logged."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def said(self, *parts: str) -> bool:
        return any(all(part in line["event"] for part in parts) for line in self.lines())

    def until(self, what: Callable[[], object]) -> None:
        """Waits for something to come true; fails when the daemon ends meanwhile, or after a while."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not what():
            assert time.monotonic() < end and self.process.poll() is None, self._log.read_text()
            time.sleep(0.02)

    def until_said(self, *parts: str) -> None:
        self.until(lambda: self.said(*parts))

    def look(self) -> None:
        """Has it look at the files now, instead of within two seconds."""
        self.signal(signal.SIGHUP)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def terminate(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ends()

    def errors(self) -> str:
        return self._log.read_text()


@contextmanager
def started(scene: Scene, *arguments: str, **variables: str) -> Iterator[Daemon]:
    """`reverse-etl daemon` in the scene's folder, ended by the test or killed with its block."""
    log = scene.folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", START, "daemon", "--log-format", "json", *arguments],
            cwd=scene.folder,
            env=scene.environment | {"REVERSE_ETL_LOG_LEVEL": "info"} | variables,
            stdout=subprocess.DEVNULL,
            stderr=sink,
        )
    try:
        yield Daemon(process, log)
    finally:
        process.kill()
        process.wait()
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture
def project(scene: Scene) -> Scene:
    scene.write_project(daemon={"listen": "127.0.0.1:0"})
    scene.people(("ada@example.com", "Ada", 1))
    return scene


def runs(scene: Scene, sync: str = "people") -> list[RunReport]:
    return Project.load(scene.folder, only=[]).runs(sync)


def test_a_due_sync_runs_and_sigterm_ends_the_daemon(project: Scene) -> None:
    project.define(schedule="every 1 hour")
    with started(project) as daemon:
        daemon.until_said("people: succeeded")
        assert daemon.terminate() == 0
        assert daemon.said("the daemon has ended, and every run with it")
    assert project.contacts("firstname") == {"ada@example.com": "Ada"}
    (run,) = runs(project)
    assert run.status == "succeeded"


def test_P49_a_broken_file_keeps_its_last_good_version_and_a_mended_one_takes_effect(project: Scene) -> None:
    project.define(schedule="every 1 second")
    with started(project) as daemon:
        daemon.until_said("people: succeeded")
        project.write("syncs/people.yml", "source: [")
        daemon.look()
        daemon.until_said("people is broken, and its last good version stays in force", "syncs/people.yml:1:")
        before = len(runs(project))
        daemon.until(lambda: len(runs(project)) > before)
        project.define(schedule="every 1 second", mapping={"email": "email", "lastname": "first_name"})
        daemon.look()
        daemon.until_said("people: its file is right again")
        daemon.until(lambda: project.contacts("lastname") == {"ada@example.com": "Ada"})
        assert daemon.terminate() == 0


def test_P49_files_that_come_and_go_take_effect_without_a_restart(project: Scene) -> None:
    with started(project) as daemon:
        daemon.until_said("the daemon has started: 0 syncs")
        project.define(schedule="every 1 second")
        daemon.until_said("people: succeeded")  # without a signal: it looks by itself
        (project.folder / "syncs/people.yml").unlink()
        daemon.look()
        daemon.until_said("people: its file is gone")
        assert daemon.terminate() == 0


def test_P46_one_bad_file_stops_only_itself(project: Scene) -> None:
    project.define(schedule="every 1 hour")
    project.define(name="bad", schedule="every 1 fortnight")
    with started(project) as daemon:
        daemon.until_said("bad is broken, and nothing of it runs", "syncs/bad.yml:")
        daemon.until_said("people: succeeded")
        assert daemon.terminate() == 0


def test_a_project_file_that_cannot_be_read_ends_the_start_with_its_place(project: Scene) -> None:
    project.write("reverse_etl.yml", "sources: [")
    with started(project) as daemon:
        assert daemon.ends() == 2
        assert "reverse_etl.yml:1:" in daemon.errors()


def test_a_second_daemon_of_a_project_ends_at_once_and_names_the_first(project: Scene) -> None:
    project.define(schedule="every 1 hour")
    with started(project) as first:
        first.until_said("the daemon has started")
        with started(project) as second:
            assert second.ends() == 5
            assert f"is running already (process {first.process.pid}" in second.errors()
        assert first.terminate() == 0


def slow(scene: Scene, seconds: float) -> None:
    """The CRM takes so long for every batch."""
    scene.sandbox.faults.add("slow", seconds=seconds, path="batch")


def test_sigterm_waits_for_runs_that_can_end_in_time(project: Scene) -> None:
    slow(project, 1.0)
    project.define(schedule="every 1 hour")
    with started(project) as daemon:
        daemon.until(lambda: any("batch" in entry.path for entry in project.sandbox.requests))
        assert daemon.terminate() == 0
        assert daemon.said("people under way may go on for 20 s")
    assert [run.status for run in runs(project)] == ["succeeded"]


def test_sigterm_cuts_runs_that_cannot_end_in_time_and_the_next_start_goes_on(project: Scene) -> None:
    project.write_project(daemon={"listen": "127.0.0.1:0", "drain": "100ms"})
    project.people(*[(f"p{number}@example.com", "Ada", number) for number in range(1000)])
    slow(project, 0.5)
    project.define(schedule="every 1 hour")
    with started(project) as daemon:
        daemon.until(lambda: any("batch" in entry.path for entry in project.sandbox.requests))
        assert daemon.terminate() == 143
        assert daemon.said("people was cut short, and will be gone on with")
    assert runs(project)[0].status == "interrupted"
    project.sandbox.faults.clear()
    with started(project) as daemon:
        daemon.until_said("people: succeeded")
        assert daemon.said("run begins: it was cut short")
        assert daemon.terminate() == 0
    assert len(project.contacts()) == 1000


def test_a_second_signal_ends_the_daemon_at_once(project: Scene) -> None:
    slow(project, 15.0)
    project.define(schedule="every 1 hour")
    with started(project) as daemon:
        daemon.until(lambda: any("batch" in entry.path for entry in project.sandbox.requests))
        daemon.signal(signal.SIGTERM)
        daemon.until_said("may go on")
        before = time.monotonic()
        assert daemon.terminate() == 143
        assert time.monotonic() - before < 2


def test_P1_a_killed_daemon_goes_on_where_it_was(project: Scene) -> None:
    slow(project, 15.0)
    project.define(schedule="every 1 hour")
    with started(project) as daemon:
        daemon.until(lambda: any("batch" in entry.path for entry in project.sandbox.requests))
        os.kill(daemon.process.pid, signal.SIGKILL)
        assert daemon.ends() == -signal.SIGKILL
    project.sandbox.faults.clear()
    with started(project) as daemon:
        daemon.until_said("people: run begins: it was cut short")
        daemon.until_said("people: succeeded")
        assert daemon.terminate() == 0
    assert project.contacts("firstname") == {"ada@example.com": "Ada"}


def test_P55_times_left_out_during_a_run_stand_in_its_record(project: Scene) -> None:
    slow(project, 2.5)
    project.define(schedule="every 1 second")
    with started(project) as daemon:
        daemon.until_said("people: succeeded")
        assert daemon.said("people: the run due at", "is left out, as the last one is still under way")
        project.sandbox.faults.clear()
        assert daemon.terminate() == 0
    assert "runs were left out: they were due from" in runs(project)[-1].notes[0]
