"""`log_to`: what runs did, as tables in the warehouse that they read from."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import duckdb
import pytest

from reverse_etl.sources import duckdb as source
from tests.sandbox.scene import Scene

LOG: dict[str, Any] = {"log_to": {"source": "warehouse", "schema": "reverse_etl"}}


def _ask(scene: Scene, sql: str) -> list[Any]:
    with duckdb.connect(str(scene.folder / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_did_the_row_arrive_and_if_not_why_not_is_a_question_for_the_warehouse(scene: Scene) -> None:
    scene.write_project(**LOG)
    scene.define()
    scene.people(("jane@x.io", "Jane", 3), ("broken@x", "Bob", 1), ("ann@x.io", "Ann", 2))
    run = scene.sync()
    assert (run["status"], run["delivered"]["created"]) == ("partial", 2)
    asked = (
        "SELECT p.email, l.verdict, l.code, r.destination FROM people p "
        "LEFT JOIN reverse_etl.reverse_etl_rows l ON l.sync = 'people' AND l.row_key = p.email "
        "LEFT JOIN reverse_etl.reverse_etl_runs r USING (run_id) ORDER BY 1"
    )
    assert _ask(scene, asked) == [
        ("ann@x.io", "created", None, "hubspot"),
        ("broken@x", "invalid", "invalid_email", "hubspot"),
        ("jane@x.io", "created", None, "hubspot"),
    ]
    assert _ask(scene, "SELECT run_id, status, rows_read FROM reverse_etl.reverse_etl_runs") == [
        (run["run_id"], "partial", 3)
    ]


def test_a_dry_run_writes_nothing_back(scene: Scene) -> None:
    scene.write_project(**LOG)
    scene.define()
    scene.people(("jane@x.io", "Jane", 3))
    scene.sync(dry_run=True)
    assert _ask(scene, "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'reverse_etl'") == [(0,)]


def test_a_sync_can_stay_out_of_it(scene: Scene) -> None:
    scene.write_project(**LOG)
    scene.define()
    scene.define(name="quiet", log_to="none")
    scene.people(("jane@x.io", "Jane", 3))
    scene.sync("quiet")
    scene.sync("people")
    assert _ask(scene, "SELECT DISTINCT sync FROM reverse_etl.reverse_etl_rows") == [("people",)]
    assert _ask(scene, "SELECT DISTINCT sync FROM reverse_etl.reverse_etl_runs") == [("people",)]


def test_check_connect_makes_sure_that_the_log_can_be_written_and_writes_nothing(scene: Scene) -> None:
    scene.write_project(**LOG)
    scene.define()
    scene.people(("jane@x.io", "Jane", 3))
    assert scene.cli("check", "--connect").returncode == 0
    assert _ask(scene, "SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'reverse_etl'") == [(0,)]
    scene.warehouse("CREATE SCHEMA reverse_etl", "CREATE VIEW reverse_etl.reverse_etl_runs AS SELECT 'r' AS run_id")
    code, document = scene.json("check", "--connect")
    (problem,) = document["problems"]
    assert code == 2
    assert (problem["file"], problem["text"]) == ("reverse_etl.yml", "reverse_etl")
    assert problem["line"] > 1
    assert "refused to be written to" in problem["message"]


def test_what_the_log_may_not_name_is_said_with_its_place(scene: Scene) -> None:
    scene.define()
    sources = {"memory": {"url": "duckdb:///:memory:"}, "warehouse": {"url": "duckdb:///warehouse.duckdb"}}
    for named, said in (("warehose", "there is no source"), ("memory", "in memory")):
        more: dict[str, Any] = {"sources": sources, "log_to": {"source": named, "schema": "ops"}}
        scene.write_project(**more)
        code, document = scene.json("check")
        (problem,) = document["problems"]
        assert code == 2
        assert said in problem["message"]
        assert (problem["text"], problem["line"] > 1) == (named, True)


def test_a_warehouse_that_another_program_writes_to_costs_no_delivery(scene: Scene) -> None:
    scene.write_project(**LOG)
    scene.define()
    scene.people(("jane@x.io", "Jane", 3))
    code = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print('held', flush=True); "
        "sys.stdin.readline()"
    )
    file = str(scene.folder / "warehouse.duckdb")
    with subprocess.Popen(
        [sys.executable, "-c", code, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdin is not None
        reader.stdout.readline()
        run = _quickly(scene)
        reader.stdin.write("\n")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", 1)
    assert "not written back to warehouse" in run["notes"][-1]
    assert scene.sync()["rows"]["unchanged"] == 1
    assert _ask(scene, "SELECT row_key, verdict FROM reverse_etl.reverse_etl_rows") == [("jane@x.io", "created")]


def _quickly(scene: Scene) -> dict[str, Any]:
    """A run that waits for the file for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "LOAD_WAIT_SECONDS", 0.2)
        return scene.sync()
