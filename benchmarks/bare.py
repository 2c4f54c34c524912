"""The barest scripts that do the same work, each a whole process: what a sync is measured against.

    python -m benchmarks.bare diff WAREHOUSE KNOWN          compare every column of every row, count what differs
    python -m benchmarks.bare push WAREHOUSE KNOWN ADDRESS  the same, and post the rows that differ
    python -m benchmarks.bare post BODIES ADDRESS           post bodies that lie ready

They remember nothing, check nothing and survive nothing; whatever a sync takes longer is the price of that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

COLUMNS = (
    "app_user_id",
    "email",
    "firstname",
    "company",
    "country",
    "plan",
    "seats",
    "mrr",
    "score",
    "active",
    "signed_up",
    "last_seen",
)
KEY = COLUMNS[0]
VALUES = COLUMNS[1:]
TOKEN = {"Authorization": "Bearer sandbox-token", "Content-Type": "application/json"}
UPSERT = "/crm/objects/2026-09/contacts/batch/upsert"


def differing(warehouse: str, known: str, select: str) -> list[tuple[object, ...]]:
    """Rows of the full join of both sides of which any column differs."""
    import duckdb

    connection = duckdb.connect(warehouse, read_only=True)
    connection.execute(f"attach '{known}' as known (read_only)")
    unequal = " or ".join(f"ours.{name} is distinct from theirs.{name}" for name in VALUES)
    return connection.execute(
        f"select {select} from users ours full join known.users theirs on ours.{KEY} = theirs.{KEY} "
        f"where ours.{KEY} is null or theirs.{KEY} is null or {unequal}"
    ).fetchall()


def diff(warehouse: str, known: str) -> None:
    print(differing(warehouse, known, "count(*)")[0][0])


def push(warehouse: str, known: str, address: str) -> None:
    import httpx
    import orjson

    rows = differing(warehouse, known, ", ".join(f"cast(ours.{name} as varchar)" for name in COLUMNS))
    with httpx.Client(base_url=address, headers=TOKEN) as client:
        for start in range(0, len(rows), 100):
            inputs = [
                {
                    "id": row[0],
                    "idProperty": KEY,
                    "objectWriteTraceId": str(position),
                    "properties": dict(zip(COLUMNS, row, strict=True)),
                }
                for position, row in enumerate(rows[start : start + 100])
            ]
            answer = orjson.loads(client.post(UPSERT, content=orjson.dumps({"inputs": inputs})).content)
            assert len(answer["results"]) == len(inputs)
    print(len(rows))


def post(bodies: str, address: str) -> None:
    import httpx
    import orjson

    sent = 0
    with httpx.Client(base_url=address, headers=TOKEN) as client:
        for line in Path(bodies).read_bytes().splitlines():
            target, body = orjson.loads(line)
            sent += len(orjson.loads(client.post(target, content=body).content)["results"])
    print(sent)


def main() -> None:
    arguments = argparse.ArgumentParser(description="the bare scripts")
    arguments.add_argument("script", choices=["diff", "push", "post"])
    arguments.add_argument("rest", nargs="+")
    given = arguments.parse_args()
    scripts: dict[str, Callable[..., None]] = {"diff": diff, "push": push, "post": post}
    scripts[given.script](*given.rest)


if __name__ == "__main__":
    main()
