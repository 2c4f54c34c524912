"""A sync with every default put in and every form made one: what the rest of the program works with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr

from reverse_etl.config.alerts import AlertRules
from reverse_etl.config.problems import Places
from reverse_etl.config.scalars import Scalar
from reverse_etl.config.schedule import Cron, Every, Schedule
from reverse_etl.config.timing import Timing
from reverse_etl.model import Parent, Problem


class _Settled(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CursorConfig(_Settled):
    """`start` and `lag` are None where the column's type decides."""

    column: str
    start: str | int | float | None = None
    lag: timedelta | None = None


class FieldMapping(_Settled):
    """Where a field's value comes from: a column, or without one the constant `value`.

    With a `parent` the field is a link, and the column holds the parent's match value. `allow_backward` is for fields
    that HubSpot lets move one way only.
    """

    column: str | None = None
    value: str | int | float | bool | None = None
    default: str | int | float | bool | None = None
    nulls: Literal["clear", "ignore"] = "clear"
    compare: bool = True
    write: Literal["always", "if_empty", "on_create"] = "always"
    allow_backward: bool = False
    parent: Parent | None = None


class RemovedSet(_Settled):
    """The values that a record's fields get when its row has left the result; None clears one."""

    set: dict[str, Scalar]


class GuardConfig(_Settled):
    """Shares from 0 to 1 of what may change at once, None for any; a floor is a number of rows that never trips one.

    The floors belong to the default shares: a share that somebody wrote down holds for the first row, too.
    """

    max_removed: float | None = 0.10
    removed_floor: int = 10
    max_changed: float | None = None
    max_emptied: float | None = 0.30
    emptied_floor: int = 50


class SyncConfig(_Settled):
    """One sync. Either `sql` or `table` is given; `match` is one of the mapped fields, empty where nothing is found.

    `fallbacks` find the record where `match` doesn't, in their order. `protects_match`: a record that is there keeps
    the match field's value that it has. `options` are the keys that only this kind of destination knows.
    """

    name: str
    file: Path = Path()
    description: str = ""
    source: str
    sql: str | None = None
    table: str | None = None
    key: tuple[str, ...]
    cursor: CursorConfig | None = None
    destination: str
    object: str
    match: str
    fallbacks: tuple[str, ...] = ()
    protects_match: bool = False
    mode: Literal["upsert", "update", "insert", "mirror", "append"] = "upsert"
    mapping: dict[str, FieldMapping]
    on_removed: Literal["ignore", "archive", "delete"] | RemovedSet = "ignore"
    first_run: Literal["send", "baseline"] = "send"
    schedule: Schedule | None = None
    timezone: str = "UTC"
    guard: GuardConfig = GuardConfig()
    full_scan: Every | Cron | None = None
    in_doubt: Literal["hold", "resend"] = "hold"
    on_duplicate: Literal["owner", "none"] = "owner"
    options: dict[str, bool | str] = {}
    log_to: Literal["none"] | None = None
    tags: tuple[str, ...] = ()
    enabled: bool = True
    timing: Timing = Timing()
    alerts: AlertRules = AlertRules()
    log_values: bool = False  # the project's: whether logs may hold keys and values of rows

    _places: Places = PrivateAttr(default_factory=Places)

    def located(self, places: Places) -> SyncConfig:
        """The same sync, knowing where each of its values is written."""
        copy = self.model_copy()
        copy._places = places
        return copy

    @property
    def removes(self) -> bool:
        """Whether rows that left the result change anything at the destination."""
        return self.on_removed != "ignore"

    @property
    def matches(self) -> tuple[str, ...]:
        """The fields that find a record, in the order in which they are asked."""
        return (self.match, *self.fallbacks) if self.match else ()

    @property
    def asks_by(self) -> str:
        """The key that says what is asked of the source: query, query_file or table."""
        keys = ("query_file", "table", "query")
        return next((key for key in keys if self._places.node((key,)) is not None), "query")

    @property
    def query_file(self) -> Path | None:
        """The file that the SQL was read from, when it isn't the definition's own."""
        node = self._places.node(("query_file",))
        return self.file.parent / str(node.value) if node is not None else None

    @property
    def place_file(self) -> str:
        """The definition's file as the user would type it, empty for a sync that no file defines."""
        return self._places.file

    def problem(self, *path: str | int, message: str, nearest: str | None = None, of_key: bool = False) -> Problem:
        """Something wrong with the value at a path of the definition (`"mapping", "email"`), or with its key."""
        return self._places.problem(path, message, nearest=nearest, of_key=of_key)

    def place_of(self, column: str) -> tuple[int, int]:
        """Line and column where the definition first names a column of the result; (0, 0) when it doesn't."""
        for field, entry in self.mapping.items():
            if entry.column == column:
                return self._places.place_of(("mapping", field, "column"))
        if column in self.key:
            position = self.key.index(column)
            return self._places.place_of(("key", position))
        if self.cursor is not None and self.cursor.column == column:
            return self._places.place_of(("cursor", "column"))
        return 0, 0
