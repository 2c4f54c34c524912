"""A project to begin with: it passes `check` as it lies, and its sync runs against the sandbox."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from reverse_etl.errors import ConfigError
from reverse_etl.model import Problem

# Where each template goes. The names differ where the real one would mean something to tools inside this package.
_PROJECT = {"reverse_etl.yml": "reverse_etl.yml", "example.yml": "syncs/example.yml"}
_COMPANIONS = {"gitignore": ".gitignore", "env.example": ".env.example", "README.md": "README.md"}


def init(directory: Path) -> list[Path]:
    """Writes the project's files and returns them in order. Raises ConfigError when it would overwrite one.

    A README, .gitignore or .env.example that is there already belongs to the repository around the project: it stays,
    and is not among the files returned.
    """
    taken = [place for place in _PROJECT.values() if _is_there(directory / place)]
    if taken:
        problems = [
            Problem(place, 0, 0, "", "this file is there already; init never overwrites one") for place in taken
        ]
        raise ConfigError(problems, hint="choose an empty folder: `reverse-etl init DIR`")
    written = []
    try:
        for template, place in (_PROJECT | _COMPANIONS).items():
            if not _is_there(directory / place):
                written.append(_write(template, directory / place))
    except OSError as failure:
        problem = Problem(str(failure.filename or directory), 0, 0, "", f"can't be written: {failure.strerror}")
        raise ConfigError([problem], hint="choose a folder you may write to: `reverse-etl init DIR`") from failure
    return written


def _write(template: str, path: Path) -> Path:
    text = files("reverse_etl.config").joinpath("templates", template).read_text(encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
    return path


def _is_there(path: Path) -> bool:
    """Also a link that leads nowhere: writing would follow it."""
    return path.exists() or path.is_symlink()
