"""The page on the rooms names every room."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_room_is_named_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.split("## The rooms")[1].split("##")[0]
    named = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([a-z]+)/?`", row.split("|")[1] if "|" in row else "")
    }
    package = ROOT / "reverse_etl"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert named == modules - {"__init__"}


def test_the_layers_are_those_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (enforced,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    # What stands in brackets isn't built yet.
    there = [" ".join(re.sub(r"\(\w+\)", "", layer).replace(":", " ").replace("|", " ").split()) for layer in enforced]
    page = (ROOT / "docs" / "architecture.md").read_text()
    shown = page.split("## Who imports whom")[1].split("```")[1].strip().splitlines()
    assert [" ".join(line.split(" · ")) for line in shown] == there
