from __future__ import annotations

import pytest

from reverse_etl.config.variables import parse_dotenv
from tests.project_folder import PROJECT, ProjectFolder

CONNECTION = """\
sources:
  warehouse: {url: "duckdb:///w.duckdb"}
destinations:
  crm:
    type: crm
    token: %s
"""


def token(project: ProjectFolder, written: str) -> str:
    project.write("reverse_etl.yml", CONNECTION % written)
    project.sync()
    settings = project.load()[0].destinations["crm"]
    secret = settings.model_dump()["token"]
    return str(secret.get_secret_value())


@pytest.mark.parametrize(
    ("written", "env", "value"),
    [
        ("${T}", {"T": "abc"}, "abc"),
        ("a-${T}-${U:-u}", {"T": "t"}, "a-t-u"),
        ("${T:-fallback}", {"T": "set"}, "set"),
        ("${T:-fallback}", {"T": ""}, "fallback"),
        ("${T:-http://x:1/?a=b}", {}, "http://x:1/?a=b"),
        ('"${T:-}x"', {}, "x"),
        ("$T and $$", {"T": "no"}, "$T and $$"),
        ("${T}", {"T": "012"}, "012"),
        ("${T}", {"T": "no"}, "no"),
        ("${T}", {"T": "a: b\n- c # d"}, "a: b\n- c # d"),
    ],
)
def test_S10_a_variable_is_put_in_as_text(
    project: ProjectFolder, written: str, env: dict[str, str], value: str
) -> None:
    project.env = env
    assert token(project, written) == value


def test_S10_what_a_variable_holds_is_not_read_for_variables_again(project: ProjectFolder) -> None:
    project.env = {"T": "${U}", "U": "never"}
    assert token(project, "${T}") == "${U}"


def test_P48_an_unset_variable_is_named_with_its_place(project: ProjectFolder) -> None:
    project.env = {"CRM_TOKEN": "x"}
    project.write("reverse_etl.yml", CONNECTION % "${CRM_TOKN}")
    project.sync()
    assert project.complaints() == [
        "reverse_etl.yml:6:12: the variable CRM_TOKN is not set: set it in the environment or in .env "
        "(found: ${CRM_TOKN}); did you mean 'CRM_TOKEN'?"
    ]


def test_P48_an_empty_variable_is_as_bad_as_an_unset_one(project: ProjectFolder) -> None:
    project.env = {"T": ""}
    project.write("reverse_etl.yml", CONNECTION % "${T}")
    project.sync()
    assert project.complaints() == [
        "reverse_etl.yml:6:12: the variable T is empty: give it a value, or write ${T:-} if that is meant (found: ${T})"
    ]


@pytest.mark.parametrize("written", ["${T", "${}", "${1A}", "${T:?x}", "${T:-${U}}", "${ T }"])
def test_a_variable_written_otherwise_is_an_error(project: ProjectFolder, written: str) -> None:
    project.env = {"T": "t", "U": "u"}
    project.write("reverse_etl.yml", CONNECTION % f'"{written}"')
    project.sync()
    assert project.complaints() == [
        "reverse_etl.yml:6:12: a variable should be written ${NAME} or ${NAME:-fallback}, with letters, digits and _"
    ]


def test_a_missing_variable_shows_nothing_of_what_stands_beside_it(project: ProjectFolder) -> None:
    project.write(
        "reverse_etl.yml", PROJECT.replace("duckdb:///warehouse.duckdb", "postgresql://me:hunter2@${HOST}/db")
    )
    project.sync()
    (complaint,) = project.complaints()
    assert "hunter2" not in complaint
    assert "found: ${HOST}" in complaint


def test_variables_of_connections_that_no_chosen_sync_uses_need_not_be_set(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "  other:\n    type: crm\n    token: ${OTHER}\n")
    project.sync()
    project.sync({"destination": "destination: other"}, name="elsewhere")
    config, syncs = project.load(only=["people"])
    assert (list(config.destinations), list(syncs)) == (["crm"], ["people"])
    assert [problem.line for problem in project.problems()] == [10]
    assert [problem.line for problem in project.problems(only=["people"], connections_of_all=True)] == [10]


def test_a_disabled_sync_needs_its_variables_only_when_it_is_named(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "  other:\n    type: crm\n    token: ${OTHER}\n")
    project.sync({"destination": "destination: other"}, more="enabled: false")
    assert project.problems() == []
    assert [problem.line for problem in project.problems(only=["people"])] == [10]


@pytest.mark.parametrize("line", ["object: ${OBJECT}", "match: ${MATCH:-email}", "tags: ['${TAG}']"])
def test_S10_no_variable_is_read_in_a_sync_definition(project: ProjectFolder, line: str) -> None:
    project.env = {"OBJECT": "contacts", "TAG": "a"}
    project.sync({"object": None} if line.startswith("object") else {}, more=line)
    (problem,) = [found for found in project.problems() if "variable" in found.message]
    assert problem.message == "variables are only read in the connections and the state of reverse_etl.yml"
    assert problem.line == len(project.root.joinpath("syncs/people.yml").read_text().splitlines())


def test_S10_sql_and_constants_keep_what_looks_like_a_variable(project: ProjectFolder) -> None:
    project.env = {"X": "spliced"}
    project.sync({"query": "query: select '${X}' as email, plan from t"}, more="  note: {value: '${X}'}")
    sync = project.only()
    assert sync.sql == "select '${X}' as email, plan from t"
    assert sync.mapping["note"].value == "${X}"


def test_the_environment_beats_the_dotenv_file(project: ProjectFolder) -> None:
    project.write(".env", "T=from-file\n")
    assert token(project, "${T}") == "from-file"
    project.env = {"T": "from-environment"}
    assert token(project, "${T}") == "from-environment"


def test_a_dotenv_file_takes_quotes_comments_and_export() -> None:
    text = "\n".join(
        [
            "# a comment",
            "",
            "PLAIN=a b#c  # why",
            "export EXPORTED = x",
            "SINGLE='a # b \\n'",
            'DOUBLE="line\\nnext \\"q\\" \\\\ \\$"  # why',
            "EMPTY=",
            "EMPTY_TOO=# nothing",
            "URL=postgresql://u:p@h/d?x=1",
        ]
    )
    values, problems = parse_dotenv(text, ".env")
    assert problems == []
    assert values == {
        "PLAIN": "a b#c",
        "EXPORTED": "x",
        "SINGLE": "a # b \\n",
        "DOUBLE": 'line\nnext "q" \\ $',
        "EMPTY": "",
        "EMPTY_TOO": "",
        "URL": "postgresql://u:p@h/d?x=1",
    }


def test_a_broken_dotenv_file_is_an_error_that_shows_no_value(project: ProjectFolder) -> None:
    project.sync()
    project.write(".env", 'hunter2\nA=\'hunter2\n  B="hunter2" hunter2\n1C=hunter2\n')
    assert project.complaints() == [
        ".env:1:1: should be NAME=value, with a name of letters, digits and _",
        ".env:2:3: this value's quote isn't closed on its line (found: A)",
        ".env:3:5: something follows this value's closing quote: quote the whole value (found: B)",
        ".env:4:1: should be NAME=value, with a name of letters, digits and _",
    ]


def test_a_dotenv_file_that_cannot_be_read_is_an_error(project: ProjectFolder) -> None:
    project.sync()
    project.write(".env", b"A=\xff\n")
    assert project.complaints() == [".env:1:3: this file isn't UTF-8: save it in that encoding (found: byte 0xff)"]
