"""The command line itself: help, usage, what is not built yet, what is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

COMMANDS = ["demo", "init", "check", "sync", "status", "runs", "show", "rejected", "explain", "reset", "forget"]
COMMANDS += ["fields", "daemon", "sandbox", "schema"]


def reverse_etl(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    start = "import sys; from reverse_etl.cli.app import main; sys.argv[0] = 'reverse-etl'; main()"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments], capture_output=True, text=True, cwd=folder, check=False, timeout=60
    )


def test_help_lists_every_command() -> None:
    shown = reverse_etl("--help")
    assert shown.returncode == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in shown.stdout] == []


def test_no_command_at_all_shows_the_help() -> None:
    assert reverse_etl().stdout == reverse_etl("--help").stdout


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from reverse_etl.cli import edge; from reverse_etl.cli.app import app; import typer\n"
        "edge.run(typer.main.get_command(app).main, ['--help'])\n"
        "heavy = {'rich', 'pyarrow', 'duckdb', 'sqlalchemy', 'httpx', 'pydantic', 'structlog', 'anyio', 'asyncio'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_release_is_told(tmp_path: Path) -> None:
    ended = reverse_etl("--version", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, f"reverse-etl {version('reverse-etl')}\n")


def test_help_has_a_short_form(tmp_path: Path) -> None:
    assert reverse_etl("-h", folder=tmp_path).stdout == reverse_etl("--help", folder=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["snyc"], "Did you mean 'sync'"),
        (["sync", "--limit", "0"], "--limit"),
        (["sync", "--frobnicate"], "--frobnicate"),
        (["explain", "people"], "KEY"),
        (["status", "--log-level", "loud"], "--log-level"),
        (["fields", "hubspot"], "OBJECT"),
        (["fields", "people", "contacts", "--create"], "--create takes a sync, and no OBJECT"),
        (["fields", "hubspot", "contacts", "--yes"], "--yes goes with --create"),
    ],
)
def test_P56_wrong_usage_is_exit_2_and_says_what_is_wrong(arguments: list[str], said: str) -> None:
    ended = reverse_etl(*arguments)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert ended.stdout == ""


def test_wrong_usage_with_json_is_one_document() -> None:
    ended = reverse_etl("sync", "--json", "--limit", "x")
    assert ended.returncode == 2
    (problem,) = json.loads(ended.stdout)["problems"]
    assert "--limit" in problem["message"]


def test_init_writes_a_project_and_touches_none_that_is_there(tmp_path: Path) -> None:
    first = reverse_etl("init", "shop", folder=tmp_path)
    assert first.returncode == 0
    assert "reverse-etl sync --dry-run --project shop" in first.stdout
    written = {path: path.read_bytes() for path in (tmp_path / "shop").rglob("*") if path.is_file()}
    assert {path.name for path in written} == {
        "reverse_etl.yml",
        "example.yml",
        "README.md",
        ".env.example",
        ".gitignore",
    }
    second = reverse_etl("init", "shop", folder=tmp_path)
    assert second.returncode == 2
    assert "already" in second.stderr
    assert {path: path.read_bytes() for path in (tmp_path / "shop").rglob("*") if path.is_file()} == written


def test_init_in_a_folder_that_can_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = reverse_etl("init", "file/shop", folder=tmp_path)
    assert ended.returncode == 2
    assert "can't be written" in ended.stderr
