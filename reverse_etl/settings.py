"""Types for a connector's settings in reverse_etl.yml: what every connection may have in common.

A leaf like `values`. Environment variables are always text, so a number may be written as one.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

_DURATION = re.compile(r"(\d{1,6})\s*(ms|s|m)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_SHARE = re.compile(r"(\d{1,2}(?:\.\d{1,6})?)\s*%")


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


def _one_word(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("should be the secret as the destination shows it, without blanks or line breaks")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_one_word)]
Seconds = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=str)]
Share = Annotated[float, BeforeValidator(_share, json_schema_input_type=str)]


class Settings(BaseModel):
    """The settings of a connection, or a part of them: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RateLimitConfig(Settings):
    """An upper bound of the user's own, and the share of the allowance that is left to other programs."""

    requests: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="at most this many calls in any `per`; without it, what the destination allows"
    )
    per: Seconds | None = Field(None, description="a duration such as `10s`; without it the destination's own window")
    reserve: Share = Field(0.0, description="the share of the allowance that is left to others, such as `10%`")

    def window(self, own_seconds: float) -> tuple[int | None, float]:
        """Requests and seconds of a window no longer than the destination's own: a longer one lets bursts through."""
        per = self.per or own_seconds
        if self.requests is None:
            return None, own_seconds
        if per <= own_seconds:
            return self.requests, per
        if (scaled := int(self.requests * own_seconds / per)) >= 1:
            return scaled, own_seconds
        return 1, per / self.requests
