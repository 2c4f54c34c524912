"""An answer read whole, and what it says of waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import orjson

from reverse_etl.errors import InDoubt


@dataclass(frozen=True)
class Answer:
    """An answer read whole; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises InDoubt(code="destination_unreadable"): an answer not understood proves nothing."""
        return self._parsed

    @cached_property
    def _parsed(self) -> Any:
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as failure:
            raise InDoubt(
                f"the answer (HTTP {self.status}) is not JSON: {failure.msg}",
                code="destination_unreadable",
                hint="if this persists, look whether a proxy stands between here and the destination",
                status=self.status,
                request_id=self.request_id,
            ) from failure

    @property
    def request_id(self) -> str | None:
        """The id to quote to the destination's support, None when the answer has none."""
        for name, value in self.headers.items():
            if name.endswith(("request-id", "correlation-id")):
                return value
        return None


def told_pause(answer: Answer, now: datetime) -> float | None:
    """Seconds that `Retry-After` asks for, given as seconds, as an HTTP date or as an ISO time; None without it."""
    told = answer.headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        return max(0.0, float(told)) if float(told) < float("inf") else None
    except ValueError:
        moment = _moment(told)
    return None if moment is None else max(0.0, (moment - now).total_seconds())


def _moment(text: str) -> datetime | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
