"""The settings of a Salesforce connection in reverse_etl.yml."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from reverse_etl.settings import RateLimitConfig, Seconds, Secret, Settings
from reverse_etl.urls import BaseUrl

# The REST API upserts lists of records from v46.0 on; v67.0 is the newest release this code was built against.
OLDEST_VERSION = 46
NEWEST_VERSION = 67
GENERIC_LOGINS = frozenset({"login.salesforce.com", "test.salesforce.com"})


def _api_address(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.endswith(".lightning.force.com"):
        name = host.removesuffix(".lightning.force.com")
        raise ValueError(f"is the address of the web pages, not of the API: use https://{name}.my.salesforce.com")
    if parts.path:
        raise ValueError(f"should be the bare address: use {parts.scheme}://{parts.netloc}")
    return url


Address = Annotated[BaseUrl, AfterValidator(_api_address)]


def said(text: str, **settings: Any) -> Any:
    """A setting with the sentence that the reference of files has for it."""
    return Field(description=text, **settings)


class ClientCredentials(Settings):
    """An app that acts as the user named in its own settings."""

    flow: Literal["client_credentials"] = said("how to log in")
    client_id: str = said("the app's Consumer Key", min_length=1)
    client_secret: Secret = said("the app's Consumer Secret")


def _key_text(key: SecretStr) -> SecretStr:
    if "PRIVATE KEY-----" not in key.get_secret_value():
        raise ValueError("should be the key in PEM form, from `-----BEGIN PRIVATE KEY-----` on")
    return key


def _key_path(path: str) -> str:
    if not path.startswith(("/", "~/")) and not PureWindowsPath(path).is_absolute():
        raise ValueError("should be an absolute path, or one from `~/` on")
    return path


class JwtBearer(Settings):
    """An app that acts as a user who has approved it, proving itself by a certificate."""

    flow: Literal["jwt"] = said("how to log in")
    client_id: str = said("the app's Consumer Key", min_length=1)
    username: str = said("the user to act as, who must be allowed the app beforehand", min_length=1)
    private_key: Annotated[SecretStr, AfterValidator(_key_text)] | None = said(
        "the key of the app's certificate, PEM text", default=None
    )
    private_key_file: Annotated[str, AfterValidator(_key_path)] | None = said("or the file that holds it", default=None)
    audience: Address | None = said(
        "whom the assertion is for; without it the shared login page that login_url belongs to", default=None
    )

    @model_validator(mode="after")
    def one_key(self) -> JwtBearer:
        if (self.private_key is None) == (self.private_key_file is None):
            raise ValueError("flow jwt needs either private_key or private_key_file")
        return self


class RefreshToken(Settings):
    """A person's consent, kept."""

    flow: Literal["refresh_token"] = said("how to log in")
    client_id: str = said("the app's Consumer Key", min_length=1)
    refresh_token: Secret = said("the token; a newer one that Salesforce gives out is remembered")
    client_secret: Secret | None = said("the app's Consumer Secret, not needed for a public app", default=None)


class AccessToken(Settings):
    """A session that somebody else keeps fresh; when it ends, the run ends."""

    flow: Literal["access_token"] = said("how to log in")
    access_token: Secret = said("the session's token")
    instance_url: Address = said("the address that the session is valid at")


Auth = Annotated[ClientCredentials | JwtBearer | RefreshToken | AccessToken, Field(discriminator="flow")]


class SalesforceConfig(Settings):
    """Settings of a `type: salesforce` destination."""

    type: Literal["salesforce"] = said("which destination this is")
    auth: Auth = said("the app and the user")
    login_url: Address = said("the org's own address (Setup, My Domain)", default="https://login.salesforce.com")
    api_version: str = said(f"REST API version, v{OLDEST_VERSION}.0 to v{NEWEST_VERSION}.0", default="v62.0")
    rate_limit: RateLimitConfig = said("how much of the org's allowance is used", default=RateLimitConfig())
    bulk_from: Annotated[int, Field(ge=1)] | Literal["never", "always"] = said(
        "rows from which Bulk API 2.0 is used; `never` and `always` too", default=2000
    )
    bulk_patience: Seconds = said("how long a run waits for a bulk job, such as `60m`", default=86_400.0)

    @field_validator("api_version")
    @classmethod
    def known_version(cls, value: str) -> str:
        found = re.fullmatch(r"v?(\d{2})(\.0)?", value)
        if found is None:
            raise ValueError("must look like v62.0")
        number = int(found[1])
        if number < OLDEST_VERSION:
            raise ValueError(f"must be v{OLDEST_VERSION}.0 or later: older ones can't upsert lists of records")
        if number > NEWEST_VERSION:
            raise ValueError(f"must be v{NEWEST_VERSION}.0 or earlier: this release knows no later one")
        return f"v{number}.0"

    @model_validator(mode="after")
    def own_domain(self) -> SalesforceConfig:
        if isinstance(self.auth, ClientCredentials) and urlsplit(self.login_url).hostname in GENERIC_LOGINS:
            raise ValueError(
                "flow client_credentials needs login_url: your org's own address, such as "
                "https://acme.my.salesforce.com (Setup, My Domain); the shared login pages refuse this flow"
            )
        return self
