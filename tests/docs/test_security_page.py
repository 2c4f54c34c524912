"""SECURITY.md names the tests of every rule, and every one of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text()
RULES = range(1, 26)
UNBUILT = {14, 15, 24}  # templates, CSV for people, support bundles
NOTHING = "nothing to bite on yet: "


def rows() -> dict[int, str]:
    """What stands in the last column, by rule."""
    found = re.findall(r"^\| S(\d+) \| .+? \| (.+) \|$", PAGE, re.MULTILINE)
    assert len(found) == len(dict(found)), "a rule stands there twice"
    return {int(number): shown for number, shown in found}


def written() -> set[str]:
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }


def test_S25_every_rule_names_its_tests_or_says_that_there_is_nothing_to_bite_on() -> None:
    shown, there = rows(), written()
    assert list(shown) == list(RULES)
    for number, text in shown.items():
        named = re.findall(r"`(test_\w+)`", text)
        assert bool(named) != text.startswith(NOTHING), f"S{number}"
        assert set(named) <= there, f"S{number} names tests that are gone: {set(named) - there}"
        if named:
            assert any(name.startswith(f"test_S{number:02d}_") for name in named), f"S{number}"
    assert {number for number, text in shown.items() if text.startswith(NOTHING)} == UNBUILT


def test_S25_every_test_of_a_rule_is_of_one_that_there_is() -> None:
    numbers = {int(number) for name in written() for number in re.findall(r"(?:^test|_)_?S(\d+)_", name)}
    assert numbers == set(RULES) - UNBUILT


def test_S25_no_test_of_a_rule_has_a_number_of_one_digit() -> None:
    assert [name for name in written() if re.match(r"test_S\d_", name)] == []


def test_every_file_that_the_page_links_to_is_there() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGE):
        assert (ROOT / link).exists(), link
