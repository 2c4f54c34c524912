"""What a run has under way at its destination: a file a slot, with the keys of the batch that was sent last.

A file is filled before the batch goes out and emptied when its outcome is stored. A process that is killed leaves its
files, and the next run finds in them whose records may have been written, or may still be. Nothing here waits for the
disk: a power cut may take the files along.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from reverse_etl.errors import DiskFull
from reverse_etl.standing import CARRIED, RefusedRow, SyncState, key_value

LONGEST_CALL = timedelta(minutes=5)
JOBS = 1000  # the slots from here on are of jobs
IN_CALL = "a run was sending it, and has not said what became of it"
IN_JOB = "a job was carrying it when its run died; the next run asks what became of it"
_HEAD = 8  # bytes that say how long the rest is; 0: nothing is under way


@dataclass(frozen=True)
class Left:
    """A row that was under way when its run died; `in_job`: in a job, which the destination still knows."""

    key: str
    since: datetime
    in_job: bool


class Flight:
    """One slot's file, made with the first batch. `ledgers.Flight`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    async def begin(self, keys: pa.Array) -> None:
        self.write(keys)

    def write(self, keys: pa.Array) -> None:
        body = encoded(keys)
        try:
            if self._handle is None:
                self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            os.pwrite(self._handle, body, _HEAD)
            os.pwrite(self._handle, len(body).to_bytes(_HEAD, "little"), 0)
        except OSError as failure:
            raise DiskFull(
                f"what is about to be sent can't be written down: {failure.strerror or failure}",
                hint="make room where .reverse_etl lies and run again; what was sent is recorded",
            ) from failure

    async def end(self) -> None:
        if self._handle is not None:
            os.pwrite(self._handle, bytes(_HEAD), 0)

    def close(self) -> None:
        """The file goes, unless something is under way still."""
        if self._handle is None:
            return
        if os.pread(self._handle, _HEAD, 0) == bytes(_HEAD):
            self._path.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = None


class Flights:
    """Those of one sync. The caller holds it."""

    def __init__(self, folder: Path, sync: str) -> None:
        self._folder = folder
        self._sync = sync
        self._open: list[Flight] = []

    def flight(self, slot: int) -> Flight:
        self._open.append(Flight(self._folder / f"{self._sync}.{slot}"))
        return self._open[-1]

    def left(self) -> Iterator[Left]:
        """What a run which died had under way."""
        for path in self._files():
            since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            for key in _keys(path):
                yield Left(key, since, in_job=int(path.suffix[1:]) >= JOBS)

    def forget(self) -> None:
        """What was left has been taken up."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def drop(self, key: str) -> None:
        """What was left, without one row and its key's bytes."""
        for path in self._files():
            keys = _keys(path)
            if key in keys:
                path.unlink()
                rest = Flight(path)
                rest.write(pa.array([each for each in keys if each != key], pa.string()))
                rest.close()

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._sync}.*"))


def doubtful(left: Iterable[Left], now: datetime, state: SyncState) -> Iterator[RefusedRow]:
    """Entries of the list for rows that were under way. When their process died isn't known: perhaps just now, but not
    after the longest call."""
    kinds = tuple(json.loads(state.key_kinds or '["text"]'))
    for row in left:
        recent = now - row.since < LONGEST_CALL
        yield RefusedRow(
            kind="in_doubt",
            code=CARRIED if row.in_job else "in_doubt",
            message=IN_JOB if row.in_job else IN_CALL,
            first_at=row.since,
            last_at=now if recent else row.since,
            key_text=row.key,
            key=key_value(row.key, kinds),
            attempts=1,
            cursor_value=state.cursor_value,
            cursor_type=state.cursor_type,
        )


def encoded(keys: pa.Array) -> pa.Buffer:
    return pa.RecordBatch.from_arrays([keys], ["key"]).serialize()


def decoded(body: bytes) -> list[str]:
    """None where a power cut has left less than the whole."""
    schema = pa.schema([pa.field("key", pa.string())])
    with contextlib.suppress(pa.ArrowException, OSError, EOFError):
        found: list[str] = pa.ipc.read_record_batch(pa.py_buffer(body), schema).column("key").to_pylist()
        return found
    return []


def _keys(path: Path) -> list[str]:
    content = path.read_bytes()
    return decoded(content[_HEAD : _HEAD + int.from_bytes(content[:_HEAD], "little")])
