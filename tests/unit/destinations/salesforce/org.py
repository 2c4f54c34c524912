"""A hand-written org: answers by method and path, one after the other, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import anyio
import httpx
import orjson
import pyarrow as pa

from reverse_etl.destinations.salesforce import Salesforce, auth
from reverse_etl.destinations.salesforce.config import SalesforceConfig
from reverse_etl.model import Batch, Field, FieldType, Operation
from reverse_etl.protocols import Opening
from tests.virtual_time import VirtualClock, run

T = TypeVar("T")

LOGIN = "https://acme.my.salesforce.com"
INSTANCE = "https://acme.na1.my.salesforce.com"
ORG_ID = "00D000000000001EAA"
CREDENTIALS = {"flow": "client_credentials", "client_id": "app", "client_secret": "canary-secret"}
TOKEN = "/services/oauth2/token"
DATA = "/services/data/v62.0"
UPSERT = f"{DATA}/composite/sobjects/Lead/External_Id__c"
RECORDS = f"{DATA}/composite/sobjects"

Step = Any  # a JSON value (200), an httpx.Response, an exception, or a callable of the request

FIELDS = {
    field.name: field
    for field in (
        Field("Id", FieldType.REFERENCE, identifies=True),
        Field("External_Id__c", FieldType.TEXT, identifies=True, folds_case=True),
        Field("LastName", FieldType.TEXT, clearable=False),
        Field("Email", FieldType.TEXT),
        Field("Score__c", FieldType.NUMBER),
        Field("Active__c", FieldType.BOOLEAN, clearable=False),
    )
}


class RememberedInMemory(dict[str, str]):
    """A destination's memory that ends with the test."""

    def put(self, name: str, value: str | None) -> None:
        if value is None:
            self.pop(name, None)
        else:
            self[name] = value


class Org:
    """What an org answers; `tell` adds to the script of a call, whose last step is repeated for ever."""

    def __init__(self) -> None:
        new_process()
        self.script: dict[tuple[str, str], list[Step]] = {}
        self.asked: list[httpx.Request] = []
        self.clock = VirtualClock()
        self.memory = RememberedInMemory()
        self.logins = 0
        self.takes = 0.0
        self.waiting = self.busiest = 0
        self.tell("POST", TOKEN, self.granted)

    def granted(self, request: httpx.Request) -> httpx.Response:
        self.logins += 1
        return httpx.Response(200, json=session(f"token-{self.logins}"))

    def tell(self, method: str, path: str, *steps: Step) -> None:
        self.script[method, path] = list(steps)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        steps = self.script.get((request.method, request.url.path))
        if steps is None:
            raise AssertionError(f"{request.method} {request.url.path} was not expected")
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        if isinstance(step, Exception):
            raise step
        if callable(step):
            answered: httpx.Response = step(request)
            return answered
        return step if isinstance(step, httpx.Response) else httpx.Response(200, json=step)

    async def answer_in_time(self, request: httpx.Request) -> httpx.Response:
        """After as many seconds as `takes` says; `busiest` is how many requests waited at once."""
        self.waiting += 1
        self.busiest = max(self.busiest, self.waiting)
        await anyio.sleep(self.takes)
        self.waiting -= 1
        return self.answer(request)

    def open(self, **settings: Any) -> Salesforce:
        settings = {"type": "salesforce", "auth": CREDENTIALS, "login_url": LOGIN, **settings}
        opening = Opening(name="sales", memory=self.memory, clock=self.clock)
        config = SalesforceConfig.model_validate(settings)
        return Salesforce(config, opening, transport=httpx.MockTransport(self.answer_in_time))

    def use(self, scenario: Callable[[Salesforce], Awaitable[T]], **settings: Any) -> T:
        """Runs the scenario with an open destination in virtual time."""

        async def all_of_it() -> T:
            salesforce = self.open(**settings)
            try:
                return await scenario(salesforce)
            finally:
                await salesforce.aclose()

        return run(all_of_it)

    def bodies(self, method: str, path: str) -> list[Any]:
        return [orjson.loads(each.content) for each in self.calls(method, path)]

    def calls(self, method: str, path: str) -> list[httpx.Request]:
        return [each for each in self.asked if (each.method, each.url.path) == (method, path)]

    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(each.content.decode())) for each in self.calls("POST", TOKEN)]

    def queries(self) -> list[str]:
        return [unquote(each.url.query.decode().removeprefix("q=")) for each in self.calls("GET", f"{DATA}/query")]


def new_process() -> None:
    """Forgets the sessions that runs of one process share."""
    auth._sessions.clear()


def session(token: str, instance_url: str = INSTANCE + "/") -> dict[str, str]:
    return {
        "access_token": token,
        "instance_url": instance_url,
        "id": f"https://login.salesforce.com/id/{ORG_ID}/005000000000001AAA",
        "token_type": "Bearer",
        "issued_at": "1760000000000",
        "signature": "c2ln",
    }


def refused(status: int, code: str, message: str = "no", fields: Sequence[str] | None = None) -> httpx.Response:
    told: dict[str, Any] = {"errorCode": code, "message": message}
    if fields is not None:
        told["fields"] = list(fields)
    return httpx.Response(status, json=[told])


def saved(record_id: str, created: bool | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"id": record_id, "success": True, "errors": []}
    return told if created is None else {**told, "created": created}


def failed(code: str, message: str = "no", fields: Sequence[str] = ()) -> dict[str, Any]:
    return {"success": False, "errors": [{"statusCode": code, "message": message, "fields": list(fields)}]}


def batch(
    operation: Operation,
    columns: dict[str, Any],
    *,
    match: str = "External_Id__c",
    ids: Sequence[str | None] | None = None,
    sends: dict[str, list[bool]] | None = None,
    fields: dict[str, Field] = FIELDS,
) -> Batch:
    rows = pa.RecordBatch.from_pydict(columns)
    return Batch(
        object="Lead",
        operation=operation,
        match=match,
        fields=tuple(fields[name] for name in columns),
        rows=rows,
        keys=pa.array([str(number) for number in range(rows.num_rows)], pa.string()),
        record_ids=pa.array(ids or [None] * rows.num_rows, pa.string()),
        sends=None if sends is None else pa.RecordBatch.from_pydict(sends),
    )
