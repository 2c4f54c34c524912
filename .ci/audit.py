"""Hold the locked dependencies against the advisories that are known, and say honestly how far that went.

    .venv-audit/bin/python .ci/audit.py [--as-far-as-it-goes] requirements/dev.txt

Ends with 1 where a release that we build from has a known weakness, and with 3 where one could not be audited: what the
advisory service doesn't know, or can't be asked, is not known to be well. With --as-far-as-it-goes that is said all the
same, and fails nothing, as a build must not depend on the network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PATIENCE_SECONDS = 120
WEAK, UNKNOWN = 1, 3
LENIENT = "--as-far-as-it-goes"
AUDIT = ("pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off", "--timeout", "10", "-f", "json")


def verdict(output: str) -> tuple[int, str]:
    """The exit code, and what to say, for what pip-audit has printed."""
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return UNKNOWN, "NOT AUDITED: the advisory service could not be reached. Nothing is known of any dependency."
    weak = [
        f"  {each['name']} {each['version']}: {advisory['id']}, mended in {_mended_in(advisory)}"
        for each in found
        for advisory in each.get("vulns", ())
    ]
    unknown = [each["name"] for each in found if "skip_reason" in each]
    if len(unknown) == len(found):
        return UNKNOWN, (
            f"NOT AUDITED: the advisory service told nothing of any of the {len(found)} locked dependencies; it can't "
            "be asked from here, or knows none of them. That is no sign that they are well."
        )
    said = [f"{len(found) - len(unknown)} of {len(found)} locked dependencies were audited."]
    if unknown:
        said.append(f"NOT AUDITED, as the advisory service told nothing of them: {', '.join(unknown)}.")
    if weak:
        said += ["Known weaknesses:", *weak]
    else:
        said.append("No weakness is known of those that were audited.")
    return WEAK if weak else UNKNOWN if unknown else 0, "\n".join(said)


def _mended_in(advisory: dict[str, Any]) -> str:
    return ", ".join(advisory.get("fix_versions", ())) or "no release yet"


def main() -> int:
    requirements = [word for file in sys.argv[1:] if file != LENIENT for word in ("-r", file)]
    try:
        ended = subprocess.run(
            [sys.executable, "-m", *AUDIT, *requirements], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        output = ended.stdout
    except subprocess.TimeoutExpired:
        output = ""
    code, said = verdict(output)
    print(said)
    return 0 if code == UNKNOWN and LENIENT in sys.argv else code


if __name__ == "__main__":
    sys.exit(main())
