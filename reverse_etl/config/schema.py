"""JSON Schema of the two kinds of file, for editors: generated from the models that read them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from reverse_etl import registry
from reverse_etl.config.definition import SyncFile
from reverse_etl.config.project import ProjectFile
from reverse_etl.errors import PluginError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
_PREFIX = "#/$defs/"
_SINGLE = frozenset({"string", "integer", "number", "boolean"})
_NARROWING = frozenset({"pattern", "enum", "minLength", "maxLength"})
_NULL = {"type": "null"}
_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^{}]*)?\}"}


def schema() -> Schema:
    """One schema that takes either kind of file; `#/$defs/project` and `#/$defs/sync` are the two."""
    connectors = _connectors()
    models: list[type[BaseModel]] = [ProjectFile, SyncFile, *connectors.values()]
    references, whole = models_json_schema(
        [(model, "validation") for model in models], ref_template=_PREFIX + "{model}"
    )
    definitions: Schema = {name: _cleaned(part) for name, part in whole["$defs"].items()}
    names = {model: references[model, "validation"]["$ref"].removeprefix(_PREFIX) for model in models}
    project, sync = definitions.pop(names[ProjectFile]), definitions.pop(names[SyncFile])
    settings = {kind: names[model] for kind, model in connectors.items()}
    for name in _reachable(definitions, [*settings.values(), "SourceFile", "StateFile", "DaemonFile"]):
        definitions[name] = _with_variables(definitions[name])
    for section, connection in (("sources", None), ("destinations", _by_type(settings))):
        by_name = project["properties"][section]
        by_name["additionalProperties"] = False
        if connection is not None:
            by_name["patternProperties"] = dict.fromkeys(by_name["patternProperties"], connection)
    sync["oneOf"] = [{"required": [key]} for key in ("query", "query_file", "table")]
    return {
        "$schema": DIALECT,
        "title": "reverse-etl: reverse_etl.yml, or a sync definition under syncs/",
        "anyOf": [{"$ref": _PREFIX + "project"}, {"$ref": _PREFIX + "sync"}],
        "$defs": {"project": project, "sync": sync, **definitions},
    }


def _connectors() -> dict[str, type[BaseModel]]:
    """The settings of each destination that can be imported here."""
    found: dict[str, type[BaseModel]] = {}
    for name in registry.names(registry.DESTINATIONS):
        try:
            found[name] = registry.destination(name).Config
        except PluginError:
            continue  # an extra that isn't installed: its connections are taken as they are
    return found


def _by_type(names: dict[str, str]) -> Schema:
    """A connection's schema, chosen by its `type`, so that an editor's complaint is about the right one."""
    chosen = [
        {"if": {"properties": {"type": {"const": kind}}}, "then": {"$ref": _PREFIX + name}}
        for kind, name in names.items()
    ]
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": registry.names(registry.DESTINATIONS)}},
        "allOf": chosen,
    }


def _cleaned(part: Any) -> Any:
    """Without what is an accident of the models: made-up titles, and null as a way to leave a key out."""
    if isinstance(part, list):
        return [_cleaned(item) for item in part]
    if not isinstance(part, dict):
        return part
    meant = {key: value for key, value in part.items() if not _accidental(key, value)}
    properties = {name: _cleaned(_without_null(value)) for name, value in meant.pop("properties", {}).items()}
    cleaned = {key: _cleaned(value) for key, value in meant.items()}
    return {**cleaned, "properties": properties} if properties else cleaned


def _accidental(key: str, value: Any) -> bool:
    return key == "title" or (key == "default" and not isinstance(value, str | bool))


def _without_null(value: Schema) -> Schema:
    choices = [choice for choice in value.get("anyOf", ()) if choice != _NULL]
    rest = {key: part for key, part in value.items() if key != "anyOf"}
    if not choices:
        return value
    return {**choices[0], **rest} if len(choices) == 1 else {**rest, "anyOf": choices}


def _with_variables(definition: Schema) -> Schema:
    """The same, with a variable allowed in the place of any value that isn't plain text anyway."""
    properties = {key: _or_variable(value) for key, value in definition.get("properties", {}).items()}
    return {**definition, "properties": properties} if properties else definition


def _or_variable(value: Schema) -> Schema:
    choices = value.get("anyOf", [value])
    single = all(choice.get("type") in _SINGLE and "const" not in choice for choice in choices)
    any_text = any(choice.get("type") == "string" and _NARROWING.isdisjoint(choice) for choice in choices)
    if any_text or not single:
        return value
    about: Schema = {key: part for key, part in value.items() if key in {"description", "default"}}
    meant: Schema = {key: part for key, part in value.items() if key not in about}
    return {**about, "anyOf": [meant, _VARIABLE]}


def _reachable(definitions: Schema, names: list[str]) -> set[str]:
    """These definitions and all that they refer to."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in definitions:
            continue
        seen.add(name)
        waiting += [found.removeprefix(_PREFIX) for found in _references(definitions[name])]
    return seen


def _references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [found for item in part for found in _references(item)]
    if not isinstance(part, dict):
        return []
    here = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return here + [found for value in part.values() for found in _references(value)]
