"""Links between HubSpot's records over real HTTP: parents found, waited for, labelled, changed and taken off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.scene import TOKEN, Scene, scene_in

COLUMNS = "email text, first_name text, domain text"
PLAIN = {"object": "companies", "match": {"domain": "domain"}}
PRIMARY = {**PLAIN, "label": "Primary"}
A, B = "a@example.com", "b@example.com"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Search that sees everything at once, and two companies."""
    with scene_in(tmp_path, search_lag=0.0) as ready:
        ready.sandbox.hubspot.add("companies", {"name": "Acme", "domain": "acme.io", "app_company_id": "c1"})
        ready.sandbox.hubspot.add("companies", {"name": "Globex", "domain": "globex.io", "app_company_id": "c2"})
        define(ready)
        yield ready


def define(scene: Scene, link: Mapping[str, Any] = PLAIN, **changes: Any) -> None:
    scene.define(mapping={"email": "email", "firstname": "first_name", "company": dict(link)}, **changes)


def people(scene: Scene, *rows: Sequence[object], columns: str = COLUMNS) -> None:
    scene.people(*(tuple(row) for row in rows), columns=columns)


def links(scene: Scene, source: str = "contacts", target: str = "companies", show: str = "domain") -> dict[str, Any]:
    """Of each contact, by e-mail: its companies' domains, each with the labels of the pair."""
    kinds = scene.sandbox.hubspot.portal.types
    others = {record["id"]: record["properties"].get(show) for record in scene.records(target)}
    labels = dict(labels_of(scene, source, target))
    found: dict[str, Any] = {}
    for record in scene.records(source):
        held = kinds[source].links.get(record["id"], {})
        found[record["properties"].get("email") or record["properties"].get("name")] = {
            others[key.partition("/")[2]]: sorted(labels[number] for _, number in types if labels.get(number))
            for key, types in sorted(held.items())
            if key.partition("/")[0] == kinds[target].type_id
        }
    return found


def labels_of(scene: Scene, source: str, target: str) -> list[tuple[int, str | None]]:
    answer = call(scene, "GET", f"/crm/associations/2026-09/{source}/{target}/labels")
    return [(each["typeId"], each["label"]) for each in answer["results"]]


def call(scene: Scene, method: str, path: str, body: Any = None) -> Any:
    """A call beside the product's own, as another program would make it."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = httpx.request(method, scene.sandbox.url + path, json=body, headers=headers)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def made(scene: Scene) -> list[str]:
    """The ends of the paths that the product called, in their order, without what only asks."""
    return [entry.path.rpartition("batch/")[2] for entry in scene.writes() if not entry.path.endswith("/read")]


# --- made, waiting, changed, taken off -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2026-09", "2026-03", "2025-09", "v3"])
def test_a_link_is_made_changed_and_taken_off_in_every_version(scene: Scene, version: str) -> None:
    scene.write_project(destinations={"hubspot": destination(scene, api_version=version)})
    people(scene, (A, "Ada", "acme.io"), (B, "Bob", None))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"acme.io": []}, B: {}}
    people(scene, (A, "Ada", "globex.io"), (B, "Bob", "acme.io"))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"globex.io": []}, B: {"acme.io": []}}
    people(scene, (A, "Ada", None), (B, "Bob", None))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {}, B: {}}
    before = scene.calls()
    assert scene.sync("people")["requests"] == 0
    assert scene.calls() == before


def destination(scene: Scene, **more: Any) -> dict[str, Any]:
    return {"type": "hubspot", "access_token": TOKEN, "base_url": scene.sandbox.url, **more}
