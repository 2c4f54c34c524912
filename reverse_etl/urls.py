"""Addresses that credentials may be sent to, as a type for connection settings.

A leaf like `values`: connectors use it for every `base_url` and `login_url`.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_UNICAST = IPv6Network("2000::/3")  # all that is given out to the internet: RFC 4291
# What Python's releases don't agree on, or can't know: protocol assignments, relays, documentation, Azure's own host.
_NO_HOSTS_4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32")))
_NO_HOSTS_6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214: an address of IPv4 follows


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


def checked_webhook(url: str) -> str:
    """The address as it is; ValueError when no message may go there. What its name resolves to is checked later."""
    parts = _split(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise ValueError("should be an address such as https://hooks.example.com/...")
    if parts.username is not None or parts.password is not None or "#" in url:
        raise ValueError("should hold no user name, password or `#`")
    if is_loopback(parts.hostname):
        return url
    if parts.scheme == "http":
        raise ValueError("should start with https://; http:// is only for this machine (localhost, 127.0.0.1, [::1])")
    try:
        address = ip_address(parts.hostname)
    except ValueError:
        return url
    if not is_public(address):
        raise ValueError("should be a public host: private, link-local and other special addresses are refused")
    return url


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one of the internet's own: none of a private network, of a cloud's metadata, or special.

    An IPv6 address that carries one of IPv4 (mapped, 6to4, ISATAP, NAT64) is as public as what it carries.
    """
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast and not any(address in net for net in _NO_HOSTS_4)
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.ipv4_mapped is not None or address in _NAT64:
        return is_public(last)
    carried = [address.sixtofour] if address.sixtofour is not None else []
    carried += [last] if int(address) >> 32 & 0xFFFFFFFF in _ISATAP else []
    return (
        address in _UNICAST
        and address.is_global
        and not any(address in net for net in _NO_HOSTS_6)
        and all(map(is_public, carried))
    )


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
