"""Where DuckDB puts what doesn't fit into memory: a private folder that goes with its process or the next.

The folder is locked while its process lives. A process that was killed leaves its folder unlocked; the next one that
needs a folder removes it, since rows of the warehouse may lie in it.
"""

from __future__ import annotations

import atexit
import fcntl
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import IO

PREFIX = "reverse-etl-spill-"
LOCK = "lock"


@cache
def folder() -> str:
    """This process's own."""
    sweep(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = (made / "new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (made / "new").rename(made / LOCK)  # locked before it has its name, so that nobody finds it unlocked
    atexit.register(_remove, made, lock)
    return str(made)


def sweep(root: Path) -> None:
    """Remove the folders of processes that are gone."""
    for left in root.glob(f"{PREFIX}*"):
        try:
            lock = (left / LOCK).open("r+")
        except OSError:  # somebody else's, or just being made
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # its process lives
            lock.close()
        else:
            _remove(left, lock)


def _remove(folder: Path, lock: IO[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()
