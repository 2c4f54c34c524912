"""Who is told what about a sync: the channels of the project file, and each sync's own thresholds."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, model_validator

from reverse_etl.config.problems import SEVERAL, SHORT
from reverse_etl.config.schedule import parse_duration
from reverse_etl.config.words import FORM, Duration, Name, Strict
from reverse_etl.settings import Secret, Settings
from reverse_etl.urls import checked_webhook, is_loopback

Event = Literal["failed", "partial", "guarded", "recovered", "silent", "stuck", "quota"]
EVENTS: tuple[Event, ...] = ("failed", "partial", "guarded", "recovered", "silent", "stuck", "quota")


def _webhook(url: SecretStr) -> SecretStr:
    checked_webhook(url.get_secret_value())
    return url


Webhook = Annotated[SecretStr, AfterValidator(_webhook)]


class _Channel(Settings):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SlackChannel(_Channel):
    """An incoming webhook of Slack, or of a chat that takes the same message."""

    type: Literal["slack"] = Field(description="how it is sent")
    url: Webhook = Field(description="the webhook's address, a secret: https, and a public host")


class WebhookChannel(_Channel):
    """JSON to an address of your own, signed when there is a `secret`."""

    type: Literal["webhook"] = Field(description="how it is sent")
    url: Webhook = Field(description="where it is posted to: https, and a public host")
    secret: Secret | None = Field(None, description="key of the signature (HMAC-SHA256 over id.time.body)")


class EmailChannel(_Channel):
    """Mail through an SMTP server."""

    type: Literal["email"] = Field(description="how it is sent")
    host: str = Field(description="the SMTP server")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(None, description="587; 465 with `tls`, 25 with `none`")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="how the connection is protected; `none` only without a password, or on this machine"
    )
    username: str | None = Field(None, description="who logs in there; without it nobody does")
    password: SecretStr | None = Field(None, description="the password that goes with `username`")
    sender: str = Field(description="the address that mail comes from")
    to: Annotated[list[str], Field(min_length=1)] = Field(description="the addresses that it goes to")

    @model_validator(mode="after")
    def _protects_the_password(self) -> EmailChannel:
        if self.security == "none" and self.username is not None and not is_loopback(self.host):
            raise ValueError("a password needs a protected connection: `security` starttls or tls")
        return self


Channel = Annotated[SlackChannel | WebhookChannel | EmailChannel, Discriminator("type")]


class AlertsFile(Strict):
    """When somebody is told about a sync. Each change is told once, and once more when it is over."""

    to: (
        Annotated[
            Annotated[Name, Tag(SHORT)] | Annotated[list[Name], Field(min_length=1), Tag(SEVERAL)],
            FORM,
        ]
        | None
    ) = Field(None, description="the channel, or list of channels, of the project's daemon; all of them without it")
    events: list[Event] = Field(list(EVENTS), description="what is told; an empty list is nothing")
    failures: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="so many failed runs in a row are a failure")
    rejected: Annotated[int, Field(ge=1)] = Field(
        1, description="so many refused rows make a partial run worth telling"
    )
    silent_after: Duration = Field("1h", description="how long after a run was due without one that has ended")
    stuck_after: Duration = Field("1 day", description="how long a row may stand refused")


class AlertRules(BaseModel):
    """One sync's thresholds. `to` None: every channel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: tuple[str, ...] | None = None
    events: tuple[Event, ...] = EVENTS
    failures: int = 1
    rejected: int = 1
    silent_after: timedelta = timedelta(hours=1)
    stuck_after: timedelta = timedelta(days=1)


def alert_rules(written: AlertsFile) -> AlertRules:
    """The thresholds that a definition's `alerts` mean."""
    to = (written.to,) if isinstance(written.to, str) else written.to
    return AlertRules(
        to=None if to is None else tuple(to),
        events=tuple(written.events),
        failures=written.failures,
        rejected=written.rejected,
        silent_after=parse_duration(str(written.silent_after)) if written.silent_after else timedelta(),
        stuck_after=parse_duration(str(written.stuck_after)) if written.stuck_after else timedelta(),
    )
