"""Standard output and error as this program writes them: without secrets, and never the reason a delivery stops."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO, cast

from reverse_etl.redaction import Redactor


class Outlet:
    """A stream to a reader who may leave: once writing fails, the rest is dropped and `lost` says why."""

    def __init__(self, stream: TextIO, redactor: Redactor) -> None:
        self._stream = stream
        self._redactor = redactor
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        if self.lost is None:
            try:
                self._stream.write(self._redactor.clean(text))
            except OSError as failure:
                self._lose(failure)
        return len(text)

    def flush(self) -> None:
        if self.lost is None:
            try:
                self._stream.flush()
            except OSError as failure:
                self._lose(failure)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _lose(self, failure: OSError) -> None:
        self.lost = failure
        # What is still buffered would be flushed, and complained about, once more when the interpreter ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def guard_standard_streams(redactor: Redactor) -> None:
    """Puts an Outlet before stdout and stderr; characters that the encoding lacks are written as escapes."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(number))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Outlet):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast("TextIO", Outlet(stream, redactor)))


def _nowhere(number: int) -> TextIO:
    """In place of a standard stream that was closed. Its number is taken too, or the next file opened would get it."""
    try:
        os.fstat(number)
    except OSError:
        handle = os.open(os.devnull, os.O_RDWR)
        if handle != number:
            os.dup2(handle, number)
            os.close(handle)
    return Path(os.devnull).open("w" if number else "r", encoding="utf-8")
