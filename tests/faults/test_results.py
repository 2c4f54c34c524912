"""The page of results adds campaigns up, and says which ones."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.faults.results import PAGE, merged, page

COMMITS = subprocess.run(
    ["git", "log", "-2", "--format=%H"], cwd=PAGE.parent, capture_output=True, text=True, check=False
).stdout.split()


def campaign(commit: str, *, tier: str = "smoke", seed: str = "1", kills: int = 3, **family: Any) -> dict[str, Any]:
    told: dict[str, Any] = {"id": "F01", "fault": "killed", "cycles": 3, "violations": [], "figures": {}}
    told = {**told, "not_run": None, **family}
    made = {"commit": commit, "tier": tier, "seed": seed, "python": "3.11.7", "machine": "Linux x86_64"}
    return {**made, "kills": kills, "violations": len(told["violations"]), "families": [told]}


def test_cycles_add_up_and_figures_keep_their_greatest() -> None:
    two = [campaign("a", figures={"restart_s": 2.0}), campaign("b", figures={"restart_s": 1.0, "repeats": 7})]
    assert merged(two)["F01"] | {"violations": []} == merged(two)["F01"]
    assert (merged(two)["F01"]["cycles"], merged(two)["F01"]["figures"]) == (6, {"restart_s": 2.0, "repeats": 7})


def test_a_family_that_could_not_be_played_somewhere_was_played_elsewhere() -> None:
    assert merged([campaign("a", not_run="no strace"), campaign("b")])["F01"]["not_run"] is None


def test_the_page_tells_all_kills_and_each_commit_tier_and_seed() -> None:
    made = [
        campaign("a" * 40, seed="5"),
        campaign("b" * 40, tier="release", seed="7", kills=1200),
        campaign("b" * 40, tier="release", seed="8", kills=10, violations=[{"invariant": "I1"}]),
    ]
    told = page(made)
    assert "**1,213 kills, 1 violations.**" in told
    assert "| `aaaaaaaaaa` | smoke | 5 | 1 | 3 | 0 |" in told
    assert "| `bbbbbbbbbb` | release | 7, 8 | 1 | 1,210 | 1 |" in told


def test_the_newest_commit_stands_first() -> None:
    newest, older = COMMITS if len(COMMITS) == 2 else ("a", "b")  # a shallow clone knows only one
    told = page([campaign(older, fault="old words"), campaign(newest, fault="new words")])
    if len(COMMITS) == 2:
        assert told.index(newest[:10]) < told.index(older[:10])
        assert "new words" in told
        assert "old words" not in told
