"""A project of one's own against the sandbox: a DuckDB warehouse to fill, definitions to write, runs to look at."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from reverse_etl import Project
from reverse_etl.cli import edge
from reverse_etl.cli.app import app
from reverse_etl.sandbox.server import Sandbox, running
from tests import ducks

START = "import sys; from reverse_etl.cli.app import main; sys.argv[0] = 'reverse-etl'; main()"
TOKEN = "sandbox-token"
PEOPLE = {
    "source": "warehouse",
    "query": "select * from people",
    "key": "email",
    "destination": "hubspot",
    "object": "contacts",
    "match": "email",
    "mapping": {"email": "email", "firstname": "first_name", "workspaces_total": "workspaces"},
}
COMPANIES = {
    "source": "warehouse",
    "query": "select * from companies",
    "key": "id",
    "destination": "hubspot",
    "object": "companies",
    "match": "app_company_id",
    "mapping": {"app_company_id": "id", "name": "name"},
}
LEADS = {
    "source": "warehouse",
    "query": "select * from leads",
    "key": "id",
    "destination": "salesforce",
    "object": "Lead",
    "match": "External_Id__c",
    "mapping": {"External_Id__c": "id", "LastName": "name", "Company": "company", "Email": "email"},
}


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str

    def without_traceback(self) -> Ended:
        assert "Traceback" not in self.stdout + self.stderr, self.stderr
        return self


@dataclass
class Scene:
    folder: Path
    sandbox: Sandbox
    settings: dict[str, Any] = field(default_factory=dict)

    # --- files --------------------------------------------------------------------------------------------------------

    def write_project(self, token: str = TOKEN, **more: Any) -> None:
        document = {
            "sources": {"warehouse": {"url": "duckdb:///warehouse.duckdb"}},
            "destinations": {
                "hubspot": {"type": "hubspot", "access_token": token, "base_url": self.sandbox.url},
                "salesforce": {
                    "type": "salesforce",
                    "auth": {"flow": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"},
                    "login_url": self.sandbox.url,
                },
            },
            **more,
        }
        self.write("reverse_etl.yml", yaml.safe_dump(document, sort_keys=False))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)

    def define(self, base: dict[str, Any] = PEOPLE, name: str = "people", **changes: Any) -> None:
        """Write a sync: `base` with these keys changed; None takes a key away."""
        document = {key: value for key, value in {**base, **changes}.items() if value is not None}
        self.write(f"syncs/{name}.yml", yaml.safe_dump(document, sort_keys=False, allow_unicode=True))

    def warehouse(self, *statements: str) -> None:
        with ducks.opened(self.folder / "warehouse.duckdb") as connection:
            for statement in statements:
                connection.execute(statement)

    def people(self, *rows: tuple[Any, ...], columns: str = "email text, first_name text, workspaces bigint") -> None:
        """The table `people` holds just these rows."""
        self.table("people", columns, rows)

    def table(self, name: str, columns: str, rows: Any) -> None:
        with ducks.opened(self.folder / "warehouse.duckdb") as connection:
            connection.execute(f"create or replace table {name} ({columns})")
            if rows:
                marks = ", ".join("?" * len(rows[0]))
                connection.executemany(f"insert into {name} values ({marks})", [list(row) for row in rows])

    # --- runs ---------------------------------------------------------------------------------------------------------

    def sync(self, *names: str, **wishes: Any) -> dict[str, Any]:
        """One run in this process, as `sync --json` would print it, with the exit code."""
        result = Project.load(self.folder).sync(*names, **wishes)
        assert len(result.runs) == 1
        document: dict[str, Any] = json.loads(json.dumps(result.runs[0].to_json()))
        error = document["error"] or {}
        assert error.get("code") != "bug", error
        self.check_books(document)
        return {**document, "exit": result.exit_code}

    @staticmethod
    def check_books(run: dict[str, Any]) -> None:
        rows = run["rows"]
        assert rows["read"] == rows["unchanged"] + rows["added"] + rows["changed"] + rows["invalid"], run

    def cli(self, *arguments: str, **variables: str) -> Ended:
        """The command line from its arguments to its exit code, in this process: starting one takes a while."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), _kept():
            patch.chdir(self.folder)
            for name in [name for name in os.environ if name.startswith("REVERSE_ETL_")]:
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            code = edge.run(typer.main.get_command(app).main, arguments)
        return Ended(code, out.getvalue(), err.getvalue()).without_traceback()

    def process(self, *arguments: str, **variables: str) -> Ended:
        """The same as a process of its own."""
        ended = subprocess.run(
            [sys.executable, "-c", START, *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr).without_traceback()

    def json(self, *arguments: str, **variables: str) -> tuple[int, Any]:
        """Exit code, and what --json printed: exactly one document."""
        ended = self.cli(*arguments, "--json", **variables)
        return ended.returncode, json.loads(ended.stdout)

    def json_of_process(self, *arguments: str, **variables: str) -> tuple[int, Any]:
        ended = self.process(*arguments, "--json", **variables)
        return ended.returncode, json.loads(ended.stdout)

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REVERSE_ETL_")}
        return {**kept, "PYTHONWARNINGS": "error"}

    def rejected(self, sync: str = "people") -> list[dict[str, Any]]:
        """The list of refused rows, as `rejected --json` has it."""
        from reverse_etl.cli.documents import rejected  # noqa: PLC0415

        found: dict[str, Any] = json.loads(json.dumps(rejected(Project.load(self.folder).rejected(sync))))
        return list(found["rows"])

    # --- what the destination saw ------------------------------------------------------------------------------------

    def contacts(self, *fields: str) -> dict[str, Any]:
        """Records by email: the whole record, or just these fields."""
        return {record["properties"]["email"]: _these(record, fields) for record in self.records("contacts")}

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.sandbox.hubspot.records(kind) if not record.get("archived")]

    def calls(self) -> int:
        return len(self.sandbox.requests)

    def writes(self) -> list[Any]:
        return [entry for entry in self.sandbox.requests if entry.method != "GET" and "token" not in entry.path]


def _these(record: dict[str, Any], fields: tuple[str, ...]) -> Any:
    properties = record["properties"]
    if not fields:
        return properties
    found = tuple(properties.get(name) for name in fields)
    return found[0] if len(found) == 1 else found


@contextmanager
def _kept() -> Iterator[None]:
    """Signal handlers and loggers are a whole program's to set; a test gives them back."""
    root, ours = logging.getLogger(), logging.getLogger("reverse_etl")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    listeners, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.captureWarnings(False)
        root.handlers[:], ours.handlers[:] = listeners, []
        root.setLevel(level)
        ours.setLevel(logging.NOTSET)


@contextmanager
def scene_in(folder: Path, **settings: Any) -> Iterator[Scene]:
    with running(**{"rate": None, **settings}) as sandbox:
        scene = Scene(folder, sandbox)
        scene.write_project()
        yield scene
