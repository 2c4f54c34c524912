"""`python -m tests.faults.results FILE...`: results of campaigns, written into docs/guarantees.md, never by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- campaign: begin -->", "<!-- campaign: end -->"
Document = dict[str, Any]


def merged(documents: Sequence[Document]) -> dict[str, dict[str, Any]]:
    """By family: cycles and violations add up, figures keep their greatest value; words are the newest ones."""
    families: dict[str, dict[str, Any]] = {}
    for document in documents:
        for each in document["families"]:
            mine = families.setdefault(each["id"], {**each, "cycles": 0, "violations": [], "figures": {}})
            mine["cycles"] += each["cycles"]
            mine["violations"] = mine["violations"] + each["violations"]
            mine["not_run"] = mine["not_run"] and each["not_run"]
            for name, value in each["figures"].items():
                mine["figures"][name] = max(value, mine["figures"].get(name, value))
    return dict(sorted(families.items()))


def page(documents: Iterable[Document]) -> str:
    """The table of faults, and of which campaigns it was made, the newest commit first."""
    newest = sorted(documents, key=_moment, reverse=True)
    lines = ["| | fault | cycles | violations | figure |", "| --- | --- | --- | --- | --- |"]
    for id, each in merged(newest).items():
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in each["figures"].items())
        told = each["not_run"] or figures
        lines.append(f"| {id} | {each['fault']} | {each['cycles']} | {len(each['violations'])} | {told} |")
    kills, bad = (sum(each[name] for each in newest) for name in ("kills", "violations"))
    machines = sorted({f"{each['machine']}, Python {each['python']}" for each in newest})
    total = f"**{kills:,} kills, {bad} violations.** Made by `make faults` on {'; '.join(machines)}:"
    return "\n".join([*lines, "", total, "", *_campaigns(newest)])


def _campaigns(newest: Sequence[Document]) -> list[str]:
    """A line for each commit and tier."""
    lines = ["| commit | tier | seeds | families | kills | violations |", "| --- | --- | --- | --- | --- | --- |"]
    for commit, tier in dict.fromkeys((each["commit"], each["tier"]) for each in newest):
        mine = [each for each in newest if (each["commit"], each["tier"]) == (commit, tier)]
        seeds = ", ".join(dict.fromkeys(str(each["seed"]) for each in mine))
        families = len({family["id"] for each in mine for family in each["families"]})
        kills, bad = (sum(each[name] for each in mine) for name in ("kills", "violations"))
        lines.append(f"| `{commit[:10]}` | {tier} | {seeds} | {families} | {kills:,} | {bad} |")
    return lines


def _moment(document: Document) -> tuple[int, str]:
    """When its commit was made, and when it was played; results of old don't tell the latter."""
    told = subprocess.run(
        ["git", "show", "-s", "--format=%ct", document["commit"]],
        cwd=PAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return int(told or 0), str(document.get("made_at", ""))


def main(files: list[str]) -> int:
    documents = [json.loads(Path(file).read_text()) for file in files]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{page(documents)}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
