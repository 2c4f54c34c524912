"""Room on the disk that is kept for what has been sent, so that a disk that fills up meanwhile can't swallow it."""

from __future__ import annotations

import os
from pathlib import Path

from reverse_etl.errors import DiskFull

MARGIN = 512 * 1024  # for the run's own record, and whatever a store writes beside the rows
_PART = bytes(1024 * 1024)


class Reserve:
    """A file beside the store that holds nothing, and goes when its room is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0

    def hold(self, size: int) -> None:
        """At least so many bytes, and a margin. Raises DiskFull when the disk hasn't got them."""
        wanted = size + MARGIN
        if wanted <= self._size:
            return
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _fill(handle, wanted)
            finally:
                os.close(handle)
        except OSError as failure:
            self.sweep()
            raise no_room(wanted, failure) from failure
        self._size = wanted

    def give_back(self) -> bool:
        """Returns whether there was any."""
        held = self._size > 0
        if held:  # who only looks has none, and beside it a run may have some
            self.sweep()
        return held

    def sweep(self) -> None:
        """Whoever kept it doesn't any more."""
        self._size = 0
        self._path.unlink(missing_ok=True)


def no_room(size: int, failure: BaseException) -> DiskFull:
    reason = getattr(failure, "strerror", None) or failure
    return DiskFull(
        f"there is no room to record what would be sent ({reason}): {size / 1e6:.1f} MB are needed",
        hint="make room where .reverse_etl lies and run again; all that was sent is recorded",
    )


def _fill(handle: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
        return
    for start in range(0, size, len(_PART)):  # macOS
        os.pwrite(handle, _PART[: size - start], start)
