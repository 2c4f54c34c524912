"""Writing HubSpot records: what is saved, what is refused, and how far one bad row reaches."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox, running

UPSERT = "/crm/objects/2026-09/contacts/batch/upsert"
UPDATE = "/crm/objects/2026-09/contacts/batch/update"
CREATE = "/crm/objects/2026-09/contacts/batch/create"


def row(email: str, trace: str | None = None, **values: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"id": email, "idProperty": "email", "properties": {"email": email, **values}}
    return made if trace is None else {**made, "objectWriteTraceId": trace}


def send(client: httpx.Client, *rows: dict[str, Any], to: str = UPSERT) -> httpx.Response:
    return client.post(to, json={"inputs": list(rows)})


def problems(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(body["message"].partition("Property values were not valid: ")[2])
    return found


def test_an_upsert_creates_then_updates_and_says_which(hubspot: httpx.Client) -> None:
    first = send(hubspot, row("ada@x.io", "0", firstname="Ada"))
    second = send(hubspot, row("ada@x.io", "0", firstname="Augusta"))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["results"][0]["new"] is True
    assert second.json()["results"][0]["new"] is False
    assert first.json()["results"][0]["id"] == second.json()["results"][0]["id"]


@pytest.mark.parametrize(
    "path",
    [
        "/crm/v3/objects/contacts/batch/upsert",
        "/crm/objects/2025-09/0-1/batch/upsert",
        "/crm/objects/2026-03/contact/batch/upsert",
        UPSERT,
    ],
)
def test_all_generations_of_paths_and_names_lead_to_one_store(
    sandbox: Sandbox, hubspot: httpx.Client, path: str
) -> None:
    assert send(hubspot, row("ada@x.io"), to=path).status_code == 200
    assert [found["properties"]["email"] for found in sandbox.hubspot.records("contacts")] == ["ada@x.io"]


def test_with_trace_ids_a_bad_row_stands_alone(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    answer = send(hubspot, row("ada@x.io", "a"), row("bad@@x", "b"), row("eve@x.io", "c", plan="gold"))
    body = answer.json()
    assert answer.status_code == 207
    assert [result["properties"]["email"] for result in body["results"]] == ["ada@x.io"]
    assert body["numErrors"] == 2
    codes = {error["context"]["objectWriteTraceId"][0]: problems(error)[0]["error"] for error in body["errors"]}
    assert codes == {"b": "INVALID_EMAIL", "c": "INVALID_OPTION"}
    assert len(sandbox.hubspot.records("contacts")) == 1


@pytest.mark.parametrize("traces", [(None, None), ("a", None), ("a", "a")])
def test_without_a_trace_id_of_its_own_for_every_row_one_bad_row_sinks_all(
    sandbox: Sandbox, hubspot: httpx.Client, traces: tuple[str | None, str | None]
) -> None:
    answer = send(hubspot, row("ada@x.io", traces[0]), row("bad@@x", traces[1], plan="gold"))
    body = answer.json()
    assert answer.status_code == 400
    assert body["category"] == "VALIDATION_ERROR"
    assert [found["error"] for found in problems(body)] == ["INVALID_EMAIL", "INVALID_OPTION"]
    assert [found["propertyValue"] for found in problems(body)] == ["bad@@x", "gold"]
    assert body["errors"][0]["context"] == {"propertyName": ["email"]}
    assert sandbox.hubspot.records("contacts") == []
    assert len(sandbox.ledger) == 0


@pytest.mark.parametrize(
    ("name", "value", "code", "text"),
    [
        ("nothing_like_it", "1", "PROPERTY_DOESNT_EXIST", 'Property "nothing_like_it" does not exist'),
        ("hs_object_id", "1", "READ_ONLY_VALUE", '"hs_object_id" is a calculated property; its value cannot be set.'),
        ("createdate", "1", "READ_ONLY_VALUE", '"createdate" is a read only property; its value cannot be set.'),
        ("workspaces_total", "many", "INVALID_INTEGER", "many was not a valid number."),
        ("workspaces_total", "1.42e-14", "INVALID_INTEGER", "1.42e-14 was not a valid number."),
        ("last_active_at", "soon", "INVALID_LONG", "soon was not a valid long."),
        ("first_workspace_at", "1641038400000", "INVALID_DATE", "1641038400000 is at 12:0:0.0 UTC, not midnight!"),
        ("plan", "Pro", "INVALID_OPTION", "Pro was not one of the allowed options: [free, pro, team, enterprise]"),
        ("hubspot_owner_id", "7", "INVALID_OPTION", "7 was not one of the allowed options: [41001, 41002]"),
        (
            "hs_email_optout",
            "1",
            "READ_ONLY_VALUE",
            '"hs_email_optout" is a read only property; its value cannot be set.',
        ),
    ],
)
def test_each_kind_of_bad_value_has_its_code_and_text(
    hubspot: httpx.Client, name: str, value: str, code: str, text: str
) -> None:
    problem = problems(send(hubspot, row("ada@x.io", **{name: value})).json())[0]
    assert (problem["error"], problem["message"], problem["name"]) == (code, text, name)


def test_a_text_of_65537_characters_is_too_long(hubspot: httpx.Client) -> None:
    assert send(hubspot, row("ada@x.io", message="x" * 65_536)).status_code == 200
    assert send(hubspot, row("ada@x.io", message="x" * 65_537)).status_code == 400


def test_values_are_stored_as_the_crm_shows_them(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    given = {
        "last_active_at": "2026-01-31T10:20:30+02:00",
        "first_workspace_at": "1641081600000",
        "hs_buying_role": ";END_USER",
    }
    send(hubspot, row(" Ada@X.io ", workspaces_total=3, hs_buying_role="CHAMPION"))
    send(hubspot, row("ada@x.io", **given))
    values = sandbox.hubspot.records("contacts")[0]["properties"]
    assert values["email"] == "ada@x.io"
    assert values["workspaces_total"] == "3"
    assert values["last_active_at"] == "2026-01-31T08:20:30.000Z"
    assert values["first_workspace_at"] == "2022-01-02"
    assert values["hs_buying_role"] == "CHAMPION;END_USER"


def test_an_empty_text_clears_and_is_echoed_then_read_as_null(hubspot: httpx.Client) -> None:
    made = send(hubspot, row("ada@x.io", firstname="Ada")).json()["results"][0]
    cleared = hubspot.post(UPDATE, json={"inputs": [{"id": made["id"], "properties": {"firstname": ""}}]}).json()
    assert cleared["results"][0]["properties"]["firstname"] == ""
    read = hubspot.get(f"/crm/v3/objects/contacts/{made['id']}?properties=firstname,nothing_like_it").json()
    assert read["properties"]["firstname"] is None
    assert "nothing_like_it" not in read["properties"]


def test_an_answer_shows_only_what_was_sent_and_system_values(hubspot: httpx.Client) -> None:
    send(hubspot, row("ada@x.io", firstname="Ada"))
    again = send(hubspot, row("ada@x.io", lastname="Lovelace")).json()["results"][0]["properties"]
    assert set(again) == {"email", "lastname", "hs_object_id", "createdate", "lastmodifieddate"}


def test_results_come_in_another_order_than_the_rows(hubspot: httpx.Client) -> None:
    emails = [f"u{number}@x.io" for number in range(50)]
    answer = send(hubspot, *[row(email, email) for email in emails]).json()
    got = [result["properties"]["email"] for result in answer["results"]]
    assert got != emails
    assert sorted(got) == sorted(emails)
    assert "objectWriteTraceId" not in answer["results"][0]


def test_one_address_twice_in_a_batch_is_refused_as_a_whole_whatever_its_case(hubspot: httpx.Client) -> None:
    answer = send(hubspot, row("ada@x.io", "0"), row("ADA@x.io", "1"))
    assert answer.status_code == 400
    assert answer.json()["message"] == "Duplicate IDs found in batch input: [ada@x.io]. IDs must be unique"
    assert answer.json()["context"] == {"ids": ["ada@x.io"]}


@pytest.mark.parametrize(
    ("kind", "name"), [("companies", "domain"), ("contacts", "hs_object_id"), ("contacts", "plan")]
)
def test_a_property_that_is_not_unique_finds_no_record(hubspot: httpx.Client, kind: str, name: str) -> None:
    path = f"/crm/objects/2026-09/{kind}/batch/upsert"
    answer = hubspot.post(path, json={"inputs": [{"id": "1", "idProperty": name, "properties": {}}]})
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Unable to perform update/upsert by non-unique 0-")
    assert f"property {name}" in answer.json()["message"]


def test_a_hundred_and_one_rows_none_and_no_json_are_refused(hubspot: httpx.Client) -> None:
    assert send(hubspot, *[row(f"u{number}@x.io") for number in range(101)]).status_code == 400
    assert send(hubspot).status_code == 400
    broken = hubspot.post(UPSERT, content=b'{"inputs": [', headers={"content-type": "application/json"})
    assert broken.status_code == 400
    assert broken.json()["message"].startswith("Invalid input JSON on line 1, column")


def test_an_unknown_object_type_is_named(hubspot: httpx.Client) -> None:
    answer = send(hubspot, row("a@x.io"), to="/crm/v3/objects/butterflies/batch/upsert")
    assert (answer.status_code, answer.json()["message"]) == (400, "Unable to infer object type from: butterflies")


def test_a_taken_unique_value_names_both_records(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    owner = sandbox.hubspot.add("contacts", {"email": "ada@x.io", "app_user_id": "u1"})
    other = sandbox.hubspot.add("contacts", {"email": "eve@x.io"})
    error = send(hubspot, row("eve@x.io", "0", app_user_id="u1")).json()["errors"][0]
    assert error["category"] == "VALIDATION_ERROR"
    assert error["message"].endswith(
        f"propertyName=app_user_id, value=u1}} on {other}. {owner} already has that value."
    )
    assert "legacyObjectType=CONTACT" in error["message"]


def test_a_unique_value_is_also_defended_inside_one_batch(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    body = send(hubspot, row("ada@x.io", "0", app_user_id="u"), row("eve@x.io", "1", app_user_id="u")).json()
    assert [error["context"]["objectWriteTraceId"] for error in body["errors"]] == [["1"]]
    assert len(sandbox.hubspot.records("contacts")) == 1


def test_creating_a_contact_whose_address_exists_is_a_conflict_that_names_it(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    there = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    rows: list[dict[str, Any]] = [
        {"properties": {"email": "ada@x.io"}, "associations": []},
        {"properties": {"email": "new@x.io"}},
    ]
    whole = hubspot.post(CREATE, json={"inputs": rows})
    assert (whole.status_code, whole.json()["category"]) == (409, "CONFLICT")
    assert whole.json()["message"] == f"Contact already exists. Existing ID: {there}"
    traced = [{**entry, "objectWriteTraceId": str(place)} for place, entry in enumerate(rows)]
    alone = hubspot.post(CREATE, json={"inputs": traced})
    assert (alone.status_code, len(alone.json()["results"])) == (207, 1)
    assert alone.json()["errors"][0]["context"] == {"objectWriteTraceId": ["0"], "existingId": [there]}


def test_an_update_of_ids_that_do_not_exist_gets_one_error_for_all_of_them(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    there = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    rows = [{"id": record_id, "properties": {"plan": "pro"}} for record_id in (there, "999", "998")]
    answer = hubspot.post(UPDATE, json={"inputs": rows})
    body = answer.json()
    assert (answer.status_code, body["numErrors"], len(body["results"])) == (207, 1, 1)
    assert body["errors"][0]["category"] == "OBJECT_NOT_FOUND"
    assert body["errors"][0]["context"] == {"ids": ["999", "998"]}


def test_whether_trace_ids_isolate_the_rows_of_an_update_can_be_set(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    there = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    bad = {"inputs": [{"id": there, "objectWriteTraceId": "0", "properties": {"plan": "gold"}}]}
    assert hubspot.post(UPDATE, json=bad).status_code == 207
    sandbox.hubspot.rules.update_traces = False
    assert hubspot.post(UPDATE, json=bad).status_code == 400


def test_mixed_results_of_the_newest_version_can_be_plain_200_and_results_can_carry_trace_ids(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    sandbox.hubspot.rules.mixed_status = 200
    sandbox.hubspot.rules.echo_trace_ids = True
    answer = send(hubspot, row("ada@x.io", "0"), row("bad@@x", "1"))
    assert (answer.status_code, len(answer.json()["errors"])) == (200, 1)
    assert answer.json()["results"][0]["objectWriteTraceId"] == "0"
    old = send(hubspot, row("ada@x.io", "0"), row("bad@@x", "1"), to="/crm/v3/objects/contacts/batch/upsert")
    assert old.status_code == 207


def test_archiving_answers_204_for_what_exists_and_what_does_not(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    there = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    path = "/crm/objects/2026-09/contacts/batch/archive"
    for _ in range(2):
        answer = hubspot.post(path, json={"inputs": [{"id": there}, {"id": "999"}]})
        assert (answer.status_code, answer.content) == (204, b"")
    assert hubspot.get(f"/crm/v3/objects/contacts/{there}").status_code == 404
    assert hubspot.get(f"/crm/v3/objects/contacts/{there}?archived=true").json()["archived"] is True


def test_an_upsert_after_an_archive_makes_a_new_record(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    old = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    hubspot.delete(f"/crm/v3/objects/contacts/{old}")
    result = send(hubspot, row("ada@x.io")).json()["results"][0]
    assert result["new"] is True
    assert result["id"] != old


def test_merged_records_are_reached_by_their_old_ids_and_answer_with_the_new_one(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    first = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    second = sandbox.hubspot.add("contacts", {"email": "lovelace@x.io"})
    merged = hubspot.post(
        "/crm/v3/objects/contacts/merge", json={"primaryObjectId": first, "objectIdToMerge": second}
    ).json()
    assert merged["id"] not in (first, second)
    changed = hubspot.post(UPDATE, json={"inputs": [{"id": second, "properties": {"plan": "pro"}}]}).json()
    assert changed["results"][0]["id"] == merged["id"]
    by_secondary = send(hubspot, {**row("lovelace@x.io"), "properties": {"plan": "team"}}).json()["results"][0]
    assert (by_secondary["id"], by_secondary["new"]) == (merged["id"], False)


def test_a_lifecycle_stage_moves_forward_only_until_it_is_cleared(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    send(hubspot, row("ada@x.io"))
    assert sandbox.hubspot.records("contacts")[0]["properties"]["lifecyclestage"] == "lead"
    send(hubspot, row("ada@x.io", lifecyclestage="customer"))
    kept = send(hubspot, row("ada@x.io", lifecyclestage="subscriber")).json()["results"][0]
    assert kept["properties"]["lifecyclestage"] == "customer"
    send(hubspot, row("ada@x.io", lifecyclestage=""))
    send(hubspot, row("ada@x.io", lifecyclestage="subscriber"))
    assert sandbox.hubspot.records("contacts")[0]["properties"]["lifecyclestage"] == "subscriber"


def test_a_company_needs_a_name_or_a_domain(hubspot: httpx.Client) -> None:
    def company(**values: str) -> httpx.Response:
        rows = [{"id": "c1", "idProperty": "app_company_id", "properties": values}]
        return hubspot.post("/crm/objects/2026-09/companies/batch/upsert", json={"inputs": rows})

    assert company(city="London").status_code == 400
    assert company(name="Acme").json()["results"][0]["properties"]["app_company_id"] == "c1"


def test_strict_mode_refuses_what_the_schema_forbids() -> None:
    with running(rate=None) as sandbox:
        sandbox.hubspot.rules.strict = True
        headers = {"Authorization": "Bearer sandbox-token"}
        with httpx.Client(base_url=sandbox.url, trust_env=False, headers=headers) as client:
            assert send(client, row("ada@x.io", workspaces_total=3)).status_code == 400
            assert send(client, row("ada@x.io", workspaces_total="3")).status_code == 200


def test_every_applied_write_is_in_the_ledger_in_order(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    send(hubspot, row("ada@x.io", plan="pro"))
    send(hubspot, row("ada@x.io", plan="team"))
    writes = hubspot.get("/__ledger").json()["writes"]
    assert [(write["action"], write["values"]["plan"]) for write in writes] == [("create", "pro"), ("update", "team")]
    assert {write["id"] for write in writes} == {sandbox.hubspot.records("contacts")[0]["id"]}


def test_a_stage_that_no_pipeline_has_is_told_with_those_there_are(hubspot: httpx.Client) -> None:
    deal = {"dealname": "Big", "dealstage": "won", "pipeline": "default"}
    refused = hubspot.post("/crm/v3/objects/deals", json={"properties": deal}).json()
    assert refused["errors"][0]["message"].startswith(
        "won is not a valid pipeline stage ID. Valid options are: [appointmentscheduled, "
    )


def test_a_yes_or_no_is_true_or_false_in_small_letters(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    flag = {"name": "vip", "label": "VIP", "groupName": "x", "type": "bool", "fieldType": "booleancheckbox"}
    hubspot.post("/crm/v3/properties/contacts", json=flag)
    refused = problems(send(hubspot, row("ada@x.io", vip="TRUE")).json())[0]
    assert (refused["error"], refused["message"]) == (
        "INVALID_OPTION",
        "TRUE was not one of the allowed options: [true, false]",
    )
    send(hubspot, row("ada@x.io", vip="true"))
    assert sandbox.hubspot.records("contacts")[0]["properties"]["vip"] == "true"


def test_a_repeated_create_without_a_unique_key_makes_a_second_record(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    body = {"inputs": [{"properties": {"domain": "acme.io"}, "associations": []}]}
    for _ in range(2):
        assert hubspot.post("/crm/objects/2026-09/companies/batch/create", json=body).status_code == 201
    assert len(sandbox.hubspot.records("companies")) == 2


def test_an_upsert_by_a_secondary_address_reaches_its_owner_and_the_address_stays_taken(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    ids = [sandbox.hubspot.add("contacts", {"email": email}) for email in ("work@x.io", "home@x.io")]
    hubspot.post("/crm/v3/objects/contacts/merge", json={"primaryObjectId": ids[0], "objectIdToMerge": ids[1]})
    other = {"id": "home@x.io", "idProperty": "email", "properties": {"firstname": "Ada"}}
    [updated] = hubspot.post("/crm/v3/objects/contacts/batch/upsert", json={"inputs": [other]}).json()["results"]
    assert (updated["new"], len(sandbox.hubspot.records("contacts"))) == (False, 1)
    taken = hubspot.post("/crm/v3/objects/contacts", json={"properties": {"email": "Home@x.io"}})
    assert (taken.status_code, taken.json()["message"]) == (
        409,
        f"Contact already exists. Existing ID: {updated['id']}",
    )


def test_a_forgotten_contact_leaves_nothing_behind(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    forget = {"objectId": "ADA@x.io", "idProperty": "email"}
    for _ in range(2):  # the second time there is nobody left to forget
        assert hubspot.post("/crm/objects/2026-09/contacts/gdpr-delete", json=forget).status_code == 204
    assert sandbox.hubspot.records("contacts") == sandbox.hubspot.records("contacts", archived=True) == []


def test_of_several_conflicts_in_a_batch_only_the_first_is_named(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    ids = [sandbox.hubspot.add("contacts", {"email": email}) for email in ("ada@x.io", "bob@x.io")]
    inputs = [{"properties": {"email": email}, "associations": []} for email in ("new@x.io", "ada@x.io", "bob@x.io")]
    refused = hubspot.post("/crm/v3/objects/contacts/batch/create", json={"inputs": inputs})
    assert (refused.status_code, refused.json()["message"]) == (409, f"Contact already exists. Existing ID: {ids[0]}")
    assert len(sandbox.hubspot.records("contacts")) == 2


def test_an_address_is_kept_in_small_letters_and_a_change_moves_the_date_of_change(
    sandbox: Sandbox, hubspot: httpx.Client
) -> None:
    [made] = send(hubspot, row("Ada@X.io")).json()["results"]
    assert sandbox.hubspot.records("contacts")[0]["properties"]["email"] == "ada@x.io"
    sandbox.clock.advance(60)
    [changed] = send(hubspot, row("ada@x.io", firstname="Ada")).json()["results"]
    assert changed["createdAt"] == made["createdAt"] == changed["properties"]["createdate"]
    assert changed["updatedAt"] > made["updatedAt"]
    assert changed["properties"]["lastmodifieddate"] == changed["updatedAt"]


def test_one_id_twice_in_an_update_is_refused_as_a_whole(sandbox: Sandbox, hubspot: httpx.Client) -> None:
    contact = sandbox.hubspot.add("contacts", {"email": "ada@x.io"})
    inputs = [{"id": contact, "objectWriteTraceId": str(n), "properties": {"firstname": str(n)}} for n in range(2)]
    refused = hubspot.post(UPDATE, json={"inputs": inputs})
    assert (refused.status_code, refused.json()["context"]) == (400, {"ids": [contact]})
    assert refused.json()["message"] == f"Duplicate IDs found in batch input: [{contact}]. IDs must be unique"
    assert len(sandbox.ledger) == 0
