"""Where the story plays: a fresh folder with a copy of the repository's own project, and nothing but this machine."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from reverse_etl import urls
from reverse_etl.errors import ConfigError
from reverse_etl.model import Problem

if TYPE_CHECKING:
    from reverse_etl.project import Project

CREDENTIALS = {
    "HUBSPOT_ACCESS_TOKEN": "sandbox-token",
    "SALESFORCE_CLIENT_ID": "sandbox",
    "SALESFORCE_CLIENT_SECRET": "sandbox-secret",
}


def copy_project(folder: Path) -> None:
    """Copies reverse_etl.yml and syncs/ into an empty or new folder; ConfigError for any other."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError([Problem(str(folder), 0, 0, "", "the demo needs a new or empty folder")])
    source = _project_files()
    try:
        shutil.copytree(source / "syncs", folder / "syncs", dirs_exist_ok=True)
        shutil.copyfile(source / "reverse_etl.yml", folder / "reverse_etl.yml")
    except OSError as failure:
        raise ConfigError([Problem(str(folder), 0, 0, "", f"can't be written: {failure.strerror}")]) from failure


def environment(url: str) -> dict[str, str]:
    """All that the copied project may know of the outside: the sandbox. The caller's own variables stay out."""
    return {**CREDENTIALS, "HUBSPOT_BASE_URL": url, "SALESFORCE_LOGIN_URL": url}


def refuse_strangers(project: Project) -> None:
    """ConfigError for a destination with any address that isn't on this machine."""
    for name, config in project.config.destinations.items():
        for setting, value in config:
            host = _host(value)
            if host is not None and not urls.is_loopback(host):
                said = f"{name}.{setting} isn't on this machine, and the demo sends to nothing else"
                raise ConfigError([Problem("reverse_etl.yml", 0, 0, str(value), said)])


def _host(value: object) -> str | None:
    text = str(value)
    if not text.startswith(("http://", "https://")):
        return None
    return text.partition("://")[2].partition("/")[0].rpartition("@")[2].rsplit(":", 1)[0].strip("[]")


def _project_files() -> Path:
    """Beside this module in an installed package; at the root of the repository in a checkout."""
    packed = Path(str(files("reverse_etl.demo"))) / "project"
    return packed if packed.is_dir() else Path(__file__).parents[2]
