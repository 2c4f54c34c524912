"""What became of a row, told to a person: the story of one key, and one person's rows in every sync."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reverse_etl.cli import render, text
from reverse_etl.cli.render import Commands
from reverse_etl.cli.screen import Block, Part, Span, Table, line

if TYPE_CHECKING:
    from reverse_etl.search import Search

_WORD = "word-"  # of `standing`, which `--help` doesn't wait for
_STATE_STYLE = {"unchanged": "good", "rejected": "bad", "invalid": "bad"}


def explanation(found: Mapping[str, Any], now: datetime, commands: Commands) -> list[Block]:
    """`found` is what `explain --json` prints."""
    if found["state"] == "absent" and found["acknowledged"] is None:
        found_by_value = commands("explain", "--all", text.key(found["key"]))
        return [_told(found), line("to look in every sync, for values too:  ", found_by_value)]
    return [
        _told(found),
        *_row(found["row"]),
        *_payloads(found["payload"], found["acknowledged"]),
        *_acknowledged(found["acknowledged"], now),
    ]


def _told(found: Mapping[str, Any]) -> Block:
    state = Span(str(found["state"]).replace("_", " "), _STATE_STYLE.get(found["state"], "warn"))
    reason = f": {found['reason']}" if found["reason"] else ""
    return line(Span(text.key(found["key"]), "strong"), f" in {found['sync']}  ", state, reason)


def everywhere(found: Search, now: datetime, commands: Commands) -> list[Block]:
    """One person's rows in every sync, each in a few lines."""
    blocks: list[Block] = []
    for row in found.rows:
        blocks += [_told(row.to_json()), *_acknowledged(row.acknowledged, now)]
        blocks.append(line("  its values:  ", commands("explain", row.sync, text.key(row.key))))
    for name, why in found.failed.items():
        blocks.append(line(Span(name, "strong"), "  ", Span(f"can't say: {why.code}", "bad"), f": {why.message}"))
        blocks += render.hint(why.hint) if why.hint else []
    if found.more:
        blocks.append(line(f"there are more rows in {', '.join(found.more)}: name the sync and the key"))
    if found.absent:
        blocks.append(line(Span(f"nothing is known of it in {', '.join(found.absent)}", "dim")))
    return blocks or [line("this project has no syncs yet: a sync is a file syncs/NAME.yml")]


def _row(row: Mapping[str, object] | None) -> Iterator[Block]:
    if row is None:
        yield line("  the warehouse has no such row now")
        return
    yield line("  the row in the warehouse now")
    yield Table([(name, text.value(content)) for name, content in row.items()], indent=4)


def _payloads(payload: Mapping[str, object] | None, acknowledged: Mapping[str, Any] | None) -> Iterator[Block]:
    known: Mapping[str, object] = (acknowledged or {}).get("values") or {}
    hashed = (acknowledged or {}).get("hashed") or ()
    wanted = payload or {}
    names = list(dict.fromkeys([*wanted, *known]))
    if not names:
        return
    rows = [
        (
            name,
            "not kept" if name in hashed else text.value(known[name]) if name in known else "-",
            text.value(wanted[name]) if name in wanted else "-",
            "" if name in hashed else _differs(name, known, wanted),
        )
        for name in names
    ]
    yield line("  field by field")
    yield Table(rows, ("field", "last acknowledged", "would be sent", ""), indent=4)


def _differs(name: str, known: Mapping[str, object], wanted: Mapping[str, object]) -> Part:
    if name in known and name in wanted and known[name] == wanted[name]:
        return ""
    return Span("differs", "warn") if known and wanted else ""


def _acknowledged(acknowledged: Mapping[str, Any] | None, now: datetime) -> Iterator[Block]:
    if acknowledged is None:
        yield line("  nothing is acknowledged of this row")
        return
    record, run = acknowledged["record_id"] or "whose id is not known", acknowledged["run_id"] or ""
    at = text.since(datetime.fromisoformat(acknowledged["at"]), now) if acknowledged["at"] else "at an unknown time"
    if run.startswith(_WORD):
        yield line(f"  taken as arrived {at}, by a person's word ({run} in audit.jsonl)")
    else:
        yield line(f"  acknowledged {at} as record {record}{f', by run {run}' if run else ''}")
