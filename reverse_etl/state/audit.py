"""Who has let, or made, something happen that no run does by itself: approvals, resets, restores, requests over HTTP.

`.reverse_etl/audit.jsonl`, one JSON object a line, only ever appended to, each line on disk before what it is about
happens. It outlives what it tells of: a reset and a restore leave it as it is. No key and no value of a row is in it.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
from datetime import datetime

from reverse_etl import clock
from reverse_etl.errors import StateError
from reverse_etl.redaction import SECRETS
from reverse_etl.state.home import StateHome

NAME = "audit.jsonl"


def note(home: StateHome, action: str, now: datetime, *, who: str | None = None, **facts: str) -> None:
    """One line, on disk when this returns. Raises StateError where it can't be written: then nothing is done either."""
    told = {"at": clock.text(now), "who": who or user(), "action": action, **facts}
    line = SECRETS.clean(json.dumps(told)) + "\n"
    home.prepare()
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(home.folder / NAME, flags, 0o600)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as failure:
        raise StateError(
            f"{NAME} can't be written: {failure.strerror}",
            hint="approvals and changes are only taken where they can be written down; nothing was changed",
        ) from failure


def user() -> str:
    """Whoever this process works for, and where."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # in a container, users need not have names
        name = f"user {os.getuid()}"
    return f"{name}@{platform.node()}"
