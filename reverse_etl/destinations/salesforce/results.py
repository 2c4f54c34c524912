"""What a bulk job's result files say of each row.

Three files: saved, refused, unprocessed. Their rows stand in no order, and values come back re-formatted, a number as
`9.12E8`; so a row is found by its key alone. (Bulk API 2.0 guide, "Get Job Successful Record Results" and the two after
it, v62.0, read in 2026.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import IO

import pyarrow as pa

from reverse_etl.destinations.salesforce import collections
from reverse_etl.destinations.salesforce.errors import ForRow, Rule, of_row
from reverse_etl.destinations.salesforce.jobs import Jobs
from reverse_etl.errors import BatchRefused, InDoubt
from reverse_etl.late import Late
from reverse_etl.model import Batch, Field, FieldType, Operation
from reverse_etl.verdicts import Outcomes, Refusal, Verdict

pc = Late("pyarrow.compute")
csv = Late("pyarrow.csv")

BLOCK_BYTES = 4 * 1024 * 1024  # read at once: more than the longest record
SAVED, REFUSED, UNPROCESSED = "successfulResults", "failedResults", "unprocessedrecords"
_FILES = {SAVED: ("sf__Id", "sf__Created"), REFUSED: ("sf__Id", "sf__Error"), UNPROCESSED: ()}
_VERDICTS = {Operation.UPDATE: Verdict.UPDATED, Operation.CREATE: Verdict.CREATED, Operation.REMOVE: Verdict.REMOVED}


@dataclass(frozen=True)
class Results:
    """A job's three files: keys as they came back, and what stands beside them."""

    saved: pa.Table
    refused: pa.Table
    unprocessed: pa.Table

    def settle(
        self, batch: Batch, places: Sequence[int], keys: pa.Array, field: Field | None, outcomes: Outcomes
    ) -> Settled:
        """Verdicts of the rows at these places, whose keys are `keys`; a row that two files name has none."""
        saved, refused, unprocessed = (
            _found(keys, table, field) for table in (self.saved, self.refused, self.unprocessed)
        )
        if refused.null_count < len(refused):
            twice = pc.and_(saved.is_valid(), refused.is_valid())
            saved, refused = (pc.if_else(twice, None, found) for found in (saved, refused))
        self._save(batch, places, saved, outcomes)
        stops = self._refuse(batch, places, refused, outcomes)
        left = [places[at] for at in pc.indices_nonzero(unprocessed.is_valid()).to_pylist()]
        return Settled([place for place in left if outcomes.verdicts[place] is Verdict.NO_ANSWER], stops)

    def _save(self, batch: Batch, places: Sequence[int], found: pa.Array, outcomes: Outcomes) -> None:
        if not len(self.saved):
            return
        ids = self.saved.column("sf__Id").take(found).to_pylist()
        verdicts = self._verdicts(batch, found)
        if batch.operation is Operation.REMOVE:
            ids = [None if id is None else "" for id in ids]
        if isinstance(places, range) and not found.null_count and batch.operation is not Operation.REMOVE:
            outcomes.verdicts[places.start : places.stop] = verdicts
            outcomes.record_ids[places.start : places.stop] = ids
            return
        for place, id, verdict in zip(places, ids, verdicts, strict=True):
            if id is not None:
                outcomes.verdicts[place] = verdict
                outcomes.record_ids[place] = id or None

    def _verdicts(self, batch: Batch, found: pa.Array) -> list[Verdict]:
        if batch.operation in _VERDICTS:
            return [_VERDICTS[batch.operation]] * len(found)
        created = pc.equal(self.saved.column("sf__Created"), "true").take(found).to_pylist()
        return [Verdict.CREATED if new else Verdict.UPDATED for new in created]

    def _refuse(
        self, batch: Batch, places: Sequence[int], found: pa.Array, outcomes: Outcomes
    ) -> list[tuple[Rule, Refusal]]:
        stops = []
        at = pc.indices_nonzero(found.is_valid())
        words = self.refused.column("sf__Error").take(found.take(at)).to_pylist()
        for place, said in zip(at.to_pylist(), words, strict=True):
            rule, refusal = of_row([fault_in(said)], None)
            if rule.row is ForRow.STOP:
                stops.append((rule, refusal))
            else:
                collections.refused(batch, places[place], rule.row, refusal, outcomes)
        return stops


@dataclass(frozen=True)
class Settled:
    """What remains of a job's rows: the unprocessed ones, and refusals that no other row escapes."""

    unprocessed: list[int]
    stops: list[tuple[Rule, Refusal]]


async def read(jobs: Jobs, job_id: str, key: str) -> Results:
    """All three files of a job that has ended."""
    tables = []
    for which, columns in _FILES.items():
        with tempfile.TemporaryFile() as file:
            await jobs.download(job_id, which, file)
            tables.append(_table(file, key, columns))
    return Results(*tables)


def fault_in(text: str) -> dict[str, object]:
    """`CODE:what is wrong:Field1, Field2 --` as the errors of a call have it."""
    code, _, rest = text.partition(":")
    words, colon, named = rest.rpartition(":")
    names = [name for name in named.strip().removesuffix("--").replace(",", " ").split() if name]
    if not colon:
        words, names = rest.removesuffix("--"), []
    return {"statusCode": code.strip() or BatchRefused.code, "message": words.strip() or text, "fields": names}


def comparable(keys: pa.Array | pa.ChunkedArray, field: Field | None) -> pa.Array:
    """What the key that went up and the one that comes back have in common. Without a field it is a record id."""
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    if field is None:
        return pc.utf8_slice_codeunits(keys, 0, 15)
    if field.type in (FieldType.NUMBER, FieldType.INTEGER):
        return pa.array([_number(key) for key in keys.to_pylist()], pa.string())
    trimmed = pc.utf8_trim_whitespace(keys)
    return pc.utf8_lower(trimmed) if field.folds_case else trimmed


def _found(keys: pa.Array, table: pa.Table, field: Field | None) -> pa.Array:
    """Where in a table each of our keys stands; mostly they come back letter by letter."""
    if not len(table):
        return pa.nulls(len(keys), pa.int32())
    theirs = table.column("key").combine_chunks()
    exact = pc.index_in(keys, value_set=theirs)
    return exact if not exact.null_count else pc.index_in(comparable(keys, field), value_set=comparable(theirs, field))


def _number(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return format(Decimal(text).normalize(), "f")
    except InvalidOperation:
        return text


def _table(file: IO[bytes], key: str, columns: Sequence[str]) -> pa.Table:
    """The columns that matter, the row's key as `key`; all as the text they are."""
    file.seek(0)
    head = file.readline()
    names = head.decode().rstrip("\r\n").replace('"', "").split(",") if head.strip() else []
    found = [name for name in names if name.lower() == key.lower()]
    if not names:
        return _empty(columns)
    if not found or not set(columns) <= set(names):
        raise InDoubt(
            "a result file of a bulk job lacks the columns that it should have", code="destination_unreadable"
        )
    wanted = [*columns, found[0]]
    if not file.read(1):
        return _empty(columns)
    file.seek(0)
    table = csv.read_csv(
        file,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, pa.string()),
            strings_can_be_null=False,
        ),
    )
    return table.rename_columns([*columns, "key"])


def _empty(columns: Sequence[str]) -> pa.Table:
    return pa.table({name: pa.array([], pa.string()) for name in (*columns, "key")})
