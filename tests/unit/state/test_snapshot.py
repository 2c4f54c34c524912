"""The snapshot's file: how it comes into being, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from reverse_etl.errors import StateError
from reverse_etl.state.snapshot import Snapshot


def made(folder: Path) -> Snapshot:
    snapshot = Snapshot(folder / "people.duckdb", "project/people")
    assert snapshot.fold([]) == (0, 0)
    return snapshot


def test_a_snapshot_that_a_killed_process_had_begun_is_begun_anew(tmp_path: Path) -> None:
    for name in ("people.duckdb.new", "people.duckdb.new.wal"):
        (tmp_path / name).write_bytes(b"half of something")
    made(tmp_path)
    assert [path.name for path in tmp_path.glob("*")] == ["people.duckdb"]


def test_a_new_snapshot_is_its_owners_alone(tmp_path: Path) -> None:
    assert made(tmp_path).path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("harm", ["DELETE FROM meta", "UPDATE meta SET value = 'x' WHERE name = 'folded_seq'"])
def test_a_snapshot_that_does_not_say_what_it_is_is_refused(tmp_path: Path, harm: str) -> None:
    snapshot = made(tmp_path)
    with duckdb.connect(str(snapshot.path)) as connection:
        connection.execute(harm)
    with duckdb.connect(":memory:") as connection, pytest.raises(StateError, match="does not say what it is"):
        snapshot.attach(connection)
