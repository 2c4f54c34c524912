"""The seat: of the daemons on one state one schedules, and another takes over within seconds when it is gone."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from reverse_etl.errors import StateError, SyncBusy
from reverse_etl.project import Project

if TYPE_CHECKING:
    from reverse_etl.state.scheduling import Seat as Right

TRY_SECONDS = 1.0  # how often who waits for the seat looks whether it is free
LEAVE_SECONDS = 5.0

log = logging.getLogger(__name__)


class Seat:
    """With the state in PostgreSQL a lease by the database's clock; with a file's the folder's lock is enough.

    A daemon that can't reach the database gives no orders from the lease's end on, and goes on when it could renew it.
    """

    def __init__(self, project: Callable[[], Project]) -> None:
        self._project = project
        self._stack = ExitStack()
        self.right: Right | None = None
        self._taken = False
        self.other = ""  # who has it, in a sentence, while this one waits and can take over

    @property
    def mine(self) -> bool:
        """Whether orders may be given now."""
        return self._taken and (self.right is None or self.right.holds)

    @property
    def lost(self) -> bool:
        """Whether another daemon has taken over."""
        return self.right is not None and self.right.taken_over

    @property
    def shared(self) -> bool:
        """Whether other daemons may have it."""
        return self.right is not None

    def right_now(self) -> Right:
        """What orders are given with. Raises SyncBusy without the seat."""
        if self.right is None:
            raise SyncBusy("this daemon doesn't schedule", hint="another one gives the orders")
        return self.right

    def ordered(self) -> Mapping[str, datetime]:
        """The latest time for which each sync was given to workers, by whichever daemon."""
        return {} if self.right is None else self.right.ordered()

    async def tried(self) -> bool:
        """Whether this daemon has the seat now. Raises StateError when the database can't be reached."""
        try:
            await to_thread.run_sync(self._take)
        except SyncBusy as busy:
            if self.other != busy.message:
                log.info("%s; this one stands by", busy.message)
            self.other = busy.message
            return False
        return True

    async def take(self) -> None:
        """Returns with the seat, however long that takes."""
        trouble = ""
        while True:
            try:
                if await self.tried():
                    return
                trouble = ""
            except StateError as failure:
                self.other = ""
                if failure.message != trouble:  # once is enough: it is looked at every second
                    log.error("whether another daemon schedules is not known, and looked at again: %s", failure.message)
                trouble = failure.message
            await anyio.sleep(TRY_SECONDS)

    async def leave(self) -> None:
        """Another one may have it at once; or when the lease ends, if the database can't be told now."""
        self._taken, self.other = False, ""
        with anyio.move_on_after(LEAVE_SECONDS):
            await to_thread.run_sync(self._leave, abandon_on_cancel=True)

    def _take(self) -> None:
        holder = f"process {os.getpid()} on {platform.node()}"
        self.right = self._stack.enter_context(self._project().parts.scheduling(holder))
        self._taken, self.other = True, ""

    def _leave(self) -> None:
        self._stack.close()
        self.right = None
