"""How long a day's calls will last."""

from __future__ import annotations

from datetime import datetime, timedelta

from reverse_etl.errors import DailyLimit
from reverse_etl.quota import Quota
from reverse_etl.testing import FakeClock

NOON = datetime.fromisoformat("2026-06-01T12:00:00+00:00")


def midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


class Account:
    """An account of 1,000 calls a day, which tells after a while how many are left."""

    def __init__(self, reserve: float = 0.0) -> None:
        self.clock = FakeClock(NOON)
        self.quota = Quota(
            account="the crm",
            clock=self.clock,
            began=midnight,
            used_up=lambda left, allowed: DailyLimit("used up"),
            reserve=reserve,
        )

    def tells(self, left: int, after: timedelta = timedelta()) -> None:
        self.clock.advance(after)
        self.quota.learn(1000, left)

    def ends(self) -> datetime | None:
        found = self.quota.forecast()
        return None if found is None else found.ends_at


def test_a_quarter_of_an_hour_is_needed_to_say_how_long_calls_will_last() -> None:
    account = Account()
    assert account.ends() is None
    account.tells(1000)
    account.tells(900, after=timedelta(minutes=14))
    assert account.ends() is None
    account.tells(800, after=timedelta(minutes=6))
    assert account.ends() == NOON + timedelta(minutes=20) + timedelta(minutes=80)


def test_the_reserve_is_not_ours_to_use() -> None:
    account = Account(reserve=0.5)
    account.tells(1000)
    account.tells(800, after=timedelta(minutes=20))
    assert account.ends() == NOON + timedelta(minutes=20) + timedelta(minutes=30)


def test_only_the_last_hour_counts() -> None:
    account = Account()
    account.tells(1000)
    account.tells(400, after=timedelta(minutes=20))
    for _ in range(7):
        account.tells(400, after=timedelta(minutes=10))
    assert account.ends() is None, "nothing has been used for an hour"
    account.tells(395, after=timedelta(minutes=10))
    found = account.quota.forecast()
    assert found is not None
    assert (found.too_soon, found.left, found.allowed, found.account) == (False, 395, 1000, "the crm")


def test_calls_that_end_before_midnight_end_too_soon() -> None:
    account = Account()
    account.tells(1000)
    account.tells(900, after=timedelta(minutes=60))
    found = account.quota.forecast()
    assert found is not None
    assert found.too_soon
    assert found.resets_at == midnight(NOON) + timedelta(days=1)


def test_another_day_begins_with_its_own_course() -> None:
    account = Account()
    account.tells(500)
    account.tells(100, after=timedelta(minutes=60))
    account.clock.advance(timedelta(hours=12))
    assert account.ends() is None
    account.tells(1000)
    account.tells(999, after=timedelta(minutes=5))
    assert account.ends() is None
