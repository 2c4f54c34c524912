"""Whether the daemon is well: what /healthz, /readyz and systemd are told."""

from __future__ import annotations

from dataclasses import dataclass

from reverse_etl.clock import Clock


@dataclass
class Life:
    """A sign of life comes with every look at the files; `ready` while runs are taken on."""

    clock: Clock
    ready: bool = False
    _seen: float | None = None

    def sign(self) -> None:
        self._seen = self.clock.monotonic()

    @property
    def silent_seconds(self) -> float:
        """Since the last sign of life; 0 before the first, while the daemon starts."""
        return 0.0 if self._seen is None else self.clock.monotonic() - self._seen
