"""The whole job in a minute: a dry run, a first run, a day of events, what changed, and nothing new."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from reverse_etl.clock import SYSTEM
from reverse_etl.demo import ground, warehouse
from reverse_etl.demo.audience import Audience
from reverse_etl.demo.summary import Crm, Person, summary
from reverse_etl.project import Project
from reverse_etl.report import SyncResult
from reverse_etl.sandbox.server import running

if TYPE_CHECKING:
    pass

SYNCS = ("workspaces_to_hubspot", "workspaces_to_salesforce_leads", "companies_to_hubspot")  # in the story's order


def tell(audience: Audience, folder: Path | None = None) -> int:
    """Runs the story in `folder`, which is kept, or in one that is removed; returns the gravest exit code."""
    if folder is not None:
        return _tell(audience, folder, kept=True)
    with tempfile.TemporaryDirectory(prefix="reverse-etl-demo-") as temporary:
        return _tell(audience, Path(temporary) / "project", kept=False)


def _tell(audience: Audience, folder: Path, *, kept: bool) -> int:
    began = SYSTEM.monotonic()
    ground.copy_project(folder)
    file = folder / "warehouse.duckdb"
    warehouse.build(file)
    with running(port=0) as sandbox:
        project = Project.load(folder, env=ground.environment(sandbox.url))
        ground.refuse_strangers(project)
        _open(audience, file, sandbox.url)
        code = _play(audience, project, file, Crm(sandbox))
    audience.say("")
    audience.say(f"That was {SYSTEM.monotonic() - began:.0f} seconds. {_where(folder, kept=kept)}", "dim")
    return code


def _open(audience: Audience, file: Path, url: str) -> None:
    counts = warehouse.figures(file)
    audience.chapter(
        "A warehouse and two CRMs",
        f"app.users {counts['users']:,} · app.companies {counts['companies']:,} · app.events {counts['events']:,}, "
        f"up to {counts['last_day']}",
        f"HubSpot and Salesforce are played by the sandbox at {url}, and are empty.",
    )


def _play(audience: Audience, project: Project, file: Path, crm: Crm) -> int:
    """The chapters, up to the first that doesn't end well; returns that one's exit code, else 0."""
    planned = _run(audience, project, "1. A dry run", "What would be sent. Nothing is written anywhere.", dry_run=True)
    if planned.exit_code:
        return planned.exit_code
    first = _run(audience, project, "2. The first run", "Every row is new to both CRMs.")
    if first.exit_code:
        return first.exit_code
    ada, before = Person.found(crm), crm.counts()
    day = warehouse.add_day(file)
    happened = f"{day.day} {day:%B %Y} is added to the warehouse: {warehouse.day_in_words(file, day)}."
    later = _run(audience, project, "3. A day later", happened, "Of a changed row only the changed fields go out.")
    idle = _run(audience, project, "4. Once more, with nothing new", "No row differs, so no call is made.")
    if not (later.exit_code or idle.exit_code):
        summary(audience, crm, before, ada, [_calls(result) for result in (first, later, idle)])
    return later.exit_code or idle.exit_code


def _run(audience: Audience, project: Project, title: str, *sentences: str, dry_run: bool = False) -> SyncResult:
    audience.chapter(title, *sentences)
    result = project.sync(*SYNCS, dry_run=dry_run)
    for report in result.runs:
        audience.run(report)
    return result


def _calls(result: SyncResult) -> int:
    return sum(report.requests for report in result.runs)


def _where(folder: Path, *, kept: bool) -> str:
    if kept:
        return f"The project and its state are in {folder}."
    return "`reverse-etl demo DIR` keeps its folder; `reverse-etl init DIR` starts a project of your own."
