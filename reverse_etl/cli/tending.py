"""The daemon in the foreground."""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from reverse_etl.cli.session import REDACTOR
from reverse_etl.cli.streams import secrets_in
from reverse_etl.config import files
from reverse_etl.daemon.service import serve


def tend(project: str | None) -> int:
    """Runs until SIGTERM or SIGINT, and returns the exit code."""
    root = files.find_root(Path.cwd(), os.environ, project=None if project is None else Path(project))
    return anyio.run(serve, root, os.environ, lambda config: REDACTOR.learn(secrets_in(config)))
