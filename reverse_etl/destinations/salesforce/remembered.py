"""Bulk jobs that a sync has under way, kept until what became of their rows is stored.

A job stands here before its data goes up. For each of its rows two numbers are kept: one of the row's key, one of what
the file said. So a later run knows which rows a job that it finds again has already carried, in just these words.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pyarrow as pa

from reverse_etl.late import Late
from reverse_etl.protocols import Memory

pc = Late("pyarrow.compute")

KEPT_SECONDS = 7 * 86_400.0  # as long as Salesforce keeps the results of a job


@dataclass(frozen=True)
class Work:
    """A job as it was asked for. `id` is None until Salesforce has told it; `uploaded`: the whole file is there.

    `columns` are all the columns that the rows could have had, `asked_at` is our time, in seconds, when it was made.
    """

    number: int
    organization: str
    object: str
    operation: str
    key: str
    columns: tuple[str, ...]
    asked_at: float
    id: str | None = None
    uploaded: bool = False

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Work:
        return cls(**{**told, "columns": tuple(told["columns"])})


@dataclass(frozen=True)
class Carried:
    """The rows of a job: `keys` and `cells` are the numbers of what a row is and of what it says."""

    keys: pa.Array
    cells: pa.Array

    def without(self, keys: pa.Array) -> Carried:
        stays = pc.invert(pc.is_in(self.keys, value_set=keys))
        return Carried(self.keys.filter(stays), self.cells.filter(stays))

    def to_text(self) -> str:
        return " ".join(base64.b64encode(_bytes(column)).decode() for column in (self.keys, self.cells))

    @classmethod
    def from_text(cls, text: str) -> Carried:
        keys, cells = (pa.array([], pa.uint64()).from_buffers(*_numbers(part)) for part in text.split(" "))
        return cls(keys, cells)


NOTHING = Carried(pa.array([], pa.uint64()), pa.array([], pa.uint64()))


class Remembered:
    """The jobs of one sync in its connection's memory, oldest first; `now`, in seconds, tells which have expired."""

    def __init__(self, memory: Memory, sync: str, now: float) -> None:
        self._memory = memory
        self._name = f"bulk:{sync}"
        self._jobs: dict[int, tuple[Work, Carried]] = {}
        for told in orjson.loads(memory.get(self._name) or "[]"):
            work = Work.from_json(told)
            rows = memory.get(self._rows(work.number))
            self._jobs[work.number] = (work, Carried.from_text(rows) if rows else NOTHING)
        for work, carried in self:
            if not len(carried.keys) or work.asked_at < now - KEPT_SECONDS:
                self.drop(work)
        self._next = max(self._jobs, default=0) + 1

    def __iter__(self) -> Any:
        return iter([*self._jobs.values()])

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def add(self, work: Work, carried: Carried) -> Work:
        """The job under a number of its own; stored when this returns."""
        work = replace(work, number=self._next)
        self._next += 1
        self._memory.put(self._rows(work.number), carried.to_text())
        self._jobs[work.number] = (work, carried)
        self._store()
        return work

    def put(self, work: Work) -> Work:
        """What is newly known of a job."""
        self._jobs[work.number] = (work, self._jobs[work.number][1])
        self._store()
        return work

    def drop(self, work: Work) -> None:
        if self._jobs.pop(work.number, None) is not None:
            self._store()
            self._memory.put(self._rows(work.number), None)

    def settle(self, keys: pa.Array) -> None:
        """Nothing is owed to these rows any more."""
        for work, carried in self:
            left = carried.without(keys)
            if not len(left.keys):
                self.drop(work)
            elif len(left.keys) < len(carried.keys):
                self._jobs[work.number] = (work, left)
                self._memory.put(self._rows(work.number), left.to_text())

    def _store(self) -> None:
        jobs = [work.to_json() for work, _ in self._jobs.values()]
        self._memory.put(self._name, orjson.dumps(jobs).decode() if jobs else None)

    def _rows(self, number: int) -> str:
        return f"{self._name}:{number}"


def _bytes(column: pa.Array) -> bytes:
    """The numbers of a column, eight bytes each."""
    buffer = column.buffers()[1]
    start = column.offset * 8
    return bytes(memoryview(buffer)[start : start + len(column) * 8])


def _numbers(text: str) -> tuple[pa.DataType, int, list[pa.Buffer | None]]:
    raw = base64.b64decode(text)
    return pa.uint64(), len(raw) // 8, [None, pa.py_buffer(raw)]
