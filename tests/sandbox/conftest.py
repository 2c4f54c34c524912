"""A scene for every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.scene import Scene, scene_in


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A fresh project and a fresh sandbox."""
    with scene_in(tmp_path) as ready:
        yield ready
