"""A project in a temporary folder, and a destination that takes anything, for tests of what the files mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from reverse_etl.config.files import load
from reverse_etl.config.project import ProjectConfig
from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError, PluginError
from reverse_etl.model import Problem
from reverse_etl.protocols import Destination
from reverse_etl.urls import BaseUrl

PROJECT = """\
sources:
  warehouse:
    url: duckdb:///warehouse.duckdb
destinations:
  crm:
    type: crm
    token: ${CRM_TOKEN:-sandbox}
"""
SYNC = """\
source: warehouse
query: select email, plan from people
key: email
destination: crm
object: contacts
mapping:
  email: email
  plan: plan
"""


class Key(BaseModel):
    model_config = ConfigDict(extra="forbid")
    how: Literal["key"]
    key: SecretStr


class Password(BaseModel):
    model_config = ConfigDict(extra="forbid")
    how: Literal["password"]
    user: str
    password: SecretStr


class CrmConfig(BaseModel):
    """The settings of a connection as connectors write them."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["crm"]
    token: SecretStr | None = None
    login: Annotated[Key | Password, Field(discriminator="how")] | None = None
    base_url: BaseUrl = "https://api.example.com"
    calls: int = 10
    bulk_from: int | Literal["never", "always"] = "never"

    @model_validator(mode="after")
    def one_credential(self) -> CrmConfig:
        if self.token is None and self.login is None:
            raise ValueError("give a `token` or a `login`")
        return self


class Crm:
    Config: ClassVar[type[BaseModel]] = CrmConfig
    modes: ClassVar[frozenset[str]] = frozenset({"upsert", "update", "mirror"})
    removal: ClassVar[str] = "archive"


def connector(name: str) -> type[Destination]:
    if name != "crm":
        raise PluginError(f"no connector named {name!r} is installed", hint="installed: crm")
    return cast(type[Destination], Crm)


class ProjectFolder:
    """Writes files and loads them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env: dict[str, str] = {}
        self.write("reverse_etl.yml", PROJECT)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def sync(self, changes: Mapping[str, str | None] | None = None, *, name: str = "people", more: str = "") -> Path:
        """The plain definition with lines replaced (None: left out) by their first word, and lines added."""
        lines = []
        for line in SYNC.splitlines():
            key = line.split(":")[0]
            new = (changes or {}).get(key, line)
            lines += [] if new is None else [new]
        return self.write(f"syncs/{name}.yml", "\n".join([*lines, more, ""]))

    def load(self, **options: Any) -> tuple[ProjectConfig, dict[str, SyncConfig]]:
        return load(self.root, self.env, connector=connector, **options)

    def only(self) -> SyncConfig:
        """The one sync of a project that holds one."""
        (sync,) = self.load()[1].values()
        return sync

    def problems(self, **options: Any) -> list[Problem]:
        """What is wrong with the project; nothing when it loads."""
        try:
            self.load(**options)
        except ConfigError as failure:
            return list(failure.problems)
        return []

    def complaints(self, **options: Any) -> list[str]:
        return [str(problem) for problem in self.problems(**options)]
