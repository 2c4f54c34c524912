"""Rows that no destination is offered, each with its reason: no key, a key that comes twice, or what a rule refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reverse_etl.checks import Rule
from reverse_etl.localdb import number, quoted, table
from reverse_etl.mapping import PayloadColumn
from reverse_etl.spool import Spool


class Invalid:
    """The tables `invalid` (a reason and how many rows have it, by key) and `doubled` (keys on more than one row)."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._connection = spool.connection

    def find_doubled(self, *, complete: bool) -> None:
        """Rows without a key, and keys that stand on more than one row."""
        self._connection.execute(
            "CREATE TABLE invalid (key VARCHAR, code VARCHAR, field VARCHAR, message VARCHAR, n BIGINT, reread BOOLEAN)"
        )
        self._connection.execute("CREATE TABLE doubled (key VARCHAR, n BIGINT)")
        rows, keys = self._connection.execute("SELECT count(*), count(key) FROM incoming").fetchall()[0]
        if keys < rows:
            self._connection.execute(
                "INSERT INTO invalid SELECT NULL, 'invalid_null_key', NULL, 'the key is NULL', count(*), "
                "bool_and(reread) FROM incoming WHERE key IS NULL"
            )
        if self._stand_once(keys, complete=complete):
            return
        self._connection.execute(
            "INSERT INTO doubled SELECT key, count(*) FROM incoming WHERE key IS NOT NULL "
            "GROUP BY key HAVING count(*) > 1"
        )
        self._connection.execute(
            "INSERT INTO invalid SELECT i.key, 'invalid_repeated_key', NULL, "
            "'the key stands on ' || count(*) || ' rows', count(*), bool_and(i.reread) "
            "FROM incoming i JOIN doubled USING (key) GROUP BY i.key"
        )

    def set_aside(self, rules: Sequence[Rule]) -> None:
        """Move rows that a rule refuses out of `delta`; the first rule that holds gives the reason."""
        if not rules or not number(self._connection, "SELECT count(*) FROM delta"):
            return
        cases = " ".join(f"WHEN {rule.condition} THEN {nth}" for nth, rule in enumerate(rules))
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE flawed AS SELECT place, rule FROM "
            f"(SELECT rowid AS place, CASE {cases} END AS rule FROM delta) WHERE rule IS NOT NULL"
        )
        for nth in [row[0] for row in self._connection.execute("SELECT DISTINCT rule FROM flawed").fetchall()]:
            rule = rules[nth]
            self.take(f"rowid IN (SELECT place FROM flawed WHERE rule = {nth})", rule.code, rule.column, rule.message)

    def take(self, condition: str, code: str, field: str | None, message: str) -> None:
        """Move the rows of `delta` that a condition holds for, with this reason."""
        self._connection.execute(
            f"INSERT INTO invalid SELECT key, ?, ?, ?, 1, reread FROM delta WHERE {condition}",
            [code, field, message],
        )
        self._connection.execute(f"DELETE FROM delta WHERE {condition}")

    def count(self) -> int:
        """Rows read, those that were read again apart."""
        return number(self._connection, "SELECT coalesce(sum(n), 0) FROM invalid WHERE NOT reread")

    def rows(self) -> list[dict[str, Any]]:
        """Each key with its reason and payload; rows without a key share one entry a reason."""
        if not number(self._connection, "SELECT count(*) FROM invalid"):
            return []
        columns = self._spool.shape.payload
        shown = ", ".join(_shown(column) for column in columns)
        order = ", ".join(f"i.{quoted(column.name)}" for column in columns)
        with self._spool.payload() as payload:
            rows: list[dict[str, Any]] = table(
                self._connection,
                f"SELECT v.key, v.code, v.field, v.message, v.n, {shown} "
                f"FROM {payload} i JOIN invalid v ON v.key IS NOT DISTINCT FROM i.key "
                f"QUALIFY row_number() OVER (PARTITION BY v.key, v.code ORDER BY {order}) = 1 "
                "ORDER BY v.key NULLS FIRST, v.code",
            ).to_pylist()
        return rows

    def _stand_once(self, keys: int, *, complete: bool) -> bool:
        """Whether no key stands on two rows, found out without grouping a million of them."""
        if not complete:
            distinct = "SELECT count(DISTINCT hash(key)) FROM incoming WHERE key IS NOT NULL"
            return number(self._connection, distinct) == keys
        new, new_keys, lost = self._connection.execute(
            "SELECT count(key) FILTER (known_at IS NULL), count(DISTINCT key) FILTER (known_at IS NULL), "
            "count(*) FILTER (key IS NULL) FROM candidate"
        ).fetchall()[0]
        # every known key stands once: as many rows met one as known keys were met
        known = number(self._connection, "SELECT count(*) FROM known")
        return bool(new == new_keys and keys - new == known - lost)


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
