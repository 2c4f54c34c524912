"""What stands between two runs: where a sync is, and which of its rows are refused, invalid or in doubt."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from reverse_etl import clock
from reverse_etl.model import JSON

LINKS_OWED = 0  # instead of the fingerprint: the record is acknowledged, but its links are not as the row wants them
FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(hours=24)
SETTLES = timedelta(seconds=60)  # after this, a try that got no answer won't be carried out any more
SETTLING = "settling"
WORD = "word-"  # begins, where a run's id stands otherwise, the id of what a person has said
CARRIED = "in_doubt_job"  # code of a row in doubt that a job of the destination's was carrying: it is asked first
HELD = "in_doubt_held"  # code of a row in doubt that mustn't be sent twice, where a person is to decide
# What a person can do about a row, by the codes that are ours and not the destination's; docs/errors.md says more.
REMEDIES: Mapping[str, str] = {
    "ambiguous_match": "merge the records that are named, or match by one field that is unique",
    "link_waiting": "sync the other object first; the link is tried again by itself",
    "link_in_doubt": "nothing: the link is made again by the next run",
    "missing_record": "create the record there; the row is offered again by itself",
    "no_match": "fill the column that `match` is mapped to",
    "in_doubt": "nothing: it is sent again, or looked up, by the next run",
    CARRIED: "nothing: the next run asks the job what became of it",
    HELD: "look there first: if it is missing, `--retry` sends it; if not, `--arrived KEY` says so",
    "destination_refused": "the words are the destination's reason; it is offered again by itself",
    "destination_timeout": "look for triggers and workflows that slow the destination down for this row",
    "destination_batch_failed": "look for a trigger or flow that breaks for this row",
    "invalid_null_key": "fill the key column, or filter such rows out in the query",
    "invalid_repeated_key": "make the query give one row for each key",
    "invalid_null_match": "fill the column, or filter such rows out in the query",
    "invalid_match_clash": "make the query give one row for each record",
    "invalid_number": "mend or cast it in the query",
    "invalid_out_of_range": "round it in the query, or enlarge the field",
    "invalid_boolean": "cast it to a boolean in the query",
    "invalid_time": "cast it to a time in the query",
    "invalid_text": "clean it in the query",
    "invalid_too_long": "shorten it in the query, or use a longer field",
    "invalid_option": "map it in the query, or add the option there",
    "invalid_email": "mend the address in the warehouse, or filter such rows out in the query",
}


@dataclass(frozen=True)
class SyncState:
    """A sync as the store knows it; times are RFC 3339 text, `cursor_value` the source's exact value as text."""

    sync: str
    identity: str
    account: str | None = None
    key_kinds: str | None = None
    cursor_value: str | None = None
    cursor_type: str | None = None
    last_run_at: str | None = None
    last_full_at: str | None = None
    last_seq: int = 0
    folded_seq: int = 0
    known_rows: int = 0
    incarnation: str | None = None


@dataclass(frozen=True)
class RefusedRow:
    """A row that is not delivered, and why. `kind` is rejected (by the destination), invalid (by us) or in_doubt.

    One that is `settling` is delivered, but an earlier try of it may still land: it is sent once more at `next_at`.

    `key` is None for rows that have none; those share one entry a reason, with a `count`. `next_at` is when a row that
    hasn't changed is offered again; a changed one is offered at once.
    """

    kind: str
    code: str
    message: str
    first_at: datetime
    last_at: datetime
    key_text: str | None = None
    key: JSON = None
    field: str | None = None
    request_id: str | None = None
    attempts: int = 0
    next_at: datetime | None = None
    payload_hash: str | None = None
    values: Mapping[str, JSON] = dataclasses.field(default_factory=dict)
    cursor_value: str | None = None
    cursor_type: str | None = None
    count: int = 1

    @property
    def slot(self) -> str:
        """Its place in the list: one a key, one a reason for rows without a key."""
        if self.key_text is None:
            return f"n{self.code}"
        return settling_slot_of(self.key_text) if self.kind == SETTLING else slot_of(self.key_text)

    def again(self, before: RefusedRow | None) -> RefusedRow:
        """The same row refused once more: attempts add up, the pause grows, the first time and its cursor stay."""
        if before is None:
            return self._with_pause()
        return replace(
            self,
            attempts=0 if self.kind == "invalid" else self.attempts + before.attempts,
            first_at=before.first_at,
            cursor_value=before.cursor_value if before.cursor_value is not None else self.cursor_value,
            cursor_type=before.cursor_type if before.cursor_value is not None else self.cursor_type,
        )._with_pause()

    def due(self, now: datetime) -> bool:
        """One that was refused when the clock was ahead is: nobody knows how long ago that was."""
        return self.kind != "rejected" or self.next_at is None or self.next_at <= now or now < self.last_at

    def to_json(self) -> dict[str, JSON]:
        """As `rejected --json` prints it."""
        return {
            "key": self.key,
            "code": self.code,
            "message": self.message,
            "request_id": self.request_id,
            "attempts": self.attempts,
            "first_at": clock.text(self.first_at),
            "last_at": clock.text(self.last_at),
            "next_at": None if self.next_at is None else clock.text(self.next_at),
            "values": dict(self.values),
            "kind": self.kind,
            "field": self.field,
            "count": self.count,
        }

    def stored(self, sync: str) -> dict[str, Any]:
        """As a line of the table `refused`."""
        return {
            "sync": sync,
            "slot": self.slot,
            "kind": self.kind,
            "key": None if self.key_text is None else json.dumps([self.key_text, self.key]),
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "request_id": self.request_id,
            "attempts": self.attempts,
            "first_at": clock.text(self.first_at),
            "last_at": clock.text(self.last_at),
            "next_at": None if self.next_at is None else clock.text(self.next_at),
            "payload_hash": self.payload_hash,
            "row_values": json.dumps(self.values),
            "cursor_value": self.cursor_value,
            "cursor_type": self.cursor_type,
            "rows": self.count,
        }

    @classmethod
    def from_stored(cls, row: Mapping[str, Any]) -> RefusedRow:
        text, key = json.loads(row["key"]) if row["key"] is not None else (None, None)
        return cls(
            kind=row["kind"],
            code=row["code"],
            message=row["message"],
            first_at=clock.parse(row["first_at"]),
            last_at=clock.parse(row["last_at"]),
            key_text=text,
            key=key,
            field=row["field"],
            request_id=row["request_id"],
            attempts=row["attempts"],
            next_at=None if row["next_at"] is None else clock.parse(row["next_at"]),
            payload_hash=row["payload_hash"],
            values=json.loads(row["row_values"]),
            cursor_value=row["cursor_value"],
            cursor_type=row["cursor_type"],
            count=row["rows"],
        )

    def _with_pause(self) -> RefusedRow:
        if self.kind != "rejected":
            return self
        if self.attempts <= 1:
            return replace(self, next_at=self.last_at)  # the next run tries once more, then the pauses grow
        pause = min(FIRST_PAUSE * 2 ** min(self.attempts - 2, 16), LONGEST_PAUSE)
        return replace(self, next_at=self.last_at + pause)


@dataclass(frozen=True)
class Acknowledged:
    """Rows that the destination acknowledged together: `key`, `record_id`, `h` and one `f_` column a field.

    `sent` False: only known by a baseline, or found to exist; `gone`: their rows left the result; `removed`: so did
    their records.
    """

    rows: pa.RecordBatch
    run_id: str
    at: str
    sent: bool = True
    gone: bool = False
    removed: bool = False


@dataclass(frozen=True)
class Acknowledgement:
    """What one group of answers settled, to be stored in one transaction.

    `settled` are places to take off the list of refused rows, `refused` rows to put on it. `log` is what the warehouse
    is told of it, where it wants to know; see `writeback`. `lasting`: no power cut may take it back.
    """

    sync: str
    run_id: str
    acknowledged: Sequence[Acknowledged] = ()
    settled: Sequence[str] = ()
    refused: Sequence[RefusedRow] = ()
    log: pa.RecordBatch | None = None
    lasting: bool = False


@dataclass(frozen=True)
class Holder:
    """Who holds a sync now, in words; `since` is when its run began, as soon as that is in the books."""

    said: str
    since: datetime | None = None


@dataclass(frozen=True)
class Removal:
    """When a row's record was removed, and by which run."""

    record_id: str | None
    at: str
    run_id: str


@dataclass(frozen=True)
class LogEntry:
    """Something that waits to be written back to the warehouse: rows with their verdicts, or a run itself.

    Of a run, `report` is the JSON of its report so far, and `ended` whether it came to its end.
    """

    run_id: str
    number: int
    rows: pa.Table | None = None
    ended: bool = False
    report: str = ""


def forgotten(keys: Sequence[str], run_id: str, at: str) -> Acknowledged:
    """Rows of which nothing is to be remembered any more; nothing was done to their records."""
    nothing = {"record_id": pa.nulls(len(keys), pa.string()), "h": pa.array([0] * len(keys), pa.uint64())}
    return Acknowledged(
        pa.record_batch({"key": pa.array(keys, pa.string()), **nothing}), run_id, at, sent=False, removed=True
    )


def slot_of(key_text: str) -> str:
    """The place of a key's entry in the list of refused rows."""
    return f"k{key_text}"


def settling_slot_of(key_text: str) -> str:
    """The place of a key whose earlier try may still land."""
    return f"s{key_text}"


def key_value(text: str, kinds: tuple[str, ...]) -> JSON:
    """A key as a JSON value: a number where the column is one, a list for a composite key."""
    if len(kinds) > 1:
        parsed: JSON = json.loads(text)
        return parsed
    if kinds[0] == "text":
        return text
    try:
        value: JSON = json.loads(text)
    except ValueError:
        return text
    return value
