from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.config.schedule import After, Cron, Every
from reverse_etl.config.sync import CursorConfig, FieldMapping, GuardConfig, RemovedSet, SyncConfig
from tests.project_folder import PROJECT, ProjectFolder


def test_a_plain_definition_gets_every_default(project: ProjectFolder) -> None:
    path = project.sync()
    sync = project.only()
    assert sync == SyncConfig(
        name="people",
        file=path,
        source="warehouse",
        sql="select email, plan from people",
        key=("email",),
        destination="crm",
        object="contacts",
        match="email",
        mapping={"email": FieldMapping(column="email"), "plan": FieldMapping(column="plan")},
    ).located(sync._places)
    assert sync.guard == GuardConfig(
        max_removed=0.1, removed_floor=10, max_changed=None, max_emptied=0.3, emptied_floor=50
    )
    assert not sync.removes


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        ("description: why", "description", "why"),
        ("cursor: at", "cursor", CursorConfig(column="at")),
        ("cursor: {column: at, lag: 5m}", "cursor", CursorConfig(column="at", lag=timedelta(minutes=5))),
        ("cursor: {column: n, start: 7, lag: 0}", "cursor", CursorConfig(column="n", start=7, lag=timedelta())),
        ("cursor: {column: at, start: 2026-01-01}", "cursor", CursorConfig(column="at", start="2026-01-01")),
        ("match: plan", "match", "plan"),
        ("mode: update", "mode", "update"),
        ("mode: mirror", "on_removed", "archive"),
        ("on_removed: archive", "on_removed", "archive"),
        ("on_removed: {set: {plan: none left}}", "on_removed", RemovedSet(set={"plan": "none left"})),
        ("on_removed: {set: {plan: null}}", "on_removed", RemovedSet(set={"plan": None})),
        ("first_run: baseline", "first_run", "baseline"),
        ("schedule: {after: other}", "schedule", After(("other",))),
        ("schedule: {after: [other]}", "schedule", After(("other",))),
        ("schedule: every 15 minutes", "schedule", Every(timedelta(minutes=15), "every 15 minutes")),
        ("timezone: Europe/Berlin", "timezone", "Europe/Berlin"),
        ("on_duplicate: none", "on_duplicate", "none"),
        ("in_doubt: hold", "in_doubt", "hold"),
        ("log_to: none", "log_to", "none"),
        ("tags: [crm, sales]", "tags", ("crm", "sales")),
        ("enabled: false", "enabled", False),
        ("guard: {max_removed: 10%}", "guard", GuardConfig(max_removed=0.1, removed_floor=0)),
        ("guard: {max_changed: 2.5 %}", "guard", GuardConfig(max_changed=0.025)),
        ("guard: {max_emptied: none}", "guard", GuardConfig(max_emptied=None, emptied_floor=0)),
        ("nulls: ignore", "mapping", {"email": FieldMapping(column="email", nulls="ignore")}),
    ],
)
def test_every_key_means_what_it_says(project: ProjectFolder, more: str, key: str, value: object) -> None:
    project.sync(name="other")
    project.sync(more=more)
    found = getattr(project.load()[1]["people"], key)
    if isinstance(found, dict):
        found = {"email": found["email"]}
    assert found == value


@pytest.mark.parametrize(
    ("line", "mapping"),
    [
        ("  f: {column: c, default: free}", FieldMapping(column="c", default="free")),
        ("  f: {column: c, default: 0}", FieldMapping(column="c", default=0)),
        ("  f: {column: c, nulls: ignore, compare: false}", FieldMapping(column="c", nulls="ignore", compare=False)),
        ("  f: {value: customer}", FieldMapping(value="customer")),
        ("  f: {value: 5}", FieldMapping(value=5)),
        ("  f: {value: 0.5}", FieldMapping(value=0.5)),
        ("  f: {value: true}", FieldMapping(value=True)),
        ("  f: {value: '012'}", FieldMapping(value="012")),
    ],
)
def test_a_field_is_mapped_in_short_and_long_form(project: ProjectFolder, line: str, mapping: FieldMapping) -> None:
    project.sync(more=line)
    found = project.only().mapping["f"]
    assert found == mapping
    assert type(found.value) is type(mapping.value)


def test_a_query_may_lie_in_a_file_beside_the_definition(project: ProjectFolder) -> None:
    project.write("syncs/people.sql", "select 1 as email")
    project.sync({"query": "query_file: people.sql"})
    assert project.only().sql == "select 1 as email"


def test_a_table_stands_for_a_query(project: ProjectFolder) -> None:
    project.sync({"query": "table: app.people"})
    sync = project.only()
    assert (sync.sql, sync.table) == (None, "app.people")


def test_a_key_of_several_columns_needs_a_match(project: ProjectFolder) -> None:
    project.sync({"key": "key: [email, plan]"}, more="match: email")
    assert project.only().key == ("email", "plan")


def test_the_projects_defaults_hold_where_a_definition_is_silent(project: ProjectFolder) -> None:
    project.write(
        "reverse_etl.yml",
        PROJECT + "defaults: {nulls: ignore, timezone: Europe/Rome, guard: {max_changed: 40%, max_removed: 1%}}\n",
    )
    project.sync(more="timezone: UTC\nguard: {max_removed: 5%}")
    sync = project.only()
    assert (sync.timezone, sync.mapping["email"].nulls) == ("UTC", "ignore")
    assert sync.guard == GuardConfig(max_removed=0.05, removed_floor=0, max_changed=0.4)


def test_mirror_outweighs_a_default_about_removed_rows(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "defaults: {on_removed: ignore}\n")
    project.sync(more="mode: mirror")
    assert project.only().on_removed == "archive"


def test_a_default_full_scan_does_not_bother_a_sync_without_a_cursor(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "defaults: {full_scan: 0 3 * * *}\n")
    project.sync(more="mode: mirror")
    project.sync(name="incremental", more="mode: mirror\ncursor: at")
    syncs = project.load()[1]
    assert syncs["people"].full_scan is None
    assert isinstance(syncs["incremental"].full_scan, Cron)


def test_a_wrong_default_is_reported_where_it_stands(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "defaults: {mode: insert}\n")
    project.sync()
    assert project.complaints() == [
        "reverse_etl.yml:8:18: `crm` has no mode `insert`; it has mirror, update, upsert (found: insert)"
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("mod: upsert", "9:1: there is no key `mod` here (found: mod); did you mean 'mode'?"),
        (
            "mode: upsrt",
            "9:7: should be upsert, update, insert, mirror or append (found: upsrt); did you mean 'upsert'?",
        ),
        ("mode: insert", "9:7: `crm` has no mode `insert`; it has mirror, update, upsert (found: insert)"),
        ("mode: append", "9:7: `crm` has no mode `append`; it has mirror, update, upsert (found: append)"),
        ("in_doubt: recend", "9:11: should be hold or resend (found: recend); did you mean 'resend'?"),
        ("nulls: empty", "9:8: should be clear or ignore (found: empty)"),
        ("first_run: 5", "9:12: should be send or baseline (found: 5)"),
        ("enabled: 'true'", "9:10: should be true or false (found: true)"),
        ("tags: crm", "9:7: should be a list (found: crm)"),
        ("tags: [5]", "9:8: should be text (quote it if it is text) (found: 5)"),
        ("tags: ['']", "9:8: should be text, on one line"),
        (
            "match: emial",
            "9:8: the mapping has no field `emial`: what finds the record must be mapped (found: emial); did",
        ),
        ("match: [email, pln]", "9:16: the mapping has no field `pln`: what finds the record must be mapped"),
        ("match: [email, email]", "9:1: names a field twice"),
        ("match: {field: emial}", "9:16: the mapping has no field `emial`: what finds the record must be mapped"),
        ("match: {field: email, secondary: keep}", "9:34: "),
        ("  f: {value: 1}\nmatch: f", "10:8: `f` is a constant in the mapping: it can't tell records apart (found: f)"),
        ("  f: 5", "9:6: should be the name of a column (quote it if it is text) (found: 5)"),
        ("  f: [a]", "9:3: should be text or keys with values (found: f)"),
        ("  f:", "9:3: has no value: give it one, or leave the key out (found: f)"),
        ("  f: {colum: a}", "9:7: there is no key `colum` here (found: colum); did you mean 'column'?"),
        ("  f: {column: a, value: 1}", "9:3: should have either `column` or `value`, not both (found: f)"),
        ("  f: {default: 1}", "9:3: should have either `column` or `value` (found: f)"),
        (
            "  f: {value: 1, nulls: clear}",
            "9:17: `nulls` makes no sense for a constant, which is never NULL (found: nulls)",
        ),
        ("  f: {value: [1]}", "9:7: should be a constant: text, a number, true or false (found: value)"),
        ("  f: {value: null}", "9:7: has no value: give it one, or leave the key out (found: value)"),
        ("  f: {column: a, write: sometimes}", "9:25: should be always, if_empty or on_create (found: sometimes)"),
        (
            "  f: {column: a, object: companies}",
            "9:18: `object` is for a link, which has a `match: {field: column}`, too",
        ),
        ("  f: {match: {domain: a, name: b}}", "9:7: "),
        ("  f: {match: {domain: a}, column: a}", "9:27: `column` makes no sense for a link: leave it out"),
        ("  f: {column: a, nulls: skip}", "9:25: should be clear or ignore (found: skip)"),
        ("  f: {column: a, compare: 0}", "9:27: should be true or false (found: 0)"),
        ("cursor: [at]", "9:1: should be text or keys with values (found: cursor)"),
        (
            "cursor: {column: at, lag: 10}",
            "9:27: should be a length of time such as 30s, 10m, 1h or 2 days (found: 10)",
        ),
        (
            "cursor: {column: at, lag: ten}",
            "9:27: should be a length of time such as 30s, 10m, 1h or 2 days (found: ten)",
        ),
        (
            "cursor: {column: at, start: []}",
            "9:22: should be text (quote it to make it so), or a whole number, or a number",
        ),
        ("cursor: {lag: 1h}", "9:1: `column` is missing here (found: cursor)"),
        ("cursor: at\nmode: mirror", "9:1: hides which rows have left the result, and this sync must know"),
        ("cursor: at\non_removed: {set: {plan: x}}", "9:1: hides which rows have left the result, and this sync must"),
        ("full_scan: every day", "9:1: is only for a sync with a `cursor`: without one every run reads completely"),
        ("cursor: at\nfull_scan: {after: people}", "10:20: `after` is not supported yet here: write an interval or a"),
        ("cursor: at\nfull_scan: daily", "10:12: should be `every N minutes` (or seconds, hours, days), a cron line"),
        (
            "on_removed: delete",
            "9:13: `crm` can't delete records: the word here is `archive` (found: delete); did you mean",
        ),
        ("on_removed: drop", "9:13: should be ignore, archive or delete (found: drop)"),
        ("on_removed: {set: {}}", "9:14: should not be empty (found: set)"),
        (
            "on_removed: {set: {pln: x}}",
            "9:20: the mapping has no field `pln`: what is set must be mapped (found: pln); did",
        ),
        (
            "mode: mirror\non_removed: ignore",
            "10:13: contradicts `mode: mirror`, which means `archive` here: leave it out",
        ),
        ("schedule: 15", "9:11: should be a schedule such as `every 15 minutes` (quote it if it is text) (found: 15)"),
        ("schedule: 0 9 * * 1-9", "9:11: `9` is no weekday of a cron line: it should be 0 to 7, or sun, mon"),
        ("schedule: {after: peple}", "9:19: there is no sync `peple` (found: peple)"),
        ("schedule: {after: people}", "9:19: a sync can't wait for itself (found: people)"),
        ("schedule: {after: []}", "9:12: should not be empty (found: after)"),
        ("schedule: {evry: 5}", "9:1: `after` is missing here (found: schedule)"),
        (
            "timezone: Europe/Berln",
            "9:11: should be a time zone of the IANA list, such as Europe/Berlin or UTC (found: Eur",
        ),
        ("timezone: ../../etc/passwd", "9:11: should be a time zone of the IANA list"),
        ("timezone: 'America'", "9:11: should be a time zone of the IANA list"),
        ("guard: {max_removed: 0.1}", "9:22: should be a share such as 10%, or `none` for no guard (found: 0.1)"),
        ("guard: {max_removed: 101%}", "9:22: should be a share such as 10%, or `none` for no guard (found: 101%)"),
        ("guard: {max_removed: off}", "9:22: some YAML readers take `off` for a truth value"),
        (
            "guard: {max_removd: 1%}",
            "9:9: there is no key `max_removd` here (found: max_removd); did you mean 'max_removed",
        ),
        ("guard: 10%", "9:8: should be keys with values (found: 10%)"),
        ("table: t", "9:1: stands beside `query`: keep one of them (found: table)"),
        ("description:", "9:1: has no value: give it one, or leave the key out (found: description)"),
    ],
)
def test_P46_what_is_wrong_in_a_definition_has_its_place(project: ProjectFolder, more: str, said: str) -> None:
    project.sync(more=more)
    assert project.complaints()[0].startswith(f"syncs/people.yml:{said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"source": "source: warehose"},
            "1:9: reverse_etl.yml has no source `warehose`; it has warehouse (found: ware",
        ),
        (
            {"destination": "destination: cmr"},
            "4:14: reverse_etl.yml has no destination `cmr`; it has crm (found: cmr)",
        ),
        ({"object": None}, "1:1: `object` is missing here"),
        ({"query": None}, "1:1: `query` is missing here (or `query_file`, or `table`)"),
        ({"query": "query: ' '"}, "2:1: should not be empty (found: query)"),
        ({"query": "query: 5"}, "2:8: should be text (quote it to make it so) (found: 5)"),
        ({"query": "query_file: nope.sql"}, "2:13: there is no such file; its path goes from the folder of this one"),
        ({"query": "query_file: ../../outside.sql"}, "2:13: should stay inside the project's folder (found: ../../out"),
        (
            {"query": "query_file: /etc/hostname"},
            "2:13: should stay inside the project's folder (found: /etc/hostname)",
        ),
        ({"query": "query_file: empty.sql"}, "2:13: is an empty file (found: empty.sql)"),
        ({"query": "table: a.b.c.d"}, "2:8: should be a table such as schema.name, without quotes or blanks; for more"),
        ({"query": "table: 'a\"; drop'"}, "2:8: should be a table such as schema.name, without quotes or blanks"),
        ({"key": "key: []"}, "3:1: should not be empty (found: key)"),
        ({"key": "key: {a: b}"}, "3:1: should be text or a list (found: key)"),
        ({"key": "key: [email, email]\nmatch: email"}, "3:1: names a column twice (found: key)"),
        ({"key": "key: 5"}, "3:6: should be the name of a column (quote it if it is text) (found: 5)"),
        ({"key": 'key: "a\\x1b[31m"'}, "3:6: should be the name of a column, on one line (found: a\\x1b[31m)"),
        (
            {"key": "key: [email, plan]"},
            "1:1: `match` is missing here: name the field that finds the record, as the key",
        ),
        ({"key": "key: id"}, "1:1: `match` is missing here: name the field that finds the record, as 0 fields hold"),
        ({"mapping": "mapping: {}", "  email": None, "  plan": None}, "6:1: should not be empty (found: mapping)"),
        ({"mapping": "mapping: [email]", "  email": None, "  plan": None}, "6:1: should be keys with values (found: m"),
        ({"  email": "  5: email"}, "7:3: a key should be text: quote it (found: 5)"),
    ],
)
def test_P46_what_a_definition_must_have_is_asked_for(
    project: ProjectFolder, changes: dict[str, str | None], said: str
) -> None:
    project.write("syncs/empty.sql", " \n")
    project.write("syncs/other.sql", "select 1")
    project.sync(changes)
    assert project.complaints()[0].startswith(f"syncs/people.yml:{said}")


def test_a_query_file_with_a_typo_gets_the_nearest_one(project: ProjectFolder) -> None:
    project.write("syncs/people.sql", "select 1")
    project.sync({"query": "query_file: peple.sql"})
    assert [problem.nearest for problem in project.problems()] == ["people.sql"]


def test_S08_a_query_file_behind_a_link_stays_inside_the_project(project: ProjectFolder, tmp_path: Path) -> None:
    inside = ProjectFolder(tmp_path / "project")
    outside = project.write("outside.sql", "select 1")
    inside.sync({"query": "query_file: link.sql"})
    (inside.root / "syncs/link.sql").symlink_to(outside)
    assert inside.complaints() == ["syncs/people.yml:2:13: should stay inside the project's folder (found: link.sql)"]


def test_a_query_file_that_is_too_large_or_no_text_is_refused(project: ProjectFolder) -> None:
    project.write("syncs/people.sql", b"select '\xff'")
    project.sync({"query": "query_file: people.sql"})
    assert project.complaints() == [
        "syncs/people.sql:1:9: this file isn't UTF-8: save it in that encoding (found: byte 0xff)"
    ]
    project.write("syncs/people.sql", b"-" * (1024 * 1024 + 1))
    assert project.complaints() == ["syncs/people.sql: this file is larger than 1024 KiB, the most that is read"]


def test_P46_all_that_is_wrong_with_a_definition_is_listed_at_once(project: ProjectFolder) -> None:
    changes: dict[str, Any] = {
        "source": "source: warehous",
        "query": "qery: select 1",
        "object": None,
        "key": "key: 012",
    }
    project.sync(changes, more="  f: {colum: a}\nmode: insert\nschedule: never\nguard: {max_removed: 5}")
    assert [(problem.line, problem.text) for problem in project.problems()] == [
        (1, ""),
        (1, "warehous"),
        (2, "qery"),
        (3, "012"),
        (8, "colum"),
        (9, "insert"),
        (10, "never"),
        (11, "5"),
    ]


def test_what_cannot_be_read_is_not_judged_as_well(project: ProjectFolder) -> None:
    project.sync(more="enabled: yes\nschedule:")
    assert [problem.line for problem in project.problems()] == [9, 10]


def test_a_sync_knows_where_it_names_a_column(project: ProjectFolder) -> None:
    project.sync({"key": "key: id"}, more="  n: {column: count}\nmatch: email\ncursor: {column: at}")
    sync = project.only()
    assert [sync.place_of(name) for name in ("plan", "count", "id", "at", "absent")] == [
        (8, 9),
        (9, 15),
        (3, 6),
        (11, 18),
        (0, 0),
    ]
    assert sync.place_file == "syncs/people.yml"


def test_a_sync_places_problems_that_are_found_later(project: ProjectFolder) -> None:
    project.sync()
    problem = project.only().problem("mapping", "plan", message="is read-only", nearest="plan_name", of_key=True)
    assert str(problem) == "syncs/people.yml:8:3: is read-only (found: plan); did you mean 'plan_name'?"


def test_a_sync_that_no_file_defines_has_no_places() -> None:
    sync = SyncConfig(
        name="a",
        source="s",
        sql="select 1",
        key=("k",),
        destination="d",
        object="o",
        match="f",
        mapping={"f": FieldMapping(column="k")},
    )
    assert sync.place_of("k") == (0, 0)
    assert sync.place_file == ""
