"""Rows as Bulk API 2.0 takes them: CSV whose empty cells leave a field alone and whose `#N/A` clears it.

UTF-8 without a mark at its beginning, lines that end in LF, values in double quotes, API names on the first line.
(Bulk API 2.0 guide, "Prepare CSV Files", v62.0, read in 2026.) Columns are written as columns: nothing here loops over
rows. What a cell can't say, the text `#N/A` above all, goes by another way: `Sheet.speechless` has those rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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
_KEY = "sf__key"  # of a row, beside columns that can have no such name

_AS_IT_IS = frozenset({FieldType.TEXT, FieldType.OTHER})
_TRIMMED = frozenset({FieldType.DATE, FieldType.TIME, FieldType.REFERENCE})
_OF_ITS_OWN = frozenset({FieldType.BOOLEAN, FieldType.CHOICE, FieldType.CHOICES})


@dataclass(frozen=True)
class Sheet:
    """A batch as columns of text, NULL for an empty cell. `key` is the column by which results find their rows.

    `whole` are the same columns as they would be if every field of every row went out.
    """

    names: tuple[str, ...]
    columns: tuple[pa.Array, ...]
    key: str
    speechless: pa.BooleanArray  # rows that no file can carry
    whole: tuple[pa.Array, ...]
    order: pa.Array | None = None  # what rows are sorted by, so that those of one parent stay together

    @property
    def keys(self) -> pa.Array:
        return self.columns[self.names.index(self.key)]

    def take(self, places: Sequence[int]) -> pa.RecordBatch:
        """These rows, without the columns that say nothing of any."""
        rows = {name: at(column, places) for name, column in zip(self.names, self.columns, strict=True)}
        return pa.RecordBatch.from_pydict({name: cell for name, cell in rows.items() if cell.null_count < len(cell)})

    def fingerprints(self, keys: pa.Array) -> tuple[pa.Array, pa.Array]:
        """Of each row two numbers: of its key, and of its cells, those that stay at home too.

        What a job carried of a row is laid over what was acknowledged of it before. That makes the row as it is now
        when all of its cells are the same, whatever of them went out then, and would now.
        """
        with _hasher().cursor() as connection:
            connection.register("rows", pa.table([keys, *self.whole], names=[_KEY, *self.names]))
            told = ", ".join(map(quoted, self.names))
            found = localdb.table(connection, f"SELECT hash({_KEY}) AS k, hash({told}) AS c FROM rows")
        return found.column("k").combine_chunks(), found.column("c").combine_chunks()


@cache
def _hasher() -> duckdb.DuckDBPyConnection:
    """Opened once, as that takes longer than its work."""
    return duckdb.connect(":memory:", config={"threads": 1})


def fingerprints(keys: pa.Array) -> pa.Array:
    """A number for each key."""
    with _hasher().cursor() as connection:
        connection.register("rows", pa.table([keys], names=["k"]))
        return localdb.table(connection, "SELECT hash(k) AS k FROM rows").column("k").combine_chunks()


def at(column: pa.Array, places: Sequence[int]) -> pa.Array:
    """The cells at these places, without copying where they lie side by side."""
    if isinstance(places, range) and places.step == 1:
        return column.slice(places.start, len(places))
    return column.take(pa.array(places, pa.int64()))


def sheet_of(batch: Batch, ids: Sequence[str | None] | None, links: Mapping[str, Link]) -> Sheet:
    """The rows of a batch. `ids` are the records' own, for what is addressed by them; `links` by field name."""
    columns: dict[str, pa.Array] = {} if ids is None else {ID: pa.array(ids, pa.string())}
    whole = dict(columns)
    speechless = pa.nulls(len(batch), pa.bool_()).fill_null(False)
    order = None
    for field in batch.fields if batch.operation is not Operation.REMOVE else ():
        if field.name == ID:
            continue
        column = batch.rows.column(field.name)
        text = strings(column, field)
        goes = None if batch.sends is None else batch.sends.column(field.name)
        link = links.get(field.name)
        if link is not None:
            order = text if order is None else order
            nobody = pc.fill_null(pc.equal(text, ""), goes is not None)
            speechless = pc.or_(speechless, nobody if goes is None else pc.and_(goes, nobody))
        elif pa.types.is_string(column.type):
            speechless = _or(speechless, _unsayable(text), goes)
        said = _plain_text(text, _cleared(field, link)) if _may_be_odd(column, field) else text
        name, cleared = field.name if link is None else link.column, _cleared(field, link)
        whole[name] = said if goes is None or cleared is None else pc.fill_null(said, cleared)
        columns[name] = whole[name] if goes is None else pc.if_else(goes, whole[name], None)
    key = batch.match if ids is None else ID
    return Sheet(tuple(columns), tuple(columns.values()), key, speechless, tuple(whole.values()), order)


def _may_be_odd(column: pa.Array, field: Field) -> bool:
    """Whether a text may be empty or hold line ends: numbers and moments never are or do."""
    return pa.types.is_string(column.type) or pa.types.is_nested(column.type) or field.parent is not None


def _plain_text(text: pa.Array, cleared: str | None) -> pa.Array:
    """Texts as cells: what is empty clears the field, and line ends are those of the file."""
    if pc.min(pc.binary_length(text)).as_py() == 0:
        text = pc.if_else(pc.equal(text, ""), cleared, text)
    if _holds(text, b"\r"):
        text = pc.replace_substring(pc.replace_substring(text, "\r\n", "\n"), "\r", "\n")
    return text


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


def files(rows: pa.RecordBatch, most: int = MOST_BYTES) -> Iterator[tuple[IO[bytes], int]]:
    """The rows as files that Salesforce takes, one at a time, each with the number of its rows.

    A file has no name, is nobody else's to read, and is gone with the process.
    """
    head = (",".join(rows.schema.names) + "\n").encode()
    start = 0
    while start < len(rows):
        with tempfile.TemporaryFile() as file:
            file.write(head)
            taken = _fill(file, rows, start, most)
            file.flush()
            yield file, taken
        start += taken


def _fill(file: IO[bytes], rows: pa.RecordBatch, start: int, most: int) -> int:
    """Writes rows from `start` on until the file holds `most` bytes; says how many rows."""
    step = max(1, min(ROWS_AT_ONCE, min(BYTES_AT_ONCE, most // 4) * len(rows) // max(1, rows.nbytes)))
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    taken = 0
    while start + taken < len(rows):
        part = rows.slice(start + taken, step)
        before = file.tell()
        csv.write_csv(part, file, write_options=options)
        if file.tell() > most and taken:
            file.seek(before)
            file.truncate()
            break
        taken += len(part)
    return taken


def _cleared(field: Field, link: Link | None) -> str | None:
    """Salesforce knows no NULL in a checkbox: clearing unticks it. No cell takes a parent away."""
    if link is not None:
        return None
    return "false" if field.type is FieldType.BOOLEAN and not field.clearable else CLEARED


def _unsayable(text: pa.Array) -> pa.Array | None:
    """Texts that would clear the field, and those too long for a cell; None where there is none."""
    longest = pc.max(pc.binary_length(text)).as_py() or 0
    if longest <= MOST_CHARACTERS and not _holds(text, b"#"):
        return None
    marker = pc.equal(pc.utf8_upper(pc.utf8_trim_whitespace(text)), CLEARED)
    return pc.fill_null(pc.or_(marker, pc.greater(pc.utf8_length(text), MOST_CHARACTERS)), False)


def _holds(text: pa.Array, character: bytes) -> bool:
    """Whether some text may hold it: a look at the memory behind the column, which can be that of more rows."""
    buffers = text.buffers()
    return buffers[2] is not None and character in buffers[2].to_pybytes()


def _or(known: pa.Array, more: pa.Array | None, goes: pa.Array | None) -> pa.Array:
    if more is None:
        return known
    return pc.or_(known, more if goes is None else pc.and_(goes, more))


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
