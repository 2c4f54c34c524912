"""A disk of which only what was synced is sure: a folder as a power cut would leave it, at any moment of a run.

The run is recorded by strace, every byte it writes included. Replaying the record up to a moment gives, for each file,
what its last fsync has put on the disk, and what was written since, of which any part may have arrived. Names are as
the last fsync of their folder has left them. What is mapped into memory isn't seen: of the state only SQLite's
shared index, which is made anew after a crash.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

BLOCK = 4096
UNSEEN = ("-shm",)
WRITES = "write,pwrite64,writev,pwritev,lseek,ftruncate,fallocate"
CALLS = f"open,openat,creat,{WRITES},fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat"
_LINE = re.compile(r"^(\d+) +([\d.]+) (\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(r"^(\d+) +[\d.]+ (\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +([\d.]+) <\.\.\. (\w+) resumed>(.*)\) += (-?\d+)")
_HANDLE = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

Names = Literal["sure", "all"]  # only those whose folder was synced, or those that the process saw last
Rest = Literal["none", "some", "all"]  # what has arrived of that which was written since the last fsync


def recording(strace: str, log: Path) -> list[str]:
    """The command before a command that is to be recorded."""
    quiet = [strace, "-f", "-qq", "--seccomp-bpf", "-y", "-xx", "-ttt", "-s", str(2**26)]
    return [*quiet, "-e", f"trace={CALLS}", "-o", str(log)]


@dataclass(frozen=True)
class Step:
    """A call to the system that has ended well, with what it was given, as strace tells it."""

    at: float  # by the machine's clock
    name: str
    arguments: str
    result: int


def steps(log: Path) -> Iterator[Step]:
    """In the order in which they ended."""
    begun: dict[str, str] = {}
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            if unfinished := _UNFINISHED.match(line.rstrip("\n")):
                begun[unfinished[1]] = unfinished[3]
            elif resumed := _RESUMED.match(line):
                yield Step(float(resumed[2]), resumed[3], begun.pop(resumed[1], "") + resumed[4], int(resumed[5]))
            elif whole := _LINE.match(line):
                yield Step(float(whole[2]), whole[3], whole[4], int(whole[5]))


@dataclass
class File:
    """What is sure, and what was done since: bytes at a place, or a new length."""

    sure: bytearray = field(default_factory=bytearray)
    since: list[tuple[int, bytes | None]] = field(default_factory=list)
    length: int = 0  # as the process sees it

    def write(self, at: int, content: bytes) -> None:
        self.since.append((at, content))
        self.length = max(self.length, at + len(content))

    def cut(self, length: int) -> None:
        self.since.append((length, None))
        self.length = length

    def sync(self) -> None:
        self.sure = self.after(None, 1.0)
        self.since = []

    def after(self, chance: random.Random | None, share: float) -> bytearray:
        """With this share of what was done since, block by block: a disk has an order of its own."""
        content = bytearray(self.sure)
        for at, part in self.since:
            for start, piece in [(at, None)] if part is None else _blocks(at, part):
                if chance is None or chance.random() < share:
                    _apply(content, start, piece)
        return content


@dataclass
class Platter:
    """A folder's files by their paths. What was there before the record began is sure."""

    folder: Path
    files: dict[str, File] = field(default_factory=dict)
    sure: dict[str, File] = field(default_factory=dict)  # by the names that are sure
    places: dict[int, int] = field(default_factory=dict)  # of open handles

    def __post_init__(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and not path.name.endswith(UNSEEN):
                content = path.read_bytes()
                self.files[str(path)] = File(bytearray(content), length=len(content))
        self.sure = dict(self.files)

    def take(self, step: Step) -> bool:
        """Replay one call. Returns whether something has become sure by it."""
        if step.result < 0:
            return False
        paths = [self._path(_decoded(found)) for found in _TEXT.findall(step.arguments)]
        if step.name.startswith("rename"):
            self._rename(paths[-2], paths[-1])
        elif step.name.startswith("unlink"):
            self.files.pop(paths[-1], None)
        elif step.name in ("open", "openat", "creat"):
            self._open(paths[-1], step)
        elif (handle := _HANDLE.match(step.arguments)) and not handle[3]:
            return self._touch(int(handle[1]), self._path(_decoded(handle[2])), step)
        return False

    def lay(self, target: Path, chance: random.Random, names: Names, rest: Rest) -> None:
        """The folder as it is found after the power has come back."""
        shutil.rmtree(target, ignore_errors=True)
        folders = [path for path in self.folder.rglob("*") if path.is_dir()]
        for folder in [self.folder, *folders]:
            (target / folder.relative_to(self.folder)).mkdir(mode=0o700, parents=True, exist_ok=True)
        share = {"none": 0.0, "some": 0.5, "all": 1.0}[rest]
        for name, file in (self.sure if names == "sure" else self.files).items():
            place = target / Path(name).relative_to(self.folder)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.write_bytes(file.after(chance, share))
            place.chmod(0o600)

    # --- one call ----------------------------------------------------------------------------------------------------

    def _path(self, raw: bytes) -> str:
        return str(self.folder.parent / raw.decode("utf-8", "replace"))

    def _inside(self, path: str) -> bool:
        return path.startswith(f"{self.folder}/") and not path.endswith(UNSEEN)

    def _rename(self, before: str, after: str) -> None:
        file = self.files.pop(before, None)
        if file is not None and self._inside(after):
            self.files[after] = file

    def _open(self, path: str, step: Step) -> None:
        self.places[step.result] = 0
        if not self._inside(path):
            return
        if "O_CREAT" in step.arguments and path not in self.files:
            self.files[path] = File()
        file = self.files.get(path)
        if file is not None and "O_TRUNC" in step.arguments:
            file.cut(0)
        if file is not None and "O_APPEND" in step.arguments:
            self.places[step.result] = file.length

    def _touch(self, handle: int, path: str, step: Step) -> bool:
        if step.name in ("fsync", "fdatasync"):
            return self._sync(path)
        file = self.files.get(path)
        if file is None:
            return False
        numbers = [int(found) for found in re.findall(r"(?<![\w\\])-?\d+(?![\w<])", _TEXT.sub("", step.arguments))]
        content = b"".join(_decoded(found) for found in _TEXT.findall(step.arguments))[: step.result]
        if step.name in ("pwrite64", "pwritev"):
            file.write(numbers[-1], content)
        elif step.name in ("write", "writev"):
            at = self.places.get(handle, 0)
            file.write(at, content)
            self.places[handle] = at + len(content)
        elif step.name == "lseek":
            self.places[handle] = step.result
        elif step.name == "ftruncate":
            file.cut(numbers[-1])
        elif step.name == "fallocate" and sum(numbers[-2:]) > file.length:
            file.cut(sum(numbers[-2:]))
        return False

    def _sync(self, path: str) -> bool:
        if path in self.files:
            self.files[path].sync()
            return True
        if path == str(self.folder) or self._inside(path):
            here = {name: file for name, file in self.files.items() if str(Path(name).parent) == path}
            elsewhere = {name: file for name, file in self.sure.items() if str(Path(name).parent) != path}
            self.sure = elsewhere | here
            return True
        return False


def _blocks(at: int, content: bytes) -> Iterator[tuple[int, bytes | None]]:
    end = at + len(content)
    while at < end:
        until = min(end, (at // BLOCK + 1) * BLOCK)
        yield at, content[: until - at]
        content, at = content[until - at :], until


def _apply(content: bytearray, at: int, piece: bytes | None) -> None:
    if piece is None:
        del content[at:]
    content.extend(bytes(max(0, at - len(content))))
    if piece is not None:
        content[at : at + len(piece)] = piece


def _decoded(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal.replace("\\x", ""))
