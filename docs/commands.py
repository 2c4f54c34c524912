"""The reference of commands, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import typer.main

from reverse_etl.cli.app import app

COMMON = ("project", "log_level", "log_format")

HEAD = """\
# Commands

Written by `make reference` from the commands themselves; change them in `reverse_etl/cli/app.py`.

A terminal gets colours, tables and progress, a pipe plain lines, `--json` exactly one JSON document on stdout. The log
goes to stderr. Flags beat the environment, the environment beats the files. `NO_COLOR` is heeded, and
`REVERSE_ETL_STATE_URL` overrides `state.url`.

## Exit codes

Of several the gravest is given: 2, 6, 130 or 143, 1, 4, 3, 5, 0.

| code | means |
| --- | --- |
| 0 | all well |
| 1 | a run failed: warehouse, destination, credential; or a bug |
| 2 | bad usage or configuration; nothing was contacted |
| 3 | finished, but rows stand rejected, invalid or in doubt |
| 4 | a guard stopped it before its first write |
| 5 | every run was skipped because another holds the sync |
| 6 | the state can't be used |
| 130, 143 | interrupted; the state is consistent and the next run goes on |

"""


def page() -> str:
    """The whole page, as it should lie in docs/reference/commands.md."""
    commands = [*_commands(typer.main.get_command(app))]
    shared = {param.name: param for _, command in commands for param in command.params if param.name in COMMON}
    parts = [
        HEAD,
        "## Options of every command\n\nWhere they make sense.\n\n",
        _table([shared[name] for name in COMMON]),
    ]
    parts += [_section(name, command) for name, command in commands]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of a group in its place."""
    for command in group.commands.values():
        name = f"{before}{command.name}"
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} ")
        elif not command.hidden:
            yield name, command


def _section(name: str, command: Any) -> str:
    own = [param for param in command.params if param.name not in COMMON]
    arguments = "".join(f" {_argument(param)}" for param in own if param.param_type_name == "argument")
    usage = f"    reverse-etl {name}{arguments}{' [OPTIONS]' if command.params else ''}\n"
    return f"## {name}\n\n{command.help}\n\n{usage}\n{_table(own)}"


def _argument(param: Any) -> str:
    name = (param.metavar or param.name.upper()).strip("[]")
    name += "..." if param.nargs == -1 else ""
    return name if param.required else f"[{name}]"


def _table(params: list[Any]) -> str:
    if not params:
        return ""
    rows = "".join(f"| {_spelled(param)} | {_explained(param)} |\n" for param in params)
    return f"| | |\n| --- | --- |\n{rows}"


def _spelled(param: Any) -> str:
    if param.param_type_name == "argument":
        return f"`{_argument(param)}`".replace("|", "\\|")
    takes = "" if param.is_flag else f" {param.metavar or _choices(param)}"
    return f"`{param.opts[0]}{takes}`".replace("|", "\\|")


def _choices(param: Any) -> str:
    return "|".join(type(param.default)) if isinstance(param.default, StrEnum) else "VALUE"


def _explained(param: Any) -> str:
    said = param.help or ""
    if isinstance(param.default, str | int) and not isinstance(param.default, bool):
        said += f" Default: `{param.default}`."
    if param.envvar:
        said += f" Environment: `{param.envvar}`."
    return said
