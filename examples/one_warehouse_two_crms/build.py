"""Writes shop.duckdb beside this file: eighty customers and their orders; --next-day adds orders."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb

SHOP = """
create or replace table customers as
select
    'cu-' || n as customer_id, ['Harbor', 'Pine', 'Quartz'][1 + n % 3] || ' Trading ' || n as company,
    'buyer' || n || '@shop.example' as email, ['Ida', 'Omar', 'Petra'][1 + n % 3] as first_name,
    ['Berg', 'Ndiaye', 'Horvat', 'Şahin'][1 + n % 4] as last_name
from range(1, 81) as numbers(n);
create or replace table orders as
select 'o-' || n as order_id, 'cu-' || (1 + n * 7 % 60) as customer_id, (n * 19.99)::decimal(18, 2) as amount
from range(1, 201) as numbers(n);
"""
NEXT_DAY = "insert into orders values ('o-901', 'cu-1', 10.01), ('o-902', 'cu-70', 250.00), ('o-903', 'cu-71', 25.10)"


def build(folder: Path, *, next_day: bool = False) -> None:
    with duckdb.connect(str(folder / "shop.duckdb")) as shop:
        shop.execute(NEXT_DAY if next_day else SHOP)


if __name__ == "__main__":
    build(Path(__file__).parent, next_day="--next-day" in sys.argv)
