"""A whole destination: Beacon, an imaginary tool for writing to people.

What it relies on (a real one names the page of the vendor's documentation here, and the day it was read):
`PUT /people` takes 100 people, finds them by e-mail and answers one result a person, in any order, each with the e-mail
it speaks of. `DELETE /people?ids=` covers all its ids or fails whole. 401 is a bad token, 429 too many calls.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from reverse_etl import values
from reverse_etl.answer import Answer
from reverse_etl.errors import AuthError, BatchRefused, DestinationError, InDoubt, Throttled
from reverse_etl.http import Http
from reverse_etl.model import Batch, Field, FieldType, Limits, ObjectSchema, Operation
from reverse_etl.pace import Pace
from reverse_etl.protocols import Opening, Traffic
from reverse_etl.urls import BaseUrl
from reverse_etl.verdicts import Outcomes, Refusal


class BeaconConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["beacon"] = "beacon"
    token: SecretStr
    base_url: BaseUrl = "https://api.beacon.example"


class Beacon:
    Config: ClassVar[type[BeaconConfig]] = BeaconConfig
    modes: ClassVar[frozenset[str]] = frozenset({"upsert", "mirror"})
    removal: ClassVar[str] = "delete"
    requests_per_second = 10.0

    def __init__(self, config: BeaconConfig, opening: Opening, *, transport: Any = None) -> None:
        self._token = config.token
        self.traffic = Traffic()
        pace = Pace(requests=10, per_seconds=1.0, clock=opening.clock)
        self._http = Http(
            base_url=config.base_url,
            pace=pace,
            traffic=self.traffic,
            clock=opening.clock,
            credential=self,
            classify=meaning,
            transport=transport,
        )

    def limits(self, object: str, operation: Operation, rows: int) -> Limits:
        return Limits(batch_size=100, in_flight=2)

    async def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self._token.get_secret_value()}"}

    async def renew(self) -> bool:
        return False  # a token of this kind never gets newer

    async def account(self) -> str:
        return str((await self._http.send("GET", "/account", idempotent=True)).json()["id"])

    async def describe(self, object: str) -> ObjectSchema:
        if object != "people":
            raise DestinationError(f"Beacon has no object {object!r}", hint="use `people`", code="destination_object")
        told = (await self._http.send("GET", "/people/fields", idempotent=True)).json()
        fields = [Field(each["name"], FieldType(each["type"]), identifies=each["name"] == "email") for each in told]
        return ObjectSchema("people", {field.name: field for field in fields})

    async def write(self, batch: Batch) -> Outcomes:
        outcomes = Outcomes(len(batch))
        if batch.operation is Operation.REMOVE:
            ids = ",".join(batch.record_ids.to_pylist())
            await self._http.send("DELETE", "/people", params={"ids": ids}, idempotent=True)
            for position in range(len(batch)):
                outcomes.removed(position)
            return outcomes
        position_of = {str(email): position for position, email in enumerate(batch.match_values(values.as_json))}
        answer = await self._http.send("PUT", "/people", json=list(batch.records(values.as_json)), idempotent=True)
        for result in answer.json():
            if result["email"] not in position_of:
                continue  # a stranger in the answer says nothing about our rows
            position = position_of[result["email"]]
            if "refused" in result:
                outcomes.rejected(position, Refusal(result["refused"], result["why"], answer.request_id))
            elif result["new"]:
                outcomes.created(position, result["id"])
            else:
                outcomes.updated(position, result["id"])
        return outcomes

    async def aclose(self) -> None:
        await self._http.aclose()


def meaning(answer: Answer) -> DestinationError | None:
    """What an answer asks the program to do next; None is an answer that can be read."""
    if answer.status < 300:
        return None
    kinds: dict[int, type[DestinationError]] = {401: AuthError, 403: AuthError, 422: BatchRefused, 429: Throttled}
    kind = kinds.get(answer.status, InDoubt if answer.status >= 500 else DestinationError)
    return kind(f"Beacon answered HTTP {answer.status}", status=answer.status, request_id=answer.request_id)
