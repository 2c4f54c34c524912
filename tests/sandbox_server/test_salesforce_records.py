"""Salesforce records through Collections and single calls."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from reverse_etl.sandbox.server import Sandbox

UPSERT = "/composite/sobjects/Lead/External_Id__c"


def lead(key: str | None, **values: Any) -> dict[str, Any]:
    named = {} if key is None else {"External_Id__c": key}
    return {"attributes": {"type": "Lead"}, **named, "LastName": "Ng", "Company": "Acme", **values}


def send(client: httpx.Client, *rows: dict[str, Any], **more: Any) -> httpx.Response:
    return client.patch(UPSERT, json={"allOrNone": False, "records": list(rows), **more})


def test_an_upsert_answers_in_the_order_of_its_rows_each_on_its_own(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    answer = send(
        salesforce, lead("1"), {"attributes": {"type": "Lead"}, "External_Id__c": "2"}, lead("3", Email="bad")
    )
    first, second, third = answer.json()
    assert answer.status_code == 200
    assert (first["success"], first["created"], first["errors"]) == (True, True, [])
    assert second == {
        "success": False,
        "errors": [
            {
                "statusCode": "REQUIRED_FIELD_MISSING",
                "message": "Required fields are missing: [LastName, Company]",
                "fields": ["LastName", "Company"],
            }
        ],
    }
    assert third["errors"][0]["message"] == "Email: invalid email address: bad"
    assert [record["External_Id__c"] for record in sandbox.salesforce.records("Lead")] == ["1"]
    assert send(salesforce, lead("1")).json()[0]["created"] is False


def test_keys_match_without_case_where_the_field_is_unique(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    send(salesforce, lead("abc"))
    assert send(salesforce, lead("ABC")).json()[0]["created"] is False
    assert len(sandbox.salesforce.records("Lead")) == 1


def test_rows_that_share_a_key_in_one_call_are_all_refused(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    results = send(salesforce, lead("a"), lead("A"), lead("b")).json()
    assert [result["success"] for result in results] == [False, False, True]
    assert results[0]["errors"][0]["message"] == "Duplicate external id specified: a"
    assert len(sandbox.salesforce.records("Lead")) == 1


@pytest.mark.parametrize(
    ("values", "code", "message"),
    [
        ({"FirstName": "x" * 41}, "STRING_TOO_LONG", f"First Name: data value too large: {'x' * 41} (max length=40)"),
        ({"AnnualRevenue": 10**18}, "NUMBER_OUTSIDE_VALID_RANGE", None),
        ({"NumberOfEmployees": 123456789}, "NUMBER_OUTSIDE_VALID_RANGE", None),
        ({"OwnerId": "nonsense"}, "MALFORMED_ID", "Owner ID: id value of incorrect type: nonsense"),
        ({"LastName": None}, "REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]"),
        ({"CreatedDate": "2026-01-01T00:00:00Z"}, "INVALID_FIELD_FOR_INSERT_UPDATE", None),
        ({"HasOptedOutOfEmail": None}, "INVALID_TYPE_ON_FIELD_IN_RECORD", None),
    ],
)
def test_each_kind_of_bad_value_has_its_code(
    salesforce: httpx.Client, values: dict[str, Any], code: str, message: str | None
) -> None:
    error = send(salesforce, lead("1", **values)).json()[0]["errors"][0]
    assert error["statusCode"] == code
    assert message in (None, error["message"])
    assert error["fields"] == [next(iter(values))]


def test_a_blank_key_is_a_missing_argument(salesforce: httpx.Client) -> None:
    results = send(salesforce, lead(None), lead("")).json()
    assert [result["errors"][0]["statusCode"] for result in results] == ["MISSING_ARGUMENT"] * 2
    assert results[0]["errors"][0]["message"] == "External_Id__c not specified"


@pytest.mark.parametrize(
    ("rows", "status", "code"),
    [
        ([lead("1"), lead("2", Nothing_Like_It__c=1)], 400, "INVALID_FIELD"),
        ([lead("1"), lead("2", Lead_Score__c="many")], 400, "JSON_PARSER_ERROR"),
        ([lead("1"), lead("2", LastName=5)], 400, "JSON_PARSER_ERROR"),
        ([lead("1"), {"LastName": "x"}], 400, "INVALID_INPUT"),
        ([lead("1"), {**lead("2"), "Id": "00Q"}], 400, "INVALID_FIELD"),
        ([lead(str(number)) for number in range(201)], 400, "EXCEEDED_ID_LIMIT"),
    ],
)
def test_some_mistakes_refuse_the_whole_request(
    sandbox: Sandbox, salesforce: httpx.Client, rows: list[dict[str, Any]], status: int, code: str
) -> None:
    answer = send(salesforce, *rows)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (status, code)
    assert sandbox.salesforce.records("Lead") == []


def test_a_field_that_is_no_external_id_finds_nothing(salesforce: httpx.Client) -> None:
    answer = salesforce.patch("/composite/sobjects/Lead/Company", json={"records": [lead("1")]})
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (404, "NOT_FOUND")


def test_all_or_none_takes_the_good_rows_back(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    results = send(salesforce, lead("1"), lead("2", Email="bad"), allOrNone=True).json()
    assert results[0]["errors"][0]["statusCode"] == "ALL_OR_NONE_OPERATION_ROLLED_BACK"
    assert sandbox.salesforce.records("Lead") == []
    assert len(sandbox.ledger) == 0


def test_null_clears_and_absent_leaves_alone(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    send(salesforce, lead("1", Title="CTO", Phone="1"))
    send(salesforce, lead("1", Title=None))
    record = sandbox.salesforce.find("Lead", "External_Id__c", "1")
    assert record is not None
    assert "Title" not in record
    assert record["Phone"] == "1"


def test_values_are_stored_as_the_platform_shows_them(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    send(salesforce, lead("1", Title=" CTO ", Lead_Score__c="41", AnnualRevenue=123456789012345678))
    found = sandbox.salesforce.records("Lead")[0]
    assert (found["Title"], found["Lead_Score__c"], found["AnnualRevenue"]) == ("CTO", 41, 123456789012345678)
    assert found["Status"] == "Open - Not Contacted"
    shown = salesforce.get(f"/sobjects/Lead/{found['Id']}").json()
    assert shown["Name"] == "Ng"
    assert shown["IsConverted"] is False
    assert shown["CreatedDate"].endswith(".000+0000")
    assert shown["attributes"]["url"] == f"/services/data/v62.0/sobjects/Lead/{found['Id']}"


def test_updates_and_deletes_by_id_answer_each_row(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    known = sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme"})
    rows = [
        {"attributes": {"type": "Lead"}, "id": known[:15], "Title": "CTO"},
        {"attributes": {"type": "Lead"}, "Id": "00QSb0000000zzz", "Title": "CTO"},
        {"attributes": {"type": "Lead"}, "Title": "CTO"},
    ]
    results = salesforce.patch("/composite/sobjects", json={"records": rows}).json()
    assert results[0] == {"id": known, "success": True, "errors": []}
    assert results[1]["errors"][0]["statusCode"] == "INVALID_CROSS_REFERENCE_KEY"
    assert results[2]["errors"][0]["message"] == "Id not specified in an update call"
    for expected in (None, "ENTITY_IS_DELETED"):
        result = salesforce.delete(f"/composite/sobjects?ids={known},nonsense&allOrNone=false").json()
        assert (result[0].get("errors") or [{}])[0].get("statusCode") == expected
        assert result[1]["errors"][0]["statusCode"] == "MALFORMED_ID"


def test_a_converted_lead_is_frozen(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme", "External_Id__c": "1", "IsConverted": True})
    error = send(salesforce, lead("1")).json()[0]["errors"][0]
    assert error == {
        "statusCode": "CANNOT_UPDATE_CONVERTED_LEAD",
        "message": "cannot reference converted lead",
        "fields": [],
    }


def test_a_parent_is_found_by_its_external_id_or_the_row_is_refused(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    account = sandbox.salesforce.add("Account", {"Name": "Acme", "External_Id__c": "a-1"})

    def contact(key: str, parent: str) -> dict[str, Any]:
        named = {"attributes": {"type": "Contact"}, "External_Id__c": key, "LastName": "Ng"}
        return {**named, "Account": {"External_Id__c": parent}}

    rows = [contact("1", "a-1"), contact("2", "a-9")]
    good, bad = salesforce.patch("/composite/sobjects/Contact/External_Id__c", json={"records": rows}).json()
    assert sandbox.salesforce.record("Contact", good["id"])["AccountId"] == account  # type: ignore[index]
    assert bad["errors"][0]["statusCode"] == "INVALID_FIELD"
    expected = "Foreign key external ID: a-9 not found for field External_Id__c in entity Account"
    assert bad["errors"][0]["message"] == expected


def test_a_taken_unique_value_names_its_owner(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    owner = sandbox.salesforce.add("Account", {"Name": "Acme", "External_Id__c": "a-1"})
    answer = salesforce.post("/sobjects/Account", json={"Name": "Other", "External_Id__c": "A-1"})
    assert answer.status_code == 400
    assert answer.json()[0]["errorCode"] == "DUPLICATE_VALUE"
    assert owner[:15] in answer.json()[0]["message"]


def test_single_calls_by_id_and_by_external_id(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    made = salesforce.post("/sobjects/Account/", json={"Name": "Acme", "External_Id__c": "a/1"})
    assert made.status_code == 201
    assert made.headers["Location"].endswith(made.json()["id"])
    path = f"/sobjects/Account/{made.json()['id']}"
    assert salesforce.patch(path, json={"Site": "HQ"}).status_code == 204
    keyed = salesforce.patch("/sobjects/account/External_Id__c/a%2F1", json={"Site": "Lab"})
    assert (keyed.status_code, keyed.json()["created"]) == (200, False)
    assert salesforce.patch("/sobjects/Account/External_Id__c/new", json={"Name": "New"}).status_code == 201
    missing = salesforce.patch("/sobjects/Account/External_Id__c/no?updateOnly=true", json={"Name": "No"})
    assert missing.status_code == 404
    assert salesforce.get("/sobjects/Account/External_Id__c/a%2F1?fields=Site").json()["Site"] == "Lab"
    assert salesforce.delete(path).status_code == 204
    gone = salesforce.delete(path)
    assert (gone.status_code, gone.json()[0]["errorCode"]) == (404, "ENTITY_IS_DELETED")
    assert salesforce.get("/sobjects/Account/001Sb0000000zzz").status_code == 404
    assert salesforce.get("/sobjects/Account/nonsense").json()[0]["errorCode"] == "MALFORMED_ID"


def test_records_are_retrieved_by_id_with_null_for_the_unknown(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    known = sandbox.salesforce.add("Account", {"Name": "Acme"})
    asked = {"ids": [known, "001Sb0000000zzz"], "fields": ["Id", "Name"]}
    found, missing = salesforce.post("/composite/sobjects/Account", json=asked).json()
    assert (found["Name"], missing) == ("Acme", None)


def test_describe_tells_what_a_client_must_know(salesforce: httpx.Client) -> None:
    body = salesforce.get("/sobjects/lead/describe").json()
    fields = {field["name"]: field for field in body["fields"]}
    assert (body["name"], body["keyPrefix"], body["updateable"]) == ("Lead", "00Q", True)
    assert fields["External_Id__c"]["externalId"] is True
    assert fields["External_Id__c"]["unique"] is True
    assert fields["External_Id__c"]["caseSensitive"] is False
    assert fields["Lead_Score__c"]["type"] == "double"
    assert fields["LastName"]["nillable"] is False
    assert fields["Status"]["defaultedOnCreate"] is True
    assert fields["OwnerId"]["referenceTo"] == ["Group", "User"]
    assert fields["Email"]["idLookup"] is True
    assert fields["CreatedDate"]["createable"] is False
    assert "Open - Not Contacted" in [entry["value"] for entry in fields["Status"]["picklistValues"]]
    assert salesforce.get("/sobjects/Nothing_Like_It__c/describe").json()[0]["errorCode"] == "NOT_FOUND"
    tag = salesforce.get("/sobjects/Lead/describe").headers["ETag"]
    assert salesforce.get("/sobjects/Lead/describe", headers={"If-None-Match": tag}).status_code == 304


def test_the_objects_of_sales_and_marketing_are_there_and_point_at_each_other(salesforce: httpx.Client) -> None:
    listed = {each["name"] for each in salesforce.get("/sobjects").json()["sobjects"]}
    assert {"Account", "Contact", "Lead", "Opportunity", "Campaign", "CampaignMember", "User"} <= listed
    campaign = salesforce.post("/sobjects/Campaign", json={"Name": "Fair"}).json()["id"]
    lead = salesforce.post("/sobjects/Lead", json={"LastName": "Ng", "Company": "Acme"}).json()["id"]
    member = {"CampaignId": campaign, "LeadId": lead}
    made = salesforce.post("/sobjects/CampaignMember", json=member).json()["id"]
    read = salesforce.get("/query", params={"q": "SELECT Status, Campaign.Name, Lead.LastName FROM CampaignMember"})
    (record,) = read.json()["records"]
    assert (record["Status"], record["Campaign"]["Name"], record["Lead"]["LastName"]) == ("Sent", "Fair", "Ng")
    moved = salesforce.patch(f"/sobjects/CampaignMember/{made}", json={"CampaignId": campaign})
    assert moved.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"


def test_composite_calls_answer_each_and_may_name_earlier_results(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    root = "/services/data/v62.0/sobjects"
    calls = [
        {"method": "POST", "url": f"{root}/Account", "referenceId": "a", "body": {"Name": "Acme"}},
        {
            "method": "POST",
            "url": f"{root}/Contact",
            "referenceId": "b",
            "body": {"LastName": "Ng", "AccountId": "@{a.id}"},
        },
        {"method": "PATCH", "url": f"{root}/Contact/External_Id__c/no?updateOnly=true", "referenceId": "c", "body": {}},
    ]
    answers = salesforce.post("/composite", json={"compositeRequest": calls}).json()["compositeResponse"]
    assert [answer["httpStatusCode"] for answer in answers] == [201, 201, 404]
    account = sandbox.salesforce.records("Account")[0]["Id"]
    assert sandbox.salesforce.records("Contact")[0]["AccountId"] == account


def rule(sandbox: Sandbox, client: httpx.Client, **more: Any) -> str:
    """A duplicate rule on contacts' addresses, and a contact that others may double."""
    order = {"platform": "salesforce", "object": "contact", "duplicate_field": "Email", **more}
    answer = client.post(sandbox.url + "/__rules", json=order)
    assert answer.json() == {"object": "Contact", "duplicate_field": "Email", "alert": more.get("alert", True)}
    return sandbox.salesforce.add("Contact", {"LastName": "Ng", "Email": "ng@x.io", "External_Id__c": "1"})


ALLOW = {"Sforce-Duplicate-Rule-Header": "allowSave=true; includeRecordDetails=false"}


@pytest.mark.parametrize("alert", [True, False])
def test_a_duplicate_is_refused_with_the_record_it_doubles_and_only_an_alert_can_be_passed(
    sandbox: Sandbox, salesforce: httpx.Client, alert: bool
) -> None:
    known = rule(sandbox, salesforce, alert=alert)
    assert salesforce.patch(f"/sobjects/Contact/{known}", json={"Email": "Ng@x.io"}).status_code == 204
    other = {"LastName": "Ng", "Email": "NG@x.io"}
    refused = salesforce.post("/sobjects/Contact", json=other)
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, "DUPLICATES_DETECTED")
    result = refused.json()[0]["duplicateResult"]
    assert (result["allowSave"], result["duplicateRuleEntityType"]) == (alert, "Contact")
    assert [match["record"]["Id"] for match in result["matchResults"][0]["matchRecords"]] == [known]
    assert salesforce.post("/sobjects/Contact", json=other, headers=ALLOW).status_code == (201 if alert else 400)


def test_collections_tell_a_duplicates_code_only(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    rule(sandbox, salesforce)
    record = {"attributes": {"type": "Contact"}, "External_Id__c": "2", "LastName": "Ng", "Email": "ng@x.io"}
    path = "/composite/sobjects/Contact/External_Id__c"
    [refused] = salesforce.patch(path, json={"records": [record]}).json()
    assert [set(error) for error in refused["errors"]] == [{"statusCode", "message", "fields"}]
    assert refused["errors"][0]["statusCode"] == "DUPLICATES_DETECTED"
    [saved] = salesforce.patch(path, json={"records": [record]}, headers=ALLOW).json()
    assert saved["success"] is True


def test_a_lead_is_converted_by_order_and_then_frozen(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    lead = sandbox.salesforce.add("Lead", {"LastName": "Ng", "FirstName": "Ada", "Company": "Acme", "Email": "ng@x.io"})
    became = salesforce.post(sandbox.url + "/__convert", json={"lead": lead}).json()
    found = salesforce.get(
        "/query", params={"q": "SELECT IsConverted, Status, ConvertedContactId, ConvertedAccountId FROM Lead"}
    ).json()["records"][0]
    assert (found["IsConverted"], found["Status"]) == (True, "Closed - Converted")
    assert (found["ConvertedContactId"], found["ConvertedAccountId"]) == tuple(
        became[name] for name in ("ConvertedContactId", "ConvertedAccountId")
    )
    [contact], [account] = sandbox.salesforce.records("Contact"), sandbox.salesforce.records("Account")
    assert (contact["Email"], contact["AccountId"], account["Name"]) == ("ng@x.io", account["Id"], "Acme")
    [refused] = salesforce.patch(
        "/composite/sobjects", json={"records": [{"attributes": {"type": "Lead"}, "id": lead, "Title": "CTO"}]}
    ).json()
    assert refused["errors"][0]["statusCode"] == "CANNOT_UPDATE_CONVERTED_LEAD"
    for order in ({"lead": lead}, {"lead": "00QSb0000000zzz"}, {}):
        assert salesforce.post(sandbox.url + "/__convert", json=order).status_code == 400


def test_all_or_none_brings_deleted_records_back_as_they_were(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    lead = sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme", "External_Id__c": "1"})
    answer = salesforce.delete(f"/composite/sobjects?ids={lead},00QSb0000000zzz&allOrNone=true").json()
    assert [result["success"] for result in answer] == [False, False]
    assert [record["Id"] for record in sandbox.salesforce.records("Lead")] == [lead]
    assert sandbox.salesforce.records("Lead", deleted=True) == []


def test_a_slash_at_the_end_and_a_method_in_the_query_change_nothing(
    sandbox: Sandbox, salesforce: httpx.Client
) -> None:
    made = salesforce.post("/sobjects/Lead/", json={"LastName": "Ng", "Company": "Acme"}).json()["id"]
    assert salesforce.post(f"/sobjects/Lead/{made}/?_HttpMethod=PATCH", json={"Title": "CTO"}).status_code == 204
    assert sandbox.salesforce.records("Lead")[0]["Title"] == "CTO"
    assert salesforce.get("/limits/").status_code == 200


def test_an_id_twice_in_one_update_refuses_both_rows(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    lead = sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme"})
    rows = [{"attributes": {"type": "Lead"}, "id": each, "Title": "CTO"} for each in (lead, lead[:15])]
    results = salesforce.patch("/composite/sobjects", json={"records": rows}).json()
    assert [result["errors"][0]["statusCode"] for result in results] == ["DUPLICATE_VALUE"] * 2
    assert "Title" not in sandbox.salesforce.records("Lead")[0]


def test_two_thousand_records_can_be_retrieved_at_once_and_no_more(salesforce: httpx.Client) -> None:
    for count, status in ((2000, 200), (2001, 400)):
        body = {"ids": ["00QSb0000000001"] * count, "fields": ["Id"]}
        assert salesforce.post("/composite/sobjects/Lead", json=body).status_code == status


@pytest.mark.parametrize("body", [{"External_Id__c": "1"}, {"Id": "00QSb0000000001"}, {"id": "00QSb0000000001"}])
def test_what_the_address_says_must_not_be_in_the_body(
    sandbox: Sandbox, salesforce: httpx.Client, body: dict[str, str]
) -> None:
    fields = {"LastName": "Ng", "Company": "Acme", **body}
    assert salesforce.patch("/sobjects/Lead/External_Id__c/1", json=fields).json()[0]["errorCode"] == "INVALID_FIELD"
    assert sandbox.salesforce.records("Lead") == []


def test_several_records_with_one_external_id_are_listed_and_nothing_is_written(
    sandbox: Sandbox, salesforce: httpx.Client
) -> None:
    sandbox.salesforce.org.object("Lead").fields["External_Id__c"].unique = False
    lead = {"LastName": "Ng", "Company": "Acme", "External_Id__c": "1"}
    ids = [sandbox.salesforce.add("Lead", lead) for _ in range(2)]
    answer = salesforce.patch("/sobjects/Lead/External_Id__c/1", json={"Title": "CTO"})
    assert (answer.status_code, answer.json()) == (300, [f"/services/data/v62.0/sobjects/Lead/{each}" for each in ids])
    assert len(sandbox.ledger) == 0


def test_a_restricted_picklist_takes_its_values_only(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.salesforce.org.object("Lead").fields["Rating"].restricted = True
    lead = {"LastName": "Ng", "Company": "Acme"}
    assert salesforce.post("/sobjects/Lead", json={**lead, "Rating": "Hot"}).status_code == 201
    [refused] = salesforce.post("/sobjects/Lead", json={**lead, "Rating": "Tepid"}).json()
    assert (refused["errorCode"], refused["message"]) == (
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        "Rating: bad value for restricted picklist field: Tepid",
    )
    assert salesforce.post("/sobjects/Lead", json={**lead, "Industry": "Anything"}).status_code == 201


def test_a_reference_must_lead_to_a_record_that_is_there(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    account = sandbox.salesforce.add("Account", {"Name": "Acme"})
    salesforce.delete(f"/sobjects/Account/{account}")
    for given, code in ((account, "INVALID_CROSS_REFERENCE_KEY"), ("00QSb0000000001", "MALFORMED_ID")):
        refused = salesforce.post("/sobjects/Contact", json={"LastName": "Ng", "AccountId": given})
        assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, code)


def test_two_hundred_records_can_be_deleted_at_once_and_no_more(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    ids = [sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme"}) for _ in range(201)]
    refused = salesforce.delete("/composite/sobjects?ids=" + ",".join(ids))
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, "EXCEEDED_ID_LIMIT")
    assert len(salesforce.delete("/composite/sobjects?ids=" + ",".join(ids[1:])).json()) == 200
    assert [record["Id"] for record in sandbox.salesforce.records("Lead")] == ids[:1]


def test_a_required_field_cannot_be_cleared(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    lead = sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme"})
    [refused] = salesforce.patch(f"/sobjects/Lead/{lead}", json={"Company": None, "LastName": ""}).json()
    assert (refused["errorCode"], sorted(refused["fields"])) == ("REQUIRED_FIELD_MISSING", ["Company", "LastName"])
    assert sandbox.salesforce.records("Lead")[0]["Company"] == "Acme"


def test_a_key_that_several_records_have_is_its_rows_error(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    sandbox.salesforce.org.object("Lead").fields["External_Id__c"].unique = False
    lead = {"LastName": "Ng", "Company": "Acme", "External_Id__c": "1"}
    ids = [sandbox.salesforce.add("Lead", lead) for _ in range(2)]
    record = {"attributes": {"type": "Lead"}, **lead, "Title": "CTO"}
    [result] = salesforce.patch("/composite/sobjects/Lead/External_Id__c", json={"records": [record]}).json()
    [error] = result["errors"]
    assert error["statusCode"] == "DUPLICATE_EXTERNAL_ID"
    assert error["message"].endswith(f"[{', '.join(ids)}]")
    assert len(sandbox.ledger) == 0


def test_a_description_is_sent_again_only_when_it_has_changed(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    described = salesforce.get("/sobjects/Lead/describe")
    known = {"If-Modified-Since": described.headers["Last-Modified"]}
    assert salesforce.get("/sobjects/Lead/describe", headers=known).status_code == 304
    sandbox.salesforce.org.object("Lead").changed += 2  # as a field that was added just now
    assert salesforce.get("/sobjects/Lead/describe", headers=known).status_code == 200
    assert salesforce.get("/sobjects/Lead/describe", headers={"If-Modified-Since": "nonsense"}).status_code == 200


def test_an_id_of_18_characters_is_told_from_one_in_another_case(sandbox: Sandbox, salesforce: httpx.Client) -> None:
    lead = sandbox.salesforce.add("Lead", {"LastName": "Ng", "Company": "Acme"})
    assert salesforce.get(f"/sobjects/Lead/{lead[:15]}").json()["Id"] == lead
    refused = salesforce.get(f"/sobjects/Lead/{lead[:17]}{'B' if lead[17] == 'A' else 'A'}")
    assert (refused.status_code, refused.json()[0]["errorCode"]) == (400, "MALFORMED_ID")
