"""The operator in a real Airflow: alone, and as a task of a DAG."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from reverse_etl import Project
from reverse_etl.orchestrators.airflow import SyncOperator
from tests.orchestrators.conftest import Folder


def task(folder: Folder, **changes: Any) -> SyncOperator:
    return SyncOperator(task_id="people", project_dir=str(folder.root), **{"syncs": "people"} | changes)


def test_a_task_runs_its_sync_and_returns_what_sync_json_prints(folder: Folder) -> None:
    (run,) = task(folder).execute({})["runs"]
    assert (run["sync"], run["status"], run["delivered"]["created"]) == ("people", "succeeded", 2)


def test_a_second_task_finds_nothing_to_send(folder: Folder) -> None:
    task(folder).execute({})
    (run,) = task(folder).execute({})["runs"]
    assert (run["rows"]["unchanged"], run["requests"]) == (2, 0)


def test_without_names_every_enabled_sync_runs(folder: Folder) -> None:
    folder.sync("others", enabled=False)
    folder.sync("third")
    runs = task(folder, syncs=()).execute({})["runs"]
    assert [run["sync"] for run in runs] == ["people", "third"]


def test_rows_that_stay_open_fail_the_task_for_good(folder: Folder) -> None:
    folder.people(("ada@example.com", "Ada"), ("not an address", "Bob"))
    with pytest.raises(AirflowFailException, match=r"people .*: partial; 2 rows read, 1 delivered, 1 invalid"):
        task(folder).execute({})


def test_rows_that_stay_open_can_be_allowed(folder: Folder) -> None:
    folder.people(("ada@example.com", "Ada"), ("not an address", "Bob"))
    (run,) = task(folder, allow_open_rows=True).execute({})["runs"]
    assert (run["status"], run["rows"]["invalid"]) == ("partial", 1)


def test_a_warehouse_that_is_away_is_tried_again(folder: Folder) -> None:
    (folder.root / "warehouse.duckdb").unlink()
    with pytest.raises(AirflowException, match="source_missing_file") as failure:
        task(folder).execute({})
    assert not isinstance(failure.value, AirflowFailException)


def test_a_refused_credential_is_not_tried_again(folder: Folder) -> None:
    folder.connect(access_token="another-token")
    with pytest.raises(AirflowFailException, match="destination_credential"):
        task(folder).execute({})


def test_a_broken_definition_is_not_tried_again_and_names_its_place(folder: Folder) -> None:
    folder.sync("people", mapping={"email": "email"}, surprise=1)
    with pytest.raises(AirflowFailException, match=r"people\.yml:\d+:\d+.*surprise"):
        task(folder).execute({})


def test_a_sync_that_is_run_elsewhere_skips_the_task(
    folder: Folder, held: Callable[[str], AbstractContextManager[None]]
) -> None:
    with held("people"), pytest.raises(AirflowSkipException, match="another"):
        task(folder).execute({})


def test_airflows_own_signal_handlers_stand_again_after_a_run(folder: Folder) -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        task(folder).execute({})
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


DAG_FILE = """\
from airflow.sdk import DAG
from reverse_etl.orchestrators.airflow import SyncOperator

with DAG("crm", schedule=None):
    SyncOperator(task_id="people", syncs="{{ 'peo' ~ 'ple' }}", project_dir=%r)
"""


def test_a_dag_file_runs_the_task_with_its_templates_filled_in(folder: Folder, tmp_path: Path) -> None:
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONWARNINGS": "ignore"}
    dags = tmp_path / "airflow" / "dags"
    dags.mkdir(parents=True)
    (dags / "crm.py").write_text(DAG_FILE % str(folder.root))
    for command in (["db", "migrate"], ["dags", "reserialize"], ["dags", "test", "crm"]):
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    (run,) = Project.load(folder.root).runs("people")
    assert (run.status, run.delivered.created) == ("succeeded", 2)
