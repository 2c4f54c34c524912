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

import duckdb
import pyarrow as pa

from reverse_etl.checks import Rule
from reverse_etl.localdb import canonical_text, column_types, quoted
from reverse_etl.mapping import PayloadColumn, Shape


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

    def __init__(self, connection: duckdb.DuckDBPyConnection, shape: Shape) -> None:
        self.connection = connection
        self.shape = shape
        self._spooled = False
        self.empty = True

    # --- 1. every row read -----------------------------------------------------------------------------------------

    def take_in(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch], *, reread: bool = False) -> None:
        """Spool a result: only key, cursor and mapped columns are kept. Called once, and once more for rows read again."""
        keys = [f"{key.expression} AS {quoted(key.name)}" for key in self.shape.keys]
        payload = [f"{column.expression} AS {quoted(column.name)}" for column in self.shape.payload]
        cursor = self.shape.cursor or "NULL"
        columns = [f"{self.shape.key_text} AS key", *keys, f"{cursor} AS cursor_value", f"{reread} AS reread", *payload]
        select = f"SELECT *, {self.shape.hash} AS h FROM (SELECT {', '.join(columns)} FROM arriving)"
        self.connection.register("arriving", pa.RecordBatchReader.from_batches(schema, batches))
        try:
            self.connection.execute(
                f"INSERT INTO incoming {select}" if self._spooled else f"CREATE TABLE incoming AS {select}"
            )
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

    # --- 2. beside the snapshot --------------------------------------------------------------------------------------

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
            f"CREATE OR REPLACE TEMP TABLE flawed AS SELECT at, rule FROM "
            f"(SELECT rowid AS at, CASE {cases} END AS rule FROM delta) WHERE rule IS NOT NULL"
        )
        for number in [row[0] for row in self.connection.execute("SELECT DISTINCT rule FROM flawed").fetchall()]:
            rule = rules[number]
            self._invalidate(
                f"rowid IN (SELECT at FROM flawed WHERE rule = {number})", rule.code, rule.column, rule.message
            )

    def set_aside_clashes(self, match: PayloadColumn, *, folds_case: bool, refuse_all: bool) -> None:
        """Rows that render to one match value: all but the one that owns the record already, else the first in key order.

        Owners are looked for among all acknowledged rows, read or not, except those this run has seen to be gone.
        """
        if not self._number("SELECT count(*) FROM delta"):
            return
        new, acknowledged = _folded(match, match.name, folds_case), _folded(match, match.old, folds_case)
        has_match = match.name in column_types(self.connection, "known")
        known = _folded(match, match.name, folds_case) if has_match else "NULL"
        order = ", ".join(f"d.{quoted(key.name)}" for key in self.shape.keys)
        self.connection.execute(
            f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT rowid AS at, key, {new} AS m, "
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
            f"CREATE OR REPLACE TEMP TABLE clashing AS SELECT at FROM (SELECT w.at, {rank} AS nth, {many} AS n, w.m IN "
            "(SELECT m FROM taken) AS owned FROM wanted w JOIN delta d ON d.rowid = w.at) "
            f"WHERE owned OR {'n > 1' if refuse_all else 'nth > 1'}"
        )
        message = f"another row has the same {match.field}, which finds one record only"
        self._invalidate("rowid IN (SELECT at FROM clashing)", "invalid_match_clash", match.field, message)

    def keep_only(self, keys: Sequence[str]) -> None:
        """Leave only these keys in `delta`."""
        self.connection.register("chosen", pa.table({"key": pa.array(keys, pa.string())}))
        self.connection.execute("DELETE FROM delta WHERE key NOT IN (SELECT key FROM chosen)")
        self.connection.unregister("chosen")

    def forget_taken_over(self, match: PayloadColumn, *, folds_case: bool) -> None:
        """A removed row whose record another row of the result has taken over isn't a removal: its record lives on."""
        if match.name not in column_types(self.connection, "removed"):
            return
        new = _folded(match, match.name, folds_case)
        self.connection.execute(
            f"DELETE FROM removed WHERE {new} IN (SELECT {new} FROM incoming WHERE key IS NOT NULL AND {new} IS NOT NULL)"
        )

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

    # --- inside --------------------------------------------------------------------------------------------------------

    def _find_doubled(self) -> None:
        self.connection.execute(
            "CREATE TABLE invalid (key VARCHAR, code VARCHAR, field VARCHAR, message VARCHAR, n BIGINT, "
            "reread BOOLEAN, at BIGINT)"
        )
        self.connection.execute("CREATE TABLE doubled (key VARCHAR, n BIGINT)")
        rows, keys, fingerprints = self.connection.execute(
            "SELECT count(*), count(key), count(DISTINCT hash(key)) FILTER (key IS NOT NULL) FROM incoming"
        ).fetchone() or (0, 0, 0)
        self.empty = rows == 0
        if keys < rows:
            self.connection.execute(
                "INSERT INTO invalid SELECT NULL, 'invalid_null_key', NULL, 'the key is NULL', count(*), false, min(rowid) "
                "FROM incoming WHERE key IS NULL"
            )
        if fingerprints == keys:
            return  # as many fingerprints as keys: no key can stand on two rows
        self.connection.execute(
            "INSERT INTO doubled SELECT key, count(*) FROM incoming WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1"
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
            "CREATE TABLE candidate AS SELECT i.at AS i_at, o.position AS o_at "
            f"FROM (SELECT key, h, rowid AS at FROM incoming WHERE key IS NOT NULL) i {join} "
            f"(SELECT key, h, position FROM known) o USING (key) WHERE {differs}"
        )

    def _describe_delta(self, scope: Scope) -> None:
        have = column_types(self.connection, "known")
        columns = ["i.key", *(f"i.{quoted(key.name)}" for key in self.shape.keys), "i.h", "i.reread"]
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

    def _number(self, sql: str) -> int:
        row = self.connection.execute(sql).fetchone()
        return int(row[0]) if row else 0


def _folded(match: PayloadColumn, name: str, folds_case: bool) -> str:
    text = canonical_text(quoted(name), match.type)
    return f"lower(trim({text}))" if folds_case else text


def _table(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    """Arrow, whatever DuckDB's release calls it."""
    take = getattr(relation, "to_arrow_table", None) or relation.fetch_arrow_table
    table: pa.Table = take()
    return table
