"""Numbers, times, keys and other people's text for a person to read."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.cli import text


def test_S19_control_characters_are_shown_not_obeyed() -> None:
    assert text.printable("a\x1b[31mred\r\n\x9b\x7f") == "a\\x1b[31mred\\r\\n\\x9b\\x7f"


def test_S19_characters_that_turn_the_direction_of_text_are_shown() -> None:
    assert text.printable("invoice\u202egpj.exe") == "invoice\\u202egpj.exe"


@given(st.text(st.characters(exclude_categories=())))
def test_S19_whatever_comes_nothing_steers_the_terminal(raw: str) -> None:
    shown = text.printable(raw)
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode()


def test_letters_of_every_script_stay_as_they_are() -> None:
    assert text.printable("Zoë 李 भारत 👩‍🔬") == "Zoë 李 भारत 👩‍🔬"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (1.26, "1.3 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (120, "2 min"),
        (7384, "2 h 3 min"),
    ],
)
def test_a_duration_has_the_unit_that_fits(seconds: float, said: str) -> None:
    assert text.duration(seconds) == said


def test_a_key_is_written_as_explain_takes_it() -> None:
    assert text.key("ada@example.com") == "ada@example.com"
    assert text.key(7) == "7"
    assert text.key(["a", 1]) == '["a", 1]'


def test_nothing_and_an_empty_text_look_different() -> None:
    assert text.value(None) == "(empty)"
    assert text.value("") == '""'


def test_a_long_value_is_cut_with_a_sign() -> None:
    assert text.value("x" * 200) == "x" * 59 + "…"


def test_a_cursor_that_stands_on_a_whole_second_is_shown_so() -> None:
    assert text.cursor("2026-06-30T22:23:59.000000Z") == "2026-06-30T22:23:59Z"
    assert text.cursor("2026-06-30T22:23:59.000120Z") == "2026-06-30T22:23:59.000120Z"
    assert text.cursor(17) == "17"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "just now"), (59, "just now"), (60, "1 minute ago"), (7199, "1 hour ago"), (172_800, "2 days ago")],
)
def test_a_time_and_how_long_ago_it_is(seconds: int, said: str) -> None:
    then = datetime(2026, 7, 1, 9, tzinfo=UTC)
    assert text.since(then, then + timedelta(seconds=seconds)) == f"2026-07-01 09:00:00Z ({said})"
