"""The key of a project's digests: made once, kept in the store, encrypted where there is a key for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import SecretStr

from reverse_etl.digests import Digests, new_key
from reverse_etl.state.sealed import SealedMemory

if TYPE_CHECKING:
    from reverse_etl.state.store import StateStore

SCOPE, NAME = "state", "digest_key"


def known(store: StateStore | None, keys: Sequence[SecretStr]) -> Digests:
    """For who only looks: with the project's key, or one that fits nothing where there is none yet."""
    kept = None if store is None else SealedMemory(_Kept(store, looks=True), keys).get(NAME)
    return Digests(kept or new_key())


def settled(store: StateStore, keys: Sequence[SecretStr]) -> Digests:
    """With the project's key; if several runs make the first one at once, they all get the same."""
    memory = SealedMemory(_Kept(store), keys)
    kept = memory.get(NAME)
    if kept is None:
        memory.put(NAME, new_key())
        kept = memory.get(NAME)
    return Digests(kept or "")


class _Kept:
    """The store as a memory. What is there is only replaced by the same, sealed anew, and never by who only looks."""

    def __init__(self, store: StateStore, *, looks: bool = False) -> None:
        self._store = store
        self._looks = looks
        self._found = False

    def get(self, name: str) -> str | None:
        kept = self._store.remembered.get(SCOPE, name)
        self._found = kept is not None
        return kept

    def put(self, name: str, value: str | None) -> None:
        if self._looks:
            return
        if self._found:
            self._store.remembered.put(SCOPE, name, value)
        elif value is not None:
            self._store.remembered.put_first(SCOPE, name, value)
