"""The sandbox in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path

from reverse_etl.cli.edge import refuse
from reverse_etl.cli.screen import PlainScreen, Table, line
from reverse_etl.sandbox import server

CREDENTIALS = (("HubSpot", "token sandbox-token"), ("Salesforce", "client sandbox, secret sandbox-secret"))


def serve(port: int, data: Path | None, rate: str | None, fields: Path | None) -> None:
    """Answers until it is interrupted. The first line on stdout is the bare URL, once it answers there."""
    try:
        server.serve(port, data, _rate(rate), fields, ready=_ready)
    except OSError as failure:
        refuse(f"port {port} can't be used: {failure.strerror}; --port 0 takes a free one")
    except ValueError as failure:
        refuse(str(failure))


def _rate(given: str | None) -> int | None:
    if given is None:
        return server.RATE
    if given == "off":
        return None
    if not given.isdecimal() or not int(given):
        refuse(f"--rate takes a number of requests in ten seconds, or off: {given!r} is neither")
    return int(given)


def _ready(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    PlainScreen(sys.stdout).show(
        line("HubSpot and Salesforce are emulated there; the page at that address shows records and requests."),
        Table(CREDENTIALS, indent=2),
        line("Ctrl-C ends it."),
    )
