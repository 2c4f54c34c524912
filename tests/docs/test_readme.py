"""The README's commands exist, and its files load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from reverse_etl.cli.app import app
from reverse_etl.config.files import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "docs" / "reference" / "files.md"])
README = (ROOT / "README.md").read_text()


def blocks(text: str) -> list[str]:
    """The commands a document shows: indented blocks, and what stands between backticks."""
    indented = re.findall(r"^    ([a-z].*)$", text, re.MULTILINE)
    return [*indented, *re.findall(r"`([^`\n]+)`", text)]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_names_exists(document: Path) -> None:
    group: Any = typer.main.get_command(app)
    unknown = []
    for block in blocks(document.read_text()):
        words = block.split("#")[0].split()
        if words[:1] == ["make"] and len(words) > 1 and words[1] not in targets():
            unknown.append(block)
        if words[:1] == ["reverse-etl"] and len(words) > 1 and not words[1].startswith("-"):
            command = group.commands.get(words[1])
            options = {option for param in getattr(command, "params", []) for option in param.opts} | {"--help"}
            if command is None or not {word for word in words if word.startswith("--")} <= options:
                unknown.append(block)
    assert unknown == []


def test_the_files_of_the_readme_are_a_project_without_problems(tmp_path: Path) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        name, text = re.match(r"# (\S+)\n(.*)", block, re.DOTALL).groups()  # type: ignore[union-attr]  # each names its file
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    _, syncs = load(tmp_path, {})
    assert list(syncs) == ["workspaces_to_hubspot"]


def test_make_help_lists_the_targets_that_the_documents_name() -> None:
    assert {"demo", "test", "check", "lock", "bench", "reference", "picture"} <= targets()
