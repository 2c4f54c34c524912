from __future__ import annotations

import pytest

from reverse_etl.urls import checked_base_url, checked_webhook, is_loopback


@pytest.mark.parametrize(
    ("written", "used"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com:8443/v1/", "https://api.example.com:8443/v1"),
        ("http://localhost:8750", "http://localhost:8750"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://127.8.9.10:1", "http://127.8.9.10:1"),
        ("http://[::1]:8750", "http://[::1]:8750"),
    ],
)
def test_S11_https_and_loopback_are_taken(written: str, used: str) -> None:
    assert checked_base_url(written) == used


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("http://api.example.com", "should start with https://; http:// is only for this machine"),
        ("http://0.0.0.0", "should start with https://"),
        ("http://127.1", "should start with https://"),
        ("http://2130706433", "should start with https://"),
        ("http://localhost.example.com", "should start with https://"),
        ("http://localhost.", "should start with https://"),
        ("http://[::ffff:8.8.8.8]", "should start with https://"),
        ("http://169.254.169.254", "should start with https://"),
        ("ftp://localhost", "should be an address such as https://api.example.com"),
        ("api.example.com", "should be an address such as https://api.example.com"),
        ("https://", "should be an address such as https://api.example.com"),
        ("https://u:hunter2@example.com", "should not hold a user name or password"),
        ("http://127.0.0.1@example.com", "should not hold a user name or password"),
        ("http://127.0.0.1\\@example.com", "should be an address without blanks, backslashes or special characters"),
        ("https://exa mple.com", "should be an address without blanks"),
        ("https://ex\u00e4mple.com", "should be an address without blanks"),
        ("https://example.com\n", "should be an address without blanks"),
        ("https://example.com?a=b", "should end before any `?` or `#`"),
        ("https://example.com/#", "should end before any `?` or `#`"),
        ("https://example.com:port", "should be an address such as https://api.example.com:443"),
        ("https://example.com:99999", "should be an address such as https://api.example.com:443"),
        ("https://[::1", "should be an address such as https://api.example.com:443"),
    ],
)
def test_S11_anything_else_is_refused(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^should") as failure:
        checked_base_url(written)
    assert str(failure.value).startswith(said)
    assert "hunter2" not in str(failure.value)


def test_names_other_than_localhost_never_count_as_this_machine() -> None:
    assert is_loopback("localhost")
    assert not is_loopback("localhost.localdomain")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T0/B0/x",
        "https://example.com/hook?token=1",
        "http://127.0.0.1:9000/hook",
        "https://8.8.8.8/x",
    ],
)
def test_S11_a_webhook_goes_to_https_and_a_public_host(url: str) -> None:
    assert checked_webhook(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/hook", "should start with https://"),
        ("https://u:p@example.com/", "should hold no user name"),
        ("https://10.1.2.3/x", "should be a public host"),
        ("https://169.254.169.254/latest", "should be a public host"),
        ("https://[fd00:ec2::254]/latest", "should be a public host"),
        ("https://[::ffff:10.0.0.1]/", "should be a public host"),
        ("https://[64:ff9b::a00:1]/", "should be a public host"),
        ("https://[2002:a00:1::]/", "should be a public host"),
        ("https://0.0.0.0/", "should be a public host"),
        ("https://100.64.0.1/", "should be a public host"),
        ("https://224.0.0.1/", "should be a public host"),
        ("ftp://example.com/", "should be an address such as https://hooks.example.com"),
        ("example.com", "should be an address such as https://hooks.example.com"),
    ],
)
def test_S11_a_webhook_goes_nowhere_else(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked_webhook(url)
