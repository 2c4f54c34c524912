"""Each file needs an environment of its own (`make test-orchestrators`), as these packages pin hundreds of others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from reverse_etl import Project, clock
from reverse_etl.sandbox.server import Sandbox, running

os.environ["AIRFLOW_HOME"] = str(Path(tempfile.gettempdir(), "airflow-of-tests"))  # read when Airflow is imported
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "false"
collect_ignore = [f"test_{package}.py" for package in ("airflow", "dagster") if find_spec(package) is None]

SYNC: dict[str, Any] = {
    "source": "warehouse",
    "query": "select * from people",
    "key": "email",
    "destination": "hubspot",
    "object": "contacts",
    "mapping": {"email": "email", "firstname": "first_name"},
}


@dataclass(frozen=True)
class Folder:
    """A project in a temporary folder, beside a sandbox that answers."""

    root: Path
    sandbox: Sandbox

    def people(self, *rows: tuple[str, str]) -> None:
        with duckdb.connect(str(self.root / "warehouse.duckdb")) as connection:
            connection.execute("create or replace table people (email varchar, first_name varchar)")
            for row in rows:
                connection.execute("insert into people values (?, ?)", row)

    def sync(self, name: str, **changes: Any) -> None:
        (self.root / "syncs" / f"{name}.yml").write_text(yaml.safe_dump(SYNC | changes))

    def connect(self, **changes: Any) -> None:
        hubspot = {"type": "hubspot", "access_token": "sandbox-token", "base_url": self.sandbox.url} | changes
        content = {
            "sources": {"warehouse": {"url": "duckdb:///warehouse.duckdb"}},
            "destinations": {"hubspot": hubspot},
        }
        (self.root / "reverse_etl.yml").write_text(yaml.safe_dump(content))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """One sync, `people`, of two rows; nothing has been sent."""
    with running(rate=None) as sandbox:
        made = Folder(tmp_path, sandbox)
        (tmp_path / "syncs").mkdir()
        made.connect()
        made.sync("people")
        made.people(("ada@example.com", "Ada"), ("joan@example.com", "Joan"))
        yield made


@contextmanager
def held_elsewhere(folder: Folder, sync: str) -> Iterator[None]:
    """As if another process ran the sync just now."""
    project = Project.load(folder.root)
    with closing(project.parts.ledger(project.named(sync))) as ledger, ledger.hold("another", clock.SYSTEM.now()):
        yield


@pytest.fixture
def held(folder: Folder) -> Callable[[str], AbstractContextManager[None]]:
    return partial(held_elsewhere, folder)
