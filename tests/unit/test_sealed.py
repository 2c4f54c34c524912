"""What a connection remembers, encrypted; keys that change, that are missing, that are wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from reverse_etl.errors import StateError
from reverse_etl.state.sealed import SealedMemory
from reverse_etl.testing.clock import Forgetful

OLD, NEW, OTHER = (SecretStr(Fernet.generate_key().decode()) for _ in range(3))


def sealed(kept: Forgetful, *keys: SecretStr) -> SealedMemory:
    return SealedMemory(kept, keys)


@given(value=st.text())
def test_a_value_comes_back_as_it_was_and_lies_there_as_something_else(value: str) -> None:
    kept = Forgetful()
    sealed(kept, NEW).put("refresh_token", value)
    assert sealed(kept, NEW).get("refresh_token") == value
    assert kept["refresh_token"] != value
    assert len(value) < 4 or value not in kept["refresh_token"]


def test_without_a_key_values_are_kept_as_they_are() -> None:
    kept = Forgetful()
    sealed(kept).put("refresh_token", "t")
    assert (kept["refresh_token"], sealed(kept).get("refresh_token"), sealed(kept).get("other")) == ("t", "t", None)


def test_a_value_that_was_plain_is_read_and_sealed_when_there_is_a_key() -> None:
    kept = Forgetful(refresh_token="t")
    assert sealed(kept, NEW).get("refresh_token") == "t"
    assert kept["refresh_token"].startswith("fernet:")
    assert sealed(kept, NEW).get("refresh_token") == "t"


def test_a_newer_key_takes_over_with_the_next_read_and_the_old_one_may_go() -> None:
    kept = Forgetful()
    sealed(kept, OLD).put("refresh_token", "t")
    assert sealed(kept, NEW, OLD).get("refresh_token") == "t"
    assert sealed(kept, NEW).get("refresh_token") == "t"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([], "no key is configured"),
        ([OTHER], "written with another key"),
        ([OTHER, OLD], "written with another key"),
    ],
)
def test_a_wrong_or_missing_key_is_an_error_that_says_so_and_changes_nothing(
    keys: Sequence[SecretStr], said: str
) -> None:
    kept = Forgetful()
    sealed(kept, NEW).put("refresh_token", "t")
    before = dict(kept)
    with pytest.raises(StateError, match=said) as caught:
        sealed(kept, *keys).get("refresh_token")
    assert (caught.value.code, caught.value.exit_code) == ("state_key", 6)
    assert "encryption_key" in str(caught.value.hint)
    assert kept == before


def test_a_damaged_value_is_an_error() -> None:
    kept = Forgetful(refresh_token="fernet:gibberish…")
    with pytest.raises(StateError, match="or is damaged"):
        sealed(kept, NEW).get("refresh_token")


def test_a_value_can_be_forgotten() -> None:
    kept = Forgetful()
    sealed(kept, NEW).put("refresh_token", "t")
    sealed(kept, NEW).put("refresh_token", None)
    assert sealed(kept, NEW).get("refresh_token") is None


def test_what_is_no_token_is_kept_as_it_is() -> None:
    kept = Forgetful()
    sealed(kept, NEW).put("jobs", "[1]")
    assert (kept["jobs"], sealed(kept).get("jobs"), sealed(kept, OTHER).get("jobs")) == ("[1]", "[1]", "[1]")
