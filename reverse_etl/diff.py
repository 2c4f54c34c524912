"""Rows against the snapshot: added, changed (and in which fields), removed, unchanged. Columnar, in the local DuckDB.

Tables, in the order in which they come to be:

    incoming   every row read: its key and fingerprint; see `spool`
    known      the snapshot, as a relation: see `state.snapshot`
    candidate  keys whose fingerprints differ, or where one side is missing
    doubled    keys that stand on more than one row; beside it `invalid`, see there
    delta      rows to send: typed keys `k*`, payload `f_*`, what was acknowledged `o_*`, which fields go out `d_*`
    removed    acknowledged rows that are no longer in a complete result
    displaced  such rows whose record another row is about to take over, the `taker`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reverse_etl.acknowledged import OURS, Known
from reverse_etl.digests import Digests, new_key
from reverse_etl.invalid import Invalid
from reverse_etl.localdb import column_types, number, only_read, quoted, table
from reverse_etl.mapping import PayloadColumn, Shape
from reverse_etl.spool import Spool
from reverse_etl.standing import LINKS_OWED

OWED = f"coalesce(o.h = {LINKS_OWED}, false)"  # whether a known row's links are not as it wants them
EQUAL = (  # fingerprints as they are now of rows that go nowhere
    "SELECT c.key, c.h FROM candidate c ANTI JOIN delta d ON d.key = c.key ANTI JOIN invalid v ON v.key = c.key "
    "WHERE c.key IS NOT NULL AND c.known_at IS NOT NULL"
)
LARGE = 100_000  # rows to send from which they are kept in a file: an in-memory table can't leave memory quite enough
PART = 500_000  # candidates that are laid beside what is known of them at once
STALE_ROWS = 1000  # equal rows with differing fingerprints from which it pays to write all fingerprints anew


@dataclass(frozen=True)
class Scope:
    """What of the difference a run wants. `complete`: the result was read whole, so absence means removal."""

    complete: bool
    removals: bool = False
    everything: bool = False  # --full: send every valid row, whatever is known
    keys_only: bool = False  # insert and append: a known row is never a change
    doubtful: tuple[str, ...] = ()  # keys whose last write nobody answered for: what is known of them may be untrue


@dataclass(frozen=True)
class Counts:
    read: int
    added: int
    changed: int
    removed: int
    unchanged: int
    invalid: int
    retried: int


class Comparison:
    """One run's rows, beside what the destination last acknowledged. Not for two threads at once."""

    def __init__(self, spool: Spool, digests: Callable[[], Digests] | None = None) -> None:
        """`digests` gives the project's, of which some may be known."""
        self.spool = spool
        self.digests = digests or (lambda: Digests(new_key()))
        self.connection = spool.connection
        self.invalid = Invalid(spool)
        self.outgoing = "NOT held"  # which rows of `delta` go out, as a condition
        self._stale = False
        self._everything = False

    @property
    def shape(self) -> Shape:
        return self.spool.shape

    # --- 1. beside the snapshot ---------------------------------------------------------------------------------------

    def compare(self, scope: Scope) -> None:
        """Fill `doubled`, `candidate`, `delta`, `removed` and `invalid`."""
        self._everything = scope.everything
        self._lay_doubtful(scope)
        self._find_candidates(scope)
        self.invalid.find_doubled(complete=scope.complete)
        self._describe_delta(scope)
        self._describe_removed(scope)

    def forget_reordered(self, columns: Sequence[PayloadColumn]) -> None:
        """Several choices that only stand in another order, or twice, are no change of these fields, nor of a row."""
        columns = [column for column in columns if not column.digested]  # of a digest nobody can tell the order
        if self._everything or not columns:
            return
        known = "change = 'changed' AND record_id IS NOT NULL"
        if self._doubt != "false":
            known += " AND key NOT IN (SELECT key FROM doubtful)"
        for column in columns:
            goes, new, old = (quoted(column.goes), *(_choices(each, column.type) for each in (column.name, column.old)))
            self.connection.execute(f"UPDATE delta SET {goes} = false WHERE {known} AND {goes} AND {new} = {old}")
        differs = " OR ".join(quoted(column.goes) for column in self.shape.compared)
        self.connection.execute(f"DELETE FROM delta WHERE {known} AND NOT ({differs})")

    # --- 2. what goes out ---------------------------------------------------------------------------------------------

    def mark_refused(self, refused: Sequence[tuple[str, str | None, bool, bool]]) -> None:
        """Rows refused before, as (key, fingerprint of what was refused, due, held): unchanged ones wait until due,
        held ones whatever they are now."""
        if not refused:
            return
        keys, hashes, due, held = zip(*refused, strict=True)
        table = pa.table(
            {
                "key": pa.array(keys, pa.string()),
                "h": pa.array(hashes, pa.string()),
                "due": pa.array(due),
                "held": pa.array(held),
            }
        )
        self.connection.register("before", table)
        self.connection.execute(
            "UPDATE delta SET again = true, "
            "held = NOT before.due AND (before.held OR CAST(delta.h AS VARCHAR) IS NOT DISTINCT FROM before.h) "
            "FROM before WHERE before.key = delta.key"
        )
        self.connection.unregister("before")

    def leave_for_later(self, limit: int) -> None:
        """Let only the first `limit` rows that could go out do so, in key order."""
        order = f"ORDER BY {self.shape.key_order} LIMIT {int(limit)}"
        self.connection.execute(f"CREATE TABLE chosen AS SELECT key FROM delta WHERE NOT held {order}")
        self.outgoing = "NOT held AND key IN (SELECT key FROM chosen)"

    def keep_what_goes_out(self) -> None:
        """The end of comparing: `delta` and `removed` stay to be read, and memory is free for batches under way."""
        if self._stale and self._by_key():
            self.connection.execute(f"CREATE TABLE equal AS {EQUAL}")
        self.connection.execute("DROP TABLE incoming; DROP TABLE candidate")
        only_read(self.connection, len(self.shape.payload))

    def left_for_later(self) -> int:
        return self._number(f"SELECT count(*) FILTER (NOT held) - count(*) FILTER ({self.outgoing}) FROM delta")

    def groups(self, operation: str) -> list[tuple[str, bool, int]]:
        """What is asked for a row (as SQL), whether it was refused before, and how many there are."""
        return self.connection.execute(
            f"SELECT {operation} AS operation, again, count(*) FROM delta WHERE {self.outgoing} "
            "GROUP BY ALL ORDER BY again, operation"
        ).fetchall()

    def keys_owed(self, keys: Sequence[str], *, at_once: bool = False) -> list[str]:
        """Those of these keys that still differ from what was acknowledged; `at_once`: and don't wait."""
        if not keys:
            return []
        self.connection.register("asked", pa.table({"key": pa.array(keys, pa.string())}))
        sql = f"SELECT key FROM delta WHERE key IN (SELECT key FROM asked) AND NOT (held AND {at_once})"
        found = self.connection.execute(sql).fetchall()
        self.connection.unregister("asked")
        return [row[0] for row in found]

    def displaced(self) -> dict[str, list[str]]:
        """The keys whose records pass to another row, by that row's key."""
        found = self.connection.execute("SELECT taker, list(key) FROM displaced GROUP BY taker").fetchall()
        return dict(found)

    def sample(self, relation: str, where: str, order: str, most: int) -> list[dict[str, Any]]:
        """A few rows, as a person would look at them."""
        sql = f"SELECT * FROM {relation} WHERE {where} ORDER BY {order} LIMIT {most}"
        rows: list[dict[str, Any]] = table(self.connection, sql).to_pylist()
        return rows

    def removed_value(self, column: PayloadColumn) -> str:
        """SQL for a removed row's acknowledged value, in the type that the field has now."""
        have = column_types(self.connection, "removed")
        if column.name not in have or column.digested:
            return f"CAST(NULL AS {column.type})"
        return f"TRY_CAST({quoted(column.name)} AS {column.type})"

    def has_work(self) -> bool:
        """Whether any row could go out."""
        return self._number("SELECT count(*) FROM delta") + self._number("SELECT count(*) FROM removed") > 0

    def rehash(self) -> str | pa.Table | None:
        """Fingerprints to write anew, as SQL or by key: where many acknowledged rows carry a stale one.

        They are equal, but compared column by column: after a mapping edit or with another DuckDB release. None where a
        fingerprint can't come to match: a NULL that isn't a value, or a column whose type changed.
        """
        if not self._stale:
            return None
        return table(self.connection, "SELECT * FROM equal") if self._by_key() else self.shape.hash

    def _by_key(self) -> bool:
        """Whether fingerprints can't be reckoned from acknowledged values, of which only digests are kept."""
        return bool(self.shape.digests or self.known.has_digests)

    def values_to_digest(self) -> bool:
        """Whether the snapshot has values that are to be digests from now on."""
        return any(self.known.has_values(column) for column in self.shape.payload)

    def counts(self) -> Counts:
        """read = unchanged + added + changed + invalid, rows read again apart."""
        read = self.spool.rows_read()
        invalid = self.invalid.count()
        added = self._number("SELECT count(*) FROM delta WHERE change = 'added' AND NOT reread")
        changed = self._number("SELECT count(*) FROM delta WHERE change = 'changed' AND NOT reread")
        return Counts(
            read=read,
            added=added,
            changed=changed,
            removed=self._number("SELECT count(*) FROM removed"),
            unchanged=read - invalid - added - changed,
            invalid=invalid,
            retried=self._number("SELECT count(*) FROM delta WHERE reread AND NOT held"),
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _lay_doubtful(self, scope: Scope) -> None:
        self._doubt = "false"
        if scope.doubtful and not scope.keys_only:
            keys = pa.table({"key": pa.array(scope.doubtful, pa.string())})
            self.connection.register("in_doubt", keys)
            self.connection.execute("CREATE TABLE doubtful AS SELECT key FROM in_doubt")
            self.connection.unregister("in_doubt")
            self._doubt = "i.key IN (SELECT key FROM doubtful)"

    def _find_candidates(self, scope: Scope) -> None:
        join = "FULL JOIN" if scope.complete else "LEFT JOIN"
        differs = "true" if scope.everything else "i.h IS DISTINCT FROM o.h"
        if scope.keys_only:
            differs = f"o.h IS NULL OR i.h IS NULL OR o.h = {LINKS_OWED}"
        self.connection.execute(
            "CREATE TABLE candidate AS SELECT i.key, i.h, i.reread, o.position AS known_at "
            f"FROM (SELECT key, h, reread FROM incoming WHERE key IS NOT NULL) i {join} "
            f"(SELECT key, h, position FROM known) o ON i.key = o.key WHERE ({differs}) OR {self._doubt}"
        )

    def _describe_delta(self, scope: Scope) -> None:
        have = column_types(self.connection, "known")
        known = self.known = Known(have, self.digests)
        columns = ["i.key", *(f"i.{quoted(key.name)}" for key in self.shape.typed_keys), "i.h", "i.reread"]
        columns += [
            "CASE WHEN o.key IS NULL THEN 'added' ELSE 'changed' END AS change",
            "o.record_id AS record_id",
            "false AS again",
            "false AS held",
        ]
        reasons = [self._doubt]
        for column in self.shape.payload:
            values, differs = self._values(column, known, scope)
            columns += values
            if column.compare:
                reasons.append(differs)
        if scope.everything or scope.keys_only:
            reasons = [str(scope.everything and not scope.keys_only)]
            reasons += [OWED] if any(column.links for column in self.shape.payload) else []
        columns.append(f"({' OR '.join(reasons)}) AS differs")
        self._fill_delta(f"SELECT {', '.join(columns)}", self._number("SELECT count(key) FROM candidate"))
        self._stale = self._is_stale(have, scope)

    def _fill_delta(self, select: str, some: int) -> None:
        """Candidates beside what is known of them, in parts that memory holds: as many reads of the files."""
        place = "delta" if some <= LARGE else self.spool.add_file_database("large") + ".delta"
        fresh = not self._number("SELECT count(*) FROM known")
        parts = 1 if fresh else 1 + some // PART
        for part in range(parts):
            mine = "true" if parts == 1 else f"hash(key) % {parts} = {part}"
            known = "known" if not fresh else "(SELECT * FROM known LIMIT 0)"
            joined = (
                f"JOIN (SELECT key, reread, known_at FROM candidate WHERE {mine}) c "
                f"ON c.key = i.key AND c.reread = i.reread LEFT JOIN {known} o ON o.position = c.known_at "
                "WHERE i.key NOT IN (SELECT key FROM doubled)"
            )
            once = not self.spool.reread and not self._number("SELECT count(*) FROM doubled")
            if fresh and once:  # every row with a key is a candidate
                joined = f"LEFT JOIN {known} o ON false WHERE i.key IS NOT NULL"
            with self.spool.payload() as payload:
                rows = f"{select} FROM (SELECT * FROM {payload} WHERE {mine} AND {some > 0}) i {joined}"
                into = f"INSERT INTO {place}" if part else f"CREATE TABLE {place} AS"
                self.connection.execute(
                    f"{into} SELECT * EXCLUDE differs FROM ({rows}) WHERE change = 'added' OR differs"
                )

    def _is_stale(self, have: dict[str, str], scope: Scope) -> bool:
        if scope.everything or scope.keys_only:
            return False
        if self.values_to_digest():
            return True
        hopeless = any(c.keep_on_null or not (c.digested or have.get(c.name) == c.type) for c in self.shape.compared)
        pairs = self._number("SELECT count(*) FROM candidate WHERE key IS NOT NULL AND known_at IS NOT NULL")
        differing = self._number("SELECT count(*) FROM delta WHERE change = 'changed'")
        return not hopeless and pairs - differing > STALE_ROWS

    def _values(self, column: PayloadColumn, known: Known, scope: Scope) -> tuple[list[str], str]:
        """A field's new value, the acknowledged one, and whether it goes out; and what makes it differ."""
        new = f"i.{quoted(column.name)}"
        old, differs = known.beside(column)
        stays = f"CASE WHEN {OURS} THEN {old} END"  # a NULL leaves alone what a record of ours has
        effective = f"coalesce({new}, {stays})" if column.keep_on_null and not column.digested else new
        counts = f"{new} IS NOT NULL" if column.keep_on_null else "true"
        differs = f"({counts} AND ({differs} OR {OWED}))" if column.links else f"({counts} AND {differs})"
        everything = scope.everything or not column.compare
        goes = counts if everything else f"({differs} OR ({counts} AND {self._doubt}))"
        if scope.keys_only:  # of a known row only the links can still be owed
            goes = OWED if column.links else "false"
        values = [
            f"{effective} AS {quoted(column.name)}",
            f"{old} AS {quoted(column.old)}",
            f"CASE WHEN {OURS} THEN {goes} ELSE {new} IS NOT NULL END AS {quoted(column.goes)}",
        ]
        return [*values, *known.kept(column, new)], differs

    def _describe_removed(self, scope: Scope) -> None:
        wanted = "true" if scope.complete and scope.removals else "false"
        self.connection.execute(
            "CREATE TABLE removed AS SELECT o.* FROM candidate c JOIN known o ON o.position = c.known_at "
            f"WHERE {wanted} AND c.key IS NULL AND o.sent AND NOT o.gone"
        )
        self.connection.execute("CREATE TABLE displaced (key VARCHAR, taker VARCHAR)")

    def _number(self, sql: str) -> int:
        return number(self.connection, sql)


def _choices(name: str, type: str) -> str:
    """Several choices in one order, each once, whether they came as a list or as text."""
    parts = quoted(name) if type.endswith("[]") else f"string_split(CAST({quoted(name)} AS VARCHAR), ';')"
    return f"list_sort(list_distinct({parts}))"
