"""What became of a row, as a person is told."""

from __future__ import annotations

from datetime import UTC, datetime

from reverse_etl.cli import stories
from reverse_etl.cli.render import Commands
from tests.unit.cli.text_of import lines

LATER = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def test_explain_lays_what_was_acknowledged_beside_what_would_be_sent() -> None:
    found = {
        "sync": "people",
        "key": "ada",
        "row": {"email": "ada@x.example", "n": 2},
        "payload": {"email": "ada@x.example", "total": 2},
        "acknowledged": {
            "values": {"email": "ada@x.example", "total": 1},
            "at": "2026-07-01T09:00:00Z",
            "record_id": "77",
            "run_id": "r1",
        },
        "state": "in_doubt",
        "reason": "the answer was lost",
    }
    assert lines(stories.explanation(found, LATER, Commands())) == [
        "ada in people  in doubt: the answer was lost",
        "the row in the warehouse now",
        "email | ada@x.example",
        "n | 2",
        "field by field",
        "field | last acknowledged | would be sent | ",
        "email | ada@x.example | ada@x.example | ",
        "total | 1 | 2 | differs",
        "acknowledged 2026-07-01 09:00:00Z (3 hours ago) as record 77, by run r1",
    ]


def test_explain_says_of_a_field_that_is_kept_as_a_digest_that_its_value_is_not_kept() -> None:
    found = {
        "sync": "people",
        "key": "ada",
        "row": None,
        "payload": {"email": "ada@x.example", "link": "b"},
        "acknowledged": {
            "values": {"email": None, "link": "a"},
            "hashed": ["email"],
            "at": "2026-07-01T09:00:00Z",
            "record_id": "77",
            "run_id": "r1",
        },
        "state": "pending",
        "reason": "",
    }
    assert lines(stories.explanation(found, LATER, Commands()))[3:6] == [
        "field | last acknowledged | would be sent | ",
        "email | not kept | ada@x.example | ",
        "link | a | b | differs",
    ]


def test_explain_of_a_key_that_nobody_knows() -> None:
    found = {
        "sync": "people",
        "key": "eve",
        "row": None,
        "payload": None,
        "acknowledged": None,
        "state": "absent",
        "reason": "",
    }
    assert lines(stories.explanation(found, LATER, Commands())) == [
        "eve in people  absent",
        "to look in every sync, for values too:  reverse-etl explain --all eve",
    ]
