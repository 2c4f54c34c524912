"""Where things are, by API version: the only place that knows a version's name.

Versions are dates since March 2026; the older numbers answer until September 2027
(https://developers.hubspot.com/docs/developer-tooling/platform/versioning, read 2026-11).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

Version = Literal["2026-09", "2026-03", "2025-09", "v3"]
Bucket = Literal["ordinary", "search", "associations", "events"]

_LINKS = re.compile(r"/crm/(v4/)?associations/|/crm/(objects/[^/]+|v\d/objects)/[^/]+/[^/]+/associations/")
_SEARCH = re.compile(r"/crm/(objects/[^/]+|v\d/objects)/[^/]+/search")
_EVENTS = re.compile(r"/events/.*/send(/batch)?")


def bucket(path: str) -> Bucket:
    """Which of HubSpot's allowances a call to this path uses up."""
    if _LINKS.match(path):
        return "associations"
    if _SEARCH.fullmatch(path):
        return "search"
    return "events" if _EVENTS.fullmatch(path) else "ordinary"


@dataclass(frozen=True)
class Paths:
    """`type` is a plural name (contacts), an object type id (2-3456) or a fully qualified name (p123_cars)."""

    version: str

    def batch(self, type: str, verb: str) -> str:
        """`verb` is create, read, update, upsert or archive."""
        return f"{self._objects(type)}/batch/{verb}"

    def record(self, type: str, id: str) -> str:
        return f"{self._objects(type)}/{quote(id, safe='')}"

    def properties(self, type: str) -> str:
        return f"{self._crm('properties')}/{quote(type, safe='')}"

    def search(self, type: str) -> str:
        return f"{self._objects(type)}/search"

    def associations(self, source: str, target: str, verb: str) -> str:
        """`verb` is associate/default, create, read, archive or labels/archive."""
        return f"{self._associations(source, target)}/batch/{verb}"

    def association_labels(self, source: str, target: str) -> str:
        return f"{self._associations(source, target)}/labels"

    def pipelines(self, type: str) -> str:
        return f"{self._crm('pipelines')}/{quote(type, safe='')}"

    def schemas(self) -> str:
        return "/crm-object-schemas/v3/schemas" if self._old else f"/crm-object-schemas/{self.version}/schemas"

    def list(self, id: str) -> str:
        return f"{self._crm('lists')}/{quote(id, safe='')}"

    def list_named(self, type_id: str, name: str) -> str:
        return f"{self._crm('lists')}/object-type-id/{quote(type_id, safe='')}/name/{quote(name, safe='')}"

    def list_search(self) -> str:
        return f"{self._crm('lists')}/search"

    def memberships(self, id: str, verb: str = "") -> str:
        """`verb` is add, remove or add-and-remove; without one they are read."""
        return f"{self.list(id)}/memberships" + (f"/{verb}" if verb else "")

    def events_batch(self) -> str:
        return f"{self._events(self._sent_by)}/send/batch"

    def event_definitions(self) -> str:
        return f"{self._events('2026-09')}/event-definitions"

    def account(self) -> str:
        return f"/account-info/{self.version}/details"

    def token(self) -> str:
        """Where OAuth tokens are exchanged; the first dated version still leaves that to the numbered one."""
        return f"/oauth/{'v3' if self._old or self.version == '2025-09' else self.version}/token"

    def _objects(self, type: str) -> str:
        return f"{self._crm('objects')}/{quote(type, safe='')}"

    def _associations(self, source: str, target: str) -> str:
        """The numbered version of these is one ahead of the others'."""
        root = "/crm/v4/associations" if self._old else self._crm("associations")
        return f"{root}/{quote(source, safe='')}/{quote(target, safe='')}"

    def _events(self, dated: str) -> str:
        return "/events/v3" if self._old else f"/events/custom/{dated}"

    @property
    def _sent_by(self) -> str:
        """HubSpot's papers name two paths for the version between: the next one's is certain."""
        return "2026-09" if self.version == "2026-03" else self.version

    def _crm(self, what: str) -> str:
        return f"/crm/v3/{what}" if self._old else f"/crm/{what}/{self.version}"

    @property
    def _old(self) -> bool:
        return self.version.startswith("v")
