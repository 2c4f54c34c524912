"""A project's parts, opened from its settings: its state, its warehouses, its destinations. Who knows which there are.

Everything heavy is imported by the part that needs it, so that looking at files costs no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from reverse_etl import registry
from reverse_etl.config.project import ProjectConfig, SourceConfig
from reverse_etl.config.sync import SyncConfig
from reverse_etl.protocols import Destination, Memory, Opening, Source

if TYPE_CHECKING:
    from reverse_etl.state.archive import StateArchive
    from reverse_etl.state.home import StateHome
    from reverse_etl.state.ledger import Ledger
    from reverse_etl.state.scheduling import Lookout, Seat
    from reverse_etl.state.store import StateStore
    from reverse_etl.writeback import WarehouseLog


class Parts:
    """Nothing is contacted before a part is used."""

    def __init__(self, config: ProjectConfig) -> None:
        self.config = config

    def source(self, name: str) -> Source:
        """A warehouse, by its name in reverse_etl.yml."""
        config: SourceConfig = self.config.sources[name]
        return registry.source(config.dialect)(config)

    def destination(
        self, name: str, memory: Memory | None = None, options: Mapping[str, bool | str] | None = None
    ) -> Destination:
        """A connection, by its name. Without a `memory` it remembers what is new as long as the process lives."""
        from reverse_etl.state.memory import FleetingMemory
        from reverse_etl.state.places import places_of
        from reverse_etl.state.sealed import SealedMemory

        settings = self.config.destinations[name]
        connector = registry.destination(getattr(settings, "type", name))
        sealed = SealedMemory(memory or FleetingMemory(self._url, name), self.config.state.encryption_keys)
        return connector(settings, Opening(name, sealed, options=options or {}, places=partial(places_of, self._url)))

    def logs(self, sync: SyncConfig) -> bool:
        """Whether a warehouse is told of its runs, and of what became of its rows."""
        return self.config.log_to is not None and sync.log_to != "none"

    def warehouse_log(self) -> WarehouseLog | None:
        """Where in a warehouse it is written what runs did; None when it isn't."""
        from reverse_etl.writeback import WarehouseLog

        to = self.config.log_to
        return None if to is None else WarehouseLog(to.source, to.target, partial(self.source, to.source))

    # --- state --------------------------------------------------------------------------------------------------------

    def home(self) -> StateHome:
        """The folder in which this machine keeps what it remembers."""
        from reverse_etl.state.home import StateHome

        return StateHome(self.config.root)

    def ledger(self, sync: SyncConfig) -> Ledger:
        """What is remembered of one sync; to be closed."""
        from reverse_etl.state.ledger import Ledger
        from reverse_etl.state.retention import Retention

        kind = getattr(self.config.destinations[sync.destination], "type", sync.destination)
        identity = {"key": list(sync.key), "type": kind, "object": sync.object, "match": ", ".join(sync.matches)}
        return Ledger(
            self.home(),
            self._url,
            sync.name,
            identity,
            retention=Retention(self.config.state.keep_runs),
            logged=self.logs(sync),
            hashes=self.config.state.values == "hashes",
            keys=self.config.state.encryption_keys,
        )

    @contextmanager
    def store(self) -> Iterator[StateStore | None]:
        """The project's books, to look into; None before the first run."""
        from reverse_etl.state.memory import store_of

        store = store_of(self._url)
        try:
            yield store
        finally:
            if store is not None:
                store.close()

    def archive(self) -> StateArchive:
        """The state as a whole: to verify, to back up, to restore."""
        from reverse_etl.state.archive import StateArchive

        return StateArchive(self.home(), self._url)

    def scheduling(self, holder: str) -> AbstractContextManager[Seat | None]:
        """Be the one daemon that schedules for this state. None where the state is a file. Raises SyncBusy."""
        from reverse_etl.state.scheduling import scheduling

        return scheduling(self._url, holder)

    def lookout(self) -> Lookout:
        """Looks at what becomes of runs, whoever carries them out."""
        from reverse_etl.state.scheduling import Lookout

        return Lookout(self._url)

    @property
    def _url(self) -> str:
        return self.config.state.url.get_secret_value()
