"""The daemon as a process of its own: files, runs, signals, kill and restart."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from reverse_etl import Project
from reverse_etl.cli import tending
from reverse_etl.config.daemon import DaemonFile
from reverse_etl.daemon import listener
from reverse_etl.daemon.signature import signed
from reverse_etl.report import RunReport
from tests.sandbox.scene import START, TOKEN, Scene

PATIENCE_SECONDS = 60.0
KEY = "a-key-that-nobody-guesses"


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
        code = self.process.wait(PATIENCE_SECONDS)
        assert code != 1, self._log.read_text()
        return code

    def terminate(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ends()

    def errors(self) -> str:
        return self._log.read_text()


@contextmanager
def started(
    scene: Scene, *arguments: str, command: str = "daemon", first: str = "", **variables: str
) -> Iterator[Daemon]:
    """`reverse-etl daemon`, or another command, in the scene's folder, ended by the test or killed with its block.

    `first` is Python for the process to begin with: terms of a minute are too long for a test.
    """
    log = scene.folder / f"log-{time.monotonic_ns()}"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", first + START, command, "--log-format", "json", *arguments],
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
        said = log.read_text()
        assert "Traceback" not in said, said
        assert KEY not in said and TOKEN not in said, "S5: no secret is in any line"


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
        assert daemon.said("people: read anew, as its file or one that it uses has changed")
        daemon.until(lambda: project.contacts("lastname") == {"ada@example.com": "Ada"})
        assert daemon.terminate() == 0


def test_P49_files_that_come_and_go_take_effect_without_a_restart(project: Scene) -> None:
    with started(project) as daemon:
        daemon.until_said("the daemon has started", ": 0 syncs")
        project.define(schedule="every 1 second")
        daemon.until_said("people: succeeded")  # without a signal: it looks by itself
        assert daemon.said("people: new")
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
        assert daemon.said("people may go on for 20 s")
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


def test_heavy_syncs_do_not_delay_one_that_is_urgent(project: Scene) -> None:
    project.write_project(daemon={"listen": "127.0.0.1:0", "runs": 2, "drain": "100ms"})
    slow(project, 15.0)
    for name in ("heavy", "heavier"):
        project.define(name=name, schedule="every 1 day", priority="low")
    project.define(name="light", schedule="every 1 second", priority="high", first_run="baseline")
    with started(project) as daemon:
        daemon.until(lambda: sum(line["event"].startswith("light: succeeded") for line in daemon.lines()) >= 2)
        begun = {line["sync"] for line in daemon.lines() if "run begins" in line["event"]}
        assert len(begun & {"heavy", "heavier"}) == 1, "the other one's place is kept for what is urgent"


def test_a_parent_that_a_command_runs_is_noticed_and_its_children_follow(project: Scene) -> None:
    project.define(first_run="baseline")
    project.define(name="child", schedule={"after": "people"}, first_run="baseline")
    with started(project) as daemon:
        daemon.until_said("the daemon has started")
        assert project.sync("people")["status"] == "succeeded"
        daemon.until_said("people: run by somebody else: people: succeeded")
        daemon.until_said("child: succeeded")
        assert daemon.terminate() == 0
    assert (len(runs(project)), len(runs(project, "child"))) == (1, 1)


def test_the_status_tells_next_runs_and_last_successes_without_a_daemon_and_with_one(project: Scene) -> None:
    project.define(schedule="every 1 day", first_run="baseline")
    project.define(name="child", schedule={"after": "people"})
    run = project.sync("people")
    _, alone = project.json("status")
    child, people = alone["syncs"]
    day_later = datetime.fromisoformat(run["started_at"]) + timedelta(days=1)
    assert datetime.fromisoformat(people["next_run_at"]) == day_later
    assert (people["last_success_at"], alone["daemon_at"]) == (run["finished_at"], None)
    assert datetime.fromisoformat(child["next_run_at"]) <= datetime.now(UTC), "it is owed"
    assert "no daemon of this project is running here" in project.cli("status").stdout
    project.define(name="child")
    with started(project) as daemon:
        where = address(daemon)
        _, watched = project.json("status")
        with httpx.Client(base_url=where) as client:
            told = client.get("/status").json()
        assert watched["daemon_at"] == where
        assert [each["next_run_at"] for each in told["syncs"]] == [None, people["next_run_at"]]
        assert told["syncs"][1]["last_success_at"] == run["finished_at"]
        assert "no daemon" not in project.cli("status").stdout
        assert daemon.terminate() == 0


# --- over HTTP --------------------------------------------------------------------------------------------------------


def address(daemon: Daemon) -> str:
    daemon.until_said("the daemon has started")
    return next(str(line["url"]) for line in daemon.lines() if "url" in line)


def test_a_signed_request_runs_a_sync_and_the_status_is_that_of_the_command(project: Scene) -> None:
    project.write_project(daemon={"listen": "127.0.0.1:0", "trigger_secret": KEY})
    project.define()
    with started(project) as daemon, httpx.Client(base_url=address(daemon)) as client:
        headers = signed(KEY, "message-1", datetime.now(UTC), b"")
        assert client.post("/syncs/people/run", headers=headers).json() == {"sync": "people", "run": "starts"}
        daemon.until_said("people: succeeded")
        (told,) = client.get("/status").json()["syncs"]
        _, shown = project.json("status")
        assert {name: told[name] for name in shown["syncs"][0]} == shown["syncs"][0]
        assert 'reverse_etl_runs_total{status="succeeded",sync="people"} 1.0' in client.get("/metrics").text
        assert daemon.terminate() == 0


def test_a_wish_that_has_not_begun_is_granted_after_a_kill(project: Scene) -> None:
    project.write_project(daemon={"listen": "127.0.0.1:0", "trigger_secret": KEY, "runs": 1})
    slow(project, 15.0)
    project.define(schedule="every 1 hour")
    project.define(name="wish")
    with started(project) as daemon:
        daemon.until(lambda: any("batch" in entry.path for entry in project.sandbox.requests))
        with httpx.Client(base_url=address(daemon)) as client:
            headers = signed(KEY, "message-1", datetime.now(UTC), b"")
            assert client.post("/syncs/wish/run", headers=headers).status_code == 202
        daemon.process.kill()
        daemon.ends()
    project.sandbox.faults.clear()
    with started(project) as daemon:
        daemon.until_said("wish: run begins: asked for before the daemon was restarted")
        daemon.until_said("wish: succeeded")
        assert daemon.terminate() == 0


def test_health_is_asked_for_by_a_command(project: Scene) -> None:
    project.write_project(daemon={"listen": "127.0.0.1:0", "token": KEY})
    absent = project.cli("daemon", "--health")
    assert (absent.returncode, absent.stdout) == (1, "no daemon of this project is running\n")
    with started(project) as daemon:
        daemon.until_said("the daemon has started")
        well = project.cli("daemon", "--health")
        assert (well.returncode, '"ok"' in well.stdout) == (0, True)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tending, "PATIENCE_SECONDS", 0.2)
            assert project.cli("daemon", "--health").returncode == 1
        os.kill(daemon.process.pid, signal.SIGCONT)
        assert daemon.terminate() == 0


def test_S21_who_never_says_what_he_wants_is_let_go(project: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_SECONDS", 0.3)

    async def scene() -> bytes:
        server = listener.Listener(DaemonFile(listen="127.0.0.1:0"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, Starlette(routes=[]))
            stream = await anyio.connect_tcp("127.0.0.1", int(server.url.rpartition(":")[2]))
            async with stream:
                await stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                first = await stream.receive()
                await stream.send(b"GET / HTTP/1.1\r\nHos")
                with anyio.fail_after(3), pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            await server.stop()
        return first

    assert anyio.run(scene).startswith(b"HTTP/1.1 404")


def test_an_address_in_use_ends_the_start_and_is_named(project: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        project.write_project(daemon={"listen": f"127.0.0.1:{port}"})
        with started(project) as daemon:
            assert daemon.ends() == 2
            assert "can't be listened at: Address already in use" in daemon.errors()


def test_systemd_hears_when_the_daemon_is_ready_alive_and_ending(project: Scene) -> None:
    place = str(project.folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing:
        hearing.bind(place)
        hearing.settimeout(PATIENCE_SECONDS)
        with started(project, NOTIFY_SOCKET=place) as daemon:
            assert hearing.recv(1000) == b"READY=1\nSTATUS=0 syncs scheduled"
            daemon.look()
            assert hearing.recv(1000) == b"WATCHDOG=1"
            daemon.signal(signal.SIGTERM)
            heard = [hearing.recv(1000)]
            while heard[-1] == b"WATCHDOG=1":
                heard.append(hearing.recv(1000))
            assert heard[-1].startswith(b"STOPPING=1\n")
            assert daemon.ends() == 0


# --- alerts -----------------------------------------------------------------------------------------------------------


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    taken: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.taken.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/hook"
        server.shutdown()
        thread.join()


def events() -> list[str]:
    return [alert["event"] for message in Hook.taken for alert in message["alerts"]]


def test_a_failure_and_its_end_are_told_once_each_over_a_restart(project: Scene, hook: str) -> None:
    project.write_project(
        daemon={"listen": "127.0.0.1:0", "alerts": {"ops": {"type": "webhook", "url": hook, "secret": KEY}}}
    )
    project.define(schedule="every 1 second", query="select * from nowhere")
    with started(project) as daemon:
        daemon.until(lambda: events() == ["failed"])
        daemon.until(lambda: len(runs(project)) >= 5)
        assert daemon.terminate() == 0
    project.define(schedule="every 1 second")
    with started(project) as daemon:
        daemon.until(lambda: events() == ["failed", "recovered"])
        assert daemon.terminate() == 0
    told = Hook.taken[0]["alerts"][0]
    assert told["text"].startswith("people has failed: ")
    assert told["code"] == "source_query"


def test_a_channel_can_be_tried(project: Scene, hook: str) -> None:
    project.write_project(
        daemon={
            "alerts": {
                "ops": {"type": "slack", "url": hook},
                "gone": {"type": "webhook", "url": "http://127.0.0.1:1/hook"},
            }
        }
    )
    tried = project.cli("daemon", "--test-alert", "ops")
    assert (tried.returncode, tried.stdout) == (0, "ops: the message was taken\n")
    assert "this is a test message" in Hook.taken[0]["text"]
    every = project.cli("daemon", "--test-alert", "all")
    assert every.returncode == 1
    assert "gone: 127.0.0.1 can't be reached: " in every.stdout
    unknown = project.cli("daemon", "--test-alert", "pager")
    assert (unknown.returncode, "it has ops, gone" in unknown.stderr) == (2, True)
