"""Telling systemd how the service is: one datagram to the socket it names, sd_notify(3), without a library.

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html, read 2026-11.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

READY, STOPPING = "READY=1", "STOPPING=1"
WATCHDOG = "WATCHDOG=1"  # ignored where systemd was not told to watch


class Notifier:
    """Silent where nobody listens: outside of systemd the environment names no socket."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")

    def tell(self, *states: str) -> None:
        """`READY=1`, `STATUS=...` and the like. A socket that can't be reached is no reason to end."""
        if not self._address.startswith(("/", "@")):
            return
        # A leading @ stands for the abstract namespace, where names begin with NUL.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto("\n".join(states).encode(), address)
            except OSError as failure:
                log.debug("systemd could not be told: %s", failure.strerror)
