"""What is known about syncs, runs, rows and fields, as tables for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reverse_etl.cli import render, text
from reverse_etl.cli.render import Commands
from reverse_etl.cli.screen import Block, Part, Span, Table, line

if TYPE_CHECKING:
    from reverse_etl.daemon.forecast import Outlook
    from reverse_etl.missing import MissingField
    from reverse_etl.model import Field, ObjectSchema, Problem
    from reverse_etl.report import RunReport, SyncStatus
    from reverse_etl.standing import RefusedRow
    from reverse_etl.state.archive import Archived
    from reverse_etl.state.verify import Finding
    from reverse_etl.verdicts import Refusal

_HELD = "in_doubt_held"  # of `standing`, which `--help` doesn't wait for
_STATUS_STYLE = {"succeeded": "good", "failed": "bad", "guarded": "bad"}


def statuses(
    syncs: Sequence[SyncStatus], outlooks: Mapping[str, Outlook], daemon: str | None, commands: Commands
) -> list[Block]:
    if not syncs:
        return [line("this project has no syncs yet: a sync is a file syncs/NAME.yml")]
    rows = [
        (
            Span(sync.sync, "strong"),
            sync.schedule or "when asked",
            _next_run(outlooks[sync.sync]),
            *_last_run(sync.last_run),
            text.count(sync.known_rows),
            _standing(sync.rejected),
            _standing(sync.in_doubt),
            text.cursor(sync.cursor) if sync.cursor is not None else "-",
        )
        for sync in syncs
    ]
    head = ("sync", "schedule", "next run", "last run", "result", "known rows", "refused", "in doubt", "cursor")
    blocks: list[Block] = [Table(rows, head, right=frozenset({5, 6, 7}))]
    blocks.extend(_remarks(syncs, outlooks))
    if daemon is None and any(outlook.next_run_at for outlook in outlooks.values()):
        blocks.append(line("no daemon of this project is running here: next runs are those of one that does"))
    refusing = [sync.sync for sync in syncs if sync.rejected]
    blocks.extend(line("to see which rows and why:  ", commands("rejected", name)) for name in refusing)
    return blocks


def _next_run(outlook: Outlook) -> str:
    return "-" if outlook.next_run_at is None else text.moment(outlook.next_run_at)


def _remarks(syncs: Sequence[SyncStatus], outlooks: Mapping[str, Outlook]) -> Iterator[Block]:
    """What the table has no room for: successes of before, newest rows, parents that failed."""
    for sync in syncs:
        last, success = sync.last_run, sync.last_success
        if last is not None and (success is None or success.run_id != last.run_id):
            yield line(f"{sync.sync} has {_succeeded(success)}")
        if sync.lag_seconds is not None:
            yield line(f"{sync.sync}'s newest row was {text.duration(sync.lag_seconds)} old when it had arrived")
        for parent in outlooks[sync.sync].held_by:
            yield line(f"{sync.sync} waits for {parent} to succeed")


def _succeeded(success: RunReport | None) -> str:
    return "never succeeded" if success is None else f"last succeeded at {text.moment(success.finished_at)}"


def runs(reports: Sequence[RunReport]) -> list[Block]:
    if not reports:
        return [line("no runs yet")]
    rows = [
        (
            report.run_id,
            Span(report.sync, "strong"),
            text.moment(report.started_at),
            _took(report),
            _status(report),
            text.count(report.rows.read),
            text.count(report.delivered.created + report.delivered.updated + report.delivered.removed),
            _standing(report.rejected),
            text.count(report.requests),
        )
        for report in reports
    ]
    head = ("run", "sync", "started", "took", "result", "read", "sent", "rejected", "calls")
    return [Table(rows, head, right=frozenset({3, 5, 6, 7, 8}))]


def rejected(
    sync: str, rows: Sequence[RefusedRow], commands: Commands, remedies: Mapping[str, str] | None = None
) -> list[Block]:
    """`remedies` are what can be done about a code, where the destination knows it."""
    if not rows:
        return [line(Span(sync, "strong"), "  no rows are rejected, invalid or in doubt")]
    listed = [
        (
            Span(_refused_key(row), "strong"),
            Span(row.code, "warn"),
            row.message,
            text.count(row.attempts),
            _next_attempt(row),
        )
        for row in rows
    ]
    head = ("key", "code", "message", "attempts", "next attempt")
    return [
        Table(listed, head, right=frozenset({3})),
        line(""),
        *_what_to_do(rows, remedies or {}),
        *_what_comes(sync, [row for row in rows if row.code == _HELD], len(rows), commands),
        line("to offer all of them now:  ", commands("rejected", sync, "--retry")),
        line("to look at one:            ", commands("explain", sync, _first_key(rows))),
    ]


def _what_comes(sync: str, held: Sequence[RefusedRow], rows: int, commands: Commands) -> Iterator[Block]:
    if held:
        yield line("A row that is held in doubt is never sent again by itself, whatever its values.")
    if len(held) < rows:
        yield line(
            "A row is offered again at once when its values change in the warehouse, otherwise at its next attempt."
        )
    if held:
        yield line("to say that one is there:  ", commands("rejected", sync, "--arrived", _first_key(held)))


def arrived(rows: Sequence[RefusedRow]) -> list[Block]:
    """Rows that a person has just taken off the list."""
    done = " is taken as delivered with the values that were sent; nothing was sent again"
    return [line(Span("✓", "good"), " ", Span(text.key(row.key), "strong"), done) for row in rows]


def _what_to_do(rows: Sequence[RefusedRow], remedies: Mapping[str, str]) -> list[Block]:
    """Each code once, the most frequent first, with its remedy."""
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row.code] += row.count
    told = [
        (text.plural(count, "row"), Span(code, "warn"), remedies[code])
        for code, count in counted.most_common()
        if code in remedies
    ]
    return [Table(told, ("", "code", "what to do"), right=frozenset({0})), line("")] if told else []


def fields(schema: ObjectSchema) -> list[Block]:
    rows = [
        (Span(field.name, "strong"), field.type.value, field.label, "; ".join(_notes(field)))
        for field in sorted(schema.fields.values(), key=lambda field: (not field.identifies, field.name))
    ]
    return [
        Table(rows, ("field", "type", "label", "notes")),
        line(Span(f"{text.plural(len(rows), 'field')} of {schema.name}", "dim")),
    ]


def missing(object: str, destination: str, found: Sequence[MissingField]) -> list[Block]:
    if not found:
        return [line(Span("✓", "good"), f" {object} in {destination} has every field that the mapping needs")]
    rows = [
        (
            Span(field.new.name, "strong"),
            field.new.type,
            field.new.control,
            field.new.group,
            "yes" if field.new.unique else "",
            field.new.label,
            "" if field.nearest is None else Span(f"{field.nearest} is there: is that one meant?", "warn"),
        )
        for field in found
    ]
    return [
        line(f"{object} in {destination} lacks {text.plural(len(found), 'field')}:"),
        Table(rows, ("field", "type", "control", "group", "unique", "label", ""), indent=2),
    ]


def make_question(object: str, found: Sequence[MissingField]) -> str:
    it = "it" if len(found) == 1 else "them"
    return f"Make {it}? Everybody who works with {object} will see {it}."


def made(object: str, found: Sequence[MissingField], refused: Mapping[str, Refusal]) -> list[Block]:
    blocks: list[Block] = []
    for field in found:
        why = refused.get(field.new.name)
        if why is None:
            blocks.append(line(Span("✓", "good"), f" made {object}.{field.new.name}"))
        else:
            blocks.append(line(Span("✗", "bad"), f" {object}.{field.new.name}: {why.code}: {why.message}"))
    return blocks


def checked(
    syncs: Sequence[str], found: Sequence[Problem], doubts: Sequence[Problem] = (), *, connect: bool
) -> list[Block]:
    warned = [line(Span("warning", "warn"), f" {warning}") for warning in doubts]
    if found:
        return [*warned, *render.problems(found)]
    what = "files, credentials, columns and fields are" if connect else "the files are"
    blocks: list[Block] = [line(Span("✓", "good"), f" {text.plural(len(syncs), 'sync')}: {what} as they should be")]
    if not connect:
        blocks.append(line(Span("--connect also asks the warehouse and the destinations", "dim")))
    return [*warned, *blocks]


def reset_question(sync: str) -> str:
    return (
        f"Forget snapshot, cursor and lists of {sync}? Nothing at the destination is touched, its next run is a first "
        "run again, and records it wrote before can no longer be removed by it."
    )


def was_reset(sync: str, commands: Commands) -> list[Block]:
    return [
        line(Span("✓", "good"), f" {sync} remembers nothing; nothing was touched at the destination"),
        line("to see what its first run would send:  ", commands("sync", sync, "--dry-run")),
    ]


def was_forgotten(sync: str, key: str, *, known: bool, left: Sequence[str], shared: bool) -> list[Block]:
    """`left` are files that hold the key's text still; `shared`: the state is in PostgreSQL."""
    if not known:
        said = [line(f"{sync} remembers nothing of {key}")]
    else:
        done = f" {sync} remembers nothing of {key} any more; the destination was not touched"
        said = [line(Span("✓", "good"), done), *(line(Span(sentence, "dim")) for sentence in UNREACHED)]
        said += [line(Span(UNREACHED_SHARED, "dim"))] if shared else []
    return [*said, *(line(Span("!", "warn"), f" {file} still holds it: remove it, or what is in it") for file in left)]


UNREACHED = (
    "As long as the query gives the row, the next run sends and remembers it anew: take it out of the warehouse first.",
    "Backups, copies that you have made, and tables of log_to are yours to clear.",
)
UNREACHED_SHARED = (
    "PostgreSQL keeps old versions of rows until it has vacuumed; copies on other machines go with the sync's next run."
)


def verified(syncs: Sequence[str], findings: Sequence[Finding]) -> list[Block]:
    if findings:
        blocks: list[Block] = []
        for finding in findings:
            blocks += render.error(finding.code, finding.message, finding.hint)
        return blocks
    if not syncs:
        return [line("there is no state yet: it begins with the first run")]
    return [line(Span("✓", "good"), f" the state is whole: {text.plural(len(syncs), 'sync')} ({', '.join(syncs)})")]


def backed_up(made: Archived, file: Path) -> list[Block]:
    what = f"{text.plural(len(made.syncs), 'sync')}, {text.count(made.bytes)} bytes"
    return [line(Span("✓", "good"), f" {file}: {what}. It holds what was sent: keep it as you keep the data.")]


def restore_question(file: Path) -> str:
    return (
        f"Put {file} in place of the state? What was acknowledged since it was made is sent again, and records written "
        "since can no longer be removed. The present state is put aside, not deleted."
    )


def was_restored(made: Archived, commands: Commands) -> list[Block]:
    blocks: list[Block] = [line(Span("✓", "good"), f" the state is as it was at {text.moment(made.made_at)}")]
    if made.aside is not None:
        blocks.append(line(f"what stood there is in {made.aside.name}"))
    return [*blocks, line("to see what the next run would send:  ", commands("sync", "--dry-run"))]


def _last_run(report: RunReport | None) -> tuple[Part, Part]:
    return ("never", "") if report is None else (text.moment(report.started_at), _status(report))


def _status(report: RunReport) -> Span:
    said = f"{report.status.value} (dry run)" if report.dry_run else report.status.value
    return Span(said, _STATUS_STYLE.get(report.status.value, "warn"))


def _took(report: RunReport) -> str:
    if report.finished_at is None:
        return "-"
    return text.duration((report.finished_at - report.started_at).total_seconds())


def _standing(number: int) -> Part:
    return Span(text.count(number), "warn") if number else "0"


def _refused_key(row: RefusedRow) -> str:
    said = "NULL" if row.key is None else text.key(row.key)
    return f"{said} ({text.plural(row.count, 'row')})" if row.count > 1 else said


def _next_attempt(row: RefusedRow) -> str:
    if row.next_at is None:
        return "when you say so" if row.code == _HELD else "at once when fixed"
    return "by the next run" if row.next_at <= row.last_at else text.moment(row.next_at)


def _first_key(rows: Sequence[RefusedRow]) -> str:
    return next((text.key(row.key) for row in rows if row.key is not None), "KEY")


def _notes(field: Field) -> Iterator[str]:
    if field.identifies:
        yield "identifies"
    if field.read_only:
        yield f"read-only: {field.read_only}"
    if field.create_only:
        yield "only while a record is created"
    if field.required_on_create:
        yield "required for new records"
    if field.max_length:
        yield f"up to {text.count(field.max_length)} characters"
    if field.options is not None:
        labels = {value: label for label, value in field.labels if label.casefold() != value.casefold()}
        options = field.options[:5]
        shown = ", ".join(f"{each} ({labels[each]})" if labels.get(each) else each for each in options)
        yield f"one of: {shown}" + (f", … ({len(field.options)})" if len(field.options) > 5 else "")
