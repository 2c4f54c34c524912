"""A HubSpot connection as it stands in reverse_etl.yml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from reverse_etl.destinations.hubspot.paths import Version
from reverse_etl.settings import RateLimitConfig, Seconds, Secret, Settings
from reverse_etl.urls import BaseUrl

WINDOW_SECONDS = 10.0  # HubSpot's own
OAUTH = ("client_id", "client_secret", "refresh_token")


@dataclass(frozen=True)
class OAuthApp:
    """An app, and the consent of the account that installed it."""

    client_id: str
    client_secret: SecretStr
    refresh_token: SecretStr


class HubSpotConfig(Settings):
    """Settings of a `type: hubspot` destination."""

    type: Literal["hubspot"] = Field(description="which destination this is")
    access_token: Secret | None = Field(None, description="the token of a private app; without it, OAuth")
    client_id: Annotated[str, Field(min_length=1)] | None = Field(None, description="OAuth: the app's id")
    client_secret: Secret | None = Field(None, description="OAuth: the app's secret")
    refresh_token: Secret | None = Field(
        None, description="OAuth: the consent of the account; a newer one that HubSpot gives out is remembered"
    )
    base_url: BaseUrl = Field("https://api.hubapi.com", description="where HubSpot is; a test points it at a sandbox")
    api_version: Version = Field("2026-09", description="version of the API that is spoken")
    rate_limit: RateLimitConfig = Field(RateLimitConfig(), description="how much of the account's allowance is used")
    patience: Seconds = Field(
        600.0, description="how long a run waits for a HubSpot that has stopped answering, `10m` by default"
    )
    bulk_from: Literal["never"] | None = Field(
        None, description="there is no second way of writing here: HubSpot's imports tell no verdict for each row"
    )

    @field_validator("bulk_from", mode="before")
    @classmethod
    def no_imports(cls, written: object) -> object:
        if written not in (None, "never"):
            raise ValueError(
                "HubSpot's imports don't say for each row what became of it, so every row goes by batch calls: "
                "leave bulk_from out"
            )
        return written

    @model_validator(mode="after")
    def one_way_in(self) -> HubSpotConfig:
        given = [name for name in OAUTH if getattr(self, name) is not None]
        if self.access_token is not None and given:
            raise ValueError(f"takes access_token or {_listed(OAUTH)}, not both: leave {_listed(given)} out")
        if self.access_token is None and len(given) < len(OAUTH):
            missing = [name for name in OAUTH if name not in given]
            wanted = f"{_listed(missing)} beside {_listed(given)}" if given else f"access_token, or {_listed(OAUTH)}"
            raise ValueError(f"needs {wanted}")
        return self

    @property
    def oauth(self) -> OAuthApp | None:
        """The app and its consent, None for a connection with a static token."""
        if self.client_id is None or self.client_secret is None or self.refresh_token is None:
            return None
        return OAuthApp(self.client_id, self.client_secret, self.refresh_token)

    @property
    def token(self) -> SecretStr:
        """The static token, empty for an OAuth app."""
        return self.access_token or SecretStr("")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
