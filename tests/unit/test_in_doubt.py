"""Writes that mustn't be sent twice: written down before they go out, and left to `in_doubt` when nobody answered."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.errors import InDoubt, Unavailable
from reverse_etl.model import Batch
from reverse_etl.standing import HELD
from reverse_etl.testing import MemoryAccount, MemoryDestination
from reverse_etl.verdicts import Outcomes
from tests.house import FIELDS, House, sync

ONE, TWO = (1, "a@x.io", "free"), (2, "b@x.io", "pro")


def house(root: Path, **changes: Any) -> House:
    """Each row is a message, which people would read twice if it came twice."""
    account = MemoryAccount(*FIELDS, repeatable=False)
    at = House(root, sync(**{"mode": "append", "match": "", **changes}), crm=account)
    at.people(ONE, TWO)
    return at


def sent(at: House) -> list[str]:
    return [key for _, key, _ in at.crm.sent()]


def test_a_message_that_nobody_answered_for_waits_until_a_person_decides(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.fail(InDoubt("cut off"), call=1, applied=True)
    report = at.run()
    assert (report.status, report.in_doubt) == ("failed", 2)
    for _ in range(3):
        at.clock.advance(timedelta(days=2))
        assert (at.go().exit_code, len(sent(at))) == (3, 2)
    assert at.codes() == {"1": HELD, "2": HELD}
    assert at.explain("1").state == "in_doubt"
    assert "`rejected --retry` sends it again" in at.explain("1").reason


def test_what_is_held_is_sent_when_a_person_says_so(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.fail(InDoubt("cut off"), call=1)
    at.run()
    report = at.go(refused_only=True)
    assert (report.delivered.created, report.in_doubt) == (2, 0)
    assert not at.refused()
    at.idle()


def test_with_resend_the_next_run_sends_it_again(tmp_path: Path) -> None:
    at = house(tmp_path, in_doubt="resend")
    at.crm.fail(InDoubt("cut off"), call=1, applied=True)
    at.run()
    assert set(at.codes().values()) == {"in_doubt"}
    assert at.go().delivered.created == 2
    assert sent(at) == ["1", "2", "1", "2"]
    assert not at.refused()


def test_a_definition_that_comes_to_say_resend_lets_go_of_what_was_held(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.fail(InDoubt("cut off"), call=1)
    at.run()
    at.change(in_doubt="resend")
    assert at.go().delivered.created == 2


def test_a_row_that_the_answer_leaves_out_is_not_offered_once_more(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.leave_out("2")
    report = at.go()
    assert (report.delivered.created, report.in_doubt, sent(at)) == (1, 1, ["1", "2"])
    assert at.codes() == {"2": HELD}


def test_what_was_surely_not_sent_is_not_in_doubt(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.fail(Unavailable("down"), call=1)
    report = at.run()
    assert (report.status, report.in_doubt) == ("failed", 0)
    assert not at.refused()
    assert at.go().delivered.created == 2


def test_a_refused_message_keeps_its_place_when_the_next_try_was_surely_not_sent(tmp_path: Path) -> None:
    at = house(tmp_path)
    at.crm.refuse(lambda record: record["plan"] == "pro", code="SOLD_OUT")
    at.go()
    at.crm.obey()
    at.crm.fail(Unavailable("down"), call=1)
    at.run()
    assert at.codes() == {"2": "SOLD_OUT"}


def test_a_changed_row_is_held_too(tmp_path: Path) -> None:
    at = house(tmp_path, mode="upsert", match="email")
    at.crm.fail(InDoubt("cut off"), call=1)
    at.run()
    at.people((1, "a@x.io", "gold"), TWO)
    at.go()
    assert sent(at) == ["1", "2"]


def test_P03_it_is_on_record_before_it_goes_out(tmp_path: Path) -> None:
    at, seen = house(tmp_path), list[dict[str | None, str]]()

    class Watched(MemoryDestination):
        async def write(self, batch: Batch) -> Outcomes:
            seen.append(at.codes())
            return await super().write(batch)

    at.go(destination=lambda: Watched(account=at.crm))
    assert seen == [{"1": HELD, "2": HELD}]
    assert not at.refused()


KILLED = """
import os, sys
from pathlib import Path
from reverse_etl.testing import MemoryDestination
from tests.unit.test_in_doubt import house

class Killed(MemoryDestination):
    async def write(self, batch):
        await super().write(batch)
        os._exit(9)

at = house(Path(sys.argv[1]), in_doubt=sys.argv[2])
at.run(destination=lambda: Killed(account=at.crm))
"""


@pytest.mark.parametrize(("in_doubt", "sends"), [("hold", []), ("resend", ["1", "2"])])
def test_P03_killed_between_sending_and_recording_it_is_known_what_may_have_been_sent(
    tmp_path: Path, in_doubt: str, sends: list[str]
) -> None:
    script = [sys.executable, "-c", KILLED, str(tmp_path), in_doubt]
    assert subprocess.run(script, check=False, timeout=60).returncode == 9
    at = house(tmp_path, in_doubt=in_doubt)
    at.runs = 1
    at.go()
    assert sent(at) == sends
    with closing(at.ledger()) as ledger:
        assert len(ledger.refused()) == 2 - len(sends)
