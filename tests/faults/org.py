"""Enough of Salesforce's wire to be written to: one object, Collections, SOQL, logins; bulk jobs by `ingest`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.faults.door import Door
from tests.faults.ingest import Ingest
from tests.faults.scripted import Call, Entry, Reply, Scripted, answering

ORG, USER = "00D000000000001EAA", "005000000000001AAA"
OBJECT, KEY, NUMBER = "Person__c", "email__c", "number__c"
FIELDS = {KEY: "string", "firstname__c": "string", "seats__c": "double", NUMBER: "double"}
COLLECTIONS = {"PATCH": "update", "POST": "insert", "DELETE": "delete"}
RECORDS = "/composite/sobjects"
RESULTS = {"successfulresults": "saved", "failedresults": "refused", "unprocessedrecords": "unprocessed"}
SAVING = frozenset({"upsert", "update", "insert", "delete", "create", "upload", "close"})


class Org(Scripted):
    """An org with one custom object. Names lose their `__c` in the ledger and in what the checker sees."""

    type = "salesforce"

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.door = Door(told=None)
        self.ingest = Ingest(self)
        self.by_number: dict[str, str] = {}
        self.usage = [0, 100_000]
        self.batches_left = 15_000
        self.locks: Callable[[str], bool] = lambda _key: False

    def settings(self, url: str) -> dict[str, Any]:
        auth = {"flow": "client_credentials", "client_id": "app", "client_secret": "${CRM_TOKEN}"}
        return {"type": self.type, "auth": auth, "login_url": url}

    @property
    def people(self) -> dict[str, Any]:
        columns = ("email", "firstname", "seats")
        return {"object": OBJECT, "match": KEY, "mapping": {f"{column}__c": column for column in columns}}

    def heal(self) -> None:
        super().heal()
        self.locks = lambda _key: False
        self.ingest.heal()

    # --- the wire -----------------------------------------------------------------------------------------------------

    def verb_of(self, method: str, path: str, body: bytes) -> tuple[str, bool]:
        verb = self._verb(method, path, body)
        return verb, verb in SAVING

    def _verb(self, method: str, path: str, body: bytes) -> str:
        if path.endswith("/oauth2/token"):
            return "token"
        rest = re.sub(r"^/services/data/v\d+\.0", "", path)
        if RECORDS in rest:
            return "upsert" if rest.rstrip("/") != RECORDS else COLLECTIONS[method]
        if rest.startswith("/jobs/ingest"):
            return _job_verb(method, rest.removeprefix("/jobs/ingest").strip("/"), body)
        return rest.rpartition("/")[2]  # describe, query, limits, sobjects

    def inputs_of(self, verb: str, body: bytes) -> list[dict[str, Any]]:
        return list(json.loads(body)["records"]) if verb in ("upsert", "update", "insert") else []

    def told_headers(self) -> dict[str, str]:
        return {"sforce-limit-info": f"api-usage={self.usage[0]}/{self.usage[1]}"}

    def carry_out(self, call: Call, apply: bool) -> Reply:
        if call.verb == "token":
            return self._token(call, apply)
        if not self.door.admits(call.bearer):
            return fault(401, "INVALID_SESSION_ID", "Session expired or invalid")
        self.usage[0] += 1
        if self.usage[0] > self.usage[1]:
            return fault(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        if "/jobs/ingest" in call.path:
            return self.ingest.carry_out(call, apply)
        answers: Mapping[str, Callable[[], Reply]] = {
            "describe": lambda: Reply(200, _description()),
            "limits": lambda: Reply(200, {"DailyBulkApiBatches": {"Max": 15_000, "Remaining": self.batches_left}}),
            "query": lambda: self._query(call),
            "delete": lambda: self._delete(call, apply),
        }
        if call.inputs:
            return Reply(200, [self._record(call, each, apply) for each in call.inputs])
        return answers.get(call.verb, lambda: fault(404, "NOT_FOUND", "The requested resource does not exist"))()

    def _token(self, call: Call, apply: bool) -> Reply:
        form = {name: values[0] for name, values in parse_qs(call.body.decode()).items()}
        granted = self.door.exchange(form.get("refresh_token") or form.get("client_secret", ""), apply=apply)
        if granted is None:
            told = {"error": "invalid_grant", "error_description": "expired access/refresh token"}
            return Reply(400, told)
        told = {
            "access_token": granted[0],
            "instance_url": self.url,
            "id": f"{self.url}/id/{ORG}/{USER}",
            "token_type": "Bearer",
        }
        return Reply(200, told | ({"refresh_token": granted[1]} if self.door.rotates else {}))

    # --- records ------------------------------------------------------------------------------------------------------

    def found(self, field: str, value: str) -> str | None:
        """The id of the record that has this value."""
        index = self.by_number if field == NUMBER else self.by_key
        return index.get(value.lower())

    def save(self, verb: str, call: int, field: str, cells: Mapping[str, Any], apply: bool) -> dict[str, Any]:
        """One row; `field` finds its record, "Id" by the id itself. What the answer says of it."""
        values = {name.removesuffix("__c"): plain(value) for name, value in cells.items() if name in FIELDS}
        wanted = plain(cells[field])
        record_id = wanted if field == "Id" else self.found(field, wanted)
        before = self.records.get(record_id or "")
        key = values.get("email") or (before or {}).get("email", wanted)
        refused = self._refusal(key, values, missing=before is None and field == "Id")
        self.ledger.append(Entry(time.monotonic(), call, verb, key, values, apply and refused is None))
        if refused is not None:
            return {"success": False, "errors": [refused]}
        fresh = record_id is None
        record_id = record_id or f"a00{len(self.records) + len(self.archived):012d}AAA"
        if apply:
            kept = self.records.setdefault(record_id, {})
            kept.update(values)
            self.by_key[kept["email"].lower()] = record_id
            if kept.get("number"):
                self.by_number[kept["number"]] = record_id
        return {"id": record_id, "success": True, "errors": [], "created": fresh}

    def delete(self, verb: str, call: int, record_id: str, apply: bool) -> dict[str, Any]:
        before = self.records.get(record_id)
        if before is None:
            key = self.archived.get(record_id, {}).get("email", record_id)
            self.ledger.append(Entry(time.monotonic(), call, verb, key, {}, applied=False))
            told = {"statusCode": "ENTITY_IS_DELETED", "message": "entity is deleted", "fields": []}
            return {"success": False, "errors": [told]}
        self.ledger.append(Entry(time.monotonic(), call, verb, before["email"], {}, apply))
        if apply:
            self.archived[record_id] = self.records.pop(record_id)
            del self.by_key[before["email"].lower()]
        return {"id": record_id, "success": True, "errors": []}

    def _record(self, call: Call, each: dict[str, Any], apply: bool) -> dict[str, Any]:
        field = unquote(call.path.rpartition("/")[2]) if call.verb == "upsert" else "Id"
        cells = {"Id" if name == "id" else name: value for name, value in each.items() if name != "attributes"}
        return self.save(call.verb, call.number, field, cells, apply)

    def _refusal(self, key: str, values: Mapping[str, str], *, missing: bool) -> dict[str, Any] | None:
        if missing:
            return {"statusCode": "ENTITY_IS_DELETED", "message": "entity is deleted", "fields": []}
        if self.locks(key):
            words = "unable to obtain exclusive access to this record"
            return {"statusCode": "UNABLE_TO_LOCK_ROW", "message": words, "fields": []}
        words_or_none = self.refuses({**values, "email": key})
        if words_or_none is None:
            return None
        return {"statusCode": "FIELD_CUSTOM_VALIDATION_EXCEPTION", "message": words_or_none, "fields": []}

    def _delete(self, call: Call, apply: bool) -> Reply:
        ids = parse_qs(call.query)["ids"][0].split(",")
        return Reply(200, [self.delete("archive", call.number, each, apply) for each in ids])

    def _query(self, call: Call) -> Reply:
        said = parse_qs(call.query)["q"][0]
        match = re.fullmatch(r"SELECT (.+) FROM \w+ WHERE (\w+) IN \((.*)\)", said)
        if match is None:
            return fault(400, "MALFORMED_QUERY", f"unexpected token: {said[:80]}")
        columns, field, literals = match[1].split(", "), match[2], match[3]
        wanted = [
            literal.strip("'").replace("\\'", "'") for literal in re.findall(r"'(?:[^'\\]|\\.)*'|[^,]+", literals)
        ]
        ids = [id for value in wanted if (id := self.found(field, value)) is not None]
        records = [{name: _cell(self.records[id], id, name) for name in columns} for id in ids]
        return Reply(200, {"totalSize": len(records), "done": True, "records": records})


def fault(status: int, code: str, words: str) -> Reply:
    """A request that failed as a whole."""
    return Reply(status, [{"message": words, "errorCode": code}])


def plain(value: Any) -> str:
    """A value as a record keeps it."""
    if value is None:
        return ""
    if isinstance(value, float | int):
        return format(Decimal(str(value)).normalize(), "f")
    return str(value)


@contextmanager
def org(seed: int) -> Iterator[Org]:
    """An org that answers."""
    fake = Org(seed)
    with answering(fake):
        yield fake


def _job_verb(method: str, rest: str, body: bytes) -> str:
    _, _, what = rest.partition("/")
    if not rest:
        return "create" if method == "POST" else "list"
    if method == "PATCH":
        return {"UploadComplete": "close", "Aborted": "abort"}[json.loads(body)["state"]]
    return {"batches": "upload", "": "poll", **RESULTS}[what.lower()]


def _cell(record: Mapping[str, str], id: str, name: str) -> object:
    if name == "Id":
        return id
    value = record.get(name.removesuffix("__c"))
    return float(value) if value and FIELDS[name] == "double" else value or None


def _description() -> dict[str, Any]:
    rights = {"createable": True, "updateable": True, "deletable": True, "queryable": True}
    fields = [{"name": "Id", "label": "Record ID", "type": "id", "nillable": False, "idLookup": True}]
    for name, kind in FIELDS.items():
        key = name in (KEY, NUMBER)
        told = {"name": name, "label": name, "type": kind, "nillable": True, "createable": True, "updateable": True}
        told |= {"externalId": key, "idLookup": key, "unique": key, "caseSensitive": False}
        told |= {"length": 255} if kind == "string" else {"precision": 18, "scale": 0}
        fields.append(told)
    return {"name": OBJECT, "label": "Person", "custom": True, **rights, "fields": fields}
