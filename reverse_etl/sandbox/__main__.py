"""`python -m reverse_etl.sandbox`: the sandbox without the rest of the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from reverse_etl.sandbox.server import PORT, RATE, serve


def rate(text: str) -> int | None:
    return None if text == "off" else int(text)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reverse_etl.sandbox", description="Emulates HubSpot and Salesforce."
    )
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="keep the records in this file")
    parser.add_argument("--rate", type=rate, default=RATE, help="HubSpot requests in ten seconds, or off")
    parser.add_argument("--fields", type=Path, help="more fields, as YAML or JSON")
    chosen = parser.parse_args()

    def ready(url: str) -> None:
        sys.stdout.write(url + "\n")
        sys.stdout.flush()

    try:
        serve(chosen.port, chosen.data, chosen.rate, chosen.fields, ready=ready)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
