from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

from reverse_etl.sources import spill

LIVE = "import sys; from reverse_etl.sources import spill; print(spill.folder(), flush=True); sys.stdin.readline()"


def living(tmp_path: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE], stdin=-1, stdout=-1, text=True, env={"TMPDIR": str(tmp_path), "PATH": ""}
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate()


def test_the_folder_is_private_and_goes_with_its_process(tmp_path: Path) -> None:
    process, folder = living(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    process.communicate("\n")
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path: Path) -> None:
    killed, left = living(tmp_path)
    (left / "rows").write_text("of the warehouse")
    killed.send_signal(signal.SIGKILL)
    ended(killed)
    assert left.exists()
    alive, kept = living(tmp_path)
    assert not left.exists()
    spill.sweep(tmp_path)
    assert kept.exists()
    alive.communicate("\n")
