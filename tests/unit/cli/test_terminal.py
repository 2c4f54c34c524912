"""Bars on a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from reverse_etl.cli.render import Commands
from reverse_etl.cli.terminal import Bars, RichScreen
from reverse_etl.report import RowCounts, RunReport

AT = datetime(2026, 7, 1, 9, 0, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_run_is_watched_by_a_bar_with_rate_and_calls_and_ends_as_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    terminal = Terminal()
    with Bars(RichScreen(terminal), Commands()) as bars:
        bars.stage("people", "reading")
        bars.stage("people", "sending")
        for done in range(0, 1001, 250):
            bars.progress("people", done, 1000, done // 100)
        drawn = "".join(str(line) for line in bars.drawn())
        bars.finished(RunReport("people", "r1", AT, finished_at=AT, rows=RowCounts(read=1000, added=1000), requests=10))
    assert "sending" in drawn
    assert "100%" in drawn
    assert "10 calls" in drawn
    shown = terminal.getvalue()
    assert "people" in shown
    assert "1,000 read" in shown
    assert "sending" not in shown.split("succeeded", 1)[1], "no bar is drawn over the report"


def test_S19_a_sync_s_bar_reads_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Bars(RichScreen(terminal), Commands()) as bars:
        bars.stage("[bold]x", "reading")
        assert any("[bold]x" in line for line in bars.drawn())
