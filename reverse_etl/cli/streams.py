"""Standard output and error as this program writes them: without secrets, and never the reason a delivery stops."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TextIO, cast
from urllib.parse import quote, unquote, urlsplit

MASK = "********"
SHORTEST_SECRET = 6  # masking anything shorter would hide words that have nothing to do with it


class Redactor:
    """Replaces known secrets, in the forms in which they travel, by a mask."""

    def __init__(self) -> None:
        self._forms: list[str] = []

    def learn(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        self._forms = sorted(forms.union(self._forms), key=len, reverse=True)

    def clean(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, MASK)
        return text


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


def secrets_in(config: object) -> Iterator[str]:
    """Every secret within pydantic models, mappings and lists; of a URL with a password, the password as well."""
    reveal = getattr(config, "get_secret_value", None)  # told by shape: `--help` must not wait for pydantic
    if reveal is not None:
        yield from _secrets_of(str(reveal()))
    elif fields := getattr(type(config), "model_fields", None):
        yield from secrets_in([getattr(config, name) for name in fields])
    elif isinstance(config, Mapping):
        yield from secrets_in(list(config.values()))
    elif isinstance(config, list | tuple | set | frozenset):
        for value in config:
            yield from secrets_in(value)


def _secrets_of(value: str) -> Iterator[str]:
    if "://" not in value:
        yield value
        return
    address = urlsplit(value)
    if address.password:
        yield from (value, address.password, unquote(address.password))
    elif address.query:
        yield value


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
