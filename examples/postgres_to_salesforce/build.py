"""Makes the table `people` in the database of WAREHOUSE_URL, or changes it as a day does."""

from __future__ import annotations

import os
import sys

import psycopg

PEOPLE = """
drop table if exists people;
create table people (
    id text primary key, email text not null, first_name text, last_name text, updated_at timestamptz not null
);
insert into people
select
    'p-' || n, 'person' || n || '@example.com',
    (array['Ana', 'Björn', 'Chidi', 'Dilek'])[1 + n % 4], (array['Óseið', 'Nakamura', 'O''Neill'])[1 + n % 3],
    timestamptz '2026-03-01 08:00:00.123456+00' + n * interval '7 minutes'
from generate_series(1, 250) as n;
"""
NEXT_DAY = """
update people set last_name = 'Lindqvist', updated_at = '2026-03-04 09:00+00' where id = 'p-3';
update people set last_name = null, updated_at = '2026-03-04 09:01+00' where id = 'p-4';
insert into people values ('p-251', 'person251@example.com', 'Esi', 'Mensah', '2026-03-04 09:02+00');
"""


def build(url: str, *, next_day: bool = False) -> None:
    """`url` may carry SQLAlchemy's driver name, as in reverse_etl.yml."""
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1)) as connection:
        connection.execute(NEXT_DAY if next_day else PEOPLE)


if __name__ == "__main__":
    build(os.environ["WAREHOUSE_URL"], next_day="--next-day" in sys.argv)
