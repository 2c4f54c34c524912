"""The daemon in the foreground, and a look at one that runs."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

import anyio

from reverse_etl.cli.edge import refuse
from reverse_etl.cli.screen import line
from reverse_etl.cli.session import Session
from reverse_etl.clock import SYSTEM
from reverse_etl.config import files
from reverse_etl.config.alerts import Channel
from reverse_etl.config.daemon import DaemonFile
from reverse_etl.daemon import channels
from reverse_etl.daemon.alerts import Alert
from reverse_etl.daemon.notebook import running_at
from reverse_etl.daemon.service import serve

PATIENCE_SECONDS = 5.0
UNWELL = 1


def tend(project: str | None) -> int:
    """Runs until SIGTERM or SIGINT, and returns the exit code."""
    os.umask(0o077)
    return anyio.run(serve, _root(project), os.environ)


def work(project: str | None, listen: str | None) -> int:
    """Carries out runs from the queue until SIGTERM or SIGINT, and returns the exit code."""
    try:
        from reverse_etl.daemon import worker
    except ModuleNotFoundError as missing:
        refuse(f"workers need {missing.name}: pip install 'reverse-etl[workers]'")
    os.umask(0o077)
    return anyio.run(worker.work, _root(project), os.environ, listen)


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


def send_test(session: Session, channel: str) -> int:
    """A message that says it is a test, to one channel or to `all`; 0 when it has arrived everywhere."""
    settings = _settings(_root(session.where))
    if channel != "all" and channel not in settings.alerts:
        refuse(f"daemon.alerts has no channel {channel!r}; it has {', '.join(settings.alerts) or 'none'}")
    names = list(settings.alerts) if channel == "all" else [channel]
    outcomes = [(name, _tested(settings.alerts[name])) for name in names]
    session.screen.show(*(line(f"{name}: {said or 'the message was taken'}") for name, said in outcomes))
    return UNWELL if any(said for _, said in outcomes) else 0


def _tested(channel: Channel) -> str | None:
    """Why a test message did not arrive; None when it has."""
    now = SYSTEM.now()
    text = "this is a test message of reverse-etl: alerts about your syncs arrive here"
    try:
        channels.send(channel, [Alert("test", "test", now, text)], f"test-{token_hex(12)}", now)
    except channels.Undelivered as failure:
        return str(failure)
    return None


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
    return config.daemon


def _root(project: str | None) -> Path:
    return files.find_root(Path.cwd(), os.environ, project=None if project is None else Path(project))
