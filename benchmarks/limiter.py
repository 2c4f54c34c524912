"""How much of an allowance is used when there is work, and whether more than that is ever asked for.

The judge is the fake's own list of arrivals, of calls that take 120 ms each.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from pathlib import Path
from urllib.request import urlopen

from benchmarks import bench

RATE, WINDOW, LATENCY = 190, 10.0, 0.12
ROWS_A_CALL = 100
MINUTE = 60.0


def limiter(folder: Path, rows: int) -> None:
    """One sync, then two at once of the same account in one process."""
    for number, syncs in enumerate((1, 2)):
        with bench.crm("--rate", str(RATE), "--latency", str(LATENCY)) as address:
            project = bench.project(folder / f"project{number}", rows // syncs, address, first_run="send", rate="")
            for copy in range(1, syncs):
                text = (project / "syncs" / "users.yml").read_text()
                (project / "syncs" / f"users{copy}.yml").write_text(text)
            bench.timed([sys.executable, "-m", "benchmarks.together", str(project)])
            with urlopen(f"{address}/seen") as answer:  # noqa: S310  # our own, on this machine
                seen = json.load(answer)
        tell(f"{syncs} sync{'s' * (syncs > 1)}, {rows:,} rows", seen)


def tell(what: str, seen: list[tuple[float, bool]]) -> None:
    at = [moment for moment, _ in seen]
    refused = sum(was_refused for _, was_refused in seen)
    peak = max(bisect_left(at, moment + WINDOW) - place for place, moment in enumerate(at))
    print(
        f"{what:<32} {at[-1] - at[0]:6.1f} s  {utilisation(at):6.1%} of {RATE} calls in {WINDOW:g} s (at least 97%)  "
        f"at most {peak} in any {WINDOW:g} s  429s: {refused} (none)",
        flush=True,
    )


def utilisation(at: list[float]) -> float:
    """The share of the allowance used in a minute, the mean of the minutes that begin within the second window."""
    starts = [at[0] + WINDOW + step / 10 for step in range(round(WINDOW * 10))]
    if starts[-1] + MINUTE > at[-1]:
        sys.exit(f"the run lasted {at[-1] - at[0]:.0f} s: too short to tell, take more rows")
    counts = [bisect_left(at, start + MINUTE) - bisect_left(at, start) for start in starts]
    return sum(counts) / len(counts) / (RATE * MINUTE / WINDOW)
