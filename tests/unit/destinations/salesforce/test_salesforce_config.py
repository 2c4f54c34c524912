"""The settings of a Salesforce connection, and the words they are refused with."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from reverse_etl.destinations.salesforce.config import SalesforceConfig

APP = {"flow": "client_credentials", "client_id": "app", "client_secret": "canary-secret"}
OWN = "https://acme.my.salesforce.com"


def config(**settings: Any) -> SalesforceConfig:
    return SalesforceConfig.model_validate({"type": "salesforce", "auth": APP, "login_url": OWN, **settings})


def test_a_plain_connection_needs_only_auth_and_the_orgs_own_address() -> None:
    plain = config()
    assert (plain.api_version, plain.bulk_from, plain.rate_limit.reserve) == ("v62.0", 2000, 0.0)


def test_no_secret_shows_in_the_settings_as_text() -> None:
    assert "canary" not in repr(config()) + str(config()) + config().model_dump_json()


@pytest.mark.parametrize("url", ["https://login.salesforce.com", "https://test.salesforce.com", None])
def test_client_credentials_at_a_shared_login_page_are_refused_with_the_remedy(url: str | None) -> None:
    settings = {"type": "salesforce", "auth": APP, **({"login_url": url} if url else {})}
    with pytest.raises(ValidationError, match=r"your org's own address, such as https://acme.my"):
        SalesforceConfig.model_validate(settings)


def test_the_address_of_the_web_pages_is_refused_with_the_right_one() -> None:
    with pytest.raises(ValidationError, match=r"use https://acme--dev\.sandbox\.my\.salesforce\.com"):
        config(login_url="https://acme--dev.sandbox.lightning.force.com/lightning/page/home")


@pytest.mark.parametrize("url", ["http://acme.my.salesforce.com", "acme.my.salesforce.com", OWN + "/services"])
def test_a_login_url_that_is_not_a_bare_https_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="login_url"):
        config(login_url=url)


def test_plain_http_is_for_this_machine() -> None:
    assert config(login_url="http://127.0.0.1:8750/").login_url == "http://127.0.0.1:8750"


def test_an_access_token_names_its_instance() -> None:
    ready = config(auth={"flow": "access_token", "access_token": "t", "instance_url": OWN + "/"})
    assert ready.auth.flow == "access_token"
    assert ready.auth.instance_url == OWN
    with pytest.raises(ValidationError, match="instance_url"):
        config(auth={"flow": "access_token", "access_token": "t"})


PEM = "-----BEGIN PRIVATE KEY-----canary-----END PRIVATE KEY-----"
JWT = {"flow": "jwt", "client_id": "app", "username": "sync@acme.com"}


def test_a_jwt_takes_one_key_as_text_or_as_a_file_of_known_place() -> None:
    for key in ({"private_key": PEM}, {"private_key_file": "/keys/app.pem"}, {"private_key_file": "~/app.pem"}):
        assert config(auth=JWT | key).auth.flow == "jwt"
    for wrong, words in (
        ({}, "either private_key or private_key_file"),
        ({"private_key": PEM, "private_key_file": "/app.pem"}, "either private_key or private_key_file"),
        ({"private_key": "secret"}, "PEM form"),
        ({"private_key_file": "app.pem"}, "absolute path"),
    ):
        with pytest.raises(ValidationError, match=words) as refused:
            config(auth=JWT | wrong)
        assert "canary" not in str(refused.value).replace(PEM, "")


@pytest.mark.parametrize("version", ["v62.0", "62.0", "62", "v62"])
def test_the_api_version_is_brought_to_its_usual_form(version: str) -> None:
    assert config(api_version=version).api_version == "v62.0"


@pytest.mark.parametrize(
    ("version", "words"), [("v45.0", "v46.0 or later"), ("v68.0", "v67.0 or earlier"), ("latest", "look like v62.0")]
)
def test_an_api_version_that_can_not_serve_is_refused(version: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(api_version=version)


def test_bulk_begins_at_a_number_of_rows_always_or_never() -> None:
    for asked in ("always", "never", 1, 500_000):
        assert config(bulk_from=asked).bulk_from == asked
    for wrong in ("sometimes", 0, -1):
        with pytest.raises(ValidationError, match="bulk_from"):
            config(bulk_from=wrong)


def test_rate_limit_and_reserve_are_read_as_people_write_them() -> None:
    limit = config(rate_limit={"requests": 20, "per": "10s", "reserve": "12.5%"}).rate_limit
    assert (limit.requests, limit.per, limit.reserve) == (20, 10.0, 0.125)
    for wrong in ({"per": 10}, {"reserve": 0.1}, {"reserve": "100%"}, {"requests": 0}, {"per": "0s"}):
        with pytest.raises(ValidationError):
            config(rate_limit=wrong)


@pytest.mark.parametrize("secret", ["", "two words", "line\nbreak", "ü"])
def test_a_secret_that_was_copied_badly_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValidationError, match="without blanks or line breaks"):
        config(auth={**APP, "client_secret": secret})


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="password"):
        config(password="x")
