from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.config.problems import Places
from reverse_etl.config.schedule import Cron, parse_schedule
from reverse_etl.config.tree import Node, parse
from reverse_etl.config.variables import Variables, parse_dotenv

Path = tuple[str | int, ...]

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff\u2028\u2029"))
SCALARS = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, min_size=1, max_size=5)


class Writer:
    """Writes data as YAML and notes where it put each value."""

    def __init__(self, blanks: list[int]) -> None:
        self.text = ""
        self.places: dict[Path, tuple[int, int]] = {}
        self._blanks = iter(blanks)

    def document(self, data: dict[str, Any]) -> None:
        for key, value in data.items():
            self._put(json.dumps(key, ensure_ascii=False) + ":")
            self._blank()
            self._value(value, (key,))
            self._put("\n")

    def _value(self, value: Any, path: Path) -> None:
        self.places[path] = (self.text.count("\n") + 1, len(self.text) - self.text.rfind("\n"))
        if isinstance(value, dict):
            self._several("{", "}", [(json.dumps(key, ensure_ascii=False) + ": ", key) for key in value], value, path)
        elif isinstance(value, list):
            self._several("[", "]", [("", position) for position in range(len(value))], value, path)
        else:
            self._put(json.dumps(value, ensure_ascii=False))

    def _several(self, start: str, end: str, steps: list[tuple[str, Any]], value: Any, path: Path) -> None:
        self._put(start)
        for written, step in steps:
            self._blank()
            self._put(written)
            self._value(value[step], (*path, step))
            self._put(",")
        self._blank()
        self._put(end)

    def _blank(self) -> None:
        blank = next(self._blanks, 0)
        self._put(" " + " " * (blank // 2) if blank % 2 == 0 else "\n" + " " * (1 + blank // 2))

    def _put(self, text: str) -> None:
        self.text += text


def plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    return [plain(child) for child in node.value] if isinstance(node.value, list) else node.value


@given(DOCUMENTS, st.lists(st.integers(0, 9), max_size=40))
def test_what_is_written_is_read_and_every_value_is_found_where_it_stands(
    data: dict[str, Any], blanks: list[int]
) -> None:
    writer = Writer(blanks)
    writer.document(data)
    root, problems = parse(writer.text, "a.yml")
    assert problems == []
    assert root is not None
    assert plain(root) == data
    places = Places("a.yml", root)
    for path, place in writer.places.items():
        node = places.node(path)
        assert node is not None
        assert (node.line, node.column) == place


@given(st.text())
def test_any_text_is_read_or_refused_with_places_inside_it(text: str) -> None:
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)
    root, problems = parse(text, "a.yml")
    assert (root is None) <= bool(problems)
    for problem in problems:
        assert 0 <= problem.line <= len(lines) + 1


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)


@given(st.dictionaries(NAMES, TEXTS.filter(bool), min_size=1, max_size=4), TEXTS.filter(lambda text: "${" not in text))
def test_a_variable_is_replaced_once_whatever_it_holds(values: dict[str, str], between: str) -> None:
    between = between.rstrip("$")
    written = between.join(f"${{{name}}}" for name in values)
    text, problems = Variables(values).resolved(written, Places(), ())
    assert problems == []
    assert text == between.join(values.values())


@given(TEXTS.filter(lambda text: "${" not in text))
def test_text_without_a_variable_stays_as_it_is(text: str) -> None:
    assert Variables({}).resolved(text, Places(), ()) == (text, [])


@given(NAMES, st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_a_dotenv_value_in_quotes_is_read_back(name: str, value: str) -> None:
    written = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_dotenv(f'{name}="{written}"', ".env") == ({name: value}, [])


FIELD = st.sampled_from(["*", "*/7", "0", "5", "1-3", "2,4", "0-6/2"])
DAY = st.sampled_from(["*", "*/2", "1", "24", "10-20", "23,29"])


@given(FIELD, FIELD, DAY, FIELD, st.integers(0, 60 * 24 * 400))
def test_P53_the_next_time_is_the_first_minute_that_fits(
    minute: str, hour: str, day: str, weekday: str, start: int
) -> None:
    cron = parse_schedule(f"{minute} {hour} {day} * {weekday}")
    assert isinstance(cron, Cron)
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=start)
    found = cron.next_after(moment, "UTC")
    assert found > moment
    first = moment + timedelta(minutes=1)
    tried = (first + timedelta(minutes=ahead) for ahead in range(60 * 24 * 2))
    fitting = next((other for other in tried if _fits(cron, other)), None)
    assert found == fitting if fitting is not None else found > moment + timedelta(days=2)


def _fits(cron: Cron, moment: datetime) -> bool:
    return moment.hour in cron.hours and moment.minute in cron.minutes and cron.falls_on(moment.date())
