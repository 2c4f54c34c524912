"""Batch and single writes: upsert, update, create, archive, merge, GDPR delete.

With a trace id of its own on every input a bad row stands alone in `errors`; without, it sinks its batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reverse_etl.sandbox.faults import Fault
from reverse_etl.sandbox.hubspot.associations import Associations
from reverse_etl.sandbox.hubspot.bodies import document, inputs, mapping, mappings
from reverse_etl.sandbox.hubspot.errors import Body, InvalidValues, Refusal, RowError, invalid_values, missing_rows
from reverse_etl.sandbox.hubspot.portal import ObjectType, Portal, fold_email, record
from reverse_etl.sandbox.hubspot.rules import binds
from reverse_etl.sandbox.hubspot.saving import Saver
from reverse_etl.sandbox.messages import Request, Response, empty, json_response


@dataclass
class Rules:
    """What isn't known for sure of the real service, so that a client can be tried against each way.

    `mixed_status`: the status of a 2026-09 answer with refused rows. `update_traces`: whether trace ids isolate rows of
    an update. `echo_trace_ids`: whether results carry them. `strict`: refuse what the published schema forbids.
    """

    mixed_status: int = 207
    update_traces: bool = True
    echo_trace_ids: bool = False
    strict: bool = False


def refuse_duplicates(keys: list[str]) -> None:
    ids = [key for key, times in Counter(keys).items() if times > 1]
    if ids:
        raise Refusal(
            400,
            f"Duplicate IDs found in batch input: [{', '.join(ids)}]. IDs must be unique",
            "VALIDATION_ERROR",
            context={"ids": ids},
        )


def check_unique(kind: ObjectType, name: str) -> None:
    if name not in kind.unique:
        raise Refusal(
            400,
            f"Unable to perform update/upsert by non-unique {kind.type_id} property {name} in portal ID 12345678",
            "VALIDATION_ERROR",
        )


class Writes:
    def __init__(self, portal: Portal, rules: Rules, associations: Associations) -> None:
        self._portal = portal
        self._rules = rules
        self._associations = associations

    def batch_upsert(self, kind: ObjectType, request: Request, version: str) -> Response:
        rows = inputs(request)
        for row in rows:
            if not row.get("idProperty"):
                raise Refusal(400, "Some required fields were not set: [idProperty]", "VALIDATION_ERROR")
            check_unique(kind, str(row["idProperty"]))
        self._check_schema(rows, "id", "properties")
        refuse_duplicates([_key(kind, row["idProperty"], row) for row in rows])

        def upsert(row: dict[str, Any], saver: Saver) -> Body:
            name, key = str(row["idProperty"]), str(row.get("id", ""))
            found = kind.find(name, key)
            if found is not None:
                return saver.update(found, mapping(row.get("properties"))) | {"new": False}
            return saver.create({name: key, **mapping(row.get("properties"))}) | {"new": True}

        return _Batch(self._portal, self._rules, kind, request, version).run(rows, upsert, 200)

    def batch_update(self, kind: ObjectType, request: Request, version: str) -> Response:
        rows = inputs(request)
        for row in rows:
            if row.get("idProperty"):
                check_unique(kind, str(row["idProperty"]))
        self._check_schema(rows, "id", "properties")
        refuse_duplicates([_key(kind, row.get("idProperty"), row) for row in rows])
        found = {id(row): self._target(kind, row) for row in rows}
        missing = [str(row.get("id", "")) for row in rows if found[id(row)] is None]

        def update(row: dict[str, Any], saver: Saver) -> Body:
            return saver.update(found[id(row)] or "", mapping(row.get("properties")))

        batch = _Batch(self._portal, self._rules, kind, request, version, traced=self._rules.update_traces)
        return batch.run([row for row in rows if found[id(row)] is not None], update, 200, missing)

    def batch_create(self, kind: ObjectType, request: Request, version: str) -> Response:
        rows = inputs(request)
        self._check_schema(rows, "properties", "associations")

        def create(row: dict[str, Any], saver: Saver) -> Body:
            return self._create(kind, row, saver)

        return _Batch(self._portal, self._rules, kind, request, version).run(rows, create, 201)

    def batch_archive(self, kind: ObjectType, request: Request) -> Response:
        rows = inputs(request)
        self.archive(kind, [str(row.get("id", "")) for row in rows])
        response = empty()
        response.rows = len(rows)
        return response

    def archive(self, kind: ObjectType, ids: list[str]) -> None:
        """Archives what is there; ids that don't exist, or are archived already, are no error."""
        writes: list[tuple[str, str, Any]] = []
        for given in ids:
            record_id = kind.resolve(given)
            if record_id is not None:
                kind.table.remove(record_id)
                kind.archived_at[record_id] = self._portal.clock.iso()
                for email in [email for email, owner in kind.secondary.items() if owner == record_id]:
                    del kind.secondary[email]
                writes.append(("archive", record_id, None))
        self._portal.ledger.add("hubspot", kind.name, writes)

    def create(self, kind: ObjectType, request: Request) -> Response:
        body = document(request)
        return json_response(201, self._single(kind, request, lambda saver: self._create(kind, body, saver)), rows=1)

    def update(self, kind: ObjectType, given: str, request: Request) -> Response:
        body = document(request)
        name = request.query.get("idProperty")
        if name:
            check_unique(kind, name)
        record_id = self._target(kind, {"id": given, "idProperty": name})
        if record_id is None:
            raise Refusal(404, "resource not found")
        result = self._single(kind, request, lambda saver: saver.update(record_id, mapping(body.get("properties"))))
        return json_response(200, result, rows=1)

    def merge(self, kind: ObjectType, request: Request) -> Response:
        """Two records become one with a new id; both old ids go on reaching it."""
        body = document(request)
        primary = kind.resolve(str(body.get("primaryObjectId", "")))
        other = kind.resolve(str(body.get("objectIdToMerge", "")))
        if primary is None or other is None or primary == other:
            raise Refusal(404, "resource not found")
        kept, lost = kind.table.get(primary) or {}, kind.table.get(other) or {}
        merged_id = self._portal.new_id(kind)
        values = {**lost, **kept, "hs_object_id": merged_id, kind.modified: self._portal.clock.iso()}
        values["hs_merged_object_ids"] = f"{primary};{other}"
        kind.table.remove(primary, keep=False)
        kind.table.remove(other, keep=False)
        if kind.name == "contacts":
            addresses = [address for address in values.get("hs_additional_emails", "").split(";") if address]
            if lost.get("email") and lost.get("email") != values.get("email"):
                addresses.append(lost["email"])
            if addresses:
                values["hs_additional_emails"] = ";".join(addresses)
            kind.secondary.update(dict.fromkeys(addresses, merged_id))
        kind.table.put(merged_id, values, None)
        for old, target in [*kind.merged.items(), (primary, merged_id), (other, merged_id)]:
            if target in (primary, other, merged_id):
                kind.merged[old] = merged_id
        self._portal.ledger.add("hubspot", kind.name, [("merge", merged_id, {"of": [primary, other]})])
        return json_response(200, record(kind, merged_id, values), rows=1)

    def gdpr_delete(self, kind: ObjectType, request: Request) -> Response:
        body = document(request)
        if body.get("idProperty"):
            check_unique(kind, str(body["idProperty"]))
        record_id = self._target(kind, {"id": body.get("objectId"), "idProperty": body.get("idProperty")})
        if record_id is not None:
            kind.table.remove(record_id, keep=False)
            self._portal.ledger.add("hubspot", kind.name, [("delete", record_id, None)])
        return empty()

    def _create(self, kind: ObjectType, row: dict[str, Any], saver: Saver) -> Body:
        result = saver.create(mapping(row.get("properties")))
        if not self._associations.inline(kind, result["id"], mappings(row.get("associations"))):
            saver.undo_last()
            raise RowError("INVALID_OBJECT_IDS", "One or more associations are invalid")
        return result

    def _single(self, kind: ObjectType, request: Request, save: Callable[[Saver], Body]) -> Body:
        saver = Saver(self._portal, kind, ruled=binds(request.notes["version"]))
        try:
            result = save(saver)
        except InvalidValues as invalid:
            raise invalid_values(invalid.problems) from None
        except RowError as error:
            raise error.refusal() from None
        self._portal.ledger.add("hubspot", kind.name, saver.writes)
        return result

    def _target(self, kind: ObjectType, row: dict[str, Any]) -> str | None:
        given = str(row.get("id", ""))
        name = row.get("idProperty")
        return kind.find(name, given) if name else kind.resolve(given)

    def _check_schema(self, rows: list[dict[str, Any]], *needed: str) -> None:
        if not self._rules.strict:
            return
        for row in rows:
            missing = [name for name in needed if name not in row]
            if missing:
                raise Refusal(400, f"Some required fields were not set: [{', '.join(missing)}]", "VALIDATION_ERROR")
            odd = [name for name, value in mapping(row["properties"]).items() if not isinstance(value, str)]
            if odd:
                raise Refusal(400, f"Invalid input JSON on line 1, column 1: {odd[0]} is not a string")


class _Batch:
    def __init__(
        self,
        portal: Portal,
        rules: Rules,
        kind: ObjectType,
        request: Request,
        version: str,
        *,
        traced: bool = True,
    ) -> None:
        self._portal, self._rules, self._kind, self._version = portal, rules, kind, version
        self._refusals: list[Fault] = request.notes.get("refuse", [])
        self._traced = traced
        self._results: list[Body] = []
        self._errors: list[Body] = []
        self._problems: list[Body] = []
        self._first: RowError | None = None

    def run(
        self,
        rows: list[dict[str, Any]],
        save: Callable[[dict[str, Any], Saver], Body],
        status: int,
        missing: list[str] | None = None,
    ) -> Response:
        started = self._portal.clock.iso()
        traces = [str(row.get("objectWriteTraceId") or "") for row in rows]
        alone = self._traced and all(traces) and len(set(traces)) == len(traces)
        saver = Saver(self._portal, self._kind, ruled=binds(self._version))
        struck = self._struck(rows)
        for row, trace in zip(rows, traces, strict=True):
            try:
                if id(row) in struck:
                    raise struck[id(row)]
                result = save(row, saver)
                if self._rules.echo_trace_ids and trace:
                    result["objectWriteTraceId"] = trace
                self._results.append(result)
            except RowError as error:
                self._refuse(error, trace if alone else None)
        self._sink(saver)
        if missing:
            self._errors.append(missing_rows(self._kind.singular, missing))
        self._portal.ledger.add("hubspot", self._kind.name, saver.writes)
        return self._response(started, status, len(rows) + len(missing or []))

    def _struck(self, rows: list[dict[str, Any]]) -> dict[int, RowError]:
        """The rows that an ordered fault refuses, by identity."""
        struck: dict[int, RowError] = {}
        for fault in self._refusals:
            for row in self._portal.random.sample(rows, fault.count(len(rows))):
                struck[id(row)] = RowError(fault.code or "VALIDATION_ERROR", fault.message or "refused by order")
        return struck

    def _refuse(self, error: RowError, trace: str | None) -> None:
        if trace is not None:
            self._errors.append(error.item(trace))
        elif isinstance(error, InvalidValues):
            self._problems += error.problems
        elif self._first is None:
            self._first = error

    def _sink(self, saver: Saver) -> None:
        """Without trace ids one bad row takes everything back."""
        if self._problems:
            saver.undo()
            raise invalid_values(self._problems)
        if self._first is not None:
            saver.undo()
            raise self._first.refusal()

    def _response(self, started: str, status: int, rows: int) -> Response:
        self._portal.random.shuffle(self._results)
        body: Body = {
            "status": "COMPLETE",
            "results": self._results,
            "startedAt": started,
            "completedAt": self._portal.clock.iso(),
        }
        if self._errors:
            body |= {"numErrors": len(self._errors), "errors": self._errors}
            status = self._rules.mixed_status if self._version == "2026-09" else 207
        return json_response(status, body, rows=rows)


def _key(kind: ObjectType, name: str | None, row: dict[str, Any]) -> str:
    key = str(row.get("id", ""))
    return fold_email(key) if name == "email" and kind.name == "contacts" else key
