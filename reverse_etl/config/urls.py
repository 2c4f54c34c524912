"""SQLAlchemy URLs of sources and of the state: their shape, and files made absolute.

No message repeats a URL: it may hold a password.
"""

from __future__ import annotations

import re
from pathlib import Path

_SHAPE = re.compile(r"([a-z][a-z0-9_]*)(?:\+[a-z][a-z0-9_]*)?://[^\x00-\x1f]*", re.IGNORECASE)
_EXAMPLES = "duckdb:///warehouse.duckdb or postgresql+psycopg://user@host/database"
_FILE_DIALECTS = frozenset({"duckdb", "sqlite"})
# Not files: in memory, MotherDuck (https://motherduck.com/docs, read 2026-11), SQLite's own URIs.
_NO_FILE = (":memory:", "md:", "motherduck:", "file:")


def dialect_of(url: str) -> str:
    """The dialect's name, lower case. ValueError when this is no SQLAlchemy URL."""
    found = _SHAPE.fullmatch(url)
    if found is None:
        raise ValueError(f"should be a SQLAlchemy URL such as {_EXAMPLES}")
    dialect = found[1].lower()
    if dialect in _FILE_DIALECTS and not re.fullmatch(r"[^:]*://(?:/.*)?", url):
        raise ValueError(f"a file needs three slashes, four when its path is absolute: {dialect}:///folder/file")
    return dialect


def absolute(url: str, root: Path) -> str:
    """The same URL with a relative file made absolute: whoever opens it, from wherever, opens the same file."""
    dialect = dialect_of(url)
    start, _, rest = url.partition("://")
    path, mark, options = rest.removeprefix("/").partition("?")
    if dialect not in _FILE_DIALECTS or not path or path.startswith(_NO_FILE):
        return url
    return f"{start}:///{root / path}{mark}{options}"


def absolute_state(url: str, root: Path) -> str:
    """The state's URL with its file made absolute. ValueError for what can't hold a state."""
    dialect = dialect_of(url)
    if dialect not in {"sqlite", "postgresql"}:
        raise ValueError("should be SQLite (sqlite:///.reverse_etl/state.db) or PostgreSQL (postgresql+psycopg://...)")
    complete = absolute(url, root)
    file = complete.partition(":///")[2].partition("?")[0]
    if dialect == "sqlite" and not Path(file).is_absolute():
        raise ValueError("should name a file: a state in memory would be forgotten after the run")
    return complete
