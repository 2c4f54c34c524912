"""What is printed: one JSON document, the exit codes, no secret, no traceback, nothing that a terminal would obey."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

from reverse_etl import Project
from reverse_etl.errors import ConfigError, SourceError
from tests.sandbox.scene import START, Scene

ADA, BO, BAD = ("ada@x.example", "Ada", 1), ("bo@x.example", "Bo", 2), ("not..an@address.io", "Cy", 3)
CANARY = "canary-7f3a-secret"
COMMANDS = [
    ["check", "--connect"],
    ["sync", "--full"],
    ["rejected", "people", "--retry"],
    ["status"],
    ["runs", "people"],
    ["explain", "people", "ada@x.example"],
    ["fields", "hubspot", "contacts"],
    ["show", "nosuch"],
]


@pytest.fixture
def people(scene: Scene) -> Scene:
    scene.people(ADA, BO)
    scene.define()
    return scene


def on_terminal(scene: Scene, *arguments: str, **variables: str) -> str:
    """What a person at a terminal sees."""
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments],
        cwd=scene.folder,
        env=scene.environment | {"TERM": "xterm-256color", "COLUMNS": "120"} | variables,
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    seen = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:
            break
        if not part:
            break
        seen += part
    process.wait()
    os.close(main)
    return seen.decode("utf-8", "replace")


@pytest.mark.parametrize("broken", ["files", "state", "warehouse", "destination", "nothing"])
def test_json_is_exactly_one_document_whatever_goes_wrong(people: Scene, broken: str) -> None:
    people.people(ADA, BAD)
    people.sync()
    if broken == "files":
        people.write("syncs/other.yml", "a: [")
    elif broken == "state":
        (people.folder / ".reverse_etl/state.db").write_bytes(b"x" * 5000)
    elif broken == "warehouse":
        (people.folder / "warehouse.duckdb").write_bytes(b"x" * 5000)
    elif broken == "destination":
        people.sandbox.faults.add("status", status=401, times=None, body={"message": "no"})
    for command in COMMANDS:
        ended = people.cli(*command, "--json", "--log-level", "debug")
        document = json.loads(ended.stdout)
        assert isinstance(document, dict), command
        assert ended.returncode in (0, 1, 2, 3, 6), command


def test_S05_a_secret_is_in_no_output_and_no_file_at_the_loudest_level(people: Scene) -> None:
    people.people(ADA, BAD)
    people.sync()
    people.write_project(token=CANARY)
    people.sandbox.faults.add("cut", path="account", times=1)
    people.sandbox.faults.add("html", path="properties", times=1)
    outputs = ""
    for command in (
        ["sync", "--full"],
        ["check", "--connect"],
        ["fields", "hubspot", "contacts"],
        ["sync", "--dry-run"],
    ):
        for style in ("text", "json"):
            ended = people.cli(*command, "--log-level", "debug", "--log-format", style)
            outputs += ended.stdout + ended.stderr
    path = people.folder / "reverse_etl.yml"
    path.write_text(path.read_text().replace("duckdb:///warehouse.duckdb", f"postgresql://u:{CANARY}@127.0.0.1:1/x"))
    ended = people.cli("sync", "--log-level", "debug")
    outputs += ended.stdout + ended.stderr
    path.write_text(path.read_text().replace("type: hubspot\n", f"type: hubspot\n    acess_token: {CANARY}\n"))
    ended = people.cli("check", "--log-level", "debug")
    outputs += ended.stdout + ended.stderr
    assert CANARY not in outputs
    for kept in (people.folder / ".reverse_etl").rglob("*"):
        assert not kept.is_file() or CANARY.encode() not in kept.read_bytes(), kept


def test_S06_no_row_value_is_in_the_log(people: Scene) -> None:
    people.people(("ada-canary@x.example", "Canary", 1), ("canary..is@no.address", "Canary", 3))
    ended = people.cli("sync", "--json", "--log-level", "debug")
    assert ended.returncode == 3
    assert "anary" not in ended.stderr


def test_S19_control_characters_in_data_never_reach_a_terminal(people: Scene) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\r\n\x00".replace("\x00", "")
    people.people((f"{evil}@x.example", evil, 1), ("ada@x.example", evil, 2), (f"{evil}", "x" * 70000, 1))
    people.define(key="email")
    seen = ""
    for command in (
        ["sync", "--dry-run"],
        ["sync"],
        ["rejected", "people"],
        ["explain", "people", "ada@x.example"],
        ["status"],
    ):
        seen += on_terminal(people, *command)
    assert "\x1b]0" not in seen
    assert "\x1b[2J" not in seen
    assert "\x9b" not in seen
    assert "\u202e" not in seen
    assert "Traceback" not in seen


def test_control_characters_in_files_and_arguments_never_reach_a_terminal(people: Scene) -> None:
    people.write("syncs/people.yml", 'source: "\\e[2Jwarehouse\\a"\nquery: select 1 as a\nkey: a\n')
    seen = (
        on_terminal(people, "check") + on_terminal(people, "sync", "x\x1b[2Jy") + on_terminal(people, "show", "\x1b[2J")
    )
    assert "\x1b[2J" not in seen


def test_NO_COLOR_and_pipes_get_no_escape_codes(people: Scene) -> None:
    piped = people.cli("sync", "--dry-run")
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "\x1b[3" not in on_terminal(people, "status", NO_COLOR="1")


def test_a_terminal_without_utf8_breaks_nothing(people: Scene) -> None:
    people.people(("ada@x.example", "Zoë \U0001f600", 1), ("ünï@x.example", "日本", 2))
    for command in (
        ["sync", "--dry-run"],
        ["sync"],
        ["rejected", "people"],
        ["status"],
        ["explain", "people", "ada@x.example"],
    ):
        ended = people.process(*command, LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        assert ended.returncode in (0, 3), ended.stderr


def test_a_narrow_terminal_breaks_nothing(people: Scene) -> None:
    assert "Traceback" not in on_terminal(people, "sync", "--dry-run", COLUMNS="8")


def test_sync_json_has_the_documented_shape(people: Scene) -> None:
    code, document = people.json("sync")
    (run,) = document["runs"]
    assert (code, list(document)) == (0, ["runs"])
    assert set(run) >= {
        "sync", "run_id", "status", "dry_run", "rows", "delivered", "rejected", "in_doubt", "pending", "requests",
        "throttled", "cursor", "started_at", "finished_at", "error",
    }  # fmt: skip
    assert set(run["cursor"]) == {"from", "to"}
    assert "plan" not in run
    shown = people.json("show", run["run_id"])[1]
    assert {name: shown[name] for name in run} == run
    assert people.json("runs")[1]["runs"][0]["run_id"] == run["run_id"]


def test_an_error_has_code_message_and_hint(people: Scene) -> None:
    people.define(query="select * from nowhere")
    code, document = people.json("sync")
    assert (code, set(document["runs"][0]["error"])) == (1, {"code", "message", "hint"})


@pytest.mark.parametrize(
    ("breaks", "code"),
    [("nothing", 0), ("a rejected row", 3), ("the warehouse", 1), ("a guard", 4), ("the files", 2), ("the state", 6)],
)
def test_of_several_codes_the_gravest_is_given(people: Scene, breaks: str, code: int) -> None:
    people.define(name="zz", query="select * from people where first_name = 'Ada'")
    people.sync("zz")
    people.sync("people")
    people.define(name="bad", query=f"select '{BAD[0]}' as email, 'x' as first_name, 1 as workspaces")
    if breaks == "nothing":
        (people.folder / "syncs/bad.yml").unlink()
    elif breaks == "the warehouse":
        people.define(name="aa", query="select * from nowhere")
    elif breaks == "a guard":
        people.define(name="zz", query="select * from people where false")
    elif breaks == "the files":
        people.write("syncs/aa.yml", "")
    elif breaks == "the state":
        (people.folder / ".reverse_etl/snapshots/zz.duckdb").unlink()
    assert people.json("sync")[0] == code


def explained(scene: Scene, key: str) -> dict[str, Any]:
    code, document = scene.json("explain", "people", key)
    assert code == 0
    assert set(document) == {"sync", "key", "row", "payload", "acknowledged", "state", "reason"}
    found: dict[str, Any] = document
    return found


def test_explain_tells_every_state(people: Scene) -> None:
    people.people(ADA, BO, BAD)
    people.sync()
    people.people(ADA, ("bo@x.example", "Bob", 2), BAD, ("nul@x.example", "a\0b", 1))
    unchanged = explained(people, "ada@x.example")
    assert (unchanged["state"], unchanged["acknowledged"]["values"]["firstname"]) == ("unchanged", "Ada")
    assert set(unchanged["acknowledged"]) == {"values", "at", "record_id", "run_id"}
    pending = explained(people, "bo@x.example")
    assert (pending["state"], pending["payload"]["firstname"], pending["row"]["first_name"]) == (
        "pending",
        "Bob",
        "Bob",
    )
    assert explained(people, "not..an@address.io")["state"] == "rejected"
    people.sync()
    assert explained(people, "nul@x.example")["state"] == "invalid"
    absent = explained(people, "nobody@x.example")
    assert (absent["state"], absent["row"], absent["acknowledged"]) == ("absent", None, None)


def test_explain_takes_the_key_s_text_as_the_tool_prints_it(scene: Scene) -> None:
    scene.table("people", "a text, b int, email text", [("a", 1, "ada@x.example"), ("x", 2, "b..d@x.io")])
    scene.define(key=["a", "b"], mapping={"email": "email"})
    scene.sync()
    (row,) = scene.rejected()
    assert row["key"] == ["x", 2]
    assert explained(scene, json.dumps(row["key"]))["state"] == "rejected"
    assert explained(scene, '["a",1]')["state"] == "unchanged"
    for wrong in ("a", '["a"]', '["a", 1, 2]', "[", '["a", "x"]', "{}", '["a", null]', "null", "3", '[["a"], {}]'):
        with suppress(ConfigError, SourceError):
            assert Project.load(scene.folder).explain("people", wrong).to_json()["state"] == "absent", wrong


def test_explain_of_a_key_that_no_number_column_could_hold_is_no_crash(scene: Scene) -> None:
    scene.table("people", "id bigint, email text", [(1, "ada@x.example")])
    scene.define(key="id", mapping={"email": "email"})
    scene.sync()
    project = Project.load(scene.folder)
    for key in ("x", "", "9" * 60, "1.5", "\u0661", "1_0", "0x1", " 1", "1e3", "-0", "+1"):
        with suppress(ConfigError, SourceError):  # `+1` is the number 1, said otherwise
            assert project.explain("people", key).to_json()["state"] in ("absent", "unchanged"), key


def test_status_names_what_stands_rejected_and_known(people: Scene) -> None:
    people.people(ADA, BAD)
    people.sync()
    (status,) = people.json("status")[1]["syncs"]
    assert (status["sync"], status["known_rows"], status["rejected"], status["in_doubt"]) == ("people", 1, 1, 0)


def test_tags_choose_syncs_and_disabled_ones_run_only_when_named(people: Scene) -> None:
    people.define(name="tagged", tags=["crm"])
    people.define(name="off", enabled=False, tags=["crm"])
    assert [run["sync"] for run in people.json("sync", "--tag", "crm")[1]["runs"]] == ["tagged"]
    assert sorted(run["sync"] for run in people.json("sync")[1]["runs"]) == ["people", "tagged"]
    assert [run["sync"] for run in people.json("sync", "off")[1]["runs"]] == ["off"]


def test_flags_beat_the_environment(people: Scene, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = str(tmp_path_factory.mktemp("elsewhere"))
    assert people.cli("status", REVERSE_ETL_PROJECT=elsewhere).returncode == 2
    assert people.cli("status", "--project", str(people.folder), REVERSE_ETL_PROJECT=elsewhere).returncode == 0
    other = f"sqlite:///{people.folder}/other.db"
    assert people.cli("sync", REVERSE_ETL_STATE_URL=other).returncode == 0
    assert (people.folder / "other.db").exists()
    noisy = people.cli(
        "sync", REVERSE_ETL_STATE_URL=other, REVERSE_ETL_LOG_LEVEL="debug", REVERSE_ETL_LOG_FORMAT="json"
    )
    assert all(json.loads(line) for line in noisy.stderr.splitlines())
    assert noisy.stderr
    assert (
        people.cli("sync", "--log-level", "error", REVERSE_ETL_STATE_URL=other, REVERSE_ETL_LOG_LEVEL="debug").stderr
        == ""
    )


def test_a_wrong_log_setting_is_a_usage_error(people: Scene) -> None:
    assert people.cli("sync", REVERSE_ETL_LOG_LEVEL="loud").returncode == 2
    assert people.cli("sync", "--log-format", "xml").returncode == 2
