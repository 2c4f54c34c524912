"""A project whose HubSpot is opened by an OAuth app: what HubSpot renews is kept beyond the process."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet

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


def rotating(scene: Scene, key: str | None) -> str:
    """A run in which HubSpot gives out another refresh token, which is returned."""
    open_by_app(scene)
    with_key(scene, key)
    scene.sandbox.hubspot.oauth.rotates = True
    assert scene.process("sync").returncode == 0
    (token,) = scene.sandbox.hubspot.oauth.refresh_tokens
    return token


def with_key(scene: Scene, key: str | None) -> None:
    hubspot = {"type": "hubspot", "base_url": scene.sandbox.url, **APP}
    state: dict[str, Any] = {} if key is None else {"state": {"encryption_key": key}}
    scene.write_project(destinations={"hubspot": hubspot}, **state)


def kept_anywhere(scene: Scene, text: str) -> bool:
    files = [path for path in (scene.folder / ".reverse_etl").rglob("*") if path.is_file()]
    return any(text.encode() in path.read_bytes() for path in files)


def test_a_newer_refresh_token_is_kept_encrypted_when_there_is_a_key(scene: Scene) -> None:
    key, newer = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    assert not kept_anywhere(scene, rotating(scene, key))
    with_key(scene, f"{newer},{key}")
    scene.people(("ada@x.example", "Ada", 4))
    assert scene.process("sync").returncode == 0
    assert not kept_anywhere(scene, next(iter(scene.sandbox.hubspot.oauth.refresh_tokens)))


def test_a_look_keeps_a_newer_refresh_token_as_it_has_ended_the_one_before(scene: Scene) -> None:
    rotating(scene, None)
    assert scene.process("check", "--connect").returncode == 0
    assert scene.process("sync", "--dry-run").returncode == 0
    scene.people(("ada@x.example", "Ada", 4))
    assert scene.process("sync").returncode == 0


def test_without_a_key_it_is_kept_as_it_is(scene: Scene) -> None:
    assert kept_anywhere(scene, rotating(scene, None))


def test_a_wrong_key_is_exit_6_with_the_remedy_and_the_right_one_goes_on(scene: Scene) -> None:
    key, wrong = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    rotating(scene, key)
    scene.people(("ada@x.example", "Ada", 4))
    for other, said in ((wrong, "written with another key"), (None, "no key is configured")):
        with_key(scene, other)
        ended = scene.process("sync")
        assert ended.returncode == 6, ended.stdout + ended.stderr
        assert said in ended.stdout
        assert "encryption_key" in ended.stdout
        assert wrong not in ended.stdout + ended.stderr
    with_key(scene, key)
    assert scene.process("sync").returncode == 0
    assert scene.contacts("workspaces_total") == {"ada@x.example": "4"}


@pytest.mark.parametrize("written", ["secret", "short=", "", ","])
def test_a_key_that_is_none_is_a_problem_of_the_file_that_does_not_show_it(scene: Scene, written: str) -> None:
    open_by_app(scene)
    with_key(scene, written)
    code, document = scene.json("check")
    (problem,) = document["problems"]
    assert (code, scene.calls()) == (2, 0)
    assert "32 bytes in URL-safe base64" in problem["message"]
    assert problem["text"] != written or not written


def test_P22_missing_scopes_stop_the_run_and_are_named(scene: Scene) -> None:
    open_by_app(scene)
    few = frozenset({"oauth", "crm.objects.contacts.read"})
    granting = scene.sandbox.hubspot.limits.grant

    def grant(seconds: float, scopes: frozenset[str] | None = few) -> str:
        return granting(seconds, scopes)

    scene.sandbox.hubspot.limits.grant = grant  # type: ignore[method-assign]
    run = scene.sync("people")
    assert (run["exit"], run["error"]["code"], run["pending"]) == (1, "destination_credential", 1)
    assert "crm.objects.contacts.write" in run["error"]["message"]
    assert "install the app in the account again" in run["error"]["hint"]
