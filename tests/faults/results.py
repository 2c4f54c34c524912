"""`python -m tests.faults.results FILE...`: results of campaigns, written into docs/guarantees.md, never by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- campaign: begin -->", "<!-- campaign: end -->"


def merged(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By family: cycles and violations add up, figures keep their greatest value."""
    families: dict[str, dict[str, Any]] = {}
    for document in documents:
        for each in document["families"]:
            mine = families.setdefault(each["id"], {**each, "cycles": 0, "violations": [], "figures": {}})
            mine["cycles"] += each["cycles"]
            mine["violations"] += each["violations"]
            mine["not_run"] = mine["not_run"] and each["not_run"]
            for name, value in each["figures"].items():
                mine["figures"][name] = max(value, mine["figures"].get(name, value))
    return dict(sorted(families.items()))


def page(documents: list[dict[str, Any]]) -> str:
    """The table, and of what it was made."""
    lines = ["| | fault | cycles | violations | figure |", "| --- | --- | --- | --- | --- |"]
    for id, each in merged(documents).items():
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in each["figures"].items())
        told = each["not_run"] or figures
        lines.append(f"| {id} | {each['fault']} | {each['cycles']} | {len(each['violations'])} | {told} |")
    made = ", ".join(f"{each['tier']} seed {each['seed']} at {each['commit'][:10]}" for each in documents)
    kills = sum(each["kills"] for each in documents)
    bad = sum(each["violations"] for each in documents)
    machine = f"{documents[0]['machine']}, Python {documents[0]['python']}"
    return "\n".join([*lines, "", f"{kills:,} kills, {bad} violations. Made by `make faults`: {made} ({machine})."])


def main(files: list[str]) -> int:
    documents = [json.loads(Path(file).read_text()) for file in files]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{page(documents)}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
