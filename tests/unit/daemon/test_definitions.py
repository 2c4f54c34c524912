from __future__ import annotations

from pathlib import Path

import pytest

from reverse_etl.redaction import MASK, SECRETS
from tests.unit.daemon.desk import PROJECT, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_files_that_have_not_changed_are_not_read_again(desk: Desk) -> None:
    desk.define()
    assert desk.look() is not None
    assert desk.look() is None


def test_only_the_file_that_changed_is_read_again(desk: Desk) -> None:
    desk.define("a")
    desk.define("b")
    desk.look()
    before = desk.definitions.current
    desk.define("b", "schedule: every 1 hour")
    changes = desk.look()
    assert changes is not None
    assert (changes.defined, changes.removed) == (["b"], [])
    assert desk.definitions.current["a"] is before["a"]
    assert list(desk.alarms.due) == ["b"]


def test_P49_a_broken_file_keeps_its_last_good_version_until_it_is_mended(desk: Desk) -> None:
    desk.define("a", "schedule: every 1 hour")
    desk.look()
    good = desk.definitions.current["a"]
    desk.define("a", "schedule: every 1 our")
    changes = desk.look()
    assert changes is not None
    assert (list(changes.broken), changes.defined) == (["a"], [])
    assert desk.definitions.current["a"] is good
    assert list(desk.alarms.due) == ["a"]
    desk.define("a", "schedule: every 2 hours")
    changes = desk.look()
    assert changes is not None
    assert (changes.mended, changes.defined, desk.definitions.broken) == (["a"], ["a"], {})


def test_P49_a_file_that_is_gone_takes_its_sync_with_it(desk: Desk) -> None:
    path = desk.define("a", "schedule: every 1 hour")
    desk.look()
    path.unlink()
    changes = desk.look()
    assert changes is not None
    assert changes.removed == ["a"]
    assert (desk.alarms.due, "a" in desk.scheduler.agenda) == ({}, False)


def test_a_broken_file_that_is_gone_is_no_problem_any_more(desk: Desk) -> None:
    path = desk.define("a", "x: y")
    desk.look()
    path.unlink()
    desk.look()
    assert desk.definitions.broken == {}


def test_P46_one_broken_file_among_many_breaks_no_other(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        desk.define(name)
    desk.define("bad", "x: y")
    desk.look()
    assert sorted(desk.definitions.current) == ["a", "b", "c"]
    assert list(desk.definitions.broken) == ["bad"]


def test_P49_a_broken_project_file_leaves_everything_as_it_was(desk: Desk) -> None:
    desk.define("a", "schedule: every 1 hour")
    desk.look()
    desk.write("reverse_etl.yml", "sources: [")
    changes = desk.look()
    assert changes is not None
    assert (list(changes.broken), changes.removed) == (["reverse_etl.yml"], [])
    assert list(desk.definitions.current) == ["a"]
    desk.write("reverse_etl.yml", PROJECT)
    desk.look()
    assert desk.definitions.broken == {}


def test_a_mistake_in_the_daemons_section_stops_no_sync(desk: Desk) -> None:
    desk.define("a")
    desk.look()
    desk.write("reverse_etl.yml", PROJECT + "daemon: {runs: many}\n")
    desk.define("a", "schedule: every 1 hour")
    desk.look()
    assert list(desk.definitions.broken) == ["reverse_etl.yml"]
    assert list(desk.alarms.due) == ["a"]
    assert desk.definitions.settings.runs == 4


def test_a_connection_that_breaks_keeps_the_syncs_that_use_it_as_they_were(desk: Desk) -> None:
    desk.define("a")
    desk.look()
    before = desk.definitions.current["a"]
    desk.write("reverse_etl.yml", PROJECT.replace("${TOKEN:-sandbox-token}", "${TOKEN}"))
    desk.look()
    assert list(desk.definitions.broken) == ["a"]
    assert desk.definitions.current["a"] is before
    desk.write(".env", "TOKEN=from-the-file\n")
    desk.look()
    assert desk.definitions.broken == {}
    assert desk.definitions.current["a"] is not before


def test_settings_that_changed_are_told(desk: Desk) -> None:
    desk.look()
    desk.write("reverse_etl.yml", PROJECT + "daemon: {runs: 9}\n")
    changes = desk.look()
    assert changes is not None
    assert (changes.settings, desk.definitions.settings.runs) == (True, 9)


def test_a_query_in_a_file_of_its_own_is_watched_wherever_it_lies(desk: Desk) -> None:
    desk.write("queries/people.sql", "select email from people")
    desk.write(
        "syncs/a.yml",
        "source: warehouse\nquery_file: ../queries/people.sql\nkey: email\ndestination: hubspot\n"
        "object: contacts\nmapping: {email: email}\n",
    )
    desk.look()
    desk.look()  # the first look tells where queries lie
    desk.write("queries/people.sql", "select email from others")
    changes = desk.look()
    assert changes is not None
    assert changes.defined == ["a"]
    assert desk.definitions.current["a"].sync.sql == "select email from others"


def test_syncs_that_come_to_wait_for_each_other_are_not_taken(desk: Desk) -> None:
    desk.define("a", "schedule: every 1 hour")
    desk.define("b", "schedule: {after: a}")
    desk.look()
    desk.define("a", "schedule: {after: b}")
    desk.look()
    assert list(desk.definitions.broken) == ["a"]
    assert "these syncs wait for each other: a, b" in str(desk.definitions.broken["a"][0])
    assert list(desk.alarms.due) == ["a"]


def test_syncs_that_wait_for_each_other_from_the_start_do_not_run(desk: Desk) -> None:
    desk.define("a", "schedule: {after: b}")
    desk.define("b", "schedule: {after: a}")
    desk.define("c")
    desk.look()
    assert sorted(desk.definitions.current) == ["c"]
    assert sorted(desk.definitions.broken) == ["a", "b"]


def test_a_child_whose_parent_is_gone_is_broken_and_stays(desk: Desk) -> None:
    parent = desk.define("a", "schedule: every 1 hour")
    desk.define("b", "schedule: {after: a}")
    desk.look()
    parent.unlink()
    desk.define("b", "schedule: {after: a}\ntags: [x]")
    desk.look()
    assert list(desk.definitions.broken) == ["b"]
    desk.define("a", "schedule: every 1 hour")
    desk.look()
    assert desk.definitions.broken == {}


def test_S05_every_configuration_is_learned_from(desk: Desk) -> None:
    desk.define("a")
    desk.look()
    assert SECRETS.clean("sandbox-token") == MASK


def test_a_misnamed_or_hidden_file_is_no_definition(desk: Desk) -> None:
    desk.write("syncs/.a.yml", "x: y")
    desk.write("syncs/README.md", "hello")
    desk.look()
    assert (desk.definitions.current, desk.definitions.broken) == ({}, {})
