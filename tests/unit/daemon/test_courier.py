from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from reverse_etl.config.alerts import Channel, SlackChannel
from reverse_etl.daemon import channels
from reverse_etl.daemon.alerts import Alert
from reverse_etl.daemon.channels import Undelivered
from reverse_etl.daemon.courier import Courier
from tests.virtual_time import START, VirtualClock, run_beside_threads


def slack(name: str) -> SlackChannel:
    return SlackChannel(type="slack", url=SecretStr(f"https://hooks.example.com/{name}"))


def alert(sync: str = "people", to: tuple[str, ...] | None = None, text: str = "it has failed") -> Alert:
    return Alert(sync, "failed", START, text, to)


def _cleaned(text: str) -> str:
    return text.replace("hunter2", "***")


class Post:
    """A courier whose messages are kept instead of sent; `refusals` come first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.clock = VirtualClock()
        self.channels: dict[str, Channel] = {name: slack(name) for name in names or ("ops",)}
        self.kept: dict[str, Any] = {}
        self.sent: list[tuple[str, list[str], float]] = []
        self.refusals: list[Undelivered] = []
        self.ids: list[str] = []
        self.courier = Courier(
            lambda: self.channels, self._keep, lambda text: text.replace("hunter2", "***"), self.clock
        )
        monkeypatch.setattr(channels, "send", self._send)

    def run(self, *alerts: Alert, page: Mapping[str, Any] | None = None, seconds: float = 3600) -> list[list[str]]:
        """The messages that these alerts become; each is a list of the syncs it tells of."""

        async def scene() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.courier.run)
                self.courier.recall(page or {})
                for each in alerts:
                    self.courier.take(each)
                await self.clock.sleep(seconds)
                tasks.cancel_scope.cancel()

        run_beside_threads(scene)
        return [syncs for _, syncs, _ in self.sent]

    def _keep(self, page: dict[str, Any]) -> None:
        self.kept = page

    def _send(self, channel: SlackChannel, alerts: Sequence[Alert], message_id: str, *_: Any) -> None:
        self.ids.append(message_id)
        if self.refusals:
            raise self.refusals.pop(0)
        name = channel.url.get_secret_value().rpartition("/")[2]
        self.sent.append((name, [each.sync for each in alerts], 0.0))


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Post]:
    return lambda *names: Post(monkeypatch, *names)


def test_alerts_that_come_together_are_one_message(post: Callable[..., Post]) -> None:
    assert post().run(alert("a"), alert("b"), alert("c")) == [["a", "b", "c"]]


def test_an_alert_goes_to_every_channel_or_to_those_it_names(post: Callable[..., Post]) -> None:
    office = post("ops", "sales")
    office.run(alert("a"), alert("b", to=("sales",)))
    assert sorted(office.sent) == [("ops", ["a"], 0.0), ("sales", ["a", "b"], 0.0)]


def test_what_may_arrive_later_is_sent_again_and_that_it_has_arrived_is_said(
    post: Callable[..., Post], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    office = post()
    office.refusals = [Undelivered("busy", again=True)] * 3
    assert office.run(alert("a")) == [["a"]]
    assert office.kept == {}
    assert caplog.messages[-1] == "an alert has reached ops after 4 tries"


@pytest.mark.parametrize(("again", "times"), [(True, 5), (False, 1)])
def test_what_never_arrives_is_given_up_and_said(
    post: Callable[..., Post], caplog: pytest.LogCaptureFixture, again: bool, times: int
) -> None:
    office = post()
    office.refusals = [Undelivered("not hunter2", again=again)] * 9
    assert office.run(alert("a")) == []
    assert (len(office.refusals), office.kept) == (9 - times, {})
    assert caplog.messages[-1] == "an alert could not be sent to ops: not ***"


def test_what_is_not_delivered_outlives_the_process(post: Callable[..., Post]) -> None:
    office = post()
    office.run(alert("a"), seconds=1)
    assert [each["sync"] for each in office.kept["ops"]] == ["a"]
    again = post()
    assert again.run(page=office.kept) == [["a"]]
    assert again.kept == {}


def test_what_arrived_in_the_moment_of_a_kill_arrives_again_under_the_same_id(post: Callable[..., Post]) -> None:
    office = post()
    office.run(alert("a"))
    again = post()
    again.run(page={"ops": [alert("a").to_json()]})
    assert office.ids == again.ids
    again.run(alert("b"))
    assert len({*again.ids}) == 2


def test_old_news_and_what_is_none_are_not_sent_after_a_restart(post: Callable[..., Post]) -> None:
    old = Alert("old", "failed", START - timedelta(days=2), "it has failed").to_json()
    assert post().run(page={"ops": [old, {"sync": "x"}, 7]}) == []


def test_S05_no_secret_is_in_a_message(post: Callable[..., Post], monkeypatch: pytest.MonkeyPatch) -> None:
    office = post()
    told: list[Alert] = []
    monkeypatch.setattr(channels, "send", lambda channel, alerts, *_: told.extend(alerts))
    office.run(alert(text="the warehouse says: no user hunter2"))
    assert [each.text for each in told] == ["the warehouse says: no user ***"]
    assert "hunter2" not in str(office.kept)


def test_a_channel_that_is_gone_takes_its_alerts_with_it(
    post: Callable[..., Post], caplog: pytest.LogCaptureFixture
) -> None:
    office = post()
    assert office.run(alert("a", to=("pager",))) == []
    assert caplog.messages[-1] == "alerts for pager are dropped: daemon.alerts has no such channel any more"
