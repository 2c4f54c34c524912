"""Where a case plays: a project folder, its warehouse, the fake destination, and the tool as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.faults.door import SECRET
from tests.faults.fake import Fake
from tests.faults.ground import DuckDB, Ground, SQLite, Store
from tests.faults.org import Org
from tests.faults.scripted import Scripted, answering

TOOL = Path(sys.executable).with_name("reverse-etl")
LONGEST = 90.0
PEOPLE: dict[str, Any] = {
    "source": "warehouse",
    "query": "select * from people",
    "key": "email",
    "destination": "crm",
}
FAKES: dict[str, type[Fake | Org]] = {"hubspot": Fake, "salesforce": Org}


@dataclass(frozen=True)
class Ended:
    """A command that is over. A negative code is the signal that ended it."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float
    since: int  # entries the ledger had when it began

    def document(self) -> dict[str, Any] | None:
        """What --json printed; None where it printed no such thing."""
        try:
            found = json.loads(self.out)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    @property
    def run(self) -> dict[str, Any]:
        """The one run of a `sync --json`; empty where none was told."""
        runs = (self.document() or {}).get("runs") or [{}]
        return dict(runs[0])


@dataclass
class Running:
    """A command on its way."""

    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes]
    out: Path
    began: float
    since: int

    def signal(self, number: int) -> None:
        """To the whole group: nothing that the tool started outlives it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    def wait(self, seconds: float = LONGEST) -> Ended:
        """To its end; killed when it takes too long, which its code then tells."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
            code = -9999
        taken = time.monotonic() - self.began
        texts = [path.read_bytes().decode("utf-8", "replace") for path in (self.out, self.out.with_suffix(".err"))]
        return Ended(self.arguments, code, texts[0], texts[1], taken, self.since)


@dataclass
class Violation:
    invariant: str
    text: str


@dataclass
class Stage:
    """One case's own world. What it finds wrong goes to `violations`, what it measures to `figures`."""

    folder: Path
    fake: Scripted
    random: random.Random
    store: Store
    package: Path | None = None
    small: bool = False  # of the smoke tier: everything once, few kills
    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    cycles: int = 0
    kills: int = 0
    variables: dict[str, str] = field(default_factory=dict)  # of the tool's environment
    ended: list[Ended] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ground = Ground(self.store, self.random)
        self.project()
        self.define()

    # --- the project --------------------------------------------------------------------------------------------------

    def project(self, *, base_url: str | None = None, settings: Mapping[str, Any] | None = None, **more: Any) -> None:
        """The project file; `settings` are the connection's beside those that it always has."""
        destination = self.fake.settings(base_url or self.fake.url) | dict(settings or {})
        document = {"sources": {"warehouse": {"url": self.store.url}}, "destinations": {"crm": destination}, **more}
        (self.folder / "reverse_etl.yml").write_text(yaml.safe_dump(document))

    def define(self, name: str = "people", **changes: Any) -> None:
        document = {key: value for key, value in {**PEOPLE, **self.fake.people, **changes}.items() if value is not None}
        (self.folder / "syncs").mkdir(exist_ok=True)
        (self.folder / "syncs" / f"{name}.yml").write_text(yaml.safe_dump(document))

    @property
    def state(self) -> Path:
        return self.folder / ".reverse_etl"

    # --- the tool -----------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, prefix: Sequence[str] = (), variables: Mapping[str, str] | None = None) -> Running:
        """The tool as a process in a session of its own; `prefix` starts it under another command."""
        self.fake.new_caller()
        out = self.folder.parent / f"out-{len(self.ended)}-{time.monotonic_ns()}"
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            process = subprocess.Popen(
                [*prefix, str(TOOL), *arguments],
                cwd=self.folder,
                env=self._environment() | dict(variables or {}),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        return Running(arguments, process, out, time.monotonic(), len(self.fake.ledger))

    def finish(self, running: Running, seconds: float = LONGEST) -> Ended:
        """Wait for a command, and keep what it said for the checks."""
        ended = running.wait(seconds)
        self.ended.append(ended)
        self.kills += ended.code == -signal.SIGKILL
        running.out.unlink()
        running.out.with_suffix(".err").unlink()
        return ended

    def tool(self, *arguments: str, **options: Any) -> Ended:
        return self.finish(self.start(*arguments, **options))

    def sync(self, *arguments: str, **options: Any) -> Ended:
        return self.tool("sync", "people", "--json", *arguments, **options)

    def start_sync(self, *arguments: str, **options: Any) -> Running:
        return self.start("sync", "people", "--json", *arguments, **options)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REVERSE_ETL_", "CRM_"))}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        cache = str(Path(tempfile.gettempdir()) / "faults-bytecode")  # starts fast, and leaves the tree as it is
        other = {"PYTHONPATH": str(self.package)} if self.package is not None else {}
        secrets = {"CRM_TOKEN": SECRET, "CRM_REFRESH_TOKEN": SECRET}
        return kept | secrets | {"PYTHONPYCACHEPREFIX": cache, **other} | self.variables

    # --- what was found -----------------------------------------------------------------------------------------------

    def wrong(self, invariant: str, text: str) -> None:
        self.violations.append(Violation(invariant, text))

    def most(self, figure: str, value: float) -> None:
        """A figure that keeps its greatest value."""
        self.figures[figure] = max(self.figures.get(figure, value), value)

    def count(self, figure: str, more: float = 1) -> None:
        self.figures[figure] = self.figures.get(figure, 0) + more


@contextlib.contextmanager
def stage(
    seed: str,
    *,
    warehouse: str = "duckdb",
    destination: str = "hubspot",
    package: Path | None = None,
    small: bool = False,
) -> Iterator[Stage]:
    """A stage in a folder of its own, taken down afterwards. `seed` decides everything that is decided by chance.

    `package` is a folder with another copy of the product, to be played against instead of the installed one.
    """
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    folder = root / "project"
    folder.mkdir()
    chance = random.Random(seed)
    stores: dict[str, Store] = {"duckdb": DuckDB(folder), "sqlite": SQLite(folder)}
    try:
        fake = FAKES[destination](chance.randrange(2**32))
        with answering(fake):
            yield Stage(folder, fake, chance, stores[warehouse], package, small)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def until(reached: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
