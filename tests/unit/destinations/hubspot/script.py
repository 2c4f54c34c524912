"""HubSpot by hand-written answers: each test says what comes back and looks at what was asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
import pyarrow as pa

from reverse_etl.destinations.hubspot import HubSpot, HubSpotConfig
from reverse_etl.model import Batch, Field, FieldType, Operation
from reverse_etl.protocols import Memory, Opening
from tests.virtual_time import VirtualClock, run

T = TypeVar("T")
Step = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]

_accounts = itertools.count()

EMAIL = Field("email", FieldType.TEXT, identifies=True, folds_case=True)
PLAN = Field("plan", FieldType.CHOICE, options=("free", "pro"))
SEATS = Field("seats", FieldType.NUMBER)
APP_ID = Field("app_user_id", FieldType.TEXT, identifies=True)
RECORD_ID = Field("hs_object_id", FieldType.REFERENCE, read_only="it is the record's id")


class NoMemory:
    def get(self, name: str) -> str | None:
        return None

    def put(self, name: str, value: str | None) -> None:
        raise AssertionError("a static token remembers nothing")


class Script:
    """Answers step by step, in order; a call too many fails the test."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.asked: list[httpx.Request] = []
        self.clock = VirtualClock()
        self.memory: Memory = NoMemory()

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        assert self.steps, f"an unexpected call: {request.method} {request.url} {request.content[:300]!r}"
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step if isinstance(step, httpx.Response) else step(request)

    def destination(self, **settings: Any) -> HubSpot:
        token = {} if "client_id" in settings else {"access_token": f"token-{next(_accounts)}"}
        settings = {"type": "hubspot", **token, **settings}
        opening = Opening(name="crm", memory=self.memory, clock=self.clock)
        return HubSpot(HubSpotConfig.model_validate(settings), opening, transport=httpx.MockTransport(self.answer))

    def run(self, use: Callable[[HubSpot], Awaitable[T]], **settings: Any) -> T:
        async def scenario() -> T:
            destination = self.destination(**settings)
            try:
                return await use(destination)
            finally:
                await destination.aclose()

        result = run(scenario)
        assert not self.steps, f"{len(self.steps)} answers were never asked for"
        return result

    def paths(self) -> list[str]:
        return [request.url.path for request in self.asked]

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) if request.content else None for request in self.asked]


def answer(results: Iterable[Mapping[str, Any]] = (), errors: Iterable[Mapping[str, Any]] = ()) -> httpx.Response:
    """A batch answer as HubSpot gives it, 207 when something failed."""
    failed = list(errors)
    body = {"status": "COMPLETE", "results": list(results), "errors": failed, "numErrors": len(failed)}
    return httpx.Response(207 if failed else 200, json=body)


def record(id: str, new: bool | None = None, **properties: str | None) -> dict[str, Any]:
    said: dict[str, Any] = {"id": id, "properties": {**properties, "hs_object_id": id}, "archived": False}
    return said if new is None else {**said, "new": new}


def fault(
    message: str,
    *,
    category: str = "VALIDATION_ERROR",
    trace: Sequence[int] = (),
    request: str = "c-7",
    **context: list[str],
) -> dict[str, Any]:
    traces = {"objectWriteTraceId": [str(position) for position in trace]} if trace else {}
    return {
        "status": "error",
        "category": category,
        "message": message,
        "context": {**traces, **context},
        "correlationId": request,
    }


def invalid(*items: Mapping[str, Any]) -> str:
    return "Property values were not valid: " + json.dumps(
        [{"isValid": False, "portalId": 1, **each} for each in items]
    )


def refused(
    message: str, *, status: int = 400, category: str | None = "VALIDATION_ERROR", **more: Any
) -> httpx.Response:
    body = {
        "status": "error",
        "message": message,
        "correlationId": "c-9",
        **({"category": category} if category else {}),
    }
    return httpx.Response(status, json={**body, **more}, headers={"X-HubSpot-Correlation-Id": "c-9"})


def batch(
    operation: Operation,
    columns: Mapping[Field, Sequence[object]],
    *,
    object: str = "contacts",
    match: str = "email",
    record_ids: Sequence[str | None] | None = None,
    sends: Mapping[str, Sequence[bool]] | None = None,
) -> Batch:
    fields = tuple(columns)
    arrays = [pa.array(list(values)) for values in columns.values()]
    rows = pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])
    size = rows.num_rows
    return Batch(
        object=object,
        operation=operation,
        match=match,
        fields=fields,
        rows=rows,
        keys=pa.array([f"k{number}" for number in range(size)], pa.string()),
        record_ids=pa.array(record_ids or [None] * size, pa.string()),
        sends=None
        if sends is None
        else pa.RecordBatch.from_pydict({field.name: sends[field.name] for field in fields}),
    )
