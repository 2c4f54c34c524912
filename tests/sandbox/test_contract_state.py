"""What is remembered: whose it is, that it is never taken as empty, and that looking changes nothing."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverse_etl import Project
from reverse_etl.errors import StateError
from reverse_etl.sandbox.hubspot import metadata
from tests.sandbox.scene import COMPANIES, PEOPLE, START, Scene

ADA, BO = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2)


@pytest.fixture
def synced(scene: Scene) -> Scene:
    scene.people(ADA, BO)
    scene.define()
    assert scene.sync()["exit"] == 0
    return scene


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def test_S07_local_state_is_private_under_any_umask(synced: Scene) -> None:
    shutil.rmtree(synced.folder / ".reverse_etl")
    command = f'umask 000; exec {sys.executable} -c "$0" sync'
    assert subprocess.run(["sh", "-c", command, START], cwd=synced.folder, check=False).returncode == 0
    home = synced.folder / ".reverse_etl"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for path in home.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_P34_a_dry_run_writes_nothing_anywhere_and_its_counts_are_the_next_run_s(synced: Scene) -> None:
    synced.people(("ada@x.example", "Adele", 1), ("cy@x.example", "Cy", 1), (None, "No", 1))
    before, writes = bytes_of(synced.folder), len(synced.writes())
    planned = synced.sync(dry_run=True)
    assert bytes_of(synced.folder) == before
    assert len(synced.writes()) == writes
    run = synced.sync()
    assert planned["rows"] == run["rows"]
    assert planned["pending"] == run["delivered"]["created"] + run["delivered"]["updated"]
    assert planned["delivered"] == {"created": 0, "updated": 0, "removed": 0, "skipped": 0, "kept_fields": 0}


def test_P34_a_first_dry_run_leaves_no_folder_behind(scene: Scene) -> None:
    scene.people(ADA)
    scene.define()
    before = bytes_of(scene.folder)
    assert scene.cli("sync", "--dry-run").returncode == 0
    assert bytes_of(scene.folder) == before


@pytest.mark.parametrize(
    "command", [["status"], ["runs"], ["rejected", "people"], ["explain", "people", "ada@x.example"]]
)
def test_looking_before_any_run_makes_no_state(scene: Scene, command: list[str]) -> None:
    scene.people(ADA)
    scene.define()
    before = bytes_of(scene.folder)
    code, _ = scene.json(*command)
    assert code == 0
    assert bytes_of(scene.folder) == before


def test_the_sample_of_a_dry_run_shows_old_and_new_values(synced: Scene) -> None:
    synced.people(("ada@x.example", "Adele", 1), BO, ("cy@x.example", "Cy", None))
    sample = synced.sync(dry_run=True)["plan"]["sample"]
    assert {row["key"]: (row["change"], row["fields"]) for row in sample} == {
        "ada@x.example": ("changed", {"firstname": ["Ada", "Adele"]}),
        "cy@x.example": ("added", {"email": [None, "cy@x.example"], "firstname": [None, "Cy"]}),
    }


CHANGES: dict[str, dict[str, Any]] = {
    "key": {"key": "first_name"},
    "object": {
        "object": "companies",
        "match": "app_company_id",
        "mapping": {"app_company_id": "email", "name": "first_name"},
    },
    "match": {"match": "app_user_id", "mapping": {**PEOPLE["mapping"], "app_user_id": "email"}},  # type: ignore[dict-item]
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_key_object_or_match_ends_with_code_6_until_reset(synced: Scene, what: str) -> None:
    synced.define(**CHANGES[what])
    before = len(synced.writes())
    for wish in ({"dry_run": True}, {}, {"full": True}):
        run = synced.sync(**wish)
        assert (run["exit"], run["status"], run["error"]["code"]) == (6, "failed", "state_other_target"), wish
        assert "reset people" in run["error"]["hint"]
    assert len(synced.writes()) == before
    assert synced.cli("reset", "people", "--yes").returncode == 0
    assert synced.sync()["exit"] == 0


def test_another_account_at_the_destination_ends_with_code_6_before_a_write(synced: Scene) -> None:
    synced.people(ADA, ("bo@x.example", "Bob", 2))
    before = len(synced.writes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metadata, "PORTAL_ID", 999)
        run = synced.sync()
    assert (run["exit"], run["error"]["code"]) == (6, "state_other_target")
    assert len(synced.writes()) == before


def test_a_renamed_file_is_a_new_sync(synced: Scene) -> None:
    (synced.folder / "syncs/people.yml").rename(synced.folder / "syncs/folk.yml")
    run = synced.sync("folk")
    assert (run["exit"], run["rows"]["added"]) == (0, 2)


def test_another_rendering_of_the_same_definition_keeps_the_state(synced: Scene) -> None:
    synced.define(key=["email"], description="words", tags=["x"])
    assert synced.sync()["requests"] == 0


def delete(home: Path, pattern: str) -> None:
    found = list(home.glob(pattern))
    assert found
    for path in found:
        path.unlink()


def damage(home: Path, pattern: str) -> None:
    for path in home.glob(pattern):
        path.write_bytes(b"\x00damaged\xff" * 400)


HARM: dict[str, Callable[[Path], object]] = {
    "store deleted": lambda home: delete(home, "state.db*"),
    "snapshot deleted": lambda home: delete(home, "snapshots/*.duckdb*"),
    "store damaged": lambda home: damage(home, "state.db"),
    "snapshot damaged": lambda home: damage(home, "snapshots/*.duckdb"),
    "store emptied": lambda home: (home / "state.db").write_bytes(b""),
    "snapshot emptied": lambda home: (home / "snapshots/people.duckdb").write_bytes(b""),
    "snapshots folder deleted": lambda home: shutil.rmtree(home / "snapshots"),
    "project.json damaged": lambda home: (home / "project.json").write_text("{"),
    "project.json of another form": lambda home: (home / "project.json").write_text("[1, 2]"),
}


@pytest.mark.parametrize("harm", HARM)
def test_P51_lost_or_damaged_state_asks_and_is_never_taken_as_empty(synced: Scene, harm: str) -> None:
    home = synced.folder / ".reverse_etl"
    HARM[harm](home)
    before, harmed = len(synced.writes()), bytes_of(home)
    for wish in ({"dry_run": True}, {}, {"full": True}):
        run = synced.sync(**wish)
        assert (run["exit"], run["status"]) == (6, "failed"), (wish, run["error"])
        assert run["error"]["hint"]
    assert len(synced.writes()) == before
    after = bytes_of(home)
    assert {name: after.get(name) for name in harmed if "lock" not in name} == {
        name: seen for name, seen in harmed.items() if "lock" not in name
    }
    code, document = synced.json("sync")
    assert code == 6
    assert document["runs"][0]["error"]["code"].startswith("state")


@pytest.mark.parametrize("harm", HARM)
def test_P51_looking_at_damaged_state_says_so_or_works(synced: Scene, harm: str) -> None:
    HARM[harm](synced.folder / ".reverse_etl")
    project = Project.load(synced.folder)
    looks: list[Callable[[], object]] = [
        project.status,
        project.runs,
        lambda: project.rejected("people"),
        lambda: project.explain("people", "ada@x.example"),
    ]
    for look in looks:
        try:
            look()
        except StateError as error:
            assert error.hint  # either is right; another exception is not


@pytest.mark.parametrize("harm", HARM)
def test_reset_helps_whatever_happened(synced: Scene, harm: str) -> None:
    HARM[harm](synced.folder / ".reverse_etl")
    before = synced.calls()
    Project.load(synced.folder).reset("people")
    assert synced.calls() == before
    run = synced.sync()
    assert (run["exit"], run["rows"]["added"]) == (0, 2), run["error"]
    assert synced.sync()["requests"] == 0


def test_P51_a_store_of_a_newer_release_is_refused(synced: Scene) -> None:
    with sqlite3.connect(synced.folder / ".reverse_etl/state.db") as connection:
        assert connection.execute("update meta set value = '9999' where name = 'schema_version'").rowcount == 1
    connection.close()
    run = synced.sync()
    assert (run["exit"], run["error"]["code"].startswith("state")) == (6, True)
    assert "newer" in run["error"]["message"]


def test_no_state_folder_at_all_is_a_first_run(synced: Scene) -> None:
    shutil.rmtree(synced.folder / ".reverse_etl")
    run = synced.sync()
    assert (run["exit"], run["rows"]["added"]) == (0, 2)


def test_after_a_reset_records_written_before_are_no_longer_removable(scene: Scene) -> None:
    scene.table("companies", "id text, name text", [("a", "A"), ("b", "B")])
    scene.define(COMPANIES, mode="mirror")
    scene.sync()
    Project.load(scene.folder).reset("people")
    scene.table("companies", "id text, name text", [("a", "A")])
    run = scene.sync()
    assert (run["exit"], run["rows"]["removed"], len(scene.records("companies"))) == (0, 0, 2)


def test_reset_asks_before_it_forgets(synced: Scene) -> None:
    ended = synced.cli("reset", "people")
    assert ended.returncode in (1, 2)
    assert "--yes" in ended.stdout + ended.stderr
    assert synced.sync()["requests"] == 0


def test_forget_makes_one_row_new_again(synced: Scene) -> None:
    assert Project.load(synced.folder).forget("people", "ada@x.example")
    run = synced.sync()
    assert (run["exit"], run["rows"]["added"], run["rows"]["unchanged"]) == (0, 1, 1)


def test_only_mapped_values_are_ever_stored(scene: Scene) -> None:
    scene.people((*ADA, "canary-unmapped"), columns="email text, first_name text, workspaces int, secret text")
    scene.define()
    scene.sync()
    for path in (scene.folder / ".reverse_etl").rglob("*"):
        assert not path.is_file() or b"canary-unmapped" not in path.read_bytes(), path


def test_P45_two_syncs_of_one_project_keep_their_own_state(synced: Scene) -> None:
    synced.define(name="second", mapping={"email": "email", "lastname": "first_name"})
    assert synced.sync("second")["rows"]["added"] == 2
    assert synced.sync("people")["requests"] == 0
    code, document = synced.json("sync")
    assert (code, [run["requests"] for run in document["runs"]]) == (0, [0, 0])
