"""Standard streams: no secrets, and no failing when nobody reads."""

from __future__ import annotations

import base64
import io
import os
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from reverse_etl.cli.streams import MASK, Outlet, Redactor, secrets_in


class Login(BaseModel):
    client_id: str
    client_secret: SecretStr


class Connection(BaseModel):
    auth: Login
    url: SecretStr
    hosts: list[SecretStr] = []


@given(st.text(min_size=6, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_S05_a_known_secret_is_masked_in_every_form_it_travels_in(secret: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.learn([secret])
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    for form in (secret, quote(secret, safe=""), encoded):
        assert form not in redactor.clean(before + form + after).replace(MASK, "")


def test_S05_every_secret_of_a_configuration_is_found() -> None:
    connection = Connection(
        auth=Login(client_id="open", client_secret=SecretStr("s3cret-a")),
        url=SecretStr("postgresql://me:p%40ss-word@db.example/app"),
        hosts=[SecretStr("s3cret-b")],
    )
    assert set(secrets_in({"x": connection})) == {
        "s3cret-a",
        "s3cret-b",
        "postgresql://me:p%40ss-word@db.example/app",
        "p%40ss-word",
        "p@ss-word",
    }


def test_an_address_without_a_secret_stays_readable() -> None:
    assert list(secrets_in(SecretStr("duckdb:////home/me/warehouse.duckdb"))) == []


def test_short_words_are_not_masked_everywhere() -> None:
    redactor = Redactor()
    redactor.learn(["test"])
    assert redactor.clean("test@example.com") == "test@example.com"


def test_P52_a_reader_who_leaves_does_not_stop_the_writer() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = io.TextIOWrapper(os.fdopen(writing, "wb", buffering=0), write_through=True)
    outlet = Outlet(stream, Redactor())
    for _ in range(3):
        assert outlet.write("still at work\n") == 14
        outlet.flush()
    assert isinstance(outlet.lost, BrokenPipeError)
    stream.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_P52_a_full_disk_under_the_log_does_not_stop_the_writer() -> None:
    with open("/dev/full", "w") as stream:  # noqa: PTH123
        outlet = Outlet(stream, Redactor())
        outlet.write("x" * 100_000)
        outlet.flush()
        assert outlet.lost is not None
