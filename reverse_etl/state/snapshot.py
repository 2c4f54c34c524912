"""The snapshot: for every key the payload its destination last acknowledged, in a DuckDB file of its own.

Columns: `key` (canonical text), `record_id` (theirs), `run_id` and `acked_at` of the acknowledgement, `sent` (False:
only known by a baseline), `gone` (left the result, and the destination has been told), `h` (fingerprint of what is
compared) and one `f_<field>` a mapped field. The file is open for writing only while the journal is folded into it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import duckdb
import pyarrow as pa

from reverse_etl import localdb
from reverse_etl.digests import TYPE, UNKNOWN, Digests
from reverse_etl.errors import StateError
from reverse_etl.localdb import canonical_text, column_types, literal, quoted
from reverse_etl.standing import LINKS_OWED
from reverse_etl.state import removals
from reverse_etl.state.home import harden
from reverse_etl.state.journal import Entry, grouped

FORMAT = 1
STORAGE = "v1.4.0"  # the oldest DuckDB we support must be able to read the file
OWN_COLUMNS = {
    "key": "VARCHAR",
    "record_id": "VARCHAR",
    "run_id": "VARCHAR",
    "acked_at": "VARCHAR",
    "sent": "BOOLEAN",
    "gone": "BOOLEAN",
    "h": "UBIGINT",
}
WAIT_SECONDS = 60.0
MEGABYTES = 96  # a run's own comparison may be open beside it
_FOLDED: dict[Path, tuple[tuple[str | int, ...], int]] = {}  # by file: its marks, and what it said then
_OTHERS = {"f_": ("x_", "y_"), "x_": ("f_",)}  # a field's value takes the place of its digests, and they its


class Snapshot:
    def __init__(self, path: Path, owner: str) -> None:
        """`owner` names project and sync: a file that belongs to another is refused."""
        self.path = path
        self.owner = owner

    def exists(self) -> bool:
        return self.path.exists()

    def attach(self, connection: duckdb.DuckDBPyConnection, name: str = "snap") -> int:
        """Attach for reading, as `name`; the caller detaches soon. Returns the number of the last entry folded in."""
        with self._explained():
            _patiently(lambda: connection.execute(f"ATTACH {literal(str(self.path))} AS {name} (READ_ONLY)"))
            return self._verify(connection, name)

    def folded(self, connection: duckdb.DuckDBPyConnection | None = None) -> int:
        """The number of the last entry folded in. A file that hasn't changed is asked once a process: opening a
        database to ask takes 20 ms, where there is no `connection` to one already."""
        mark, known = self._mark(), _FOLDED.get(self.path)
        if known is None or known[0] != mark:
            with nullcontext(connection) if connection is not None else duckdb.connect(":memory:") as asked:
                try:
                    known = _FOLDED[self.path] = (mark, self.attach(asked))
                finally:
                    asked.execute("DETACH DATABASE IF EXISTS snap")
        return known[1]

    def _mark(self) -> tuple[str | int, ...]:
        """By which a file that has changed is told."""
        found = self.path.stat()
        return (self.owner, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def count(self, connection: duckdb.DuckDBPyConnection, name: str = "snap") -> tuple[int, int]:
        """Rows and keys of an attached snapshot, every column of every row read on the way."""
        with self._explained():
            connection.execute(f"SELECT bit_xor(hash(r)) FROM {name}.rows r")
            found = connection.execute(f"SELECT count(*), count(DISTINCT key) FROM {name}.rows").fetchall()[0]
        return int(found[0]), int(found[1])

    def fold(
        self,
        entries: Iterable[Entry],
        *,
        rehash: str | pa.Table | None = None,
        removed_before: str | None = None,
        wait: float = WAIT_SECONDS,
    ) -> tuple[int, int]:
        """Move journal entries into the file, in one transaction with their number.

        Entries already in it are passed over, so repeating a fold changes nothing. `rehash` is the fingerprint's SQL,
        or fingerprints by key, when the mapping has changed since. What was removed before a time is remembered no
        longer. Returns the last number folded, and the rows the snapshot now has.
        """
        connection = localdb.connect(self.path.parent)
        localdb.widen(connection, 0, MEGABYTES)
        try:
            with self._explained():
                if not self.path.exists():
                    self._create(connection)
                where = f"ATTACH {literal(str(self.path))} AS snap (STORAGE_VERSION '{STORAGE}')"
                _patiently(lambda: connection.execute(where), wait)
                self.path.chmod(0o600)
                folded = self._verify(connection, "snap")
                connection.execute("BEGIN")
                for schema, batches, last in grouped(entries, folded):
                    localdb.widen(connection, len(schema), MEGABYTES)
                    _apply(connection, pa.Table.from_batches(batches, schema))
                    folded = last
                if isinstance(rehash, str):
                    connection.execute(f"UPDATE snap.rows SET h = {rehash} WHERE h <> {LINKS_OWED}")
                elif rehash is not None:
                    connection.register("fresh", rehash)
                    same = f"fresh.key = r.key AND r.h <> {LINKS_OWED}"
                    connection.execute(f"UPDATE snap.rows r SET h = fresh.h FROM fresh WHERE {same}")
                if removed_before is not None:
                    removals.prune(connection, "snap", removed_before)
                connection.execute(f"UPDATE snap.meta SET value = {literal(str(folded))} WHERE name = 'folded_seq'")
                connection.execute("COMMIT")
                connection.execute("CHECKPOINT snap")  # a disk that is full then says so now, and not while we let go
                rows = _scalar(connection, "SELECT count(*) FROM snap.rows")
        finally:
            connection.close()
        _FOLDED[self.path] = (self._mark(), folded)
        return folded, rows

    def digest(self, digests: Digests, *, clear: Collection[str], finds: str) -> None:
        """Digests instead of values, but for the fields in `clear`; of the field that `finds` records two.

        Rows of which there were values lose their fingerprints, which could give those away.
        """
        self.rewrite(lambda types: _digested(types, digests, clear, finds))

    def rewrite(self, columns: Callable[[dict[str, str]], str] = lambda types: "*") -> None:
        """The same content in a new file: what was deleted from the old one may still stand in it.

        `columns` makes of the rows' types what is selected of them.
        """
        fresh = self.path.with_name(f"{self.path.name}.new")
        for left in (fresh, fresh.with_name(f"{fresh.name}.wal")):
            left.unlink(missing_ok=True)
        with self._explained(), duckdb.connect(":memory:") as connection:
            self.attach(connection)
            connection.execute(f"ATTACH {literal(str(fresh))} AS fresh (STORAGE_VERSION '{STORAGE}')")
            fresh.chmod(0o600)
            tables = connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'snap'"
            ).fetchall()
            for (table,) in tables:
                chosen = columns(column_types(connection, "snap.rows")) if table == "rows" else "*"
                connection.execute(f"CREATE TABLE fresh.{table} AS SELECT {chosen} FROM snap.{table}")
            connection.execute("CHECKPOINT fresh; DETACH fresh")
        harden(fresh)
        fresh.replace(self.path)
        harden(self.path.parent)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as failure:
            raise StateError(
                f"the snapshot {self.path.name} can't be used: {str(failure).splitlines()[0]}",
                code="state_snapshot",
                hint="restore it from a backup, or `reverse-etl reset SYNC` to start over; the file was left alone",
            ) from failure

    def _create(self, connection: duckdb.DuckDBPyConnection) -> None:
        """An empty snapshot appears whole or not at all: a killed process leaves no half of one in its place."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        for left in (fresh, fresh.with_name(f"{fresh.name}.wal"), self.path.with_name(f"{self.path.name}.wal")):
            left.unlink(missing_ok=True)
        columns = ", ".join(f"{name} {type}" for name, type in OWN_COLUMNS.items())
        facts = [str(FORMAT), self.owner]
        connection.execute(f"ATTACH {literal(str(fresh))} AS snap (STORAGE_VERSION '{STORAGE}')")
        fresh.chmod(0o600)
        connection.execute(f"CREATE TABLE snap.rows ({columns})")
        connection.execute("CREATE TABLE snap.meta (name VARCHAR, value VARCHAR)")
        connection.execute("INSERT INTO snap.meta VALUES ('format', ?), ('owner', ?), ('folded_seq', '0')", facts)
        connection.execute("CHECKPOINT snap; DETACH snap")
        fresh.replace(self.path)
        harden(self.path.parent)

    def _verify(self, connection: duckdb.DuckDBPyConnection, name: str) -> int:
        meta = dict(connection.execute(f"SELECT name, value FROM {name}.meta").fetchall())
        try:
            format, folded = int(meta["format"]), int(meta["folded_seq"])
        except (KeyError, ValueError) as failure:
            raise StateError(
                f"the snapshot {self.path.name} does not say what it is",
                code="state_snapshot",
                hint="restore it from a backup, or `reverse-etl reset SYNC` to start over; the file was left alone",
            ) from failure
        if format > FORMAT:
            raise StateError(
                f"the snapshot {self.path.name} was written by a newer release",
                code="state_newer",
                hint="upgrade reverse-etl; the file was left alone",
            )
        if meta.get("owner") != self.owner:
            raise StateError(
                f"the snapshot {self.path.name} belongs to {meta.get('owner')}, not to {self.owner}",
                code="state_mismatch",
                hint="put the right file back, or `reverse-etl reset SYNC` to start over",
            )
        return folded


def overlay(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot | None, entries: Sequence[Entry], target: str = "known"
) -> int:
    """Make the relation `target`: the snapshot as it would be after folding `entries`, without writing any file.

    Returns the number of the last entry seen. With nothing to lay over it the relation is a plain view.
    """
    folded, there = 0, snapshot is not None and snapshot.exists()
    if snapshot is not None and there:
        folded = snapshot.attach(connection)
        fresh = [entry for entry in entries if entry.seq > folded]
        if not fresh:
            connection.execute(f"CREATE TEMP VIEW {target} AS SELECT *, rowid AS position FROM snap.rows")
            return folded
    else:
        fresh = list(entries)
    connection.execute("ATTACH ':memory:' AS laid")
    columns = ", ".join(f"{name} {type}" for name, type in OWN_COLUMNS.items())
    connection.execute(
        "CREATE TABLE laid.rows AS SELECT * FROM snap.rows" if there else f"CREATE TABLE laid.rows ({columns})"
    )
    removals.copy(connection)
    for schema, batches, last in grouped(fresh, folded):
        _apply(connection, pa.Table.from_batches(batches, schema), "laid")
        folded = last
    connection.execute(f"CREATE TEMP VIEW {target} AS SELECT *, rowid AS position FROM laid.rows")
    return folded


def release(connection: duckdb.DuckDBPyConnection) -> None:
    """Take back what `overlay` made as `known`; the snapshot's file can be written then."""
    connection.execute("DROP VIEW known")
    attached = {row[0] for row in connection.execute("SELECT database_name FROM duckdb_databases()").fetchall()}
    for name in attached & {"snap", "laid"}:
        connection.execute(f"DETACH {name}")


def _digested(types: dict[str, str], digests: Digests, clear: Collection[str], finds: str) -> str:
    """What is selected of a snapshot's rows when digests take the place of their values."""
    values = [name for name in types if name.startswith("f_") and name[2:] not in clear]
    there = " OR ".join(f"{quoted(name)} IS NOT NULL" for name in values) or "false"
    chosen = {name: quoted(name) for name in types if name not in values}
    chosen["h"] = f"CAST(CASE WHEN h <> {LINKS_OWED} AND ({there}) THEN {UNKNOWN} ELSE h END AS {types['h']})"
    for value in values:
        for prefix, folded in (("x_", False), ("y_", True)) if value[2:] == finds else (("x_", False),):
            name = prefix + value[2:]
            made = digests.of(value[2:], quoted(value), types[value], folded=folded)
            before = quoted(name) if name in types else "NULL"
            chosen[name] = f"CAST(CASE WHEN {quoted(value)} IS NOT NULL THEN {made} ELSE {before} END AS {TYPE})"
    return ", ".join(f"{sql} AS {quoted(name)}" for name, sql in chosen.items())


def _apply(connection: duckdb.DuckDBPyConnection, rows: pa.Table, database: str = "snap") -> None:
    """Lay acknowledged rows over a snapshot; of a key that comes twice the last one counts."""
    connection.register("entries", rows)
    arrived = "entries"
    if _scalar(connection, "SELECT count(*) - count(DISTINCT key) FROM entries"):
        arrived = "latest"
        connection.execute(
            "CREATE TEMP TABLE latest AS SELECT * EXCLUDE nth "
            "FROM (SELECT *, row_number() OVER () AS nth FROM entries) "
            "QUALIFY row_number() OVER (PARTITION BY key ORDER BY nth DESC) = 1"
        )
    removals.note(connection, database, arrived)
    have = column_types(connection, f"{database}.rows")
    arriving = {name: type for name, type in column_types(connection, arrived).items() if name != "removed"}
    values = {name: f"a.{quoted(name)}" for name in arriving}
    for name, type in arriving.items():
        if name not in have:
            connection.execute(f"ALTER TABLE {database}.rows ADD COLUMN {quoted(name)} {type}")
        elif have[name] != type:
            values[name] = canonical_text(values[name], type)
            _widen_to_text(connection, f"{database}.rows", name, have[name])
    replaced = {f"{other}{name[2:]}" for name in arriving if name[1:2] == "_" for other in _OTHERS.get(name[:2], ())}
    # what is no longer mapped the destination still has
    left_alone = [name for name in have if name not in arriving and name not in replaced]
    source = f"{arrived} a"
    if left_alone and _scalar(connection, f"SELECT count(*) FROM {database}.rows"):
        kept = ", ".join(quoted(name) for name in left_alone)
        connection.execute(
            f"CREATE TEMP TABLE kept AS SELECT key, {kept} FROM {database}.rows "
            f"WHERE key IN (SELECT key FROM {arrived})"
        )
        values |= {name: f"k.{quoted(name)}" for name in left_alone}
        source += " LEFT JOIN kept k USING (key)"
    connection.execute(f"DELETE FROM {database}.rows WHERE key IN (SELECT key FROM {arrived})")
    select = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in values.items())
    connection.execute(f"INSERT INTO {database}.rows BY NAME SELECT {select} FROM {source} WHERE NOT a.removed")
    connection.execute("DROP TABLE IF EXISTS latest; DROP TABLE IF EXISTS kept")
    connection.unregister("entries")


def _widen_to_text(connection: duckdb.DuckDBPyConnection, table: str, name: str, type: str) -> None:
    """A column whose type changed is kept as canonical text: no cast can lose what was acknowledged."""
    if type != "VARCHAR":
        text = canonical_text(quoted(name), type)
        connection.execute(f"ALTER TABLE {table} ALTER {quoted(name)} SET DATA TYPE VARCHAR USING {text}")


def _scalar(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(connection.execute(sql).fetchall()[0][0])


def _patiently(open: Callable[[], object], wait: float = WAIT_SECONDS) -> None:
    """Another process may hold the file for the moment of a fold or a look; wait for it, then let the error through."""
    deadline = time.monotonic() + wait
    while True:
        try:
            open()
            return
        except duckdb.IOException as failure:
            if "lock" not in str(failure).lower() or time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
