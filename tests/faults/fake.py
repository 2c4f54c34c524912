"""Enough of HubSpot's wire to be written to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from tests.faults.door import Door
from tests.faults.scripted import TRUE, Act, Call, Entry, Reply, Scripted, answering, too_many

__all__ = ["TRUE", "Act", "Call", "Entry", "Fake", "running", "too_many"]

PORTAL = 4711
TEXTS = ("email", "firstname", "lastname", "plan", "note")
FIELDS = {**dict.fromkeys(TEXTS, "string"), "seats": "number", "score": "number", "seen_at": "datetime"}
MATCH = "email"
Row = tuple[dict[str, Any] | None, dict[str, Any] | None]


class Fake(Scripted):
    """A portal with contacts."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.door: Door | None = None  # without one every token opens

    def settings(self, url: str) -> dict[str, Any]:
        if self.door is None:
            return {"type": "hubspot", "access_token": "${CRM_TOKEN}", "base_url": url}
        consent = {"client_id": "app", "client_secret": "${CRM_TOKEN}", "refresh_token": "${CRM_REFRESH_TOKEN}"}
        return {"type": "hubspot", **consent, "base_url": url}

    @property
    def people(self) -> dict[str, Any]:
        columns = ("email", "firstname", "seats")
        return {"object": "contacts", "match": "email", "mapping": {column: column for column in columns}}

    def verb_of(self, method: str, path: str, body: bytes) -> tuple[str, bool]:
        verb = path.rpartition("/")[2] if "/batch/" in path else "token" if path.startswith("/oauth/") else ""
        return verb, verb not in ("", "read", "token")

    def inputs_of(self, verb: str, body: bytes) -> list[dict[str, Any]]:
        return list(json.loads(body)["inputs"]) if verb not in ("", "token") else []

    def told_headers(self) -> dict[str, str]:
        most, seconds = self.allowance
        return {
            "x-hubspot-correlation-id": f"c-{len(self.calls)}",
            "x-hubspot-ratelimit-max": str(most),
            "x-hubspot-ratelimit-remaining": str(max(0, most - len(self.window))),
            "x-hubspot-ratelimit-interval-milliseconds": str(int(seconds * 1000)),
        }

    def carry_out(self, call: Call, apply: bool) -> Reply:
        if call.verb == "token":
            return self._token(call, apply)
        if self.door is not None and not self.door.admits(call.bearer):
            told = {"status": "error", "message": "The OAuth token expired", "category": "EXPIRED_AUTHENTICATION"}
            return Reply(401, told)
        if call.path.startswith("/account-info/"):
            return Reply(200, {"portalId": PORTAL, "timeZone": "UTC"})
        if call.path.startswith("/crm/properties/"):
            return Reply(200, {"results": [_property(name, kind) for name, kind in FIELDS.items()]})
        if call.verb == "read":
            return Reply(200, self._read(call))
        if call.verb:
            return self._write(call, apply)
        return Reply(404, {"status": "error", "message": "resource not found"})

    def _token(self, call: Call, apply: bool) -> Reply:
        shown = parse_qs(call.body.decode()).get("refresh_token", [""])[0]
        granted = self.door.exchange(shown, apply=apply) if self.door is not None else None
        if granted is None:
            words = "refresh token is invalid, expired or revoked"
            return Reply(400, {"status": "BAD_REFRESH_TOKEN", "error": "invalid_grant", "message": words})
        told = {"access_token": granted[0], "refresh_token": granted[1], "token_type": "bearer"}
        return Reply(200, told | ({"expires_in": self.door.told} if self.door and self.door.told else {}))

    def _read(self, call: Call) -> dict[str, Any]:
        found = [(self.by_key.get(each["id"].lower(), each["id"])) for each in call.inputs]
        results = [{"id": id, "properties": self.records[id]} for id in found if id in self.records]
        return {"status": "COMPLETE", "results": results}

    def _write(self, call: Call, apply: bool) -> Reply:
        results, errors = [], []
        for each in call.inputs:
            result, error = self._row(call, each, apply)
            if result is not None:
                results.append(result)
            if error is not None:
                errors.append({**error, "context": {"objectWriteTraceId": [each.get("objectWriteTraceId")]}})
        if call.verb == "archive":
            return Reply(204)
        self.random.shuffle(results)
        document: dict[str, Any] = {"status": "COMPLETE", "results": results}
        if errors:
            document |= {"numErrors": len(errors), "errors": errors}
        return Reply(207 if errors else 200, document)

    def _row(self, call: Call, each: dict[str, Any], apply: bool) -> Row:
        values: dict[str, str] = each.get("properties", {})
        by_id = call.verb in ("update", "archive") and "idProperty" not in each
        wanted = each.get("id") or values.get(MATCH, "")
        record_id = wanted if by_id else self.by_key.get(wanted.lower())
        before = self.records.get(record_id or "")
        key = (before or self.archived.get(record_id or "") or {}).get(MATCH) or values.get(MATCH, wanted)
        refusal = self.refuses({MATCH: key, **values})
        missing = before is None and call.verb in ("update", "archive")
        done = apply and refusal is None and not missing
        self.ledger.append(Entry(time.monotonic(), call.number, call.verb, key.lower(), dict(values), done))
        if refusal is not None:
            return None, {"status": "error", "category": "VALIDATION_ERROR", "message": refusal}
        if missing:
            return None, {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Could not get some objects"}
        if call.verb == "archive":
            if apply and record_id:
                self.archived[record_id] = self.records.pop(record_id)
                del self.by_key[key.lower()]
            return None, None
        fresh = record_id is None
        if record_id is None:
            record_id = str(1000 + len(self.records) + len(self.archived))
        if apply:
            kept = self.records.setdefault(record_id, {})
            kept.update(values)
            self.by_key[kept.get(MATCH, key).lower()] = record_id
        told = {MATCH: key, **values, "hs_object_id": record_id}
        return {"id": record_id, "properties": told, "new": fresh, "archived": False}, None


@contextmanager
def running(seed: int) -> Iterator[Fake]:
    """A fake that answers."""
    fake = Fake(seed)
    with answering(fake):
        yield fake


def _property(name: str, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name,
        "type": kind,
        "fieldType": {"string": "text", "number": "number", "datetime": "date"}[kind],
        "hasUniqueValue": name == MATCH,
        "options": [],
    }
