"""The command line whole: real files, real HTTP, and a process of its own where that matters."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from reverse_etl.cli import edge
from reverse_etl.cli.app import app
from reverse_etl.sandbox.server import Sandbox, running

START = "import sys; from reverse_etl.cli.app import main; sys.argv[0] = 'reverse-etl'; main()"
PEOPLE = """
source: warehouse
query: |
  select * from (values
    ('ada@x.example', 'Ada', 3), ('bo@x.example', 'Bo', 1), ('not..an@address.io', 'Cy', 2)
  ) as people(email, first_name, workspaces)
key: email
destination: hubspot
object: contacts
match: email
mapping: {email: email, firstname: first_name, workspaces_total: workspaces}
"""


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


@dataclass
class Shell:
    """A folder with an `init`-ed project, and the sandbox that it is pointed at."""

    folder: Path
    sandbox: Sandbox

    def __call__(self, *arguments: str, **variables: str) -> Ended:
        """The command line from its arguments to its exit code, in this process: starting one takes a while."""
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
            _kept(),
        ):
            patch.chdir(self.folder)
            for name in [name for name in os.environ if name.startswith("REVERSE_ETL_")]:
                patch.delenv(name)
            for name, value in {"HUBSPOT_BASE_URL": self.sandbox.url, **variables}.items():
                patch.setenv(name, value)
            code = edge.run(typer.main.get_command(app).main, arguments)
        assert "Traceback" not in out.getvalue() + err.getvalue()
        return Ended(code, out.getvalue(), err.getvalue())

    def start(self, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """The same as a process of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REVERSE_ETL_")}
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", START, *arguments],
            cwd=self.folder,
            env={**kept, "HUBSPOT_BASE_URL": self.sandbox.url},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments: str) -> tuple[int, Any]:
        ended = self(*arguments, "--json")
        return ended.returncode, json.loads(ended.stdout)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


@contextmanager
def _kept() -> Iterator[None]:
    """Signal handlers and loggers are a whole program's to set; a test gives them back."""
    root, ours = logging.getLogger(), logging.getLogger("reverse_etl")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    listeners, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.captureWarnings(False)
        root.handlers[:], ours.handlers[:] = listeners, []
        root.setLevel(level)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with running(rate=None) as sandbox:
        shell = Shell(tmp_path, sandbox)
        assert shell("init").returncode == 0
        yield shell


def test_a_new_project_runs_as_it_lies(shell: Shell) -> None:
    assert shell("check").returncode == 0
    assert shell("check", "--connect").returncode == 0
    planned = shell("sync", "--dry-run")
    assert planned.returncode == 0
    assert "would send 3 rows in 1 call" in planned.stdout
    assert not (shell.folder / ".reverse_etl").exists()
    process = shell.start("sync")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "3 created" in out
    second = shell("sync")
    assert second.returncode == 0
    assert "nothing new" in second.stdout
    assert len(shell.sandbox.hubspot.records("contacts")) == 3


def test_sync_json_is_exactly_one_documented_document(shell: Shell) -> None:
    code, document = shell.json("sync")
    (run,) = document["runs"]
    assert code == 0
    assert run["rows"] == {
        "read": 3,
        "added": 3,
        "changed": 0,
        "removed": 0,
        "unchanged": 0,
        "invalid": 0,
        "retried": 0,
    }
    assert run["delivered"]["created"] + run["delivered"]["updated"] == 3
    assert set(run) == {
        "sync", "run_id", "status", "dry_run", "rows", "delivered", "rejected", "in_doubt", "pending", "requests",
        "throttled", "cursor", "started_at", "finished_at", "error",
    }  # fmt: skip
    planned = shell.json("sync", "--dry-run")[1]["runs"][0]
    assert set(planned) - set(run) == {"plan"}
    assert set(planned["plan"]) == {"requests", "seconds_at_limit", "problems", "sample"}


def test_P56_a_run_with_rejected_rows_is_exit_3_and_leads_to_them(shell: Shell) -> None:
    shell.write("syncs/example.yml", PEOPLE)
    ended = shell("sync")
    assert ended.returncode == 3
    assert ended.stdout.rstrip().endswith("reverse-etl rejected example")
    code, document = shell.json("rejected", "example")
    (row,) = document["rows"]
    assert code == 0
    assert row["key"] == "not..an@address.io"
    assert set(row) >= {
        "key", "code", "message", "request_id", "attempts", "first_at", "last_at", "next_at", "values",
    }  # fmt: skip
    assert row["code"] in shell("rejected", "example").stdout
    shell.write("syncs/example.yml", PEOPLE.replace("not..an@address.io", "cy@x.example"))
    assert shell("sync").returncode == 0


def test_explain_answers_for_one_key(shell: Shell) -> None:
    shell("sync")
    code, document = shell.json("explain", "example", "ada@example.com")
    assert code == 0
    assert set(document) == {"sync", "key", "row", "payload", "acknowledged", "state", "reason"}
    assert document["state"] == "unchanged"
    assert document["acknowledged"]["values"]["firstname"] == "Ada"
    shown = shell("explain", "example", "nobody@x.example")
    assert shown.returncode == 0
    assert "absent" in shown.stdout


def test_status_runs_and_show_tell_what_has_run(shell: Shell) -> None:
    assert "never" in shell("status").stdout
    run = shell.json("sync")[1]["runs"][0]
    assert "succeeded" in shell("status").stdout
    assert shell.json("status")[1]["syncs"][0]["known_rows"] == 3
    assert run["run_id"] in shell("runs").stdout
    assert shell.json("runs", "example")[1]["runs"][0]["run_id"] == run["run_id"]
    assert shell.json("show", run["run_id"])[1] == run
    assert "3 read" in shell("show", run["run_id"]).stdout
    assert shell("show", "no-such-run").returncode == 2


def test_reset_asks_and_forgets(shell: Shell) -> None:
    shell("sync")
    assert shell("reset", "example").returncode == 2
    assert shell("reset", "example", "--yes").returncode == 0
    assert shell.json("sync", "--dry-run")[1]["runs"][0]["rows"]["added"] == 3


def test_forget_forgets_one_row(shell: Shell) -> None:
    shell("sync")
    assert shell("forget", "example", "ada@example.com").returncode == 0
    assert shell.json("sync", "--dry-run")[1]["runs"][0]["rows"]["added"] == 1


def test_fields_lists_what_the_destination_describes(shell: Shell) -> None:
    shown = shell("fields", "hubspot", "contacts")
    assert shown.returncode == 0
    assert "app_user_id" in shown.stdout
    names = [field["name"] for field in shell.json("fields", "hubspot", "contacts")[1]["fields"]]
    assert {"email", "workspaces_total"} <= set(names)
    assert shell("fields", "hubspto", "contacts").returncode == 2


def test_every_problem_of_the_files_is_listed_at_once_and_nothing_is_contacted(shell: Shell) -> None:
    shell.write("syncs/example.yml", PEOPLE.replace("key: email", "kee: email").replace("object:", "objekt:"))
    before = len(shell.sandbox.requests)
    code, document = shell.json("sync")
    assert code == 2
    assert document["runs"] == []
    assert len(document["problems"]) >= 2
    assert all(problem["line"] for problem in document["problems"])
    assert shell.json("check")[1]["problems"] == document["problems"]
    assert len(shell.sandbox.requests) == before


def test_P56_a_warehouse_that_can_not_be_read_is_exit_1(shell: Shell) -> None:
    shell.write("syncs/example.yml", PEOPLE.replace("(values", "(valuse"))
    code, document = shell.json("sync")
    assert code == 1
    assert document["runs"][0]["error"]["code"].startswith("source")


def test_S05_a_secret_is_never_printed_at_the_loudest_level_with_failures_forced(shell: Shell) -> None:
    canary = "canary-token-8842"
    for arguments in (["check", "--connect"], ["sync"], ["sync", "--json"], ["fields", "hubspot", "contacts"]):
        ended = shell(*arguments, "--log-level", "debug", HUBSPOT_ACCESS_TOKEN=canary)
        assert ended.returncode != 0
        assert canary not in ended.stdout + ended.stderr
    for path in shell.folder.rglob("*"):
        assert not path.is_file() or canary.encode() not in path.read_bytes()


def test_S06_no_row_value_is_in_the_log(shell: Shell) -> None:
    shell.write("syncs/example.yml", PEOPLE)
    log = shell("sync", "--log-level", "debug", "--log-format", "json").stderr
    assert [json.loads(line)["level"] for line in log.splitlines()]
    assert not [word for word in ("ada@x", "not..an@address.io", "Bo") if word in log]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_P56_an_interrupted_run_is_130_or_143_and_the_next_one_goes_on(
    shell: Shell, number: signal.Signals, code: int
) -> None:
    shell.sandbox.faults.add("slow", seconds=2.0, path="batch/upsert", times=1)
    process = shell.start("sync", "--json")
    deadline = time.monotonic() + 30
    while not shell.sandbox.requests.matching("GET", "properties") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, "Traceback" in err) == (code, False)
    assert json.loads(out)["runs"][0]["status"] == "interrupted"
    assert shell("sync").returncode == 0
    assert len(shell.sandbox.hubspot.records("contacts")) == 3


def test_P52_a_reader_who_leaves_changes_no_delivery(shell: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = shell.start("sync", stdout=writing)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert len(shell.sandbox.hubspot.records("contacts")) == 3


def test_the_flag_beats_the_environment(shell: Shell, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert shell("status", "--project", str(shell.folder), REVERSE_ETL_PROJECT=str(elsewhere)).returncode == 0
    assert shell("status", REVERSE_ETL_PROJECT=str(elsewhere)).returncode == 2


def test_schema_is_json_schema_for_both_kinds_of_file(shell: Shell) -> None:
    document = json.loads(shell("schema").stdout)
    assert {"project", "sync"} <= set(document["$defs"])
