"""The records of one object, packed: half a million of them fit in a few hundred megabytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import orjson

Values = dict[str, Any]


def pack(value: Any) -> bytes:
    """JSON in no more memory than it needs: orjson's own result keeps kilobytes of buffer as long as it lives."""
    return bytes(memoryview(orjson.dumps(value)))


class Table:
    """Records by id, each kept as JSON text, with an index per identifying field.

    `fold` makes the index's key from a field's value: two values with one key are the same value there.
    """

    def __init__(self, indexed: dict[str, Callable[[Any], str]]) -> None:
        self._rows: dict[str, bytes] = {}
        self._removed: dict[str, bytes] = {}
        self._sorted: list[int] | None = None
        self._folds = dict(indexed)
        self._indexes: dict[str, dict[str, str | list[str]]] = {name: {} for name in indexed}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, record_id: str) -> bool:
        return record_id in self._rows

    def add_index(self, name: str, fold: Callable[[Any], str]) -> None:
        self._folds[name] = fold
        self._indexes[name] = {}
        for record_id, values in self.items():
            self._enter(name, values.get(name), record_id)

    def get(self, record_id: str) -> Values | None:
        """A fresh dict of the record's values, None when there is no such record (or it is removed)."""
        packed = self._rows.get(record_id)
        return None if packed is None else orjson.loads(packed)

    def removed(self, record_id: str) -> Values | None:
        packed = self._removed.get(record_id)
        return None if packed is None else orjson.loads(packed)

    def find(self, name: str, value: Any) -> list[str]:
        """Ids of the records whose indexed field has that value."""
        hit = self._indexes[name].get(self._folds[name](value))
        if hit is None:
            return []
        return [hit] if isinstance(hit, str) else list(hit)

    def put(self, record_id: str, values: Values, before: Values | None) -> None:
        """Stores the record; `before` is what it held, as `get` gave it, None for a new one."""
        for name in self._indexes:
            old = None if before is None else before.get(name)
            new = values.get(name)
            if old != new:
                self._leave(name, old, record_id)
                self._enter(name, new, record_id)
        if before is None:
            self._sorted = None
            self._removed.pop(record_id, None)
        self._rows[record_id] = pack(values)

    def remove(self, record_id: str, *, keep: bool = True) -> None:
        """Takes the record out, its identifying values become free; `keep` leaves it in the bin."""
        packed = self._rows.pop(record_id)
        self._sorted = None
        values = orjson.loads(packed)
        for name in self._indexes:
            self._leave(name, values.get(name), record_id)
        if keep:
            self._removed[record_id] = packed

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, Values]]:
        """Records in the order they were made."""
        for record_id, packed in list(islice(self._rows.items(), start, stop)):  # as they are now: others go on writing
            yield record_id, orjson.loads(packed)

    def ids(self, *, removed: bool = False) -> list[int]:
        """The ids of a table whose ids are numbers, ascending; kept from call to call while no record comes or goes."""
        if removed:
            return sorted(map(int, self._removed))
        if self._sorted is None:
            self._sorted = sorted(map(int, self._rows))
        return self._sorted

    def removed_items(self) -> Iterator[tuple[str, Values]]:
        for record_id, packed in list(self._removed.items()):
            yield record_id, orjson.loads(packed)

    def clear(self) -> None:
        self._rows.clear()
        self._sorted = None
        self._removed.clear()
        for index in self._indexes.values():
            index.clear()

    def dump(self) -> dict[str, Any]:
        return {
            "records": {record_id: orjson.Fragment(packed) for record_id, packed in self._rows.items()},
            "removed": {record_id: orjson.Fragment(packed) for record_id, packed in self._removed.items()},
        }

    def load(self, document: dict[str, Any]) -> None:
        self.clear()
        for record_id, values in document["records"].items():
            self.put(record_id, values, None)
        self._removed = {record_id: pack(values) for record_id, values in document["removed"].items()}

    def _enter(self, name: str, value: Any, record_id: str) -> None:
        if value is None or value == "":
            return
        index, key = self._indexes[name], self._folds[name](value)
        there = index.get(key)
        if there is None:
            index[key] = record_id
        elif isinstance(there, str):
            index[key] = [there, record_id]
        else:
            there.append(record_id)

    def _leave(self, name: str, value: Any, record_id: str) -> None:
        if value is None or value == "":
            return
        index, key = self._indexes[name], self._folds[name](value)
        there = index.get(key)
        if isinstance(there, list):
            there.remove(record_id)
            if not there:
                del index[key]
        elif there == record_id:
            del index[key]
