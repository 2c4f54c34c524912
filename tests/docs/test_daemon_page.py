"""docs/daemon.md is true: its metrics, its routes, its files and its way of signing."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from reverse_etl.clock import SYSTEM
from reverse_etl.config import files
from reverse_etl.config.alerts import EVENTS
from reverse_etl.daemon.routes import application
from reverse_etl.daemon.signature import checked
from tests.unit.daemon.desk import PROJECT, Desk

PAGE = (Path(__file__).parents[2] / "docs" / "daemon.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_metric_is_named_and_no_other(tmp_path: Path) -> None:
    families = Desk(tmp_path).metrics.registry.collect()
    there = {family.name for family in families if family.name.startswith("reverse_etl_")}
    table = PAGE.split("### Metrics")[1].split("## Alerts")[0]
    named = {name.replace("reverse_etl_", "") for name in re.findall(r"`(?:reverse_etl)?_([a-z_]+)`", table)}
    assert {name.removesuffix("_total") for name in named} == {name.removeprefix("reverse_etl_") for name in there}


def test_every_route_is_named_and_no_other(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    routes = application(desk.front(), desk.definitions.settings).routes
    there = {
        f"{method} {route.path.replace('{name}', 'NAME')}"
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert set(re.findall(r"`((?:GET|POST) /[^`]*)`", PAGE)) == there


def test_every_event_is_explained() -> None:
    table = PAGE.split("| event | when |")[1]
    assert tuple(re.findall(r"^\| `([a-z]+)` \|", table, re.MULTILINE)) == EVENTS


def test_the_alerts_shown_are_a_project_file(tmp_path: Path) -> None:
    _, shown = blocks("yaml")
    (tmp_path / "reverse_etl.yml").write_text(PROJECT + shown)
    env = {
        "SLACK_WEBHOOK": "https://hooks.slack.com/services/T/B/x",
        "HOOK_SECRET": "a-key-for-the-hook",
        "SMTP_PASSWORD": "hunter2",
    }
    config, _ = files.load(tmp_path, env, only=[], daemon=True)
    assert list(config.daemon.alerts) == ["ops", "pager", "mail"]


def test_the_workers_shown_are_a_project_file(tmp_path: Path) -> None:
    shown, _ = blocks("yaml")
    (tmp_path / "reverse_etl.yml").write_text(PROJECT + shown)
    config, _ = files.load(tmp_path, {"STATE_PASSWORD": "hunter2"}, only=[], daemon=True)
    assert (config.daemon.workers, config.daemon.runs) == ("queue", 4)


def test_the_request_shown_is_signed_right(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setenv("TRIGGER_SECRET", "a-key-that-nobody-guesses")
    monkeypatch.setattr(urllib.request, "urlopen", sent.append)
    (shown,) = blocks("python")
    exec(compile(shown, "docs/daemon.md", "exec"), {})  # noqa: S102  # our own page, word for word
    (request,) = sent
    headers = {name.lower(): value for name, value in request.header_items()}
    assert checked("a-key-that-nobody-guesses", headers, request.data, SYSTEM.now())[0] == headers["webhook-id"]
