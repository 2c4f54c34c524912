"""Every exception of the project, named by what the program does next.

    ReverseEtlError
    ├── ConfigError          all problems at once, each with its place            exit 2
    ├── SourceError          the run fails; cursor and snapshot stay              exit 1
    ├── DestinationError     the run fails                                        exit 1
    │   ├── AuthError        stop the run, name the connection, don't retry
    │   ├── Throttled        wait, send again
    │   ├── DailyLimit       end the run cleanly, rows stay pending               exit 3
    │   ├── Unavailable      surely not carried out: back off, send again
    │   ├── InDoubt          perhaps carried out: send again if repeating is harmless
    │   └── BatchRefused     the request as a whole: halve it until the guilty rows stand alone
    ├── StateError           stop at once, leave the files alone                  exit 6
    │   └── LeaseLost        another run holds the sync now: send and commit nothing more
    ├── DiskFull             send nothing more: it could not be recorded          exit 1
    ├── SyncBusy             another run holds the sync: skipped                  exit 5
    ├── GuardTripped         stopped before the first write                       exit 4
    ├── Interrupted          asked to stop; what was in flight is recorded        exit 130/143
    └── PluginError          a connector broke its protocol                       exit 1

`code` is stable and documented in docs/errors.md; `message` says what happened and to what; `hint` is the
user's next step. No message ever holds a secret. Others' words within it, as `said`, may repeat values of rows: people
who ask are shown them, logs and alerts leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverse_etl.model import Problem
    from reverse_etl.verdicts import Outcomes


class ReverseEtlError(Exception):
    """The root: everything the project raises on purpose."""

    code: str = "error"
    exit_code: int = 1
    doubtful = False  # an earlier try of the call that failed may have been carried out
    answered: Outcomes | None = None  # of a failed call: verdicts of rows that were settled before

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, said: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.said = said
        if code is not None:
            self.code = code


class ConfigError(ReverseEtlError):
    """The project's files, or what they ask for, can't be used; nothing has been contacted or written."""

    code = "config"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem], *, hint: str | None = None) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems), hint=hint)


class SourceError(ReverseEtlError):
    """The warehouse could not be read whole; nothing was sent and no state moved."""

    code = "source"


class DestinationError(ReverseEtlError):
    """The destination could not be used; what it acknowledged before is recorded, the rest is pending.

    `retry_after` is how many seconds the destination asked us to wait, None when it didn't say. Where some rows are
    `answered`, what was asked for the others was surely not carried out, or is remembered. `tries`: how often such a
    call is worth making in all, None where the usual number is.
    """

    code = "destination"
    tries: int | None = None

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        said: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code, said=said)
        self.retry_after = retry_after
        self.status = status
        self.request_id = request_id


class AuthError(DestinationError):
    """The credential was refused or lacks a permission; sending again can't help."""

    code = "destination_credential"


class Throttled(DestinationError):
    """Too many calls."""

    code = "destination_throttled"


class DailyLimit(DestinationError):
    """The allowance of the day is used up: waiting inside this run is pointless."""

    code = "daily_limit"


class Unavailable(DestinationError):
    """The request was surely not carried out (connection refused, the destination's own word that it is down)."""

    code = "destination_unavailable"


class InDoubt(DestinationError):
    """The request may have been carried out (cut, timed out, a gateway's 5xx, an unreadable answer)."""

    code = "destination_in_doubt"


class BatchRefused(DestinationError):
    """The destination refused a request as a whole because of rows in it, without saying which."""

    code = "destination_refused"


class StateError(ReverseEtlError):
    """What the project remembers is missing, damaged, newer than this release or of another target."""

    code = "state_unusable"
    exit_code = 6


class LeaseLost(StateError):
    """This run was cut off from the store for so long that another one may hold the sync."""

    code = "lease_lost"


class DiskFull(ReverseEtlError):
    """What would be sent next could not be recorded; what was sent before is."""

    code = "disk"


class SyncBusy(ReverseEtlError):
    """Another run holds the sync."""

    code = "busy"
    exit_code = 5


class GuardTripped(ReverseEtlError):
    """A wave larger than the guard allows; nothing was written."""

    code = "guard"
    exit_code = 4

    def __init__(self, message: str, *, plan_id: str, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.plan_id = plan_id


class Interrupted(ReverseEtlError):
    """The run was asked to stop; everything answered by then is recorded."""

    code = "interrupted"
    exit_code = 130

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 130) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class PluginError(ReverseEtlError):
    """A connector broke its protocol: a bug of ours or of its author."""

    code = "plugin"
