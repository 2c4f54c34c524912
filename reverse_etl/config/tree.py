"""Strict YAML as a tree that remembers where each value stands.

Limits are counted on what a file unfolds to, so that neither size, nesting nor aliases can cost more than a moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml

from reverse_etl.config.scalars import Scalar, plain
from reverse_etl.model import Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_NODES = 20_000
MAX_PROBLEMS = 100
_LONGEST_TEXT = 80

# libyaml, where PyYAML was built with it, is twenty times as fast as the reader in Python; both give the same events.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Node:
    """A value of a file. `text` is a scalar as written, empty for lists and mappings; `size` counts nodes below."""

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    column: int
    text: str = ""
    size: int = 1
    keys: dict[str, Node] = field(default_factory=dict)

    def child(self, step: str | int) -> Node | None:
        """The value under a key or at a position, None when there is none."""
        if isinstance(self.value, dict):
            return self.value.get(str(step))
        if isinstance(self.value, list) and isinstance(step, int) and 0 <= step < len(self.value):
            return self.value[step]
        return None


class _Stop(Exception):
    """The rest of the file can't be read; the problem has been noted."""


def read_file(path: Path, shown: str, *, most: int = MAX_BYTES) -> tuple[str, list[Problem]]:
    """A file's text, UTF-8 and no larger than `most` bytes; never follows what isn't a plain file."""
    if not path.is_file():
        return "", [Problem(shown, 0, 0, "", "this isn't a file that can be read")]
    try:
        with path.open("rb") as stream:
            raw = stream.read(most + 1)
    except OSError as failure:
        return "", [Problem(shown, 0, 0, "", f"this file can't be read: {failure.strerror}")]
    if len(raw) > most:
        return "", [Problem(shown, 0, 0, "", f"this file is larger than {most // 1024} KiB, the most that is read")]
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8"), []
    except UnicodeDecodeError as failure:
        before = raw[: failure.start].decode("utf-8")
        line, column = _position(before, len(before))
        text = f"byte 0x{raw[failure.start]:02x}"
        return "", [Problem(shown, line, column, text, "this file isn't UTF-8: save it in that encoding")]


def parse(text: str, shown: str, *, discreet: bool = False) -> tuple[Node | None, list[Problem]]:
    """The tree of one document, and everything wrong with it; None when nothing could be read.

    `discreet` is for files that may hold secrets: no problem repeats a value.
    """
    reader = _Reader(text, shown, discreet)
    return reader.document(), reader.problems


class _Reader:
    """Builds the tree from the parser's events, refusing as it goes."""

    def __init__(self, text: str, shown: str, discreet: bool) -> None:
        self.problems: list[Problem] = []
        self._discreet = discreet
        self._text = text
        self._shown = shown
        self._anchors: dict[str, Node | None] = {}
        self._nodes = 0

    def document(self) -> Node | None:
        unprintable = _UNPRINTABLE.search(self._text)
        if unprintable:
            line, column = _position(self._text, unprintable.start())
            self._note(line, column, f"U+{ord(unprintable[0]):04X}", "a control character can't stand in a file")
            return None
        try:
            return self._document(yaml.parse(self._text, Loader=_LOADER))
        except yaml.MarkedYAMLError as failure:
            self._syntax(failure)
        except yaml.YAMLError as failure:
            self._note(0, 0, "", f"this isn't valid YAML: {failure}")
        except _Stop:
            pass
        return None

    def _document(self, events: Iterator[yaml.Event]) -> Node | None:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._stop(event, "---", "a file holds one document: move this one to a file of its own")
                root = self._node(next(events), events, depth=1)
        if root is None or root.value is None:
            self._note(0, 0, "", "this file is empty")
            return None
        if not isinstance(root.value, dict):
            self._note(root.line, root.column, "", "a file should hold keys with values, such as `key: value`")
            return None
        return root

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        line, column = _place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        if getattr(event, "tag", None) not in {None, "!"}:
            self._note(line, column, str(getattr(event, "tag", "")), "tags are not read: quote a value to make it text")
        if depth > MAX_DEPTH:
            self._stop(event, "", f"values are nested more than {MAX_DEPTH} deep here")
        anchor: str | None = getattr(event, "anchor", None)
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(line, column, events, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(line, column, events, depth)
        else:
            node = self._scalar(event)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _mapping(self, line: int, column: int, events: Iterator[yaml.Event], depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Node] = {}
        size = 1
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            size += key.size + value.size
            name = self._key(key)
            if name in values:
                first = keys[name]
                self._note(key.line, key.column, name, f"this key stands here twice, first in line {first.line}")
            elif name is not None:
                values[name], keys[name] = value, key
        return Node(values, line, column, size=size, keys=keys)

    def _sequence(self, line: int, column: int, events: Iterator[yaml.Event], depth: int) -> Node:
        items: list[Node] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, depth + 1))
        return Node(items, line, column, size=1 + sum(item.size for item in items))

    def _scalar(self, event: yaml.Event) -> Node:
        line, column = _place(event)
        text = str(getattr(event, "value", ""))
        value: Scalar = text
        if getattr(event, "implicit", (False,))[0]:
            try:
                value = plain(text)
            except ValueError as failure:
                self._note(line, column, "" if self._discreet else text, str(failure))
        elif "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            self._note(line, column, "", "this text holds a character that no text may hold (NUL, or half of a pair)")
        return Node(value, line, column, text)

    def _key(self, key: Node) -> str | None:
        if key.text == "<<":
            self._note(key.line, key.column, "<<", "merge keys are not read: write the keys out")
            return None
        if isinstance(key.value, str):
            return key.value
        text = key.text or ""
        self._note(key.line, key.column, text, "a key should be text: quote it")
        return None

    def _alias(self, event: yaml.AliasEvent) -> Node:
        name = str(event.anchor)
        if name not in self._anchors:
            self._stop(event, f"*{name}", "nothing above is named so with `&`")
        target = self._anchors[name]
        if target is None:
            self._stop(event, f"*{name}", "this refers to the value that it is part of")
        self._count(event, target.size)
        return target

    def _count(self, event: yaml.Event, more: int) -> None:
        self._nodes += more
        if self._nodes > MAX_NODES:
            self._stop(event, "", f"this file unfolds to more than {MAX_NODES} values, the most that is read")

    def _syntax(self, failure: yaml.MarkedYAMLError) -> None:
        lines = self._text.rstrip().split("\n")
        marks = [mark for mark in (failure.problem_mark, failure.context_mark) if mark is not None]
        if not marks:
            self._note(0, 0, "", f"this isn't valid YAML: {failure.problem}")
            return
        # A quote or bracket left open is noticed at the end of the file, but the place to look at is where it opens.
        end = (len(lines) - 1, len(lines[-1]))
        line, column = next((place for mark in marks if (place := (mark.line, mark.column)) < end), end)
        written = lines[line]
        message = f"this isn't valid YAML: {failure.problem}"
        if "\t" in written[: len(written) - len(written.lstrip())]:
            message = "a tab can't indent YAML: use spaces"
        elif "${" in written[: column + 1]:
            message += '; between { } a variable needs quotes: "${NAME}"'
        key, colon, value = written.strip().partition(": ")
        if ": " in value or value.endswith(":"):
            message += "; a value that holds `: ` or ends in `:` needs quotes"
        # Only the key of the line is repeated: what follows it may be a secret.
        self._note(line + 1, column + 1, key if colon else "", message)

    def _note(self, line: int, column: int, text: str, message: str) -> None:
        self.problems.append(Problem(self._shown, line, column, shortened(text), message))
        if len(self.problems) == MAX_PROBLEMS:
            self.problems.append(Problem(self._shown, line, column, "", "there is more; correct what is listed first"))
            raise _Stop

    def _stop(self, event: yaml.Event, text: str, message: str) -> NoReturn:
        self._note(*_place(event), text, message)
        raise _Stop


def shortened(text: str) -> str:
    """The first line of a value, short enough for a message."""
    first = printable(text.strip().split("\n")[0])
    return first if len(first) <= _LONGEST_TEXT else first[: _LONGEST_TEXT - 1] + "…"


def printable(text: str) -> str:
    """A quoted value can hold anything: what would steer a terminal is spelled out."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _place(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (0, 0) if mark is None else (mark.line + 1, mark.column + 1)


def _position(text: str, index: int) -> tuple[int, int]:
    """Line and column, from 1, of a character."""
    return text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1
