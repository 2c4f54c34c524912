"""A HubSpot connection as it stands in reverse_etl.yml."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from reverse_etl.destinations.hubspot.paths import Version
from reverse_etl.urls import BaseUrl

_DURATION = re.compile(r"(\d+)\s*(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_SHARE = re.compile(r"(\d{1,2}(?:\.\d+)?)\s*%")
WINDOW_SECONDS = 10.0  # HubSpot's own


def _seconds(value: Any) -> float:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise ValueError("should be a duration such as 10s or 1m")
    return int(found[1]) * _SECONDS[found[2]]


def _share(value: Any) -> float:
    found = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("should be a share such as 10%")
    return float(found[1]) / 100


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("should be a token as HubSpot shows it, without blanks or line breaks")
    return secret


class RateLimitConfig(BaseModel):
    """An upper bound of the user's own, and the share of the allowance that is left to other programs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = Field(
        None, description="at most this many calls in any `per`; without it, what HubSpot's headers allow"
    )
    per: Annotated[float, BeforeValidator(_seconds, json_schema_input_type=str)] = Field(
        WINDOW_SECONDS, description="a duration such as `10s`"
    )
    reserve: Annotated[float, BeforeValidator(_share, json_schema_input_type=str)] = Field(
        0.0, description="the share of the allowance that is left to others, such as `10%`"
    )

    def window(self) -> tuple[int | None, float]:
        """Requests and seconds of a window no longer than HubSpot's: a longer one would let bursts through."""
        if self.requests is None:
            return None, WINDOW_SECONDS
        if self.per <= WINDOW_SECONDS:
            return self.requests, self.per
        if (scaled := int(self.requests * WINDOW_SECONDS / self.per)) >= 1:
            return scaled, WINDOW_SECONDS
        return 1, self.per / self.requests


class HubSpotConfig(BaseModel):
    """Settings of a `type: hubspot` destination."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["hubspot"] = Field(description="which destination this is")
    access_token: Annotated[SecretStr, AfterValidator(_token)] = Field(description="the token of a private app")
    base_url: BaseUrl = Field("https://api.hubapi.com", description="where HubSpot is; a test points it at a sandbox")
    api_version: Version = Field("2026-09", description="version of the API that is spoken")
    rate_limit: RateLimitConfig | None = Field(None, description="how much of the account's allowance is used")
    client_id: SecretStr | None = Field(None, description="not supported yet: OAuth, the app's id")
    client_secret: SecretStr | None = Field(None, description="not supported yet: OAuth, the app's secret")
    refresh_token: SecretStr | None = Field(None, description="not supported yet: OAuth, the consent that is kept")

    @field_validator("client_id", "client_secret", "refresh_token")
    @classmethod
    def _not_yet(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("is not supported yet: use access_token, the token of a private app")
        return value
