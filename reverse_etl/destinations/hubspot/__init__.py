"""HubSpot CRM: contacts, companies and every other object type, by batches of 100.

What the outside is like, and what follows from it:

- Every input carries an `objectWriteTraceId`; without it one bad input fails its whole batch, with it each bad input
  is an error of its own. Results come back in any order and are matched by id or key, never by position.
- An upsert carries all mapped fields, as partial upserts by e-mail are documented as unsupported; later changes go by
  record id through `batch/update` (https://developers.hubspot.com/docs/guides/crm/using-object-apis, read 2026-11).
- `""` clears a value, `null` is no legal value of a request.
- An archive answers 204 for known and unknown ids alike: it covers every id asked for.
- Errors and their remedies: https://developers.hubspot.com/docs/api-reference/error-handling (read 2026-11); limits:
  https://developers.hubspot.com/docs/developer-tooling/platform/usage-guidelines (read 2026-11).
"""

from __future__ import annotations

from reverse_etl.destinations.hubspot.config import HubSpotConfig
from reverse_etl.destinations.hubspot.destination import HubSpot

__all__ = ["HubSpot", "HubSpotConfig"]
