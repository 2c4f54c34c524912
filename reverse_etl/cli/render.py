"""What a run did, or would do, as lines for a person."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from reverse_etl.cli import text
from reverse_etl.cli.screen import Block, Line, Part, Span, Table, line

if TYPE_CHECKING:
    from reverse_etl.model import Problem
    from reverse_etl.report import LiveSample, LiveSummary, PlanSummary, RowSample, RunReport

SHOWN_PER_CHANGE = 3
_Sample = TypeVar("_Sample")
_MARKS = {"added": Span("+", "good"), "changed": Span("~", "warn"), "removed": Span("-", "bad")}
_STATES = {
    "create": (Span("+", "good"), "to create"),
    "update": (Span("~", "warn"), "to update"),
    "equal": (Span("=", "dim"), "equal already"),
    "kept": (Span("=", "dim"), "there already, left as they are"),
    "missing": (Span("?", "warn"), "not there, and never created by this sync"),
    "ambiguous": (Span("!", "bad"), "that fit several records"),
    "frozen": (Span("!", "bad"), "whose record takes no more writes"),
}
_VERDICTS = {
    "succeeded": Span("✓ succeeded", "good"),
    "partial": Span("● partly delivered", "warn"),
    "failed": Span("✗ failed", "bad"),
    "guarded": Span("✗ stopped by a guard", "bad"),
    "interrupted": Span("● interrupted", "warn"),
    "skipped": Span("● skipped", "warn"),
    "running": Span("● under way, or killed", "warn"),
}


@dataclass(frozen=True)
class Commands:
    """Writes the commands we tell people to type next; `project` is what they gave as --project."""

    project: str | None = None

    def __call__(self, *words: str) -> Span:
        where = ["--project", self.project] if self.project else []
        return Span(shlex.join(["reverse-etl", *words, *where]), "command")


def run(report: RunReport, commands: Commands, *, samples: int = SHOWN_PER_CHANGE) -> list[Block]:
    """One run: its verdict, its figures, and what to type next if something is left to do.

    `samples` is how many rows of each kind of change a dry run shows.
    """
    facts = list(_facts(report))
    blocks: list[Block] = [_headline(report)]
    if facts:
        blocks.append(Table(facts, indent=2))
    if report.plan is not None:
        blocks.extend(_plan(report.plan, report.pending, samples))
    blocks.extend(_next_steps(report, commands))
    return blocks


def when(report: RunReport) -> list[Block]:
    """A run's id and times, which its report only needs when it is looked at later."""
    return [
        Table(
            [
                ("run", report.run_id),
                ("started", text.moment(report.started_at)),
                ("ended", text.moment(report.finished_at)),
            ],
            indent=2,
        )
    ]


def total(reports: Sequence[RunReport]) -> list[Block]:
    """One line over several runs."""
    if not reports:
        return [line("there is nothing to run: no sync is enabled; a sync is a file syncs/NAME.yml")]
    if len(reports) < 2:
        return []
    tally: dict[str, int] = {}
    for report in reports:
        tally[report.status.value] = tally.get(report.status.value, 0) + 1
    said = ", ".join(f"{number} {status}" for status, number in tally.items())
    return [line(""), line(Span(f"{len(reports)} syncs: {said}", "strong"))]


def problems(found: Sequence[Problem]) -> list[Block]:
    """A project's mistakes, one a line, each led by its place."""
    blocks: list[Block] = []
    for problem in found:
        if not problem.file:
            blocks.append(line(str(problem)))
            continue
        place, _, rest = str(problem).partition(": ")
        blocks.append(line(Span(place + ":", "strong"), " ", rest))
    blocks.append(line(Span(text.plural(len(found), "problem"), "bad")))
    return blocks


def error(code: str, message: str, advice: str | None) -> list[Block]:
    """An error outside any run. Messages may hold several lines of someone else's, which stay lines."""
    first, *rest = message.splitlines() or [""]
    blocks: list[Block] = [line(Span("error", "bad"), f" ({code}): {first}")]
    blocks.extend(line("  ", more) for more in rest)
    return blocks if advice is None else [*blocks, *hint(advice)]


def hint(advice: str) -> list[Block]:
    return [line("  ", Span("→", "dim"), " ", more) for more in advice.splitlines()]


def _headline(report: RunReport) -> Line:
    name = Span(report.sync, "strong")
    took = ""
    if report.finished_at is not None:
        took = f" in {text.duration((report.finished_at - report.started_at).total_seconds())}"
    if report.dry_run:
        ended = _VERDICTS[report.status.value] if report.error is not None else Span("dry run", "strong")
        return line(name, "  ", ended, Span(took + ", nothing was written", "dim"))
    if _idle(report):
        return line(name, "  ", Span("✓ nothing new", "good"), Span(took, "dim"))
    return line(name, "  ", _VERDICTS[report.status.value], Span(took, "dim"))


def _idle(report: RunReport) -> bool:
    rows = report.rows
    return report.status.value == "succeeded" and not (rows.added or rows.changed or rows.removed or rows.retried)


def _facts(report: RunReport) -> Iterator[tuple[Part, Part]]:
    if report.status.value == "skipped" or (report.error is not None and not report.rows.read and not report.requests):
        return
    yield "rows", _rows(report)
    delivered = _delivered(report)
    if delivered:
        yield "delivered", delivered
    if report.pending and not report.dry_run:
        yield "pending", f"{text.plural(report.pending, 'row')}, to be sent by a later run"
    if report.rejected:
        yield "rejected", Span(text.plural(report.rejected, "row"), "warn")
    if report.in_doubt:
        yield "in doubt", Span(f"{text.plural(report.in_doubt, 'row')}: sent, and the outcome is not known", "warn")
    if not report.dry_run or report.plan is None:
        yield "calls", _calls(report)
    if report.cursor_to is not None and report.cursor_to != report.cursor_from:
        start = "the start" if report.cursor_from is None else text.cursor(report.cursor_from)
        yield "cursor", f"{start} → {text.cursor(report.cursor_to)}"
    yield from (("note", note) for note in report.notes)


def _rows(report: RunReport) -> str:
    rows = report.rows
    counts = {
        "added": rows.added,
        "changed": rows.changed,
        "removed": rows.removed,
        "unchanged": rows.unchanged,
        "invalid": rows.invalid,
        "retried": rows.retried,
    }
    said = [f"{text.count(number)} {name}" for name, number in counts.items() if number]
    return " · ".join([f"{text.count(rows.read)} read", *said])


def _delivered(report: RunReport) -> str:
    delivered = report.delivered
    counts = {
        "created": delivered.created,
        "updated": delivered.updated,
        "removed": delivered.removed,
        "skipped": delivered.skipped,
        "fields left as they were": delivered.kept_fields,
    }
    return " · ".join(f"{text.count(number)} {name}" for name, number in counts.items() if number)


def _calls(report: RunReport) -> str:
    if not report.requests:
        return "none"
    said = text.count(report.requests)
    return f"{said}, {text.count(report.throttled)} of them told to wait" if report.throttled else said


def _plan(plan: PlanSummary, pending: int, samples: int) -> Iterator[Block]:
    if not pending:
        yield line("  would send nothing")
    else:
        yield from _outlook(plan, pending, samples)
    if plan.live is not None:
        yield from _live(plan.live, samples)
    if plan.problems:
        yield line("  would be refused before any call")
        yield _refusals(plan)


def _outlook(plan: PlanSummary, pending: int, samples: int) -> Iterator[Block]:
    calls = text.plural(plan.requests, "call")
    how = f"in {calls}, about {text.duration(plan.seconds_at_limit)} at the rate limit"
    if plan.jobs:
        how = f"by jobs, in about {calls}; the destination decides how long they take"
    yield line("  would send ", Span(text.plural(pending, "row"), "strong"), " ", how)
    if plan.live is not None:  # the same rows follow, beside their records
        return
    shown = _chosen(plan.sample, lambda sample: sample.change, samples)
    for sample in shown:
        yield from _row(_MARKS.get(sample.change, sample.change), sample, new=sample.change == "added")
    if shown and pending > len(shown):
        yield line("    ", Span(f"… and {text.count(pending - len(shown))} more", "dim"))


def _live(live: LiveSummary, samples: int) -> Iterator[Block]:
    """Rows beside their records; of those that would change nothing only the number."""
    told = [f"{text.count(live.states[state])} {words}" for state, (_, words) in _STATES.items() if live.states[state]]
    if told:
        yield line("  in the CRM now: ", " · ".join(told))
    for sample in _chosen(live.sample, lambda sample: sample.state, samples):
        if sample.fields or sample.kept or sample.state not in ("equal", "kept"):
            yield from _row(_STATES[sample.state][0], sample, new=sample.state == "create")
            if sample.kept:
                yield Table([(name, _left(*pair)) for name, pair in sample.kept.items()], indent=8)
            if sample.reason is not None:
                yield line("        ", sample.reason)
    if live.kept_fields:
        yield line("  ", Span("kept", "strong"), ": ", _per_field(live.kept_fields, "left as the CRM has them"))
    if live.drift:
        yield line("  ", Span("drift", "warn"), ": ", _per_field(live.drift, "changed in the CRM since we wrote them"))
    if live.gone:
        yield line(
            "  ",
            Span("gone", "warn"),
            f": the records of {text.plural(live.gone, 'unchanged row')} are no longer there",
        )
    if live.looked_at:
        none = "" if live.drift else ", none has drifted"
        yield line("  ", Span(f"{text.plural(live.looked_at, 'known row')} looked at for drift{none}", "dim"))


def _row(mark: Part, sample: RowSample | LiveSample, *, new: bool) -> Iterator[Block]:
    yield line("    ", mark, " ", Span(text.key(sample.key), "strong"))
    if sample.fields:
        yield Table([(name, _change(*pair, new=new)) for name, pair in sample.fields.items()], indent=8)


def _chosen(sample: Sequence[_Sample], kind: Callable[[_Sample], str], most: int) -> list[_Sample]:
    """A few of each kind."""
    seen: dict[str, int] = {}
    chosen = []
    for row in sample:
        seen[kind(row)] = seen.get(kind(row), 0) + 1
        if seen[kind(row)] <= most:
            chosen.append(row)
    return chosen


def _per_field(counts: Mapping[str, int], what: str) -> str:
    fields = ", ".join(f"{name} {text.count(number)}" for name, number in counts.items())
    return f"{text.plural(sum(counts.values()), 'value')} {what} ({fields})"


def _left(there: object, new: object) -> str:
    return f"{text.value(there)}, and stays so; the row has {text.value(new)}"


def _change(old: object, fresh: object, *, new: bool) -> str:
    return text.value(fresh) if new else f"{text.value(old)} → {text.value(fresh)}"


def _refusals(plan: PlanSummary) -> Table:
    rows = [
        (
            text.count(problem.count),
            Span(problem.code, "warn"),
            problem.column or "",
            problem.message,
            ", ".join("NULL" if key is None else text.key(key) for key in problem.keys),
        )
        for problem in plan.problems
    ]
    return Table(rows, head=("rows", "code", "column", "why", "keys, for example"), right=frozenset({0}), indent=4)


def _next_steps(report: RunReport, commands: Commands) -> Iterator[Block]:
    if report.error is not None:
        first, *rest = report.error.message.splitlines() or [""]
        yield line("  ", Span(report.error.code, "bad"), ": ", first)
        yield from (line("    ", more) for more in rest)
        if report.error.hint:
            yield from hint(report.error.hint)
    if report.status.value == "guarded" and report.plan_id:
        yield line("  to let exactly this plan through, once, within a day:")
        yield line("    ", commands("sync", report.sync, "--approve", report.plan_id))
    if (report.rejected or report.rows.invalid or report.in_doubt) and not report.dry_run:
        yield line("  to see which rows and why:  ", commands("rejected", report.sync))
    if report.status.value == "interrupted":
        yield line("  what was answered is recorded; to go on:  ", commands("sync", report.sync))
