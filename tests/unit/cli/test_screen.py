"""The same blocks on a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from reverse_etl.cli.screen import PlainScreen, Span, Table, line
from reverse_etl.cli.terminal import RichScreen


def on_a_pipe(*blocks: object, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    PlainScreen(stream).show(*blocks)  # type: ignore[arg-type]  # the tests only give blocks
    return raw.getvalue().decode(encoding)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(*blocks: object) -> str:
    stream = Terminal()
    RichScreen(stream).show(*blocks)  # type: ignore[arg-type]  # the tests only give blocks
    return stream.getvalue()


def test_a_pipe_gets_plain_aligned_lines() -> None:
    table = Table([("a", "1"), (Span("long", "good"), "1,000")], ("name", "rows"), right=frozenset({1}), indent=2)
    assert on_a_pipe(line("x ", Span("y", "bad")), table) == "x y\n  name   rows\n  a         1\n  long  1,000\n"


def test_an_empty_table_is_its_head() -> None:
    assert on_a_pipe(Table([], ("name", "rows"))) == "name  rows\n"


def test_an_encoding_without_arrows_gets_ascii() -> None:
    assert on_a_pipe(line("1 → 2 · ✓"), encoding="ascii") == "1 -> 2 - *\n"


def test_S19_data_can_not_steer_a_terminal_or_write_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    shown = on_a_terminal(line("a\x1b]0;owned\x07"), line("[red]b[/red]"), Table([("\x1b[2J", ":smile:")]))
    assert "\x1b" not in shown
    assert "\\x1b]0;owned\\x07" in shown
    assert "[red]b[/red]" in shown
    assert ":smile:" in shown


def test_a_terminal_gets_colours_unless_NO_COLOR_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32mgood" in on_a_terminal(line(Span("good", "good")))
    monkeypatch.setenv("NO_COLOR", "1")
    assert on_a_terminal(line(Span("good", "good"))) == "good\n"


RUNS = Table(
    [
        (
            "20260701T090000-4ae6fca2",
            Span("workspaces_to_leads", "strong"),
            "2026-07-01 09:00:00Z",
            "succeeded",
        )
    ],
    ("run", "sync", "started", "result"),
)


@pytest.mark.parametrize("columns", ["60", "74", "80", "200"])
def test_no_name_and_no_id_is_torn_apart_on_a_narrow_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    shown = on_a_terminal(RUNS)
    for word in ("20260701T090000-4ae6fca2", "workspaces_to_leads", "2026-07-01", "succeeded"):
        assert word in shown


def test_a_table_breaks_between_words_where_that_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "78")
    shown = Text.from_ansi(on_a_terminal(RUNS))
    assert all(len(each) <= 78 for each in shown.plain.splitlines())


def test_a_table_wider_than_the_terminal_keeps_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")
    assert "\x1b[1mworkspaces_to_leads" in on_a_terminal(RUNS)
