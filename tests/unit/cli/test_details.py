"""Where the details of a bug are left."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from reverse_etl.cli.details import write_details


def test_details_go_to_a_temporary_file_when_the_state_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".reverse_etl").mkdir()
    make = tempfile.mkstemp

    def refused(**options: object) -> tuple[int, str]:
        if options.get("dir") is not None:
            raise OSError(30, "Read-only file system")
        return make(suffix=".txt", dir=tmp_path)

    monkeypatch.setattr(tempfile, "mkstemp", refused)
    place = write_details("what broke", str(tmp_path))
    assert Path(place).read_text() == "what broke"
