from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest

from reverse_etl.model import Field, FieldType
from reverse_etl.values import as_json, as_text, canonical

ZONED = pa.timestamp("us", "UTC")
EVERY = list(FieldType)


def field(type: FieldType) -> Field:
    return Field("x", type)


def text(values: Any, kind: pa.DataType, type: FieldType = FieldType.TEXT) -> list[str | None]:
    return as_text(pa.array(values, kind), field(type))


def typed(values: Any, kind: pa.DataType, type: FieldType) -> str:
    return orjson.dumps(as_json(pa.array(values, kind), field(type))).decode()


# --- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type", EVERY)
def test_null_stays_absent_for_every_field(type: FieldType) -> None:
    for kind in (
        pa.int64(),
        pa.float64(),
        pa.string(),
        pa.bool_(),
        ZONED,
        pa.date32(),
        pa.list_(pa.string()),
        pa.null(),
    ):
        assert text([None, None], kind, type) == [None, None]
        assert as_json(pa.array([None], kind), field(type)) == [None]


def test_numbers_are_plain_digits() -> None:
    assert text([1, -(2**63), 2**63 - 1], pa.int64()) == ["1", "-9223372036854775808", "9223372036854775807"]
    assert text([2**64 - 1], pa.uint64()) == ["18446744073709551615"]
    decimals = ["1.50", "-0.10", "0.0000000001", "1000.0000000000", "-0.0000000000"]
    assert text([Decimal(value) for value in decimals], pa.decimal128(38, 10)) == [
        "1.5",
        "-0.1",
        "0.0000000001",
        "1000",
        "0",
    ]
    floats = [0.1, 1.0, 1e22, 1e-7, -0.0, 5e-324]
    assert text(floats, pa.float64())[:5] == ["0.1", "1", "1" + "0" * 22, "0.0000001", "0"]
    assert text([0.1], pa.float32()) == ["0.1"]


def test_booleans_are_words_and_a_boolean_field_knows_zero_and_one() -> None:
    assert text([True, False], pa.bool_()) == ["true", "false"]
    assert text([1, 0, 2], pa.int64(), FieldType.BOOLEAN) == ["true", "false", "2"]
    assert text([1, 0], pa.int64(), FieldType.NUMBER) == ["1", "0"]


def test_text_is_kept_for_text_and_trimmed_for_other_fields() -> None:
    assert text([" a\t"], pa.string()) == [" a\t"]
    assert text([" 12 "], pa.string(), FieldType.NUMBER) == ["12"]
    assert text([" gold "], pa.string(), FieldType.CHOICE) == ["gold"]


def test_times_are_utc_and_cut_to_the_millisecond_downwards() -> None:
    moments = [
        datetime(2026, 1, 31, 10, 20, 30, 123999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 1, 1, 3, tzinfo=timezone(timedelta(hours=9))),
    ]
    expected = ["2026-01-31T10:20:30.123Z", "1969-12-31T23:59:59.999Z", "2025-12-31T18:00:00.000Z"]
    assert text(moments, ZONED, FieldType.DATETIME) == expected
    assert text(moments, pa.timestamp("us", "Asia/Tokyo"), FieldType.DATETIME) == expected
    assert text([moments[0].replace(tzinfo=None)], pa.timestamp("us"), FieldType.DATETIME) == expected[:1]


@pytest.mark.parametrize(("unit", "fraction"), [("s", "000"), ("ms", "123"), ("us", "123"), ("ns", "123")])
def test_every_unit_of_time_has_milliseconds(unit: str, fraction: str) -> None:
    ticks = {"s": 1, "ms": 1123, "us": 1123456, "ns": 1123456789}[unit]
    column = pa.array([ticks], pa.int64()).view(pa.timestamp(unit, "UTC"))
    assert as_text(column, field(FieldType.DATETIME)) == [f"1970-01-01T00:00:01.{fraction}Z"]


def test_a_date_field_takes_the_day_and_a_datetime_field_takes_midnight() -> None:
    late = datetime(2026, 1, 31, 23, 59, tzinfo=UTC)
    assert text([late], ZONED, FieldType.DATE) == ["2026-01-31"]
    assert text([late], pa.timestamp("us", "Asia/Tokyo"), FieldType.DATE) == ["2026-01-31"]
    assert text([date(2026, 1, 31)], pa.date32(), FieldType.DATE) == ["2026-01-31"]
    assert text([date(2026, 1, 31)], pa.date32(), FieldType.DATETIME) == ["2026-01-31T00:00:00.000Z"]
    assert text([date(2026, 1, 31)], pa.date64()) == ["2026-01-31"]


def test_a_time_in_text_goes_out_as_other_times_do_in_utc_and_cut_to_the_millisecond() -> None:
    told = ["2026-01-31T10:20:30.123987+02:00", " 1969-12-31 23:59:59.9999 ", "2026-01-31", "0001-01-01T00:00", "later"]
    expected = ["2026-01-31T08:20:30.123Z", "1969-12-31T23:59:59.999Z", "2026-01-31T00:00:00.000Z"]
    expected += ["0001-01-01T00:00:00.000Z", "later"]
    assert text([*told, None], pa.string(), FieldType.DATETIME) == [*expected, None]
    assert as_json(pa.array(told), field(FieldType.DATETIME)) == expected


def test_a_time_of_day_is_iso_text_and_a_time_field_has_milliseconds() -> None:
    times = [time(10, 20, 30), time(10, 20, 30, 500000)]
    assert text(times, pa.time64("us")) == ["10:20:30", "10:20:30.5"]
    assert text(times, pa.time64("us"), FieldType.TIME) == ["10:20:30.000Z", "10:20:30.500Z"]
    assert text([time(10)], pa.time32("s"), FieldType.TIME) == ["10:00:00.000Z"]


def test_lists_join_for_choices_and_are_json_elsewhere() -> None:
    lists = [["b", "a", "b", None], [], None]
    assert text(lists, pa.list_(pa.string()), FieldType.CHOICES) == ["b;a", "", None]
    assert text(lists, pa.list_(pa.string())) == ['["b","a","b",null]', "[]", None]
    assert text([[1, 2]], pa.list_(pa.int64(), 2), FieldType.CHOICES) == ["1;2"]


OPTIONS = ("z", "a", " b ", "1")
LABELS = (("Zed", "z"), ("A", "a"), ("a", "z"), ("Same", "z"), ("Same", "a"), ("One", "1"))


def test_a_choice_goes_out_by_its_value_which_beats_a_label_and_a_shared_label_stands_for_none() -> None:
    one = Field("x", FieldType.CHOICE, options=OPTIONS, labels=LABELS)
    assert as_text(pa.array(["Zed", "a", "Same", " b ", "zed", "", None]), one) == [
        *("z", "a", "Same", " b "),
        "zed",
        "",
        None,
    ]
    assert as_text(pa.array([1, None]), one) == ["1", None]
    assert as_json(pa.array(["Zed"]), one) == ["z"]
    assert (one.by_label, one.shared_labels) == ({"Zed": "z", "A": "a", "One": "1"}, ["Same"])


def test_several_choices_stand_in_the_options_order_from_a_list_and_as_written_from_text() -> None:
    several = Field("x", FieldType.CHOICES, options=OPTIONS, labels=LABELS)
    lists = pa.array([["One", "A", "Zed", "a", None], ["unknown", "a"], [], None])
    assert as_text(lists, several) == ["z;a;1", "a;unknown", "", None]
    assert as_text(pa.array(["One;A", ";Zed", "", None]), several) == ["1;a", ";z", "", None]


def test_a_slice_of_a_nested_column_shows_its_own_rows() -> None:
    lists = pa.array([["a"], ["b", "c"], None, ["d"]])
    assert as_text(lists.slice(1, 3), field(FieldType.CHOICES)) == ["b;c", None, "d"]
    maps = pa.array([[("a", 1)], [("b", 2), ("c", None)], None], pa.map_(pa.string(), pa.int64()))
    assert as_text(maps.slice(1), field(FieldType.TEXT)) == ['{"b":2,"c":null}', None]
    structs = pa.array([{"a": 1}, None, {"a": 3}])
    assert as_text(structs.slice(1), field(FieldType.TEXT)) == [None, '{"a":3}']


def test_structures_keep_their_digits() -> None:
    kind = pa.struct([("price", pa.decimal128(38, 2)), ("days", pa.list_(pa.date32())), ("n", pa.int64())])
    value = {"price": Decimal("12345678901234567890.10"), "days": [date(2026, 1, 1)], "n": 2**63 - 1}
    expected = '{"price":12345678901234567890.1,"days":["2026-01-01"],"n":9223372036854775807}'
    assert text([value], kind) == [expected]
    assert typed([value], kind, FieldType.OTHER) == f"[{expected}]"


def test_enumerations_and_chunks_are_what_they_stand_for() -> None:
    assert as_text(pa.array(["a", None]).dictionary_encode(), field(FieldType.TEXT)) == ["a", None]
    assert as_text(pa.chunked_array([["a"], ["b"]]), field(FieldType.TEXT)) == ["a", "b"]


def test_binary_has_no_form() -> None:
    with pytest.raises(TypeError, match="binary"):
        text([b"x"], pa.binary())


# --- typed JSON -----------------------------------------------------------------------------------------------------


def test_a_number_field_gets_numbers_with_every_digit() -> None:
    assert typed([2**53 + 1], pa.int64(), FieldType.NUMBER) == "[9007199254740993]"
    decimal = Decimal("12345678901234567890.123456789")
    assert typed([decimal], pa.decimal128(38, 9), FieldType.NUMBER) == "[12345678901234567890.123456789]"
    assert typed([0.1, 1e22, 3.0], pa.float64(), FieldType.NUMBER) == "[0.1,10000000000000000000000,3]"
    assert typed(["1.50", " 7", "x", "1e5"], pa.string(), FieldType.NUMBER) == '[1.5,7,"x","1e5"]'


def test_a_boolean_field_gets_booleans() -> None:
    assert typed([True, False], pa.bool_(), FieldType.BOOLEAN) == "[true,false]"
    assert typed([1, 0, 2], pa.int64(), FieldType.BOOLEAN) == '[true,false,"2"]'
    assert typed(["True", "no"], pa.string(), FieldType.BOOLEAN) == '[true,"no"]'


def test_a_text_field_gets_text() -> None:
    assert typed([True], pa.bool_(), FieldType.TEXT) == '["true"]'
    assert typed([1.5], pa.float64(), FieldType.TEXT) == '["1.5"]'


def test_an_untyped_field_gets_what_the_column_is() -> None:
    assert typed([True], pa.bool_(), FieldType.OTHER) == "[true]"
    assert typed([["a", None]], pa.list_(pa.string()), FieldType.OTHER) == '[["a",null]]'
    assert typed([date(2026, 1, 1)], pa.date32(), FieldType.OTHER) == '["2026-01-01"]'


# --- to people --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (2**70, 2**70),
        (3.0, 3),
        (0.1, 0.1),
        (float("nan"), "nan"),
        (Decimal("1.50"), 1.5),
        (Decimal("2.00"), 2),
        (Decimal("12345678901234567890.1"), "12345678901234567890.1"),
        (Decimal("NaN"), "NaN"),
        (date(2026, 1, 1), "2026-01-01"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC), "2026-01-01T00:00:00.000001Z"),
        (time(1, 2, 3), "01:02:03"),
        ([Decimal("1.0"), None], [1, None]),
        ({"a": date(2026, 1, 1)}, {"a": "2026-01-01"}),
        (pa.scalar(1, pa.timestamp("ns", "UTC")), "1970-01-01T00:00:00.000000001Z"),
        (pa.scalar("x"), "x"),
    ],
)
def test_what_people_see_keeps_every_digit(value: object, shown: object) -> None:
    assert canonical(value) == shown
