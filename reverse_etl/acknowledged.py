"""What is known of a field beside what it is now, as SQL: the acknowledged value, its digest, or in each row either.

Where a project went over from values to digests, or back, both stand in the snapshot for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from reverse_etl.digests import TYPE, Digests
from reverse_etl.localdb import canonical_text, quoted
from reverse_etl.mapping import PayloadColumn

OURS = "coalesce(o.sent AND o.record_id IS NOT NULL, false)"  # whether a row `o` has a record that we have written
VALUE, DIGEST, FOLDED = "f_", "x_", "y_"  # what the snapshot's columns for a field begin with


class Known:
    """`have` are columns and types of the snapshot, or of rows out of it."""

    def __init__(self, have: Mapping[str, str], digests: Callable[[], Digests]) -> None:
        self._have = have
        self._digests = digests

    @property
    def has_digests(self) -> bool:
        return any(name.startswith(DIGEST) for name in self._have)

    def has_values(self, of: PayloadColumn) -> bool:
        """Whether a value stands where a digest should."""
        return of.digested and of.name in self._have

    def beside(self, column: PayloadColumn) -> tuple[str, str]:
        """What was acknowledged of a row `o`, and whether a row `i` differs from that."""
        new = f"i.{quoted(column.name)}"
        if column.digested:
            old = self.digest(column, "o")
            return old, f"{self.fresh(column, new)} IS DISTINCT FROM {old}"
        old, differs = self._values(column, new)
        if column.digest not in self._have:
            return old, differs
        digest = f"o.{quoted(column.digest)}"
        changed = f"{self.fresh(column, new)} IS DISTINCT FROM {digest}"
        return old, f"(CASE WHEN {digest} IS NULL THEN {differs} ELSE {changed} END)"

    def digest(self, column: PayloadColumn, alias: str, *, folded: bool = False) -> str:
        """Of what was acknowledged, however it is kept."""
        kept, found = column.folded if folded else column.digest, []
        if kept in self._have:
            found.append(f"{alias}.{quoted(kept)}")
        if (type := self._have.get(column.name)) is not None:
            value = f"{alias}.{quoted(column.name)}"
            found.append(self._digests().of(column.field, value, type, folded=folded))
        return f"coalesce({', '.join(found)})" if found else f"CAST(NULL AS {TYPE})"

    def fresh(self, column: PayloadColumn, value: str, *, folded: bool = False) -> str:
        """Of a value that a row has now."""
        return self._digests().of(column.field, value, column.type, folded=folded)

    def kept(self, column: PayloadColumn, new: str) -> Iterator[str]:
        """Digests of what will have been acknowledged, beside the folded one of what was."""
        folds = [False, True] if column.finds else [False]
        for folded in folds if column.digested else ():
            digest, old = self.fresh(column, new, folded=folded), self.digest(column, "o", folded=folded)
            if column.keep_on_null:
                digest = f"coalesce({digest}, CASE WHEN {OURS} THEN {old} END)"
            yield f"{digest} AS {quoted(column.folded if folded else column.digest)}"
            if folded:
                yield f"{old} AS {quoted(column.old_folded)}"

    def _values(self, column: PayloadColumn, new: str) -> tuple[str, str]:
        type, old = self._have.get(column.name), f"o.{quoted(column.name)}"
        if type is None:
            old = f"CAST(NULL AS {column.type})"
        if type in (None, column.type):
            return old, f"{new} IS DISTINCT FROM {old}"
        told = canonical_text(old, type)  # the column's type changed: equal texts are equal values
        return f"TRY_CAST({told} AS {column.type})", f"{canonical_text(new, column.type)} IS DISTINCT FROM {told}"
