"""The state's folder and its locks."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from reverse_etl.errors import SyncBusy
from reverse_etl.state.home import StateHome


def test_a_holder_that_has_not_yet_written_its_name_is_given_a_moment(tmp_path: Path) -> None:
    home = StateHome(tmp_path)
    home.prepare()
    handle = os.open(home.folder / "locks" / "people.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)

    def write_later() -> None:
        time.sleep(0.02)
        os.pwrite(handle, b"run 7", 0)

    writer = threading.Thread(target=write_later)
    writer.start()
    with pytest.raises(SyncBusy, match="run 7"), home.lock("people", "run 8"):
        pass
    writer.join()
    os.close(handle)
