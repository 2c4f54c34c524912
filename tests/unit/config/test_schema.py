from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from reverse_etl.config.schema import schema
from tests.project_folder import SYNC

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "reverse_etl/config/templates"


@pytest.fixture(scope="module")
def both() -> dict[str, Any]:
    return schema()


def complaints(both: dict[str, Any], kind: str, text: str) -> list[str]:
    only = {"$ref": f"#/$defs/{kind}", "$defs": both["$defs"]}
    return [error.message for error in Draft202012Validator(only).iter_errors(yaml.safe_load(text))]


def test_the_schema_is_one(both: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(both)
    assert both["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"project", "sync"} <= set(both["$defs"])


@pytest.mark.parametrize("path", [*sorted((ROOT / "syncs").glob("*.yml")), TEMPLATES / "example.yml"], ids=str)
def test_it_takes_the_definitions_that_we_ship(both: dict[str, Any], path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert complaints(both, "sync", text) == []
    assert Draft202012Validator(both).is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("path", [ROOT / "reverse_etl.yml", TEMPLATES / "reverse_etl.yml"], ids=str)
def test_it_takes_the_project_files_that_we_ship(both: dict[str, Any], path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert complaints(both, "project", text) == []
    assert Draft202012Validator(both).is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    "more",
    [
        "cursor: {column: at, start: 2026, lag: 10m}",
        "cursor: {column: at, lag: 0}",
        "on_removed: {set: {plan: free, note: null}}",
        "schedule: {after: other}",
        "schedule: {after: [other, another]}",
        "full_scan: 0 3 * * *",
        "guard: {max_removed: 10%, max_changed: none}",
        "  f: {column: c, default: free, nulls: ignore, compare: false}",
        "  f: {value: 5}",
        "tags: [a]",
    ],
)
def test_it_takes_short_and_long_forms(both: dict[str, Any], more: str) -> None:
    assert complaints(both, "sync", SYNC + more) == []


@pytest.mark.parametrize(
    "more",
    [
        "mode: upsrt",
        "mod: upsert",
        "table: t",
        "schedule: null",
        "on_removed: {st: {}}",
        "guard: {max_removed: 0.1}",
        "  f: {colum: c}",
        "  f: 5",
        "enabled: 'no'",
    ],
)
def test_it_refuses_what_the_loader_refuses(both: dict[str, Any], more: str) -> None:
    assert complaints(both, "sync", SYNC + more)


@pytest.mark.parametrize(
    "text",
    [
        "sources: {w: {url: '${URL}', external_access: '${OPEN:-false}'}}",
        "destinations: {h: {type: hubspot, access_token: '${T}', api_version: '${V:-2026-09}'}}",
        "state: {url: '${STATE}', values: '${VALUES:-keep}'}",
    ],
)
def test_it_takes_variables_in_connections_and_state(both: dict[str, Any], text: str) -> None:
    assert complaints(both, "project", text) == []


@pytest.mark.parametrize(
    "text",
    [
        "sources: {w: {external_access: true}}",
        "sources: {W: {url: duckdb://}}",
        "destinations: {h: {type: hubspott}}",
        "destinations: {h: {access_token: x}}",
        "destinations: {h: {type: hubspot, access_token: x, base_ulr: y}}",
        "defaults: {object: contacts}",
        "state: {url: 5}",
    ],
)
def test_it_refuses_connections_that_the_loader_refuses(both: dict[str, Any], text: str) -> None:
    assert complaints(both, "project", text)


def test_every_key_says_what_it_is_for(both: dict[str, Any]) -> None:
    parts = [both["$defs"][name] for name in ("project", "sync", "SourceFile", "StateFile", "MappingFile", "GuardFile")]
    silent = [key for part in parts for key, value in part["properties"].items() if "description" not in value]
    assert silent == []
