"""A state in one file: a tar of `manifest.json`, `project.json`, `state.db` and `snapshots/NAME.duckdb`.

The manifest comes first, and has the size and the digest of every other member. What isn't in it isn't taken out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from reverse_etl import clock
from reverse_etl.errors import StateError

FORMAT = 1
STORE, PROJECT, MANIFEST = "state.db", "project.json", "manifest.json"
MOST_MANIFEST_BYTES = 16 * 1024 * 1024
_SNAPSHOT = re.compile(r"snapshots/[a-z0-9][a-z0-9_-]{0,62}\.duckdb")


def write(sink: IO[bytes], members: Mapping[str, Path], syncs: Sequence[str], now: datetime) -> None:
    """The files under their names; nothing may change them meanwhile."""
    manifest = {
        "format": FORMAT,
        "made_at": clock.text(now),
        "syncs": list(syncs),
        "files": {name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in members.items()},
    }
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        body = json.dumps(manifest, indent=2).encode()
        told = tarfile.TarInfo(MANIFEST)
        told.size, told.mode = len(body), 0o600
        archive.addfile(told, _Bytes(body))
        for name, path in members.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o600
            with path.open("rb") as content:
                archive.addfile(entry, content)


def extract(source: Path, folder: Path) -> dict[str, Any]:
    """Every member, held against the manifest's digests; anything else in the archive is refused. Gives the manifest.

    Raises StateError, or what tarfile and the disk say.
    """
    with tarfile.open(source, "r:") as archive:
        manifest = _manifest(archive)
        for name, told in manifest["files"].items():
            if name not in (PROJECT, STORE) and _SNAPSHOT.fullmatch(name) is None:
                raise _not_ours(f"it holds {name!r}")
            content = archive.extractfile(_member(archive, name))
            if content is None:
                raise _not_ours(f"{name} is no file in it")
            with content, new_file(folder / name) as sink:
                shutil.copyfileobj(content, sink, 1024 * 1024)
            if (folder / name).stat().st_size != told["bytes"] or _digest(folder / name) != told["sha256"]:
                raise _not_ours(f"{name} in it is damaged")
    return manifest


def _manifest(archive: tarfile.TarFile) -> dict[str, Any]:
    member = _member(archive, MANIFEST)
    content = archive.extractfile(member) if member.size <= MOST_MANIFEST_BYTES else None
    try:
        manifest: dict[str, Any] = json.loads(content.read() if content is not None else b"")
        newer = int(manifest["format"]) > FORMAT
        complete = {PROJECT, STORE} <= manifest["files"].keys() and isinstance(manifest["syncs"], list)
        complete &= all(int(told["bytes"]) >= 0 and str(told["sha256"]) for told in manifest["files"].values())
        clock.parse(manifest["made_at"])
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise _not_ours("its manifest can't be read") from failure
    if newer:
        hint = "upgrade reverse-etl; the state was left as it is"
        raise StateError("the archive was written by a newer release", code="state_newer", hint=hint)
    if not complete:
        raise _not_ours("it is not complete")
    return manifest


def _member(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    try:
        return archive.getmember(name)
    except KeyError as failure:
        raise _not_ours(f"it has no {name}") from failure


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file that only its owner can read, on disk when this ends."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


class _Bytes:
    """Bytes as the file that tarfile reads from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int = -1, /) -> bytes:
        part, self._content = self._content[:size], self._content[size:]
        return part


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_ours(why: str) -> StateError:
    hint = "take another backup; the state was left as it is"
    return StateError(f"the archive can't be used: {why}", code="state_archive", hint=hint)
