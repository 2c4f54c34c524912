"""The machine under a run: a full disk, its errors, few handles and bytes; state damaged, older, read-only, gone."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults import checker
from tests.faults.answers import prepared, settled
from tests.faults.families import NotHere, family, needs
from tests.faults.scripted import Call
from tests.faults.stage import Ended, Stage


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A file system in memory, this large. Raises NotHere where one can't be mounted."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        [needs("mount", "mount"), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        raise NotHere("a tmpfs can't be mounted: only root may")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _ended_badly(stage: Stage, ended: Ended, *, codes: tuple[int, ...]) -> None:
    """It failed with a code that means something, words that help, and without a word more than is true."""
    if ended.code not in codes:
        stage.wrong("I10", f"ended with {ended.code}: {ended.out[-400:]} {ended.err[-400:]}")
    if (ended.run.get("error") or {}).get("code") == "bug":
        stage.wrong("I10", f"told as a bug: {ended.run['error']['message'][:300]}")
    checker.balanced(stage, ended)
    checker.honest(stage, ended)


def _unrecorded(stage: Stage, mark: int, next_run: Ended) -> None:
    """Sends without record: rows that arrived in the failed run and went out again in the next."""
    again = checker.repeats(stage, stage.fake.ledger[mark : next_run.since], stage.fake.ledger[next_run.since :])
    stage.most("sent_unrecorded", again)


@contextmanager
def _state_on(stage: Stage, size: str) -> Iterator[None]:
    """The state's folder is a small disk of its own: a folder of that disk bound in its place."""
    small, large = stage.state.with_name("small"), stage.state.with_name("large")
    with small_disk(small, size):
        shutil.copytree(stage.state, small / "state")
        stage.state.rename(large)
        stage.state.mkdir()
        subprocess.run(["mount", "--bind", str(small / "state"), str(stage.state)], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", str(stage.state)], check=True)
            stage.state.rmdir()
            large.rename(stage.state)


def _fill(stage: Stage, left: int) -> None:
    """With ballast, but for so many bytes."""
    free = os.statvfs(stage.state)
    with suppress(OSError):  # the run has taken some of it meanwhile: it is full then, too
        (stage.state / "ballast").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - left)))


@family("F30", "a full disk: the state's, while it is read, sent and recorded")
def disk_full(stage: Stage) -> None:
    prepared(stage, 2000)
    with _state_on(stage, "8m"):
        _fill(stage, stage.random.randrange(0, 4_500_000))
        ended = Ended((), 0, "", "", 0.0, 0)
        for _ in range(3):
            mark = len(stage.fake.ledger)
            ended = stage.sync()
            _ended_badly(stage, ended, codes=(0, 1, 6))
            if ended.code == 0:
                stage.ground.change(1500)
                stage.ground.put()
            stage.cycles += 1
        stage.count("failed_runs", ended.code != 0)
        (stage.state / "ballast").unlink()
        _all_recorded(stage, mark, checker.heal(stage, changed=set(stage.ground.rows)))
        checker.silent(stage)


@family("F36", "a disk that somebody else fills up while rows are under way")
def disk_filled(stage: Stage) -> None:
    """What is under way is recorded with the room that was kept for it; nothing else is sent, and the run says why."""
    prepared(stage, 2000)
    stage.fake.latency = 0.2
    with _state_on(stage, "24m"):
        for _ in range(1 if stage.small else 3):
            wanted, filled = stage.fake.writes + stage.random.randint(1, 8), threading.Event()

            def fill(call: Call, moment: str, wanted: int = wanted, filled: threading.Event = filled) -> None:
                if call.number >= wanted and moment == "arrived" and not filled.is_set():
                    filled.set()
                    _fill(stage, stage.random.choice((0, 0, 4096, 30_000)))

            stage.fake.watch = fill
            mark = len(stage.fake.ledger)
            ended = stage.sync()
            _ended_badly(stage, ended, codes=(0, 1))
            stage.count("failed_runs", ended.code != 0)
            (stage.state / "ballast").unlink(missing_ok=True)
            _all_recorded(stage, mark, checker.heal(stage, changed=set(stage.ground.rows)))
            stage.ground.change(1500)
            stage.ground.put()
            stage.cycles += 1
        checker.silent(stage)


def _all_recorded(stage: Stage, mark: int, next_run: Ended) -> None:
    _unrecorded(stage, mark, next_run)
    if stage.figures["sent_unrecorded"]:
        stage.wrong("I3", f"{stage.figures['sent_unrecorded']:.0f} rows were sent that could not be recorded")


@family("F31", "EIO and ENOSPC from the k-th write, sync or truncation")
def disk_errors(stage: Stage) -> None:
    strace = needs("strace", "strace")
    prepared(stage)
    for _ in range(2 if stage.small else 4):
        mark = len(stage.fake.ledger)
        names, most = stage.random.choice(
            (("pwrite64", 120), ("fdatasync,fsync", 6), ("ftruncate", 2), ("openat", 900))
        )
        error = stage.random.choice(("EIO", "ENOSPC") if names != "openat" else ("EMFILE",))
        nth = 1 + int(most * stage.random.random() ** 2)
        inject = f"inject={names}:error={error}:when={nth}{'+' if stage.random.random() < 0.5 else ''}"
        ended = stage.sync(
            prefix=(strace, "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null", "-e", f"trace={names}", "-e", inject)
        )
        started = ended.document() is not None or names != "openat"  # Python itself can't start without its files
        if started:
            _ended_badly(stage, ended, codes=(0, 1, 6, 2))
        next_run = checker.heal(stage, changed=set(stage.ground.rows))
        _unrecorded(stage, mark, next_run)
        stage.ground.change(900)
        stage.ground.put()
        stage.cycles += 1
    settled(stage)


@family("F32", "few file handles, little memory")
def limits(stage: Stage) -> None:
    prlimit = needs("prlimit", "util-linux")
    prepared(stage)
    every = ("--nofile=24", "--nofile=40", "--as=900000000", "--fsize=300000")
    for limit in stage.random.sample(every, 2) if stage.small else every:
        mark = len(stage.fake.ledger)
        ended = stage.sync(prefix=(prlimit, limit))
        if ended.document() is not None:
            _ended_badly(stage, ended, codes=(0, 1, 2, 6))
        _unrecorded(stage, mark, checker.heal(stage, changed=set(stage.ground.rows)))
        stage.ground.change(900)
        stage.ground.put()
        stage.cycles += 1
    settled(stage)


def _print(folder: Path) -> dict[str, str]:
    """A print of every file that holds what is remembered."""
    files = [
        path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock" and path.name[-4:] != "-shm"
    ]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _flipped(path: Path, stage: Stage) -> None:
    """Some bytes in a row are others: mostly near the beginning, where a file says what it is."""
    content = bytearray(path.read_bytes())
    at = stage.random.randrange(min(len(content), 4096))
    for place in range(at, min(at + 400, len(content))):
        content[place] ^= 0xFF
    path.write_bytes(content)


def _cut(path: Path, stage: Stage) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * stage.random.choice((0.0, 0.3, 0.7)))])


def _random(path: Path, stage: Stage) -> None:
    path.write_bytes(stage.random.randbytes(path.stat().st_size))


def _gone(path: Path, stage: Stage) -> None:
    path.unlink()


HARMS: tuple[Callable[[Path, Stage], None], ...] = (_flipped, _cut, _random, _gone)


@family("F33", "state damaged: bytes flipped, cut, random, gone")
def damaged(stage: Stage) -> None:
    """An error that asks, files left alone, no call made, nothing deleted; put back, everything goes on."""
    prepared(stage)
    whole = stage.state.with_name("whole")
    shutil.copytree(stage.state, whole)
    for name in ("state.db", "snapshots/people.duckdb", "project.json"):
        for harm in stage.random.sample(HARMS, 1 if stage.small else 2):
            if name == "project.json" and harm is _gone:
                continue  # its absence is that of a first run, if everything else is absent, too
            harm(stage.state / name, stage)
            before, calls = _print(stage.state), len(stage.fake.calls)
            ended = stage.sync()
            _accepted(stage, ended, f"{name} {harm.__name__}", calls, before)
            shutil.rmtree(stage.state)
            shutil.copytree(whole, stage.state)
            stage.cycles += 1
    settled(stage)


def _accepted(stage: Stage, ended: Ended, what: str, calls: int, before: dict[str, str]) -> None:
    if ended.code == 0 and len(stage.fake.calls) - calls <= 15 and "flipped" in what:
        stage.count("harmless", 1)  # the bytes that changed held nothing
        shutil.rmtree(stage.state.with_name("whole"))
        shutil.copytree(stage.state, stage.state.with_name("whole"))
        checker.converged(stage)
        return
    if ended.code != 6:
        stage.wrong("I2", f"{what}: not refused with 6 but {ended.code}: {ended.out[-300:]} {ended.err[-300:]}")
    if len(stage.fake.calls) > calls:
        stage.wrong("I2", f"{what}: {len(stage.fake.calls) - calls} calls on damaged state")
    after = _print(stage.state)
    changed = [name for name, content in before.items() if after.get(name) != content]
    if changed:
        stage.wrong("I2", f"{what}: files were not left alone: {changed}")


@family("F34", "state older than the destination: a copy put back; two halves of different times")
def older(stage: Stage) -> None:
    """An old copy as a whole only sends again what came since; halves of two times are refused."""
    stage.ground.add(1200)
    stage.ground.put()
    stage.sync()
    old = stage.state.with_name("old")
    shutil.copytree(stage.state, old)
    stage.ground.change(400)
    stage.ground.put()
    stage.sync()
    new = stage.state.with_name("new")
    shutil.copytree(stage.state, new)
    for half in ("state.db", "snapshots/people.duckdb"):
        shutil.copy(old / half, stage.state / half)
        calls = len(stage.fake.calls)
        ended = stage.sync()
        if ended.code != 6 or len(stage.fake.calls) > calls:
            stage.wrong("I2", f"an older {half} beside a newer rest ended with {ended.code}: {ended.out[-300:]}")
        shutil.rmtree(stage.state)
        shutil.copytree(new, stage.state)
        stage.cycles += 1
    shutil.rmtree(stage.state)
    shutil.copytree(old, stage.state)
    mark = len(stage.fake.ledger)
    stage.sync()
    again = {entry.key for entry in stage.fake.ledger[mark:]}
    stage.most("sent_again", len(again))
    if len(again) > 400:
        stage.wrong("I3", f"an older copy of 400 changes made {len(again)} rows go out again")
    stage.cycles += 1
    checker.converged(stage)
    settled(stage)


@family("F35", "state that can't be written; the folder of another user")
def read_only(stage: Stage) -> None:
    """Bound read-only, since permissions don't hold back root."""
    needs("mount", "mount")
    prepared(stage)
    bound = subprocess.run(["mount", "--bind", str(stage.state), str(stage.state)], capture_output=True, check=False)
    if bound.returncode:
        raise NotHere("nothing can be mounted: only root may")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(stage.state)], check=True)
        calls = len(stage.fake.calls)
        ended = stage.sync()
        if ended.code not in (1, 6) or any(call.number for call in stage.fake.calls[calls:]):
            stage.wrong("I2", f"read-only state: ended with {ended.code} after calls: {ended.out[-300:]}")
        if (ended.run.get("error") or {}).get("code") == "bug" or "Traceback" in ended.err:
            stage.wrong("I10", f"read-only state is told as {ended.run.get('error')} {ended.err[-200:]}")
        dry = stage.sync("--dry-run")
        if dry.code not in (0, 3):
            stage.wrong("I10", f"a dry run on read-only state ended with {dry.code}: {dry.out[-300:]} {dry.err[-200:]}")
        stage.cycles += 2
    finally:
        subprocess.run(["umount", "-l", str(stage.state)], check=True)
    settled(stage)
