"""What a run must find and send, reckoned in plain Python from the rows, the definition and what is remembered.

Written from the documentation and without the product's code: the second opinion that every plan is held against.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reverse_etl.clock import parse
from tests.properties.model.definition import LONGEST_PLAN, Definition, Row, folded
from tests.properties.model.stage import Memory

LAG = timedelta(minutes=10)


@dataclass(frozen=True)
class Wish:
    """How a run is asked for."""

    full: bool = False
    limit: int | None = None
    retry: bool = False


@dataclass
class Reckoned:
    """What a run finds: counts, the rows that go out with their fields, and those that don't."""

    read: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    delta: dict[str, Row] = field(default_factory=dict)  # rows that differ and are valid
    invalid: dict[str, str] = field(default_factory=dict)  # code by key
    nameless: int = 0  # rows without a key
    again: set[str] = field(default_factory=set)  # keys that were only read again
    left: set[str] = field(default_factory=set)  # known rows that a complete result no longer has
    removed: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)  # refused before, and not due
    later: set[str] = field(default_factory=set)  # beyond the limit
    outgoing: dict[str, frozenset[str]] = field(default_factory=dict)  # fields by key
    guarded: bool = False


@dataclass(frozen=True)
class Reckoning:
    """`signatures` are the compared fields when a row was refused, by slot; `for_show`: a dry run."""

    definition: Definition
    rows: Sequence[Row]
    memory: Memory
    now: datetime
    signatures: Mapping[str, tuple[str, ...]]
    wish: Wish = Wish()
    for_show: bool = False

    def reckoned(self) -> Reckoned:
        read, again = self._read()
        keys = [self.definition.key_of(row) for row in (*read, *again)]
        times = Counter(key for key in keys if key is not None)
        single = {key: row for row in (*read, *again) if (key := self.definition.key_of(row)) and times[key] == 1}
        found = Reckoned(
            read=len(read),
            nameless=keys[: len(read)].count(None),
            invalid={key: "invalid_repeated_key" for key, count in times.items() if count > 1},
            again={key for key in keys[len(read) :] if key is not None},
            delta={key: row for key, row in single.items() if self.differs(key, row)},
            left=self._left(times),
        )
        if self.definition.removes:
            own = {key for key, known in self.memory.known.items() if known.sent and not known.gone}
            found.removed = found.left & own
        self._refuse(found)
        self._choose(found)
        self._count(found, times)
        self._guard(found)
        return found

    # --- what is read ---------------------------------------------------------------------------------------------

    @property
    def baseline(self) -> bool:
        state = self.memory.state
        done = state is not None and (state.last_run_at or state.last_full_at)
        return self.definition.first_run == "baseline" and not done

    @property
    def complete(self) -> bool:
        """Whether everything is read."""
        state = self.memory.state
        if not self.definition.cursor or self.wish.full or state is None or state.cursor_value is None:
            return True
        if not self.definition.removes:
            return False
        return state.last_full_at is None or self.now >= parse(state.last_full_at) + timedelta(days=1)

    @property
    def due(self) -> dict[str, str]:
        """Keys that something is owed to, and what their last try came to."""
        kinds = {str(row.key_text): row.kind for row in self.memory.listed.values() if row.key_text is not None}
        kinds |= dict.fromkeys(self.memory.under_way, "in_doubt")
        settling = {
            key: "settling"
            for key, row in self.memory.settling.items()
            if not self.wish.retry and row.next_at is not None and row.next_at <= self.now
        }
        return {**settling, **{key: kind for key, kind in kinds.items() if kind == "in_doubt" or key not in settling}}

    def _read(self) -> tuple[list[Row], list[Row]]:
        """The rows read, and those that are only read again because something is owed to them."""
        if not self.wish.retry and self.complete:
            return list(self.rows), []
        read = [] if self.wish.retry else [row for row in self.rows if self._in_window(row)]
        keys, due = {self.definition.key_of(row) for row in read}, self.due
        again = [row for row in self.rows if (key := self.definition.key_of(row)) in due and key not in keys]
        if any(row.key_text is None for row in self.memory.listed.values()) and None not in keys:
            again += [row for row in self.rows if self.definition.key_of(row) is None]
        return read, again

    def _in_window(self, row: Row) -> bool:
        state = self.memory.state
        if state is None or state.cursor_value is None:
            return True
        return row.seen is None or row.seen >= parse(state.cursor_value) - LAG

    # --- what differs ---------------------------------------------------------------------------------------------

    @property
    def everything(self) -> bool:
        return self.wish.full and self.definition.mode != "insert"

    @property
    def keys_only(self) -> bool:
        return self.definition.mode == "insert" or (self.definition.mode == "append" and not self.wish.full)

    def _doubtful(self, key: str) -> bool:
        return not self.keys_only and self.due.get(key) in ("in_doubt", "settling")

    def differs(self, key: str, row: Row) -> bool:
        if key not in self.memory.known or self.everything or self._doubtful(key):
            return True
        return not self.keys_only and any(self._field_differs(key, row, name) for name in self.definition.compared)

    def _field_differs(self, key: str, row: Row, name: str) -> bool:
        new, entry, known = self.definition.payload(row)[name], self.definition.mapping[name], self.memory.known[key]
        if new is None and entry.nulls == "ignore":
            return False
        return bool(new != known.values.get(name)) or (entry.links and known.owes_links)

    def goes(self, key: str, row: Row) -> frozenset[str]:
        """The fields that a row sends."""
        payload, known = self.definition.payload(row), self.memory.known.get(key)
        if known is None or known.record_id is None or not known.sent:
            return frozenset(name for name, value in payload.items() if value is not None)
        return frozenset(name for name in payload if self._field_goes(key, row, name))

    def _field_goes(self, key: str, row: Row, name: str) -> bool:
        entry = self.definition.mapping[name]
        if self.definition.payload(row)[name] is None and entry.nulls == "ignore":
            return False
        if self.everything or not entry.compare or self._doubtful(key):
            return True
        return self._field_differs(key, row, name)

    def _left(self, there: Container[str]) -> set[str]:
        if not self.complete or self.wish.retry:
            return set()
        return {key for key in self.memory.known if key not in there}

    # --- what is refused ------------------------------------------------------------------------------------------

    def _refuse(self, found: Reckoned) -> None:
        self._invalidate(
            found, {key: "invalid_number" for key, row in found.delta.items() if self._no_number(key, row)}
        )
        if not (found.delta or found.removed) or (self.baseline and not self.for_show):
            return  # the destination isn't asked what it takes
        if self.definition.mode != "append":
            self._invalidate(
                found, {key: "invalid_null_match" for key, row in found.delta.items() if self._finds_nothing(key, row)}
            )
        self._invalidate(
            found, {key: "invalid_too_long" for key, row in found.delta.items() if self._too_long(key, row)}
        )
        if self.definition.mode != "append":
            self._invalidate(found, dict.fromkeys(self._clashing(found), "invalid_match_clash"))
            found.removed -= self._taken_over(found)

    def _no_number(self, key: str, row: Row) -> bool:
        goes, payload = self.goes(key, row), self.definition.payload(row)
        return any(math.isnan(payload[name] or 0) for name in goes & {"seats", "chairs"})

    def _is_new(self, key: str) -> bool:
        return key not in self.memory.known or self.memory.known[key].record_id is None

    def _finds_nothing(self, key: str, row: Row) -> bool:
        return self._is_new(key) and self._match(row) is None

    def _too_long(self, key: str, row: Row) -> bool:
        return "plan" in self.goes(key, row) and len(self.definition.payload(row)["plan"] or "") > LONGEST_PLAN

    def _match(self, row: Row) -> str | None:
        return folded(self.definition.payload(row)["email"])

    def _owners(self, match: str) -> set[str]:
        return {key for key, known in self.memory.known.items() if folded(known.values.get("email")) == match}

    def _clashing(self, found: Reckoned) -> Iterator[str]:
        """Of rows with one match value all but the one whose record it is, else the first in key order."""
        wanted: dict[str, list[str]] = {}
        for key, row in found.delta.items():
            wanted.setdefault(self._match(row) or "", []).append(key)
        wanted.pop("", None)
        for match, keys in wanted.items():
            owners = self._owners(match) - found.left
            keys.sort(key=lambda key: (key not in owners, self.definition.order_of(key)))
            strict = self.definition.on_duplicate == "none" and len(keys) > 1
            if strict or owners - found.delta.keys() or (owners - {keys[0]} and self._is_new(keys[0])):
                yield keys[0]
            yield from keys[1:]

    def _taken_over(self, found: Reckoned) -> set[str]:
        """Removed rows whose record another row finds now, or has already."""
        there = {self._match(row) for row in self.rows if self.definition.key_of(row) is not None} - {None}
        held = {known.record_id for key, known in self.memory.known.items() if key not in found.left}
        gone = {key: self.memory.known[key] for key in found.removed}
        return {key for key, row in gone.items() if folded(row.values.get("email")) in there or row.record_id in held}

    @staticmethod
    def _invalidate(found: Reckoned, codes: Mapping[str, str]) -> None:
        found.invalid |= codes
        for key in codes:
            del found.delta[key]

    # --- what goes out, and what it counts ------------------------------------------------------------------------

    def _choose(self, found: Reckoned) -> None:
        if self.baseline:
            return
        found.held = {key for key in found.delta if self._waits(key, found.delta[key])}
        chosen = sorted(found.delta.keys() - found.held, key=self.definition.order_of)
        if self.wish.limit is not None:
            found.later = {*chosen[self.wish.limit :], *found.removed}
            chosen = chosen[: self.wish.limit]
        found.outgoing = {key: self.goes(key, found.delta[key]) for key in chosen}

    def _waits(self, key: str, row: Row) -> bool:
        """Whether a row was refused with these very values, and isn't due."""
        before = None if key in self.memory.under_way else self.memory.row(key)
        if before is None or self.wish.retry:
            return False
        if before.code == "in_doubt_held" and self.definition.in_doubt == "hold":
            return True  # until a person decides
        if before.kind != "rejected":
            return False
        if before.next_at is None or before.next_at <= self.now:
            return False
        payload = self.definition.payload(row)
        same = all(before.values.get(name) == payload[name] for name in self.definition.compared)
        return same and self.signatures.get(before.slot) == tuple(self.definition.compared)

    def _count(self, found: Reckoned, times: Mapping[str, int]) -> None:
        invalid = found.nameless + sum(times[key] for key in found.invalid.keys() - found.again)
        new = [key for key in found.delta.keys() - found.again if key not in self.memory.known]
        changed = len(found.delta.keys() - found.again) - len(new)
        found.counts = {
            "read": found.read,
            "added": 0 if self.baseline else len(new),
            "changed": changed,
            "removed": len(found.removed),
            "unchanged": found.read - invalid - changed - (0 if self.baseline else len(new)),
            "invalid": invalid,
            "retried": len((found.delta.keys() & found.again) - found.held),
        }

    def _guard(self, found: Reckoned) -> None:
        known = sum(not known.gone for known in self.memory.known.values())
        counts, limits = found.counts, self.definition
        if self.baseline or not known:
            return
        emptied = self.complete and not self.wish.retry and not counts["read"]
        removed = limits.max_removed is not None and counts["removed"] > limits.max_removed * known
        changed = limits.max_changed is not None and counts["changed"] > limits.max_changed * known
        found.guarded = emptied or removed or (changed and not self.wish.full)
