"""The HTTP client in virtual time, against a scripted destination."""

from __future__ import annotations

import gzip
import logging
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import httpx
import pytest

from reverse_etl.answer import Answer, told_pause
from reverse_etl.errors import AuthError, DestinationError, InDoubt, PluginError, Throttled, Unavailable
from reverse_etl.http import SESSION, Http
from reverse_etl.pace import Pace
from reverse_etl.protocols import Traffic
from reverse_etl.retries import of_one_batch
from reverse_etl.wire import MOST_BYTES, proxy_for
from tests.virtual_time import START, VirtualClock, run

Step = httpx.Response | Exception | Callable[[httpx.Request], Awaitable[httpx.Response]]


def classify(answer: Answer) -> DestinationError | None:
    kinds: dict[int, type[DestinationError]] = {429: Throttled, 500: InDoubt, 503: Unavailable, 400: DestinationError}
    if answer.status == 401:
        return AuthError("session ended", code=SESSION)
    kind = kinds.get(answer.status)
    return kind("refused", status=answer.status) if kind else None


class Destination:
    """Answers by a script, one step a call, the last one for ever; remembers what it was asked and when."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.asked: list[httpx.Request] = []
        self.at: list[float] = []
        self.clock = VirtualClock()

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.at.append(self.clock.monotonic())
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            return step
        return await step(request)

    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False)]


def client(destination: Destination, **settings: Any) -> Http:
    settings.setdefault("base_url", "https://api.example.com")
    settings.setdefault("traffic", Traffic())
    settings.setdefault("classify", classify)
    settings.setdefault("pace", Pace(requests=1000, per_seconds=10, clock=destination.clock))
    return Http(clock=destination.clock, transport=httpx.MockTransport(destination.answer), **settings)


def send(
    destination: Destination, *, idempotent: bool = True, call: Mapping[str, Any] | None = None, **settings: Any
) -> Answer:
    async def scenario() -> Answer:
        http = client(destination, **settings)
        try:
            return await http.send("POST", "/things", idempotent=idempotent, **(call or {"json": {"a": 1}}))
        finally:
            await http.aclose()

    return run(scenario)


def ok(**more: Any) -> httpx.Response:
    return httpx.Response(200, json={"fine": True}, **more)


# --- sending and reading -------------------------------------------------------------------------------------------


def test_json_goes_out_compact_and_comes_back_parsed() -> None:
    destination = Destination(ok(headers={"X-Acme-Correlation-Id": "c-1"}))
    answer = send(destination)
    assert (answer.status, answer.json(), answer.request_id) == (200, {"fine": True}, "c-1")
    assert str(destination.asked[0].url) == "https://api.example.com/things"
    assert destination.asked[0].content == b'{"a":1}'
    assert destination.asked[0].headers["content-type"] == "application/json"


def test_forms_content_parameters_and_headers_go_out_as_given() -> None:
    destination = Destination(ok())
    send(destination, call={"form": {"a": "x y&z"}, "params": {"q": "å"}, "headers": {"If-Match": "1"}})
    request = destination.asked[0]
    assert (request.content, request.url.query, request.headers["if-match"]) == (b"a=x+y%26z", b"q=%C3%A5", "1")
    send(destination, call={"content": b"a,b\n", "headers": {"Content-Type": "text/csv"}})
    assert (destination.asked[1].content, destination.asked[1].headers["content-type"]) == (b"a,b\n", "text/csv")


def test_P25_an_answer_that_is_not_json_is_in_doubt() -> None:
    answer = send(Destination(httpx.Response(200, text="<html>")))
    with pytest.raises(InDoubt) as caught:
        answer.json()
    assert caught.value.code == "destination_unreadable"


@pytest.mark.parametrize("packed", [False, True])
def test_P24_an_answer_larger_than_the_limit_is_in_doubt(packed: bool) -> None:
    body = b"x" * (MOST_BYTES + 1)
    sent = httpx.Response(200, content=gzip.compress(body), headers={"content-encoding": "gzip"}) if packed else None
    with pytest.raises(InDoubt, match="larger than 32 MiB"):
        send(Destination(sent or httpx.Response(200, content=body)), idempotent=False)


def test_every_try_and_every_429_is_counted() -> None:
    traffic = Traffic()
    send(Destination(httpx.Response(429), httpx.Response(503), ok()), traffic=traffic)
    assert traffic == Traffic(requests=3, throttled=1)


def test_every_answer_is_learned_from_refusals_too() -> None:
    seen: list[int] = []
    send(Destination(httpx.Response(429), ok()), learn=lambda answer, pace: seen.append(answer.status))
    assert seen == [429, 200]


# --- retrying ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "idempotent", "tries"),
    [
        (httpx.Response(429), False, 6),
        (httpx.Response(503), False, 6),
        (httpx.Response(500), True, 6),
        (httpx.Response(500), False, 1),
        (httpx.Response(400), True, 1),
        (httpx.ConnectError("refused"), False, 6),
        (httpx.ReadError("reset"), True, 6),
        (httpx.ReadError("reset"), False, 1),
        (httpx.RemoteProtocolError("peer closed connection without sending complete message body"), False, 1),
    ],
)
def test_P19_only_what_may_help_is_sent_again_and_at_most_six_times(step: Step, idempotent: bool, tries: int) -> None:
    destination = Destination(step)
    with pytest.raises(DestinationError) as caught:
        send(destination, idempotent=idempotent)
    assert len(destination.asked) == tries
    assert ("(6 attempts)" in caught.value.message) == (tries > 1)
    assert str(caught.value) == caught.value.message


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (httpx.ConnectError("name not known"), Unavailable),
        (httpx.ConnectTimeout(""), Unavailable),
        (httpx.ReadError(""), InDoubt),
        (httpx.WriteError(""), InDoubt),
        (httpx.RemoteProtocolError("cut"), InDoubt),
        (httpx.DecodingError("bad gzip"), InDoubt),
        (httpx.LocalProtocolError("bad header"), PluginError),
    ],
)
def test_a_broken_call_says_whether_it_may_have_been_carried_out(step: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"POST /things at api\.example\.com"):
        send(Destination(step), idempotent=False)


@pytest.mark.parametrize(
    ("method", "status", "doubted"),
    [("POST", 500, True), ("PATCH", 500, True), ("GET", 500, False), ("POST", 503, False)],
)
def test_P04_a_write_answered_at_its_second_try_may_have_been_carried_out_by_its_first(
    method: str, status: int, doubted: bool
) -> None:
    destination = Destination(httpx.Response(status), ok())

    async def scenario() -> bool:
        http = client(destination)
        with of_one_batch() as repeats:
            await http.send(method, "/things", idempotent=True)
        await http.aclose()
        return repeats.doubted

    assert run(scenario) is doubted


def test_nobody_at_an_address_of_this_machine_makes_us_ask_for_the_sandbox() -> None:
    down = Destination(httpx.ConnectError("nobody there"))
    with pytest.raises(Unavailable, match=r"at 127\.0\.0\.1:8750: can't be reached") as caught:
        send(down, base_url="http://127.0.0.1:8750")
    assert "is `reverse-etl sandbox` running?" in str(caught.value.hint)
    with pytest.raises(Unavailable) as caught:
        send(down)
    assert "sandbox" not in str(caught.value.hint)


def test_pauses_grow_with_full_jitter_up_to_the_cap() -> None:
    destination = Destination(httpx.Response(503))
    with pytest.raises(Unavailable):
        send(destination, attempts=9)
    assert destination.pauses() == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_throttled_call_waits_longer_each_time_but_no_longer_than_a_window() -> None:
    destination = Destination(httpx.Response(429))
    destination.clock.share = 0.0
    with pytest.raises(Throttled):
        send(destination)
    assert destination.pauses() == [1, 2, 4, 8, 10]


@pytest.mark.parametrize(
    "told", ["40", "40.0", "Mon, 23 Nov 2026 02:00:40 GMT", "2026-11-23T02:00:40Z", "2026-11-23T04:00:40+02:00"]
)
def test_P17_nothing_is_sent_before_the_told_time_in_any_standard_form(told: str) -> None:
    destination = Destination(httpx.Response(429, headers={"Retry-After": told}), ok())

    async def scenario() -> None:
        http = client(destination)
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(send_one, http)
                await anyio.sleep(0.01)

    async def send_one(http: Http) -> None:
        await http.send("GET", "x", idempotent=True)

    run(scenario)
    assert len(destination.asked) == 4
    first = destination.at[0]
    assert [at - first >= 39.9 for at in destination.at[1:]] == [True, True, True]


@pytest.mark.parametrize("told", ["", "soon", "nan", "inf", "-5"])
def test_a_told_time_that_makes_no_sense_is_as_good_as_none(told: str) -> None:
    pause = told_pause(Answer(429, {"retry-after": told}, b""), START)
    assert pause in (None, 0.0)


def test_a_pause_longer_than_fifteen_minutes_is_not_sat_out() -> None:
    destination = Destination(httpx.Response(503, headers={"Retry-After": "86400"}))
    with pytest.raises(Unavailable) as caught:
        send(destination)
    assert (len(destination.asked), caught.value.retry_after) == (1, 86400)


# --- deadlines, addresses, credentials -----------------------------------------------------------------------------


async def dripping(request: httpx.Request) -> httpx.Response:
    async def drops() -> AsyncIterator[bytes]:
        while True:
            await anyio.sleep(1)
            yield b"x"

    return httpx.Response(200, content=drops())


def test_P24_a_dripping_answer_ends_at_the_deadline_and_is_in_doubt() -> None:
    destination = Destination(dripping)

    async def scenario() -> float:
        started = destination.clock.monotonic()
        with pytest.raises(InDoubt, match="no complete answer within 20 s") as caught:
            await client(destination).send("GET", "x", idempotent=False, deadline=20)
        assert caught.value.code == "destination_timeout"
        return destination.clock.monotonic() - started

    assert run(scenario) == 20


@pytest.mark.parametrize(("pause", "whole"), [(50, True), (70, False)])
def test_a_file_may_come_slowly_but_not_stand_still(pause: float, *, whole: bool) -> None:
    async def slowly(request: httpx.Request) -> httpx.Response:
        async def parts() -> AsyncIterator[bytes]:
            for part in (b"a", b"b", b"c"):
                await anyio.sleep(pause)
                yield part

        return httpx.Response(200, content=parts())

    destination = Destination(slowly)

    async def scenario() -> bytes:
        with tempfile.TemporaryFile() as file:
            await client(destination, attempts=1).send("GET", "x", idempotent=True, deadline=1800, into=file)
            file.seek(0)
            return file.read()

    if whole:
        assert run(scenario) == b"abc"
        return
    with pytest.raises(InDoubt, match="the answer stood still for 60 s"):
        run(scenario)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_P26_redirects_are_not_followed(status: int) -> None:
    destination = Destination(httpx.Response(status, headers={"Location": "https://evil.example/"}))
    with pytest.raises(DestinationError, match="redirects are not followed"):
        send(destination)
    assert len(destination.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/x",
        "http://api.example.com/x",
        "https://api.example.com:8443/x",
        "https://api.example.com.evil/",
    ],
)
def test_P26_a_call_to_another_host_scheme_or_port_is_refused(url: str) -> None:
    destination = Destination(ok())

    async def scenario() -> None:
        with pytest.raises(PluginError, match="credentials stay at"):
            await client(destination).send("GET", url, idempotent=True)

    run(scenario)
    assert destination.asked == []


def test_an_absolute_address_at_the_same_origin_is_called() -> None:
    destination = Destination(ok())

    async def scenario() -> None:
        await client(destination).send("GET", "https://api.example.com:443/next?page=2", idempotent=True)

    run(scenario)
    assert destination.asked[0].url.path == "/next"


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "ftp://a.example",
        "api.example.com",
        "https://",
        "https://u:p@a.example",
        "https://a.example?x=1",
    ],
)
def test_S11_addresses_that_may_not_be_used(url: str) -> None:
    with pytest.raises(PluginError, match="the address of a destination should"):
        client(Destination(ok()), base_url=url)


class Sessions:
    """A credential with numbered sessions, of which the door takes the newest only."""

    def __init__(self, renewable: Sequence[bool]) -> None:
        self.number = 1
        self.renewals = 0
        self.renewable = list(renewable)

    async def headers(self) -> Mapping[str, str]:
        return {"Authorization": f"Bearer s{self.number}"}

    async def renew(self) -> bool:
        self.renewals += 1
        await anyio.sleep(0.5)
        if not self.renewable.pop(0):
            return False
        self.number += 1
        return True


def door(accepted: str) -> Step:
    async def answer(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.1)
        return ok() if request.headers.get("authorization") == accepted else httpx.Response(401)

    return answer


def test_P22_an_ended_session_is_renewed_once_for_everyone() -> None:
    destination = Destination(door("Bearer s2"))
    sessions = Sessions([True])

    async def scenario() -> None:
        http = client(destination, credential=sessions)

        async def one(delay: float) -> None:
            await anyio.sleep(delay)
            await http.send("GET", "x", idempotent=False)

        async with anyio.create_task_group() as tasks:
            for delay in (0, 0.05, 0.09):
                tasks.start_soon(one, delay)

    run(scenario)
    assert sessions.renewals == 1
    assert len(destination.asked) == 6


def test_P22_a_session_refused_again_after_renewal_is_an_error() -> None:
    destination = Destination(door("Bearer never"))
    with pytest.raises(AuthError):
        send(destination, credential=Sessions([True]))
    assert len(destination.asked) == 2


def test_a_session_that_cannot_be_renewed_leaves_the_refusal() -> None:
    destination = Destination(door("Bearer never"))
    with pytest.raises(AuthError):
        send(destination, credential=Sessions([False]))
    assert len(destination.asked) == 1


def test_a_call_without_authorization_carries_no_credential() -> None:
    destination = Destination(ok())
    send(destination, credential=Sessions([]), call={"authorized": False})
    assert "authorization" not in destination.asked[0].headers


# --- silence -------------------------------------------------------------------------------------------------------


def test_S05_no_log_line_holds_an_address(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        send(Destination(ok()), call={"params": {"email": "ada@example.com"}})
    assert "ada" not in caplog.text


def test_the_module_itself_does_not_load_httpx() -> None:
    code = "import sys, reverse_etl.http; sys.exit('httpx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"https_proxy": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"https_proxy": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"all_proxy": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"http_proxy": "http://proxy.example:3128"}, None),
        ({"https_proxy": "http://proxy.example:3128", "no_proxy": "api.example.com"}, None),
    ],
)
def test_the_environments_proxy_is_used_where_it_says_so(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: str | None
) -> None:
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for("https://api.example.com") == proxy
