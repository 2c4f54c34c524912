"""Many rows by Bulk API 2.0, beside the barest script that does the same: DuckDB to CSV, two uploads, results.

    python -m benchmarks.bulk bare WAREHOUSE ADDRESS    that script
    python -m benchmarks.bulk jobs WAREHOUSE ADDRESS    the product's jobs: every row goes up, and gets its verdict
    python -m benchmarks.bulk serve                     the org that both write to; prints its address

A whole sync does more: it reads what it may not lose to a disk of its own, compares it with what is known, and stores
every acknowledged value. It is measured beside them.

The org answers a login, describe, limits and ingest jobs in their documented shapes, takes every row and knows no
faults (https://developer.salesforce.com/docs/atlas.en-us.api_asynch.meta/api_asynch/, read November 2026). It shares
no code with the product and none with its sandbox.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks import bench
from benchmarks.bare import COLUMNS as TABLE_COLUMNS
from benchmarks.bench import Measure

VERSION = "/services/data/v62.0"
NOW = "2026-11-24T09:00:00.000+0000"
FIELDS = {
    "Id": ("id", 18),
    "App_User_Id__c": ("string", 40),
    "Email": ("email", 80),
    "FirstName": ("string", 40),
    "Company__c": ("string", 80),
    "Country__c": ("string", 40),
    "Plan__c": ("string", 40),
    "Seats__c": ("double", 0),
    "Mrr__c": ("double", 0),
    "Score__c": ("double", 0),
    "Active__c": ("boolean", 0),
    "Signed_Up__c": ("date", 0),
    "Last_Seen__c": ("datetime", 0),
}
COLUMNS = dict(zip([*FIELDS][1:], TABLE_COLUMNS, strict=True))
KEY = "App_User_Id__c"

PROJECT = """\
sources:
  warehouse: {{url: "duckdb:///warehouse.duckdb"}}
destinations:
  crm:
    type: salesforce
    login_url: {address}
    auth: {{flow: client_credentials, client_id: app, client_secret: secret}}
"""
SYNC = """\
source: warehouse
query: select * from users
key: app_user_id
destination: crm
object: Contact
match: App_User_Id__c
mapping:
{mapping}
"""


def bulk(folder: Path, rows: int, runs: int) -> None:
    """The product's jobs and a whole sync, processes of their own, beside the bare script."""
    with org() as address:
        project = folder / "project"
        (project / "syncs").mkdir(parents=True)
        bench.write_table(project / "warehouse.duckdb", rows)
        (project / "reverse_etl.yml").write_text(PROJECT.format(address=address))
        mapping = "\n".join(f"  {field}: {column}" for field, column in COLUMNS.items())
        (project / "syncs" / "users.yml").write_text(SYNC.format(mapping=mapping))
        script = [sys.executable, "-m", "benchmarks.bulk"]
        data = [str(project / "warehouse.duckdb"), address]
        found = bench.interleaved(
            runs,
            {
                "jobs": partial(bench.timed, [*script, "jobs", *data]),
                "bare": partial(bench.timed, [*script, "bare", *data]),
                "sync": partial(first_load, project, rows),
            },
        )
    seconds = found["bare"].seconds
    for name, what in (("jobs", "by bulk jobs"), ("sync", "by a whole sync")):
        limit = "at most 1.5, 500 MB" if name == "jobs" else "500 MB"
        print(
            f"{f'{rows:,} rows {what}':<32} {found[name].seconds:6.2f} s  {found[name].megabytes:5.0f} MB   "
            f"bare {seconds:5.2f} s   ratio {found[name].seconds / seconds:5.2f}  ({limit})",
            flush=True,
        )


def first_load(project: Path, rows: int) -> Measure:
    shutil.rmtree(project / ".reverse_etl", ignore_errors=True)
    return bench.sync(project, added=rows, delivered_created=rows)


@contextmanager
def org() -> Iterator[str]:
    """The org in a process of its own; gives its address."""
    command = [sys.executable, "-m", "benchmarks.bulk", "serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=bench.ROOT)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


# --- the script -------------------------------------------------------------------------------------------------------


def bare(warehouse: str, address: str) -> None:
    import duckdb
    import httpx

    connection = duckdb.connect(warehouse, read_only=True)
    columns = ", ".join(f"{column} as {field}" for field, column in COLUMNS.items())
    total = connection.execute("select count(*) from users").fetchall()[0][0]
    half = total // 2 + 1
    saved = 0
    with tempfile.TemporaryDirectory() as folder, httpx.Client(base_url=address, timeout=60) as client:
        token = client.post("/services/oauth2/token", data={"grant_type": "client_credentials"}).json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
        ids = []
        for part in range(2):
            file = Path(folder) / f"{part}.csv"
            connection.execute(f"copy (select {columns} from users limit {half} offset {part * half}) to '{file}'")
            asked = {"object": "Contact", "operation": "upsert", "externalIdFieldName": KEY}
            ids.append(client.post(f"{VERSION}/jobs/ingest", json=asked).json()["id"])
            with file.open("rb") as body:
                client.put(
                    f"{VERSION}/jobs/ingest/{ids[-1]}/batches", content=body, headers={"content-type": "text/csv"}
                )
            client.patch(f"{VERSION}/jobs/ingest/{ids[-1]}", json={"state": "UploadComplete"})
        for job in ids:
            while client.get(f"{VERSION}/jobs/ingest/{job}").json()["state"] != "JobComplete":
                pass
            for which in ("successfulResults", "failedResults", "unprocessedrecords"):
                file = Path(folder) / f"{which}.csv"
                with client.stream("GET", f"{VERSION}/jobs/ingest/{job}/{which}") as answer, file.open("wb") as into:
                    for piece in answer.iter_bytes():
                        into.write(piece)
                found = connection.execute(f"select count(*) from read_csv('{file}', all_varchar = true)").fetchall()
                saved += found[0][0] if which == "successfulResults" else 0
    assert saved == total, saved
    print(saved)


# --- the product's jobs -----------------------------------------------------------------------------------------------


def jobs(warehouse: str, address: str) -> None:
    import anyio

    anyio.run(_write_all, warehouse, address)


async def _write_all(warehouse: str, address: str) -> None:
    import duckdb
    import pyarrow as pa

    from reverse_etl import localdb
    from reverse_etl.destinations.salesforce import Salesforce
    from reverse_etl.destinations.salesforce.config import SalesforceConfig
    from reverse_etl.model import Batch, Operation
    from reverse_etl.protocols import Opening
    from reverse_etl.verdicts import Verdict

    auth = {"flow": "client_credentials", "client_id": "app", "client_secret": "secret"}
    config = SalesforceConfig.model_validate({"type": "salesforce", "login_url": address, "auth": auth})
    salesforce = Salesforce(config, Opening("crm", _Forgetful()))
    schema = await salesforce.describe("Contact")
    connection = duckdb.connect(warehouse, read_only=True)
    total = connection.execute("select count(*) from users").fetchall()[0][0]
    limits = salesforce.limits("Contact", Operation.UPSERT, total)
    columns = ", ".join(f"{column} as {field}" for field, column in COLUMNS.items())
    saved = 0
    for rows in localdb.stream(connection, f"select {columns} from users", limits.batch_size):
        batch = Batch(
            object="Contact",
            operation=Operation.UPSERT,
            match=KEY,
            fields=tuple(schema.fields[name] for name in COLUMNS),
            rows=rows,
            keys=rows.column(KEY),
            record_ids=pa.nulls(len(rows), pa.string()),
            sync="users",
            path=limits.path,
        )
        outcomes = await salesforce.write(batch)
        saved += outcomes.count(Verdict.CREATED)
        await salesforce.recorded(batch)
    await salesforce.aclose()
    assert saved == total, saved
    print(saved)


class _Forgetful(dict[str, str]):
    def put(self, name: str, value: str | None) -> None:
        self[name] = value or ""


# --- the org ----------------------------------------------------------------------------------------------------------


class Org:
    """Jobs by their ids: the body that went up, and how many rows it had."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.made = 0

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        if path.startswith("/services/oauth2/token"):
            return _json(_SESSION)
        if path.endswith("/describe"):
            return _json(_described())
        if path.endswith("/limits"):
            return _json({"DailyBulkApiBatches": {"Max": 15000, "Remaining": 15000}})
        match re.fullmatch(VERSION + r"/jobs/ingest(?:/(\w+))?(?:/(\w+))?", path):
            case re.Match() as found:
                return self._job(method, found[1], found[2], body)
        return 404, "application/json", orjson.dumps([{"errorCode": "NOT_FOUND", "message": path}])

    def _job(self, method: str, job: str | None, part: str | None, body: bytes) -> tuple[int, str, bytes]:
        if job is None:
            self.made += 1
            return _json(_told(f"750{self.made:015d}", "Open"))
        if method == "PUT":
            self.bodies[job] = body
            return 201, "text/csv", b""
        if part is None:
            return _json(_told(job, "UploadComplete" if method == "PATCH" else "JobComplete"))
        head, *lines = self.bodies[job].split(b"\n")
        if part != "successfulResults":
            return 200, "text/csv", (b'"sf__Id","sf__Error",' if part == "failedResults" else b"") + head + b"\n"
        lines.pop()
        told = b"".join(b'"003%015d","true",%b\n' % (number, line) for number, line in enumerate(lines))
        return 200, "text/csv", b'"sf__Id","sf__Created",' + head + b"\n" + told


def _told(job: str, state: str) -> dict[str, Any]:
    asked = {"object": "Contact", "operation": "upsert", "externalIdFieldName": KEY, "contentType": "CSV"}
    return {"id": job, "state": state, "createdDate": NOW, "createdById": "005000000000001AAA", **asked}


def _described() -> dict[str, Any]:
    return {
        "name": "Contact",
        "createable": True,
        "updateable": True,
        "deletable": True,
        "fields": [
            {
                "name": name,
                "label": name,
                "type": kind,
                "length": length,
                "precision": 18 if kind == "double" else 0,
                "scale": 4 if kind == "double" else 0,
                "unique": name == KEY,
                "externalId": name == KEY,
                "idLookup": name == KEY,
                "nillable": kind not in ("id", "boolean"),
                "createable": kind != "id",
                "updateable": kind != "id",
                "defaultedOnCreate": kind in ("id", "boolean"),
            }
            for name, (kind, length) in FIELDS.items()
        ],
    }


_SESSION = {
    "access_token": "00D!token",
    "instance_url": "",
    "id": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA",
    "token_type": "Bearer",
}


def _json(document: Any) -> tuple[int, str, bytes]:
    return 200, "application/json", orjson.dumps(document)


async def _talk(org: Org, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One keep-alive connection: requests in order, answered at once."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            found = re.search(r"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            if found is not None:
                body = await reader.readexactly(int(found[1]))
            else:
                body = await _chunks(reader) if "chunked" in head.lower() else b""
            status, kind, told = org.answer(method, target.partition("?")[0], body)
            writer.write(f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(told)}\r\n\r\n".encode())
            writer.write(told)
            await writer.drain()
    writer.close()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)


async def serve() -> None:
    """Answer on a free port of the loopback until the process is ended."""
    server = await asyncio.start_server(partial(_talk, Org()), "127.0.0.1", 0, limit=2**27)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    _SESSION["instance_url"] = address
    print(address, flush=True)
    await server.serve_forever()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("what", choices=["bare", "jobs", "serve"])
    arguments.add_argument("rest", nargs="*")
    given = arguments.parse_args()
    if given.what != "serve":
        {"bare": bare, "jobs": jobs}[given.what](*given.rest)
        return
    with suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
