from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.routing import Route

from reverse_etl.daemon import routes
from reverse_etl.daemon.routes import application
from reverse_etl.daemon.signature import checked, signed
from reverse_etl.report import RunReport
from tests.unit.daemon.desk import Desk

KEY = "a-key-that-nobody-guesses"
TOKEN = "a-token-that-nobody-guesses"
SIGNED = f"daemon: {{trigger_secret: {KEY}}}\n"
LOCKED = f"daemon: {{listen: '0.0.0.0:8780', token: {TOKEN}, trigger_secret: {KEY}}}\n"


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Desk]:
    def make(daemon: str = "", **syncs: str) -> Desk:
        made = Desk(tmp_path, daemon)
        for name, more in syncs.items():
            made.define(name, more)
        made.look()
        made.life.ready = True
        return made

    return make


def call(
    desk: Desk, method: str, path: str, *, host: str = "127.0.0.1:8780", content: Any = b"", **headers: str
) -> httpx.Response:
    """One call, as the daemon's server would pass it on."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(application(desk.front(), desk.definitions.settings))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            spelt = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, content=content, headers=spelt)

    return anyio.run(send)


def ask(desk: Desk, sync: str = "people", message: str = "message-1", body: bytes = b"{}", **changes: Any) -> Any:
    """A signed request to run a sync; `changes` spoil it after it was signed."""
    headers = signed(KEY, message, desk.clock.now(), body)
    spoilt = {name: changes.pop(name.replace("-", "_"), value) for name, value in headers.items()}
    return call(desk, "POST", f"/syncs/{sync}/run", content=changes.pop("sent", body), **spoilt, **changes)


# --- health -----------------------------------------------------------------------------------------------------------


def test_it_is_healthy_while_it_gives_signs_of_life(desk: Callable[..., Desk]) -> None:
    daemon = desk()
    assert call(daemon, "GET", "/healthz").status_code == 200
    daemon.life.sign()
    daemon.clock.advance(timedelta(seconds=31))
    answer = call(daemon, "GET", "/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": "no sign of life for 31 s"})


def test_it_is_ready_while_it_takes_on_runs(desk: Callable[..., Desk]) -> None:
    daemon = desk()
    assert call(daemon, "GET", "/readyz").json() == {"status": "ready", "standing_by": None, "broken": {}}
    assert call(daemon, "GET", "/leader").json() == {"status": "ready", "standing_by": None}
    assert "reverse_etl_scheduling 1.0" in call(daemon, "GET", "/metrics").text
    daemon.life.ready = False
    assert [call(daemon, "GET", path).status_code for path in ("/readyz", "/leader")] == [503, 503]
    assert call(daemon, "GET", "/readyz").json()["status"].startswith("no runs are taken on")


def test_one_that_stands_by_is_ready_and_does_not_lead(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED)
    daemon.life.ready, daemon.standing_by = False, "another daemon schedules for this state (process 7 on etl-2)"
    standing = {"status": "standing by", "standing_by": daemon.standing_by}
    ready, leader = (call(daemon, "GET", path) for path in ("/readyz", "/leader"))
    assert (ready.status_code, ready.json()) == (200, standing | {"broken": {}})
    assert (leader.status_code, leader.json()) == (503, standing)
    assert "reverse_etl_scheduling 0.0" in call(daemon, "GET", "/metrics").text
    assert ask(daemon).json()["error"]["code"] == "standing_by"


def test_a_broken_file_stands_in_readyz_and_status_and_ends_no_readiness(desk: Callable[..., Desk]) -> None:
    daemon = desk(people="", bad="mode: upzert")
    answer = call(daemon, "GET", "/readyz")
    assert answer.status_code == 200
    assert answer.json()["broken"]["bad"][0].startswith("syncs/bad.yml:7:7: should be upsert")
    assert list(call(daemon, "GET", "/status").json()["daemon"]["broken"]) == ["bad"]


def test_status_tells_what_comes_next(desk: Callable[..., Desk]) -> None:
    daemon = desk(people="schedule: every 15 minutes", hand="", child="schedule: {after: people}")
    found = {each["sync"]: each for each in call(daemon, "GET", "/status").json()["syncs"]}
    assert found["people"]["next_run_at"] == "2026-06-01T12:00:00.000Z"
    assert found["people"]["phase"] == "idle"
    assert (found["hand"]["next_run_at"], found["child"]["next_run_at"]) == (None, None)
    daemon.scheduler.ring("people")
    found = {each["sync"]: each for each in call(daemon, "GET", "/status").json()["syncs"]}
    assert (found["people"]["phase"], found["people"]["next_run_at"]) == ("waiting", "2026-06-01T12:15:00.000Z")


def test_metrics_are_prometheus_text(desk: Callable[..., Desk]) -> None:
    daemon = desk(people="schedule: every 15 minutes", bad="mode: upzert")
    entry = daemon.scheduler.agenda["people"]
    report = RunReport("people", "run", daemon.clock.now(), finished_at=daemon.clock.now())
    report.delivered.created, report.rows.unchanged, report.requests, report.rejected = 3, 4, 2, 1
    daemon.metrics.begun(entry, timedelta(seconds=0.3))
    daemon.metrics.skipped(entry)
    daemon.metrics.ended(entry, report)
    answer = call(daemon, "GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    moment = f"{daemon.clock.now().timestamp():.0f}"
    for expected in (
        'reverse_etl_runs_total{status="succeeded",sync="people"} 1.0',
        'reverse_etl_rows_total{sync="people",verdict="created"} 3.0',
        'reverse_etl_rows_total{sync="people",verdict="unchanged"} 4.0',
        'reverse_etl_requests_total{sync="people"} 2.0',
        'reverse_etl_left_out_total{sync="people"} 1.0',
        'reverse_etl_standing_rows{state="rejected",sync="people"} 1.0',
        'reverse_etl_start_lag_seconds_bucket{le="0.5"} 1.0',
        "reverse_etl_broken_files 1.0",
        "reverse_etl_places 4.0",
    ):
        assert expected in lines, answer.text
    assert not [line for line in lines if "_created{" in line], "a second series for each, which nobody asks for"
    (success,) = [line for line in lines if line.startswith("reverse_etl_last_success_timestamp_seconds{")]
    assert float(success.split()[-1]) == float(moment)


# --- who may ----------------------------------------------------------------------------------------------------------


def test_S02_looking_on_loopback_needs_no_login(desk: Callable[..., Desk]) -> None:
    assert call(desk(), "GET", "/status").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/leader", "/metrics", "/status"])
@pytest.mark.parametrize("header", ["", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_S02_another_address_asks_for_the_token(desk: Callable[..., Desk], path: str, header: str) -> None:
    daemon = desk(LOCKED)
    answer = call(daemon, "GET", path, host="etl.example.com", authorization=header)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert call(daemon, "GET", path, host="etl.example.com", authorization=f"Bearer {TOKEN}").status_code == 200


def test_S02_every_route_asks_for_a_token_or_a_signature(desk: Callable[..., Desk]) -> None:
    daemon = desk(LOCKED, people="")
    walked = application(daemon.front(), daemon.definitions.settings).routes
    assert len(walked) == 6
    for route in walked:
        assert isinstance(route, Route)
        path = route.path.replace("{name}", "people")
        for method in route.methods or ():
            assert call(daemon, method, path, host="etl.example.com").status_code == 401, path


@pytest.mark.parametrize("host", ["evil.example.com", "127.0.0.1.evil.example.com", "evil.example.com:8780", "[::2]"])
def test_S03_a_name_that_is_not_its_own_is_refused_on_loopback(desk: Callable[..., Desk], host: str) -> None:
    answer = call(desk(people=""), "GET", "/status", host=host)
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["127.0.0.1:8780", "localhost", "LOCALHOST:8780", "[::1]:8780", "etl.internal"])
def test_S03_its_own_names_and_those_allowed_are_taken(desk: Callable[..., Desk], host: str) -> None:
    assert call(desk("daemon: {allowed_hosts: [etl.internal]}\n"), "GET", "/healthz", host=host).status_code == 200


def test_get_runs_nothing_and_an_unknown_place_is_named_so(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED, people="")
    assert call(daemon, "GET", "/syncs/people/run").status_code == 405
    assert call(daemon, "GET", "/nowhere").json()["error"]["code"] == "not_found"


# --- requests to run --------------------------------------------------------------------------------------------------


def test_S16_a_signed_request_runs_a_sync(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED, people="")
    answer = ask(daemon)
    assert (answer.status_code, answer.json()) == (202, {"sync": "people", "run": "starts"})
    assert daemon.pool.waiting == ("people",)
    again = ask(daemon, message="message-2")
    assert (again.status_code, again.json()["run"]) == (202, "follows")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"webhook_id": "another"}, "bad_signature"),
        ({"sent": b'{"full": true}'}, "bad_signature"),
        ({"webhook_signature": "v1,AAAA"}, "bad_signature"),
        ({"webhook_signature": "v2,AAAA"}, "bad_signature"),
        ({"webhook_signature": "v1"}, "bad_signature"),
        ({"webhook_timestamp": "1"}, "bad_time"),
        ({"webhook_timestamp": "soon"}, "bad_time"),
        ({"webhook_timestamp": "9" * 400}, "bad_time"),
        ({"webhook_id": ""}, "unsigned"),
        ({"webhook_signature": ""}, "unsigned"),
    ],
)
def test_S16_what_is_not_signed_right_runs_nothing(
    desk: Callable[..., Desk], changes: dict[str, Any], code: str
) -> None:
    daemon = desk(SIGNED, people="")
    answer = ask(daemon, **changes)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert daemon.pool.waiting == ()


@pytest.mark.parametrize(("seconds", "taken"), [(-301, False), (-299, True), (299, True), (301, False)])
def test_S16_a_signature_is_good_for_five_minutes(desk: Callable[..., Desk], seconds: int, taken: bool) -> None:
    daemon = desk(SIGNED, people="")
    headers = signed(KEY, "m", daemon.clock.now() + timedelta(seconds=seconds), b"")
    assert (call(daemon, "POST", "/syncs/people/run", **headers).status_code == 202) is taken


def test_S16_a_request_counts_once_over_a_restart_too(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED, people="")
    assert ask(daemon).status_code == 202
    replayed = ask(daemon)
    assert (replayed.status_code, replayed.json()["error"]["code"]) == (409, "replayed")
    restarted = Desk(daemon.root, SIGNED)
    restarted.look()
    restarted.life.ready = True
    assert ask(restarted).status_code == 409


def test_S16_used_ids_are_forgotten_when_their_signature_is_no_good_any_more(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED, people="")
    ask(daemon)
    daemon.clock.advance(timedelta(minutes=11))
    assert ask(daemon, message="message-2").status_code == 202
    assert list(daemon.notebook.page("signatures")) == ["message-2"]


def test_S02_without_a_key_nobody_can_ask(desk: Callable[..., Desk]) -> None:
    answer = ask(desk(people=""))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "no_trigger_secret")


def test_a_sync_that_is_not_there_is_told_to_who_may_ask(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED, people="")
    assert ask(daemon, "nobody").status_code == 404
    assert call(daemon, "POST", "/syncs/nobody/run").status_code == 401


def test_a_daemon_that_ends_takes_on_nothing(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED, people="")
    daemon.life.ready = False
    assert ask(daemon).status_code == 503
    daemon.life.ready = True
    assert ask(daemon).status_code == 202, "who tries the same request again is heard"


def test_S21_a_large_body_is_refused(desk: Callable[..., Desk]) -> None:
    daemon = desk(SIGNED, people="")
    answer = ask(daemon, body=b"x" * (routes.MOST_BODY + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_S21_a_body_that_does_not_end_is_given_up(desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_SECONDS", 0.05)
    daemon = desk(SIGNED, people="")

    async def dripping() -> Any:
        yield b"{"
        await anyio.sleep(1)
        yield b"}"

    answer = call(daemon, "POST", "/syncs/people/run", content=dripping())
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "too_slow")


def test_a_state_that_cannot_be_used_is_told_as_such(desk: Callable[..., Desk]) -> None:
    daemon = desk(people="")
    (daemon.root / ".reverse_etl/state.db").write_bytes(b"this is no database" * 100)
    answer = call(daemon, "GET", "/status")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "state_unusable")


def test_S16_the_signature_is_that_of_standard_webhooks() -> None:
    # The vector that the specification's own libraries are tested with.
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("key", ["whsec_not base64 at all!", KEY])
def test_a_key_that_is_not_encoded_is_taken_as_it_is(key: str) -> None:
    now = datetime.now(UTC)
    assert checked(key, signed(key, "m", now, b"x"), b"x", now)[0] == "m"


def test_S16_one_of_several_signatures_is_enough_while_keys_are_changed() -> None:
    now = datetime.now(UTC)
    old, new = signed("an-older-key-than-ours", "m", now, b""), signed(KEY, "m", now, b"")
    both = {**new, "webhook-signature": f"{old['webhook-signature']} {new['webhook-signature']}"}
    assert checked(KEY, both, b"", now)[0] == "m"
