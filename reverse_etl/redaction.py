"""Secrets that this process knows, and text without them.

Whatever is read as a secret, or handed out by a login, is learned here. Everything that leaves the process as text is
cleaned: output, log, reports, lists, pages, alerts, details of bugs. A leaf like `values`, and quick to import.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

MASK = "********"
SHORTEST_SECRET = 6  # masking anything shorter would hide words that have nothing to do with it
SHORTEST_LINE = 16  # of a secret that has several: a line of a key is as good as none, a short one may be anything
_SALT = os.urandom(32)
_TELLING = re.compile(r"token|secret|passw|pwd|key|sig|auth|credential", re.IGNORECASE)
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
_UPPER_ESCAPE = re.compile(r"%[0-9A-F]{2}")


class Redactor:
    """Replaces known secrets, in the forms in which they travel, by a mask. Threads may share one."""

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def learn(self, secrets: Iterable[str]) -> None:
        known = frozenset(self._forms)
        forms = {form for secret in secrets for part in _parts(secret) for form in _forms(part)} - {""}
        if not forms <= known:
            self._forms = tuple(sorted(known | forms, key=len, reverse=True))

    def clean(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def forget(self) -> None:
        """Knows nothing any more: for tests, which share a process."""
        self._forms = ()


SECRETS = Redactor()
"""The process's own."""


def pseudonym(text: str) -> str:
    """What a row's key is called in logs: the same for as long as the process lives, and not to be turned back."""
    import hashlib  # noqa: PLC0415  # not for --help

    return "#" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=_SALT, digest_size=6).hexdigest()


def secrets_in(config: object) -> Iterator[str]:
    """Every secret within pydantic models, mappings and lists; of an address, the parts that open something."""
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
    """A secret as it is; of an address its password, what its query gives away, and all of it where that tells."""
    if "://" not in value:
        yield value
        return
    address = urlsplit(value)
    opening = [address.password] if address.password else []
    opening += [text for name, text in parse_qsl(address.query) if _TELLING.search(name)]
    for part in opening:
        yield from (part, unquote(part))
    if address.scheme in ("http", "https"):  # a webhook's address is its secret
        yield from (value, address.path.strip("/"))
    elif opening or address.query:
        yield value


def _parts(secret: str) -> Iterator[str]:
    """The secret, and the lines of one that has several: keys are printed line by line, too."""
    yield secret
    lines = secret.replace("\\n", "\n").split("\n")
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith("-----"))


def _forms(secret: str) -> Iterator[str]:
    if len(secret) < SHORTEST_SECRET:
        return
    yield secret
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield quoted
        yield _UPPER_ESCAPE.sub(lambda found: found[0].lower(), quoted)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield secret.translate(_MARKUP)
    raw = secret.encode("utf-8", "surrogatepass")
    yield raw.hex()
    yield raw.hex().upper()
    yield from _base64(raw)


def _base64(raw: bytes) -> Iterator[str]:
    """As it stands alone, and inside of longer text, where it begins at any of three places of a group."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        for form in (encoded if before == 0 else "", encoded[first:last]):
            yield form
            yield form.replace("+", "-").replace("/", "_")
