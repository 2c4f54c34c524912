"""The cursor: up to which value of its column a sync has read, exactly as the source has it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError
from reverse_etl.exact import earlier_exact, from_exact, least_exact
from reverse_etl.localdb import literal
from reverse_etl.standing import RefusedRow

TIME_LAG = timedelta(minutes=10)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Bound:
    """A cursor's value with its exact type: as the source has it, never rounded."""

    text: str
    type: pa.DataType

    @property
    def type_text(self) -> str:
        schema = pa.schema([pa.field("c", self.type)])
        return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")

    @classmethod
    def stored(cls, text: str, type_text: str) -> Bound:
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(type_text)))
        return cls(text, schema.field(0).type)

    def less(self, lag: timedelta) -> Any:
        """The value to bind: this much earlier, for times."""
        text = earlier_exact(self.text, self.type, lag) if lag else self.text
        return from_exact(text, self.type)


def start(sync: SyncConfig, type: pa.DataType) -> Any:
    """`:cursor` before there is one: the definition's `start`, by default the least value of the column's type."""
    given = sync.cursor.start if sync.cursor is not None else None
    if given is not None:
        return typed(str(given), type, ZoneInfo(sync.timezone))
    return from_exact(least_exact(type), type)


def lag(sync: SyncConfig, type: pa.DataType) -> timedelta:
    """How far behind the cursor a run reads again: rows may be committed late. Raises ConfigError where it can't be."""
    given = sync.cursor.lag if sync.cursor is not None else None
    if given and not pa.types.is_temporal(type):
        told = f"a lag is a span of time, and the cursor's column is of type {type}"
        raise ConfigError(
            [sync.problem("cursor", "lag", message=told)],
            hint="leave the lag out, or let the query give the column as a time or date; nothing was sent",
        )
    if given is not None:
        return given
    return TIME_LAG if pa.types.is_timestamp(type) else timedelta()


def at_refusal(row: RefusedRow, sync: SyncConfig, type: pa.DataType) -> Any:
    """`:cursor` as it was when a row was first refused."""
    if row.cursor_value is None or row.cursor_type is None:
        return start(sync, type)
    stored = Bound.stored(row.cursor_value, row.cursor_type)
    return stored.less(lag(sync, stored.type))


def ceiling(asked_at: datetime, sync: SyncConfig, type: pa.DataType) -> str | None:
    """The source's clock at the start, as SQL of the cursor's type; None for a cursor that isn't a time."""
    zone = ZoneInfo(sync.timezone)
    if pa.types.is_date(type):
        return f"CAST({literal(asked_at.astimezone(zone).date().isoformat())} AS DATE)"
    if not pa.types.is_timestamp(type):
        return None
    if type.tz is not None:
        return f"CAST({literal(asked_at.isoformat())} AS TIMESTAMPTZ)"
    local = asked_at.astimezone(zone).replace(tzinfo=None)
    return f"CAST({literal(local.isoformat(sep=' '))} AS TIMESTAMP)"


def typed(text: str, type: pa.DataType, zone: ZoneInfo) -> Any:  # one line a type
    if pa.types.is_integer(type):
        return int(text)
    if pa.types.is_decimal(type):
        return Decimal(text)
    if pa.types.is_floating(type):
        return float(text)
    if pa.types.is_boolean(type):
        return text == "true"
    if pa.types.is_date(type):
        return datetime.fromisoformat(text).date()
    if pa.types.is_timestamp(type):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment if type.tz is None else moment.replace(tzinfo=zone)
        return moment.astimezone(zone).replace(tzinfo=None) if type.tz is None else moment
    return text
