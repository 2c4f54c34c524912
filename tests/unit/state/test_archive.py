"""The state put into a file and back: nothing is lost on the way, whatever happens beside it or cuts it off."""

from __future__ import annotations

import fcntl
import json
import random
import sqlite3
import tarfile
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.errors import StateError
from reverse_etl.report import RunReport
from reverse_etl.state import archive, engine, scrub
from reverse_etl.state.archive import StateArchive
from reverse_etl.state.forgetting import reset
from reverse_etl.state.home import StateHome
from reverse_etl.testing.clock import MIDDAY
from tests.house import House


class Died(BaseException):
    """The process is gone."""


@pytest.fixture
def house(tmp_path: Path) -> House:
    built = House(tmp_path)
    built.people((1, "a@x.io", "free"))
    built.go()
    return built


def of(house: House) -> StateArchive:
    return StateArchive(StateHome(house.root), house.url)


def backed_up(house: House) -> Path:
    target = house.root / "kept.tar"
    of(house).backup(target, MIDDAY)
    return target


def test_two_restores_in_one_second_keep_both_states_that_were_there(house: House) -> None:
    kept = backed_up(house)
    first = of(house).restore(kept, MIDDAY).aside
    house.people((1, "a@x.io", "free"), (2, "b@x.io", "free"))
    house.go()
    second = of(house).restore(kept, MIDDAY).aside
    assert first is not None
    assert second is not None
    assert [first.name, second.name] == [".reverse_etl.before-20260601T120000", ".reverse_etl.before-20260601T120000-2"]
    assert list(house.known()) == ["1"]


def test_a_store_elsewhere_is_put_aside_with_its_log_and_never_over_another_one(tmp_path: Path) -> None:
    house = House(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    house.url = f"sqlite:///{tmp_path}/elsewhere/state.db"
    house.people((1, "a@x.io", "free"))
    house.go()
    kept = backed_up(house)
    for _ in range(2):
        of(house).restore(kept, MIDDAY)
    names = {path.name for path in (tmp_path / "elsewhere").iterdir() if not path.name.endswith(("-wal", "-shm"))}
    assert names == {"state.db", "state.db.before-20260601T120000", "state.db.before-20260601T120000-2"}
    with closing(sqlite3.connect(tmp_path / "elsewhere" / "state.db.before-20260601T120000-2")) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_a_restore_that_dies_between_its_two_renames_leaves_no_first_run(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, rename = backed_up(house), Path.rename

    def die_at_the_second(path: Path, target: Path) -> Path:
        if "restoring" in str(path):
            raise Died
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", die_at_the_second)
    monkeypatch.setattr("shutil.rmtree", lambda *_, **__: None)  # a dead process clears nothing up
    with pytest.raises(Died):
        of(house).restore(kept, MIDDAY)
    monkeypatch.undo()
    before = len(house.crm.sent())
    report = house.run()
    assert report.error is not None
    assert (report.error.code, report.exit_code, len(house.crm.sent())) == ("state_missing", 6, before)
    assert "restore` again" in str(report.error.hint)
    of(house).restore(kept, MIDDAY)
    house.idle()


def test_a_first_run_that_begins_during_a_backup_is_not_half_in_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until the backup is done."""
    home, copy = StateHome(house.root), engine.copy

    def copy_meanwhile(file: Path, target: Path) -> None:
        with home.folder.joinpath("locks", ".project").open() as handle, pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        copy(file, target)

    monkeypatch.setattr(engine, "copy", copy_meanwhile)
    kept = backed_up(house)
    monkeypatch.undo()
    house.change(name="others")
    house.go()
    of(house).restore(kept, MIDDAY)
    assert of(house).verify() == (["people"], [])


def test_a_sync_that_got_state_while_a_backup_waited_for_others_is_held_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for = archive._wait_for

    def and_another_begins(home: StateHome, sync: str, *more: Any) -> None:
        monkeypatch.setattr(archive, "_wait_for", wait_for)
        house.change(name="others")
        house.go()
        wait_for(home, sync, *more)

    monkeypatch.setattr(archive, "_wait_for", and_another_begins)
    target = house.root / "kept.tar"
    assert of(house).backup(target, MIDDAY).syncs == ("others", "people")


def test_a_second_damaged_store_is_put_aside_beside_the_first(house: House) -> None:
    file = house.root / ".reverse_etl" / "state.db"
    for nth in range(2):
        file.write_bytes(f"no database {nth}".encode() * 500)
        reset(house.ledger())
        house.go()
    assert file.with_name("state.db.unreadable").read_bytes().startswith(b"no database 0")
    assert file.with_name("state.db.unreadable-2").read_bytes().startswith(b"no database 1")


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told["files"].update({"state.db": {}}),
        lambda told: told["files"].update({"state.db": []}),
        lambda told: told.pop("syncs"),
        lambda told: told.update(files=["state.db", "project.json"]),
        lambda told: told.update(made_at=7),
    ],
)
def test_a_manifest_that_says_too_little_is_refused(house: House, change: Any, tmp_path: Path) -> None:
    kept, forged = backed_up(house), tmp_path / "forged.tar"
    with tarfile.open(kept) as source, tarfile.open(forged, "w") as sink:
        for member in source.getmembers():
            content = source.extractfile(member)
            assert content is not None
            if member.name == "manifest.json":
                told = json.loads(content.read())
                change(told)
                body = tmp_path / "manifest.json"
                body.write_text(json.dumps(told))
                sink.add(body, "manifest.json")
            else:
                sink.addfile(member, content)
    with pytest.raises(StateError, match="manifest can't be read"):
        of(house).restore(forged, MIDDAY)


def test_an_archive_with_any_bytes_flipped_is_refused_or_restored_whole(house: House) -> None:
    kept, chance = backed_up(house), random.Random(7)
    whole = kept.read_bytes()
    for nth in range(40):
        spoiled = bytearray(whole)
        for _ in range(3):
            spoiled[chance.randrange(min(len(spoiled), 4096) if nth % 2 else len(spoiled))] ^= 1 << chance.randrange(8)
        kept.write_bytes(spoiled)
        with suppress(StateError):
            of(house).restore(kept, MIDDAY + timedelta(seconds=nth))
        assert of(house).verify() == (["people"], [])


def test_a_migration_s_copy_that_died_half_way_is_made_anew(house: House) -> None:
    file = house.root / ".reverse_etl" / "state.db"
    file.with_name("state.db.schema-4.new").write_bytes(b"half")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE under_way")
        connection.execute("UPDATE meta SET value = '4' WHERE name = 'schema_version'")
        connection.commit()
    house.go()
    with closing(sqlite3.connect(file.with_name("state.db.schema-4"))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_a_schema_that_is_no_number_is_damage(house: House) -> None:
    with closing(sqlite3.connect(house.root / ".reverse_etl" / "state.db")) as connection:
        connection.execute("UPDATE meta SET value = 'five' WHERE name = 'schema_version'")
        connection.commit()
    report = house.run()
    assert report.error is not None
    assert (report.error.code, report.exit_code) == ("state_unusable", 6)


def test_who_looks_takes_no_room_away_from_a_run_and_the_next_one_has_what_a_killed_one_kept(house: House) -> None:
    kept = house.root / ".reverse_etl" / "state.db.reserve-people"
    with closing(house.ledger()) as ledger, ledger.hold("run-x", MIDDAY):
        ledger.begin(RunReport("people", "run-x", MIDDAY))
        ledger.under_way.make_room(1000)
        house.explain("1")
        assert kept.exists()
        room = kept.read_bytes()
    assert not kept.exists()
    kept.write_bytes(room)
    house.idle()
    assert not kept.exists()


def test_what_was_put_aside_of_a_store_elsewhere_is_looked_through_for_a_forgotten_key(tmp_path: Path) -> None:
    home, store = tmp_path / "project" / ".reverse_etl", tmp_path / "data" / "state.db"
    for folder in (home, store.parent):
        folder.mkdir(parents=True)
    (home / "kept").write_bytes(b'... "Ren\\u00e9e" ...')
    store.with_name("state.db.before-20260601T120000").write_text("... Renée ...")
    store.with_name("another.db").write_text("... Renée ...")
    found = list(scrub.remnants(home, f"sqlite:///{store}", "Renée"))
    assert found == [f"{store}.before-20260601T120000", ".reverse_etl/kept"]
