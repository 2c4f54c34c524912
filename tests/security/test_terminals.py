"""S19: text of others that would steer a terminal, wherever it comes out."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from reverse_etl.cli import edge
from reverse_etl.cli.log import configure
from reverse_etl.cli.options import LogFormat, LogLevel
from reverse_etl.errors import ConfigError, SourceError
from reverse_etl.model import Problem
from tests.sandbox.scene import _kept

EVIL = {
    "clears the screen": "\x1b[2J\x1b[H",
    "sets the title": "\x1b]0;owned\x07",
    "writes the clipboard": "\x1b]52;c;b3duZWQ=\x1b\\",
    "makes a link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "asks the terminal": '\x1b[6n\x1bP$q"p\x1b\\',
    "is of eight bits": "\x9b2J\x9d0;owned\x9c",
    "turns the text": "invoice\u202egpj.exe\u2066\u2069\u200f",
    "begins a line": "good\r\nERROR forged\u2028forged\u2029forged\x0b\x0c\x85forged",
    "goes back": "good\b\b\b\bevil\x7f\x00",
}
TURNING = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.fixture(autouse=True)
def a_program_s_own_settings() -> Iterator[None]:
    with _kept():
        yield


def steers(text: str) -> set[str]:
    """Characters that a terminal would obey; a line's end is ours."""
    categories = {"Cc", "Cs", "Zl", "Zp"}
    return {char for char in text if char != "\n" and (unicodedata.category(char) in categories or char in TURNING)}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("form", LogFormat)
def test_S19_nothing_in_a_log_or_an_error_steers_a_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, form: LogFormat
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = EVIL[kind]

    def logs(**_: object) -> int:
        configure(LogLevel.DEBUG, form, lambda details: f"bug-{evil}.txt")
        try:
            raise ValueError(evil)
        except ValueError as failure:
            logging.getLogger("reverse_etl.run").error(evil, exc_info=failure, extra={"sync": evil})
        logging.getLogger("another.library").warning(evil)
        return 0

    def fails(failure: Exception) -> object:
        def command(**_: object) -> int:
            raise failure

        return command

    problem = Problem(f"{evil}.yml", 1, 1, evil, evil, evil)
    edge.run(logs, ["sync"])
    lines = capsys.readouterr().err.count("\n")
    assert lines <= 12, "one record is one line, and where it came from"
    edge.run(logs, ["sync"])
    for failure in (
        SourceError(evil, hint=evil),
        ConfigError([problem], hint=evil),
        edge.Refused(evil),
        KeyError(evil),
    ):
        for arguments in (["sync"], ["sync", "--json"], ["sync", "--log-level", "debug"]):
            edge.run(fails(failure), arguments)  # type: ignore[arg-type]
    shown = capsys.readouterr()
    assert steers(shown.out + shown.err) == set()
