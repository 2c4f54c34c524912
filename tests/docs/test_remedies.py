"""Every code that can stand on a row has a remedy in the tool, and stands in the page that explains it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from reverse_etl import protocols
from reverse_etl.destinations.hubspot import HubSpot
from reverse_etl.destinations.salesforce import Salesforce
from reverse_etl.standing import REMEDIES, SETTLING

ROOT = Path(__file__).parents[2]
UNSEEN = {SETTLING}  # such a row is delivered, and stands in no list


def codes_of(page: str, heading: str) -> set[str]:
    """The codes in the first column of a section's tables."""
    section = (ROOT / "docs" / page).read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {code for cell in cells for code in re.findall(r"`(\w+)`", cell)}


def codes_put_on_rows() -> set[str]:
    """The codes that `Refusal("...", ...)` is made with, outside of the emulator and of what serves tests."""
    known = {name: code for name, code in vars(protocols).items() if isinstance(code, str)}
    found: set[str] = set()
    for path in (ROOT / "reverse_etl").rglob("*.py"):
        if not {"sandbox", "testing"} & set(path.relative_to(ROOT).parts):
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args]
            first = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Refusal"]
            found |= {str(code.value) for code in first if isinstance(code, ast.Constant)}
            found |= {known[code.id] for code in first if isinstance(code, ast.Name) and code.id in known}
    return found


def test_every_code_of_ours_that_can_stand_on_a_row_has_a_remedy() -> None:
    documented = codes_of("errors.md", "Rejected rows") | codes_of("errors.md", "Invalid rows")
    assert documented - UNSEEN <= {*REMEDIES}
    assert codes_put_on_rows() <= {*REMEDIES}


def test_every_remedy_of_ours_is_for_a_code_that_is_explained() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    assert {code for code in REMEDIES if f"`{code}`" not in page} == set()


def test_every_code_of_hubspots_page_has_a_remedy_and_every_remedy_stands_in_the_page() -> None:
    named = codes_of("hubspot.md", "Rows that HubSpot rejected")
    assert named <= {*HubSpot.remedies, *REMEDIES}
    assert {*HubSpot.remedies} <= named


def test_no_remedy_is_longer_than_a_line_of_a_terminal() -> None:
    for remedies in (REMEDIES, HubSpot.remedies, Salesforce.remedies):
        assert {code: told for code, told in remedies.items() if len(told) > 90} == {}
