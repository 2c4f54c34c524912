"""One person's bytes, gone: deleting a row frees its place in a file and leaves what stood there.

So the store and the snapshot are written anew, and the reports of runs lose what they quote. What lies in other files
is looked for and named; nothing else is touched.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import sqlalchemy as sa

from reverse_etl.localdb import literal, table
from reverse_etl.standing import RefusedRow
from reverse_etl.state import engine, tables

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore

GONE = "(forgotten)"
SHORTEST = 4  # characters: a shorter key or value stands in every file by chance
_CHUNK = 1024 * 1024


def words_of(connection: duckdb.DuckDBPyConnection, key: str, listed: Iterable[RefusedRow]) -> frozenset[str]:
    """A row's key and texts, as far as they are its own: what was acknowledged of it, and what was refused."""
    relation = f"SELECT COLUMNS('^f_.*') FROM known WHERE key = {literal(key)}"
    has_fields = any(row[0].startswith("f_") for row in connection.execute("DESCRIBE known").fetchall())
    rows = table(connection, relation).to_pylist() if has_fields else []
    values = [value for row in rows for value in row.values()]
    values += [value for row in listed for value in row.values.values()]
    texts = {value for value in values if isinstance(value, str)}
    return frozenset(text for text in {key, *texts} if len(text) >= SHORTEST)


def remnants(folder: Path, url: str, key: str) -> Iterator[str]:
    """Files in and beside a state's folder, and beside a store that lies elsewhere, that hold a key's text still."""
    wanted = {key.encode(), json.dumps(key)[1:-1].encode()}
    if len(key.encode()) < SHORTEST:
        return
    store, root = engine.sqlite_file(url), folder.parent
    found = {path for place in (folder, *root.glob(f"{folder.name}.*")) for path in place.rglob("*")}
    found |= set(store.parent.glob(f"{store.name}*")) if store is not None else set()
    for path in sorted(found):
        if path.is_file() and not path.is_symlink() and any(_holds(path, text) for text in wanted):
            yield str(path.relative_to(root) if path.is_relative_to(root) else path)


def clear_reports(store: StateStore, sync: str, words: Collection[str]) -> None:
    """Notes and errors of runs may quote keys, and a destination's words values."""
    runs = tables.runs
    with store.writing(durable=True) as connection:
        for run_id, report in connection.execute(
            sa.select(runs.c.run_id, runs.c.report).where(runs.c.sync == sync)
        ).all():
            cleared = json.dumps(_without(json.loads(report), sorted(words, key=len, reverse=True)))
            if cleared != report:
                connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(report=cleared))


def _without(document: dict[str, object], words: Collection[str]) -> dict[str, object]:
    """A report, its notes and its error's texts without these words."""

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {name: clean(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [clean(inner) for inner in value]
        if isinstance(value, str):
            for word in words:
                value = value.replace(word, GONE)
        return value

    return document | {name: clean(document[name]) for name in ("notes", "error") if name in document}


def _holds(path: Path, wanted: bytes) -> bool:
    tail = b""
    with path.open("rb") as file:
        while part := file.read(_CHUNK):
            if wanted in tail + part:
                return True
            tail = part[-len(wanted) :]
    return False
