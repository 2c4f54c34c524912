from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from pydantic import BaseModel, SecretStr
from sqlalchemy import make_url

from reverse_etl.errors import SourceError
from reverse_etl.model import Query
from reverse_etl.sources.columns import columns_seen, to_batches
from reverse_etl.sources.sql import SqlSource
from reverse_etl.sources.stream import words
from reverse_etl.testing import refused


class Config(BaseModel):
    name: str = "warehouse"
    url: SecretStr
    external_access: bool = False


def seen(*values: Any, digits: tuple[Any, Any] = (None, None)) -> Any:
    (column,) = columns_seen(["x"], [[value] for value in values], [digits])
    return column


@pytest.mark.parametrize(
    ("values", "arrow"),
    [
        ([True, None], pa.bool_()),
        ([1, -(2**63)], pa.int64()),
        ([2**63], pa.decimal128(38, 0)),
        ([1, 2.5], pa.float64()),
        ([Decimal("1.50"), 2, None], pa.decimal128(38, 2)),
        (["x"], pa.string()),
        ([None], pa.string()),
        ([UUID(int=1)], pa.string()),
        ([date(2026, 1, 1)], pa.date32()),
        ([time(1)], pa.time64("us")),
        ([datetime(2026, 1, 1)], pa.timestamp("us")),
        ([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
    ],
)
def test_the_first_rows_decide_a_type_that_the_driver_does_not_say(values: list[Any], arrow: pa.DataType) -> None:
    column = seen(*values)
    assert column.type == arrow
    assert column.array(values).null_count == values.count(None)


def test_the_drivers_precision_and_scale_are_taken() -> None:
    assert seen(Decimal("1.5"), digits=(10, 4)).type == pa.decimal128(10, 4)


@pytest.mark.parametrize(
    "values", [[b"x"], [timedelta(1)], ["x", 1.5], [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)], [{"a": 1}]]
)
def test_a_mixture_without_an_exact_form_is_refused(values: list[Any]) -> None:
    with refused("source_type", "'x'"):
        seen(*values)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (1, "later"),
        (1, 1.5),
        (1, True),
        (Decimal("1.5"), Decimal("1.55")),
        (1.5, 2**53 + 1),
        ("x", b"y"),
        (date(2026, 1, 1), "later"),
        (date(2026, 1, 1), datetime(2026, 1, 1, 5)),
        (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_later_value_that_does_not_fit_is_an_error_and_never_rounded(first: Any, later: Any) -> None:
    with pytest.raises(SourceError) as denied:
        list(to_batches([[[first]], [[later]]], [seen(first)]))
    assert denied.value.code == "source_type"
    assert repr(later) not in str(denied.value)  # no message holds a row's values


@pytest.mark.parametrize(
    ("dialect", "package"), [("snowflake", "snowflake-sqlalchemy"), ("bigquery", "sqlalchemy-bigquery")]
)
def test_a_missing_driver_is_named_with_what_to_install(dialect: str, package: str) -> None:
    source = SqlSource(Config(url=SecretStr(f"{dialect}://ada:s3cret@account/db")))
    with pytest.raises(SourceError) as missing:
        source.describe(Query("SELECT 1 AS a"))
    assert missing.value.code == "source_missing_driver"
    assert package in str(missing.value.hint)


def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(SourceError) as broken:
        SqlSource(Config(url=SecretStr("ada:s3cret@nowhere")))
    assert broken.value.code == "source_url"
    assert "s3cret" not in f"{broken.value} {broken.value.hint}"


def test_a_driver_s_tabs_are_blanks_and_its_password_is_not_told() -> None:
    failure = RuntimeError("refused with s3cret\n\tIs the server running?")
    assert words(failure, make_url("postgresql://a:s3cret@db/x")) == "refused with ***\n    Is the server running?"
