"""`state verify | backup | restore`: the state as a whole, in one file and back."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import stat
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from reverse_etl.report import RunReport
from reverse_etl.state import engine, migrations
from reverse_etl.state.home import StateHome
from reverse_etl.state.store import StateStore
from tests.sandbox.scene import Scene

ADA, BO = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2)


@pytest.fixture
def synced(scene: Scene) -> Scene:
    scene.people(ADA, BO)
    scene.define()
    assert scene.sync()["exit"] == 0
    return scene


def told(scene: Scene, *words: str) -> tuple[int, dict[str, Any]]:
    ended = scene.cli(*words, "--json").without_traceback()
    return ended.returncode, json.loads(ended.stdout)


# --- verify ----------------------------------------------------------------------------------------------------------


def test_a_whole_state_is_said_to_be_whole(synced: Scene) -> None:
    assert told(synced, "state", "verify") == (0, {"ok": True, "syncs": ["people"], "findings": []})
    assert "the state is whole" in synced.cli("state", "verify").stdout


def test_before_the_first_run_there_is_nothing_to_find(scene: Scene) -> None:
    scene.define()
    assert told(scene, "state", "verify") == (0, {"ok": True, "syncs": [], "findings": []})
    assert not (scene.folder / ".reverse_etl").exists()


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda home: (home / "snapshots" / "people.duckdb").unlink(), "state_missing"),
        (lambda home: (home / "state.db").unlink(), "state_missing"),
        (lambda home: (home / "project.json").write_text("{"), "state_unusable"),
        (lambda home: flip(home / "snapshots" / "people.duckdb"), "state_snapshot"),
        (lambda home: flip(home / "state.db"), "state_unusable"),
        (lambda home: edit(home, "delete from syncs"), "state_missing"),
        (lambda home: edit(home, "update syncs set folded_seq = 40"), "state_mismatch"),
    ],
)
def test_P51_what_is_wrong_with_the_state_is_found(synced: Scene, harm: Any, code: str) -> None:
    harm(synced.folder / ".reverse_etl")
    code_given, document = told(synced, "state", "verify")
    assert (code_given, document["ok"]) == (6, False)
    assert code in {finding["code"] for finding in document["findings"]}
    assert all(finding["hint"] for finding in document["findings"])


def test_a_key_that_stands_twice_in_the_snapshot_is_found(synced: Scene) -> None:
    with duckdb.connect(str(synced.folder / ".reverse_etl" / "snapshots" / "people.duckdb")) as connection:
        connection.execute("insert into rows select * from rows limit 1")
    code, document = told(synced, "state", "verify")
    assert (code, document["findings"][0]["code"]) == (6, "state_snapshot")
    assert "1 keys twice" in document["findings"][0]["message"]


def flip(file: Path) -> None:
    """Bytes in the middle of a file that say something else now."""
    content = bytearray(file.read_bytes())
    for at in range(0, len(content), 512):
        content[at : at + 64] = bytes(64)
    file.write_bytes(bytes(content))


def edit(home: Path, sql: str) -> None:
    with closing(sqlite3.connect(home / "state.db")) as connection:
        connection.execute(sql)
        connection.commit()


# --- backup and restore ----------------------------------------------------------------------------------------------


def test_what_is_restored_knows_what_was_known(synced: Scene) -> None:
    code, made = told(synced, "state", "backup", "kept.tar")
    assert (code, made["syncs"], made["aside"]) == (0, ["people"], None)
    shutil.rmtree(synced.folder / ".reverse_etl")
    assert told(synced, "state", "restore", "kept.tar", "--yes")[0] == 0
    writes = len(synced.writes())
    report = synced.sync()
    assert (report["rows"]["unchanged"], report["exit"], len(synced.writes())) == (2, 0, writes)
    assert told(synced, "state", "verify")[0] == 0


def test_a_state_that_went_on_goes_back_and_sends_what_it_no_longer_knows(synced: Scene) -> None:
    told(synced, "state", "backup", "kept.tar")
    synced.people(("ada@x.example", "Adele", 1), BO)
    synced.sync()
    code, restored = told(synced, "state", "restore", "kept.tar", "--yes")
    assert code == 0
    assert (Path(restored["aside"]) / "state.db").exists()
    report = synced.sync()
    assert (report["rows"]["changed"], report["rows"]["unchanged"]) == (1, 1)


def test_S07_an_archive_is_private_and_never_overwrites(synced: Scene) -> None:
    told(synced, "state", "backup", "kept.tar")
    assert stat.S_IMODE((synced.folder / "kept.tar").stat().st_mode) == 0o600
    before = (synced.folder / "kept.tar").read_bytes()
    code, document = told(synced, "state", "backup", "kept.tar")
    assert (code, document["error"]["code"]) == (6, "state_archive")
    assert (synced.folder / "kept.tar").read_bytes() == before
    assert sorted(path.name for path in synced.folder.iterdir() if path.name.startswith(".kept")) == []


def test_nothing_is_restored_without_a_yes_when_nobody_can_be_asked(synced: Scene) -> None:
    told(synced, "state", "backup", "kept.tar")
    code, _ = told(synced, "state", "restore", "kept.tar")
    assert code == 2


def test_a_backup_before_the_first_run_says_so(scene: Scene) -> None:
    scene.define()
    code, document = told(scene, "state", "backup", "kept.tar")
    assert (code, document["error"]["code"]) == (6, "state_missing")


def rewritten(archive: Path, change: Any) -> None:
    """The archive with each member's bytes as `change(name, bytes)` gives them; None leaves it out."""
    with tarfile.open(archive) as before:
        members = {member.name: before.extractfile(member).read() for member in before.getmembers()}  # type: ignore[union-attr]
    with tarfile.open(archive, "w") as after:
        for name, content in members.items():
            changed = change(name, content)
            for told_name, body in [(name, changed)] if isinstance(changed, bytes) else changed or []:
                entry = tarfile.TarInfo(told_name)
                entry.size = len(body)
                after.addfile(entry, io.BytesIO(body))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda name, body: body[:-1] + b"!" if name == "state.db" else body, "state_archive"),
        (lambda name, body: None if name.startswith("snapshots/") else body, "state_archive"),
        (lambda name, body: None if name == "manifest.json" else body, "state_archive"),
        (lambda name, body: b"{}" if name == "manifest.json" else body, "state_archive"),
        (lambda name, body: body.replace(b'"format": 1', b'"format": 9'), "state_newer"),
        (lambda name, body: body.replace(b"snapshots/people.duckdb", b"snapshots/../p.duckdb"), "state_archive"),
    ],
)
def test_an_archive_that_can_not_be_trusted_changes_nothing(synced: Scene, change: Any, code: str) -> None:
    told(synced, "state", "backup", "kept.tar")
    rewritten(synced.folder / "kept.tar", change)
    code_given, document = told(synced, "state", "restore", "kept.tar", "--yes")
    assert (code_given, document["error"]["code"]) == (6, code)
    assert synced.sync()["rows"]["unchanged"] == 2
    assert [path.name for path in synced.folder.glob(".reverse_etl*")] == [".reverse_etl"]


def test_a_file_that_is_no_archive_is_said_to_be_none(synced: Scene) -> None:
    (synced.folder / "kept.tar").write_text("something else")
    code, document = told(synced, "state", "restore", "kept.tar", "--yes")
    assert (code, document["error"]["code"]) == (6, "state_archive")


def test_a_backup_waits_for_a_run_and_names_it_when_it_does_not_end(
    synced: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reverse_etl.state.archive.WAIT_SECONDS", 0.2)
    with StateHome(synced.folder).lock("people", "run 7, process 1"):
        code, document = told(synced, "state", "backup", "kept.tar")
    assert (code, document["error"]["code"]) == (5, "busy")
    assert "run 7" in document["error"]["message"]
    assert not (synced.folder / "kept.tar").exists()


# --- an older release's state ----------------------------------------------------------------------------------------


def test_P51_an_older_store_is_copied_before_it_is_migrated(synced: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_a_column(connection: sa.Connection) -> None:
        connection.execute(sa.text("alter table runs add column extra text"))

    newest = migrations.NEWEST + 1
    steps = (*migrations.MIGRATIONS, migrations.Migration(newest, "One more column", add_a_column))
    monkeypatch.setattr(migrations, "MIGRATIONS", steps)
    monkeypatch.setattr(migrations, "NEWEST", newest)
    file = synced.folder / ".reverse_etl" / "state.db"
    with closing(StateStore(f"sqlite:///{file}")) as store:
        store.prepare()
        assert store.check()
    kept = file.with_name(f"state.db.schema-{newest - 1}")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    for path, columns in ((kept, 0), (file, 1)):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute(
                "select count(*) from pragma_table_info('runs') where name = 'extra'"
            ).fetchone() == (columns,)
            assert (
                RunReport.from_json(json.loads(connection.execute("select report from runs").fetchone()[0])).sync
                == "people"
            )
    assert engine.is_embedded(f"sqlite:///{file}")
