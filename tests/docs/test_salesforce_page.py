"""docs/salesforce.md names every code that the tool has a remedy for, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from reverse_etl.destinations.salesforce.errors import RULES, ForRow
from reverse_etl.destinations.salesforce.remedies import REMEDIES

PAGE = Path(__file__).parents[2] / "docs" / "salesforce.md"


def test_every_code_of_a_refused_row_stands_in_the_page_and_has_a_remedy_in_the_tool() -> None:
    table = PAGE.read_text().partition("## What a rejection means")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {code for cell in cells for code in re.findall(r"`([A-Z]\w+)`", cell)}
    stopping = {code for code, rule in RULES.items() if rule.row is ForRow.STOP}
    assert named - stopping == {*REMEDIES}
