from __future__ import annotations

import stat
from pathlib import Path

import pytest

from reverse_etl.config.files import load
from reverse_etl.config.scaffold import init
from reverse_etl.errors import ConfigError

FILES = ["reverse_etl.yml", "syncs/example.yml", ".gitignore", ".env.example", "README.md"]


def test_a_new_project_loads_as_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "project"
    assert [path.relative_to(folder).as_posix() for path in init(folder)] == FILES
    config, syncs = load(folder, {}, connections_of_all=True)
    assert config.destinations["hubspot"].model_dump()["base_url"] == "http://127.0.0.1:8750"
    assert config.sources["warehouse"].url.get_secret_value() == "duckdb:///:memory:"
    assert syncs["example"].match == "email"


def test_the_example_for_variables_sets_variables_that_are_used(tmp_path: Path) -> None:
    init(tmp_path)
    used = (tmp_path / "reverse_etl.yml").read_text()
    lines = (tmp_path / ".env.example").read_text().splitlines()
    names = [line.removeprefix("# ").partition("=")[0] for line in lines if "=" in line]
    assert names
    assert all(f"${{{name}:-" in used for name in names)


@pytest.mark.parametrize("taken", ["reverse_etl.yml", "syncs/example.yml"])
def test_no_file_of_a_project_is_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / "syncs").mkdir()
    (tmp_path / taken).write_text("mine")
    with pytest.raises(ConfigError, match="this file is there already; init never overwrites one") as failure:
        init(tmp_path)
    assert [problem.file for problem in failure.value.problems] == [taken]
    assert failure.value.hint == "choose an empty folder: `reverse-etl init DIR`"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / taken]


def test_files_of_the_repository_around_a_project_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    written = init(tmp_path)
    assert tmp_path / "README.md" not in written
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "reverse_etl.yml").symlink_to(tmp_path / "elsewhere.yml")
    with pytest.raises(ConfigError):
        init(tmp_path)
    assert not (tmp_path / "elsewhere.yml").exists()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be written: "):
        init(tmp_path / "file" / "project")


def test_the_files_are_plain_files(tmp_path: Path) -> None:
    assert all(not path.stat().st_mode & stat.S_IXUSR for path in init(tmp_path))
