"""The reference of the two kinds of file, from the models that read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reverse_etl import registry
from reverse_etl.config.definition import SyncFile
from reverse_etl.config.project import ProjectFile

Schema = Mapping[str, Any]

HEAD = """\
# Files

Written by `make reference` from the models that read the files; change them in `reverse_etl/config/`.

A project is a folder with `reverse_etl.yml` and one file per sync in `syncs/`. A key that isn't listed here is an error
with its place and the nearest valid spelling. `reverse-etl schema` prints the same as JSON Schema, for editors: write
it to a file (`reverse-etl schema > reverse-etl.schema.json`), and begin each of the two kinds of file with
`# yaml-language-server: $schema=` and the path to it.
"""
VARIABLES = """\
The connections, where the project remembers, and defaults for its syncs.

Text values of `sources`, `destinations`, `state` and `daemon` may hold `${NAME}` or `${NAME:-fallback}`: the variable
of the environment, or of a file `.env` beside `reverse_etl.yml`. One that isn't set and has no fallback is an error
that names file, line and variable.
"""
SYNC = """\
The sync's name is the file's name without the ending. Exactly one of `query`, `query_file` and `table` is given. Where
a key takes text or keys, the keys stand in a section of their own below.
"""


def page() -> str:
    """The whole page, as it should lie in docs/reference/files.md."""
    parts = [HEAD, "## reverse_etl.yml\n", VARIABLES, *_sections("", ProjectFile.model_json_schema())]
    for name in registry.names(registry.DESTINATIONS):
        parts.append(f"### destinations: type {name}\n")
        parts += _sections(f"{name}: ", registry.destination(name).Config.model_json_schema())
    parts += ["## syncs/NAME.yml\n", SYNC, *_sections("", SyncFile.model_json_schema())]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _sections(prefix: str, schema: Schema) -> Iterator[str]:
    """A table of the model's keys, then a section for each form that one of them may take."""
    defs = schema.get("$defs", {})
    yield _table(schema)
    waiting, shown = list(_forms(schema)), {"DefaultsFile"}
    while waiting:
        path, name = waiting.pop(0)
        if name in shown:
            continue
        shown.add(name)
        yield f"### {prefix}{path}{_of_kind(defs[name])}\n"
        if said := defs[name].get("description"):
            yield _line(said) + "\n"
        yield _table(defs[name])
        waiting += [(f"{path}.{below}", each) for below, each in _forms(defs[name])]


def _of_kind(schema: Schema) -> str:
    """How the heading tells this form from others of the same key: `, flow jwt`."""
    keys = schema.get("properties", {})
    return "".join(f", {key} {keys[key]['const']}" for key in schema.get("required", []) if "const" in keys[key])


def _forms(schema: Schema) -> Iterator[tuple[str, str]]:
    for key, value in schema.get("properties", {}).items():
        for name in _references(value):
            yield key, name


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rsplit("/", 1)[-1]
        for key, inner in value.items():
            if key != "discriminator":
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _table(schema: Schema) -> str:
    required = schema.get("required", [])
    keys = schema.get("properties", {})
    rows = [(key, keys[key]) for key in [*required, *(key for key in keys if key not in required)]]
    lines = "".join(
        f"| `{key}` | {_taken(value)} | {_default(key, value, required)} | {_told(value)} |\n" for key, value in rows
    )
    return f"| key | takes | default | |\n| --- | --- | --- | --- |\n{lines}"


def _taken(value: Schema) -> str:
    """What may stand there, in words."""
    if "$ref" in value:
        return "keys"
    for several in ("anyOf", "oneOf"):
        if several in value:
            return " or ".join(dict.fromkeys(_taken(each) for each in value[several] if each.get("type") != "null"))
    if "const" in value:
        return f"`{_yaml(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{_yaml(each)}`" for each in value["enum"])
    if value.get("type") == "array":
        return f"list of {_taken(value.get('items', {}))}"
    if value.get("type") == "object":
        inner = value.get("additionalProperties")
        return f"names with {_taken(inner)}" if isinstance(inner, dict) and inner else "keys"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return "secret text" if value.get("format") == "password" else words.get(str(value.get("type")), "any value")


def _default(key: str, value: Schema, required: list[str]) -> str:
    if key in required:
        return "*required*"
    default = value.get("default")
    if default is None or default == [] or isinstance(default, dict):
        return ""
    return f"`{_yaml(default)}`" if value.get("format") != "password" else ""


def _told(value: Schema) -> str:
    return _line(value.get("description", "")).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
