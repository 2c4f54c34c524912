"""Rows against the snapshot: added, changed (and in which fields), removed, unchanged. Columnar, in the local DuckDB.

Tables, in the order in which they come to be:

    incoming   every row read: key text `key`, typed keys `k*`, payload `f_*`, fingerprint `h`
    known      the snapshot, as a relation: see `state.snapshot`
    doubled    keys that stand on more than one row
    candidate  pairs of positions whose fingerprints differ, or where one side is missing
    delta      rows to send: payload `f_*`, what was acknowledged `o_*`, which fields go out `d_*`
    removed    acknowledged rows that are no longer in a complete result
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from reverse_etl.checks import Rule
from reverse_etl.localdb import canonical_text, column_types, quoted
from reverse_etl.mapping import PayloadColumn, Shape

STALE_ROWS = 1000  # equal rows with differing fingerprints from which it pays to write all fingerprints anew


@dataclass(frozen=True)
class Scope:
    """What of the difference a run wants. `complete`: the result was read whole, so absence means removal."""

    complete: bool
    removals: bool = False
    everything: bool = False  # --full: send every valid row, whatever is known
    keys_only: bool = False  # insert and append: a known row is never a change


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

    shape: Shape

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self._spooled = False
        self._stale = False

    # --- 1. every row read --------------------------------------------------------------------------------------------

    def begin(self, shape: Shape) -> None:
        """Say what the rows to come look like."""
        self.shape = shape

    def discard(self) -> None:
        """Forget what was read, to read again from the start."""
        self.connection.execute("DROP TABLE IF EXISTS incoming")
        self._spooled = False

    def has_null_keys(self) -> bool:
        return bool(self._number("SELECT count(*) FROM incoming WHERE key IS NULL"))

    def take_in(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], *, reread: bool = False) -> None:
        """Spool a result: only key, cursor and mapped columns are kept. Later calls add rows that are not there yet."""
        keys = [f"{key.expression} AS {quoted(key.name)}" for key in self.shape.typed_keys]
        payload = [f"{column.expression} AS {quoted(column.name)}" for column in self.shape.payload]
        cursor = self.shape.cursor or "NULL"
        columns = [f"{self.shape.key_text} AS key", *keys, f"{cursor} AS cursor_value", f"{reread} AS reread", *payload]
        select = f"SELECT *, {self.shape.hash} AS h FROM (SELECT {', '.join(columns)} FROM arriving)"
        arriving = _Watched(batches)
        self.connection.register("arriving", pa.RecordBatchReader.from_batches(schema, arriving))
        known = "WHERE key IS NULL OR key NOT IN (SELECT key FROM incoming WHERE key IS NOT NULL)"
        try:
            self.connection.execute(
                f"INSERT INTO incoming {select} {known}" if self._spooled else f"CREATE TABLE incoming AS {select}"
            )
        except duckdb.Error:
            if arriving.failure is not None:  # the local database only passes on that the stream broke
                raise arriving.failure from None
            raise
        finally:
            self.connection.unregister("arriving")
        self._spooled = True

    def rows_read(self) -> int:
        return self._number("SELECT count(*) FROM incoming WHERE NOT reread")

    def newest_cursor(self, *, at_most: str | None) -> pa.Scalar | None:
        """The greatest cursor value read; `at_most`, a time as SQL, leaves out rows from the future."""
        bound = f"AND cursor_value <= {at_most}" if at_most else ""
        found = self.connection.sql(f"SELECT max(cursor_value) AS m FROM incoming WHERE NOT reread {bound}")
        value = _table(found).column(0)[0]
        return value if value.is_valid else None

    def rows_ahead(self, at_most: str) -> int:
        """Rows whose cursor lies in the future of the warehouse's clock: delivered, but they don't move the cursor."""
        return self._number(f"SELECT count(*) FROM incoming WHERE NOT reread AND cursor_value > {at_most}")

    # --- 2. beside the snapshot ---------------------------------------------------------------------------------------

    def compare(self, scope: Scope) -> None:
        """Fill `doubled`, `candidate`, `delta`, `removed` and `invalid`."""
        self._find_doubled()
        self._find_candidates(scope)
        self._describe_delta(scope)
        self._describe_removed(scope)

    def set_aside(self, rules: Sequence[Rule]) -> None:
        """Move rows that a rule refuses from `delta` to `invalid`; the first rule that holds gives the reason."""
        if not rules or not self._number("SELECT count(*) FROM delta"):
            return
        cases = " ".join(f"WHEN {rule.condition} THEN {number}" for number, rule in enumerate(rules))
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE flawed AS SELECT place, rule FROM "
            f"(SELECT rowid AS place, CASE {cases} END AS rule FROM delta) WHERE rule IS NOT NULL"
        )
        for number in [row[0] for row in self.connection.execute("SELECT DISTINCT rule FROM flawed").fetchall()]:
            rule = rules[number]
            self._invalidate(
                f"rowid IN (SELECT place FROM flawed WHERE rule = {number})", rule.code, rule.column, rule.message
            )

    def set_aside_clashes(self, match: PayloadColumn, *, folds_case: bool, refuse_all: bool) -> None:
        """Rows that render to one match value: all but the one that owns the record, else the first in key order.

        Owners are looked for among all acknowledged rows, read or not, except those this run has seen to be gone.
        """
        if not self._number("SELECT count(*) FROM delta"):
            return
        new, acknowledged = _folded(match, match.name, folds_case), _folded(match, match.old, folds_case)
        has_match = match.name in column_types(self.connection, "known")
        known = _folded(match, match.name, folds_case) if has_match else "CAST(NULL AS VARCHAR)"
        order = ", ".join(f"d.{quoted(key.name)}" for key in self.shape.typed_keys) or "d.key"
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT rowid AS place, key, {new} AS m, "
            f"coalesce({acknowledged} = {new}, false) AS owns FROM delta WHERE {new} IS NOT NULL"
        )
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE taken AS SELECT m, key FROM (SELECT {known} AS m, key FROM known) "
            "WHERE m IN (SELECT m FROM wanted) AND key NOT IN (SELECT key FROM delta) "
            "AND key NOT IN (SELECT key FROM removed)"
        )
        rank = "row_number() OVER (PARTITION BY w.m ORDER BY w.owns DESC, " + order + ")"
        many = "count(*) OVER (PARTITION BY w.m)"
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE clashing AS SELECT place FROM (SELECT w.place, {rank} AS nth, {many} AS n, "
            "w.m IN (SELECT m FROM taken) AS owned FROM wanted w JOIN delta d ON d.rowid = w.place) "
            f"WHERE owned OR {'n > 1' if refuse_all else 'nth > 1'}"
        )
        message = f"another row has the same {match.field}, which finds one record only"
        self._invalidate("rowid IN (SELECT place FROM clashing)", "invalid_match_clash", match.field, message)

    def forget_taken_over(self, match: PayloadColumn, *, folds_case: bool) -> None:
        """A removed row whose record another row of the result has taken over isn't a removal: its record lives on."""
        if match.name not in column_types(self.connection, "removed"):
            return
        new = _folded(match, match.name, folds_case)
        self.connection.execute(
            f"DELETE FROM removed WHERE {new} IN "
            f"(SELECT {new} FROM incoming WHERE key IS NOT NULL AND {new} IS NOT NULL)"
        )

    # --- 3. what goes out ---------------------------------------------------------------------------------------------

    def mark_refused(self, refused: Sequence[tuple[str, str | None, bool]]) -> None:
        """Rows refused before, as (key, fingerprint of what was refused, due): unchanged ones wait until due."""
        if not refused:
            return
        keys, hashes, due = zip(*refused, strict=True)
        table = pa.table({"key": pa.array(keys, pa.string()), "h": pa.array(hashes, pa.string()), "due": pa.array(due)})
        self.connection.register("before", table)
        self.connection.execute(
            "UPDATE delta SET again = true, "
            "held = NOT before.due AND CAST(delta.h AS VARCHAR) IS NOT DISTINCT FROM before.h "
            "FROM before WHERE before.key = delta.key"
        )
        self.connection.unregister("before")

    def name_operations(self, expression: str) -> None:
        """Say of every row in `delta` what is asked for it."""
        self.connection.execute(
            "ALTER TABLE delta ADD COLUMN operation VARCHAR; ALTER TABLE delta ADD COLUMN later BOOLEAN DEFAULT false"
        )
        self.connection.execute(f"UPDATE delta SET operation = {expression}")

    def leave_for_later(self, limit: int) -> None:
        """Keep the first `limit` rows that could go out, in key order."""
        first = f"SELECT rowid FROM delta WHERE NOT held ORDER BY {self.shape.key_order} LIMIT {int(limit)}"
        self.connection.execute(f"UPDATE delta SET later = true WHERE NOT held AND rowid NOT IN ({first})")

    def left_for_later(self) -> int:
        return self._number("SELECT count(*) FROM delta WHERE later")

    def groups(self) -> list[tuple[str, bool, int]]:
        """Operation, whether refused before, and how many rows."""
        return self.connection.execute(
            "SELECT operation, again, count(*) FROM delta WHERE NOT held AND NOT later "
            "GROUP BY ALL ORDER BY again, operation"
        ).fetchall()

    def keys_owed(self, keys: Sequence[str]) -> list[str]:
        """Those of these keys that still differ from what was acknowledged."""
        if not keys:
            return []
        self.connection.register("asked", pa.table({"key": pa.array(keys, pa.string())}))
        found = self.connection.execute("SELECT key FROM delta WHERE key IN (SELECT key FROM asked)").fetchall()
        self.connection.unregister("asked")
        return [row[0] for row in found]

    def known_rows(self) -> int:
        """Acknowledged rows, those left out that the destination was told to drop."""
        return self._number("SELECT count(*) FROM known WHERE NOT gone")

    def emptied(self, column: PayloadColumn) -> tuple[int, int]:
        """Rows in which a field goes from a value to none, and rows that have a value in it."""
        if column.name not in column_types(self.connection, "known"):
            return 0, 0
        name, old = quoted(column.name), quoted(column.old)
        lost = f"SELECT count(*) FROM delta WHERE change = 'changed' AND {old} IS NOT NULL AND {name} IS NULL"
        return self._number(lost), self._number(f"SELECT count({name}) FROM known WHERE NOT gone")

    def fingerprints(self, conditions: Sequence[str], *, removed: bool) -> pa.Array:
        """Sorted fingerprints of key and payload of the rows that a guard stopped at."""
        parts = [f"SELECT hash(key, h) AS p FROM delta WHERE {' OR '.join(conditions)}"] if conditions else []
        if removed:
            parts.append("SELECT hash(key, NULL) AS p FROM removed")
        return _table(self.connection.sql(f"SELECT DISTINCT p FROM ({' UNION ALL '.join(parts)}) ORDER BY p")).column(0)

    def sample(self, table: str, where: str, order: str, most: int) -> list[dict[str, Any]]:
        """A few rows, as a person would look at them."""
        rows: list[dict[str, Any]] = _table(
            self.connection.sql(f"SELECT * FROM {table} WHERE {where} ORDER BY {order} LIMIT {most}")
        ).to_pylist()
        return rows

    def invalid_rows(self) -> list[dict[str, Any]]:
        """Each invalid key with its reason and payload; rows without a key share one entry a reason."""
        payload = ", ".join(_shown(column) for column in self.shape.payload)
        rows: list[dict[str, Any]] = _table(
            self.connection.sql(
                f"SELECT v.key, v.code, v.field, v.message, v.n, {payload} "
                "FROM invalid v JOIN incoming i ON i.rowid = v.place "
                "ORDER BY v.key NULLS FIRST, v.place"
            )
        ).to_pylist()
        return rows

    def removed_value(self, column: PayloadColumn) -> str:
        """SQL for a removed row's acknowledged value, in the type that the field has now."""
        have = column_types(self.connection, "removed")
        if column.name not in have:
            return f"CAST(NULL AS {column.type})"
        return f"TRY_CAST({quoted(column.name)} AS {column.type})"

    def has_work(self) -> bool:
        """Whether any row could go out."""
        return self._number("SELECT count(*) FROM delta") + self._number("SELECT count(*) FROM removed") > 0

    def rehash_pays(self) -> bool:
        """Whether many acknowledged rows carry a stale fingerprint: equal, but compared column by column.

        True after a mapping edit or with another DuckDB release. Not where a fingerprint can't come to match: a NULL
        that isn't a value, or a column whose type changed.
        """
        return self._stale

    def counts(self) -> Counts:
        """read = unchanged + added + changed + invalid, rows read again apart."""
        read = self.rows_read()
        invalid = self._number("SELECT coalesce(sum(n), 0) FROM invalid WHERE NOT reread")
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

    def _find_doubled(self) -> None:
        self.connection.execute(
            "CREATE TABLE invalid (key VARCHAR, code VARCHAR, field VARCHAR, message VARCHAR, n BIGINT, "
            "reread BOOLEAN, place BIGINT)"
        )
        self.connection.execute("CREATE TABLE doubled (key VARCHAR, n BIGINT)")
        rows, keys, fingerprints = self.connection.execute(
            "SELECT count(*), count(key), count(DISTINCT hash(key)) FILTER (key IS NOT NULL) FROM incoming"
        ).fetchall()[0]
        if keys < rows:
            self.connection.execute(
                "INSERT INTO invalid SELECT NULL, 'invalid_null_key', NULL, 'the key is NULL', count(*), "
                "bool_and(reread), min(rowid) "
                "FROM incoming WHERE key IS NULL"
            )
        if fingerprints == keys:
            return  # as many fingerprints as keys: no key can stand on two rows
        self.connection.execute(
            "INSERT INTO doubled SELECT key, count(*) FROM incoming WHERE key IS NOT NULL "
            "GROUP BY key HAVING count(*) > 1"
        )
        self.connection.execute(
            "INSERT INTO invalid SELECT i.key, 'invalid_repeated_key', NULL, "
            "'the key stands on ' || count(*) || ' rows', count(*), bool_and(i.reread), min(i.rowid) "
            "FROM incoming i JOIN doubled USING (key) GROUP BY i.key"
        )

    def _find_candidates(self, scope: Scope) -> None:
        join = "FULL JOIN" if scope.complete and scope.removals else "LEFT JOIN"
        differs = "true" if scope.everything else "i.h IS DISTINCT FROM o.h"
        if scope.keys_only:
            differs = "o.h IS NULL OR i.h IS NULL"
        self.connection.execute(
            "CREATE TABLE candidate AS SELECT i.place AS i_at, o.position AS o_at "
            f"FROM (SELECT key, h, rowid AS place FROM incoming WHERE key IS NOT NULL) i {join} "
            f"(SELECT key, h, position FROM known) o USING (key) WHERE {differs}"
        )

    def _describe_delta(self, scope: Scope) -> None:
        have = column_types(self.connection, "known")
        columns = ["i.key", *(f"i.{quoted(key.name)}" for key in self.shape.typed_keys), "i.h", "i.reread"]
        columns += [
            "CASE WHEN o.key IS NULL THEN 'added' ELSE 'changed' END AS change",
            "o.record_id AS record_id",
            "false AS again",
            "false AS held",
            "i.rowid AS i_at",
        ]
        reasons = []
        for column in self.shape.payload:
            values, differs = self._values(column, have.get(column.name), everything=scope.everything)
            columns += values
            if column.compare:
                reasons.append(differs)
        if scope.everything or scope.keys_only:
            reasons = [str(scope.everything and not scope.keys_only)]
        columns.append(f"({' OR '.join(reasons) or 'false'}) AS differs")
        rows = (
            f"SELECT {', '.join(columns)} FROM candidate c JOIN incoming i ON i.rowid = c.i_at "
            "LEFT JOIN known o ON o.position = c.o_at WHERE i.key NOT IN (SELECT key FROM doubled)"
        )
        self.connection.execute(
            f"CREATE TABLE delta AS SELECT * EXCLUDE differs FROM ({rows}) WHERE change = 'added' OR differs"
        )

        self._stale = self._is_stale(have, scope)

    def _is_stale(self, have: dict[str, str], scope: Scope) -> bool:
        if scope.everything or scope.keys_only:
            return False
        hopeless = any(c.keep_on_null or have.get(c.name) != c.type for c in self.shape.compared)
        pairs = self._number("SELECT count(*) FROM candidate WHERE i_at IS NOT NULL AND o_at IS NOT NULL")
        differing = self._number("SELECT count(*) FROM delta WHERE change = 'changed'")
        return not hopeless and pairs - differing > STALE_ROWS

    def _values(self, column: PayloadColumn, known_type: str | None, *, everything: bool) -> tuple[list[str], str]:
        """A field's new value, the acknowledged one, and whether it goes out; and what makes it differ."""
        new, old = f"i.{quoted(column.name)}", f"o.{quoted(column.name)}"
        if known_type is None:
            old = f"CAST(NULL AS {column.type})"
        if known_type in (None, column.type):
            differs = f"{new} IS DISTINCT FROM {old}"
        else:  # the column's type changed: equal texts are equal values
            told = canonical_text(old, known_type)
            differs = f"{canonical_text(new, column.type)} IS DISTINCT FROM {told}"
            old = f"TRY_CAST({told} AS {column.type})"
        effective = f"coalesce({new}, {old})" if column.keep_on_null else new
        counts = f"{new} IS NOT NULL" if column.keep_on_null else "true"
        differs = f"({counts} AND {differs})"
        goes = counts if everything or not column.compare else differs
        values = [
            f"{effective} AS {quoted(column.name)}",
            f"{old} AS {quoted(column.old)}",
            f"CASE WHEN o.record_id IS NULL THEN {new} IS NOT NULL ELSE {goes} END AS {quoted(column.goes)}",
        ]
        return values, differs

    def _describe_removed(self, scope: Scope) -> None:
        wanted = "true" if scope.complete and scope.removals else "false"
        self.connection.execute(
            "CREATE TABLE removed AS SELECT o.* FROM candidate c JOIN known o ON o.position = c.o_at "
            f"WHERE {wanted} AND c.i_at IS NULL AND o.sent AND NOT o.gone"
        )

    def _invalidate(self, condition: str, code: str, field: str | None, message: str) -> None:
        self.connection.execute(
            f"INSERT INTO invalid SELECT key, ?, ?, ?, 1, reread, i_at FROM delta WHERE {condition}",
            [code, field, message],
        )
        self.connection.execute(f"DELETE FROM delta WHERE {condition}")

    def covered(self, plan: pa.Array, approved: pa.Array) -> bool:
        """Whether every fingerprint of one plan stands in another."""
        self.connection.register("plan_rows", pa.table({"p": plan}))
        self.connection.register("approved_rows", pa.table({"p": approved}))
        more = self._number("SELECT count(*) FROM plan_rows ANTI JOIN approved_rows USING (p)")
        self.connection.unregister("plan_rows")
        self.connection.unregister("approved_rows")
        return more == 0

    def _number(self, sql: str) -> int:
        return int(self.connection.execute(sql).fetchall()[0][0])


class _Watched:
    """A stream that remembers what broke it."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        try:
            return next(self._batches)
        except StopIteration:
            raise
        except Exception as failure:
            self.failure = failure
            raise


def _folded(match: PayloadColumn, name: str, folds_case: bool) -> str:
    text = canonical_text(quoted(name), match.type)
    return f"lower(trim({text}))" if folds_case else text


def _shown(column: PayloadColumn) -> str:
    """SQL for an invalid row's value; a time may lie beyond what Python can hold, so it is made text here."""
    name = f"i.{quoted(column.name)}"
    if column.type == "DATE":
        name = f"CAST({name} AS VARCHAR)"
    elif column.type == "TIMESTAMP WITH TIME ZONE":
        utc = f"timezone('UTC', {name})"
        text = f"regexp_replace(strftime({utc}, '%Y-%m-%dT%H:%M:%S.%fZ'), '000Z$', 'Z')"
        name = f"CASE WHEN isfinite({name}) THEN {text} ELSE CAST({name} AS VARCHAR) END"
    return f"{name} AS {quoted(column.name)}"


def _table(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    """Arrow, whatever DuckDB's release calls it."""
    take = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
    table: pa.Table = take()
    return table
