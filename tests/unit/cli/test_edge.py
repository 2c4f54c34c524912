"""Exit codes, and what is said when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverse_etl import errors
from reverse_etl.cli import edge
from reverse_etl.model import Problem
from reverse_etl.redaction import SECRETS


@pytest.fixture(autouse=True)
def streams_signals_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`run` replaces signal handlers as a whole program may; a test gives them back."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(edge, "guard_standard_streams", lambda redactor: None)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def raising(failure: BaseException) -> Callable[..., int]:
    def command(**_: object) -> int:
        raise failure

    return command


PROBLEM = Problem("syncs/a.yml", 3, 5, "upsrt", "unknown mode", "upsert")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.ConfigError([PROBLEM]), 2),
        (edge.Refused("no"), 2),
        (errors.SourceError("gone"), 1),
        (errors.AuthError("refused"), 1),
        (errors.PluginError("broke"), 1),
        (errors.GuardTripped("too many", plan_id="p1"), 4),
        (errors.SyncBusy("held"), 5),
        (errors.StateError("damaged"), 6),
        (errors.Interrupted("stopped"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_P56_every_failure_has_its_exit_code_and_is_said_once(
    failure: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edge.run(raising(failure), ["sync"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err != ""
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "failure", [errors.ConfigError([PROBLEM]), errors.StateError("damaged"), KeyboardInterrupt(), ZeroDivisionError()]
)
def test_with_json_every_failure_is_one_document(failure: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    edge.run(raising(failure), ["sync", "--json"])
    assert json.loads(capsys.readouterr().out)["runs"] == []


def test_configuration_problems_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    edge.run(raising(errors.ConfigError([PROBLEM])), ["sync", "--json"])
    assert json.loads(capsys.readouterr().out) == {
        "runs": [],
        "problems": [
            {
                "file": "syncs/a.yml",
                "line": 3,
                "column": 5,
                "text": "upsrt",
                "message": "unknown mode",
                "nearest": "upsert",
            }
        ],
    }


def test_an_error_is_said_with_its_code_and_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    edge.run(raising(errors.SourceError("line one\nline two", hint="mend it")), ["sync"])
    assert capsys.readouterr().err == "error (source): line one\n  line two\n  → mend it\n"


def test_a_bug_is_one_line_and_its_details_are_for_the_owner_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".reverse_etl").mkdir()
    monkeypatch.chdir(tmp_path)
    assert edge.run(raising(ZeroDivisionError("division by zero")), ["sync"]) == 1
    said = capsys.readouterr().err
    (details,) = (tmp_path / ".reverse_etl").iterdir()
    assert "this is a bug in reverse-etl" in said
    assert str(details.relative_to(tmp_path)) in said
    assert "Traceback" not in said
    assert "ZeroDivisionError" in details.read_text()
    assert stat.S_IMODE(details.stat().st_mode) == 0o600


def test_S05_the_details_of_a_bug_hold_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".reverse_etl").mkdir()
    monkeypatch.chdir(tmp_path)
    SECRETS.learn(["canary-7f3a"])
    edge.run(raising(ValueError("token canary-7f3a was refused")), ["sync"])
    (details,) = (tmp_path / ".reverse_etl").iterdir()
    assert "canary-7f3a" not in details.read_text()


def test_at_the_loudest_level_the_place_of_a_bug_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    edge.run(raising(ValueError("jane@example.com")), ["sync", "--log-level", "debug"])
    said = capsys.readouterr().err
    assert "in command" in said
    assert "jane@example.com" not in said  # its words are only in the file that keeps the details


def test_P56_an_interrupt_and_a_termination_have_their_own_codes(capsys: pytest.CaptureFixture[str]) -> None:
    def signalled(number: signal.Signals) -> Callable[..., int]:
        def command(**_: object) -> int:
            os.kill(os.getpid(), number)
            raise AssertionError("the signal was not heard")

        return command

    assert edge.run(signalled(signal.SIGINT), ["sync"]) == 130
    assert edge.run(signalled(signal.SIGTERM), ["sync"]) == 143


def test_a_run_that_ended_as_interrupted_by_a_termination_is_143(capsys: pytest.CaptureFixture[str]) -> None:
    def command(**_: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            return 130
        return 0

    assert edge.run(command, ["sync"]) == 143


def test_a_command_s_own_exit_code_is_passed_on() -> None:
    assert edge.run(lambda **_: 3, ["sync"]) == 3
    assert edge.run(lambda **_: None, ["status"]) == 0
