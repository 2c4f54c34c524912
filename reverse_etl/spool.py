"""Every row that was read: its payload in Arrow files on local disk, its key and fingerprint in the local database.

The warehouse is let go when the last row is here. Only key, cursor and mapped columns are kept. A comparison needs no
more than keys and fingerprints for a row that hasn't changed; the files are read again for those that have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from reverse_etl.localdb import literal, number, quoted, sparing, table
from reverse_etl.mapping import Shape


@dataclass(frozen=True)
class _Part:
    """One file: rows of one result. `reread`: they were asked for by their keys."""

    path: Path
    reread: bool


class Spool:
    """Table `incoming`: `key`, `cursor_value`, `reread` and the fingerprint `h` of every row."""

    shape: Shape

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self.connection = connection
        self._folder = folder
        self._parts: list[_Part] = []

    def begin(self, shape: Shape) -> None:
        """Say what the rows to come look like; what was read before is forgotten."""
        self.shape = shape
        self.connection.execute("DROP TABLE IF EXISTS incoming")
        for part in self._parts:
            part.path.unlink(missing_ok=True)
        self._parts = []

    def take_in(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], *, reread: bool = False) -> None:
        """Keep a result. Later calls add the rows whose keys are not there yet."""
        part = _Part(self._folder / f"{len(self._parts)}.arrow", reread)
        wanted = [name for name in schema.names if name in self.shape.sources]
        kept = pa.schema([schema.field(name) for name in wanted])
        cursor = self.shape.cursor or "NULL"
        columns = [f"{self.shape.key_text} AS key", f"{cursor} AS cursor_value", f"{reread} AS reread"]
        columns += [f"{column.expression} AS {quoted(column.name)}" for column in self.shape.compared]
        select = (
            f"SELECT key, cursor_value, reread, {self.shape.hash} AS h FROM (SELECT {', '.join(columns)} FROM arriving)"
        )
        fresh = "WHERE key IS NULL OR key NOT IN (SELECT key FROM incoming WHERE key IS NOT NULL)"
        into = f"INSERT INTO incoming {select} {fresh}" if self._parts else f"CREATE TABLE incoming AS {select}"
        os.close(os.open(part.path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
        self._parts.append(part)
        with (
            pa.OSFile(str(part.path), "wb") as file,
            pa.ipc.new_stream(file, kept) as writer,
            ThreadPoolExecutor(1) as thread,
        ):
            arriving = _Copied(batches, wanted, partial(thread.submit, writer.write_batch))
            self.connection.register("arriving", pa.RecordBatchReader.from_batches(kept, arriving))
            try:
                with sparing(self.connection, len(kept)):
                    self.connection.execute(into)
                arriving.written()
            except duckdb.Error:
                if arriving.failure is not None:  # the local database only passes on that the stream broke
                    raise arriving.failure from None
                raise
            finally:
                self.connection.unregister("arriving")

    @contextmanager
    def payload(self) -> Iterator[str]:
        """The rows with typed keys `k*`, payload `f_*` and fingerprint, as SQL: the files are read once more."""
        keys = [f"{key.expression} AS {quoted(key.name)}" for key in self.shape.typed_keys]
        values = [f"{column.expression} AS {quoted(column.name)}" for column in self.shape.payload]
        columns = ", ".join([f"{self.shape.key_text} AS key", *keys, *values])
        with ExitStack() as opened:
            selects = []
            for place, part in enumerate(self._parts):
                file = opened.enter_context(pa.OSFile(str(part.path), "rb"))
                name = f"spooled_{place}"
                self.connection.register(name, opened.enter_context(pa.ipc.open_stream(file)))
                opened.callback(self.connection.unregister, name)
                selects.append(f"SELECT {columns}, {part.reread} AS reread FROM {name}")
            yield f"(SELECT *, {self.shape.hash} AS h FROM ({' UNION ALL '.join(selects)}))"

    def add_file_database(self, name: str) -> str:
        """A database in a file beside the spool; unqualified names are looked for in it, too. Returns its name."""
        place = literal(str(self._folder / f"{name}.duckdb"))
        self.connection.execute(f"ATTACH {place} AS {name}; SET search_path = 'memory.main,{name}.main'")
        return name

    @property
    def reread(self) -> bool:
        """Whether `payload` may hold a row twice: those that were read again by their keys stand in their own files."""
        return any(part.reread for part in self._parts)

    def rows_read(self) -> int:
        return number(self.connection, "SELECT count(*) FROM incoming WHERE NOT reread")

    def has_null_keys(self) -> bool:
        return bool(number(self.connection, "SELECT count(*) FROM incoming WHERE key IS NULL"))

    def newest_cursor(self, *, at_most: str | None) -> pa.Scalar | None:
        """The greatest cursor value read; `at_most`, a time as SQL, leaves out rows from the future."""
        bound = f"AND cursor_value <= {at_most}" if at_most else ""
        found = table(self.connection, f"SELECT max(cursor_value) AS m FROM incoming WHERE NOT reread {bound}")
        value = found.column(0)[0]
        return value if value.is_valid else None

    def rows_ahead(self, at_most: str) -> int:
        """Rows whose cursor lies in the future of the warehouse's clock: delivered, but they don't move the cursor."""
        return number(self.connection, f"SELECT count(*) FROM incoming WHERE NOT reread AND cursor_value > {at_most}")


class _Copied:
    """A stream that keeps what is wanted of it in a file, and remembers what broke it."""

    def __init__(
        self, batches: Iterator[pa.RecordBatch], wanted: list[str], write: Callable[[pa.RecordBatch], Future[None]]
    ) -> None:
        self._batches = batches
        self._wanted = wanted
        self._write = write
        self._writing: Future[None] | None = None
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        """The next batch goes on while it is being written: one at a time, so that memory stays bounded."""
        try:
            kept = next(self._batches).select(self._wanted)
            self.written()
            self._writing = self._write(kept)
        except StopIteration:
            raise
        except Exception as failure:
            self.failure = failure
            raise
        return kept

    def written(self) -> None:
        """Wait for what is being written. Raises what kept it from the disk."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
