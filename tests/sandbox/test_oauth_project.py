"""A project whose HubSpot is opened by an OAuth app: what HubSpot renews is kept beyond the process."""

from __future__ import annotations

from tests.sandbox.scene import Scene

APP = {"client_id": "sandbox", "client_secret": "sandbox-secret", "refresh_token": "sandbox-refresh-token"}


def open_by_app(scene: Scene, **changes: str) -> None:
    hubspot = {"type": "hubspot", "base_url": scene.sandbox.url, **APP, **changes}
    scene.write_project(destinations={"hubspot": hubspot})
    scene.people(("ada@x.example", "Ada", 3))
    scene.define()


def test_an_app_syncs_and_the_runs_of_a_process_share_its_token(scene: Scene) -> None:
    open_by_app(scene)
    assert scene.sync("people")["delivered"]["created"] == 1
    scene.people(("ada@x.example", "Ada", 4))
    assert scene.sync("people")["delivered"]["updated"] == 1
    assert sum(entry.path == "/oauth/2026-09/token" for entry in scene.sandbox.requests) == 1


def test_a_newer_refresh_token_is_used_by_later_runs_and_looks(scene: Scene) -> None:
    open_by_app(scene)
    scene.sandbox.hubspot.oauth.rotates = True
    assert scene.process("sync").returncode == 0
    scene.sandbox.hubspot.oauth.rotates = False
    assert "sandbox-refresh-token" not in scene.sandbox.hubspot.oauth.refresh_tokens
    assert scene.process("check", "--connect").returncode == 0
    scene.people(("ada@x.example", "Ada", 4))
    assert scene.process("sync").returncode == 0
    assert scene.contacts("workspaces_total") == {"ada@x.example": "4"}


def test_S05_a_refused_app_is_exit_1_with_the_remedy_and_without_the_secret(scene: Scene) -> None:
    open_by_app(scene, client_secret="canary-secret-8842", refresh_token="canary-consent-8842")
    ended = scene.cli("sync", "--log-level", "debug")
    assert ended.returncode == 1
    assert "BAD_CLIENT_SECRET" in ended.stdout
    assert "copy client_secret anew" in ended.stdout
    assert "canary" not in ended.stdout + ended.stderr


def test_two_ways_in_are_a_problem_of_the_file(scene: Scene) -> None:
    open_by_app(scene, access_token="sandbox-token")
    code, document = scene.json("check")
    (problem,) = document["problems"]
    assert (code, scene.calls()) == (2, 0)
    assert "not both: leave client_id, client_secret and refresh_token out" in problem["message"]
    assert problem["line"] > 0
