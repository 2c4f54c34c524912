"""Where the program meets its caller: arguments in, one exit code out, and no traceback ever."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import FrameType
from typing import Any, NoReturn

import typer

from reverse_etl.cli import render
from reverse_etl.cli.details import write_details
from reverse_etl.cli.screen import Block, PlainScreen, line
from reverse_etl.cli.session import print_json
from reverse_etl.cli.streams import guard_standard_streams
from reverse_etl.errors import ConfigError, ReverseEtlError
from reverse_etl.redaction import SECRETS

USAGE, BUG, INTERRUPTED, TERMINATED = 2, 1, 130, 143

# Newer releases of typer carry click inside, older ones depend on it: this finds the class in both.
_CommandLineProblem: type[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


class Refused(Exception):
    """The command line asks for something that it can't have."""


class _Termination:
    """Turns SIGTERM into the interrupt that a run already knows how to end on, and remembers that it was SIGTERM."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        # A shell starts background jobs with SIGINT ignored; ending cleanly on SIGTERM still needs it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.raise_signal(signal.SIGINT)


def run(command: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Runs the command line and returns the exit code; everything that went wrong has been said."""
    guard_standard_streams(SECRETS)
    termination = _Termination()
    termination.listen()
    wants_json = "--json" in _options(arguments)
    try:
        code = command(args=list(arguments) or ["--help"], prog_name="reverse-etl", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
        _say_interrupted(wants_json)
    except ConfigError as failure:
        code = _say_problems(failure, wants_json)
    except ReverseEtlError as failure:
        code = failure.exit_code
        _say(failure.code, failure.message, failure.hint, wants_json)
    except Refused as refusal:
        code = _say_usage(str(refusal), None, wants_json)
    except _CommandLineProblem as problem:
        context = getattr(problem, "ctx", None)
        message = problem.format_message().replace("Value error, ", "")  # how a newer typer begins them
        code = _say_usage(message, f"{context.command_path} --help" if context else None, wants_json)
    except Exception as failure:
        code = BUG
        _say_bug(failure, arguments, wants_json)
    code = code if isinstance(code, int) else 0
    return TERMINATED if code == INTERRUPTED and termination.asked else code


def refuse(message: str) -> NoReturn:
    """Ends the command as wrong usage."""
    raise Refused(message)


def confirm(question: str, *, instead: str) -> bool:
    """Asks on a terminal; elsewhere the flag `instead` must have been given."""
    if not sys.stdin.isatty():
        refuse(f"this needs {instead} when nobody can be asked")
    return typer.confirm(question, err=True)


def _options(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _say_problems(failure: ConfigError, wants_json: bool) -> int:
    if wants_json:
        print_json({"runs": [], "problems": [problem.to_json() for problem in failure.problems]})
    else:
        hint = [] if failure.hint is None else render.hint(failure.hint)
        _complain(*render.problems(failure.problems), *hint)
    return failure.exit_code


def _say_usage(message: str, advice: str | None, wants_json: bool) -> int:
    if wants_json:
        problem = {"file": "", "line": 0, "column": 0, "text": "", "message": message, "nearest": None}
        print_json({"runs": [], "problems": [problem]})
    else:
        _complain(*render.error("usage", message, advice))
    return USAGE


def _say_interrupted(wants_json: bool) -> None:
    _say("interrupted", "interrupted; what was answered is recorded, and the next run goes on", None, wants_json)


def _say_bug(failure: Exception, arguments: Sequence[str], wants_json: bool) -> None:
    if (_given(arguments, "--log-level", "REVERSE_ETL_LOG_LEVEL") or "").lower() == "debug":
        _complain(*map(line, "".join(traceback.format_tb(failure.__traceback__)).splitlines()))
    details = "".join(traceback.format_exception(failure))
    project = _given(arguments, "--project", "REVERSE_ETL_PROJECT")
    place = f"the details are in {write_details(details, project)}"
    _say("bug", f"this is a bug in reverse-etl: {type(failure).__name__}; {place}", "please report it", wants_json)


def _given(arguments: Sequence[str], option: str, variable: str) -> str | None:
    """An option's value, read without the parser: what broke may be the parser."""
    for word, following in pairwise([*_options(arguments), ""]):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return os.environ.get(variable)


def _say(code: str, message: str, hint: str | None, wants_json: bool) -> None:
    if wants_json:
        print_json({"runs": [], "error": {"code": code, "message": message, "hint": hint}})
    else:
        _complain(*render.error(code, message, hint))


def _complain(*blocks: Block) -> None:
    PlainScreen(sys.stderr).show(*blocks)
