"""The disk of the power cut forgets what was not synced, and nothing else."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.platter import Names, Platter, Rest, recording, steps

PROGRAM = """
import os
synced = os.open("state/synced", os.O_CREAT | os.O_RDWR)
os.write(synced, b"sure")
os.fsync(synced)
os.fsync(os.open("state", os.O_RDONLY))
os.pwrite(synced, b"lost", 4)
nameless = os.open("state/nameless", os.O_CREAT | os.O_RDWR)
os.write(nameless, b"content")
os.fsync(nameless)
os.rename("state/old", "state/new")
os.truncate(os.open("state/long", os.O_RDWR), 2)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    (state / "old").write_text("moved")
    (state / "long").write_text("0123456789")
    return state


def after_a_cut(folder: Path, names: Names, rest: Rest) -> dict[str, str]:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    platter, log = Platter(folder), folder.with_name("log")
    subprocess.run([*recording(strace, log), sys.executable, "-S", "-c", PROGRAM], cwd=folder.parent, check=True)
    for step in steps(log):
        platter.take(step)
    found = folder.with_name("found")
    platter.lay(found, random.Random(1), names, rest)
    return {path.name: path.read_text() for path in found.iterdir()}


def test_what_was_not_synced_is_lost_and_so_are_names(folder: Path) -> None:
    assert after_a_cut(folder, "sure", "none") == {"synced": "sure", "old": "moved", "long": "0123456789"}


def test_names_may_have_arrived_without_their_folder_being_synced(folder: Path) -> None:
    found = {"synced": "sure", "nameless": "content", "new": "moved", "long": "0123456789"}
    assert after_a_cut(folder, "all", "none") == found


def test_all_that_was_written_may_have_arrived(folder: Path) -> None:
    found = {"synced": "surelost", "nameless": "content", "new": "moved", "long": "01"}
    assert after_a_cut(folder, "all", "all") == found
