from __future__ import annotations

from pathlib import Path

import pytest

from reverse_etl.config.files import find_root, sync_files
from reverse_etl.config.tree import MAX_PROBLEMS
from reverse_etl.errors import ConfigError
from tests.project_folder import PROJECT, ProjectFolder


def test_P46_all_problems_of_a_project_are_listed_at_once_in_order(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "stat: {}\n")
    project.write(".env", "oops\n")
    project.sync({"source": "source: warehose"})
    project.sync({"key": "key: 012"}, name="b")
    project.write("syncs/c.yml", "a: [\n")
    assert [(problem.file, problem.line) for problem in project.problems()] == [
        (".env", 1),
        ("reverse_etl.yml", 8),
        ("syncs/b.yml", 3),
        ("syncs/c.yml", 1),
        ("syncs/people.yml", 1),
    ]


def test_a_broken_project_file_hides_no_problem_of_a_definition(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", "sources: [\n")
    project.sync(more="mode: upsrt")
    assert [problem.file for problem in project.problems()] == ["reverse_etl.yml", "syncs/people.yml"]


def test_a_broken_destination_hides_no_problem_of_a_definition(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT.replace("type: crm", "type: cmr"))
    project.sync(more="match: emial")
    assert [(problem.file, problem.text) for problem in project.problems()] == [
        ("reverse_etl.yml", "cmr"),
        ("syncs/people.yml", "emial"),
    ]


def test_a_problem_says_itself_as_json(project: ProjectFolder) -> None:
    project.sync({"source": "source: warehose"})
    (problem,) = project.problems()
    assert problem.to_json() == {
        "file": "syncs/people.yml",
        "line": 1,
        "column": 9,
        "text": "warehose",
        "message": "reverse_etl.yml has no source `warehose`; it has warehouse",
        "nearest": "warehouse",
    }


def test_only_the_named_syncs_are_read(project: ProjectFolder) -> None:
    project.sync()
    project.write("syncs/broken.yml", "a: [\n")
    assert list(project.load(only=["people"])[1]) == ["people"]
    assert list(project.load(only=[])[1]) == []
    assert [problem.file for problem in project.problems()] == ["syncs/broken.yml"]


def test_a_sync_that_is_not_there_gets_the_nearest_name(project: ProjectFolder) -> None:
    project.sync()
    assert project.complaints(only=["peple"]) == [
        "syncs/peple.yml: there is no such sync; the project has people (found: peple); did you mean 'people'?"
    ]


def test_for_a_name_that_no_file_has_the_advice_is_not_to_correct_files(project: ProjectFolder) -> None:
    project.sync()
    with pytest.raises(ConfigError) as refusal:
        project.load(only=["peple"])
    assert refusal.value.hint == "name one of the project's syncs; `reverse-etl status` lists them"
    project.write("syncs/people.yml", "a: [\n")
    with pytest.raises(ConfigError, match="peple") as refusal:
        project.load(only=["peple", "people"])
    assert "correct these" in str(refusal.value.hint)


def test_a_project_without_syncs_says_so_when_one_is_named(project: ProjectFolder) -> None:
    assert project.load()[1] == {}
    assert project.complaints(only=["people"]) == [
        "syncs/people.yml: there is no such sync; syncs/ holds none (found: people)"
    ]


@pytest.mark.parametrize("name", ["People", "-people", "a b", "x" * 64, "pe.ople"])
def test_S08_a_sync_has_a_plain_name(project: ProjectFolder, name: str) -> None:
    project.sync(name=name)
    (complaint,) = project.complaints()
    assert complaint.startswith(f"syncs/{name}.yml: a name is made of a-z, 0-9, _ and -")
    assert complaint.endswith(f"rename the file (found: {name}.yml)")


def test_S08_a_sync_behind_a_link_stays_inside_the_project(tmp_path: Path) -> None:
    outside = ProjectFolder(tmp_path / "outside")
    project = ProjectFolder(tmp_path / "project")
    (project.root / "syncs").mkdir()
    (project.root / "syncs/people.yml").symlink_to(outside.sync())
    assert project.complaints() == ["syncs/people.yml: this is a link that leaves the project's folder"]


def test_S08_a_named_sync_cannot_lead_out_of_its_folder(project: ProjectFolder) -> None:
    project.write("outside.yml", "a: 1")
    assert project.complaints(only=["../outside"]) == [
        "syncs/../outside.yml: there is no such sync; syncs/ holds none (found: ../outside)"
    ]


def test_a_definition_that_would_be_passed_over_is_an_error(project: ProjectFolder) -> None:
    project.write("syncs/people.yaml", "")
    project.write("syncs/.people.yml.swp", "")
    project.write("syncs/.hidden.yml", "")
    project.write("syncs/people.sql", "")
    assert project.complaints() == [
        "syncs/people.yaml: a definition's file ends in .yml: rename it to people.yml (found: people.yaml)"
    ]


def test_sync_files_are_found_without_being_read(project: ProjectFolder) -> None:
    project.write("syncs/b.yml", "[")
    project.write("syncs/a.yml", "[")
    assert sync_files(project.root) == {name: project.root / f"syncs/{name}.yml" for name in ("a", "b")}


def test_syncs_that_wait_for_each_other_are_named_once(project: ProjectFolder) -> None:
    project.sync(name="a", more="schedule: {after: b}")
    project.sync(name="b", more="schedule: {after: c}")
    project.sync(name="c", more="schedule: {after: [a, d]}")
    project.sync(name="d")
    project.sync(name="x", more="schedule: {after: y}")
    project.sync(name="y", more="schedule: {after: x}")
    assert project.complaints() == [
        "syncs/a.yml:9:19: these syncs wait for each other: a, b, c (found: b)",
        "syncs/x.yml:9:19: these syncs wait for each other: x, y (found: y)",
    ]


def test_P46_nothing_is_written_when_a_project_is_read(project: ProjectFolder) -> None:
    project.sync()
    before = sorted(project.root.rglob("*"))
    project.load()
    assert sorted(project.root.rglob("*")) == before


def test_the_project_is_the_nearest_folder_upwards(project: ProjectFolder) -> None:
    below = project.root / "a" / "b"
    below.mkdir(parents=True)
    assert find_root(below, {}) == project.root
    assert find_root(project.root, {}) == project.root


def test_a_flag_beats_the_environment_beats_the_folder(tmp_path: Path) -> None:
    here, named, flagged = (ProjectFolder(tmp_path / name).root for name in ("here", "named", "flagged"))
    env = {"REVERSE_ETL_PROJECT": str(named)}
    assert find_root(here, {}) == here
    assert find_root(here, env) == named
    assert find_root(here, {"REVERSE_ETL_PROJECT": "../named"}) == named
    assert find_root(here, env, project=Path("../flagged")) == flagged


@pytest.mark.parametrize(
    ("env", "flag", "said"),
    [
        ({}, None, "reverse_etl.yml: there is no reverse_etl.yml in {here} or in any folder above"),
        ({"REVERSE_ETL_PROJECT": "nowhere"}, None, "reverse_etl.yml: nowhere holds no reverse_etl.yml"),
        ({}, Path("nowhere"), "reverse_etl.yml: nowhere holds no reverse_etl.yml"),
    ],
)
def test_no_project_is_an_error_with_a_remedy(
    tmp_path: Path, env: dict[str, str], flag: Path | None, said: str
) -> None:
    with pytest.raises(ConfigError) as failure:
        find_root(tmp_path, env, project=flag)
    assert str(failure.value) == said.format(here=tmp_path)
    assert failure.value.hint == "`reverse-etl init` makes a project; `--project DIR` names one that is elsewhere"


def test_a_connection_is_read_by_the_connector_that_is_installed(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT.replace("type: crm", "type: crm\n    base_url: http://127.0.0.1:8750/"))
    project.sync()
    settings = project.load()[0].destinations["crm"].model_dump()
    assert (settings["type"], settings["base_url"]) == ("crm", "http://127.0.0.1:8750")


def test_S09_a_definition_full_of_unknown_keys_lists_the_first_of_them(project: ProjectFolder) -> None:
    project.sync(more="\n".join(f"k{number}: 1" for number in range(5000)))
    problems = project.problems()
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1].message == "there is more; correct what is listed first"


def test_S09_a_definition_full_of_empty_keys_lists_the_first_of_them(project: ProjectFolder) -> None:
    project.sync(more="\n".join(f"  f{number}:" for number in range(5000)))
    assert MAX_PROBLEMS <= len(project.problems()) <= 2 * MAX_PROBLEMS + 1
