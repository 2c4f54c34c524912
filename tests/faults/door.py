"""Who may come in: access tokens that end, and refresh tokens that change with each use, or are taken back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

SECRET = "pat-canary-7f3e9c1d5b"  # stands in every token, so that one look finds any of them


@dataclass
class Door:
    """`rotates`: an exchange ends the refresh token it was made with, and tells the next one."""

    lifetime: float = 7200.0  # of an access token, in seconds
    told: float | None = 1800.0  # what is said of it
    rotates: bool = False
    refresh: set[str] = field(default_factory=lambda: {SECRET})
    access: dict[str, float] = field(default_factory=dict)
    exchanges: int = 0
    refused: int = 0

    def exchange(self, refresh_token: str, *, apply: bool = True) -> tuple[str, str] | None:
        """The next access and refresh token; None when the one shown is none of ours, or no more."""
        if refresh_token not in self.refresh:
            self.refused += 1
            return None
        self.exchanges += 1
        token = f"access-{SECRET}-{self.exchanges}"
        following = f"{SECRET}-{self.exchanges}" if self.rotates else refresh_token
        if apply:
            self.access[token] = time.monotonic() + self.lifetime
            self.refresh -= {refresh_token} if self.rotates else set()
            self.refresh.add(following)
        return token, following

    def admits(self, token: str) -> bool:
        return self.access.get(token, 0.0) > time.monotonic()

    def end_all(self) -> None:
        """Every access token given out so far is over."""
        self.access.clear()

    def take_back(self) -> None:
        """No refresh token counts any more: somebody took the app's consent away."""
        self.refresh.clear()
