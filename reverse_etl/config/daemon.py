"""The `daemon` section of the project file."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from reverse_etl.config.alerts import Channel
from reverse_etl.config.words import Name
from reverse_etl.settings import Seconds, Secret, Settings
from reverse_etl.urls import is_loopback

_LISTEN = re.compile(r"(\[[0-9a-f:.]+\]|[0-9.]+|localhost):(\d{1,5})", re.IGNORECASE)
_LEAST_KEY = 16  # characters: shorter ones can be guessed


def listening(written: str) -> str:
    """An address and a port. Raises ValueError."""
    found = _LISTEN.fullmatch(written)
    try:
        if found is None or int(found[2]) > 65535:
            raise ValueError
        if found[1].lower() != "localhost":
            ip_address(found[1].strip("[]"))
    except ValueError:
        raise ValueError("should be an address of this machine and a port, such as 127.0.0.1:8780") from None
    return written


def _long_enough(secret: Secret) -> Secret:
    if len(secret.get_secret_value()) < _LEAST_KEY:
        raise ValueError(f"should have at least {_LEAST_KEY} characters: shorter ones can be guessed")
    return secret


Key = Annotated[Secret, AfterValidator(_long_enough)]


class DaemonFile(Settings):
    """The daemon of a project: `reverse-etl daemon`. Only `runs` and `alerts` can be changed while it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    listen: Annotated[str, AfterValidator(listening)] = Field(
        "127.0.0.1:8780", description="where it answers; any address but this machine's own needs a `token`"
    )
    allowed_hosts: list[str] = Field(
        [], description="names by which it may be called, beside the address it listens on and localhost"
    )
    token: Key | None = Field(None, description="whoever looks must send `Authorization: Bearer` and this")
    trigger_secret: Key | None = Field(None, description="key that requests to run a sync are signed with")
    runs: Annotated[int, Field(ge=1, le=64)] = Field(4, description="how many syncs may run at the same time")
    workers: Literal["here", "queue"] = Field(
        "here",
        description="who runs what is due: this process, or `reverse-etl worker` processes (state in PostgreSQL)",
    )
    drain: Seconds = Field("20s", validate_default=True, description="how long runs may go on after SIGTERM")
    alerts: dict[Name, Channel] = Field({}, description="channels that alerts go to, by name; each has a `type`")

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]").lower()

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def only_here(self) -> bool:
        """Whether nobody but this machine can reach it."""
        return is_loopback(self.host)
