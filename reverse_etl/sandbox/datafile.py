"""`--data FILE`: what both platforms hold, kept between runs of the sandbox.

Records, fields, custom objects, links and labels, lists, events, bulk jobs. Logins, imports, faults and the request log
end with the run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

from reverse_etl.sandbox.hubspot.app import HubSpot
from reverse_etl.sandbox.salesforce.app import Salesforce

FORMAT = 2


class DataFile:
    def __init__(self, path: Path, hubspot: HubSpot, salesforce: Salesforce) -> None:
        self._path = path
        self._hubspot = hubspot
        self._salesforce = salesforce
        self._saved_at: tuple[int, int] | None = None

    def load(self) -> None:
        """Fills the platforms from the file, if it exists; raises ValueError when it isn't one of ours."""
        if not self._path.exists():
            return
        try:
            document = orjson.loads(self._path.read_bytes())
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']} is not {FORMAT}")
            self._hubspot.load(document["hubspot"])
            self._salesforce.load(document["salesforce"])
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{self._path} is not a sandbox data file ({error}); move it away to start empty"
            ) from None

    def save(self, changes: tuple[int, int]) -> None:
        """Writes the file, as a whole or not at all, when `changes` are others than at the last time."""
        if changes == self._saved_at:
            return
        document: dict[str, Any] = {
            "format": FORMAT,
            "hubspot": self._hubspot.dump(),
            "salesforce": self._salesforce.dump(),
        }
        with tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=self._path.name, delete=False) as file:
            file.write(orjson.dumps(document))
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self._path)
        self._saved_at = changes
