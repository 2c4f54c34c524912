"""What is installed is whole, and what it is built from is fixed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTBID = {"h11"}  # a newer httpcore, which httpx brings, asks for more than we do
ORCHESTRATED, DRIVERS = {"airflow.txt", "dagster.txt"}, {"psycopg"}  # their tests use the embedded state
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements" / lock).read_text(), re.MULTILINE))


def required() -> set[str]:
    wanted = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["postgres"]]
    return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in wanted}


def own_project() -> set[str]:
    """The repository's own project, which the demo runs."""
    return {"reverse_etl.yml", *(str(path.relative_to(ROOT)) for path in (ROOT / "syncs").iterdir())}


def test_the_wheel_holds_every_module_the_types_and_the_data_of_the_package(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "reverse_etl").rglob("*") if path.is_file()}
    assert "reverse_etl/py.typed" in names
    assert {name for name in files if "__pycache__" not in name} - names == set()
    assert {f"reverse_etl/demo/project/{each}" for each in own_project()} - names == set()
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.parametrize("lock", ["dev.txt", "oldest.txt", "image.txt", "airflow.txt", "dagster.txt"])
def test_a_lock_holds_every_dependency_with_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert required() - pinned(lock) - (DRIVERS if lock in ORCHESTRATED else set()) == set()
    assert "://" not in text
    assert "index" not in text
    blocks = re.split(r"^(?=[a-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_oldest_lock_is_the_low_end_of_the_ranges() -> None:
    text = (ROOT / "requirements" / "oldest.txt").read_text()
    for requirement in PYPROJECT["project"]["dependencies"]:
        name, low = re.match(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement).groups()  # type: ignore[union-attr]  # every range has a low end
        (release,) = re.findall(rf"^{re.escape(name)}==([0-9.]+)", text, re.MULTILINE)
        assert name in OUTBID or (release + ".0.0").startswith(low), requirement
