"""What workers know of accounts' days, on its way to the daemon."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from reverse_etl.daemon import days
from reverse_etl.project import Project
from reverse_etl.quota import Forecast
from tests.unit.daemon.day import START

LATER, MIDNIGHT = START + timedelta(hours=2), START + timedelta(hours=12)
SHORT = Forecast("the crm", 100, 1000, LATER, MIDNIGHT)
LONG = Forecast("the crm", 120, 1000, MIDNIGHT, MIDNIGHT)
OTHER = Forecast("another", 7, 10, LATER, MIDNIGHT)


@pytest.fixture
def project(tmp_path: Path, postgres: str) -> Project:
    (tmp_path / "reverse_etl.yml").write_text(f'state: {{url: "{postgres}"}}\n')
    return Project.load(tmp_path)


@pytest.fixture
def begun(project: Project) -> Project:
    with project.parts.scheduling("a daemon"):  # makes the tables
        return project


def test_the_daemon_hears_what_every_worker_knows_now(begun: Project) -> None:
    days.leave(begun, "one", [LONG, OTHER], START)
    days.leave(begun, "two", [LONG], START)
    days.leave(begun, "two", [SHORT], START)
    assert sorted(days.left(begun, START), key=repr) == sorted([LONG, OTHER, SHORT], key=repr)
    days.leave(begun, "one", [], START)
    assert days.left(begun, START) == [SHORT]


def test_what_a_worker_has_said_that_is_gone_is_forgotten(begun: Project) -> None:
    days.leave(begun, "gone", [SHORT], START)
    assert days.left(begun, START + days.OLDEST) == [SHORT]
    assert days.left(begun, START + days.OLDEST + timedelta(seconds=1)) == []
    assert days.left(begun, START) == []


def test_before_the_first_run_nothing_is_known(project: Project) -> None:
    days.leave(project, "one", [SHORT], START)
    assert days.left(project, START) == []


def test_of_an_account_the_soonest_end_counts() -> None:
    assert days.soonest([LONG, OTHER, SHORT, LONG]) == [SHORT, OTHER]
