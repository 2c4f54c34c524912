"""S5: secrets of every kind, every command, everything that can fail, the loudest log; then every byte is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import typer.main
import yaml
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from reverse_etl import Project
from reverse_etl.cli.app import app
from reverse_etl.clock import SYSTEM
from reverse_etl.daemon.signature import signed
from reverse_etl.destinations.hubspot import auth
from reverse_etl.redaction import SECRETS
from tests.sandbox.scene import LEADS, PEOPLE, TOKEN, Scene, scene_in
from tests.sandbox.test_daemon import started
from tests.security.echoing import ROTATED, SESSION, echoing, found

KEY = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
)
# By the variable that holds it; every one has characters that change when it is quoted or encoded.
CANARIES = {
    "ACCESS_TOKEN": "cAnary-access/of+a=token-11",
    "REFUSED_TOKEN": "cAnary-refused/of+a=token-12",
    "CLIENT_SECRET": "cAnary-client/of+a=secret-21",
    "REFRESH_TOKEN": "cAnary-refresh/of+a=token-31",
    "DATABASE_PASSWORD": "cAnary-database-password-41",
    "STATE_KEY": Fernet.generate_key().decode(),
    "DAEMON_TOKEN": "cAnary-daemon/of+a=token-61",
    "TRIGGER_SECRET": "cAnary-trigger/of+a=secret-62",
    "HOOK_SECRET": "cAnary-hook/of+a=secret-63",
    "HOOK_PATH": "cAnary-hook-path-64",
    "SMTP_PASSWORD": "cAnary-smtp/of+a=password-65",
}
SECRETS_OF_ALL = {
    **CANARIES,
    "SESSION": SESSION,
    "ROTATED": ROTATED,
    **{f"PRIVATE_KEY line {at}": line for at, line in enumerate(KEY.splitlines()[1:-1]) if len(line) > 40},
}
SYNCS: dict[str, dict[str, Any]] = {
    "good": PEOPLE,
    "refused": {**PEOPLE, "destination": "refused"},
    "repeated": {**PEOPLE, "destination": "repeating"},
    "consent": {**PEOPLE, "destination": "consented"},
    "echoed_consent": {**PEOPLE, "destination": "echoed"},
    "login": {
        **LEADS,
        "source": "warehouse",
        "query": "select email as id, first_name as name, 'x' as company, email from people",
        "destination": "login",
    },
    "certificate": {
        **LEADS,
        "query": "select email as id, first_name as name, 'x' as company, email from people",
        "destination": "certificate",
    },
    "nowhere": {**PEOPLE, "source": "database"},
    "bad_sql": {**PEOPLE, "query": "select nosuch from people"},
}
# What each command is called with. A new command must come here.
CALLS: dict[str, list[list[str]]] = {
    "demo": [["demo", "."]],
    "init": [["init", "."]],
    "check": [["check", "--connect"], ["check", "nosuch"]],
    "sync": [["sync"], ["sync", "good", "--dry-run", "--live"], ["sync", "--limit", "x"]],
    "status": [["status"]],
    "runs": [["runs"], ["runs", "repeated"]],
    "show": [["show", "RUN_ID"], ["show", "nosuch"]],
    "rejected": [["rejected", "repeated"], ["rejected", "repeated", "--retry"]],
    "explain": [["explain", "repeated", "ada@x.example"]],
    "reset": [["reset", "good"], ["reset", "good", "--yes"]],
    "forget": [["forget", "good", "ada@x.example"]],
    "fields": [
        ["fields", "refused", "contacts"],
        ["fields", "repeating", "contacts"],
        ["fields", "refused", "--create"],
        ["fields", "consented", "contacts"],
        ["fields", "login", "Lead"],
    ],
    "daemon": [["daemon", "--health"], ["daemon", "--test-alert", "all"]],
    "worker": [["worker"]],
    "sandbox": [["sandbox", "--rate", "none"]],
    "schema": [["schema"]],
    "state verify": [["state", "verify"]],
    "state backup": [["state", "backup", "kept.tar"]],
    "state restore": [["state", "restore", "kept.tar"], ["state", "restore", "reverse_etl.yml", "--yes"]],
}


def commands(group: click.Group | None = None, path: str = "") -> dict[str, click.Command]:
    """Every command there is, those of groups by both words."""
    group = group or typer.main.get_command(app)  # type: ignore[assignment]
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():  # type: ignore[union-attr]
        inner = getattr(command, "commands", None)
        found |= commands(command, f"{name} ") if inner else {f"{path}{name}": command}  # type: ignore[arg-type]
    return found


@dataclass
class Stage:
    scene: Scene
    echo: str
    said: dict[str, str] = field(default_factory=dict)  # all that was printed, by what was called

    def prepare(self) -> None:
        echo, sandbox = self.echo, self.scene.sandbox.url
        consent = {"type": "hubspot", "client_secret": "${CLIENT_SECRET}", "refresh_token": "${REFRESH_TOKEN}"}
        lead = {"type": "salesforce", "login_url": echo}
        document = {
            "sources": {
                "warehouse": {"url": "duckdb:///warehouse.duckdb"},
                "database": {"url": "postgresql+psycopg://me:${DATABASE_PASSWORD}@127.0.0.1:1/x?connect_timeout=1"},
            },
            "destinations": {
                "hubspot": {"type": "hubspot", "access_token": "${SANDBOX_TOKEN}", "base_url": sandbox},
                "refused": {"type": "hubspot", "access_token": "${REFUSED_TOKEN}", "base_url": sandbox},
                "repeating": {"type": "hubspot", "access_token": "${ACCESS_TOKEN}", "base_url": echo},
                "consented": {**consent, "client_id": "app", "base_url": echo},
                "echoed": {**consent, "client_id": "echo", "base_url": echo},
                "login": {
                    **lead,
                    "auth": {"flow": "client_credentials", "client_id": "app", "client_secret": "${CLIENT_SECRET}"},
                },
                "certificate": {
                    **lead,
                    "auth": {"flow": "jwt", "client_id": "app", "username": "me", "private_key": "${PRIVATE_KEY}"},
                },
            },
            "state": {"encryption_key": "${STATE_KEY}"},
            "daemon": {
                "listen": "127.0.0.1:0",
                "token": "${DAEMON_TOKEN}",
                "trigger_secret": "${TRIGGER_SECRET}",
                "alerts": {
                    "chat": {"type": "slack", "url": f"{echo}/${{HOOK_PATH}}"},
                    "hook": {"type": "webhook", "url": f"{echo}/hook", "secret": "${HOOK_SECRET}"},
                    "mail": {
                        "type": "email", "host": "127.0.0.1", "port": 1, "security": "none", "username": "me",
                        "password": "${SMTP_PASSWORD}", "sender": "a@x.example", "to": ["b@x.example"],
                    },
                },
            },
        }  # fmt: skip
        self.scene.write("reverse_etl.yml", yaml.safe_dump(document, sort_keys=False))
        self.scene.people(("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2))
        for name, sync in SYNCS.items():
            self.scene.define(sync, name)

    @property
    def variables(self) -> dict[str, str]:
        return {**CANARIES, "PRIVATE_KEY": KEY.replace("\n", "\\n"), "SANDBOX_TOKEN": TOKEN}

    def call(self, *arguments: str) -> None:
        """One command as a process would begin: it knows of no secret, and has no session."""
        SECRETS.forget()
        auth._grants.clear()
        ended = self.scene.cli(*arguments, **self.variables)
        self.said[" ".join(arguments)] = ended.stdout + ended.stderr

    def run_id(self) -> str:
        runs = Project.load(self.scene.folder, env=self.variables, only=[]).runs("repeated")
        return runs[0].run_id if runs else "nosuch"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with scene_in(tmp_path) as scene, echoing(scene.sandbox.url, TOKEN) as echo:
        ready = Stage(scene, echo)
        ready.prepare()
        yield ready


def written_under(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file there, names too."""
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)), str(path).encode() + (path.read_bytes() if path.is_file() else b"")


@pytest.mark.timeout(400)  # some forty commands: ten seconds on a quiet machine
def test_S05_no_command_shows_or_writes_a_secret_whatever_goes_wrong(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = commands()
    assert set(known) == set(CALLS), "a command that this test doesn't call, or one that is gone"
    for number, (name, calls) in enumerate(CALLS.items()):
        takes = {option for parameter in known[name].params for option in parameter.opts}
        form = "json" if number % 2 else "text"
        loud = ["--log-level=debug", f"--log-format={form}"] if "--log-level" in takes else []
        for arguments in calls:
            words = [stage.run_id() if word == "RUN_ID" else word for word in arguments]
            stage.call(*words, *loud)
            if "--json" in takes:
                stage.call(*words, *loud, "--json")

    def broken(self: Project, *_: object, **__: object) -> None:
        raise ValueError(f"a bug that knows {CANARIES['DATABASE_PASSWORD']}")

    monkeypatch.setattr(Project, "runs", broken)
    stage.call("runs", "nowhere", "--log-level=debug")
    stage.call("runs", "nowhere", "--json")

    leaks = {said: secrets for said, text in stage.said.items() if (secrets := found(SECRETS_OF_ALL, text.encode()))}
    leaks |= {
        path: secrets
        for path, content in written_under(stage.scene.folder)
        if (secrets := found(SECRETS_OF_ALL, content))
    }
    assert leaks == {}
    ran = next(text for said, text in stage.said.items() if said.startswith("sync --log-level"))
    assert any("********" in text for said, text in stage.said.items() if said.startswith("rejected repeated")), ran
    assert any(path.name.startswith("bug-") for path in (stage.scene.folder / ".reverse_etl").iterdir())


@pytest.mark.timeout(400)
def test_S05_a_daemon_shows_no_secret_in_its_log_pages_and_alerts(stage: Stage) -> None:
    """Runs that fail and repeat secrets, every page with and without the token, alerts that aren't taken."""
    for name in set(SYNCS) - {"repeated", "consent", "nowhere"}:
        (stage.scene.folder / f"syncs/{name}.yml").unlink()
    for name in ("repeated", "consent", "nowhere"):
        stage.scene.define(SYNCS[name], name, schedule="every 1 hour")
    with started(stage.scene, "--log-level", "debug", **stage.variables) as daemon:
        daemon.until_said("repeated: partial")
        daemon.until_said("consent: partial")
        daemon.until_said("nowhere: failed")
        url = next(line["url"] for line in daemon.lines() if "url" in line)
        pages = [
            httpx.get(url + path, headers={"authorization": f"Bearer {token}"}).content
            for path in ("/healthz", "/readyz", "/metrics", "/status")
            for token in (CANARIES["DAEMON_TOKEN"], "wrong")
        ]
        headers = signed("another-key-than-that-one", "request-1", SYSTEM.now(), b"")
        pages.append(httpx.post(f"{url}/syncs/repeated/run", headers=headers).content)
        assert b"repeated" in b"".join(pages)
        daemon.until_said("an alert could not be sent to")
        daemon.terminate()
    leaks = {str(number): secrets for number, page in enumerate(pages) if (secrets := found(SECRETS_OF_ALL, page))}
    leaks |= {
        path: secrets
        for path, content in written_under(stage.scene.folder)
        if (secrets := found(SECRETS_OF_ALL, content))
    }
    assert leaks == {}
