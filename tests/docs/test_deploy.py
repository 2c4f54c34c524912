"""The files that start it elsewhere: checked as far as it goes without a container engine and without systemd."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from reverse_etl.cli.app import app
from reverse_etl.config.files import load

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
UNIT = (ROOT / "deploy/reverse-etl.service").read_text()


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.M)


def understood(words: list[str]) -> None:
    """The command line takes these words; raises what a user would see if not."""
    command, *options = words
    group = typer.main.get_command(app)
    group.commands[command].make_context(command, options, parent=None)  # type: ignore[attr-defined]


def test_all_that_the_image_copies_is_there_and_is_let_through() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source for line in instructions("COPY") if not line.startswith("--from") for source in shlex.split(line)[:-1]
    }
    assert copied == let_through
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_all_that_the_package_is_built_from_is_copied() -> None:
    declared = (ROOT / "pyproject.toml").read_text()
    needed = {"README.md", "LICENSE", "reverse_etl.yml", "syncs", "reverse_etl"}
    assert all(f'"{name}"' in declared for name in needed)
    assert needed <= {source for line in instructions("COPY") for source in shlex.split(line)}


def test_the_image_installs_only_packages_whose_hashes_are_known() -> None:
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_the_image_runs_as_nobodys_root() -> None:
    assert instructions("USER") == ["etl"]


@pytest.mark.parametrize("words", [json.loads(line) for line in instructions("CMD")])
def test_the_image_starts_a_command_that_exists(words: list[str]) -> None:
    assert instructions("ENTRYPOINT") == ['["reverse-etl"]']
    understood(words)


def test_the_image_asks_for_its_health_as_the_command_line_has_it() -> None:
    (check,) = instructions("HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    assert words[0] == "reverse-etl"
    understood(words[1:])


@pytest.mark.parametrize("service", ["daemon", "worker"])
def test_a_service_starts_a_command_that_exists_once_its_state_is_there(service: str) -> None:
    said = COMPOSE["services"][service]
    understood(said["command"])
    assert said["depends_on"] == {"state": {"condition": "service_healthy"}}
    assert "healthcheck" in COMPOSE["services"]["state"]


def test_the_project_that_the_compose_file_shows_is_one(tmp_path: Path) -> None:
    text = (ROOT / "deploy/compose.yaml").read_text()
    shown = "\n".join(line[6:] for line in text.splitlines() if re.match(r"#     (state|daemon): ", line))
    (tmp_path / "reverse_etl.yml").write_text(shown)
    (tmp_path / "syncs").mkdir()
    config, _ = load(tmp_path, {"STATE_PASSWORD": "x"}, daemon=True)
    user, database = (COMPOSE["services"]["state"]["environment"][name] for name in ("POSTGRES_USER", "POSTGRES_DB"))
    assert config.state.url.get_secret_value() == f"postgresql+psycopg://{user}:x@state/{database}"
    assert config.daemon.workers == "queue"


def test_the_systemd_unit_is_the_documented_one_and_its_command_exists() -> None:
    shown = re.search(r"```ini\n(.*?)```", (ROOT / "docs/daemon.md").read_text(), re.S)
    assert shown is not None and shown[1] == UNIT
    (started,) = re.findall(r"^ExecStart=\S+/reverse-etl (.*)$", UNIT, re.M)
    understood(shlex.split(started))
