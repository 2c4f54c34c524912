"""What the log holds, and in which form."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from reverse_etl.cli.log import configure
from reverse_etl.cli.options import LogFormat, LogLevel


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = kept
    root.setLevel(level)
    logging.getLogger("reverse_etl").setLevel(logging.NOTSET)
    logging.getLogger("reverse_etl").handlers[:] = []


def nowhere(details: str) -> str:
    raise AssertionError("nothing was to be kept")


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.INFO, LogFormat.JSON, nowhere)
    logging.getLogger("reverse_etl.run").info("run ended", extra={"sync": "people", "read": 3})
    shown = capsys.readouterr()
    event = json.loads(shown.err)
    assert shown.out == ""
    assert (event["level"], event["event"], event["sync"], event["read"]) == ("info", "run ended", "people", 3)
    assert event["timestamp"].endswith("Z")


def test_text_is_one_line_and_S19_can_not_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.INFO, LogFormat.TEXT, nowhere)
    logging.getLogger("reverse_etl.run").info("run\x1b[2J ended\nERROR forged", extra={"sync": "people"})
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("info    run\\x1b[2J ended\\nERROR forged sync=people")


def test_the_level_decides_what_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.WARNING, LogFormat.TEXT, nowhere)
    logging.getLogger("reverse_etl.run").info("quiet")
    logging.getLogger("reverse_etl.run").warning("loud")
    assert "loud" in (said := capsys.readouterr().err)
    assert "quiet" not in said


def test_S06_other_libraries_are_never_heard_below_warning(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.DEBUG, LogFormat.TEXT, nowhere)
    logging.getLogger("httpx").info("POST https://api.example/ada@example.com")
    logging.getLogger("httpcore.http11").debug("Authorization: Bearer x")
    logging.getLogger("sqlalchemy.pool").warning("pool is full")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "library=sqlalchemy.pool" in said


def test_a_library_s_warning_to_programmers_is_no_news_for_users(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogLevel.WARNING, LogFormat.TEXT, nowhere)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old spelling", DeprecationWarning, stacklevel=1)
    assert capsys.readouterr().err == ""


def test_S06_the_place_of_an_exception_follows_its_line_and_its_words_do_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(LogLevel.DEBUG, LogFormat.TEXT, lambda details: "bug-1.txt")
    try:
        raise ValueError("no")
    except ValueError as failure:
        logging.getLogger("reverse_etl.run").debug("a run broke", exc_info=failure)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "a run broke: the details are in bug-1.txt"
    assert "a run broke" in lines[1]
    assert lines[-1] == "ValueError"


def test_at_other_levels_the_details_are_kept_and_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[str] = []
    configure(LogLevel.WARNING, LogFormat.TEXT, lambda details: kept.append(details) or "bug-1.txt")  # type: ignore[func-returns-value]
    try:
        raise ValueError("no")
    except ValueError as failure:
        logging.getLogger("reverse_etl.run").debug("a run broke", exc_info=failure)
    assert capsys.readouterr().err == "a run broke: the details are in bug-1.txt\n"
    assert "ValueError: no" in kept[0]
