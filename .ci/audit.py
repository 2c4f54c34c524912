"""Hold the locked dependencies against the advisories that are known, and say honestly how far that went.

    .venv-audit/bin/python .ci/audit.py requirements/dev.txt

Ends with 1 where a release that we build from has a known weakness. Where the advisory service can't be reached, or
doesn't know a package, nothing is known: that is said, and fails nothing, as a build must not depend on the network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PATIENCE_SECONDS = 120
AUDIT = ("pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off", "--timeout", "10", "-f", "json")


def verdict(output: str) -> tuple[int, str]:
    """The exit code, and what to say, for what pip-audit has printed."""
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return 0, "NOT AUDITED: the advisory service could not be reached."
    weak = [
        f"  {each['name']} {each['version']}: {advisory['id']}, mended in {_mended_in(advisory)}"
        for each in found
        for advisory in each.get("vulns", ())
    ]
    unknown = [each["name"] for each in found if "skip_reason" in each]
    looked = len(found) - len(unknown)
    said = [f"{looked} of {len(found)} locked dependencies were audited."]
    if unknown:
        said.append(f"NOT AUDITED, as the advisory service doesn't know them: {', '.join(unknown)}.")
    if weak:
        said += ["Known weaknesses:", *weak]
    return int(bool(weak)), "\n".join(said)


def _mended_in(advisory: dict[str, Any]) -> str:
    return ", ".join(advisory.get("fix_versions", ())) or "no release yet"


def main() -> int:
    requirements = [word for file in sys.argv[1:] for word in ("-r", file)]
    try:
        ended = subprocess.run(
            [sys.executable, "-m", *AUDIT, *requirements], capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
        output = ended.stdout
    except subprocess.TimeoutExpired:
        output = ""
    code, said = verdict(output)
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
