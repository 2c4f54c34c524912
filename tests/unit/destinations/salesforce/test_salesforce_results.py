"""What a bulk job's result files say: rows found by their keys, whatever order and form they come back in."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.destinations.salesforce.results import Results, _table, comparable, fault_in
from reverse_etl.errors import InDoubt
from reverse_etl.model import Field, FieldType, Operation
from reverse_etl.verdicts import Outcomes, Verdict
from tests.unit.destinations.salesforce.org import FIELDS, batch

KEY = FIELDS["External_Id__c"]


def results(saved: str = "", refused: str = "", unprocessed: str = "", key: str = "External_Id__c") -> Results:
    heads = (f'"sf__Id","sf__Created",{key}\n', f'"sf__Id","sf__Error",{key}\n', f"{key}\n")
    columns = (("sf__Id", "sf__Created"), ("sf__Id", "sf__Error"), ())
    files = (
        io.BytesIO((head + body).encode()) for head, body in zip(heads, (saved, refused, unprocessed), strict=True)
    )
    return Results(*(_table(file, key, names) for file, names in zip(files, columns, strict=True)))


def settle(found: Results, keys: list[str], operation: Operation = Operation.UPSERT) -> tuple[Outcomes, list[int]]:
    ids = keys if operation in (Operation.UPDATE, Operation.REMOVE) else None
    rows = batch(operation, {"External_Id__c": pa.array(keys, pa.string())}, ids=ids)
    outcomes = Outcomes(len(keys))
    settled = found.settle(rows, range(len(keys)), pa.array(keys, pa.string()), None if ids else KEY, outcomes)
    return outcomes, settled.unprocessed


def test_each_row_is_found_by_its_key_in_one_of_three_files() -> None:
    found = results(
        '"003B","false","B"\n"003A","true","a"\n',
        '"","REQUIRED_FIELD_MISSING:Required fields are missing: [Name]:Name --","c"\n',
        "d\n",
    )
    outcomes, unprocessed = settle(found, ["a", "b", "c", "d", "e"])
    assert outcomes.verdicts == [
        Verdict.CREATED,
        Verdict.UPDATED,
        Verdict.REJECTED,
        Verdict.NO_ANSWER,
        Verdict.NO_ANSWER,
    ]
    assert outcomes.record_ids[:2] == ["003A", "003B"]
    assert outcomes.refusals[2].message == "Required fields are missing: [Name]"
    assert unprocessed == [3]


def test_a_row_that_two_files_name_has_no_verdict() -> None:
    outcomes, _ = settle(results('"1","true","a"\n', '"","X:y:--","a"\n'), ["a"])
    assert outcomes.unanswered() == [0]


def test_rows_that_nobody_sent_are_nobodys() -> None:
    outcomes, unprocessed = settle(results('"1","true","z"\n', '"","X:y:--","y"\n', "x\n"), ["a"])
    assert (outcomes.unanswered(), unprocessed) == ([0], [])


def test_a_deleted_record_is_removed_by_its_id_in_either_length_and_one_that_is_gone_too() -> None:
    found = results(
        '"003000000000001AAA","false","003000000000001AAA"\n',
        '"003000000000002AAA","ENTITY_IS_DELETED:entity is deleted:--","003000000000002AAA"\n',
        key="Id",
    )
    outcomes, _ = settle(found, ["003000000000001", "003000000000002AAA"], Operation.REMOVE)
    assert outcomes.verdicts == [Verdict.REMOVED] * 2


@pytest.mark.parametrize(
    ("text", "code", "message", "fields"),
    [
        (
            "REQUIRED_FIELD_MISSING:Required fields are missing: [A, B]:A, B --",
            "REQUIRED_FIELD_MISSING",
            "Required fields are missing: [A, B]",
            ["A", "B"],
        ),
        ("STRING_TOO_LONG:Name: data value too large: a:b (max length=2):Name --", "STRING_TOO_LONG", None, ["Name"]),
        ("CUSTOM:no:--", "CUSTOM", "no", []),
        ("CUSTOM", "CUSTOM", "CUSTOM", []),
        ("", "destination_refused", "", []),
    ],
)
def test_an_error_is_code_words_and_fields(text: str, code: str, message: str | None, fields: list[str]) -> None:
    told = fault_in(text)
    assert (told["statusCode"], told["fields"]) == (code, fields)
    assert message is None or told["message"] == message


def test_a_number_is_the_same_in_any_form_and_a_text_only_where_the_field_says_so() -> None:
    number = Field("N", FieldType.NUMBER)
    ours, theirs = pa.array(["912260031", "0.5", None]), pa.array(["9.12260031E8", "5.0E-1", ""])
    assert comparable(ours, number).to_pylist()[:2] == comparable(theirs, number).to_pylist()[:2]
    exact = Field("T", FieldType.TEXT)
    assert comparable(pa.array([" a", "A"]), exact).to_pylist() == ["a", "A"]
    assert comparable(pa.array([" a", "A"]), KEY).to_pylist() == ["a", "a"]


@pytest.mark.parametrize("body", [b"", b'"sf__Id","sf__Created",External_Id__c\n', b'"sf__Id","sf__Created",K\r\n'])
def test_a_file_without_rows_is_empty(body: bytes) -> None:
    key = "K" if b",K" in body else "External_Id__c"
    assert len(_table(io.BytesIO(body), key, ("sf__Id", "sf__Created"))) == 0


def test_a_file_without_its_columns_proves_nothing() -> None:
    with pytest.raises(InDoubt, match="lacks the columns"):
        _table(io.BytesIO(b"a,b\n1,2\n"), "External_Id__c", ("sf__Id", "sf__Created"))


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.booleans()), st.data())
def test_in_any_order_and_with_any_text_each_row_gets_its_own_verdict(rows: dict[str, bool], data: Any) -> None:
    keys = [key for key in {key.strip().lower(): key for key in rows if key.strip()}.values()]
    told = data.draw(st.permutations(keys))
    lines = "".join(f'"003{key.encode().hex()}","{str(rows[key]).lower()}",{quoted(key)}\n' for key in told)
    outcomes, _ = settle(results(lines), keys)
    assert outcomes.record_ids == [f"003{key.encode().hex()}" for key in keys]
    assert [verdict is Verdict.CREATED for verdict in outcomes.verdicts] == [rows[key] for key in keys]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
