"""`${NAME}` and `${NAME:-fallback}` in the values of connections, and the `.env` file beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reverse_etl.config.problems import Path, Places, nearest
from reverse_etl.config.tree import Node
from reverse_etl.model import Problem

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}")
_ASSIGNMENT = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


class Variables:
    """The environment, over what `.env` gives."""

    def __init__(self, environment: Mapping[str, str], dotenv: Mapping[str, str] | None = None) -> None:
        self._values = {**(dotenv or {}), **environment}

    def resolved(self, written: str, places: Places, path: Path) -> tuple[str, list[Problem]]:
        """A value with its variables put in, once: what they hold is never read as YAML, nor for variables again."""
        complaints: dict[str, str] = {}
        text = VARIABLE.sub(lambda found: self._value(found, complaints), written)
        if "${" in VARIABLE.sub("", written):
            complaints[""] = "a variable should be written ${NAME} or ${NAME:-fallback}, with letters, digits and _"
        problems = []
        for name, complaint in complaints.items():
            near = None if name in self._values else nearest(name, list(self._values))
            # Only the variable is shown: what stands beside it may be a secret.
            shown = f"${{{name}}}" if name else ""
            problems.append(places.problem(path, complaint, nearest=near, text=shown))
        return text, problems

    def _value(self, found: re.Match[str], complaints: dict[str, str]) -> str:
        name, fallback = found[1], found[2]
        value = self._values.get(name)
        if value:
            return value
        if fallback is not None:
            return fallback
        if value is None:
            complaints[name] = f"the variable {name} is not set: set it in the environment or in .env"
        else:
            complaints[name] = f"the variable {name} is empty: give it a value, or write ${{{name}:-}} if that is meant"
        return ""


def plain_data(
    node: Node, places: Places, path: Path = (), variables: Variables | None = None
) -> tuple[Any, list[Problem]]:
    """A tree as plain data, with the variables in its texts put in if there are any to put in."""
    problems: list[Problem] = []

    def plain(node: Node, path: tuple[str | int, ...]) -> Any:
        if isinstance(node.value, dict):
            return {key: plain(child, (*path, key)) for key, child in node.value.items()}
        if isinstance(node.value, list):
            return [plain(child, (*path, at)) for at, child in enumerate(node.value)]
        if variables is None or not isinstance(node.value, str) or "${" not in node.value:
            return node.value
        text, found = variables.resolved(node.value, places, path)
        problems.extend(found)
        return text

    return plain(node, tuple(path)), problems


def parse_dotenv(text: str, shown: str) -> tuple[dict[str, str], list[Problem]]:
    """`NAME=value` lines, with quotes, comments and a leading `export`; a value is never shown."""
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        found = _ASSIGNMENT.fullmatch(written)
        column = len(line) - len(line.lstrip()) + 1
        if found is None:
            message = "should be NAME=value, with a name of letters, digits and _"
            problems.append(Problem(shown, number, column, "", message))
            continue
        try:
            values[found[1]] = _dotenv_value(found[2])
        except ValueError as failure:
            problems.append(Problem(shown, number, column + found.start(2), found[1], str(failure)))
    return values, problems


def _dotenv_value(written: str) -> str:
    quote = written[:1]
    if quote not in {"'", '"'}:
        return re.split(r"(?:^|\s)#", written, maxsplit=1)[0].rstrip()
    body = re.match(r"'([^']*)'" if quote == "'" else r'"((?:[^"\\]|\\.)*)"', written)
    if body is None:
        raise ValueError("this value's quote isn't closed on its line")
    rest = written[body.end() :].strip()
    if rest and not rest.startswith("#"):
        raise ValueError("something follows this value's closing quote: quote the whole value")
    if quote == "'":
        return body[1]
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), body[1])
