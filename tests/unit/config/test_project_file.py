from __future__ import annotations

from pathlib import Path

import pytest

from reverse_etl.config.project import SourceConfig
from tests.project_folder import PROJECT, ProjectFolder


def with_url(project: ProjectFolder, url: str) -> SourceConfig:
    project.write("reverse_etl.yml", PROJECT.replace("duckdb:///warehouse.duckdb", url))
    project.sync()
    return project.load()[0].sources["warehouse"]


@pytest.mark.parametrize(
    ("url", "absolute"),
    [
        ("duckdb:///warehouse.duckdb", "duckdb:///{root}/warehouse.duckdb"),
        ("duckdb:///data/w.duckdb?access_mode=read_only", "duckdb:///{root}/data/w.duckdb?access_mode=read_only"),
        ("duckdb:////data/w.duckdb", "duckdb:////data/w.duckdb"),
        ("'duckdb:///:memory:'", "duckdb:///:memory:"),
        ("duckdb:///md:mine", "duckdb:///md:mine"),
        ("duckdb://", "duckdb://"),
        ("sqlite+pysqlite:///my data.db", "sqlite+pysqlite:///{root}/my data.db"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
    ],
)
def test_a_relative_file_is_relative_to_the_project_file(project: ProjectFolder, url: str, absolute: str) -> None:
    expected = absolute.format(root=project.root)
    assert with_url(project, url).url.get_secret_value() == expected


@pytest.mark.parametrize(
    ("url", "dialect"), [("duckdb:///w", "duckdb"), ("PostgreSQL+psycopg://h/d", "postgresql"), ("sqlite://", "sqlite")]
)
def test_a_source_knows_the_dialect_that_finds_its_connector(project: ProjectFolder, url: str, dialect: str) -> None:
    assert with_url(project, url).dialect == dialect


@pytest.mark.parametrize("url", ["warehouse.duckdb", "postgres:u:hunter2@h", "'://hunter2'", "hunter2", "'1x://a'"])
def test_a_url_that_is_none_is_an_error_that_does_not_show_it(project: ProjectFolder, url: str) -> None:
    project.write("reverse_etl.yml", PROJECT.replace("duckdb:///warehouse.duckdb", url))
    project.sync()
    assert project.complaints() == [
        "reverse_etl.yml:3:10: should be a SQLAlchemy URL such as "
        "duckdb:///warehouse.duckdb or postgresql+psycopg://user@host/database"
    ]


def test_a_file_url_with_two_slashes_is_an_error(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT.replace("duckdb:///w", "duckdb://w"))
    project.sync()
    assert project.complaints() == [
        "reverse_etl.yml:3:10: a file needs three slashes, four when its path is absolute: duckdb:///folder/file"
    ]


def test_external_access_is_for_duckdb_alone(project: ProjectFolder) -> None:
    lines = "url: postgresql://h/d\n    external_access: true"
    project.write("reverse_etl.yml", PROJECT.replace("url: duckdb:///warehouse.duckdb", lines))
    project.sync()
    assert project.complaints() == ["reverse_etl.yml:4:22: is only for DuckDB: leave it out (found: true)"]


def test_external_access_may_come_from_a_variable(project: ProjectFolder) -> None:
    project.env = {"OPEN": "true"}
    lines = "url: duckdb:///w\n    external_access: ${OPEN}"
    project.write("reverse_etl.yml", PROJECT.replace("url: duckdb:///warehouse.duckdb", lines))
    project.sync()
    assert project.load()[0].sources["warehouse"].external_access is True


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("sorces: {}", "10:1: there is no key `sorces` here (found: sorces); did you mean 'sources'?"),
        ("x: 1", "10:1: there is no key `x` here; there are sources, destinations, state, "),
        ("state: sqlite:///s.db", "10:8: should be keys with values (found: sqlite:///s.db)"),
        ("state: {values: kept}", "10:17: should be keep or hashes (found: kept); did you mean 'keep'?"),
        ("state: {url: 'sqlite://'}", "10:14: should name a file: a state in memory would be forgotten after the run"),
        ("state: {url: 'sqlite:///:memory:'}", "10:14: should name a file: a state in memory"),
        ("state: {url: 'mysql://u:hunter2@h/d'}", "10:14: should be SQLite (sqlite:///.reverse_etl/state.db) or "),
        ("state: {ulr: 'sqlite:///s'}", "10:9: there is no key `ulr` here (found: ulr); did you mean 'url'?"),
        ("defaults: {timezone: Europe/Berln}", "10:22: should be a time zone of the IANA list, such as Europe/Berlin"),
        ("defaults: {schedule: null}", "10:12: has no value: give it one, or leave the key out (found: schedule)"),
        ("defaults: {query: select 1}", "10:12: there is no key `query` here; there are after_failure, "),
        ("defaults: {timezone: '${TZ:-UTC}'}", "10:22: variables are only read in the connections and the state"),
    ],
)
def test_P46_what_is_wrong_in_the_project_file_has_its_place(project: ProjectFolder, written: str, said: str) -> None:
    project.write("reverse_etl.yml", PROJECT + "# more\n\n" + written + "\n")
    project.sync()
    (complaint,) = project.complaints()
    assert complaint.startswith(f"reverse_etl.yml:{said}")
    assert "hunter2" not in complaint


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("type: crn", "6:12: no connector named 'crn' is installed (installed: crm) (found: crn)"),
        ("token: x", "5:3: `type` is missing here: one of hubspot, salesforce (found: crm)"),
        ("type: 5", "6:12: should be one of hubspot, salesforce (found: 5)"),
        ("type: crm, token: 5", "6:24: should be text (quote it to make it so)"),
        ("type: crm, token: [hunter2]", "6:17: should be text (quote it to make it so) (found: token)"),
        (
            "type: crm, tokn: hunter2, token: x",
            "6:17: there is no key `tokn` here (found: tokn); did you mean",
        ),
        ("type: crm", "5:3: give a `token` or a `login` (found: crm)"),
        ("type: crm, token: x, calls: many", "6:34: should be a whole number (found: many)"),
        ("type: crm, token: x, calls: null", "6:34: has no value: give it one, or leave the key out (found: null)"),
        (
            "type: crm, token: x, bulk_from: sometimes",
            "6:38: should be a whole number, or never or always (found: sometimes)",
        ),
        ("type: crm, login: {how: kee, key: x}", "6:30: should be key or password (found: kee); did you mean 'key'?"),
        ("type: crm, login: {key: x}", "6:17: `how` is missing (found: login)"),
        ("type: crm, login: {how: key, key: 5}", "6:40: should be text (quote it to make it so)"),
        ("type: crm, login: {how: key}", "6:17: `key` is missing here (found: login)"),
        ("type: crm, login: {how: password, usr: u, password: p, user: u}", "6:40: there is no key `usr` here"),
        ("type: crm, token: x, base_url: http://example.com", "6:37: should start with https://; http:// is only for "),
    ],
)
def test_P46_what_is_wrong_in_a_connection_has_its_place(project: ProjectFolder, written: str, said: str) -> None:
    start, _, _ = PROJECT.partition("    type: crm")
    project.write("reverse_etl.yml", f"{start}    {{{written}}}\n")
    project.sync()
    (complaint,) = project.complaints()
    assert complaint.startswith(f"reverse_etl.yml:{said}")
    assert "hunter2" not in complaint


def test_S08_a_connection_has_a_plain_name(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT.replace("  warehouse:", "  Ware House:"))
    project.sync({"source": "source: Ware House"})
    assert project.complaints() == [
        "reverse_etl.yml:2:3: a name is made of a-z, 0-9, _ and -, begins with a letter or digit, "
        "and has at most 63 of them (found: Ware House)"
    ]


def test_a_section_that_is_no_section_is_an_error(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", "sources: [a]\ndestinations: {crm: yes please}\n")
    project.sync()
    assert project.complaints()[:2] == [
        "reverse_etl.yml:1:1: should be keys with values (found: sources)",
        "reverse_etl.yml:2:21: should be keys with values, among them `type` (found: yes please)",
    ]


def test_state_is_kept_beside_the_project_by_default(project: ProjectFolder) -> None:
    config, _ = project.load()
    assert config.state.url.get_secret_value() == f"sqlite:///{project.root}/.reverse_etl/state.db"


def test_the_environment_moves_the_state(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "state: {url: '${UNSET}', values: keep}\n")
    project.env = {"REVERSE_ETL_STATE_URL": "sqlite:///elsewhere.db"}
    config, _ = project.load()
    assert config.state.url.get_secret_value() == f"sqlite:///{project.root}/elsewhere.db"


def test_a_wrong_state_url_in_the_environment_names_the_variable(project: ProjectFolder) -> None:
    project.env = {"REVERSE_ETL_STATE_URL": "redis://hunter2"}
    assert project.complaints() == [
        "REVERSE_ETL_STATE_URL: should be SQLite (sqlite:///.reverse_etl/state.db) or PostgreSQL (postgresql+psycopg://...)"
    ]


def test_no_secret_shows_in_what_is_loaded(project: ProjectFolder) -> None:
    project.env = {"CRM_TOKEN": "hunter2"}
    project.write("reverse_etl.yml", PROJECT.replace("duckdb:///warehouse.duckdb", "postgresql://u:hunter2@h/d"))
    project.sync()
    assert "hunter2" not in repr(project.load())


def test_a_project_without_its_file_is_an_error(tmp_path: Path, project: ProjectFolder) -> None:
    (tmp_path / "reverse_etl.yml").unlink()
    assert project.complaints() == ["reverse_etl.yml: this isn't a file that can be read"]
