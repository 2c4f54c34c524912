from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.errors import SourceError
from reverse_etl.sources.statement import Statement


def bound(sql: str, *, backslashes: bool = False) -> str:
    return Statement(sql, backslashes).body(lambda name: f"<{name}>")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select :cursor", "select <cursor>"),
        ("a>=:cursor and b<:last_run_at", "a>=<cursor> and b<<last_run_at>"),
        ("select (:cursor)::timestamp, x::date", "select (<cursor>)::timestamp, x::date"),
        ("select :cursor::timestamp", "select <cursor>::timestamp"),
        ("select ':cursor', \":cursor\", `:cursor`", "select ':cursor', \":cursor\", `:cursor`"),
        ("select 'it''s :cursor', :cursor", "select 'it''s :cursor', <cursor>"),
        ("select E'it\\'s :cursor', :cursor", "select E'it\\'s :cursor', <cursor>"),
        ("select '\\', :cursor", "select '\\', <cursor>"),
        ("select $$ :cursor $$, $x$ $$ :cursor $x$, :cursor", "select $$ :cursor $$, $x$ $$ :cursor $x$, <cursor>"),
        ("select 1 -- :cursor\n, :cursor", "select 1 -- :cursor\n, <cursor>"),
        ("select /* /* :cursor */ :cursor */ :cursor", "select /* /* :cursor */ :cursor */ <cursor>"),
        ("select xs[1:n], {'a':n}, time '12:30:00'", "select xs[1:n], {'a':n}, time '12:30:00'"),
        ("select $1, $2", "select $1, $2"),
        ("select '{\"a\":1}'::json ->> 'a'", "select '{\"a\":1}'::json ->> 'a'"),
    ],
)
def test_a_parameter_is_found_only_where_the_warehouse_would_find_one(sql: str, expected: str) -> None:
    assert bound(sql) == expected


def test_a_backslash_escapes_only_where_the_warehouse_says_so() -> None:
    sql = "select 'it\\'s :cursor', :cursor"
    assert bound(sql, backslashes=True) == "select 'it\\'s :cursor', <cursor>"
    assert bound("select 'C:\\', :cursor") == "select 'C:\\', <cursor>"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1;", "select 1"),
        ("select 1 ; ; -- end;", "select 1   -- end;"),
        ("select ';' -- a; b\n;", "select ';' -- a; b\n"),
        ("select * from (\nselect 1; -- x\n) as q where n = 1;", "select * from (\nselect 1 -- x\n) as q where n = 1"),
    ],
)
def test_closing_semicolons_go_and_all_else_stays(sql: str, expected: str) -> None:
    assert bound(sql) == expected


@pytest.mark.parametrize("sql", ["select 1; select 2", "select 1;;drop table t", "select 1; -- x\n drop table t"])
def test_a_second_statement_is_refused(sql: str) -> None:
    with pytest.raises(SourceError, match="more than one statement"):
        bound(sql)


@pytest.mark.parametrize(
    "sql", ["select 1", "(select 1)", "WITH a as (select 1) select * from a", "-- x\nFrom t", "values (1)"]
)
def test_a_reading_statement_is_taken(sql: str) -> None:
    Statement(sql).refuse_writing()


@pytest.mark.parametrize(
    "sql", ["", " -- x", "update t set a = 1", "/* select */ delete from t", "attach 'x'", "pragma x"]
)
def test_any_other_statement_is_refused(sql: str) -> None:
    with pytest.raises(SourceError) as refused:
        Statement(sql).refuse_writing()
    assert refused.value.code == "source_query"
    assert refused.value.hint


@given(st.text(alphabet="ab:'\"`;-/*$\\\n {}[]E1", max_size=40), st.booleans())
def test_no_character_is_lost_or_doubled(sql: str, backslashes: bool) -> None:
    assert "".join(piece.text for piece in Statement(sql, backslashes).pieces) == sql
