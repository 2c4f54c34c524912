"""Rows that are held in doubt, and that a person who has looked says did arrive."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reverse_etl import arrived
from reverse_etl.errors import InDoubt, SyncBusy
from reverse_etl.model import Field, FieldType
from reverse_etl.standing import HELD, WORD, RefusedRow
from reverse_etl.testing import MemoryAccount
from reverse_etl.writeback import WarehouseLog
from tests.house import FIELDS, House, sync

ONE, TWO = (1, "a@x.io", "free"), (2, "b@x.io", "pro")


def house(root: Path, **changes: Any) -> House:
    """Each row is a message, which people would read twice if it came twice."""
    at = House(root, sync(**{"mode": "append", "match": "", **changes}), crm=MemoryAccount(*FIELDS, repeatable=False))
    at.people(ONE, TWO)
    return at


def in_doubt(at: House) -> House:
    at.crm.fail(InDoubt("cut off"), call=1, applied=True)
    at.run()
    assert set(at.codes().values()) == {HELD}
    return at


def arrive(at: House, *keys: str, notes: list[Sequence[str]] | None = None) -> list[RefusedRow]:
    told = [] if notes is None else notes
    word = arrived.Word(f"{WORD}{at.runs}", at.clock.now(), lambda: told.append(keys), logged=at.log_to is not None)
    with closing(at.ledger()) as ledger:
        return arrived.acknowledge(at.sync, at.source, ledger, keys, word)


def test_it_is_never_sent_again_and_stands_as_it_was_sent(tmp_path: Path) -> None:
    at, notes = in_doubt(house(tmp_path)), list[Sequence[str]]()
    assert [row.key for row in arrive(at, "1", notes=notes)] == [1]
    assert (notes, at.codes()) == ([("1",)], {"2": HELD})
    assert (at.known()["1"]["f_email"], at.known()["1"]["f_plan"]) == ("a@x.io", "free")
    arrive(at, "2")
    at.idle()
    assert [key for _, key, _ in at.crm.sent()] == ["1", "2"]


def test_explain_says_by_whose_word(tmp_path: Path) -> None:
    at = in_doubt(house(tmp_path))
    arrive(at, "1")
    told = at.explain("1")
    assert (told.state, told.reason) == (
        "unchanged",
        "nobody answered when it was sent; a person has said that it arrived",
    )
    assert told.acknowledged is not None
    assert told.acknowledged["run_id"] == f"{WORD}1"
    assert "`rejected --arrived KEY` says that it is there" in at.explain("2").reason


def test_what_has_changed_since_goes_out_with_the_next_run(tmp_path: Path) -> None:
    at = in_doubt(house(tmp_path, mode="upsert", match="email"))
    at.people((1, "a@x.io", "gold"), TWO)
    arrive(at, "1", "2")
    report = at.go()
    assert (report.rows.changed, report.rows.unchanged, report.exit_code) == (1, 1, 0)
    assert at.crm.by("email")["a@x.io"]["plan"] == "gold"
    at.idle()


@pytest.mark.parametrize("hashes", [False, True])
def test_a_value_of_any_type_is_known_as_it_was_sent(tmp_path: Path, hashes: bool) -> None:
    columns = {
        "email": pa.array(["a@x.io"]),
        "whole": pa.array([2**60 + 1]),
        "exact": pa.array([Decimal("12345678901234567.890")], pa.decimal128(38, 3)),
        "rough": pa.array([0.1 + 0.2]),
        "yes": pa.array([False]),
        "day": pa.array([dt.date(2026, 2, 28)]),
        "moment": pa.array([dt.datetime(2026, 2, 28, 23, 59, 59, 123456, dt.UTC)]),
        "choices": pa.array([["b", "it's"]]),
        "nothing": pa.array([None], pa.string()),
    }
    fields = [*FIELDS[:1], *(Field(name, FieldType.TEXT) for name in columns if name != "email")]
    at = House(
        tmp_path,
        sync(mode="upsert", key=("email",), mapping={name: name for name in columns}),
        crm=MemoryAccount(*fields, repeatable=False),
    )
    at.hashes = hashes
    at.warehouse.arrow("people", pa.table(columns))
    in_doubt(at)
    arrive(at, "a@x.io")
    at.idle()
    assert ("x_rough" in at.known()["a@x.io"], "f_rough" in at.known()["a@x.io"]) == (hashes, not hashes)


def test_one_that_is_not_held_in_doubt_is_refused_and_nothing_happens(tmp_path: Path) -> None:
    at, notes = house(tmp_path), list[Sequence[str]]()
    at.people(ONE, TWO, (3, None, "pro"))
    at.crm.refuse(lambda record: record["plan"] == "pro", code="SOLD_OUT")
    at.crm.leave_out("1")
    at.go()
    assert at.codes() == {"1": HELD, "2": "SOLD_OUT", "3": "SOLD_OUT"}
    with pytest.raises(ValueError, match="2: this row is not in doubt: it is rejected, SOLD_OUT"):
        arrive(at, "1", "2", notes=notes)
    with pytest.raises(ValueError, match="9: nothing of this row is in doubt"):
        arrive(at, "1", "9", notes=notes)
    assert (notes, at.codes()["1"], at.known()) == ([], HELD, {})


def test_what_the_next_run_sends_again_harmlessly_needs_nobodys_word(tmp_path: Path) -> None:
    at = in_doubt_but_harmless(tmp_path)
    with pytest.raises(ValueError, match="sending it again is harmless"):
        arrive(at, "1")


def in_doubt_but_harmless(root: Path) -> House:
    at = house(root, in_doubt="resend")
    at.crm.fail(InDoubt("cut off"), call=1)
    at.run()
    return at


def test_nobody_settles_what_a_run_holds(tmp_path: Path) -> None:
    at = in_doubt(house(tmp_path))
    with closing(at.ledger()) as ledger, ledger.hold("run-x", at.clock.now()), pytest.raises(SyncBusy):
        arrive(at, "1")


def test_the_warehouse_is_told_with_the_next_run(tmp_path: Path) -> None:
    at = house(tmp_path)
    written = list[Any]()

    class Told(type(at.source())):  # type: ignore[misc]
        def load(self, schema: str, loads: Sequence[Any], *, rehearse: bool = False) -> None:
            written.extend(load.rows for load in loads if load.number)

    at.log_to = WarehouseLog("warehouse", "main", lambda: Told(at.warehouse))
    in_doubt(at)
    arrive(at, "1")
    at.go()
    lines = [line for table in written for line in table.to_pylist()]
    last = [line for line in lines if line["row_key"] == "1"][-1]
    assert (last["verdict"], last["run_id"], last["entry"]) == ("arrived", f"{WORD}1", 1)
    assert "a person has said that it arrived" in last["message"]
