"""The daemon in the foreground, and a look at one that runs."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from reverse_etl.cli.screen import line
from reverse_etl.cli.session import REDACTOR, Session
from reverse_etl.cli.streams import secrets_in
from reverse_etl.config import files
from reverse_etl.config.daemon import DaemonFile
from reverse_etl.config.project import ProjectConfig
from reverse_etl.daemon.notebook import running_at
from reverse_etl.daemon.service import serve

PATIENCE_SECONDS = 5.0
UNWELL = 1


def tend(project: str | None) -> int:
    """Runs until SIGTERM or SIGINT, and returns the exit code."""
    return anyio.run(serve, _root(project), os.environ, _learn)


def tell_health(session: Session) -> int:
    """Asks the project's daemon how it is, as a container's health check does; 0 when it is well."""
    root = _root(session.where)
    address = running_at(root)
    if address is None:
        session.screen.show(line("no daemon of this project is running"))
        return UNWELL
    status, said = _asked(address, _settings(root))
    session.screen.show(line(f"the daemon at {address} says: {said}"))
    return 0 if status == http.client.OK else UNWELL


def _asked(address: str, settings: DaemonFile) -> tuple[int, str]:
    parts = urlsplit(address)
    headers = {"authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token is not None else {}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/healthz", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(1000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as failure:
        return 0, f"nothing ({failure or type(failure).__name__})"
    finally:
        connection.close()


def _settings(root: Path) -> DaemonFile:
    config, _ = files.load(root, os.environ, only=[], daemon=True)
    _learn(config)
    return config.daemon


def _root(project: str | None) -> Path:
    return files.find_root(Path.cwd(), os.environ, project=None if project is None else Path(project))


def _learn(config: ProjectConfig) -> None:
    REDACTOR.learn(secrets_in(config))
