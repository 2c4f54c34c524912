"""Where the details of a bug go: never to the user's screen unless asked for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from reverse_etl.redaction import SECRETS


def write_details(text: str, project: str | None) -> str:
    """A new file that only its owner can read: in the project's state folder if it can be written, else a temporary."""
    state = Path(project or ".") / ".reverse_etl"
    try:
        descriptor, name = tempfile.mkstemp(prefix="bug-", suffix=".txt", dir=state if state.is_dir() else None)
    except OSError:  # read-only, or full: what broke the run may well be the same thing
        descriptor, name = tempfile.mkstemp(prefix="bug-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(SECRETS.clean(text))
    return name
