"""Where something wrong stands in a file, said so that the reader can mend it at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from reverse_etl.config.tree import MAX_PROBLEMS, Node, printable, shortened
from reverse_etl.model import Problem

Path = Sequence[str | int]
# The forms that a value can be written in, named as the branches of unions are and as a reader would say it.
SHORT, LONG, SEVERAL = "the short form", "the long form", "the list"
FORMS = {SHORT: "text", LONG: "keys with values", SEVERAL: "a list"}
_WANTED = "should be "


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that was probably meant, None when nothing is close."""
    folded = {name.lower().replace("-", "_"): name for name in reversed(known)}
    close = get_close_matches(word.lower().replace("-", "_"), folded, n=1)
    return folded[close[0]] if close else None


class Misspelt(ValueError):
    """For validators: wrong, and this was probably meant."""

    def __init__(self, message: str, nearest: str | None) -> None:
        super().__init__(message)
        self.nearest = nearest


@dataclass(frozen=True)
class Places:
    """The places of one file's values by their path; `inherited` has those of values that another file gave."""

    file: str = ""
    root: Node | None = None
    inherited: Places | None = None

    def problem(
        self,
        path: Path,
        message: str,
        *,
        nearest: str | None = None,
        of_key: bool = False,
        text: str | None = None,
    ) -> Problem:
        """What is wrong with the value at a path, or with its key; `text` is shown instead of what is written there.

        A path that leads nowhere (a missing key) gets the place of the innermost part that is there.
        """
        if self.root is None or (self.inherited is not None and path and self.root.child(path[0]) is None):
            if self.inherited is not None and self.inherited.has(path[:1]):
                return self.inherited.problem(path, message, nearest=nearest, of_key=of_key, text=text)
            return Problem(self.file, 0, 0, "", message, nearest)
        key, value = self._find(path)
        node = key if key is not None and (of_key or not value.text) else value
        shown = node.text if text is None or node is key else text
        return Problem(self.file, node.line, node.column, shortened(shown), printable(message), nearest)

    def has(self, path: Path) -> bool:
        """Whether the file gives a value here."""
        return self.node(path) is not None

    def node(self, path: Path) -> Node | None:
        """The value at a path of this very file."""
        node = self.root
        for step in path:
            node = node.child(step) if node is not None else None
        return node

    def place_of(self, path: Path) -> tuple[int, int]:
        """Line and column of a value, (0, 0) when the file is not known."""
        found = self.problem(path, "")
        return found.line, found.column

    def keys_with(self, problems: Iterable[Problem]) -> set[str]:
        """The outermost keys of this file that have one of these problems in or under them."""
        if self.root is None:
            return set()
        lines = sorted((key.line, name) for name, key in self.root.keys.items())
        here = [problem.line for problem in problems if problem.file == self.file]
        above = [[name for line, name in lines if line <= problem_line] for problem_line in here]
        return {names[-1] for names in above if names}

    def _find(self, path: Path) -> tuple[Node | None, Node]:
        assert self.root is not None  # noqa: S101  # for the type checker: `problem` has looked
        key: Node | None = None
        value = self.root
        for step in path:
            child = value.child(step)
            # pydantic names the branch of a union in its paths too: those steps are not in the file.
            if child is None:
                continue
            key = value.keys.get(str(step))
            value = child
        return key, value


def from_pydantic(failure: ValidationError, places: Places, model: type[BaseModel], at: Path = ()) -> list[Problem]:
    """Each of a model's complaints at the place of the value it is about; `at` is where the model's data begins."""
    found: list[Problem] = []
    errors = failure.errors(include_url=False)
    for error in errors[:MAX_PROBLEMS]:
        problem = _problem(error, places, model, at)
        before = next((other for other in found if _of_one_value(other, problem)), None)
        if before is None:
            found.append(problem)
        elif problem.message not in before.message:
            message = f"{before.message}, or {problem.message.removeprefix(_WANTED)}"
            near = before.nearest or problem.nearest
            found[found.index(before)] = replace(before, message=message, nearest=near)
    if len(errors) > MAX_PROBLEMS:
        found.append(replace(found[-1], text="", message="there is more; correct what is listed first", nearest=None))
    return found


def _of_one_value(one: Problem, other: Problem) -> bool:
    """Whether both come from the branches of a union that were all tried and all refused the same value."""
    same = (one.line, one.column, one.text) == (other.line, other.column, other.text)
    return same and one.message.startswith(_WANTED) and other.message.startswith(_WANTED)


def unknown_key(places: Places, path: Path, known: Sequence[str]) -> Problem:
    """A key that means nothing where it stands; what could stand there is listed unless one of them is close."""
    near = nearest(str(path[-1]), known)
    listed = f"; there are {', '.join(known)}" if known and near is None else ""
    return places.problem(path, f"there is no key `{path[-1]}` here{listed}", nearest=near, of_key=True)


def elsewhere(problems: Iterable[Problem], known: Iterable[Problem]) -> list[Problem]:
    """The problems at other places than those of known ones: a value that can't be read is not judged as well."""
    places = {(problem.file, problem.line, problem.column) for problem in known if problem.line}
    return [problem for problem in problems if (problem.file, problem.line, problem.column) not in places]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once, by file and line."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line, problem.column))


def _problem(error: ErrorDetails, places: Places, model: type[BaseModel], at: Path) -> Problem:
    location = _without_branches(error["loc"], model, places.node(at))
    path = (*at, *location)
    context: Mapping[str, Any] = error.get("ctx", {})
    word = str(location[-1]) if location else ""
    if error["type"] == "missing":
        return places.problem(path[:-1], f"`{word}` is missing here", of_key=True)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        return unknown_key(places, path, known)
    if word == "[key]":
        return places.problem(path[:-1], _said(error, context), of_key=True)
    options = re.findall(r"'([^']*)'", str(context.get("expected", context.get("expected_tags", ""))))
    given = error["input"]
    near = nearest(given, options) if isinstance(given, str) else None
    if isinstance(context.get("error"), Misspelt):
        near = context["error"].nearest
    if isinstance(given, Mapping) and isinstance(given.get(context.get("discriminator", "").strip("'")), str):
        path = (*path, context["discriminator"].strip("'"))
        near = nearest(str(context.get("tag", "")), options)
    text = "" if _secret(model, location) else None
    return places.problem(path, _said(error, context), nearest=near, text=text)


_SAID = {
    "string_type": "should be text (quote it to make it so)",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "decimal_type": "should be a number",
    "decimal_parsing": "should be a number",
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "dict_type": "should be keys with values",
    "model_type": "should be keys with values",
    "model_attributes_type": "should be keys with values",
    "string_too_short": "should not be empty",
}


def _said(error: ErrorDetails, context: Mapping[str, Any]) -> str:
    kind = error["type"]
    if error["input"] is None and kind != "missing":
        return "has no value: give it one, or leave the key out"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind == "literal_error":
        return f"should be {context['expected'].replace(chr(39), '')}"
    if kind == "union_tag_invalid":
        tags = re.findall(r"'([^']*)'", context["expected_tags"])
        return f"should be {' or '.join(FORMS.get(tag, tag) for tag in tags)}"
    if kind == "union_tag_not_found":
        return f"`{context['discriminator'].strip(chr(39))}` is missing"
    if kind in {"too_short", "too_long"}:
        return "should not be empty" if kind == "too_short" else "holds too many entries"
    said = error["msg"]
    return _SAID.get(kind, said.removeprefix("Input ")[0].lower() + said.removeprefix("Input ")[1:])


def _known_keys(model: type[BaseModel], location: Path) -> list[str]:
    known: list[str] = []
    for reached in _models(_annotations(model, location)):
        known += [info.alias or name for name, info in reached.model_fields.items()]
    return sorted(dict.fromkeys(known))


def _secret(model: type[BaseModel], location: Path) -> bool:
    """Whether the value at a path is, or may be, a secret: its text must stay out of every message."""
    annotations = _annotations(model, location)
    return any(issubclass(found, SecretStr | SecretBytes) for annotation in annotations for found in _types(annotation))


def _without_branches(location: Path, model: type[BaseModel], node: Node | None) -> Path:
    """pydantic's path without the values that chose one of several models: a key may be called like one of them."""
    here: list[Any] = [model]
    path: list[str | int] = []
    for step in location:
        chosen_by = node.value.values() if node is not None and isinstance(node.value, dict) else ()
        models = _models(here)
        if len(models) > 1 and any(other.value == step for other in chosen_by):
            here = [found for found in models if _is_chosen_by(found, step)]
            continue
        path.append(step)
        here = _below(here, step)
        node = (node.child(step) or node) if node is not None else None
    return path


def _is_chosen_by(model: type[BaseModel], value: str | int) -> bool:
    return any(value in get_args(info.annotation) for info in model.model_fields.values())


def _annotations(model: type[BaseModel], location: Path) -> list[Any]:
    """What may stand at a path."""
    here: list[Any] = [model]
    for step in location:
        here = _below(here, step)
    return here


def _below(annotations: list[Any], step: str | int) -> list[Any]:
    """What may stand one step further. Steps that are no field (a position, a free key) change nothing."""
    fields = [_field(found, step) for found in _models(annotations)]
    return [annotation for annotation in fields if annotation is not None] or annotations


def _models(annotations: list[Any]) -> list[type[BaseModel]]:
    return [found for annotation in annotations for found in _types(annotation) if issubclass(found, BaseModel)]


def _field(model: type[BaseModel], step: str | int) -> Any | None:
    for name, info in model.model_fields.items():
        if step in {name, info.alias}:
            return info.annotation
    return None


def _types(annotation: Any) -> Iterator[type]:
    """The classes inside an annotation: of a union each, of a list or dictionary those of its values."""
    origin = get_origin(annotation)
    if origin is None:
        if isinstance(annotation, type):
            yield annotation
        return
    arguments = get_args(annotation)
    of_values = arguments[1:] if isinstance(origin, type) and issubclass(origin, Mapping) else arguments
    for argument in of_values:
        yield from _types(argument)
