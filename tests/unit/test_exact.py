from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from reverse_etl.exact import Nanoseconds, earlier_exact, from_exact, least_exact, to_exact

US = pa.timestamp("us")
ZONED = pa.timestamp("us", "UTC")


def test_nanoseconds_are_kept_and_ordered() -> None:
    kind = pa.timestamp("ns", "UTC")
    text = to_exact(pa.scalar(1767225600123456789, kind))
    assert text == "2026-01-01T00:00:00.123456789Z"
    assert from_exact(text, kind) == Nanoseconds(1767225600123456789, zoned=True)
    assert Nanoseconds(1, zoned=True) < Nanoseconds(2, zoned=True)
    assert to_exact(from_exact(text, kind)) == text


def test_a_naive_time_stays_naive() -> None:
    assert to_exact(datetime(2026, 1, 1)) == "2026-01-01T00:00:00.000000"
    assert from_exact("2026-01-01T00:00:00.000000", US) == datetime(2026, 1, 1)


def test_an_infinite_time_is_no_cursor() -> None:
    for ticks in (2**63 - 1, -(2**63) + 1):
        with pytest.raises(ValueError, match="9999"):
            to_exact(pa.scalar(ticks, pa.int64()).cast(US))
    with pytest.raises(ValueError, match="9999"):
        to_exact(pa.array([2**31 - 1], pa.int32()).view(pa.date32())[0])
    with pytest.raises(ValueError, match="can't be a cursor"):
        to_exact(float("nan"))


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        (ZONED, "1970-01-01T00:00:00.000000Z"),
        (pa.timestamp("s"), "1970-01-01T00:00:00"),
        (pa.date32(), "1970-01-01"),
        (pa.int16(), "-32768"),
        (pa.uint8(), "0"),
        (pa.decimal128(4, 2), "-99.99"),
        (pa.float64(), "-inf"),
        (pa.string(), ""),
        (pa.dictionary(pa.int8(), pa.string()), ""),
    ],
)
def test_the_least_value_of_a_type_can_be_bound(kind: pa.DataType, least: str) -> None:
    assert least_exact(kind) == least
    from_exact(least, kind)


def test_a_lag_moves_times_back_exactly() -> None:
    lag = timedelta(minutes=10)
    assert earlier_exact("2026-01-01T00:05:00.123456Z", ZONED, lag) == "2025-12-31T23:55:00.123456Z"
    nanoseconds = pa.timestamp("ns")
    assert earlier_exact("2026-01-01T00:10:00.123456789", nanoseconds, lag) == "2026-01-01T00:00:00.123456789"
    assert earlier_exact("2026-01-02", pa.date32(), lag) == "2026-01-01"
    assert earlier_exact("2026-01-02", pa.date32(), timedelta(days=2)) == "2025-12-31"
    assert earlier_exact("7", pa.int64(), timedelta()) == "7"
    with pytest.raises(ValueError, match="no lag"):
        earlier_exact("7", pa.int64(), lag)


def test_python_values_and_arrow_scalars_have_one_text() -> None:
    for value, kind in [
        (7, pa.int64()),
        (Decimal("1.50"), pa.decimal128(5, 2)),
        (0.1, pa.float64()),
        ("x", pa.string()),
        (date(2026, 1, 1), pa.date32()),
        (True, pa.bool_()),
    ]:
        assert to_exact(value) == to_exact(pa.scalar(value, kind))
