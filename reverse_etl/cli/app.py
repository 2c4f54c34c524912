"""The commands. Each says what it takes and calls Project; what is heavy is imported when it is needed."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer import Argument, Option

from reverse_etl.cli import documents, edge, keeping, options, stories, tables
from reverse_etl.cli.options import INFO, TEXT, WARNING
from reverse_etl.cli.session import Session, print_json, print_line

app = typer.Typer(
    name="reverse-etl",
    help="Warehouse SQL in, only the changed rows out, to the tools where people work.",
    epilog="Start with `reverse-etl demo`, then `reverse-etl init my-project`.",
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> NoReturn:
    """The `reverse-etl` command."""
    # What is imported lives as long as the process; looking through it again and again costs a tenth of a second.
    gc.set_threshold(50_000, 20, 100)
    sys.exit(edge.run(_command, sys.argv[1:]))


def _command(**called: Any) -> Any:
    """Built here, inside the edge: whoever interrupts even that sees no traceback."""
    return typer.main.get_command(app).main(**called)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print_line(f"reverse-etl {version('reverse-etl')}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the release and end.")
    ] = False,
) -> None:
    """Warehouse SQL in, only the changed rows out, to the tools where people work."""


@app.command()
def demo(
    folder: Annotated[
        Path | None, Argument(metavar="[DIR]", help="Where to work; by default a temporary folder.")
    ] = None,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> int:
    """Watch the whole job: sample warehouse, sandbox, four runs."""
    from reverse_etl.cli.audience import ScreenAudience
    from reverse_etl.demo.story import tell

    session = Session(log_level=log_level, log_format=log_format)
    return tell(ScreenAudience(session.screen), folder)


@app.command()
def init(
    folder: Annotated[Path, Argument(metavar="[DIR]", help="The new project's folder.")] = Path(),
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """Scaffold a project that runs as it lies."""
    from reverse_etl.cli.scaffold import scaffold

    session = Session(log_level=log_level, log_format=log_format)
    session.screen.show(*scaffold(folder))


@app.command()
def check(
    syncs: options.Syncs = None,
    connect: Annotated[bool, Option("--connect", help="Also credentials, query columns, destination fields.")] = False,
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> int:
    """Validate the project's files, all problems at once."""
    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    loaded = session.load(only=syncs or None, every_connection=not syncs)
    found = loaded.check(*syncs or (), connect=connect)
    doubts = loaded.warnings(*syncs or ())
    session.show(
        documents.check(found, doubts), lambda: tables.checked(list(loaded.syncs), found, doubts, connect=connect)
    )
    return edge.USAGE if found else 0


@app.command()
def sync(
    syncs: options.Syncs = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Show the plan; write nothing anywhere.")] = False,
    live: Annotated[bool, Option("--live", help="With --dry-run: compare with what is in the CRM now.")] = False,
    full: Annotated[bool, Option("--full", help="Ignore cursor and snapshot, send every row.")] = False,
    tag: Annotated[str | None, Option("--tag", metavar="T", help="Only syncs with this tag.")] = None,
    limit: Annotated[int | None, Option("--limit", metavar="N", min=1, help="Send at most N rows.")] = None,
    approve: Annotated[
        str | None, Option("--approve", metavar="PLAN_ID", help="Let exactly this guarded plan through.")
    ] = None,
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> int:
    """Send what changed since it was last acknowledged."""
    if live and not dry_run:
        edge.refuse("--live only looks, and is part of a dry run: add --dry-run")
    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    loaded = session.load(only=syncs or None)
    return session.run(
        lambda observer: loaded.sync(
            *syncs or (),
            dry_run=dry_run,
            live=live,
            full=full,
            tag=tag,
            limit=limit,
            approve=approve,
            observer=observer,
        )
    )


@app.command()
def status(
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """Each sync: schedule, next and last run, what stands rejected."""
    from reverse_etl.cli import looking

    looking.show_status(Session(project, json=json, log_level=log_level, log_format=log_format))


@app.command()
def runs(
    sync: Annotated[str | None, Argument(metavar="[SYNC]", help="Only this sync's runs.")] = None,
    limit: Annotated[int, Option("--limit", metavar="N", min=1, help="How many, newest first.")] = 50,
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """The latest runs."""
    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    found = session.load(only=[sync] if sync else []).runs(sync, limit)
    session.show({"runs": [report.to_json() for report in found]}, lambda: tables.runs(found))


@app.command()
def show(
    run_id: Annotated[str, Argument(metavar="RUN_ID", help="A run's id, from `runs` or a report.")],
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """One run's report."""
    from reverse_etl.cli import render

    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    report = session.load(only=[]).run(run_id)
    session.show(report.to_json(), lambda: [*render.run(report, session.commands), *render.when(report)])


@app.command()
def rejected(
    sync: options.Sync,
    retry: Annotated[bool, Option("--retry", help="Offer these rows again now, and nothing else.")] = False,
    arrived: Annotated[
        list[str] | None,
        Option("--arrived", metavar="KEY", help="You have looked: this row, held in doubt, is there. May be repeated."),
    ] = None,
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> int:
    """The rows that were refused, and why."""
    if retry and arrived:
        edge.refuse("--retry sends rows again, --arrived says that they needn't be: one after the other")
    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    loaded = session.load(only=[sync])
    if retry:
        return session.run(lambda observer: loaded.retry(sync, observer=observer))
    settled = loaded.arrived(sync, *arrived) if arrived else []
    rows, remedies = loaded.rejected(sync), loaded.remedies(sync)
    session.show(
        documents.rejected(rows, settled),
        lambda: [*tables.arrived(settled), *tables.rejected(sync, rows, session.commands, remedies)],
    )
    return 0


@app.command()
def explain(
    sync: Annotated[str, Argument(metavar="SYNC", help="A sync's name; with --all it is left out.")],
    key: Annotated[str | None, Argument(metavar="KEY", help=options.KEY_HELP)] = None,
    every: Annotated[
        bool, Option("--all", help="Look in every sync for rows of which the key or a value is KEY, as an e-mail.")
    ] = False,
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> int:
    """One key: what is sent, what was acknowledged, why not."""
    from reverse_etl import clock

    if every == (key is not None):
        edge.refuse("--all looks in every sync: give it only KEY" if every else "Missing argument 'KEY'.")
    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    if key is None:
        from reverse_etl.cli import looking

        return looking.show_everywhere(session, sync)
    found = session.load(only=[sync]).explain(sync, key).to_json()
    session.show(found, lambda: stories.explanation(found, clock.SYSTEM.now(), session.commands))
    return 0


@app.command()
def reset(
    sync: options.Sync,
    yes: Annotated[bool, Option("--yes", help="Don't ask.")] = False,
    project: options.Project = None,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """Forget all that is remembered of a sync."""
    session = Session(project, log_level=log_level, log_format=log_format)
    loaded = session.load(only=[sync])
    if not yes and not edge.confirm(tables.reset_question(sync), instead="--yes"):
        return
    loaded.reset(sync)
    session.screen.show(*tables.was_reset(sync, session.commands))


@app.command()
def forget(
    sync: options.Sync,
    key: options.Key,
    project: options.Project = None,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """Forget what is remembered of one row."""
    session = Session(project, log_level=log_level, log_format=log_format)
    loaded = session.load(only=[sync])
    known = loaded.forget(sync, key)
    left, shared = loaded.remnants(sync, key), loaded.config.state.shared
    session.screen.show(*tables.was_forgotten(sync, key, known=known, left=left, shared=shared))


@app.command()
def fields(
    destination: Annotated[
        str, Argument(metavar="DESTINATION", help="A connection's name in reverse_etl.yml; with --create a sync's.")
    ],
    object: Annotated[str | None, Argument(metavar="OBJECT", help="Its object, as contacts or Lead.")] = None,
    create: Annotated[
        bool, Option("--create", help="Show the fields that the sync's mapping needs and the object lacks; make them.")
    ] = False,
    yes: Annotated[bool, Option("--yes", help="With --create: don't ask.")] = False,
    project: options.Project = None,
    json: options.Json = False,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> int:
    """An object's fields as the destination describes them."""
    if create == (object is not None):
        edge.refuse("--create takes a sync, and no OBJECT." if create else "Missing argument 'OBJECT'.")
    if yes and not create:
        edge.refuse("--yes goes with --create.")
    session = Session(project, json=json, log_level=log_level, log_format=log_format)
    if object is None:
        from reverse_etl.cli.making import make_missing

        return make_missing(session, destination, yes=yes)
    schema = session.load(only=[], every_connection=True).fields(destination, object)
    session.show(documents.fields(schema), lambda: tables.fields(schema))
    return 0


@app.command()
def daemon(
    health: Annotated[bool, Option("--health", help="Ask the daemon that runs how it is, and end.")] = False,
    test_alert: Annotated[
        str | None, Option("--test-alert", metavar="CHANNEL", help="Send a test message there, or to `all`, and end.")
    ] = None,
    project: options.Project = None,
    log_level: options.Level = INFO,
    log_format: options.Format = TEXT,
) -> int:
    """Run the syncs by their schedules, until SIGTERM."""
    from reverse_etl.cli import tending

    session = Session(project, log_level=log_level, log_format=log_format)
    if test_alert is not None:
        return tending.send_test(session, test_alert)
    return tending.tell_health(session) if health else tending.tend(session.where)


@app.command()
def worker(
    listen: Annotated[
        str | None, Option("--listen", metavar="ADDRESS", help="Answer health and metrics there, as 127.0.0.1:8781.")
    ] = None,
    project: options.Project = None,
    log_level: options.Level = INFO,
    log_format: options.Format = TEXT,
) -> int:
    """Carry out runs from the daemons' queue, until SIGTERM."""
    from reverse_etl.cli import tending

    return tending.work(Session(project, log_level=log_level, log_format=log_format).where, listen)


@app.command()
def sandbox(
    port: Annotated[int, Option("--port", metavar="P", min=0, max=65535, help="0 takes a free one.")] = 8750,
    data: Annotated[Path | None, Option("--data", metavar="FILE", help="Keep the records in this file.")] = None,
    rate: Annotated[str | None, Option("--rate", metavar="N|off", help="Requests per 10 seconds.")] = None,
    fields: Annotated[Path | None, Option("--fields", metavar="FILE", help="More fields, from this file.")] = None,
    log_level: options.Level = WARNING,
    log_format: options.Format = TEXT,
) -> None:
    """Emulate the destinations on this machine, for trying."""
    from reverse_etl.cli.serving import serve

    Session(log_level=log_level, log_format=log_format)
    serve(port, data, rate, fields)


@app.command()
def schema() -> None:
    """JSON Schema of the project's files, for editors."""
    from reverse_etl.config.schema import schema as of_both_kinds

    print_json(of_both_kinds())


app.add_typer(keeping.app, name="state")
