"""One key's story: the row in the warehouse now, what would be sent, what was acknowledged, and if not, why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from reverse_etl import clock, localdb, values
from reverse_etl.checks import general_rules
from reverse_etl.config.sync import SyncConfig
from reverse_etl.diff import Comparison, Scope
from reverse_etl.ledgers import Ledger
from reverse_etl.mapping import key_kinds, shape_of
from reverse_etl.model import JSON
from reverse_etl.protocols import Source
from reverse_etl.read import Reader
from reverse_etl.spool import Spool
from reverse_etl.standing import HELD, WORD, RefusedRow, Removal, key_value, slot_of

REASONS = {
    "unchanged": "the destination has acknowledged exactly these values",
    "pending": "the row differs from what was acknowledged; the next run sends it",
    "absent": "the query gives no row with this key, and none was ever acknowledged",
}


@dataclass(frozen=True)
class Explanation:
    """As `explain --json` prints it; `state` is unchanged, pending, rejected, invalid, in_doubt or absent."""

    sync: str
    key: JSON
    row: dict[str, JSON] | None
    payload: dict[str, JSON] | None
    acknowledged: dict[str, JSON] | None
    state: str
    reason: str

    @property
    def unheard_of(self) -> bool:
        """Whether nothing is known of such a row, in the warehouse or here."""
        return self.reason == REASONS["absent"]

    def to_json(self) -> dict[str, JSON]:
        return {
            "sync": self.sync,
            "key": self.key,
            "row": self.row,
            "payload": self.payload,
            "acknowledged": self.acknowledged,
            "state": self.state,
            "reason": self.reason,
        }


def explain(sync: SyncConfig, source: Callable[[], Source], ledger: Ledger, key: str, run_id: str) -> Explanation:
    """Look one key up, in the warehouse and in the state; the destination isn't asked."""
    key = canonical_key(key, sync)
    listed = (*ledger.under_way.rows(clock.SYSTEM.now()), *ledger.refused())
    refused = next((row for row in listed if row.slot == slot_of(key)), None)
    with ledger.spool(run_id, dry=True) as folder:
        connection = localdb.connect(folder)
        try:
            comparison = Comparison(Spool(connection, folder), ledger.known.digests)
            rows = _read(sync, source(), ledger, key, refused=refused, comparison=comparison)
            ledger.known.lay(connection)
            doubtful = (key,) if refused is not None and refused.kind == "in_doubt" else ()
            only = sync.mode in ("insert", "append")
            comparison.compare(Scope(complete=False, keys_only=only, doubtful=doubtful))
            comparison.invalid.set_aside(general_rules(comparison.shape))
            told = _told(sync, key, comparison, rows, refused)
            if told.acknowledged is None and (removal := ledger.known.removal(connection, key)) is not None:
                told = replace(told, reason=_removed(told, removal))
        finally:
            connection.close()
    if told.state == "pending" and (holder := ledger.holder()) is not None:
        return replace(told, reason=f"the row differs from what was acknowledged; {holder.said} is at work now")
    settling = next((row for row in ledger.settling() if row.key_text == key), None)
    if told.state != "unchanged" or settling is None or settling.next_at is None:
        return told
    return replace(told, reason=f"{told.reason}; {settling.message}, from {clock.text(settling.next_at)}")


def canonical_key(text: str, sync: SyncConfig) -> str:
    """A key as the user typed it, as the tool writes it: the parts of a composite key are a JSON list."""
    if len(sync.key) == 1:
        return text
    try:
        parts = json.loads(text)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or len(parts) != len(sync.key):
        raise ValueError(
            f"the key of {sync.name} has {len(sync.key)} parts ({', '.join(sync.key)}): type a JSON list of them"
        )
    return "[" + ", ".join(json.dumps(part, ensure_ascii=False) for part in parts) + "]"


def _read(
    sync: SyncConfig, source: Source, ledger: Ledger, key: str, *, refused: RefusedRow | None, comparison: Comparison
) -> list[dict[str, Any]]:
    """The row, with `:cursor` as the next run would have it; if that hides it, from the beginning."""
    state = ledger.state()
    try:
        reader = Reader(sync, source, ledger.known.digests() if ledger.known.hashes else None)
        asked = reader.question(state, complete=True)
        schema = source.describe(asked.query)
        comparison.spool.begin(shape_of(sync, schema, reader.digests))
        placed = refused
        if placed is None and state is not None:
            placed = _sought(key, state.cursor_value, state.cursor_type)
        found = reader.by_key(asked, schema, [placed or _sought(key)])
        if not found.num_rows and placed is not None:
            found = reader.by_key(asked, schema, [_sought(key)])
        comparison.spool.take_in(found.schema, iter(found.to_batches()))
    finally:
        source.close()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _sought(key: str, cursor_value: str | None = None, cursor_type: str | None = None) -> RefusedRow:
    epoch = clock.SYSTEM.now()
    return RefusedRow("sought", "", "", epoch, epoch, key_text=key, cursor_value=cursor_value, cursor_type=cursor_type)


def _told(
    sync: SyncConfig, key: str, comparison: Comparison, rows: list[dict[str, Any]], refused: RefusedRow | None
) -> Explanation:
    payload_columns = comparison.shape.payload
    where = f"key = {localdb.literal(key)}"
    with comparison.spool.payload() as payload:
        incoming = comparison.sample(payload, where, "1", 1)
    known = comparison.sample("known", where, "1", 1)
    owed = bool(comparison.sample("delta", where, "1", 1))
    if not incoming and not known:
        rows = []  # a key that the warehouse takes for another one, such as `+1` for 1, is not the row's own
    state, reason = _state(comparison, rows, known, refused, owed=owed, holds=sync.in_doubt == "hold")
    return Explanation(
        sync=sync.name,
        key=key_value(key, key_kinds(comparison.shape)),
        row={name: values.canonical(value) for name, value in rows[0].items()} if rows else None,
        payload={column.field: values.canonical(incoming[0][column.name]) for column in payload_columns}
        if incoming
        else None,
        acknowledged=_acknowledged(known[0]) if known else None,
        state=state,
        reason=reason,
    )


def _state(
    comparison: Comparison,
    rows: list[dict[str, Any]],
    known: list[dict[str, Any]],
    refused: RefusedRow | None,
    *,
    owed: bool,
    holds: bool,
) -> tuple[str, str]:
    invalid = comparison.invalid.rows()
    if invalid:
        return "invalid", f"{invalid[0]['code']}: {invalid[0]['message']}"
    if not rows:
        if known:
            stands = "stands at the destination as acknowledged"
            told = "its record got what `on_removed` sets" if known[0]["gone"] else f"its record {stands}"
            return "absent", f"the row has left the query's result; {told}"
        return "absent", REASONS["absent"]
    if owed and refused is not None and refused.code == HELD and holds:
        decide = "`rejected --arrived KEY` says that it is there, `rejected --retry` sends it again"
        return refused.kind, f"{refused.code}: {refused.message} ({decide})"
    if owed and refused is not None:
        again = (
            f"; offered again from {clock.text(refused.next_at)}"
            if refused.next_at
            else "; offered again with the next run"
        )
        return refused.kind, f"{refused.code}: {refused.message}{again}, or at once when the row changes"
    if owed:
        return "pending", REASONS["pending"]
    if known[0]["run_id"].startswith(WORD):
        return "unchanged", "nobody answered when it was sent; a person has said that it arrived"
    return "unchanged", REASONS["unchanged"] if known[0]["sent"] else _unsent(known[0])


def _unsent(known: dict[str, Any]) -> str:
    if known["record_id"] is None:
        return "the row is known from a first run that was a baseline: it was never sent"
    return "a record was there already, and this sync never updates: nothing was written"


def _removed(told: Explanation, removal: Removal) -> str:
    """What a row's record came to, before what is to be said of the row now."""
    record = f"its record {removal.record_id}" if removal.record_id else "its record"
    said = f"{record} was removed at {removal.at} by run {removal.run_id}"
    left = "the row left the query's result"
    return f"{left}; {said}" if told.state == "absent" else f"{said}; {told.reason}"


def _acknowledged(known: dict[str, Any]) -> dict[str, JSON]:
    """Of a field of which only a digest is kept, the value is None and the name stands among the `hashed`."""
    told: dict[str, JSON] = {n[2:]: values.canonical(value) for n, value in known.items() if n.startswith("f_")}
    hashed = [n[2:] for n, value in known.items() if n.startswith("x_") and value is not None]
    return {
        "values": told | dict.fromkeys(hashed),
        **({"hashed": [*hashed]} if hashed else {}),
        "at": known["acked_at"],
        "record_id": known["record_id"],
        "run_id": known["run_id"],
    }
