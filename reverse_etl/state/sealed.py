"""Tokens that a connection remembers, encrypted: a refresh token that a CRM gave out is as good as a password.

Each value is a Fernet token (AES-128-CBC with HMAC-SHA256, https://github.com/fernet/spec) behind a prefix that tells
it from a value kept before there was a key. The first key encrypts, all of them decrypt. What else a connection keeps
(the ids of its bulk jobs) is no secret, and must not be lost with a key.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SecretStr

from reverse_etl.errors import StateError
from reverse_etl.protocols import Memory

PREFIX = "fernet:"
SECRET = ("refresh_token", "access_token", "digest_key")  # what the name of a secret begins with
CODE = "state_key"


class SealedMemory:
    """A memory behind encryption; without keys it keeps plain values, and never takes a sealed one for such."""

    def __init__(self, memory: Memory, keys: Sequence[SecretStr]) -> None:
        self._memory = memory
        self._keys = [key.get_secret_value() for key in keys]

    def get(self, name: str) -> str | None:
        """The value. One that isn't sealed by the newest key is, from now on. Raises StateError for a key of no use."""
        kept = self._memory.get(name)
        if kept is None or not name.startswith(SECRET) or not (self._keys or kept.startswith(PREFIX)):
            return kept
        if not kept.startswith(PREFIX):
            self.put(name, kept)
            return kept
        value, is_newest = self._unsealed(kept.removeprefix(PREFIX))
        if not is_newest:
            self.put(name, value)
        return value

    def put(self, name: str, value: str | None) -> None:
        if value is not None and name.startswith(SECRET) and self._keys:
            from cryptography.fernet import Fernet  # noqa: PLC0415  # only where there is a key

            value = PREFIX + Fernet(self._keys[0]).encrypt(value.encode()).decode()
        self._memory.put(name, value)

    def _unsealed(self, token: str) -> tuple[str, bool]:
        """What was sealed, and whether the newest key did it."""
        if not self._keys:
            raise StateError(
                "what this connection remembers is encrypted, and no key is configured",
                code=CODE,
                hint="put the key that it was written with into `state: {encryption_key: ...}`; nothing was changed",
            )
        from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415

        for place, key in enumerate(self._keys):
            try:
                return Fernet(key).decrypt(token).decode(), place == 0
            except (InvalidToken, ValueError):
                continue
        raise StateError(
            "what this connection remembers can't be decrypted: it was written with another key, or is damaged",
            code=CODE,
            hint="add the key that it was written with behind the new one in `state: {encryption_key: NEW,OLD}`; "
            "nothing was changed",
        )
