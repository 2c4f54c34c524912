"""Records looked up by a field's values: by queries, or by a bulk query job where the values are very many.

A query takes some hundreds of values. A job can't take more of them either, so it reads that field of every record
instead: of an object that isn't much larger than what is sought it takes fewer calls. What it brings stays on disk, and
is read as a stream. (Bulk API 2.0 guide, "Bulk API 2.0 Query", v62.0, read in 2026.)
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import pyarrow as pa

from reverse_etl.clock import Clock
from reverse_etl.destinations.salesforce import errors, jobs, results, soql
from reverse_etl.destinations.salesforce.jobs import Job, Jobs
from reverse_etl.destinations.salesforce.rest import Rest, a_few_at_once
from reverse_etl.errors import DestinationError, InDoubt
from reverse_etl.late import Late
from reverse_etl.model import Field
from reverse_etl.retries import TIMEOUT

pc = Late("pyarrow.compute")
csv = Late("pyarrow.csv")

VERY_MANY = 20_000  # values from which a job is thought of
CALLS = 7  # that a job takes beside the parts of its result: counted, made, looked at a few times
PATIENCE_SECONDS = 900.0  # queries are no slower than a job that waits for longer
# What keeps a job from being made, or from ending in time: queries do as well.
_NO_JOB = frozenset({errors.NO_BULK, errors.JOB_REFUSED, jobs.STILL_RUNNING})

Queries = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Extract:
    """The result of a query job as a file of CSV, with the number of its records."""

    file: IO[bytes]
    records: int

    def matching(self, match: Field, sought: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The records that may be among those sought, as texts; NULL for an empty cell."""
        wanted = results.comparable(pa.array(sought, pa.string()), match)
        read = 0
        for rows in self._batches():
            read += len(rows)
            keys = results.comparable(rows.column(match.name), match)
            for record in rows.filter(pc.is_in(keys, value_set=wanted)).to_pylist():
                yield {name: value or None for name, value in record.items()}
        if read != self.records:
            raise InDoubt(f"a query job gave {read} records and spoke of {self.records}", code="destination_unreadable")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        self.file.seek(0)
        names = self.file.readline().decode().rstrip("\r\n").replace('"', "").split(",")
        if not self.records:
            return
        self.file.seek(0)
        with csv.open_csv(
            self.file,
            read_options=csv.ReadOptions(block_size=results.BLOCK_BYTES, use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        ) as reader:
            yield from reader


class Finder:
    """Looks records of one org up."""

    def __init__(self, rest: Rest, connection: str, clock: Clock) -> None:
        self._rest = rest
        self._jobs = Jobs(rest, connection, clock, PATIENCE_SECONDS, jobs.QUERY)
        self._ids: dict[tuple[str, str], Extract] = {}  # of whole objects, by name and matched field
        self._closed_to: set[str] = set()  # objects that no job told of
        self._files = ExitStack()

    async def matching(
        self, object: str, match: Field, values: Iterable[str], fields: Sequence[str] = ()
    ) -> dict[str, list[dict[str, Any]]]:
        """The records that each value finds, in the order of their ids; a value that finds none is left out.

        Each record has "Id", the match field and the fields asked for. Ids that are asked for in very large numbers
        are those of the first time in this run.
        """
        found = soql.Found(match, values)
        queries = partial(soql.queries, object, match, found.values, fields)
        if len(found.values) < VERY_MANY or not await self._extracted(object, match, fields, queries, found):
            await a_few_at_once(partial(self._ask, found), queries())
        return found.records()

    async def _ask(self, found: soql.Found, query: str) -> None:
        for record in await self._rest.query(query):
            found.add(record)

    async def _extracted(
        self, object: str, match: Field, fields: Sequence[str], queries: Queries, found: soql.Found
    ) -> bool:
        """Whether a job told what was asked for, in fewer calls than the queries would take."""
        extract = None if fields else self._ids.get((object, match.name))
        if extract is None:
            if object in self._closed_to or not await self._is_worth_a_job(object, match, queries):
                return False
            job = await self._run(soql.every(object, match, fields))
            if job is None:
                self._closed_to.add(object)
                return False
            extract = await self._download(job.id)
        try:
            for record in extract.matching(match, found.values):
                found.add(record)
        finally:
            if fields:
                extract.file.close()
            else:
                self._ids[object, match.name] = extract
        return True

    async def _is_worth_a_job(self, object: str, match: Field, queries: Queries) -> bool:
        try:
            records = await self._rest.count(soql.count(object, match))
        except InDoubt as doubt:
            if doubt.code != TIMEOUT:
                raise
            return False  # an object that can't even be counted in time is too large
        return CALLS + math.ceil(records / jobs.PART) < sum(1 for _ in queries())

    async def _run(self, statement: str) -> Job | None:
        """A job that has brought the whole result; None where none can be had, or not soon."""
        job_id = None
        try:
            job_id = await self._jobs.ask(statement)
            job = await self._jobs.end(job_id)
        except DestinationError as refused:
            if refused.code not in _NO_JOB:
                raise
            if job_id is not None:
                await self._jobs.abort(job_id)
            return None
        return job if job is not None and job.state == jobs.COMPLETE else None

    async def _download(self, job_id: str) -> Extract:
        whole = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # read as long as the run
        records, locator = 0, None
        with tempfile.TemporaryFile() as part:
            while locator is not None or not whole.tell():
                locator, more = await self._jobs.part(job_id, locator, part)
                part.seek(0)
                head = part.readline()
                if not whole.tell():
                    whole.write(head)
                shutil.copyfileobj(part, whole)
                records += more
        return Extract(whole, records)

    def close(self) -> None:
        self._ids.clear()
        self._files.close()
