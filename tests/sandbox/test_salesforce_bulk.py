"""Salesforce's Bulk API 2.0 over real HTTP, against the emulator: every way in which a job can go wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.sandbox.scene import LEADS, START, Scene, scene_in
from tests.unit.destinations.salesforce.org import new_process

COLUMNS = "id text, name text, company text, email text"
JOBS = r"/jobs/ingest"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    new_process()
    with scene_in(tmp_path, bulk_polls=0) as scene:
        connect(scene)
        scene.define(LEADS, "leads")
        yield scene


def connect(scene: Scene, **settings: Any) -> None:
    document = yaml.safe_load((scene.folder / "reverse_etl.yml").read_text())
    document["destinations"]["salesforce"] |= {"bulk_from": "always", **settings}
    scene.write("reverse_etl.yml", yaml.safe_dump(document, sort_keys=False))


def leads(scene: Scene, *names: str, **values: str) -> None:
    rows = [(name.lower(), values.get(name, name), "Acme", None) for name in names]
    scene.table("leads", COLUMNS, rows)


def made(scene: Scene) -> dict[str, dict[str, Any]]:
    return {record["External_Id__c"]: record for record in scene.sandbox.salesforce.records("Lead")}


def calls(scene: Scene, method: str, path: str) -> list[Any]:
    return [entry for entry in scene.sandbox.requests if entry.method == method and path in entry.path]


def test_rows_go_up_as_one_job_and_come_back_with_their_ids(scene: Scene) -> None:
    leads(scene, "Ada", "Bob", "Cay")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"], run["exit"]) == ("succeeded", 3, 0), run
    assert sorted(made(scene)) == ["ada", "bob", "cay"]
    assert len(calls(scene, "POST", "jobs/ingest")) == 1
    leads(scene, "Ada", "Bob", "Cay", Bob="Bobby")
    run = scene.sync("leads")
    assert (run["delivered"]["updated"], run["rows"]["changed"]) == (1, 1)
    assert made(scene)["bob"]["LastName"] == "Bobby"
    assert scene.sync("leads")["requests"] == 0


# --- lost answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "ingest$"), ("PUT", "batches$"), ("PATCH", "ingest/"), ("GET", "failedResults")]
)
def test_a_lost_answer_doubles_nothing_and_leaves_no_job_open(
    scene: Scene, method: str, path: str, *, applied: bool
) -> None:
    scene.sandbox.faults.add("cut", method=method, path=path, applied=applied)
    leads(scene, *PEOPLE)
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", len(PEOPLE)), run
    assert len(scene.sandbox.ledger) == len(made(scene)) == len(PEOPLE)
    assert open_jobs(scene) == []
    assert scene.sync("leads")["requests"] == 0


def test_an_open_job_of_somebody_elses_is_left_alone(scene: Scene) -> None:
    """It was made before, for another object: nothing that we lost."""
    salesforce_job(scene, "Contact")
    scene.sandbox.faults.add("cut", method="POST", path="ingest$", applied=True)
    leads(scene, *PEOPLE)
    assert scene.sync("leads")["status"] == "succeeded"
    assert [job.object for job in open_jobs(scene)] == ["Contact"]


def test_an_answer_cut_in_the_middle_of_a_result_file_is_asked_for_again(scene: Scene) -> None:
    scene.sandbox.faults.add("truncate", path="successfulResults", times=2)
    leads(scene, *PEOPLE)
    assert scene.sync("leads")["delivered"]["created"] == len(PEOPLE)
    assert len(calls(scene, "GET", "successfulResults")) == 3


# --- killed between two steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "uploads"),
    [
        ("POST", "jobs/ingest", 1),  # the job is there, its id was never told
        ("PUT", "batches", 2),  # the file is there, and nobody knows: another job gets it
        ("PATCH", "jobs/ingest/", 1),  # begun
        ("GET", "jobs/ingest/750", 1),  # looked at
        ("GET", "Results", 1),  # at its end
    ],
)
def test_a_run_killed_between_two_steps_is_gone_on_with(scene: Scene, method: str, path: str, uploads: int) -> None:
    leads(scene, *PEOPLE)
    scene.sandbox.faults.add("slow", method=method, path=path, seconds=30)
    killed_when(scene, lambda: bool(calls(scene, method, path)))
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", len(PEOPLE)), run
    assert len(scene.sandbox.ledger) == len(made(scene)) == len(PEOPLE)
    assert len(calls(scene, "PUT", "batches")) == uploads
    assert open_jobs(scene) == []
    assert scene.sync("leads")["requests"] == 0


def test_rows_that_changed_meanwhile_wait_for_the_old_job_and_go_after_it(scene: Scene) -> None:
    leads(scene, *PEOPLE)
    scene.sandbox.faults.add("slow", method="PATCH", path="jobs/ingest/", seconds=30)
    killed_when(scene, lambda: bool(calls(scene, "PATCH", "jobs/ingest/")))
    leads(scene, *PEOPLE, "New", P1="Other")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"], run["delivered"]["updated"]) == ("succeeded", 8, 1), run
    assert run["notes"] == ["carried by a bulk job that an earlier run had left: p0, p2, p3, p4, p5 and 2 more"]
    assert made(scene)["p1"]["LastName"] == "Other"
    assert len(scene.sandbox.ledger) == len(PEOPLE) + 2
    assert scene.sync("leads")["requests"] == 0


def test_a_job_of_a_run_that_was_killed_speaks_for_its_rows_only_once(scene: Scene) -> None:
    """A value that went, came back and went again was written three times; the first job can't stand for the third."""
    leads(scene, "Ada", Ada="A")
    scene.sandbox.faults.add("slow", method="PATCH", path="jobs/ingest/", seconds=30)
    killed_when(scene, lambda: bool(calls(scene, "PATCH", "jobs/ingest/")))
    for value in ("B", "A"):
        leads(scene, "Ada", Ada=value)
        assert scene.sync("leads")["status"] == "succeeded"
        assert made(scene)["ada"]["LastName"] == value


def test_asked_to_stop_a_run_leaves_its_job_to_the_next(scene: Scene) -> None:
    scene.sandbox.salesforce.bulk.polls = 1_000_000
    leads(scene, *PEOPLE)
    process = started(scene)
    wait_for(process, lambda: len(calls(scene, "GET", "jobs/ingest/750")) >= 2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    (run,) = json.loads(out)["runs"]
    assert (process.returncode, run["status"], run["pending"], run["in_doubt"]) == (143, "interrupted", len(PEOPLE), 0)
    scene.sandbox.salesforce.bulk.polls = 0
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", len(PEOPLE)), run
    assert len(scene.sandbox.ledger) == len(PEOPLE)


def test_a_job_that_takes_too_long_is_gone_on_with_by_the_next_run(scene: Scene) -> None:
    connect(scene, bulk_patience="1ms")
    scene.sandbox.salesforce.bulk.polls = 3
    leads(scene, *PEOPLE)
    run = scene.sync("leads")
    assert (run["status"], run["error"]["code"], run["pending"]) == ("failed", "destination_bulk_running", len(PEOPLE))
    scene.sandbox.salesforce.bulk.polls = 0
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", len(PEOPLE)), run
    assert len(calls(scene, "PUT", "batches")) == 1


def test_the_day_s_last_call_in_the_middle_of_a_job_loses_nothing(scene: Scene) -> None:
    scene.sandbox.faults.add("throttle", method="GET", path="successfulResults", policy="daily")
    leads(scene, *PEOPLE)
    run = scene.sync("leads")
    assert (run["status"], run["error"]["code"], run["pending"]) == ("partial", "daily_limit", len(PEOPLE)), run
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", len(PEOPLE)), run
    assert len(calls(scene, "PUT", "batches")) == 1


# --- rows that a job leaves, loses or refuses ------------------------------------------------------------------------


def test_rows_that_a_failed_job_left_unprocessed_go_with_the_next(scene: Scene) -> None:
    crowd(scene, 600)
    scene.sandbox.faults.add("fail_job", method="PATCH", path="jobs/ingest", rows=200, message="Timeout : too slow")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", 600), run
    assert len(scene.sandbox.ledger) == 600
    assert len(calls(scene, "PUT", "batches")) == 2


def test_a_job_that_fails_whenever_it_is_tried_leaves_its_rows_waiting(scene: Scene) -> None:
    crowd(scene, 1000)
    scene.sandbox.faults.add("fail_job", method="PATCH", path="jobs/ingest", rows=200, message="Timeout", times=None)
    run = scene.sync("leads")
    assert (run["status"], run["error"]["code"]) == ("failed", "destination_bulk_refused"), run
    assert (run["delivered"]["created"], run["pending"], run["in_doubt"], run["rejected"]) == (600, 400, 0, 0)
    scene.sandbox.faults.clear()
    assert scene.sync("leads")["exit"] == 0


def test_a_field_that_is_gone_stops_the_run_and_no_row_is_lost(scene: Scene) -> None:
    crowd(scene, 10)
    scene.sandbox.faults.add(
        "fail_job", method="PATCH", path="jobs/ingest", rows=0, message="InvalidBatch : Field name not found : Company"
    )
    run = scene.sync("leads")
    assert (run["status"], run["error"]["code"], run["pending"]) == ("failed", "destination_config", 10)
    assert "Field name not found : Company" in run["error"]["message"]
    assert scene.sync("leads")["delivered"]["created"] == 10


def test_rows_in_none_of_the_result_files_are_offered_again(scene: Scene) -> None:
    crowd(scene, 20)
    scene.sandbox.faults.add("vanish", method="PATCH", path="jobs/ingest", rows=5)
    run = scene.sync("leads")
    assert (run["status"], run["in_doubt"], run["pending"]) == ("succeeded", 0, 0), run
    assert (run["delivered"]["created"], run["delivered"]["updated"]) == (15, 5)
    assert len(made(scene)) == 20


def test_new_records_that_no_result_file_names_are_found_and_not_made_twice(scene: Scene) -> None:
    scene.define(LEADS, "leads", mode="insert")
    crowd(scene, 20)
    scene.sandbox.faults.add("vanish", method="PATCH", path="jobs/ingest", rows=5)
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", 20), run
    assert len(made(scene)) == len(scene.sandbox.ledger) == 20


def test_refused_rows_stand_with_salesforces_words_and_the_others_arrive(scene: Scene) -> None:
    scene.table(
        "leads", COLUMNS, [("a", "Ada", "Acme", "ada@x.io"), ("b", "Bob", "Acme", "bad"), ("c", None, "x", None)]
    )
    run = scene.sync("leads")
    assert (run["status"], run["rejected"], run["delivered"]["created"]) == ("partial", 2, 1), run
    refused = {row["key"]: (row["code"], row["message"]) for row in scene.rejected("leads")}
    assert refused["b"] == ("INVALID_EMAIL_ADDRESS", "Email: invalid email address: bad")
    assert refused["c"] == ("REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]")


def test_an_insert_by_a_job_skips_what_is_there(scene: Scene) -> None:
    scene.define(LEADS, "leads", mode="insert")
    scene.sandbox.salesforce.add("Lead", {"External_Id__c": "p1", "LastName": "Old", "Company": "Acme"})
    leads(scene, *PEOPLE)
    run = scene.sync("leads")
    assert (run["delivered"]["created"], run["delivered"]["skipped"]) == (len(PEOPLE) - 1, 1), run
    assert made(scene)["p1"]["LastName"] == "Old"


def test_rows_that_met_a_lock_are_delivered_within_the_run(scene: Scene) -> None:
    crowd(scene, 30)
    scene.sandbox.faults.add("lock", method="PATCH", path="jobs/ingest", rows=5)
    run = scene.sync("leads")
    assert (run["status"], run["rejected"], run["delivered"]["created"]) == ("succeeded", 0, 30), run


# --- what cells say --------------------------------------------------------------------------------------------------

AWKWARD = ['say "hi"', "a,b", "two\nlines", "#N/A", " #n/a ", "=1+1", "ünï ☃", "'", "\ttab", "null", '""', "a\r\nb"]


def test_every_text_arrives_as_it_is_and_the_mark_for_nothing_is_a_text_like_any(scene: Scene) -> None:
    scene.table("leads", COLUMNS, [(f"k{at}", "x", text, None) for at, text in enumerate(AWKWARD)])
    assert scene.sync("leads")["delivered"]["created"] == len(AWKWARD)
    found = [made(scene)[f"k{at}"]["Company"] for at in range(len(AWKWARD))]
    assert found == [text.replace("\r\n", "\n").strip() for text in AWKWARD] or found == [
        text.replace("\r\n", "\n") for text in AWKWARD
    ]


def test_a_null_clears_its_field_and_others_are_left_alone(scene: Scene) -> None:
    scene.table("leads", COLUMNS, [("a", "Ada", "Acme", "ada@x.io"), ("b", "Bob", "Acme", "bob@x.io")])
    scene.sync("leads")
    scene.sandbox.salesforce.change("Lead", made(scene)["b"]["Id"], {"Company": "Changed by hand"})
    scene.table("leads", COLUMNS, [("a", "Ada", "Acme", None), ("b", "Bobby", "Acme", "bob@x.io")])
    run = scene.sync("leads")
    assert (run["rows"]["changed"], run["delivered"]["updated"]) == (2, 2)
    assert made(scene)["a"].get("Email") is None
    assert (made(scene)["b"]["LastName"], made(scene)["b"]["Company"]) == ("Bobby", "Changed by hand")


def test_removed_rows_are_deleted_by_a_job(scene: Scene) -> None:
    scene.define(LEADS, "leads", mode="mirror", guard={"max_removed": "none"})
    leads(scene, *PEOPLE)
    scene.sync("leads")
    leads(scene, "P1")
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["removed"]) == ("succeeded", len(PEOPLE) - 1), run
    assert sorted(made(scene)) == ["p1"]


# --- which way rows go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "uploads"), [(40, 1), (39, 0)])
def test_a_job_is_made_from_so_many_rows_on(scene: Scene, rows: int, uploads: int) -> None:
    connect(scene, bulk_from=40)
    crowd(scene, rows)
    assert scene.sync("leads")["delivered"]["created"] == rows
    assert len(calls(scene, "PUT", "batches")) == uploads


@pytest.mark.parametrize("code", ["INVALIDENTITY", "LIMIT_EXCEEDED"])
def test_an_object_that_takes_no_jobs_is_written_by_calls(scene: Scene, code: str) -> None:
    told = [{"errorCode": code, "message": "not supported by the Bulk API"}]
    scene.sandbox.faults.add("status", method="POST", path="ingest$", status=400, body=told)
    crowd(scene, 450)
    run = scene.sync("leads")
    assert (run["status"], run["delivered"]["created"]) == ("succeeded", 450), run
    assert len(calls(scene, "PATCH", "composite/sobjects")) == 3


def test_a_dry_run_counts_the_calls_of_a_job(scene: Scene) -> None:
    crowd(scene, 30)
    assert scene.sync("leads", dry_run=True)["plan"]["requests"] == 9
    assert scene.sync("leads")["requests"] <= 12


def test_without_batches_left_for_the_day_rows_go_by_calls(scene: Scene) -> None:
    scene.sandbox.salesforce.bulk.batches = 15_000
    crowd(scene, 10)
    assert scene.sync("leads")["delivered"]["created"] == 10
    assert calls(scene, "PUT", "batches") == []


# --- the scene -------------------------------------------------------------------------------------------------------

PEOPLE = tuple(f"P{n}" for n in range(8))


def crowd(scene: Scene, count: int) -> None:
    scene.warehouse(
        f"create or replace table leads as select 'l' || range as id, 'L' || range as name, 'Acme' as company, "
        f"null::text as email from range({count})"
    )


def salesforce_job(scene: Scene, object: str) -> None:
    """A job that another program of the same user makes."""
    form = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox-secret"}
    token = httpx.post(f"{scene.sandbox.url}/services/oauth2/token", data=form).json()["access_token"]
    url = f"{scene.sandbox.url}/services/data/v62.0/jobs/ingest"
    job = {"object": object, "operation": "insert"}
    httpx.post(url, json=job, headers={"authorization": f"Bearer {token}"}).raise_for_status()


def open_jobs(scene: Scene) -> list[Any]:
    return [job for job in scene.sandbox.salesforce.bulk._jobs.values() if job.state == "Open"]


def killed_when(scene: Scene, condition: Callable[[], bool]) -> None:
    """A run in a process of its own, killed as soon as the condition holds."""
    process = started(scene)
    try:
        wait_for(process, condition)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    scene.sandbox.faults.clear()


def started(scene: Scene) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, "sync", "leads", "--json"],
        cwd=scene.folder,
        env=scene.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
