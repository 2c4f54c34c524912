"""A small company's warehouse, the same on every machine: companies, users, and half a year of product events.

python -m reverse_etl.demo.warehouse warehouse.duckdb             builds it
python -m reverse_etl.demo.warehouse warehouse.duckdb --add-day   adds the next day's events
"""

from __future__ import annotations

import argparse
import random
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa

from reverse_etl.demo import names

FIRST_DAY = date(2026, 1, 5)
LAST_DAY = date(2026, 6, 30)
COMPANIES = 900
USERS = 4000
NEWCOMERS, FOUNDED, LEAVING = 34, 3, 2  # on every further day
ADA = "ada.lindqvist@copperfern.example"

SCHEMA = """
create schema app;
create table app.companies (
    company_id text primary key, name text not null, domain text not null, city text, country text,
    employees integer, plan text not null
);
create table app.users (
    user_id text primary key, email text not null, first_name text, last_name text, company_id text,
    signed_up_at timestamptz not null
);
create table app.events (
    event_id bigint primary key, name text not null, user_id text not null, workspace_id text,
    occurred_at timestamptz not null
);
"""

T = TypeVar("T")


@dataclass(frozen=True)
class Company:
    company_id: str
    name: str
    domain: str
    city: str
    country: str
    employees: int
    plan: str


@dataclass(frozen=True)
class User:
    user_id: str
    email: str
    first_name: str
    last_name: str
    company_id: str
    signed_up_at: datetime


@dataclass(frozen=True)
class Event:
    name: str
    user_id: str
    workspace_id: str | None
    occurred_at: datetime


@dataclass
class Dice:
    """Chance that falls the same on every machine and release: it only builds on `random()`."""

    seed: int
    _chance: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)  # noqa: S311  # invents people, guards no secret

    def share(self) -> float:
        return self._chance.random()

    def below(self, end: int) -> int:
        return int(self._chance.random() * end)

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def moment(self, day: date) -> datetime:
        """A time of that day, mostly in working hours, never in its last half hour."""
        hour = 8 + 10 * (self.share() + self.share()) / 2 if self.share() < 0.85 else 23.5 * self.share()
        return datetime.combine(day, time(), UTC) + timedelta(seconds=int(hour * 3600))


def build(file: Path) -> None:
    """Writes a new warehouse; its last event lies on LAST_DAY. Refuses to touch a file that is there."""
    if file.exists():
        raise FileExistsError(f"{file} is there already; remove it first")
    dice = Dice(2026)
    companies = [_company(dice, number) for number in range(COMPANIES)]
    users = _users(dice, companies)
    events = [event for user in users for event in _events(dice, user, LAST_DAY)]
    with duckdb.connect(str(file)) as warehouse:
        warehouse.execute(SCHEMA)
        _insert(warehouse, companies, users, events)


def add_day(file: Path) -> date:
    """Adds the day after the last one: sign-ups, workspaces, a few companies that change plan or leave."""
    with duckdb.connect(str(file)) as warehouse:
        day = _last_day(warehouse) + timedelta(days=1)
        dice = Dice(day.toordinal())
        known = _churn(warehouse, dice)
        founded = [_company(dice, int(known[-1].company_id[2:]) + more) for more in range(FOUNDED)]
        number = _count(warehouse, "app.users")
        newcomers = [_newcomer(dice, number + more, dice.pick(known), day) for more in range(NEWCOMERS - FOUNDED)]
        newcomers += [
            _newcomer(dice, number + NEWCOMERS - 1 - more, company, day) for more, company in enumerate(founded)
        ]
        created = [_workspace(user_id, dice.moment(day), dice) for user_id in _active(warehouse, dice)]
        events = [event for user in newcomers for event in _events(dice, user, day)]
        _insert(warehouse, founded, newcomers, [*events, *created, *_ada_creates(warehouse, day)])
    return day


def figures(file: Path) -> dict[str, object]:
    """How much there is, and the day of the last event."""
    with duckdb.connect(str(file), read_only=True) as warehouse:
        counts: dict[str, object] = {
            name: _count(warehouse, f"app.{name}") for name in ("users", "companies", "events")
        }
        return {**counts, "last_day": _last_day(warehouse)}


def day_in_words(file: Path, day: date) -> str:
    """What people did on a day."""
    with duckdb.connect(str(file), read_only=True) as warehouse:
        rows = warehouse.execute("select name, epoch(occurred_at) from app.events").fetchall()
    that_day = [name for name, seconds in rows if datetime.fromtimestamp(seconds, UTC).date() == day]
    signed_up, created = that_day.count("user_signed_up"), that_day.count("workspace_created")
    return (
        f"{signed_up} people signed up, {created} workspaces were created, {FOUNDED} companies came and {LEAVING} left"
    )


def _company(dice: Dice, number: int) -> Company:
    if number == 0:
        colour, thing, trade = "Copper", "Fern", ""
    else:  # the two lists have no common divisor, so that no pair comes twice in thousands
        colour, thing = names.COLOURS[number % len(names.COLOURS)], names.THINGS[number % len(names.THINGS)]
        trade = dice.pick(names.TRADES)
    name = f"{colour} {thing}{trade}"
    city, country = dice.pick(names.PLACES)
    size = int(3 * 1.9 ** (10 * dice.share() ** 1.5))
    plan = dice.pick(["free", "free", "free", "pro", "pro", "team", "enterprise" if size > 200 else "team"])
    return Company(f"c_{number + 1:04}", name, f"{_plain(colour + thing)}.example", city, country, size, plan)


def _users(dice: Dice, companies: Sequence[Company]) -> list[User]:
    days = (LAST_DAY - FIRST_DAY).days
    taken: set[str] = set()
    signed_up = sorted(
        dice.moment(FIRST_DAY + timedelta(days=int(days * dice.share() ** 0.6))) for _ in range(USERS - 1)
    )
    users = []
    for number, moment in enumerate(signed_up):
        # Every company has someone; after that, the earlier ones grow faster.
        company = companies[number if number < len(companies) else int(len(companies) * dice.share() ** 1.8)]
        users.append(_user(dice, number, company, moment, taken))
    ada = datetime.combine(LAST_DAY - timedelta(days=1), time(14, 32, 10), UTC)
    return [*users, User(f"u_{USERS:05}", ADA, "Ada", "Lindqvist", companies[0].company_id, ada)]


def _user(dice: Dice, number: int, company: Company, moment: datetime, taken: set[str]) -> User:
    first, last = dice.pick(names.FIRST), dice.pick(names.LAST)
    address = f"{_plain(first)}.{_plain(last)}"
    email = f"{address}@{company.domain}"
    if email in taken or email == ADA:
        email = f"{address}{number + 1}@{company.domain}"
    taken.add(email)
    return User(f"u_{number + 1:05}", email, first, last, company.company_id, moment)


def _events(dice: Dice, user: User, until: date) -> list[Event]:
    """The sign-up, and for half of the people workspaces: the first soon, further ones over the weeks."""
    events = [Event("user_signed_up", user.user_id, None, user.signed_up_at)]
    if user.email == ADA or dice.share() < 0.42:
        return events
    moment = user.signed_up_at + timedelta(minutes=3 + 600 * dice.share() ** 4)
    end = datetime.combine(until, time(23, 30), UTC)
    while moment < end:
        events.append(_workspace(user.user_id, moment, dice))
        if dice.share() < 0.45:
            break
        moment += timedelta(days=1 + 40 * dice.share(), minutes=600 * dice.share())
    return events


def _workspace(user_id: str, moment: datetime, dice: Dice) -> Event:
    return Event("workspace_created", user_id, f"w_{dice.below(16**10):010x}", moment.replace(microsecond=0))


def _churn(warehouse: duckdb.DuckDBPyConnection, dice: Dice) -> list[Company]:
    """Some companies leave, some change plan; returns those that stay."""
    rows = warehouse.execute("select * from app.companies order by company_id").fetchall()
    known = [Company(*row) for row in rows]
    for _ in range(LEAVING):
        gone = known.pop(1 + dice.below(len(known) - 2))
        warehouse.execute("delete from app.companies where company_id = ?", [gone.company_id])
    upgrades = {"free": "pro", "pro": "team", "team": "enterprise", "enterprise": "team"}
    for _ in range(4):
        company = dice.pick(known)
        change = [upgrades[company.plan], company.employees + 10, company.company_id]
        warehouse.execute("update app.companies set plan = ?, employees = ? where company_id = ?", change)
    return known


def _newcomer(dice: Dice, number: int, company: Company, day: date) -> User:
    user = _user(dice, number, company, dice.moment(day), set())
    address, _, domain = user.email.partition("@")  # a number keeps the address apart from everyone's before
    return replace(user, email=f"{address}{number + 1}@{domain}")


def _active(warehouse: duckdb.DuckDBPyConnection, dice: Dice) -> list[str]:
    """People who make a workspace that day: some their first, most another one."""
    users = [row[0] for row in warehouse.execute("select user_id from app.users order by signed_up_at, 1").fetchall()]
    return sorted({users[int(len(users) * dice.share() ** 0.5)] for _ in range(46)})


def _ada_creates(warehouse: duckdb.DuckDBPyConnection, day: date) -> list[Event]:
    if day != LAST_DAY + timedelta(days=1):
        return []
    found = warehouse.execute("select user_id from app.users where email = ?", [ADA]).fetchall()
    return [Event("workspace_created", found[0][0], "w_ada0000001", datetime.combine(day, time(9, 12, 3), UTC))]


def _insert(
    warehouse: duckdb.DuckDBPyConnection, companies: Sequence[Company], users: Sequence[User], events: Sequence[Event]
) -> None:
    first = _count(warehouse, "app.events") + 1
    ordered = sorted(events, key=lambda event: (event.occurred_at, event.user_id))
    for table, rows in {"app.companies": companies, "app.users": users}.items():
        if rows:
            _append(warehouse, table, [vars(row) for row in rows])
    _append(
        warehouse, "app.events", [{"event_id": number, **vars(event)} for number, event in enumerate(ordered, first)]
    )


def _append(warehouse: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, object]]) -> None:
    warehouse.register("arriving", pa.Table.from_pylist(list(rows)))
    warehouse.execute(f"insert into {table} by name select * from arriving")
    warehouse.unregister("arriving")


def _last_day(warehouse: duckdb.DuckDBPyConnection) -> date:
    seconds = warehouse.execute("select epoch(max(occurred_at)) from app.events").fetchall()[0][0]
    return datetime.fromtimestamp(seconds, UTC).date()


def _count(warehouse: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(warehouse.execute(f"select count(*) from {table}").fetchall()[0][0])


def _plain(name: str) -> str:
    """A name as it stands in an address: lower-case letters without marks."""
    folded = unicodedata.normalize("NFKD", name.replace("ø", "o").replace("Ø", "O"))
    return "".join(char for char in folded.lower() if "a" <= char <= "z")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the sample warehouse of the repository's own project.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--add-day", action="store_true", help="add the next day's events to a file that is there")
    chosen = parser.parse_args()
    try:
        if chosen.add_day:
            said = f"added the events of {add_day(chosen.file)} to {chosen.file}"
        else:
            build(chosen.file)
            said = f"built {chosen.file}"
    except (FileExistsError, duckdb.Error) as failure:
        sys.exit(f"error: {failure}")
    sys.stdout.write(said + "\n")


if __name__ == "__main__":
    main()
