"""Values as digests: whether a field has changed can be told without keeping what it was.

A digest is the first 64 bits of SHA-256 over a key of the project's own, the field's name and the value's one text
(`localdb.canonical_text`), so that a change of type that changes no value changes no digest. Without the key nobody can
try a list of addresses against them.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from reverse_etl.localdb import canonical_text, literal

TYPE = "UBIGINT"
UNKNOWN = 1  # a fingerprint that no row has: the fields decide


def new_key() -> str:
    return secrets.token_hex(32)


@dataclass(frozen=True)
class Digests:
    """SQL for digests; NULL has none."""

    key: str

    def of(self, field: str, expression: str, type: str, *, folded: bool = False) -> str:
        """Of a field's value; `folded`: as one that finds records whatever its case and outer blanks."""
        text = canonical_text(expression, type)
        return self._sql(f"{field}\n{'folded' if folded else ''}\n", f"lower(trim({text}))" if folded else text)

    def of_fingerprint(self, expression: str) -> str:
        """Of a row's fingerprint, from which a value could be guessed otherwise."""
        return self._sql("", f"CAST({expression} AS VARCHAR)")

    def _sql(self, about: str, text: str) -> str:
        return f"CAST('0x' || left(sha256({literal(self.key + about)} || {text}), 16) AS {TYPE})"
