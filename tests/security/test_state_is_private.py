"""S7, S8, S20: state is its owner's alone, nothing leads out of it, and who changed something is written down."""

from __future__ import annotations

import getpass
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reverse_etl import Project
from reverse_etl.errors import StateError
from reverse_etl.state import audit
from reverse_etl.state.home import StateHome
from tests.sandbox.scene import START, Scene, scene_in
from tests.unit.daemon.desk import Desk
from tests.unit.daemon.test_routes import SIGNED, ask


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with scene_in(tmp_path) as ready:
        ready.people(("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2))
        ready.define(mode="mirror", on_removed=None, guard={"max_removed": "10%"})
        yield ready


def lines(scene: Scene) -> list[dict[str, Any]]:
    path = scene.folder / ".reverse_etl/audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# --- S7 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_S07_everything_under_the_state_is_its_owners_under_any_umask(scene: Scene, umask: str) -> None:
    run = f"import os; os.umask(0o{umask}); {START}"
    for arguments in (["sync"], ["state", "backup", "kept.tar"], ["forget", "people", "ada@x.example"]):
        ended = subprocess.run([sys.executable, "-c", run, *arguments], cwd=scene.folder, env=scene.environment,
                               capture_output=True, check=False)  # fmt: skip
        assert ended.returncode == 0, ended.stderr
    found = [scene.folder / ".reverse_etl", scene.folder / "kept.tar", *(scene.folder / ".reverse_etl").rglob("*")]
    modes = {str(path): stat.S_IMODE(path.stat().st_mode) for path in found}
    assert {path: mode for path, mode in modes.items() if mode & 0o077} == {}
    assert any(path.endswith("audit.jsonl") for path in modes)


def test_S07_a_library_s_caller_keeps_his_umask_and_the_folder_keeps_others_out(scene: Scene) -> None:
    before = os.umask(0o000)
    try:
        Project.load(scene.folder).sync("people")
        assert os.umask(0o000) == 0o000
    finally:
        os.umask(before)
    assert stat.S_IMODE((scene.folder / ".reverse_etl").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["state.db", "project.json", "snapshots/people.duckdb", "audit.jsonl", "snapshots"])
def test_S07_a_link_in_the_place_of_state_is_refused_and_not_followed(scene: Scene, name: str) -> None:
    scene.sync()
    place, elsewhere = scene.folder / ".reverse_etl" / name, scene.folder / "elsewhere"
    if place.exists():
        place.rename(elsewhere)
    else:
        elsewhere.write_bytes(b"")
    place.symlink_to(elsewhere)
    before = elsewhere.read_bytes() if elsewhere.is_file() else None
    for arguments in (["sync"], ["status"], ["reset", "people", "--yes"]):
        code, document = scene.json(*arguments) if arguments[0] != "reset" else (scene.cli(*arguments).returncode, {})
        assert code == 6, (arguments, document)
    if before is not None:
        assert elsewhere.read_bytes() == before


# --- S8 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../out", "..", "a/b", "A", ".hidden", "-a", "_a", "a" * 64, "a\n", "ä", "a.b", ""])
def test_S08_no_name_leads_out_of_the_project(scene: Scene, name: str) -> None:
    (scene.folder.parent / "out.yml").write_text("source: warehouse\n")
    for arguments in (["sync"], ["explain"], ["reset"], ["forget"]):
        rest = ["key"] if arguments[0] in ("explain", "forget") else []
        assert scene.cli(*arguments, "--", name, *rest).returncode == 2, (arguments, name)
    assert not (scene.folder / ".reverse_etl").exists()


# --- S20 --------------------------------------------------------------------------------------------------------------


def test_S20_an_approval_says_who_when_and_of_which_plan(scene: Scene) -> None:
    scene.people(*((f"p{number}@x.example", "P", number) for number in range(30)))
    scene.sync()
    scene.people(("p0@x.example", "P", 0))
    plan = scene.sync()["plan_id"]
    assert lines(scene) == []
    assert scene.cli("sync", "--approve", plan).returncode == 0
    (line,) = lines(scene)
    assert (line["action"], line["sync"], line["plan_id"]) == ("approve", "people", plan)
    assert line["who"].startswith(f"{getpass.getuser()}@")
    assert line["at"].endswith("Z")


def test_S20_an_approval_that_covers_nothing_is_none(scene: Scene) -> None:
    scene.sync()
    scene.people(("ada@x.example", "Ada", 2))
    scene.cli("sync", "--approve", "nosuchplan")
    assert lines(scene) == []


def test_S20_what_is_written_down_outlives_resets_and_restores(scene: Scene) -> None:
    scene.sync()
    scene.cli("state", "backup", "kept.tar")
    scene.cli("forget", "people", "ada@x.example")
    scene.cli("state", "restore", "kept.tar", "--yes")
    scene.cli("reset", "people", "--yes")
    assert [line["action"] for line in lines(scene)] == ["forget", "restore", "reset"]
    assert "ada@x.example" not in (scene.folder / ".reverse_etl/audit.jsonl").read_text()


def test_S20_nothing_is_done_that_can_not_be_written_down(scene: Scene) -> None:
    scene.sync()
    (scene.folder / ".reverse_etl/audit.jsonl").mkdir()
    assert scene.cli("reset", "people", "--yes").returncode == 6
    assert scene.cli("forget", "people", "ada@x.example").returncode == 6
    assert scene.sync()["rows"]["unchanged"] == 2


def test_S20_a_request_over_http_is_written_down_with_its_id(tmp_path: Path) -> None:
    desk = Desk(tmp_path, SIGNED)
    desk.define("people")
    desk.look()
    desk.life.ready = True
    assert ask(desk, message="deploy-7").status_code == 202
    (line,) = (tmp_path / ".reverse_etl/audit.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert (told["action"], told["sync"]) == ("run", "people")
    assert told["who"].startswith("daemon.trigger_secret, request deploy-7 from ")


def test_S20_lines_are_only_ever_added(tmp_path: Path) -> None:
    home, now = StateHome(tmp_path), Desk(tmp_path).clock.now()
    for number in range(3):
        audit.note(home, "approve", now, who=f"user {number}")
        kept = (tmp_path / ".reverse_etl/audit.jsonl").read_text().splitlines()
        assert [json.loads(line)["who"] for line in kept] == [f"user {each}" for each in range(number + 1)]
    (tmp_path / ".reverse_etl/audit.jsonl").chmod(0o400)
    if os.getuid():
        with pytest.raises(StateError, match="can't be written"):
            audit.note(home, "approve", now)
