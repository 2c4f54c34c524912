"""Addresses that credentials may be sent to, as a type for connection settings.

A leaf like `values`: connectors use it for every `base_url` and `login_url`.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator


def is_loopback(host: str) -> bool:
    """Whether a host can only be this machine; names other than `localhost` are not looked up and never count."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def checked_base_url(url: str) -> str:
    """The address without its trailing slash; ValueError when a credential must not go there."""
    parts = _split(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("should be an address such as https://api.example.com")
    if parts.username is not None or parts.password is not None:
        raise ValueError("should not hold a user name or password: the connection has keys of its own for them")
    if "?" in url or "#" in url:
        raise ValueError("should end before any `?` or `#`: it is the root that paths are added to")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("should start with https://; http:// is only for this machine (localhost, 127.0.0.1, [::1])")
    return url.rstrip("/")


def _split(url: str) -> SplitResult:
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("should be an address without blanks, backslashes or special characters")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as failure:
        raise ValueError("should be an address such as https://api.example.com:443") from failure
    return parts


BaseUrl = Annotated[str, AfterValidator(checked_base_url)]
"""The root of an API: https, or http on a loopback host; no credentials, query or fragment in it."""
