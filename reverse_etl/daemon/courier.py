"""Brings alerts to their channels: together when many come at once, again when one isn't taken, and after a restart."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import anyio
from anyio import to_thread

from reverse_etl import clock
from reverse_etl.clock import Clock
from reverse_etl.config.alerts import Channel
from reverse_etl.daemon import channels
from reverse_etl.daemon.alerts import Alert
from reverse_etl.daemon.channels import Look, Undelivered

log = logging.getLogger(__name__)

GATHER_SECONDS = 2.0  # a warehouse that is down fails every sync at once: one message tells of all
PAUSES_SECONDS = (5.0, 30.0, 120.0, 600.0)
OLDEST = timedelta(days=1)  # news from before isn't sent after a restart
MOST_UNSENT = 1000
SEND_SECONDS = 45.0

Page = dict[str, Any]


class Courier:
    """`channels` are those of the project file as it reads now; `keep` stores what is not delivered yet."""

    def __init__(
        self,
        channels: Callable[[], Mapping[str, Channel]],
        keep: Callable[[Page], None],
        clean: Callable[[str], str],
        clock: Clock,
        look: Look = channels.look_up,
    ) -> None:
        self._channels = channels
        self._keep = keep
        self._clean = clean
        self._clock = clock
        self._look = look
        self._unsent: dict[str, list[Alert]] = {}  # by channel
        self._news = anyio.Event()

    def take(self, alert: Alert) -> None:
        """An alert for its channels. Returns at once; what isn't delivered yet is remembered."""
        told = _cleaned(alert, self._clean)
        facts = {"sync": told.sync, "event_kind": told.event} | ({"run_id": told.run_id} if told.run_id else {})
        log.warning("alert: %s", told.text, extra=facts)
        for name in self._channels() if told.to is None else told.to:
            waiting = self._unsent.setdefault(name, [])
            waiting.append(told)
            del waiting[:-MOST_UNSENT]
        self._remember()
        self._news.set()

    def recall(self, page: Mapping[str, Any]) -> None:
        """What had not been delivered when the process ended before."""
        for name, alerts in page.items():
            found = [alert for each in alerts if (alert := _read(each)) is not None]
            self._unsent[name] = [alert for alert in found if self._clock.now() - alert.at < OLDEST]
        self._news.set()

    def forget(self) -> None:
        """Another daemon delivers what waits."""
        self._unsent.clear()

    async def run(self) -> None:
        """Delivers until it is cancelled, each channel by itself."""
        under_way: set[str] = set()
        async with anyio.create_task_group() as tasks:
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                for name in [name for name, alerts in self._unsent.items() if alerts and name not in under_way]:
                    under_way.add(name)
                    tasks.start_soon(self._deliver, name, under_way)

    async def _deliver(self, name: str, under_way: set[str]) -> None:
        """All that waits for a channel, until nothing does."""
        await self._clock.sleep(GATHER_SECONDS)
        while alerts := list(self._unsent.get(name, ())):
            await self._send(name, alerts)
            rest = [alert for alert in self._unsent.get(name, ()) if alert not in alerts]
            self._unsent[name] = rest
            self._remember()
        under_way.discard(name)

    async def _send(self, name: str, alerts: Sequence[Alert]) -> None:
        """One message, tried several times; in the end the log has it."""
        message_id = _id_of(alerts)
        for tried, pause in enumerate((*PAUSES_SECONDS, None), 1):
            channel = self._channels().get(name)
            if channel is None:
                log.error("alerts for %s are dropped: daemon.alerts has no such channel any more", name)
                return
            try:
                await self._try(channel, alerts, message_id)
            except Undelivered as failure:
                if pause is None or not failure.again:
                    log.error("an alert could not be sent to %s: %s", name, self._clean(str(failure)))
                    return
                log.warning("an alert is sent to %s again in %g s: %s", name, pause, self._clean(str(failure)))
                await self._clock.sleep(pause)
            else:
                if tried > 1:
                    log.info("an alert has reached %s after %d tries", name, tried)
                return

    async def _try(self, channel: Channel, alerts: Sequence[Alert], message_id: str) -> None:
        with anyio.move_on_after(SEND_SECONDS) as patience:
            await to_thread.run_sync(
                channels.send, channel, alerts, message_id, self._clock.now(), self._look, abandon_on_cancel=True
            )
        if patience.cancelled_caught:
            raise Undelivered(f"it took longer than {SEND_SECONDS:g} s", again=True)

    def _remember(self) -> None:
        waiting = {name: [{**alert.to_json()} for alert in alerts] for name, alerts in self._unsent.items() if alerts}
        self._keep(waiting)


def _id_of(alerts: Sequence[Alert]) -> str:
    """The same for the same news: whoever was told in the moment of a kill hears it again under the same id."""
    said = json.dumps([alert.to_json() for alert in alerts], sort_keys=True)
    return f"alert-{hashlib.sha256(said.encode()).hexdigest()[:24]}"


def _cleaned(alert: Alert, clean: Callable[[str], str]) -> Alert:
    """Without secrets, whatever a vendor's message repeats."""
    hint = clean(alert.hint) if alert.hint is not None else None
    return Alert(alert.sync, alert.event, alert.at, clean(alert.text), alert.to, alert.run_id, alert.code, hint)


def _read(document: object) -> Alert | None:
    if not isinstance(document, dict):
        return None
    try:
        facts = {name: document.get(name) for name in ("run_id", "code", "hint")}
        moment: datetime = clock.parse(document["at"])
        return Alert(document["sync"], document["event"], moment, document["text"], **facts)
    except (KeyError, TypeError, ValueError):
        return None
