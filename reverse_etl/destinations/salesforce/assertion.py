"""The signed assertion by which an app logs in as a user who has approved it: OAuth's JWT bearer flow.

(help.salesforce.com, "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration", read in 2026; RFC 7523.)
"""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from reverse_etl.destinations.salesforce.config import JwtBearer
from reverse_etl.errors import AuthError
from reverse_etl.redaction import SECRETS

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
VALID_SECONDS = 180
PRODUCTION, SANDBOX = "https://login.salesforce.com", "https://test.salesforce.com"
_HINT = "give the RSA key whose certificate was uploaded to the app, in PEM form and without a passphrase"


def signed(connection: str, auth: JwtBearer, login_url: str, now: datetime) -> str:
    """The assertion for one login. Raises AuthError when the key can't sign."""
    claims = {
        "iss": auth.client_id,
        "sub": auth.username,
        "aud": auth.audience or audience(login_url),
        "exp": int(now.timestamp()) + VALID_SECONDS,
    }
    text = b".".join(_encoded(orjson.dumps(part)) for part in ({"alg": "RS256"}, claims))
    return (text + b"." + _encoded(_signature(connection, _pem(connection, auth), text))).decode()


def audience(login_url: str) -> str:
    """Whom an assertion is for: the login page that an org belongs to."""
    host = urlsplit(login_url).hostname or ""
    return SANDBOX if host == "test.salesforce.com" or ".sandbox." in host else PRODUCTION


def _pem(connection: str, auth: JwtBearer) -> bytes:
    if auth.private_key is not None:  # variables often hold it on one line
        return auth.private_key.get_secret_value().replace("\\n", "\n").encode()
    try:
        pem = Path(auth.private_key_file or "").expanduser().read_bytes()
        SECRETS.learn([pem.decode("ascii", "replace")])
        return pem
    except OSError as unreadable:
        raise AuthError(
            f"destination {connection!r}: private_key_file can't be read: {unreadable.strerror}", hint=_HINT
        ) from None


def _signature(connection: str, pem: bytes, text: bytes) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # late: only this flow needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415  # as above
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415  # as above

    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # their words may quote the key
        raise AuthError(f"destination {connection!r}: the private key can't be read", hint=_HINT) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise AuthError(f"destination {connection!r}: the private key is not an RSA key", hint=_HINT)
    return key.sign(text, padding.PKCS1v15(), hashes.SHA256())


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
