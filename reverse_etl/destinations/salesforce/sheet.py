"""Rows as Bulk API 2.0 takes them: CSV whose empty cells leave a field alone and whose `#N/A` clears it.

UTF-8 without a mark at its beginning, lines that end in LF, values in double quotes, API names on the first line.
(Bulk API 2.0 guide, "Prepare CSV Files", v62.0, read in 2026.) Columns are written as columns: nothing here loops over
rows. What a cell can't say, the text `#N/A` above all, goes by another way: `Sheet.speechless` has those rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import duckdb
import pyarrow as pa

from reverse_etl import localdb, values
from reverse_etl.destinations.salesforce.links import Link
from reverse_etl.late import Late
from reverse_etl.localdb import quoted
from reverse_etl.model import Batch, Field, FieldType, Operation

pc = Late("pyarrow.compute")
csv = Late("pyarrow.csv")

CLEARED = "#N/A"
MOST_BYTES = 100_000_000  # of a job's file; Salesforce counts 150 MB after base64
MOST_CHARACTERS = 131_072  # of a cell
ROWS_AT_ONCE = 10_000
BYTES_AT_ONCE = 4_000_000
ID = "Id"

_AS_IT_IS = frozenset({FieldType.TEXT, FieldType.OTHER})
_TRIMMED = frozenset({FieldType.DATE, FieldType.DATETIME, FieldType.TIME, FieldType.REFERENCE})
_OF_ITS_OWN = frozenset({FieldType.BOOLEAN, FieldType.CHOICE, FieldType.CHOICES})


@dataclass(frozen=True)
class Sheet:
    """A batch as columns of text, NULL for an empty cell. `key` is the column by which results find their rows."""

    names: tuple[str, ...]
    columns: tuple[pa.Array, ...]
    key: str
    speechless: pa.BooleanArray  # rows that no file can carry
    order: pa.Array | None = None  # what rows are sorted by, so that those of one parent stay together

    @property
    def keys(self) -> pa.Array:
        return self.columns[self.names.index(self.key)]

    def take(self, places: Sequence[int]) -> pa.RecordBatch:
        """These rows, without the columns that say nothing of any."""
        chosen = pa.array(places, pa.int64())
        rows = pa.RecordBatch.from_arrays([column.take(chosen) for column in self.columns], names=[*self.names])
        told = [name for name in self.names if rows.column(name).null_count < len(rows)]
        return rows.select(told)

    def fingerprints(self) -> pa.Array:
        """One number for each row's cells: two rows with the same one say the same."""
        return hashes(dict(zip(self.names, self.columns, strict=True)))


def sheet_of(batch: Batch, ids: Sequence[str | None], links: Mapping[str, Link]) -> Sheet:
    """The rows of a batch. `ids` are the records' own, for what is addressed by them; `links` by field name."""
    if batch.operation in (Operation.UPDATE, Operation.REMOVE):
        columns: dict[str, pa.Array] = {ID: pa.array(ids, pa.string())}
        key = ID
    else:
        columns, key = {}, batch.match
    speechless = pa.nulls(len(batch), pa.bool_()).fill_null(False)
    order = None
    for field in batch.fields if batch.operation is not Operation.REMOVE else ():
        if field.name == ID:
            continue
        goes = batch.rows.column(field.name).is_valid() if batch.sends is None else batch.sends.column(field.name)
        text = strings(batch.rows.column(field.name), field)
        link = links.get(field.name)
        name = field.name if link is None else link.column
        said = pc.and_(goes, pc.fill_null(pc.not_equal(text, ""), False))
        if link is None:
            cell = pc.if_else(goes, pc.if_else(said, text, _cleared(field)), None)
        else:
            cell = pc.if_else(said, text, None)
            speechless = pc.or_(speechless, pc.and_(goes, pc.invert(said)))
            order = text if order is None else order
        columns[name] = _with_plain_line_ends(cell)
        speechless = pc.or_(speechless, pc.and_(said, _unsayable(text)))
    return Sheet(tuple(columns), tuple(columns.values()), key, speechless, order)


def strings(column: pa.Array, field: Field) -> pa.Array:
    """What `values.as_text` gives, as a column: wherever Arrow knows a way, nothing loops over rows."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    found = _as_arrow_has_it(column, field.type)
    return found if found is not None else pa.array(values.as_text(column, field), pa.string())


def _as_arrow_has_it(column: pa.Array, wanted: FieldType) -> pa.Array | None:
    kind = column.type
    if pa.types.is_string(kind):
        if wanted in _AS_IT_IS:
            return column
        return pc.utf8_trim_whitespace(column) if wanted in _TRIMMED else None
    if pa.types.is_boolean(kind):
        return column.cast(pa.string())
    if wanted in _OF_ITS_OWN:
        return None
    if pa.types.is_integer(kind) or (pa.types.is_date32(kind) and wanted is not FieldType.DATETIME):
        return column.cast(pa.string())
    if pa.types.is_timestamp(kind):
        return _moments(column, wanted)
    return _plain_numbers(column) if pa.types.is_decimal(kind) or pa.types.is_float64(kind) else None


def hashes(columns: Mapping[str, pa.Array]) -> pa.Array:
    """A 64-bit number for each row of these columns."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.register("rows", pa.table(dict(columns)))
        found = localdb.table(connection, f"SELECT hash({', '.join(map(quoted, columns))}) AS h FROM rows")
        return found.column("h").combine_chunks()


def files(rows: pa.RecordBatch) -> Iterator[tuple[IO[bytes], int]]:
    """The rows as files that Salesforce takes, one at a time, each with the number of its rows.

    A file has no name, is nobody else's to read, and is gone with the process.
    """
    head = (",".join(rows.schema.names) + "\n").encode()
    start = 0
    while start < len(rows):
        with tempfile.TemporaryFile() as file:
            file.write(head)
            taken = _fill(file, rows, start)
            file.flush()
            yield file, taken
        start += taken


def _fill(file: IO[bytes], rows: pa.RecordBatch, start: int) -> int:
    """Writes rows from `start` on until the file is as large as it may be; says how many."""
    step = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE * len(rows) // max(1, rows.nbytes)))
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    taken = 0
    while start + taken < len(rows):
        part = rows.slice(start + taken, step)
        before = file.tell()
        csv.write_csv(part, file, write_options=options)
        if file.tell() > MOST_BYTES and taken:
            file.seek(before)
            file.truncate()
            break
        taken += len(part)
    return taken


def _cleared(field: Field) -> str:
    """Salesforce knows no NULL in a checkbox: clearing unticks it."""
    return "false" if field.type is FieldType.BOOLEAN and not field.clearable else CLEARED


def _unsayable(text: pa.Array) -> pa.Array:
    marker = pc.equal(pc.utf8_upper(pc.utf8_trim_whitespace(text)), CLEARED)
    return pc.fill_null(pc.or_(marker, pc.greater(pc.utf8_length(text), MOST_CHARACTERS)), False)


def _with_plain_line_ends(cell: pa.Array) -> pa.Array:
    """A file holds one kind of line end, inside of values too."""
    if not pc.any(pc.match_substring(cell, "\r")).as_py():
        return cell
    return pc.replace_substring(pc.replace_substring(cell, "\r\n", "\n"), "\r", "\n")


def _moments(column: pa.Array, wanted: FieldType) -> pa.Array:
    """Timestamps in UTC, cut to the millisecond; their day for a date field."""
    if column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit))
    texts = column.cast(pa.string())
    day = pc.utf8_slice_codeunits(texts, 0, 10)
    if wanted is FieldType.DATE:
        return day
    time = pc.utf8_slice_codeunits(texts, 11, 23)
    return pc.binary_join_element_wise(day, "T", time, ".000Z" if column.type.unit == "s" else "Z", "")


def _plain_numbers(column: pa.Array) -> pa.Array | None:
    """Numbers as plain digits; None where one is written with an exponent or a signed zero."""
    texts = column.cast(pa.string())
    if pc.any(pc.match_substring_regex(texts, "[eE]|^-0$")).as_py():
        return None
    if pa.types.is_decimal(column.type) and column.type.scale > 0:
        return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
    return texts
