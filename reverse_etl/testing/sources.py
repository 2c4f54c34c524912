# ruff: noqa: S101  # a suite is made of assertions
"""What every source must do, as a suite: subclass it, say how to make your source, run pytest.

class TestMySource(SourceSuite):
    def make_source(self):
        return MySource(MyConfig(name="warehouse", url=SecretStr("mydb://...")))
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from reverse_etl.errors import SourceError
from reverse_etl.model import Query
from reverse_etl.protocols import Source

AWKWARD_TEXT = 'O\'Brien "x" \\ 50% :cursor ;-- é e\u0301 \U0001f469\u200d\U0001f680 \u202e\n\t$1 ? %(a)s'


@contextmanager
def refused(code: str, *words: str) -> Iterator[None]:
    """Expect a SourceError with this code, whose message has these words and whose hint says what to do."""
    try:
        yield
    except SourceError as failure:
        assert failure.code == code, f"expected {code}, got {failure.code}: {failure}"
        assert failure.hint or code == "source_cancelled", f"no hint: {failure}"
        for word in words:
            assert word in str(failure), f"{word!r} is not in: {failure}"
    else:
        raise AssertionError(f"nothing was refused; expected {code}")


class SourceSuite:
    """What every source must do. Override the SQL below where your warehouse has another dialect."""

    def rows(self, count: int) -> str:
        """SQL for rows with one whole number `n`, from 1 to `count`, in any order."""
        return f"WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < {count}) SELECT n FROM r"

    def endless(self) -> str:
        """SQL that runs until it is stopped."""
        return "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT (n + 1) % 100000000 FROM r) SELECT count(*) AS n FROM r"

    @abstractmethod
    def make_source(self) -> Source:
        """A new source on a warehouse that is there."""

    def read(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """All rows of a query, in the order they come."""
        source = self.make_source()
        with source.read(Query(sql, parameters)) as batches:
            rows = [row for batch in batches for row in batch.to_pylist()]
        source.close()
        return rows

    # --- whole, or an error ---------------------------------------------------------------------------------------

    def test_a_result_arrives_whole(self) -> None:
        arrived = sorted(row["n"] for row in self.read(self.rows(25_001)))
        assert arrived == list(range(1, 25_002))

    def test_an_empty_result_has_no_rows(self) -> None:
        assert self.read(f"SELECT n FROM ({self.rows(3)}) q WHERE n > 3") == []

    def test_what_is_described_is_what_arrives(self) -> None:
        query = Query(f"SELECT n, n * 2 AS twice, 'x' AS word FROM ({self.rows(5)}) q")
        source = self.make_source()
        schema = source.describe(query)
        assert schema.names == ["n", "twice", "word"]
        with source.read(query) as batches:
            assert [batch.schema for batch in batches] == [schema]

    def test_a_read_that_is_left_half_way_lets_go(self) -> None:
        source = self.make_source()
        for _ in range(3):
            with source.read(Query(self.rows(200_000))) as batches:
                assert next(batches).num_rows > 0
        assert len(self.read(self.rows(7))) == 7

    def test_two_reads_at_once_do_not_disturb_each_other(self) -> None:
        source = self.make_source()
        with source.read(Query(self.rows(30_000))) as one, source.read(Query(self.rows(20_000))) as other:
            first = next(one).num_rows
            assert sum(batch.num_rows for batch in other) == 20_000
            assert first + sum(batch.num_rows for batch in one) == 30_000

    def test_closing_it_from_elsewhere_ends_a_read_with_an_error(self) -> None:
        source = self.make_source()
        stopper = threading.Timer(0.3, source.close)
        stopper.start()
        with refused("source_cancelled"), source.read(Query(self.endless())) as batches:
            list(batches)
        stopper.join()

    # --- values ---------------------------------------------------------------------------------------------------

    def test_null_and_empty_text_differ(self) -> None:
        assert self.read("SELECT NULL AS a, '' AS b") == [{"a": None, "b": ""}]

    def test_text_arrives_code_point_for_code_point(self) -> None:
        assert self.read("SELECT :cursor AS word", cursor=AWKWARD_TEXT) == [{"word": AWKWARD_TEXT}]

    def test_whole_numbers_keep_every_digit(self) -> None:
        largest = 2**63 - 1
        assert self.read("SELECT :cursor AS a, :last_run_at AS b", cursor=largest, last_run_at=-largest) == [
            {"a": largest, "b": -largest}
        ]

    # --- the statement --------------------------------------------------------------------------------------------

    def test_only_the_parameters_it_names_are_bound(self) -> None:
        sql = f"SELECT n FROM ({self.rows(5)}) q WHERE n >= :cursor ORDER BY n"
        assert self.make_source().names(sql) == {"cursor"}
        assert self.read(sql, cursor=4, last_run_at=datetime.now(UTC)) == [{"n": 4}, {"n": 5}]

    def test_a_parameter_inside_of_text_or_a_comment_is_none(self) -> None:
        sql = "SELECT ':cursor' AS a, '12:30' AS b /* :cursor */ -- :cursor"
        assert self.make_source().names(sql) == frozenset()
        assert self.read(sql, cursor=1) == [{"a": ":cursor", "b": "12:30"}]

    def test_closing_semicolons_and_comments_are_taken(self) -> None:
        assert self.read("-- first; a comment\nSELECT 1 AS n -- one;\n; /* two; */ ;; -- three") == [{"n": 1}]

    def test_a_quoted_identifier_keeps_its_spelling(self) -> None:
        quoted = self.make_source().quote('Two "Words"')
        assert self.read(f"SELECT 1 AS {quoted}") == [{'Two "Words"': 1}]

    def test_an_unknown_column_is_named_in_the_warehouses_own_words(self) -> None:
        query = Query(f"SELECT no_such_column FROM ({self.rows(1)}) q")
        with refused("source_query", "no_such_column"):
            self.make_source().describe(query)
        with refused("source_query", "no_such_column"), self.make_source().read(query) as batches:
            list(batches)

    def test_a_repeated_column_name_is_refused(self) -> None:
        query = Query("SELECT 1 AS a, 2 AS b, 3 AS a")
        with refused("source_columns", "'a'"):
            self.make_source().describe(query)
        with refused("source_columns", "'a'"), self.make_source().read(query) as batches:
            list(batches)

    def test_what_is_not_one_select_is_refused(self) -> None:
        statements = ["", "-- nothing", "DROP TABLE t", "SELECT 1 AS a; DROP TABLE t", "SELECT 1 AS a; SELECT 2 AS a"]
        for statement in statements:
            with refused("source_query"):
                self.make_source().describe(Query(statement))
            with refused("source_query"), self.make_source().read(Query(statement)) as batches:
                list(batches)

    # --- the rest -------------------------------------------------------------------------------------------------

    def test_its_clock_says_its_offset(self) -> None:
        now = self.make_source().clock()
        assert now.tzinfo is not None
        assert abs(now - datetime.now(UTC)) < timedelta(minutes=5)

    def test_closing_twice_is_harmless(self) -> None:
        source = self.make_source()
        source.close()
        source.close()
