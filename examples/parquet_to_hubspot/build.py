"""Writes companies.parquet beside this file: sixty invented companies, or what is left of them the next night."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

COMPANIES = """
select
    'co-' || lpad(n::text, 3, '0') as company_id,
    ['Ash', 'Brook', 'Cedar', 'Dune', 'Elm', 'Fjord'][1 + n % 6] || ' ' || ['Mill', 'Gate', 'Works'][1 + n % 3]
        || ' ' || n as name,
    'company' || n || '.example' as domain,
    case when n % 9 = 0 then ' ' else ['Zürich', 'Łódź', 'Québec', 'Osaka'][1 + n % 4] end as city,
    (n * 12345.67)::decimal(18, 2) as revenue
from range(1, 61) as numbers(n)
"""
NEXT_NIGHT = f"""
select * replace (case company_id when 'co-007' then 'Renamed & Sons' else name end as name)
from ({COMPANIES}) where company_id not in ('co-011', 'co-042')
union all select 'co-061', 'Newcomer', 'newcomer.example', 'Pune', 1.00
"""


def build(folder: Path, *, next_night: bool = False) -> None:
    query = NEXT_NIGHT if next_night else COMPANIES
    file = (folder / "companies.parquet").as_posix().replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(f"copy ({query}) to '{file}' (format parquet)")


if __name__ == "__main__":
    build(Path(__file__).parent, next_night="--next-night" in sys.argv)
