"""Rows that find one record: who of them owns it, and what becomes of the others."""

from __future__ import annotations

from reverse_etl.diff import Comparison
from reverse_etl.localdb import canonical_text, column_types, number, quoted
from reverse_etl.mapping import PayloadColumn, Shape

LEFT = "SELECT known_at FROM candidate WHERE key IS NULL"  # known rows that a complete result no longer has


def set_aside(comparison: Comparison, match: PayloadColumn, *, folds_case: bool, refuse_all: bool) -> None:
    """Rows that render to one match value: all but the one that owns the record, else the first in key order.

    Owners are looked for among all acknowledged rows, read or not, except those this run has seen to be gone. A row
    that is new to us waits for one that is about to give its match value up: until that is done it would find the
    other's record.
    """
    connection, shape = comparison.connection, comparison.shape
    if not number(connection, "SELECT count(*) FROM delta") or _is_key(shape, match, folds_case):
        return
    new, acknowledged = _new(comparison, match, folds_case), _acknowledged(match, folds_case)
    known = _known(comparison, match, "known", folds_case)
    order = ", ".join(f"d.{quoted(key.name)}" for key in shape.typed_keys) or "d.key"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT rowid AS place, key, {new} AS m, "
        f"coalesce({acknowledged} = {new}, false) AS owns FROM delta WHERE {_filled(match)}"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE taken AS SELECT m, key, key IN (SELECT key FROM delta) AS moves "
        f"FROM (SELECT {known} AS m, key, position FROM known) "
        f"WHERE m IN (SELECT m FROM wanted) AND position NOT IN ({LEFT})"
    )
    rank = "row_number() OVER (PARTITION BY w.m ORDER BY w.owns DESC, " + order + ")"
    many = "count(*) OVER (PARTITION BY w.m)"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE clashing AS SELECT place FROM (SELECT w.place, {rank} AS nth, {many} AS n, "
        "w.m IN (SELECT m FROM taken WHERE NOT moves) AS owned FROM wanted w JOIN delta d ON d.rowid = w.place) "
        f"WHERE owned OR {'n > 1' if refuse_all else 'nth > 1'}"
    )
    message = f"another row has the same {match.field}, which finds one record only"
    comparison.invalid.take("rowid IN (SELECT place FROM clashing)", "invalid_match_clash", match.field, message)
    message = f"another row's record has this {match.field} until that row's own change is delivered"
    held = "SELECT w.place FROM wanted w JOIN taken t ON t.m = w.m AND t.key <> w.key"
    comparison.invalid.take(f"record_id IS NULL AND rowid IN ({held})", "invalid_match_clash", match.field, message)


def hand_over(comparison: Comparison, match: PayloadColumn, *, folds_case: bool) -> None:
    """Rows that left the result, and whose record another row takes over: nothing is removed, as it lives on.

    `displaced` says who takes over whose.
    """
    connection, new = comparison.connection, _new(comparison, match, folds_case)
    if number(connection, "SELECT count(*) FROM candidate WHERE key IS NULL"):
        known = _known(comparison, match, "known", folds_case)
        connection.execute(
            f"INSERT INTO displaced SELECT k.key, d.key FROM (SELECT key, {known} AS m FROM known "
            f"WHERE position IN ({LEFT})) k JOIN (SELECT key, {new} AS m FROM delta WHERE {_filled(match)}) d USING (m)"
        )
    if not number(connection, "SELECT count(*) FROM removed"):
        return
    others = f"SELECT record_id FROM known WHERE record_id IS NOT NULL AND position NOT IN ({LEFT})"
    known = _known(comparison, match, "removed", folds_case)
    with comparison.spool.payload() as payload:
        found = f"SELECT {new} FROM {payload} WHERE key IS NOT NULL AND {_filled(match)}"
        connection.execute(f"DELETE FROM removed WHERE record_id IN ({others}) OR {known} IN ({found})")


def _is_key(shape: Shape, match: PayloadColumn, folds_case: bool) -> bool:
    """A match value that is the key itself can't come twice where keys don't."""
    only = shape.keys[0]
    return (
        len(shape.keys) == 1
        and only.type == match.type == "VARCHAR"
        and not folds_case
        and match.expression == f"CAST({only.expression} AS VARCHAR)"
    )


def _filled(match: PayloadColumn) -> str:
    """Whether a row's match value could find a record: empty ones are nobody's."""
    return f"coalesce(trim(CAST({quoted(match.name)} AS VARCHAR)), '') <> ''"


def _new(comparison: Comparison, match: PayloadColumn, folds_case: bool) -> str:
    """What a row's match value is told from others' by."""
    if match.digested:
        return comparison.known.fresh(match, quoted(match.name), folded=folds_case)
    return _folded(match, match.name, folds_case)


def _acknowledged(match: PayloadColumn, folds_case: bool) -> str:
    """The same of what was acknowledged of a row that goes out."""
    if match.digested:
        return quoted(match.old_folded if folds_case else match.old)
    return _folded(match, match.old, folds_case)


def _known(comparison: Comparison, match: PayloadColumn, relation: str, folds_case: bool) -> str:
    """The same of what was acknowledged of any row."""
    if match.digested:
        return comparison.known.digest(match, relation, folded=folds_case)
    has_match = match.name in column_types(comparison.connection, relation)
    return _folded(match, match.name, folds_case) if has_match else "CAST(NULL AS VARCHAR)"


def _folded(match: PayloadColumn, name: str, folds_case: bool) -> str:
    text = canonical_text(quoted(name), match.type)
    return f"lower(trim({text}))" if folds_case else text
