"""Everything around the writing: settings, account, fields, credentials, limits, reading back."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from reverse_etl.destinations.hubspot import HubSpot, HubSpotConfig
from reverse_etl.errors import AuthError, DailyLimit, DestinationError, InDoubt, Throttled
from reverse_etl.model import Field, FieldType, Limits, ObjectSchema, Operation
from reverse_etl.protocols import Destination, Lookup
from reverse_etl.retries import TRIES
from tests.unit.destinations.hubspot.script import EMAIL, Script, answer, batch, fault, record, refused

# --- settings --------------------------------------------------------------------------------------------------------


def config(**settings: Any) -> HubSpotConfig:
    return HubSpotConfig.model_validate({"type": "hubspot", "access_token": "secret-token", **settings})


def test_a_token_is_enough() -> None:
    read = config()
    assert (read.base_url, read.api_version) == ("https://api.hubapi.com", "2026-09")
    assert read.rate_limit.requests is None
    assert "secret-token" not in repr(read)


@pytest.mark.parametrize(
    ("written", "window"),
    [
        ({"requests": 190, "per": "10s"}, (190, 10)),
        ({"requests": 50}, (50, 10)),
        ({"requests": 10, "per": "500ms"}, (10, 0.5)),
        ({"requests": 600, "per": "1m"}, (100, 10)),
        ({"requests": 2, "per": "1m"}, (1, 30)),
        ({"reserve": "10%"}, (None, 10)),
    ],
)
def test_a_rate_limit_becomes_a_window_no_longer_than_hubspots(written: Any, window: tuple[int | None, float]) -> None:
    read = config(rate_limit=written)
    assert read.rate_limit.window(10.0) == window


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"access_token": ""}, "secret as the destination shows it"),
        ({"access_token": "two words"}, "secret as the destination shows it"),
        ({"access_token": "line\r\nbreak"}, "secret as the destination shows it"),
        ({"base_url": "http://api.hubapi.com"}, "https"),
        ({"api_version": "v9"}, "2026-09"),
        ({"client_id": "c"}, "not both: leave client_id out"),
        ({"client_secret": "c", "refresh_token": "r"}, "not both: leave client_secret and refresh_token out"),
        ({"access_token": None}, "needs access_token, or client_id, client_secret and refresh_token"),
        ({"access_token": None, "client_id": "c"}, "needs client_secret and refresh_token beside client_id"),
        ({"access_token": None, "client_id": "c", "client_secret": "s", "refresh_token": ""}, "secret as the dest"),
        ({"token": "c"}, "Extra inputs"),
        ({"rate_limit": {"requests": 0}}, "greater than or equal to 1"),
        ({"rate_limit": {"requests": 5, "per": "soon"}}, "duration such as 10s"),
        ({"rate_limit": {"reserve": "all"}}, "share such as 10%"),
        ({"patience": "long"}, "duration such as 10s"),
        ({"bulk_from": 2000}, "don't say for each row what became of it"),
        ({"bulk_from": "always"}, "leave bulk_from out"),
    ],
)
def test_settings_that_cannot_work_are_refused_with_words_that_help(settings: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        config(**settings)
    assert "secret-token" not in str(caught.value)


# --- account and fields ----------------------------------------------------------------------------------------------


def details(zone: str = "Europe/Berlin") -> httpx.Response:
    return httpx.Response(200, json={"portalId": 4711, "timeZone": zone, "accountType": "STANDARD"})


def test_the_account_is_the_portal_and_the_token_goes_along() -> None:
    script = Script(details())
    assert script.run(lambda hubspot: hubspot.account(), access_token="pat-1") == "4711"
    assert script.paths() == ["/account-info/2026-09/details"]
    assert script.asked[0].headers["authorization"] == "Bearer pat-1"


def test_older_versions_have_their_own_paths() -> None:
    script = Script(details(), httpx.Response(200, json={"results": []}))

    async def ask(hubspot: Any) -> None:
        await hubspot.account()
        await hubspot.describe("contacts")

    script.run(ask, api_version="v3")
    assert script.paths() == ["/account-info/v3/details", "/crm/v3/properties/contacts"]


def property(name: str, type: str = "string", field_type: str = "text", **more: Any) -> dict[str, Any]:
    return {"name": name, "label": name.title(), "type": type, "fieldType": field_type, "options": [], **more}


def described(*properties: dict[str, Any], object: str = "contacts") -> ObjectSchema:
    script = Script(httpx.Response(200, json={"results": list(properties)}))
    return script.run(lambda hubspot: hubspot.describe(object))


@pytest.mark.parametrize(
    ("type", "field_type", "expected"),
    [
        ("string", "textarea", FieldType.TEXT),
        ("phone_number", "phonenumber", FieldType.TEXT),
        ("number", "number", FieldType.NUMBER),
        ("bool", "booleancheckbox", FieldType.BOOLEAN),
        ("enumeration", "booleancheckbox", FieldType.BOOLEAN),
        ("enumeration", "select", FieldType.CHOICE),
        ("enumeration", "radio", FieldType.CHOICE),
        ("enumeration", "checkbox", FieldType.CHOICES),
        ("date", "date", FieldType.DATE),
        ("datetime", "date", FieldType.DATETIME),
        ("something_new", "x", FieldType.OTHER),
    ],
)
def test_property_types_become_field_types(type: str, field_type: str, expected: FieldType) -> None:
    assert described(property("p", type, field_type)).fields["p"].type is expected


def test_email_identifies_a_contact_although_its_metadata_says_otherwise() -> None:
    email = property("email", hasUniqueValue=False)
    assert described(email).fields["email"] == Field(
        "email", FieldType.TEXT, "Email", identifies=True, folds_case=True, max_length=65_536, is_email=True
    )
    assert not described(email, object="companies").fields["email"].identifies


@pytest.mark.parametrize(
    ("written", "asked"),
    [("contact", "contacts"), ("Contacts", "contacts"), ("company", "companies"), ("pets", "pets")],
)
def test_an_object_of_every_account_is_known_by_its_singular_too(written: str, asked: str) -> None:
    nothing = [answer(results=[])] * (2 if asked == "pets" else 1)  # objects, then events
    script = Script(*nothing, answer(results=[{"name": "email", "type": "string", "fieldType": "text"}]))
    fields = script.run(lambda hubspot: hubspot.describe(written)).fields
    assert script.asked[-1].url.path.endswith(f"/{asked}")
    assert fields["email"].identifies == (asked == "contacts")


def test_a_unique_property_identifies_unless_it_cannot_be_written() -> None:
    fields = described(
        property("app_user_id", hasUniqueValue=True),
        property("hs_unique_creation_key", hasUniqueValue=True, modificationMetadata={"readOnlyValue": True}),
    ).fields
    assert fields["app_user_id"].identifies
    assert not fields["hs_unique_creation_key"].identifies


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"calculated": True}, "HubSpot calculates it"),
        ({"modificationMetadata": {"readOnlyValue": True}}, "HubSpot sets it"),
        ({"archived": True}, "it is archived in HubSpot"),
        ({"modificationMetadata": {"readOnlyValue": False, "readOnlyDefinition": True}}, None),
    ],
)
def test_what_cannot_be_written_says_why(more: Any, reason: str | None) -> None:
    assert described(property("p", **more)).fields["p"].read_only == reason


def test_the_record_id_finds_records_and_is_never_written() -> None:
    field = described(property("hs_object_id", "number", calculated=True, hasUniqueValue=True)).fields["hs_object_id"]
    assert (field.type, field.read_only, field.identifies) == (FieldType.REFERENCE, "it is the record's id", False)


def test_options_are_internal_values_unless_hubspot_keeps_them_elsewhere() -> None:
    options = [{"label": "Lead", "value": "lead"}, {"label": "Old", "value": "old", "hidden": True}]
    fields = described(
        property("stage", "enumeration", "radio", options=options),
        property("owner", "enumeration", "select", options=options, externalOptions=True),
        property("empty", "enumeration", "select"),
    ).fields
    assert (fields["stage"].options, fields["owner"].options, fields["empty"].options) == (("lead", "old"), None, None)


def test_labels_come_with_the_options_in_the_order_that_people_see() -> None:
    options = [
        {"label": "Last", "value": "z", "displayOrder": -1},
        {"label": "Second", "value": "b", "displayOrder": 1},
        {"label": "First", "value": "c", "displayOrder": 0},
    ]
    field = described(property("tags", "enumeration", "checkbox", options=options)).fields["tags"]
    assert field.options == ("c", "b", "z")
    assert field.by_label == {"First": "c", "Second": "b", "Last": "z"}


def test_only_the_lifecycle_stage_goes_one_way() -> None:
    fields = described(property("lifecyclestage", "enumeration", "radio"), property("plan", "enumeration", "radio"))
    assert [name for name, field in fields.fields.items() if field.one_way] == ["lifecyclestage"]


STAGED = [
    property("pipeline", "enumeration", "select", externalOptions=True),
    property("dealstage", "enumeration", "radio", externalOptions=True),
]
LINES = [
    {"id": "p", "label": "Sales", "stages": [{"id": "p1", "label": "New"}, {"id": "pw", "label": "Won"}]},
    {"id": "q", "label": "Renewals", "stages": [{"id": "q1", "label": "Asked"}, {"id": "qw", "label": "Won"}]},
]


def test_stages_belong_to_their_pipelines_by_id_or_label() -> None:
    script = Script(answer(results=STAGED), answer(results=LINES))
    fields = script.run(lambda hubspot: hubspot.describe("deals")).fields
    assert script.paths() == ["/crm/properties/2026-09/deals", "/crm/pipelines/2026-09/deals"]
    assert (fields["pipeline"].options, fields["pipeline"].by_label) == (("p", "q"), {"Sales": "p", "Renewals": "q"})
    stage = fields["dealstage"]
    assert (stage.options, stage.by_label) == (("p1", "pw", "q1", "qw"), {"New": "p1", "Asked": "q1"})
    assert stage.shared_labels == ["Won"]
    assert stage.allowed_with == ("pipeline", (("p", "p1"), ("p", "pw"), ("q", "q1"), ("q", "qw")))


@pytest.mark.parametrize(
    "told", [refused("no", status=403, category=None), refused("no", status=404), answer(results=[])]
)
def test_stages_that_cannot_be_seen_are_left_to_hubspot(told: httpx.Response) -> None:
    script = Script(answer(results=STAGED), told)
    assert script.run(lambda hubspot: hubspot.describe("deals")).fields["dealstage"].options is None


def test_a_custom_object_is_found_by_name_label_and_full_name() -> None:
    schemas = {
        "results": [
            {
                "objectTypeId": "2-3456",
                "fullyQualifiedName": "p1_cars",
                "name": "cars",
                "labels": {"singular": "Car", "plural": "Fleet"},
            }
        ]
    }
    for name in ("cars", "Fleet", "car", "p1_cars"):
        script = Script(httpx.Response(200, json=schemas), httpx.Response(200, json={"results": [property("vin")]}))
        assert script.run(partial(HubSpot.describe, object=name)).name == name
        assert script.paths() == ["/crm-object-schemas/2026-09/schemas", "/crm/properties/2026-09/2-3456"]


def test_standard_objects_and_type_ids_need_no_look_at_the_schemas() -> None:
    for name in ("companies", "line_items", "2-3456"):
        script = Script(httpx.Response(200, json={"results": []}))
        script.run(partial(HubSpot.describe, object=name))
        assert script.paths() == [f"/crm/properties/2026-09/{name}"]


def test_an_unknown_object_is_named_with_the_nearest_one() -> None:
    script = Script(
        refused("no custom objects in this plan", status=403, category=None),
        refused("Unable to infer object type from: contact", category=None),
        httpx.Response(200, json={"results": []}),
    )
    with pytest.raises(DestinationError, match="no object 'contact'") as caught:
        script.run(lambda hubspot: hubspot.describe("contact"))
    assert (caught.value.code, caught.value.hint) == ("destination_object", "did you mean 'contacts'?")


# --- credentials and limits ------------------------------------------------------------------------------------------


def test_P22_a_refused_token_stops_the_run_and_names_the_connection() -> None:
    script = Script(refused("Authentication credentials not found.", status=401, category="INVALID_AUTHENTICATION"))
    with pytest.raises(AuthError, match="connection 'crm'") as caught:
        script.run(lambda hubspot: hubspot.account())
    assert (caught.value.request_id, caught.value.code) == ("c-9", "destination_credential")


def test_P22_a_missing_scope_is_named() -> None:
    scopes = [{"message": "required", "context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}]
    script = Script(refused("not granted", status=403, category="MISSING_SCOPES", errors=scopes))
    with pytest.raises(AuthError, match=r"connection 'crm' lacks a scope: crm\.objects\.contacts\.write"):
        script.run(lambda hubspot: hubspot.account())


def test_another_403_tells_hubspots_words() -> None:
    script = Script(refused("this needs Enterprise", status=403, category=None))
    with pytest.raises(AuthError, match="may not do this: this needs Enterprise"):
        script.run(lambda hubspot: hubspot.account())


def daily(**more: Any) -> httpx.Response:
    return refused("You have reached your daily limit.", status=429, errorType="RATE_LIMIT", policyName="DAILY", **more)


def test_P17_the_daily_limit_ends_the_run_with_the_time_of_the_reset() -> None:
    script = Script(details(), daily())

    async def ask(hubspot: Any) -> None:
        await hubspot.account()
        await hubspot.describe("contacts")

    with pytest.raises(DailyLimit) as caught:
        script.run(ask)
    assert caught.value.retry_after == 21 * 3600  # 03:00 in Berlin, until the next midnight there
    assert "2026-11-24T00:00+01:00" in str(caught.value.hint)


def test_the_daily_limit_of_an_account_in_an_unknown_zone_is_told_without_a_time() -> None:
    script = Script(details("Mars/Olympus"), daily())

    async def ask(hubspot: Any) -> None:
        await hubspot.account()
        await hubspot.describe("contacts")

    with pytest.raises(DailyLimit) as caught:
        script.run(ask)
    assert "midnight of the account's time zone" in str(caught.value.hint)


def limited(status: int = 200, *, most: int = 190, remaining: int = 189, interval: int = 10_000) -> httpx.Response:
    headers = {
        "X-HubSpot-RateLimit-Max": str(most),
        "X-HubSpot-RateLimit-Remaining": str(remaining),
        "X-HubSpot-RateLimit-Interval-Milliseconds": str(interval),
    }
    return httpx.Response(status, json={"portalId": 1}, headers=headers)


async def rate_after_one_call(hubspot: Any) -> tuple[float, float]:
    before = hubspot.requests_per_second
    await hubspot.account()
    return before, hubspot.requests_per_second


@pytest.mark.parametrize(
    ("settings", "told", "rates"),
    [
        ({}, {}, (10, 19)),
        ({}, {"most": 100, "interval": 1000}, (10, 100)),
        ({"rate_limit": {"requests": 50, "per": "10s"}}, {}, (5, 5)),
        ({"rate_limit": {"requests": 250, "per": "10s"}}, {}, (25, 19)),
        ({"rate_limit": {"reserve": "10%"}}, {}, (9, 17.1)),
        ({"rate_limit": {"requests": 4, "per": "1s"}}, {}, (4, 4)),
        ({"rate_limit": {"requests": 40, "per": "1s"}}, {}, (40, 19)),
    ],
)
def test_P18_the_allowance_is_learned_and_the_users_own_bound_holds(
    settings: Any, told: Any, rates: tuple[float, float]
) -> None:
    script = Script(limited(**told))
    assert script.run(rate_after_one_call, **settings) == pytest.approx(rates)


def test_P18_syncs_of_one_account_share_its_allowance() -> None:
    script = Script(limited(most=100), limited())
    first = script.destination(access_token="shared-token")
    second = script.destination(access_token="shared-token")
    other = script.destination(access_token="another-token")
    script.steps.pop()

    async def ask(hubspot: Any) -> None:
        await first.account()
        await first.aclose()

    script.run(ask)
    assert (first.requests_per_second, second.requests_per_second) == (10, 10)
    assert first._allowances is second._allowances
    assert first._allowances is not other._allowances


@pytest.mark.parametrize("name", ["errorType", "category"])
def test_both_kinds_of_429_are_waited_out(name: str) -> None:
    throttled = refused("You have reached your limit.", status=429, **{"category": None, name: "RATE_LIMIT"})
    script = Script(*[throttled] * 6)
    with pytest.raises(Throttled):
        script.run(lambda hubspot: hubspot.account())


def test_every_call_is_counted() -> None:
    script = Script(httpx.Response(429), httpx.Response(503), limited())

    async def ask(hubspot: Any) -> tuple[int, int]:
        await hubspot.account()
        return hubspot.traffic.requests, hubspot.traffic.throttled

    assert script.run(ask) == (3, 1)


def test_it_is_a_destination_that_can_be_read_back() -> None:
    hubspot = Script().destination()
    destination: Destination = hubspot
    assert isinstance(destination, Lookup)
    assert destination.limits("contacts", Operation.UPSERT, 1) == Limits(batch_size=100, in_flight=4)
    modes = frozenset({"upsert", "update", "insert", "mirror", "append"})
    assert (destination.modes, destination.removal) == (modes, "archive")


# --- reading back ----------------------------------------------------------------------------------------------------


def test_records_are_read_by_match_value_a_hundred_a_call_and_absent_ones_left_out() -> None:
    missing = fault("Could not get some", category="OBJECT_NOT_FOUND", ids=["u1"])
    script = Script(
        answer([record("9", app_user_id="u0", plan=None)], [missing]), answer([record("7", app_user_id="u100")])
    )
    values = [f"u{number}" for number in range(101)]
    found = script.run(lambda hubspot: hubspot.find("contacts", "app_user_id", values, ["plan"]))
    assert found == {"u0": {"id": "9", "plan": None}, "u100": {"id": "7", "plan": None}}
    first = script.bodies()[0]
    assert script.paths()[0] == "/crm/objects/2026-09/contacts/batch/read"
    assert (first["idProperty"], first["properties"], len(first["inputs"])) == (
        "app_user_id",
        ["app_user_id", "plan"],
        100,
    )


def test_contacts_are_read_by_any_of_their_addresses_whatever_the_case() -> None:
    result = record("9", email="ada@x.io", hs_additional_emails="ada@home.io;a@x.io")
    script = Script(answer([result]))
    found = script.run(lambda hubspot: hubspot.find("contacts", "email", ["Ada@Home.io", "ADA@x.io", "no@x.io"], []))
    assert found == {"Ada@Home.io": {"id": "9"}, "ADA@x.io": {"id": "9"}}


def test_records_are_read_by_their_ids() -> None:
    script = Script(answer([record("9", plan="pro")]))
    found = script.run(lambda hubspot: hubspot.find("deals", "hs_object_id", ["9", "10"], ["plan"]))
    assert found == {"9": {"id": "9", "plan": "pro"}}
    assert "idProperty" not in script.bodies()[0]


def test_the_nearest_property_is_suggested_when_a_write_meets_an_unknown_one() -> None:
    unknown = "Property values were not valid: " + (
        '[{"message":"Property \\"emial\\" does not exist","error":"PROPERTY_DOESNT_EXIST","name":"emial"}]'
    )
    script = Script(httpx.Response(200, json={"results": [property("email")]}), refused(unknown))

    async def ask(hubspot: Any) -> None:
        await hubspot.describe("contacts")
        await hubspot.write(batch(Operation.UPSERT, {EMAIL: ["a@x.io"]}))

    with pytest.raises(DestinationError) as caught:
        script.run(ask)
    assert caught.value.hint == "did you mean 'email'?"


@pytest.mark.parametrize("body", ["[]", "7", '{"results": 7}', '{"results": [7]}', '{"portalId": null}'])
def test_P25_an_answer_of_another_shape_is_in_doubt(body: str) -> None:
    async def account(hubspot: HubSpot) -> None:
        await hubspot.account()

    async def describe(hubspot: HubSpot) -> None:
        await hubspot.describe("contacts")

    async def find(hubspot: HubSpot) -> None:
        await hubspot.find("contacts", "email", ["a@x.io"], [])

    for ask in (account, *(() if "portalId" in body else (describe, find))):
        with pytest.raises(InDoubt) as caught:
            Script(*[httpx.Response(200, text=body)] * (1 if "portalId" in body else TRIES)).run(ask)
        assert caught.value.code == "destination_unreadable"
