"""One person's or company's rows in every sync, for who knows neither the sync's name nor its key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from reverse_etl import localdb
from reverse_etl.config.sync import SyncConfig
from reverse_etl.digests import Digests
from reverse_etl.errors import ReverseEtlError
from reverse_etl.explain import Explanation, canonical_key, explain
from reverse_etl.ledgers import Ledger
from reverse_etl.localdb import literal, quoted
from reverse_etl.mapping import shape_of
from reverse_etl.model import JSON
from reverse_etl.protocols import Source
from reverse_etl.read import Reader
from reverse_etl.report import GRAVEST
from reverse_etl.spool import Spool

MOST = 20  # rows of one sync that are told of


@dataclass
class Search:
    """Rows of which the key, a text value or the record's id is `text`; case and outer blanks don't count.

    `absent` are syncs that have none, `more` those that have more than are told of, `failed` those that can't say.
    """

    text: str
    rows: list[Explanation] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    failed: dict[str, ReverseEtlError] = field(default_factory=dict)

    def look(self, sync: SyncConfig, source: Callable[[], Source], ledger: Ledger, run_id: str) -> None:
        """In one sync: in the warehouse now, in what was acknowledged, and on the list of refused rows."""
        try:
            keys = [*dict.fromkeys(_keys(sync, source, ledger, self.text.strip(), run_id))]
            told = [_explained(sync, source, ledger, key, run_id) for key in keys[:MOST]]
        except ReverseEtlError as failure:
            self.failed[sync.name] = failure
            return
        found = [row for row in told if row is not None and not row.unheard_of]
        self.rows += found
        if not found:
            self.absent.append(sync.name)
        if len(keys) > MOST:
            self.more.append(sync.name)

    @property
    def exit_code(self) -> int:
        return min((why.exit_code for why in self.failed.values()), key=GRAVEST.index, default=0)

    def to_json(self) -> dict[str, JSON]:
        return {
            "text": self.text,
            "rows": [row.to_json() for row in self.rows],
            "absent": [*self.absent],
            "more": [*self.more],
            "failed": [
                {"sync": name, "code": why.code, "message": why.message, "hint": why.hint}
                for name, why in self.failed.items()
            ],
        }


def _explained(
    sync: SyncConfig, source: Callable[[], Source], ledger: Ledger, key: str, run_id: str
) -> Explanation | None:
    try:
        return explain(sync, source, ledger, key, run_id)
    except ValueError:  # text that can't be a key here, where keys are numbers
        return None


def _keys(sync: SyncConfig, source: Callable[[], Source], ledger: Ledger, text: str, run_id: str) -> Iterator[str]:
    """Keys that may be meant, canonical; the text itself is one where it can be."""
    wanted = text.lower()
    with ledger.spool(run_id, dry=True) as folder:
        connection = localdb.connect(folder)
        try:
            _take_in(sync, source(), ledger, Spool(connection, folder), wanted)
            ledger.known.lay(connection)
            known = _known(connection, ledger.known.digests() if ledger.known.hashes else None, text)
            found = [*_selected(connection, "incoming", "key IS NOT NULL"), *_selected(connection, "known", known)]
        finally:
            connection.close()
    yield from found
    for row in ledger.refused():
        if row.key_text is not None and wanted in map(_folded, (row.key_text, *row.values.values())):
            yield row.key_text
    try:
        yield canonical_key(text, sync)
    except ValueError:  # a key of several parts, of which this may be one
        return


def _take_in(sync: SyncConfig, source: Source, ledger: Ledger, spool: Spool, wanted: str) -> None:
    try:
        reader = Reader(sync, source)
        asked = reader.question(None, complete=True)
        schema = source.describe(asked.query)
        spool.begin(shape_of(sync, schema))
        query = reader.by_text(asked, schema, wanted)
        if query is None:
            spool.take_in(schema, iter(()))
            return
        with source.read(query) as batches:
            spool.take_in(schema, _first(batches, MOST + 1))
    finally:
        source.close()


def _first(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch[:rows]
        rows -= batch.num_rows
        if rows <= 0:
            return


def _known(connection: duckdb.DuckDBPyConnection, digests: Digests | None, text: str) -> str:
    """Of what was acknowledged, the rows that may be meant, as SQL. A part of a key stands in it as JSON.

    A digest is only found by the text as it was, or in small letters.
    """
    wanted, part = literal(text.lower()), literal(json.dumps(text.lower(), ensure_ascii=False))
    same = [
        f"lower(key) = {wanted}",
        f"lower(record_id) = {wanted}",
        f"(key[1] = '[' AND contains(lower(key), {part}))",
    ]
    for name, type in localdb.column_types(connection, "known").items():
        if name.startswith("f_") and type == "VARCHAR":
            same.append(f"lower(trim({quoted(name)})) = {wanted}")
        elif name[:2] in ("x_", "y_") and digests is not None:
            for each in (literal(text), wanted):
                digest = digests.of(name[2:], each, "VARCHAR", folded=name.startswith("y_"))
                same.append(f"{quoted(name)} = {digest}")
    return " OR ".join(same)


def _selected(connection: duckdb.DuckDBPyConnection, relation: str, condition: str) -> list[str]:
    sql = f"SELECT DISTINCT key FROM {relation} WHERE {condition} ORDER BY key LIMIT {MOST + 1}"
    return [str(key) for (key,) in connection.execute(sql).fetchall()]


def _folded(value: JSON) -> JSON:
    return value.strip().lower() if isinstance(value, str) else value
