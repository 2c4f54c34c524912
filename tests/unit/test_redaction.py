"""What counts as a secret, and in which forms one is known."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from reverse_etl.redaction import MASK, SECRETS, Redactor, secrets_in


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


FORMS: dict[str, Callable[[str], str]] = {
    "hex": lambda secret: secret.encode().hex(),
    "upper-case hex": lambda secret: secret.encode().hex().upper(),
    "form field": quote_plus,
    "JSON": lambda secret: json.dumps({"said": secret}),
    "repr": repr,
    "Base64 beside a client's id": lambda secret: base64.b64encode(f"client:{secret}".encode()).decode(),
    "Base64 between two others": lambda secret: base64.urlsafe_b64encode(f"ab:{secret}:cd".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", ["canary/of+many=kinds &7", "canary-7f3a9c"])
def test_S05_a_secret_is_masked_where_it_is_a_part_of_something(form: str, secret: str) -> None:
    redactor = Redactor()
    redactor.learn([secret])
    written = FORMS[form](secret)
    cleaned = redactor.clean(f"before {written} after")
    assert MASK in cleaned
    assert cleaned.startswith("before ") and cleaned.endswith(" after")
    assert written not in cleaned


def test_S05_each_line_of_a_key_is_a_secret() -> None:
    lines = [
        "-----BEGIN PRIVATE KEY-----",
        "MIIEvQIBADANBgkqhkiG9w0BAQEF",
        "AASCBKcwggSjAgEA",
        "-----END PRIVATE KEY-----",
    ]
    key = "\n".join(lines)
    redactor = Redactor()
    redactor.learn([key])
    assert "MIIE" not in redactor.clean("unexpected line: MIIEvQIBADANBgkqhkiG9w0BAQEF")
    assert redactor.clean("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


def test_S05_a_webhook_s_address_is_a_secret_and_so_is_a_token_in_a_query() -> None:
    hook = "https://hooks.example.com/services/T0/B0/canary7f3a"
    assert set(secrets_in(SecretStr(hook))) == {hook, "services/T0/B0/canary7f3a"}
    lake = "duckdb:///md:lake?motherduck_token=canary7f3a&threads=2"
    assert set(secrets_in(SecretStr(lake))) == {lake, "canary7f3a"}


def test_S05_the_process_s_own_secrets_add_up() -> None:
    SECRETS.learn(["canary-one"])
    SECRETS.learn(["canary-two"])
    assert SECRETS.clean("canary-one canary-two") == f"{MASK} {MASK}"
