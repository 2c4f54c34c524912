"""Links between HubSpot's records over real HTTP: parents found, waited for, labelled, changed and taken off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sandbox.scene import TOKEN, Scene, scene_in

COLUMNS = "email text, first_name text, domain text"
PLAIN = {"object": "companies", "match": {"domain": "domain"}}
PRIMARY = {**PLAIN, "label": "Primary"}
A, B = "a@example.com", "b@example.com"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Search that sees everything at once, and two companies."""
    with scene_in(tmp_path, search_lag=0.0) as ready:
        ready.sandbox.hubspot.add("companies", {"name": "Acme", "domain": "acme.io", "app_company_id": "c1"})
        ready.sandbox.hubspot.add("companies", {"name": "Globex", "domain": "globex.io", "app_company_id": "c2"})
        define(ready)
        yield ready


def define(scene: Scene, link: Mapping[str, Any] = PLAIN, **changes: Any) -> None:
    scene.define(mapping={"email": "email", "firstname": "first_name", "company": dict(link)}, **changes)


def people(scene: Scene, *rows: Sequence[object], columns: str = COLUMNS) -> None:
    scene.people(*(tuple(row) for row in rows), columns=columns)


def links(scene: Scene, source: str = "contacts", target: str = "companies", show: str = "domain") -> dict[str, Any]:
    """Of each contact, by e-mail: its companies' domains, each with the labels of the pair."""
    kinds = scene.sandbox.hubspot.portal.types
    others = {record["id"]: record["properties"].get(show) for record in scene.records(target)}
    labels = dict(labels_of(scene, source, target))
    found: dict[str, Any] = {}
    for record in scene.records(source):
        held = kinds[source].links.get(record["id"], {})
        found[record["properties"].get("email") or record["properties"].get("name")] = {
            others[key.partition("/")[2]]: sorted(labels[number] for _, number in types if labels.get(number))
            for key, types in sorted(held.items())
            if key.partition("/")[0] == kinds[target].type_id and key.partition("/")[2] in others
        }
    return found


def labels_of(scene: Scene, source: str, target: str) -> list[tuple[int, str | None]]:
    answer = call(scene, "GET", f"/crm/associations/2026-09/{source}/{target}/labels")
    return [(each["typeId"], each["label"]) for each in answer["results"]]


def call(scene: Scene, method: str, path: str, body: Any = None) -> Any:
    """A call beside the product's own, as another program would make it."""
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = httpx.request(method, scene.sandbox.url + path, json=body, headers=headers)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def made(scene: Scene) -> list[str]:
    """The ends of the paths that the product called, in their order, without what only asks."""
    return [entry.path.rpartition("batch/")[2] for entry in scene.writes() if not entry.path.endswith("/read")]


# --- made, waiting, changed, taken off -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2026-09", "2026-03", "2025-09", "v3"])
def test_a_link_is_made_changed_and_taken_off_in_every_version(scene: Scene, version: str) -> None:
    scene.write_project(destinations={"hubspot": destination(scene, api_version=version)})
    people(scene, (A, "Ada", "acme.io"), (B, "Bob", None))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"acme.io": []}, B: {}}
    people(scene, (A, "Ada", "globex.io"), (B, "Bob", "acme.io"))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"globex.io": []}, B: {"acme.io": []}}
    people(scene, (A, "Ada", None), (B, "Bob", None))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {}, B: {}}
    before = scene.calls()
    assert scene.sync("people")["requests"] == 0
    assert scene.calls() == before


def destination(scene: Scene, **more: Any) -> dict[str, Any]:
    return {"type": "hubspot", "access_token": TOKEN, "base_url": scene.sandbox.url, **more}


def test_a_missing_parent_is_waited_for_and_only_the_link_is_made_later(scene: Scene) -> None:
    people(scene, (A, "Ada", "umbrella.io"), (B, "Bob", "acme.io"))
    run = scene.sync("people")
    assert (run["exit"], run["delivered"]["created"], run["rejected"]) == (3, 1, 1)
    (row,) = scene.rejected()
    assert (row["key"], row["code"]) == (A, "link_waiting")
    assert row["message"] == "company: HubSpot has none of companies with domain 'umbrella.io' yet"
    scene.sandbox.hubspot.add("companies", {"name": "Umbrella", "domain": "umbrella.io"})
    before = len(scene.writes())
    run = scene.sync("people")
    assert (run["exit"], run["delivered"]["updated"], run["rejected"]) == (0, 1, 0)
    assert made_since(scene, before) == ["/search", "associate/default"]
    assert links(scene) == {A: {"umbrella.io": []}, B: {"acme.io": []}}


def made_since(scene: Scene, before: int) -> list[str]:
    return [
        "/search" if path.endswith("/search") else path.rpartition("batch/")[2]
        for path in (entry.path for entry in scene.writes()[before:])
    ]


def test_a_parent_that_search_does_not_see_yet_is_waited_for(tmp_path: Path) -> None:
    with scene_in(tmp_path, search_lag=3600.0) as scene:
        scene.sandbox.hubspot.add("companies", {"name": "Acme", "domain": "acme.io"})
        define(scene)
        people(scene, (A, "Ada", "acme.io"))
        assert scene.sync("people")["exit"] == 3
        assert links(scene) == {A: {}}
        scene.sandbox.hubspot.search.lag = 0.0
        assert scene.sync("people")["exit"] == 0
        assert links(scene) == {A: {"acme.io": []}}
        assert len(scene.records("companies")) == 1


def test_several_parents_with_one_value_are_named_and_none_is_chosen(scene: Scene) -> None:
    twin = scene.sandbox.hubspot.add("companies", {"name": "Acme Inc", "domain": "acme.io"})
    people(scene, (A, "Ada", "ACME.io"))
    assert scene.sync("people")["exit"] == 3
    (row,) = scene.rejected()
    assert row["code"] == "ambiguous_match"
    assert f"domain 'ACME.io' finds several companies: 101, {twin}; merge them" in row["message"]
    assert links(scene) == {A: {}}


def test_a_thousand_parents_are_searched_for_in_bodies_that_search_takes(scene: Scene) -> None:
    domains = [f"{'long-' * 8}company-{number}.example.com" for number in range(150)]
    for domain in domains:
        scene.sandbox.hubspot.add("companies", {"name": domain, "domain": domain})
    people(scene, *[(f"p{at}@example.com", "P", domain) for at, domain in enumerate(domains)])
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {f"p{at}@example.com": {domain: []} for at, domain in enumerate(domains)}
    searches = [entry for entry in scene.writes() if entry.path.endswith("/search")]
    assert len(searches) <= 6


# --- how parents are found -------------------------------------------------------------------------------------------


def test_a_unique_property_finds_the_parent_without_a_search(scene: Scene) -> None:
    define(scene, {"object": "companies", "match": {"app_company_id": "domain"}})
    people(scene, (A, "Ada", "c2"), (B, "Bob", "c9"))
    assert scene.sync("people")["rejected"] == 1
    assert links(scene) == {A: {"globex.io": []}, B: {}}
    assert not [entry for entry in scene.writes() if entry.path.endswith("/search")]


def test_a_record_id_is_taken_as_it_is_and_an_unknown_one_is_waited_for(scene: Scene) -> None:
    define(scene, {"object": "companies", "match": {"hs_object_id": "company_id"}})
    acme, globex = (record["id"] for record in scene.records("companies"))
    rows = [(A, "Ada", int(globex)), (B, "Bob", 987654), ("c@example.com", "Cid", int(acme))]
    people(scene, *rows, columns="email text, first_name text, company_id bigint")
    assert scene.sync("people")["rejected"] == 1
    assert links(scene) == {A: {"globex.io": []}, B: {}, "c@example.com": {"acme.io": []}}
    (row,) = scene.rejected()
    assert (row["key"], row["code"]) == (B, "link_waiting")
    assert row["message"] == "company: record 987654 of companies is not in HubSpot"


def test_a_contact_is_found_by_any_of_its_addresses(scene: Scene) -> None:
    ada = scene.sandbox.hubspot.add("contacts", {"email": A})
    scene.sandbox.hubspot.add("contacts", {"email": B})
    other = scene.sandbox.hubspot.add("contacts", {"email": "ada@home.example"})
    call(scene, "POST", "/crm/objects/2026-09/contacts/merge", {"primaryObjectId": ada, "objectIdToMerge": other})
    owner = {"object": "contacts", "match": {"email": "owner"}}
    scene.define(
        name="firms",
        key="id",
        query="select * from firms",
        object="companies",
        match="app_company_id",
        mapping={"app_company_id": "id", "name": "name", "owner": owner},
    )
    rows = [("c1", "Acme", "Ada@Home.example"), ("c2", "Globex", "B@Example.com"), ("c3", "Initech", "x@example.com")]
    scene.table("firms", "id text, name text, owner text", rows)
    assert scene.sync("firms")["rejected"] == 1
    assert links(scene, "companies", "contacts", "email") == {"Acme": {A: []}, "Globex": {B: []}, "Initech": {}}


# --- labels ----------------------------------------------------------------------------------------------------------


def test_a_labelled_link_is_made_and_taken_off_and_an_idle_run_asks_nothing(scene: Scene) -> None:
    define(scene, PRIMARY)
    people(scene, (A, "Ada", "acme.io"))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"acme.io": ["Primary"]}}
    people(scene, (A, "Ada", "globex.io"))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"globex.io": ["Primary"]}}
    people(scene, (A, "Ada", None))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {}}
    assert scene.sync("people")["requests"] == 0


def test_labels_that_others_gave_a_pair_are_kept(scene: Scene) -> None:
    make_label(scene, "Advisor")
    define(scene, {**PLAIN, "label": "advisor"})
    people(scene, (A, "Ada", "acme.io"))
    scene.sync("people")
    ada, acme = scene.records("contacts")[0]["id"], scene.records("companies")[0]["id"]
    label(scene, ada, acme, "Advisor", "Primary")
    people(scene, (A, "Ada", "globex.io"))
    scene.sync("people")
    assert links(scene) == {A: {"acme.io": ["Primary"], "globex.io": ["Advisor"]}}
    label(scene, ada, scene.records("companies")[1]["id"], "Primary")
    scene.sync("people", full=True)
    assert links(scene) == {A: {"acme.io": ["Primary"], "globex.io": ["Advisor", "Primary"]}}
    before = len(scene.writes())
    scene.sync("people", full=True)
    assert "create" not in made_since(scene, before)


def make_label(scene: Scene, name: str, source: str = "contacts", target: str = "companies") -> None:
    body = {"label": name, "name": name.lower().replace(" ", "_")}
    call(scene, "POST", f"/crm/associations/2026-09/{source}/{target}/labels", body)


def label(scene: Scene, contact: str, company: str, *names: str) -> None:
    """What a person does in HubSpot: these labels for the pair."""
    numbers = {name: number for number, name in labels_of(scene, "contacts", "companies")}
    types = [
        {"associationCategory": "HUBSPOT_DEFINED" if name == "Primary" else "USER_DEFINED", "associationTypeId": number}
        for name, number in ((name, numbers[name]) for name in names)
    ]
    body = {"inputs": [{"from": {"id": contact}, "to": {"id": company}, "types": types}]}
    call(scene, "POST", "/crm/associations/2026-09/contacts/companies/batch/create", body)


def test_a_label_is_of_one_direction_and_others_are_named_with_the_nearest(scene: Scene) -> None:
    make_label(scene, "Decision maker")
    define(scene, {**PLAIN, "label": "Decision maker"})
    people(scene, (A, "Ada", "acme.io"))
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"acme.io": ["Decision maker"]}}
    define(scene, {**PLAIN, "label": "Decisionmaker"})
    ended = scene.cli("check", "--connect")
    assert ended.returncode == 2
    told = " ".join((ended.stdout + ended.stderr).split())
    assert "from contacts to companies there is no label 'Decisionmaker' (did you mean 'Decision maker'?" in told
    assert "the labels are: Primary, Decision maker" in told


# --- links that can't be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"object": "companys", "match": {"domain": "domain"}}, "HubSpot has no object 'companys' (did you mean"),
        (
            {"object": "companies", "match": {"domian": "domain"}},
            "companies have no property 'domian' to find the link's other record by (did you mean 'domain'?)",
        ),
        ({"object": "companies", "match": {"createdate": "domain"}}, "companies.createdate is a datetime"),
        ({"match": {"domain": "domain"}}, "must say which object it leads to (add `object: companies`"),
    ],
)
def test_a_link_that_can_not_be_is_a_problem_with_its_place(scene: Scene, link: dict[str, Any], said: str) -> None:
    define(scene, link)
    people(scene, (A, "Ada", "acme.io"))
    code, document = scene.json("check", "--connect")
    (problem,) = document["problems"]
    assert (code, problem["file"], problem["line"] > 0) == (2, "syncs/people.yml", True)
    assert said in problem["message"]
    run = scene.sync("people")
    assert (run["exit"], scene.records("contacts")) == (2, [])


# --- custom objects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cars", "Car", "2-3456", "p12345678_cars"])
def test_custom_objects_are_parents_and_children_by_each_of_their_names(scene: Scene, name: str) -> None:
    schema = {
        "name": "cars",
        "labels": {"singular": "Car", "plural": "Cars"},
        "primaryDisplayProperty": "plate",
        "requiredProperties": ["plate"],
        "properties": [
            {"name": "plate", "label": "Plate", "type": "string", "fieldType": "text", "hasUniqueValue": True}
        ],
    }
    call(scene, "POST", "/crm-object-schemas/2026-09/schemas", schema)
    scene.define(
        name="cars",
        query="select * from cars",
        key="plate",
        object=name,
        match="plate",
        mapping={"plate": "plate", "driver": {"object": "contacts", "match": {"email": "driver"}}},
    )
    define(
        scene, {"object": name, "match": {"plate": "plate"}}, query="select * from people", schedule={"after": "cars"}
    )
    scene.table("cars", "plate text, driver text", [("A-1", A)])
    scene.people((A, "Ada", "A-1"), columns="email text, first_name text, plate text")
    assert scene.sync("cars")["rejected"] == 1
    assert scene.sync("people")["exit"] == 0
    assert scene.sync("cars")["exit"] == 0
    assert links(scene, "contacts", "cars", "plate") == {A: {"A-1": []}}
    kinds = scene.sandbox.hubspot.portal.types
    assert list(kinds["cars"].links.values()) == [{f"0-1/{scene.records('contacts')[0]['id']}": {default(scene)}}]


def default(scene: Scene) -> tuple[str, int]:
    answer = call(scene, "GET", "/crm/associations/2026-09/cars/contacts/labels")["results"][0]
    return answer["category"], answer["typeId"]


# --- records that went -----------------------------------------------------------------------------------------------


def test_a_deleted_contact_is_made_anew_when_only_its_link_changes(scene: Scene) -> None:
    people(scene, (A, "Ada", "acme.io"), (B, "Bob", "acme.io"))
    scene.sync("people")
    ada = next(record["id"] for record in scene.records("contacts") if record["properties"]["email"] == A)
    call(scene, "DELETE", f"/crm/objects/2026-09/contacts/{ada}")
    people(scene, (A, "Ada", "globex.io"), (B, "Bob", "globex.io"))
    run = scene.sync("people")
    assert (run["exit"], run["delivered"]["created"], run["delivered"]["updated"]) == (0, 1, 1)
    assert links(scene) == {A: {"globex.io": []}, B: {"globex.io": []}}


def test_a_deleted_parent_is_waited_for_and_the_link_to_a_former_one_is_simply_gone(scene: Scene) -> None:
    people(scene, (A, "Ada", "acme.io"))
    scene.sync("people")
    acme = scene.records("companies")[0]["id"]
    call(scene, "DELETE", f"/crm/objects/2026-09/companies/{acme}")
    people(scene, (A, "Ada", "globex.io"))
    assert scene.sync("people")["exit"] == 0
    people(scene, (A, "Ada", "acme.io"))
    assert scene.sync("people")["rejected"] == 1
    scene.sandbox.hubspot.add("companies", {"name": "Acme again", "domain": "acme.io"})
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"acme.io": []}}


def test_a_record_known_by_an_id_that_was_merged_keeps_its_links(scene: Scene) -> None:
    people(scene, (A, "Ada", "acme.io"), (B, "Bob", "acme.io"))
    scene.sync("people")
    first, second = (record["id"] for record in scene.records("contacts"))
    call(scene, "POST", "/crm/objects/2026-09/contacts/merge", {"primaryObjectId": second, "objectIdToMerge": first})
    people(scene, (A, "Ada L.", "globex.io"), (B, "Bob", "acme.io"))
    run = scene.sync("people")
    assert run["in_doubt"] == 0
    assert run["error"] is None


# --- faults ----------------------------------------------------------------------------------------------------------

FAULTS: list[dict[str, Any]] = [
    {"kind": "cut", "applied": False},
    {"kind": "cut", "applied": True},
    {"kind": "status", "status": 500, "applied": True},
    {"kind": "status", "status": 503},
    {"kind": "html", "status": 502, "applied": True},
    {"kind": "throttle", "policy": "ten_secondly", "retry_after": "0"},
    {"kind": "truncate"},
    {"kind": "omit"},
    {"kind": "reverse"},
    {"kind": "stranger"},
    {"kind": "duplicate"},
]


@pytest.mark.parametrize(
    ("fault", "link"),
    [
        *((fault, PLAIN) for fault in FAULTS),
        *((fault, PRIMARY) for fault in FAULTS if fault["kind"] in ("cut", "omit")),
    ],
    ids=lambda given: (
        "-".join(str(part) for part in given.values()) if "kind" in given else given.get("label", "plain")
    ),
)
def test_a_single_fault_costs_no_link(scene: Scene, fault: dict[str, Any], link: dict[str, Any]) -> None:
    define(scene, link)
    word = ["Primary"] if link is PRIMARY else []
    people(scene, (A, "Ada", "acme.io"), (B, "Bob", "globex.io"))
    scene.sandbox.faults.add(**fault, path="associations/.*batch/(associate|create)")
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"acme.io": word}, B: {"globex.io": word}}
    people(scene, (A, "Ada", "globex.io"), (B, "Bob", None))
    scene.sandbox.faults.clear()
    scene.sandbox.faults.add(**fault, path="associations/.*batch/archive")
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"globex.io": word}, B: {}}


def test_an_answer_without_a_word_is_no_success(scene: Scene) -> None:
    people(scene, (A, "Ada", "acme.io"))
    scene.sandbox.faults.add("empty", path="associate/default")
    assert scene.sync("people")["exit"] == 3
    (row,) = scene.rejected()
    assert (row["code"], row["message"]) == (
        "link_waiting",
        "company: HubSpot's answer doesn't speak of this link, and it isn't there",
    )
    assert scene.sync("people")["exit"] == 0
    assert links(scene) == {A: {"acme.io": []}}


def test_links_that_fail_for_good_leave_their_records_acknowledged(scene: Scene) -> None:
    people(scene, (A, "Ada", "acme.io"), (B, "Bob", None))
    scene.sandbox.faults.add("status", status=500, path="associations/.*associate", times=None)
    run = scene.sync("people")
    assert (run["status"], run["exit"], run["rejected"]) == ("failed", 1, 1)
    scene.sandbox.faults.clear()
    before = len(scene.writes())
    assert scene.sync("people")["exit"] == 0
    assert "upsert" not in made_since(scene, before)
    assert links(scene) == {A: {"acme.io": []}, B: {}}


@pytest.mark.parametrize(
    ("errors", "missing"),
    [
        ([{"category": "LIMIT_EXCEEDED", "message": "too many", "context": {"fromObjectId": ["{a}"]}}], {A}),
        ([{"category": "LIMIT_EXCEEDED", "message": "too many", "context": {"id": ["{b}"]}}], {B}),
        ([{"category": "LIMIT_EXCEEDED", "message": "too many"}], {A, B}),
    ],
)
def test_an_error_is_the_row_s_that_it_names_and_no_other_s(
    scene: Scene, errors: list[dict[str, Any]], missing: set[str]
) -> None:
    """The second row of two is never blamed for the first; an error that names nobody is nobody's reason."""
    people(scene, (A, "Ada", None), (B, "Bob", None))
    scene.sync("people")
    ids = {record["properties"]["email"]: record["id"] for record in scene.records("contacts")}
    companies = [record["id"] for record in scene.records("companies")]
    made = [
        {"from": {"id": ids[email]}, "to": {"id": company}}
        for email, company in zip((A, B), companies, strict=True)
        if email not in missing
    ]
    for error in errors:
        for name, told in error.get("context", {}).items():
            error["context"][name] = [each.format(a=ids[A], b=ids[B]) for each in told]
    body = {"status": "COMPLETE", "results": made, "errors": errors, "numErrors": len(errors)}
    scene.sandbox.faults.add("status", status=207, body=body, path="associate/default")
    people(scene, (A, "Ada", "acme.io"), (B, "Bob", "globex.io"))
    scene.sync("people")
    codes = {row["key"]: row["code"] for row in scene.rejected()}
    assert codes == dict.fromkeys(missing, "LIMIT_EXCEEDED" if len(missing) == 1 else "link_waiting")


@pytest.mark.parametrize("seed", range(2))
def test_whatever_goes_wrong_two_clean_runs_later_every_link_is_right(tmp_path: Path, seed: int) -> None:
    with scene_in(tmp_path, search_lag=0.0, seed=seed) as scene:
        domains = [f"c{number}.io" for number in range(8)]
        for domain in domains[:6]:
            scene.sandbox.hubspot.add("companies", {"name": domain, "domain": domain})
        define(scene, PRIMARY if seed % 2 else PLAIN)
        for shift in range(3):
            path = "batch/(associate|create|archive)"
            scene.sandbox.faults.add("cut", applied=True, path=path, probability=0.3, times=2)
            scene.sandbox.faults.add("status", status=500, path=path, probability=0.3, times=2)
            scene.sandbox.faults.add("empty", path="batch/(associate|create)", probability=0.3)
            wanted = [None if (at + shift) % 5 == 0 else domains[(at * 3 + shift) % 8] for at in range(30)]
            people(scene, *[(f"p{at}@example.com", "P", domain) for at, domain in enumerate(wanted)])
            scene.sync("people")
            scene.sandbox.faults.clear()
        for domain in domains[6:]:
            scene.sandbox.hubspot.add("companies", {"name": domain, "domain": domain})
        scene.sync("people")
        assert scene.cli("rejected", "people", "--retry").returncode == 0
        word = ["Primary"] if seed % 2 else []
        right = {f"p{at}@example.com": {domain: word} if domain else {} for at, domain in enumerate(wanted)}
        assert links(scene) == right
        assert scene.sync("people")["exit"] == 0
        assert links(scene) == right
