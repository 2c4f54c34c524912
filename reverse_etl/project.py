"""Project: what the command line and a script call. It joins the parts of a project and runs them."""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.abc

from reverse_etl import clock, registry
from reverse_etl.config import files
from reverse_etl.config.problems import nearest
from reverse_etl.config.project import ProjectConfig
from reverse_etl.config.schedule import After
from reverse_etl.config.sync import SyncConfig
from reverse_etl.errors import ConfigError
from reverse_etl.model import JSON, ObjectSchema, Problem
from reverse_etl.parts import Parts
from reverse_etl.protocols import Destination, NewField, Source
from reverse_etl.report import RunReport, SyncResult, SyncStatus, gravest
from reverse_etl.standing import REMEDIES, RefusedRow
from reverse_etl.verdicts import Refusal

if TYPE_CHECKING:
    from reverse_etl.explain import Explanation
    from reverse_etl.job import Job, Observer
    from reverse_etl.missing import MissingField
    from reverse_etl.search import Search
    from reverse_etl.stop import Stop

STRICT = re.compile(r"(?<![<>-])>\s*:cursor\b|:cursor\s*<(?![=>])")


@dataclass(frozen=True)
class Wishes:
    """What the caller wants of every run; see `run.Job`."""

    dry_run: bool = False
    full: bool = False
    limit: int | None = None
    approve: str | None = None
    live: bool = False
    refused_only: bool = False


class Project:
    """A folder with reverse_etl.yml and syncs/, understood. Nothing is contacted before a method is called."""

    def __init__(self, config: ProjectConfig, syncs: Mapping[str, SyncConfig]) -> None:
        self.config = config
        self.syncs = syncs
        self.root = config.root
        self.parts = Parts(config)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        env: Mapping[str, str] | None = None,
        only: Sequence[str] | None = None,
        every_connection: bool = False,
    ) -> Project:
        """Read the project at `path`, by default the nearest one upwards. Raises ConfigError with all problems.

        `only` reads just these syncs and what they use; `every_connection` also the connections that no sync uses.
        """
        env = os.environ if env is None else env
        root = files.find_root(Path.cwd(), env, project=None if path is None else Path(path))
        config, syncs = files.load(root, env, only=only, connections_of_all=every_connection)
        return cls(config, syncs)

    # --- running ------------------------------------------------------------------------------------------------------

    def sync(
        self,
        *names: str,
        dry_run: bool = False,
        full: bool = False,
        tag: str | None = None,
        limit: int | None = None,
        approve: str | None = None,
        live: bool = False,
        observer: Observer | None = None,
    ) -> SyncResult:
        """Run these syncs, by default every enabled one, parents before their children.

        What goes wrong in a run stands in its report. Raises ConfigError for a name or tag that is not there, and for
        a live look that isn't part of a dry run.
        """
        chosen = self._chosen(names, tag)
        if live and not dry_run:
            raise ConfigError([Problem("", 0, 0, "live", "a live look is part of a dry run: ask for both")])
        wishes = Wishes(dry_run=dry_run, full=full, limit=limit, approve=approve, live=live)
        return anyio.run(self.run_all, chosen, wishes, observer)

    def retry(self, name: str, observer: Observer | None = None) -> SyncResult:
        """Offer only the rows that were refused before, now."""
        return anyio.run(self.run_all, self._chosen((name,), None), Wishes(refused_only=True), observer)

    async def run_all(self, chosen: Sequence[SyncConfig], wishes: Wishes, observer: Observer | None) -> SyncResult:
        """`sync` for callers with an event loop of their own."""
        from reverse_etl.run import run  # noqa: PLC0415
        from reverse_etl.stop import Stop, ask_on_signal  # noqa: PLC0415  # heavy, and not needed to look

        stop = Stop()
        async with anyio.create_task_group() as tasks:
            if threading.current_thread() is threading.main_thread():
                await tasks.start(ask_on_signal, stop)
            reports = [await run(self._job(sync, wishes, stop, observer)) for sync in chosen if not stop.asked]
            tasks.cancel_scope.cancel()
        return SyncResult(reports, gravest(reports))

    async def carry_out(self, name: str, stop: Stop, observer: Observer | None = None) -> RunReport:
        """One run of one sync, for callers that have their own way of stopping it."""
        from reverse_etl.run import run  # noqa: PLC0415

        return await run(self._job(self.named(name), Wishes(), stop, observer))

    def keep(self, report: RunReport) -> None:
        """Store a run's report again: something has become known of it since it ended."""
        with closing(self.parts.ledger(self.named(report.sync))) as ledger:
            ledger.keep(report)

    # --- looking ------------------------------------------------------------------------------------------------------

    def check(self, *names: str, connect: bool = False) -> list[Problem]:
        """What is wrong beyond the files: with `connect`, credentials, the query's columns, the object's fields."""
        chosen = self._chosen(names, None) if names else list(self.syncs.values())
        if not connect:
            return []
        from reverse_etl.inspect import inspect, inspect_log  # noqa: PLC0415  # reads Arrow schemas: only when asked to

        async def inspect_all() -> list[Problem]:
            return [problem for sync in chosen for problem in await inspect(sync, *self._ends(sync))]

        found, log_to, to = anyio.run(inspect_all), self.parts.warehouse_log(), self.config.log_to
        if log_to is not None and to is not None:
            found += inspect_log(log_to, files.PROJECT_FILE, to.line, to.column)
        return list(dict.fromkeys(found))

    def warnings(self, *names: str) -> list[Problem]:
        """Allowed, and probably not meant: a strict comparison with the cursor skips rows that share its value."""
        chosen = self._chosen(names, None) if names else list(self.syncs.values())
        message = "rows that share the cursor's last value, and late ones, are skipped: write `>= :cursor`"
        return [
            sync.problem("query", message=message, of_key=True)
            for sync in chosen
            if sync.sql is not None and STRICT.search(sync.sql)
        ]

    def status(self) -> list[SyncStatus]:
        """Every sync of the project, in order of name."""
        with self.parts.store() as store:
            good = store.runs.latest(good=True) if store is not None else {}
        return [self._status(sync, good.get(sync.name)) for sync in self.syncs.values()]

    def runs(self, sync: str | None = None, limit: int = 50) -> list[RunReport]:
        """The latest runs, newest first."""
        with self.parts.store() as store:
            found = store.runs.recent(sync, limit=limit) if store is not None else []
        return [RunReport.from_json(document) for document in found]

    def run(self, run_id: str) -> RunReport:
        """One run. Raises ConfigError when there is none with this id."""
        with self.parts.store() as store:
            found = store.runs.of(run_id) if store is not None else None
        if found is None:
            raise ConfigError([Problem("", 0, 0, run_id, "no run has this id")], hint="`reverse-etl runs` lists them")
        return RunReport.from_json(found)

    def rejected(self, sync: str) -> list[RefusedRow]:
        """Rows that are not delivered, and why: rejected, invalid and in doubt."""
        with closing(self.parts.ledger(self.named(sync))) as ledger:
            return ledger.refused()

    def arrived(self, sync: str, *keys: str) -> list[RefusedRow]:
        """Take rows that are held in doubt as delivered, because somebody has looked; returns what was on the list.

        Raises ConfigError, and changes nothing, when one of them isn't held in doubt; SyncBusy beside a run.
        """
        from reverse_etl import arrived  # noqa: PLC0415  # needs the local database
        from reverse_etl.standing import WORD  # noqa: PLC0415

        named, word = self.named(sync), WORD + _run_id()
        note = partial(self.note, "arrived", sync=sync, word=word)
        said = arrived.Word(word, clock.SYSTEM.now(), note, logged=self.parts.logs(named))
        with closing(self.parts.ledger(named)) as ledger:
            try:
                return arrived.acknowledge(named, partial(self.parts.source, named.source), ledger, keys, said)
            except ValueError as failure:
                raise ConfigError([Problem("", 0, 0, "", str(failure))]) from failure

    def remedies(self, sync: str) -> Mapping[str, str]:
        """What a person can do about refused rows, by code: ours, and those that the destination knows."""
        settings = self.config.destinations[self.named(sync).destination]
        connector = registry.destination(getattr(settings, "type", ""))
        return {**REMEDIES, **getattr(connector, "remedies", {})}

    def explain(self, sync: str, key: str) -> Explanation:
        """One key's story. Raises ConfigError for a key that isn't one of this sync's form."""
        from reverse_etl.explain import explain  # noqa: PLC0415  # needs the local database: only when asked to

        named = self.named(sync)
        with closing(self.parts.ledger(named)) as ledger:
            try:
                return explain(named, partial(self.parts.source, named.source), ledger, key, _run_id())
            except ValueError as failure:
                raise ConfigError([named.problem("key", message=str(failure))]) from failure

    def search(self, text: str) -> Search:
        """One person's or company's rows in every sync: those of which the key or a value is this text."""
        from reverse_etl.search import Search  # noqa: PLC0415

        found = Search(text)
        for sync in self.syncs.values():
            with closing(self.parts.ledger(sync)) as ledger:
                found.look(sync, partial(self.parts.source, sync.source), ledger, _run_id())
        return found

    def fields(self, destination: str, object: str) -> ObjectSchema:
        """An object's fields, as the destination describes them. Needs a project loaded with `every_connection`."""
        if destination not in self.config.destinations:
            message = f"there is no such destination; the project has {', '.join(self.config.destinations) or 'none'}"
            likely = nearest(destination, [*self.config.destinations])
            raise ConfigError([Problem(files.PROJECT_FILE, 0, 0, destination, message, nearest=likely)])

        async def describe() -> ObjectSchema:
            opened = self.parts.destination(destination)
            try:
                return await opened.describe(object)
            finally:
                await opened.aclose()

        return anyio.run(describe)

    def missing_fields(self, sync: str) -> list[MissingField]:
        """Fields that the sync's mapping needs and its object lacks, as they would be made. Makes nothing."""
        from reverse_etl.missing import missing_fields  # noqa: PLC0415  # reads Arrow schemas: only when asked to

        named = self.named(sync)
        return anyio.run(missing_fields, named, *self._ends(named))

    def make_fields(self, sync: str, fields: Sequence[NewField]) -> dict[str, Refusal]:
        """Make fields that `missing_fields` gave; the refused ones by name, with the destination's reasons."""
        from reverse_etl.missing import make_fields  # noqa: PLC0415

        named = self.named(sync)
        self.note("make fields", sync=sync, object=named.object, fields=", ".join(field.name for field in fields))
        return anyio.run(make_fields, named, partial(self.parts.destination, named.destination), fields)

    def note(self, action: str, *, who: str | None = None, **facts: str) -> None:
        """Write down who has asked for something: by default the user of this process. Raises StateError."""
        from reverse_etl.state import audit  # noqa: PLC0415

        audit.note(self.parts.home(), action, clock.SYSTEM.now(), who=who, **facts)

    # --- forgetting ---------------------------------------------------------------------------------------------------

    def reset(self, sync: str) -> None:
        """Forget a sync's snapshot, cursor and lists, unreadable ones too; touches nothing at the destination."""
        from reverse_etl.state.forgetting import reset  # noqa: PLC0415

        reset(self.parts.ledger(self.named(sync)))

    def forget(self, sync: str, key: str) -> bool:
        """Remove one key from state and lists. Returns whether anything was known of it."""
        from reverse_etl.explain import canonical_key  # noqa: PLC0415
        from reverse_etl.state.forgetting import forget  # noqa: PLC0415

        named = self.named(sync)
        with closing(self.parts.ledger(named)) as ledger:
            return forget(ledger, canonical_key(key, named), _run_id(), clock.SYSTEM.now())

    def remnants(self, sync: str, key: str) -> list[str]:
        """Files beside the state that hold a forgotten key's text still."""
        from reverse_etl.explain import canonical_key  # noqa: PLC0415
        from reverse_etl.state.scrub import remnants  # noqa: PLC0415

        folder, url = self.parts.home().folder, self.config.state.url.get_secret_value()
        return list(remnants(folder, url, canonical_key(key, self.named(sync))))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _job(self, sync: SyncConfig, wishes: Wishes, stop: Stop, observer: Observer | None) -> Job:
        from reverse_etl.job import Job, Unwatched  # noqa: PLC0415

        ledger = self.parts.ledger(sync)
        memory = ledger.memory(sync.destination, lasting=not wishes.dry_run)
        return Job(
            sync=sync,
            run_id=_run_id(),
            ledger=ledger,
            source=partial(self.parts.source, sync.source),
            destination=partial(self.parts.destination, sync.destination, memory, sync.options),
            stop=stop,
            observer=observer or Unwatched(),
            log_to=self.parts.warehouse_log() if self.parts.logs(sync) and not wishes.dry_run else None,
            **vars(wishes),
        )

    def _ends(self, sync: SyncConfig) -> tuple[Callable[[], Source], Callable[[], Destination]]:
        """Where a sync's rows come from and go to, for who looks at both without a run."""
        return partial(self.parts.source, sync.source), partial(self.parts.destination, sync.destination)

    def _chosen(self, names: Sequence[str], tag: str | None) -> list[SyncConfig]:
        """The syncs asked for, parents first. A disabled one only runs when named."""
        wanted = [self.named(name) for name in dict.fromkeys(names)] or [s for s in self.syncs.values() if s.enabled]
        if tag is not None:
            wanted = [sync for sync in wanted if tag in sync.tags]
            if not wanted:
                tags = sorted({word for sync in self.syncs.values() for word in sync.tags})
                message = f"no sync has this tag; there are {', '.join(tags) or 'none'}"
                raise ConfigError([Problem("", 0, 0, tag, message)])
        by_name = {sync.name: sync for sync in wanted}
        parents = {sync.name: sync.schedule.syncs if isinstance(sync.schedule, After) else () for sync in wanted}
        return [by_name[name] for name in TopologicalSorter(parents).static_order() if name in by_name]

    def named(self, name: str) -> SyncConfig:
        """A sync's definition. Raises ConfigError when the project has none of this name."""
        if name not in self.syncs:
            known = ", ".join(self.syncs) or "none"
            raise ConfigError([Problem("", 0, 0, name, f"there is no such sync; the project has {known}")])
        return self.syncs[name]

    def _status(self, sync: SyncConfig, good: dict[str, JSON] | None) -> SyncStatus:
        with closing(self.parts.ledger(sync)) as ledger:
            state, standing = ledger.state(), ledger.refused()
        latest = self.runs(sync.name, limit=1)
        success = None if good is None else RunReport.from_json(good)
        return SyncStatus(
            sync=sync.name,
            schedule=sync.schedule.text if sync.schedule is not None else None,
            last_run=latest[0] if latest else None,
            known_rows=state.known_rows if state is not None else 0,
            rejected=sum(row.count for row in standing if row.kind != "in_doubt"),
            in_doubt=sum(row.count for row in standing if row.kind == "in_doubt"),
            cursor=state.cursor_value if state is not None else None,
            last_success=success,
            lag_seconds=None if success is None else success.lag_seconds(sync.timezone),
        )


def _run_id() -> str:
    """Sortable by time, unique over machines."""
    return f"{clock.SYSTEM.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
