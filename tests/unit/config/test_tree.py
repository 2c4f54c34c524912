from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import yaml

from reverse_etl.config import tree
from reverse_etl.config.tree import MAX_BYTES, MAX_DEPTH, MAX_NODES, MAX_PROBLEMS, Node, parse, read_file, shortened


def complaint(text: str) -> str:
    """The one thing wrong with a file."""
    _, problems = parse(text, "a.yml")
    (problem,) = problems
    return str(problem)


def test_every_value_knows_its_place() -> None:
    root, problems = parse("a: 1\nb:\n  - x\n  - {c: ü, d: null}\n", "a.yml")
    assert problems == []
    assert root is not None
    item = root.child("b")
    assert item is not None
    nested = item.child(1)
    assert nested is not None
    last = nested.child("d")
    assert last == Node(None, 4, 15, "null")
    assert (nested.keys["d"].line, nested.keys["d"].column) == (4, 12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a.yml: this file is empty"),
        ("# nothing but a comment\n", "a.yml: this file is empty"),
        ("just words\n", "a.yml:1:1: a file should hold keys with values, such as `key: value`"),
        ("- a\n", "a.yml:1:1: a file should hold keys with values, such as `key: value`"),
        ("a: 1\nb: 2\na: 3\n", "a.yml:3:1: this key stands here twice, first in line 1 (found: a)"),
        ("a: 1\n---\nb: 2\n", "a.yml:2:1: a file holds one document: move this one to a file of its own (found: ---)"),
        ("a:\n\tb: 1\n", "a.yml:2:1: a tab can't indent YAML: use spaces"),
        ("a: &x 1\nb: *y\n", "a.yml:2:4: nothing above is named so with `&` (found: *y)"),
        ("a: &x [*x]\n", "a.yml:1:8: this refers to the value that it is part of (found: *x)"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", "a.yml:2:5: merge keys are not read: write the keys out (found: <<)"),
        ("12: a\n", "a.yml:1:1: a key should be text: quote it (found: 12)"),
        ("a: {? [b] : c}\n", "a.yml:1:7: a key should be text: quote it"),
        ("a: b\x07\n", "a.yml:1:5: a control character can't stand in a file (found: U+0007)"),
        ('a: "\\0"\n', "a.yml:1:4: this text holds a character that no text may hold (NUL, or half of a pair)"),
        ("a: [1\n", "a.yml:1:4: this isn't valid YAML: "),
        (
            "a: b: c\n",
            "a.yml:1:5: this isn't valid YAML: mapping values are not allowed in this context; "
            "a value that holds `: ` or ends in `:` needs quotes (found: a)",
        ),
    ],
)
def test_P47_what_is_not_strict_yaml_is_refused_with_its_place(text: str, said: str) -> None:
    assert complaint(text).startswith(said)


def test_an_explicit_tag_is_refused() -> None:
    assert "a.yml:1:4: tags are not read: quote a value to make it text" in complaint("a: !!python/name:os.system x\n")


def test_an_open_quote_is_reported_where_it_opens() -> None:
    assert complaint("a: 1\nb: 'open\nc: 2\n").startswith("a.yml:2:4: this isn't valid YAML")


def test_a_variable_between_braces_gets_its_remedy() -> None:
    assert 'between { } a variable needs quotes: "${NAME}"' in complaint("auth: {client_id: ${ID}}\n")


def test_a_syntax_error_never_repeats_what_follows_the_key() -> None:
    assert "hunter2" not in complaint("token: hunter2: x\n")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("no", "some YAML readers take `no` for a truth value: write true or false, or quote it for text"),
        ("On", "some YAML readers take `On` for a truth value: write true or false, or quote it for text"),
        ("012", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("1_000", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("10:30", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("190:20:30", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("0x1F", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("0b11", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("0o17", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("1e3", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        ("012.5", "YAML readers disagree on this number: write plain digits, or quote it for text"),
        (".inf", "this can't be kept as a number: quote it for text"),
        (".NaN", "this can't be kept as a number: quote it for text"),
        ("9223372036854775808", "this can't be kept as a number: quote it for text"),
        ("9" * 5000, "this can't be kept as a number: quote it for text"),
        ("0.12345678901234567890", "a number can't keep all these digits: quote it for text"),
        ("1.0e+999", "a number can't keep all these digits: quote it for text"),
    ],
)
def test_P47_words_that_yaml_readers_disagree_about_are_errors(word: str, why: str) -> None:
    assert complaint(f"a: {word}\n").startswith(f"a.yml:1:4: {why}")
    root, problems = parse(f"a: '{word}'\n", "a.yml")
    assert problems == []
    assert root is not None
    quoted = root.child("a")
    assert quoted is not None
    assert quoted.value == word


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1.5e+3", 1500.0),
        ("y", "y"),
        ("2026-11-23", "2026-11-23"),
        ("2026-09", "2026-09"),
        ("10.1.2", "10.1.2"),
        ("none", "none"),
        ("a b", "a b"),
    ],
)
def test_words_that_every_reader_takes_alike_are_read(word: str, value: object) -> None:
    root, problems = parse(f"a: {word}\n", "a.yml")
    assert problems == []
    assert root is not None
    node = root.child("a")
    assert node is not None
    assert node.value == value
    assert type(node.value) is type(value)


def test_all_that_is_wrong_with_a_file_is_listed_at_once() -> None:
    _, problems = parse("a: no\na: 012\nb: yes\n", "a.yml")
    assert [(problem.line, problem.column) for problem in problems] == [(1, 4), (2, 4), (2, 1), (3, 4)]


def test_a_file_that_may_hold_secrets_repeats_none_of_its_values() -> None:
    _, problems = parse("token: 0123_456\n", "a.yml", discreet=True)
    assert [problem.text for problem in problems] == [""]


def test_an_alias_means_the_value_it_names() -> None:
    root, problems = parse("a: &x [1, 2]\nb: *x\n", "a.yml")
    assert problems == []
    assert root is not None
    assert root.child("a") is root.child("b")


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize("levels", [5, 20, 200])
def test_S09_aliases_that_explode_are_refused_before_they_do(levels: int) -> None:
    assert f"this file unfolds to more than {MAX_NODES} values" in complaint(laughs(levels))


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 100_000,
        "a: " + "{a: " * 50_000,
        "a:\n" + "".join(" " * n + "- \n" for n in range(1, 400)),
        "- " * 90_000,
    ],
    ids=["lists", "mappings", "blocks", "dashes"],
)
def test_S09_deep_nesting_is_refused_at_the_limit(text: str) -> None:
    assert f"nested more than {MAX_DEPTH} deep" in complaint(text)


def test_S09_many_small_values_are_refused_at_the_limit() -> None:
    assert f"more than {MAX_NODES} values" in complaint("a: [" + "[]," * MAX_NODES + "]")


def test_S09_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_bytes(b"a: b\n" * 2_000_000)
    tracemalloc.start()
    text, problems = read_file(path, "a.yml")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert text == ""
    assert [str(problem) for problem in problems] == ["a.yml: this file is larger than 256 KiB, the most that is read"]
    assert peak < 4 * MAX_BYTES


def test_S09_the_largest_file_that_is_read_stays_small_in_memory() -> None:
    text = laughs(4) + "\nb: |\n" + " x\n" * 60_000
    tracemalloc.start()
    parse(text, "a.yml")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 1024 * 1024


def test_a_file_in_another_encoding_is_refused_at_the_first_byte_that_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_bytes("a: 1\nb: \u00e9\n".encode("latin-1"))
    _, problems = read_file(path, "a.yml")
    assert [str(problem) for problem in problems] == [
        "a.yml:2:4: this file isn't UTF-8: save it in that encoding (found: byte 0xe9)"
    ]


def test_a_byte_order_mark_is_no_character_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_file(path, "a.yml") == ("a: 1\n", [])


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yml").mkdir()
    _, problems = read_file(tmp_path / "a.yml", "a.yml")
    assert [str(problem) for problem in problems] == ["a.yml: this isn't a file that can be read"]


@pytest.mark.parametrize("text", ["a: {b: [1, x]}\nc: no\n", "a: 1\na: 2\n", "a: &x [1]\nb: *x\n", laughs(6)])
def test_the_reader_in_python_finds_the_same_as_the_fast_one(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = parse(text, "a.yml")
    monkeypatch.setattr(tree, "_LOADER", yaml.SafeLoader)
    assert parse(text, "a.yml") == fast


def test_no_more_problems_are_listed_than_anybody_reads() -> None:
    _, problems = parse("\n".join(f"k{n}: no" for n in range(9000)), "a.yml")
    assert len(problems) == MAX_PROBLEMS + 1
    assert str(problems[-1]) == "a.yml:100:6: there is more; correct what is listed first"


def test_a_long_value_is_shown_in_part_and_without_control_characters() -> None:
    assert shortened("x" * 81) == "x" * 79 + "…"
    assert shortened("a\x1b[31m\nb") == "a\\x1b[31m"
