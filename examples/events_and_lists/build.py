"""Writes app.duckdb beside this file: thirty users, some with workspaces; --next-day adds to both."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

APP = """
create or replace table users as
select 'user' || n || '@app.example' as email, ['Ida', 'Omar', 'Petra'][1 + n % 3] as first_name
from range(1, 31) as numbers(n);
create or replace table workspaces as
select
    'ws-' || n as workspace_id, 'user' || (1 + n % 20) || '@app.example' as email,
    case when n % 4 = 0 then 'pro' else 'free' end as plan,
    timestamptz '2026-11-01 09:00:00+00' + n * interval 1 hour as created_at
from range(1, 41) as numbers(n);
"""
NEXT_DAY = """
insert into users values ('user31@app.example', 'Quentin');
insert into workspaces values
    ('ws-41', 'user25@app.example', 'free', timestamptz '2026-11-03 10:00:00+00'),
    ('ws-42', 'user25@app.example', 'pro', timestamptz '2026-11-03 11:00:00+00');
update workspaces set plan = 'pro' where workspace_id = 'ws-39';
"""


def build(folder: Path, *, next_day: bool = False) -> None:
    with duckdb.connect(str(folder / "app.duckdb")) as app:
        app.execute(NEXT_DAY if next_day else APP)


if __name__ == "__main__":
    build(Path(__file__).parent, next_day="--next-day" in sys.argv)
