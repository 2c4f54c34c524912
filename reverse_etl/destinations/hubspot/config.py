"""A HubSpot connection as it stands in reverse_etl.yml."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from reverse_etl.destinations.hubspot.paths import Version
from reverse_etl.settings import RateLimitConfig, Secret, Settings
from reverse_etl.urls import BaseUrl

WINDOW_SECONDS = 10.0  # HubSpot's own


class HubSpotConfig(Settings):
    """Settings of a `type: hubspot` destination."""

    type: Literal["hubspot"] = Field(description="which destination this is")
    access_token: Secret = Field(description="the token of a private app")
    base_url: BaseUrl = Field("https://api.hubapi.com", description="where HubSpot is; a test points it at a sandbox")
    api_version: Version = Field("2026-09", description="version of the API that is spoken")
    rate_limit: RateLimitConfig = Field(RateLimitConfig(), description="how much of the account's allowance is used")
    client_id: SecretStr | None = Field(None, description="not supported yet: OAuth, the app's id")
    client_secret: SecretStr | None = Field(None, description="not supported yet: OAuth, the app's secret")
    refresh_token: SecretStr | None = Field(None, description="not supported yet: OAuth, the consent that is kept")

    @field_validator("client_id", "client_secret", "refresh_token")
    @classmethod
    def _not_yet(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("is not supported yet: use access_token, the token of a private app")
        return value
