"""The project file: connections, state and defaults, as written and as used."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from reverse_etl import registry
from reverse_etl.config.daemon import DaemonFile
from reverse_etl.config.definition import DefaultsFile
from reverse_etl.config.problems import Places, elsewhere, from_pydantic, nearest, unknown_key
from reverse_etl.config.schedule import parse_duration
from reverse_etl.config.tree import Node
from reverse_etl.config.urls import absolute, absolute_state, dialect_of
from reverse_etl.config.variables import Variables, plain_data
from reverse_etl.config.words import Duration, Name, SchemaName, checked_name
from reverse_etl.errors import PluginError
from reverse_etl.model import Problem
from reverse_etl.protocols import Destination
from reverse_etl.redaction import SECRETS, secrets_in

M = TypeVar("M", bound=BaseModel)
Connector = Callable[[str], type[Destination]]
DEFAULT_STATE_URL = "sqlite:///.reverse_etl/state.db"


class _Part(BaseModel):
    """A part of the project file: conversions are allowed, as variables are always text."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _keys(written: Any) -> Any:
    """The keys in a text; each is 32 bytes in base64, as cryptography's `Fernet.generate_key` makes them."""
    keys = [key.strip() for key in written.split(",")] if isinstance(written, str) else []
    for key in keys:
        try:
            sizes = len(urlsafe_b64decode(key))
        except ValueError:
            sizes = 0
        if sizes != 32:
            keys = []
            break
    if not keys:
        raise ValueError(
            "should be a key of 32 bytes in URL-safe base64, such as `openssl rand -base64 32 | tr +/ -_` makes"
        )
    return keys


class SourceFile(_Part):
    url: SecretStr = Field(
        description="any SQLAlchemy URL; a relative file is relative to the project file; "
        "DuckDB's ends in its settings, such as `?memory_limit=2GB&threads=8` (default: 192MB, at most 4 threads)"
    )
    external_access: bool = Field(False, description="DuckDB: whether its SQL may read files and the network")


class StateFile(_Part):
    url: SecretStr = Field(
        SecretStr(DEFAULT_STATE_URL),
        description="where the project remembers: a SQLite file, or PostgreSQL for several workers",
    )
    values: Literal["keep", "hashes"] = Field(
        "keep", description="hashes: of acknowledged values only digests stay on disk, by which changes are told"
    )
    keep_runs: Duration = Field(
        "90 days", description="how long runs stay on record; the last run of a sync, and what stands, always do"
    )
    encryption_key: Annotated[tuple[SecretStr, ...], BeforeValidator(_keys, json_schema_input_type=str)] = Field(
        (),
        description="a Fernet key: tokens that a destination gives out are encrypted with it; "
        "of several with a comma between them the first encrypts, and all decrypt",
    )


class LogFile(_Part):
    """Where in a warehouse it is written down what runs did."""

    source: Name = Field(description="name of a source; its user must be allowed to write to the schema")
    schema_: SchemaName = Field(
        alias="schema", description="schema of the tables reverse_etl_runs and reverse_etl_rows; made where it isn't"
    )


class ProjectFile(_Part):
    """reverse_etl.yml as written."""

    sources: dict[Name, SourceFile] = Field({}, description="warehouses by name")
    destinations: dict[Name, dict[str, Any]] = Field(
        {}, description="systems that rows go to, by name; each has a `type`"
    )
    state: StateFile = Field(StateFile(), description="where the project remembers what was acknowledged")
    log_to: LogFile | None = Field(
        None, description="runs, and what became of each row, as tables in a warehouse; not written without it"
    )
    defaults: DefaultsFile = Field(DefaultsFile(), description="optional keys of a sync definition, for every sync")
    daemon: DaemonFile = Field(DaemonFile(), description="the scheduler: where it answers, how much it does at once")
    log_values: bool = Field(
        False, description="whether logs may hold keys and values of rows; else keys are hashed there, values left out"
    )


class SourceConfig(_Part):
    """A warehouse; a file in its URL is absolute."""

    name: str
    url: SecretStr
    external_access: bool = False
    folder: Path | None = None  # the project's: where a relative path in its SQL begins

    @property
    def dialect(self) -> str:
        """What comes before `+` or `://` in the URL: the name that finds the connector."""
        return dialect_of(self.url.get_secret_value())

    @property
    def in_memory(self) -> bool:
        """Whether the database is one that every connection finds empty."""
        place = self.url.get_secret_value().partition(":///")[2].partition("?")[0]
        return self.dialect in ("duckdb", "sqlite") and place in ("", ":memory:")


class LogConfig(_Part):
    """A source by name, and a schema in it; `line` and `column` are where the schema is written."""

    source: str
    target: str
    line: int = 0
    column: int = 0


class StateConfig(_Part):
    url: SecretStr
    values: Literal["keep", "hashes"] = "keep"
    keep_runs: timedelta = timedelta(days=90)
    encryption_keys: tuple[SecretStr, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether several machines may keep their state there."""
        return dialect_of(self.url.get_secret_value()) == "postgresql"


class ProjectConfig(_Part):
    """The project as it is used: only the connections that were asked for."""

    root: Path
    sources: dict[str, SourceConfig] = {}
    destinations: dict[str, BaseModel] = {}
    state: StateConfig
    log_to: LogConfig | None = None
    defaults: DefaultsFile = DefaultsFile()
    daemon: DaemonFile = DaemonFile()


def _kept(written: StateFile) -> dict[str, Any]:
    """What the state's settings say beside its address."""
    return {
        "values": written.values,
        "keep_runs": parse_duration(str(written.keep_runs)) if written.keep_runs else timedelta(),
        "encryption_keys": written.encryption_key,
    }


class ReadProject:
    """Reads the parts of a project file one by one, so that a broken one hides no problem of the others."""

    def __init__(self, root: Path, places: Places, variables: Variables, connector: Connector) -> None:
        self.problems: list[Problem] = []
        self.connectors: dict[str, type[Destination]] = {}
        self.destinations: dict[str, BaseModel] = {}
        self.sources: dict[str, SourceConfig] = {}
        self.log_to: LogConfig | None = None
        self.defaults = DefaultsFile()
        self.daemon = DaemonFile()
        self.log_values = False
        self._root = root
        self._places = places
        self._variables = variables
        self._connector = connector
        self._known_keys()

    def names(self, section: str) -> list[str]:
        """The connections under `sources` or `destinations`, broken ones included."""
        return list(self._section(section))

    def channels(self) -> list[str]:
        """The daemon's channels for alerts, broken ones included."""
        node = self._section("daemon").get("alerts")
        return list(node.value) if node is not None and isinstance(node.value, dict) else []

    def read_sources(self, names: Collection[str]) -> None:
        """Reads the sources of these names; the variables of others need not be set."""
        for name in names:
            at = ("sources", name)
            written = self._validated(SourceFile, at)
            if written is None:
                continue
            try:
                url = absolute(written.url.get_secret_value(), self._root)
                dialect = dialect_of(url)
            except ValueError as failure:
                self._complain((*at, "url"), str(failure))
                continue
            if written.external_access and dialect != "duckdb":
                self._complain((*at, "external_access"), "is only for DuckDB: leave it out")
            self.sources[name] = SourceConfig(
                name=name, url=SecretStr(url), external_access=written.external_access, folder=self._root
            )

    def read_destinations(self, names: Collection[str]) -> None:
        """Reads the destinations of these names, each by the settings that its connector declares."""
        for name in names:
            at = ("destinations", name)
            connector = self._connector_of(at)
            if connector is None:
                continue
            self.connectors[name] = connector
            settings = self._validated(connector.Config, at)
            if settings is not None:
                self.destinations[name] = settings

    def read_state(self, url_of_environment: str | None) -> StateConfig:
        """Where state is kept: the environment's word, else the file's, else the default."""
        given = "state" in self._section("")
        written = None
        if url_of_environment is None and given:
            written = self._validated(StateFile, ("state",))
        elif given:
            written = self._validated(StateFile, ("state",), without="url")
        url = url_of_environment or (written or StateFile()).url.get_secret_value()
        SECRETS.learn(secrets_in(SecretStr(url)))
        try:
            return StateConfig(url=SecretStr(absolute_state(url, self._root)), **_kept(written or StateFile()))
        except ValueError as failure:
            if url_of_environment is None:
                self._complain(("state", "url"), str(failure))
            else:
                self.problems.append(Problem("REVERSE_ETL_STATE_URL", 0, 0, "", str(failure)))
            return StateConfig(url=SecretStr(DEFAULT_STATE_URL))

    def log_source(self) -> str | None:
        """The source that the log goes to, as it is written there."""
        node = self._section("log_to").get("source")
        return node.value if node is not None and isinstance(node.value, str) else None

    def read_log(self) -> None:
        """Where the log goes. Its source must have been read before."""
        if "log_to" not in self._section(""):
            return
        written = self._validated(LogFile, ("log_to",), variables=False)
        if written is None:
            return
        line, column = self._places.place_of(("log_to", "schema"))
        self.log_to = LogConfig(source=written.source, target=written.schema_, line=line, column=column)
        known = self.names("sources")
        if written.source not in known:
            message = f"there is no source `{written.source}`; there are {', '.join(known) or 'none'}"
            self._complain(("log_to", "source"), message, nearest=nearest(written.source, known))
        elif (source := self.sources.get(written.source)) is not None and source.in_memory:
            self._complain(("log_to", "source"), "is a database in memory, which ends with every run")

    def read_defaults(self) -> None:
        if "defaults" in self._section(""):
            self.defaults = self._validated(DefaultsFile, ("defaults",), variables=False) or self.defaults

    def read_daemon(self) -> None:
        """Only for the daemon, and for who checks everything: its variables need not be set for a run."""
        if "daemon" in self._section(""):
            self.daemon = self._validated(DaemonFile, ("daemon",)) or self.daemon
        if not self.daemon.only_here and self.daemon.token is None:
            message = "needs a `token` beside it: others than this machine can reach this address"
            self._complain(("daemon", "listen"), message)

    def read_log_values(self) -> None:
        node = self._section("").get("log_values")
        if node is not None and not isinstance(node.value, bool):
            self._complain(("log_values",), "should be true or false")
        self.log_values = node is not None and node.value is True

    def _known_keys(self) -> None:
        known = list(ProjectFile.model_fields)
        for key in self._section(""):
            if key not in known:
                self.problems.append(unknown_key(self._places, (key,), known))
        for section in ("sources", "destinations"):
            for name in self._section(section):
                try:
                    checked_name(name)
                except ValueError as failure:
                    self._complain((section, name), str(failure), of_key=True)
        for section in known:
            node = self._section("").get(section) if section != "log_values" else None
            if node is not None and not isinstance(node.value, dict):
                self._complain((section,), "should be keys with values")

    def _section(self, name: str) -> dict[str, Node]:
        node = self._places.root
        if name and node is not None:
            node = node.child(name)
        return node.value if node is not None and isinstance(node.value, dict) else {}

    def _connector_of(self, at: tuple[str, str]) -> type[Destination] | None:
        node = self._section(at[0])[at[1]]
        if not isinstance(node.value, dict):
            self._complain(at, "should be keys with values, among them `type`")
            return None
        kind = node.child("type")
        known = registry.names(registry.DESTINATIONS)
        if kind is None or not isinstance(kind.value, str):
            listed = ", ".join(known)
            if kind is None:
                self._complain(at, f"`type` is missing here: one of {listed}", of_key=True)
            else:
                self._complain((*at, "type"), f"should be one of {listed}")
            return None
        try:
            return self._connector(kind.value)
        except PluginError as failure:
            message = failure.message + (f" ({failure.hint})" if failure.hint else "")
            near = nearest(kind.value, known) if kind.value not in known else None
            self._complain((*at, "type"), message, nearest=near)
            return None

    def _validated(self, model: type[M], at: tuple[str, ...], *, variables: bool = True, without: str = "") -> M | None:
        """A part of the file as its model has it; None, with the problems noted, when it isn't so."""
        root = self._places.root
        for step in at:
            root = root.child(step) if root is not None else None
        if root is None or not isinstance(root.value, dict):
            self._complain(at, "should be keys with values")
            return None
        node = replace(root, value={key: child for key, child in root.value.items() if key != without})
        used = self._variables if variables else None
        data, problems = plain_data(node, self._places, at, used)
        try:
            validated = model.model_validate(data, context={"root": self._root})
        except ValidationError as failure:
            found = elsewhere(from_pydantic(failure, self._places, model, at), problems)
            whole = self._places.place_of(at)[0]
            # What a model says of the whole may only be about the variables that are missing.
            problems += [problem for problem in found if not problems or problem.line != whole]
        else:
            SECRETS.learn(secrets_in(validated))
        self.problems += problems
        return None if problems else validated

    def _complain(self, path: tuple[str, ...], message: str, nearest: str | None = None, of_key: bool = False) -> None:
        text = "" if path[-1] == "url" else None
        self.problems.append(self._places.problem(path, message, nearest=nearest, of_key=of_key, text=text))
