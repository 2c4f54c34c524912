"""A sync definition as it is written, and the defaults that a project gives to all of them.

`sync` has what it means once every default is put in. A key's description is its line in the reference.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from reverse_etl.config.alerts import AlertsFile
from reverse_etl.config.problems import LONG, SEVERAL, SHORT
from reverse_etl.config.timing import AfterFailure, Priority, QuietHours
from reverse_etl.config.words import (
    FORM,
    Column,
    Connection,
    Constant,
    Duration,
    FieldName,
    Name,
    ScheduleText,
    Share,
    Strict,
    Table,
    Text,
    Timezone,
)

Mode = Literal["upsert", "update", "insert", "mirror", "append"]
Nulls = Literal["clear", "ignore"]
Removal = Literal["ignore", "archive", "delete"]


class CursorFile(Strict):
    column: Column = Field(description="the column that grows with every change of a row")
    start: str | int | float | None = Field(
        None, description="where the first run begins; the least value of the column's type without it"
    )
    lag: Duration | None = Field(None, description="how far behind the last cursor every run reads again")


class MappingFile(Strict):
    column: Column | None = Field(None, description="the column that gives the value")
    value: Constant | None = Field(None, description="a constant instead of a column")
    default: Constant | None = Field(None, description="sent where the column is NULL")
    nulls: Nulls | None = Field(None, description="overrides the sync's `nulls` for this field")
    compare: bool = Field(True, description="false: sent with a row that goes out anyway, never a reason to send it")
    write: Literal["always", "if_empty", "on_create"] = Field(
        "always", description="if_empty: a value that the record has stays; on_create: only a new record gets it"
    )
    allow_backward: bool = Field(
        False, description="HubSpot's lifecyclestage: let it move back to an earlier stage, which takes two calls"
    )
    match: Annotated[dict[FieldName, Column], Field(min_length=1, max_length=1)] | None = Field(
        None,
        description="makes the field a link: the other record's field that finds it, and the column with its value",
    )
    object: Text | None = Field(None, description="of a link: the other record's object, such as companies")
    label: Text | None = Field(None, description="of a link: its label, such as Primary; without it the plain link")


class MatchFile(Strict):
    field: FieldName = Field(description="destination field that finds the record")
    secondary: Literal["overwrite", "protect"] = Field(
        "overwrite", description="protect: a contact found by any of its e-mails keeps its primary one"
    )


class RemovedSetFile(Strict):
    set: Annotated[dict[FieldName, Constant | None], Field(min_length=1)] = Field(
        description="fields and the values they get when a row has left the result; the fields must be mapped"
    )


class AfterFile(Strict):
    after: Annotated[
        Annotated[Name, Tag(SHORT)] | Annotated[list[Name], Field(min_length=1), Tag(SEVERAL)],
        FORM,
    ] = Field(description="the sync, or list of syncs, that must have ended before")


class GuardFile(Strict):
    max_removed: Share | None = Field(None, description="share of the known rows that may go at once; `none`: any")
    max_changed: Share | None = Field(None, description="share of the known rows that may change at once")
    max_emptied: Share | None = Field(None, description="share of rows in which a mapped field may turn NULL at once")


ScheduleFile = Annotated[Annotated[ScheduleText, Tag(SHORT)] | Annotated[AfterFile, Tag(LONG)], FORM]


class DefaultsFile(Strict):
    """The optional keys of a sync definition: what a project's `defaults` may hold."""

    description: str | None = Field(None, description="what the sync is for, for people")
    cursor: Annotated[Annotated[Column, Tag(SHORT)] | Annotated[CursorFile, Tag(LONG)], FORM] | None = Field(
        None, description="column by which only new rows are read; long form {column, start, lag}"
    )
    match: (
        Annotated[
            Annotated[FieldName, Tag(SHORT)]
            | Annotated[list[FieldName], Field(min_length=1), Tag(SEVERAL)]
            | Annotated[MatchFile, Tag(LONG)],
            FORM,
        ]
        | None
    ) = Field(
        None,
        description="destination field that finds the record, by default the one the key is mapped to; a list is "
        "asked in its order; long form {field, secondary: protect}",
    )
    mode: Mode = Field("upsert", description="what is done with a row at the destination")
    nulls: Nulls = Field("clear", description="what a value that turned NULL does at the destination")
    on_removed: Annotated[Annotated[Removal, Tag(SHORT)] | Annotated[RemovedSetFile, Tag(LONG)], FORM] | None = Field(
        None, description="what happens to the record of a row that left the result; ignore without it"
    )
    first_run: Literal["send", "baseline"] = Field(
        "send", description="baseline: the first run remembers the rows as known and sends nothing"
    )
    schedule: ScheduleFile | None = Field(
        None, description="`every N minutes`, a cron line or {after: sync}; without it only when asked"
    )
    timezone: Timezone = Field("UTC", description="zone of the schedule and of times that carry none")
    jitter: Duration | None = Field(None, description="a scheduled run starts up to so much later, by chance")
    quiet_hours: QuietHours | None = Field(
        None,
        description="hours, or list of them, in which no scheduled run starts: `22:00-06:00`, `sat-sun 00:00-24:00`",
    )
    priority: Priority = Field(
        "normal", description="who goes first when the daemon has more to do than it may at once"
    )
    after_failure: AfterFailure | None = Field(
        None, description="beside `{after: sync}`: `run` also when one of those has failed; skip without it"
    )
    alerts: AlertsFile = Field(AlertsFile(), description="whom the daemon tells what about this sync")
    guard: GuardFile = Field(GuardFile(), description="a larger wave stops the run before its first write")
    full_scan: ScheduleFile | None = Field(None, description="beside a cursor: when the whole result is read")
    in_doubt: Literal["hold", "resend"] = Field(
        "hold", description="what becomes of writes in doubt that can't be repeated harmlessly"
    )
    on_duplicate: Literal["owner", "none"] = Field(
        "owner", description="which of several rows with one match value goes out"
    )
    hard: bool = Field(False, description="Salesforce: deleted records do not go through the recycle bin")
    allow_duplicates: bool = Field(
        False, description="Salesforce: records are saved although a duplicate rule warns of them"
    )
    on_converted: Literal["reject", "contact"] = Field(
        "reject", description="Salesforce leads: `contact` writes the row of a converted lead to its contact"
    )
    log_to: Literal["none"] | None = Field(
        None, description="none: this sync's runs and verdicts aren't written into the warehouse, as `log_to` would"
    )
    tags: list[Text] = Field([], description="words to choose syncs by")
    enabled: bool = Field(True, description="false: only runs when named")


class SyncFile(DefaultsFile):
    """One file under syncs/. Exactly one of `query`, `query_file` and `table` is given."""

    source: Connection = Field(description="name of a source in reverse_etl.yml")
    query: str | None = Field(None, description="the SQL whose result is synced")
    query_file: Text | None = Field(None, description="a file with the SQL, beside this one")
    table: Table | None = Field(None, description="a table or view instead of a query, `schema.name`")
    key: Annotated[
        Annotated[Column, Tag(SHORT)] | Annotated[list[Column], Field(min_length=1), Tag(SEVERAL)],
        FORM,
    ] = Field(description="column, or list of columns, that identifies a row of the result")
    destination: Connection = Field(description="name of a destination in reverse_etl.yml")
    object: Text = Field(description="kind of record, as the destination calls it: contacts, Lead, list:NAME, an event")
    mapping: Annotated[
        dict[FieldName, Annotated[Annotated[Column, Tag(SHORT)] | Annotated[MappingFile, Tag(LONG)], FORM]],
        Field(min_length=1),
    ] = Field(description="destination field: column, or a long form with `column` or `value`")
