"""The sample warehouse: believable, and the same everywhere."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reverse_etl.demo import warehouse


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb"
    warehouse.build(file)
    return file


def rows(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_the_sample_is_the_same_on_every_machine(built: Path) -> None:
    lines = rows(built, "select event_id, name, user_id, workspace_id, epoch(occurred_at) from app.events order by 1")
    people = rows(built, "select email, first_name, last_name, company_id from app.users order by user_id")
    firms = rows(built, "select * from app.companies order by company_id")
    digest = hashlib.sha256(repr((lines, people, firms)).encode()).hexdigest()
    assert digest[:16] == "919d32e5db50cc47"


def test_events_lie_in_the_past_over_months(built: Path) -> None:
    ((first, last),) = rows(built, "select epoch(min(occurred_at)), epoch(max(occurred_at)) from app.events")
    assert timedelta(seconds=last - first) > timedelta(days=150)
    assert datetime.fromtimestamp(last, UTC) < datetime.now(UTC)


def test_addresses_and_companies_are_told_apart(built: Path) -> None:
    ((users, emails),) = rows(built, "select count(*), count(distinct email) from app.users")
    ((companies, domains),) = rows(built, "select count(*), count(distinct domain) from app.companies")
    assert (users, emails) == (warehouse.USERS, warehouse.USERS)
    assert (companies, domains) == (warehouse.COMPANIES, warehouse.COMPANIES)
    assert (
        rows(built, "select 1 from app.users where not regexp_full_match(email, '[a-z0-9.]+@[a-z]+\\.example')") == []
    )


def test_nobody_creates_a_workspace_before_signing_up(built: Path) -> None:
    early = "select 1 from app.events join app.users using (user_id) where occurred_at < signed_up_at"
    assert rows(built, early) == []


def test_a_day_is_added_after_the_last_one_and_no_address_twice(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    warehouse.build(file)
    for number in range(1, 4):
        assert warehouse.add_day(file) == warehouse.LAST_DAY + timedelta(days=number)
    ((users, emails),) = rows(file, "select count(*), count(distinct email) from app.users")
    assert users == emails == warehouse.USERS + 3 * warehouse.NEWCOMERS
    ((companies,),) = rows(file, "select count(*) from app.companies")
    assert companies == warehouse.COMPANIES + 3 * (warehouse.FOUNDED - warehouse.LEAVING)


def test_a_file_that_is_there_is_never_written_over(built: Path) -> None:
    with pytest.raises(FileExistsError, match="remove it first"):
        warehouse.build(built)
