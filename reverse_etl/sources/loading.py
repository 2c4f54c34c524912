"""Rows that a warehouse is given: those that it has already are left out, so that nothing is added twice.

What a table has of a series is asked first, in the transaction that adds the rest. So a load whose answer was lost can
be repeated, in warehouses too that know neither unique keys nor MERGE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from reverse_etl.errors import SourceError
from reverse_etl.late import Late
from reverse_etl.protocols import Load

pc = Late("pyarrow.compute")


def fresh(load: Load, there: Sequence[tuple[Any, ...]]) -> pa.Table:
    """The rows that the table lacks, which has of each series those up to a number."""
    if not there:
        return load.rows
    rows = load.rows
    had = pa.array([series for series, _ in there], rows.schema.field(load.series).type)
    if load.number is None:
        return rows.filter(pc.invert(pc.is_in(rows.column(load.series), had)))
    most = pa.array([int(number) for _, number in there], pa.int64())
    known = most.take(pc.index_in(rows.column(load.series), had).combine_chunks())
    return rows.filter(pc.fill_null(pc.greater(rows.column(load.number), known), True))


def refused(name: str, said: str) -> SourceError:
    """The warehouse took nothing."""
    return SourceError(
        f"the source {name!r} refused to be written to: {said}",
        code="source_log",
        hint="give its user the right to make tables in the schema of `log_to`, and to write to them",
    )


def quoted(schema: str, quote: Callable[[str], str]) -> str:
    """A schema, or a schema of a database."""
    return ".".join(quote(part) for part in schema.split("."))


def series_of(load: Load) -> list[Any]:
    """The series that the rows are of."""
    found: list[Any] = pc.unique(load.rows.column(load.series)).to_pylist()
    return found
