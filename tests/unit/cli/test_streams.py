"""Standard streams: no secrets, and no failing when nobody reads."""

from __future__ import annotations

import io
import os

import pytest

from reverse_etl.cli.streams import Outlet
from reverse_etl.redaction import Redactor


def test_P52_a_reader_who_leaves_does_not_stop_the_writer() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = io.TextIOWrapper(os.fdopen(writing, "wb", buffering=0), write_through=True)
    outlet = Outlet(stream, Redactor())
    for _ in range(3):
        assert outlet.write("still at work\n") == 14
        outlet.flush()
    assert isinstance(outlet.lost, BrokenPipeError)
    stream.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_P52_a_full_disk_under_the_log_does_not_stop_the_writer() -> None:
    with open("/dev/full", "w") as stream:  # noqa: PTH123
        outlet = Outlet(stream, Redactor())
        outlet.write("x" * 100_000)
        outlet.flush()
        assert outlet.lost is not None
