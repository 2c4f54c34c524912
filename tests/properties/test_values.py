"""Whatever a warehouse holds survives the way to the wire, and a cursor survives being stored."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.exact import Nanoseconds, earlier_exact, from_exact, to_exact
from reverse_etl.model import Field, FieldType
from reverse_etl.values import as_json, as_text, canonical

NUMBER = Field("x", FieldType.NUMBER)
PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")
finite = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.just(UTC))


def decimals(scale: int) -> st.SearchStrategy[Decimal]:
    """Of at most 38 digits; made from text, as arithmetic on decimals would round to 28."""
    return st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: Decimal(f"{digits}e-{scale}"))


def check_numbers(values: list[Any], kind: pa.DataType) -> None:
    column = pa.array(values, kind)
    texts = as_text(column, NUMBER)
    wire = orjson.dumps(as_json(column, NUMBER)).decode()
    assert wire == "[" + ",".join("null" if text is None else text for text in texts) + "]"
    for value, text in zip(values, texts, strict=True):
        assert (text is None) == (value is None)
        if text is not None:
            assert PLAIN.fullmatch(text), text
            assert Decimal(text) == Decimal(repr(value) if isinstance(value, float) else value)


@given(st.lists(st.none() | finite))
def test_a_float_keeps_its_shortest_digits(values: list[float | None]) -> None:
    check_numbers(values, pa.float64())


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_a_whole_number_keeps_every_digit(values: list[int | None]) -> None:
    check_numbers(values, pa.int64())


@given(st.integers(0, 38).flatmap(lambda scale: st.tuples(st.just(scale), st.lists(st.none() | decimals(scale)))))
def test_a_decimal_keeps_every_digit(case: tuple[int, list[Decimal | None]]) -> None:
    scale, values = case
    check_numbers(values, pa.decimal128(38, scale))


@given(st.lists(st.none() | st.text()))
def test_text_keeps_every_code_point(values: list[str | None]) -> None:
    column = pa.array(values, pa.string())
    for type in (FieldType.TEXT, FieldType.OTHER):
        assert as_text(column, Field("x", type)) == values
        assert as_json(column, Field("x", type)) == values


@given(st.lists(st.none() | moments))
def test_a_time_reads_back_equal_to_the_millisecond(values: list[datetime | None]) -> None:
    texts = as_text(pa.array(values, pa.timestamp("us", "UTC")), Field("x", FieldType.DATETIME))
    days = as_text(pa.array(values, pa.timestamp("us", "UTC")), Field("x", FieldType.DATE))
    for value, text, day in zip(values, texts, days, strict=True):
        if value is None:
            assert text is None
            assert day is None
        else:
            assert datetime.fromisoformat(str(text)) == value - timedelta(microseconds=value.microsecond % 1000)
            assert date.fromisoformat(str(day)) == value.date()


@given(st.lists(st.fixed_dictionaries({"a": st.none() | st.text(), "b": st.lists(st.none() | st.integers(0, 9))})))
def test_a_structure_is_the_same_read_back(values: list[dict[str, Any]]) -> None:
    kind = pa.struct([("a", pa.string()), ("b", pa.list_(pa.int64()))])
    assert [orjson.loads(text or "") for text in as_text(pa.array(values, kind), Field("x", FieldType.TEXT))] == values


@given(st.lists(st.none() | st.lists(st.none() | st.text(alphabet="abc", min_size=1))), st.integers(0, 5))
def test_choices_keep_their_order_and_repeat_nothing(values: list[list[str | None] | None], start: int) -> None:
    column = pa.array(values, pa.list_(pa.string())).slice(min(start, len(values)))
    for row, text in zip(values[start:], as_text(column, Field("x", FieldType.CHOICES)), strict=True):
        expected = None if row is None else list(dict.fromkeys(part for part in row if part is not None))
        assert (None if text is None else text.split(";") if text else []) == expected


@given(decimals(10) | finite | st.integers() | st.text())
def test_what_people_see_equals_the_value(value: Decimal | float | int | str) -> None:
    shown = canonical(value)
    if isinstance(value, str):
        assert shown == value
    else:
        assert Decimal(repr(shown) if isinstance(shown, float) else str(shown)) == Decimal(
            repr(value) if isinstance(value, float) else value
        )


@given(
    st.one_of(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.just(pa.int64())),
        st.tuples(decimals(7), st.just(pa.decimal128(38, 7))),
        st.tuples(finite, st.just(pa.float64())),
        st.tuples(st.floats(allow_nan=False, allow_infinity=False, width=32), st.just(pa.float32())),
        st.tuples(st.text(), st.just(pa.string())),
        st.tuples(st.dates(), st.just(pa.date32())),
        st.tuples(moments, st.just(pa.timestamp("us", "UTC"))),
        st.tuples(st.datetimes(), st.just(pa.timestamp("us"))),
    )
)
def test_a_cursor_reads_back_equal(case: tuple[Any, pa.DataType]) -> None:
    value, kind = case
    assert from_exact(to_exact(value), kind) == value
    assert to_exact(pa.scalar(value, kind)) == to_exact(value)


@given(st.integers(-(2**63), 2**63 - 1), st.booleans(), st.timedeltas(timedelta(), timedelta(days=400)))
def test_a_nanosecond_cursor_reads_back_equal_and_moves_exactly(ticks: int, zoned: bool, lag: timedelta) -> None:
    kind = pa.timestamp("ns", "UTC" if zoned else None)
    text = to_exact(Nanoseconds(ticks, zoned))
    assert from_exact(text, kind) == Nanoseconds(ticks, zoned)
    back = from_exact(earlier_exact(text, kind, lag), kind)
    assert isinstance(back, Nanoseconds)
    assert back.ticks == ticks - (lag // timedelta(microseconds=1)) * 1000


# --- options ---------------------------------------------------------------------------------------------------------

words = st.sampled_from([*"abcdeABCDE"])


@given(
    options=st.lists(words, unique=True, min_size=1), names=st.lists(st.tuples(words, words)), chosen=st.lists(words)
)
def test_what_goes_out_for_a_choice_is_an_option_or_what_came_and_does_not_depend_on_the_lists_order(
    options: list[str], names: list[tuple[str, str]], chosen: list[str]
) -> None:
    labels = tuple((label, value) for label, value in names if value in options)
    several = Field("x", FieldType.CHOICES, options=tuple(options), labels=labels)
    [sent] = as_text(pa.array([chosen], pa.list_(pa.string())), several)
    assert sent is not None
    parts = sent.split(";") if sent else []
    for each in chosen:
        meant = {value for label, value in labels if label == each}
        assert (each if each in options or len(meant) != 1 else meant.pop()) in parts
    known = [part for part in parts if part in options]
    assert known == sorted(set(known), key=options.index)
    assert set(parts) - set(options) <= set(chosen)
    assert as_text(pa.array([parts], pa.list_(pa.string())), several) == [sent]
    [reversed_] = as_text(pa.array([chosen[::-1]], pa.list_(pa.string())), several)
    assert reversed_ is not None
    assert sorted(reversed_.split(";")) == sorted(sent.split(";"))
