"""Files, mapping and warehouse that don't fit: a place, a remedy, the right exit code, and nothing written."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from reverse_etl import Project
from reverse_etl.errors import ConfigError
from tests.sandbox.scene import COMPANIES, LEADS, PEOPLE, Scene

ADA, BO = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2)


@pytest.fixture
def people(scene: Scene) -> Scene:
    scene.people(ADA, BO)
    scene.define()
    return scene


def problems(scene: Scene, *commands: str) -> list[dict[str, Any]]:
    """What `--json` prints of a project that can't be used."""
    code, document = scene.json(*commands or ("sync",))
    assert (code, document["runs"]) == (2, [])
    for problem in document["problems"]:
        assert set(problem) == {"file", "line", "column", "text", "message", "nearest"}
    found: list[dict[str, Any]] = document["problems"]
    return found


def field_problem(scene: Scene, **mapping: Any) -> dict[str, Any]:
    """A run's refusal of a mapping, before any write."""
    scene.define(mapping={**PEOPLE["mapping"], **mapping})  # type: ignore[dict-item]
    code, document = scene.json("sync")
    assert code == 2
    assert scene.records("contacts") == []
    found: dict[str, Any] = document
    return found


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("worksapces_total", "workspaces_total"),
        ("createdate", "can't be written"),
        ("hubspotscore", "can't be written"),
        ("hs_email_domain", "can't be written"),
    ],
)
def test_unknown_read_only_and_calculated_fields_are_exit_2_with_their_place(
    people: Scene, field: str, word: str
) -> None:
    document = field_problem(people, **{field: "workspaces"})
    (problem,) = document["problems"]
    assert (problem["file"], problem["text"]) == ("syncs/people.yml", field)
    assert problem["line"] > 0
    assert word in problem["message"] + str(problem["nearest"])
    shown = people.cli("sync")
    assert shown.returncode == 2
    assert "syncs/people.yml:" in shown.stdout + shown.stderr
    assert field in shown.stdout + shown.stderr


def test_a_column_that_the_query_does_not_give_is_exit_2_with_the_nearest(people: Scene) -> None:
    document = field_problem(people, lastname="fist_name")
    assert "first_name" in str(document)


def test_a_column_that_cannot_become_the_field_is_exit_2(people: Scene) -> None:
    assert "last_active_at" in str(field_problem(people, last_active_at="workspaces"))


def test_check_connect_finds_what_a_run_would_find(people: Scene) -> None:
    people.define(mapping={**PEOPLE["mapping"], "createdate": "first_name", "nope": "first_name", "city": "town"})  # type: ignore[dict-item]
    assert people.cli("check").returncode == 0
    found = problems(people, "check", "--connect")
    assert {problem["text"] for problem in found} >= {"createdate", "nope", "town"}
    assert all(problem["line"] > 1 and problem["column"] > 0 for problem in found)
    assert people.writes() == []


def test_check_connect_tells_the_warehouse_s_words_in_one_line(people: Scene) -> None:
    people.define(query="selec *\nfrom people")
    said = people.cli("check", "--connect")
    assert said.returncode == 2
    (told,) = [line for line in (said.stdout + said.stderr).splitlines() if "refused the query" in line]
    assert "\\n" not in told
    assert "^" not in told
    place = (people.folder / "syncs" / "people.yml").read_text().splitlines().index("query: 'selec *") + 1
    assert f"syncs/people.yml:{place}:1: " in told


def test_a_match_that_is_not_unique_is_refused(people: Scene) -> None:
    people.define(match="firstname")
    code, document = people.json("sync")
    assert code == 2
    assert "unique" in str(document)
    people.define(match="app_user_id")
    assert "app_user_id" in str(problems(people, "check"))


def test_all_problems_of_a_project_are_listed_at_once(scene: Scene) -> None:
    scene.define(PEOPLE, name="one", mode="upsrt", souce="x")
    scene.define(PEOPLE, name="two", destination="hubspt", key=None)
    scene.write_project(token="${NO_SUCH_VARIABLE}")
    found = problems(scene, "check")
    texts = {problem["text"] for problem in found}
    assert texts >= {"upsrt", "souce", "hubspt", "${NO_SUCH_VARIABLE}"}
    assert {problem["file"] for problem in found} == {"reverse_etl.yml", "syncs/one.yml", "syncs/two.yml"}
    assert {"upsert", "hubspot"} <= {problem["nearest"] for problem in found}
    assert scene.calls() == 0


def test_sync_of_one_name_needs_only_its_own_files(people: Scene) -> None:
    people.write("syncs/broken.yml", "key: [")
    assert people.json("sync", "people")[0] == 0
    assert people.json("sync")[0] == 2


def test_the_variables_of_connections_that_a_sync_does_not_use_may_be_unset(people: Scene) -> None:
    path = people.folder / "reverse_etl.yml"
    path.write_text(path.read_text().replace("sandbox-secret", "${NO_SUCH_VARIABLE}"))
    assert people.json("sync", "people")[0] == 0
    assert people.json("sync")[0] == 0


def test_a_variable_comes_from_the_environment_then_from_the_env_file_then_from_its_fallback(people: Scene) -> None:
    path = people.folder / "reverse_etl.yml"
    path.write_text(path.read_text().replace("sandbox-token", "${CRM_TOKEN:-wrong}"))
    assert people.json("sync", "people")[0] == 1
    people.write(".env", "CRM_TOKEN='sandbox-token'\n")
    assert people.json("sync", "people")[0] == 0
    people.people(("ada@x.example", "Adele", 1))
    assert people.json("sync", "people", CRM_TOKEN="also-wrong")[0] == 1


def test_a_variable_in_a_query_or_a_name_is_not_read(people: Scene) -> None:
    people.define(query="select email, '${HOME}' as first_name, workspaces from people")
    people.sync()
    assert people.contacts("firstname")["ada@x.example"] == "${HOME}"


def test_yaml_traps_are_refused_with_a_place(scene: Scene) -> None:
    text = yaml.safe_dump(PEOPLE, sort_keys=False)
    for trap in (text + "key: other\n", text.replace("email: email", "email: no"), text + "tags: [012]\n"):
        scene.write("syncs/people.yml", trap)
        (problem, *_) = problems(scene, "check")
        assert problem["line"] > 0, trap
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    scene.write("syncs/people.yml", bomb)
    assert problems(scene, "check")[0]["line"] > 0


@pytest.mark.parametrize("name", ["Upper", "with space", "-dash", "ünï", "x" * 64])
def test_S08_a_sync_s_name_is_plain(scene: Scene, name: str) -> None:
    scene.define(name=name)
    assert "name" in problems(scene, "check")[0]["message"]


# --- the warehouse ----------------------------------------------------------------------------------------------------


def test_P12_a_query_that_fails_half_way_moves_nothing(people: Scene) -> None:
    people.define(mode="mirror")
    people.sync()
    rows = "(select range as n from range(400000))"
    people.define(
        mode="mirror",
        query="select 'u' || n || '@x.example' as email, 'U' as first_name, "
        f"case when n = 399999 then cast('x' as int) else n end as workspaces from {rows}",
    )
    before = len(people.writes())
    run = people.sync()
    assert (run["exit"], run["status"], run["error"]["code"].split("_")[0]) == (1, "failed", "source")
    assert len(people.writes()) == before
    people.define(mode="mirror")
    assert people.sync()["requests"] == 0


@pytest.mark.parametrize(
    "query",
    [
        "select * from nowhere",
        "selct * from people",
        "select email, email as EMAIL from people",
        "select * from people; select 1",
        "delete from people",
        "create table x as select 1",
        "copy people to 'x.csv'",
        "attach 'y.duckdb'",
        "select * from read_csv('/etc/passwd')",
        "select * from '/etc/passwd'",
        "pragma database_list",
        "select getenv('HOME') as email, '' as first_name, 1 as workspaces",
        "select * from people where workspaces = :unknown",
        "with x as (delete from people returning *) select * from x",
        "select * from glob('/*')",
        "",
        "-- nothing",
        ";",
    ],
)
def test_S12_a_query_that_cannot_or_may_not_run_fails_clearly_and_changes_nothing(people: Scene, query: str) -> None:
    people.define(query=query)
    before = sorted(path.name for path in people.folder.iterdir())
    try:
        run = people.sync()
    except ConfigError as error:
        assert error.problems[0].line > 0  # refused before it ran
    else:
        assert run["exit"] in (1, 2)
        assert run["error"]["hint"]
    assert people.writes() == []
    assert sorted(path.name for path in people.folder.iterdir() if path.name != ".reverse_etl") == before
    people.define()
    assert people.sync()["rows"]["read"] == 2


def test_P15_a_locked_warehouse_is_waited_for(people: Scene) -> None:
    code = "import duckdb, time, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); time.sleep(1)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(people.folder / "warehouse.duckdb")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    run = people.sync()
    holder.wait()
    holder.stdout.close()
    assert run["exit"] == 0


def test_P15_the_warehouse_is_free_again_before_the_first_write(people: Scene) -> None:
    people.sandbox.faults.add("slow", path="batch/upsert", seconds=1.0)
    import threading  # noqa: PLC0415
    import time  # noqa: PLC0415

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(people.sync()))
    thread.start()
    while not any("account" in entry.path for entry in people.sandbox.requests):
        time.sleep(0.02)
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('create table free (a int)')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(people.folder / "warehouse.duckdb")],
        check=False,
        capture_output=True,
        text=True,
    )
    thread.join()
    assert (done.returncode, found[0]["exit"]) == (0, 0), done.stderr


def test_a_warehouse_that_is_not_there_is_named_and_never_created(people: Scene) -> None:
    (people.folder / "warehouse.duckdb").unlink()
    run = people.sync()
    assert (run["exit"], run["error"]["code"]) == (1, "source_missing_file")
    assert "warehouse.duckdb" in run["error"]["message"]
    assert not (people.folder / "warehouse.duckdb").exists()


def test_sqlite_serves_as_a_warehouse_with_its_loose_types(scene: Scene) -> None:
    import sqlite3  # noqa: PLC0415

    with sqlite3.connect(scene.folder / "w.db") as connection:
        connection.execute("create table people (email, first_name, workspaces integer, at text)")
        connection.executemany(
            "insert into people values (?, ?, ?, ?)",
            [
                ("ada@x.example", "Ada", 1, "2026-01-01"),
                ("bo@x.example", 5, "not a number", None),
                (None, "No", 1, None),
            ],
        )
    connection.close()
    scene.write_project(sources={"warehouse": {"url": "sqlite:///w.db"}})
    scene.define()
    run = scene.sync()
    assert run["exit"] in (1, 3)
    if run["exit"] == 3:
        assert scene.contacts("firstname")["ada@x.example"] == "Ada"
    else:
        assert run["error"]["hint"]


def test_a_project_folder_with_an_awkward_name_works(scene: Scene) -> None:
    folder = scene.folder / "a b#c%20d&é'\""
    folder.mkdir()
    inner = Scene(folder, scene.sandbox)
    inner.write_project()
    inner.people(ADA)
    inner.define()
    assert inner.sync()["exit"] == 0
    assert inner.sync(dry_run=True)["rows"]["unchanged"] == 1
    assert Project.load(folder).status()[0].known_rows == 1


def test_awkward_column_and_table_names_are_quoted(scene: Scene) -> None:
    scene.warehouse(
        'create table "od""d t" ("e mail" text, "first:name" text, "select" int, "Ünï%" text)',
        """insert into "od""d t" values ('ada@x.example', 'Ada', 3, 'Paris')""",
    )
    mapping = {"email": "e mail", "firstname": "first:name", "workspaces_total": "select", "city": "Ünï%"}
    scene.define(query='select * from "od""d t"', key="e mail", mapping=mapping)
    assert scene.sync()["exit"] == 0
    assert scene.contacts("firstname", "workspaces_total", "city") == {"ada@x.example": ("Ada", "3", "Paris")}
    assert scene.sync()["requests"] == 0


def test_a_colon_in_the_query_s_text_is_no_parameter(scene: Scene) -> None:
    scene.people(ADA)
    query = (
        "select email, 'a:cursor ' || '10:30' || ':x' as first_name, workspaces::int as workspaces from people -- :y\n"
    )
    scene.define(query=query)
    assert scene.sync()["exit"] == 0
    assert scene.contacts("firstname") == {"ada@x.example": "a:cursor 10:30:x"}


def test_a_default_or_value_that_does_not_fit_its_column_is_refused_without_a_write(people: Scene) -> None:
    people.people(ADA, ("bo@x.example", "Bo", None))
    people.define(mapping={"email": "email", "workspaces_total": {"column": "workspaces", "default": "many"}})
    code, document = people.json("sync")
    assert code in (1, 2)
    assert "many" in str(document) or "default" in str(document)
    assert people.writes() == []


def test_salesforce_fields_are_checked_before_any_write(scene: Scene) -> None:
    scene.table("leads", "id text, name text, company text, email text", [("1", "A", "B", None)])
    scene.define(LEADS, mapping={**LEADS["mapping"], "CreatedDate": "email", "Nope__c": "email"})  # type: ignore[dict-item]
    code, document = scene.json("sync")
    assert code == 2
    assert "CreatedDate" in str(document)
    assert "Nope__c" in str(document)
    assert scene.sandbox.salesforce.records("Lead") == []


def test_a_required_field_of_a_new_record_must_be_mapped(scene: Scene) -> None:
    scene.table("leads", "id text, name text, company text, email text", [("1", "A", "B", None)])
    scene.define(LEADS, mapping={"External_Id__c": "id", "LastName": "name"})
    code, document = scene.json("sync")
    assert (code, "Company" in str(document)) == (2, True)


def test_an_object_that_is_not_there_is_said_so(scene: Scene) -> None:
    scene.table("companies", "id text, name text", [("a", "A")])
    scene.define(COMPANIES, object="compnies")
    code, document = scene.json("sync")
    assert code in (1, 2)
    assert "compnies" in str(document)
