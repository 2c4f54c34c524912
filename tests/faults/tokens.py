"""OAuth: tokens that end in the middle of a run, exchanges that are lost, refused, or asked for by many at once."""

from __future__ import annotations

import base64
import random

from tests.faults import checker
from tests.faults.answers import HTML, ROWS, prepared, settled, troubled
from tests.faults.door import SECRET, Door
from tests.faults.fake import Fake
from tests.faults.families import family
from tests.faults.org import Org
from tests.faults.salesforce import error_of
from tests.faults.scripted import TRUE, Act, Call
from tests.faults.stage import Ended, Stage

ANEW = f"{SECRET}-consented-anew"


def _consented(stage: Stage, **what: object) -> Door:
    """An app with somebody's consent, at either destination, and a key for the tokens that are kept."""
    key = base64.urlsafe_b64encode(random.Random(str(stage.folder.name)).randbytes(32)).decode()
    stage.variables["CRM_STATE_KEY"] = key
    door = Door(**what)  # type: ignore[arg-type]
    if isinstance(stage.fake, Org):
        door.told = None
    assert isinstance(stage.fake, Fake | Org)
    stage.fake.door = door
    _project(stage)
    return door


def _project(stage: Stage) -> None:
    state = {"encryption_key": "${CRM_STATE_KEY}"}
    if isinstance(stage.fake, Org):
        consent = {"flow": "refresh_token", "client_id": "app", "refresh_token": "${CRM_REFRESH_TOKEN}"}
        stage.project(settings={"auth": consent, "bulk_from": "never"}, state=state)
    else:
        stage.project(state=state)


def _consent_again(stage: Stage, door: Door) -> None:
    """Somebody connects the app once more, and puts the new refresh token where it is read."""
    door.refresh = {ANEW}
    stage.variables["CRM_REFRESH_TOKEN"] = ANEW


def _explained(stage: Stage, ended: Ended) -> None:
    if error_of(ended) in ("", "bug", "destination_unavailable"):
        stage.wrong("I10", f"a refused exchange is told as {ended.run.get('error')}")
    if not (ended.run.get("error") or {}).get("hint"):
        stage.wrong("I10", f"a refused exchange comes without a remedy: {ended.run.get('error')}")


def _ends_many(stage: Stage) -> None:
    """Four calls are refused at once: one exchange for all, and each of them once more."""
    door = _consented(stage)
    prepared(stage)
    stage.fake.latency = 0.2
    before, number = door.exchanges, stage.fake.writes + stage.random.randint(1, 4)

    def script(call: Call) -> Act:
        if call.number == number:
            door.end_all()
        return TRUE

    troubled(stage, script, codes=(0,))
    stage.most("exchanges", door.exchanges - before)
    if door.exchanges - before > 2:  # the first one is for the run
        stage.wrong("I7", f"{door.exchanges - before - 1} exchanges for one token that ended")
    stage.fake.latency = 0.01
    stage.ground.change(ROWS // 2)
    stage.ground.put()
    settled(stage)


@family("T01", "OAuth, HubSpot: tokens that end while four calls are under way; short-lived ones")
def ends_at_hubspot(stage: Stage) -> None:
    _ends_many(stage)
    door = _consented(stage, lifetime=5.0, told=2.0)
    stage.fake.latency = 0.8
    stage.ground.change(ROWS)
    stage.ground.put()
    before = door.exchanges
    troubled(stage, lambda _call: TRUE, codes=(0,))
    stage.most("exchanges_of_short_ones", door.exchanges - before)
    door.lifetime = 7200.0
    stage.fake.latency = 0.01
    settled(stage)


@family(
    "T02", "OAuth, Salesforce: sessions by consent that end while four calls are under way", destination="salesforce"
)
def ends_at_salesforce(stage: Stage) -> None:
    _ends_many(stage)


def _lost_after_rotation(stage: Stage) -> None:
    """Nobody knows the only token that counts: the run ends and says so, nothing is lost, a new consent mends it."""
    door = _consented(stage, rotates=True)
    prepared(stage)  # the token has changed once by now, and was kept
    lost = {"left": 1}

    def script(call: Call) -> Act:
        if call.verb == "token" and lost["left"]:
            lost["left"] -= 1
            return stage.random.choice((Act(cut=0.0), Act(cut=0.5), Act(status=502, body=HTML)))
        return TRUE

    mark = stage.fake.writes
    ended = troubled(stage, script, codes=(1,))
    _explained(stage, ended)
    if stage.fake.writes > mark:
        stage.wrong("I8", "something was sent without a token")
    _consent_again(stage, door)
    settled(stage)
    stage.ground.change(ROWS // 2)
    stage.ground.put()
    settled(stage)


@family("T03", "OAuth, HubSpot: the exchange's answer lost after the refresh token was changed")
def lost_at_hubspot(stage: Stage) -> None:
    _lost_after_rotation(stage)


@family(
    "T04", "OAuth, Salesforce: the exchange's answer lost after the refresh token was changed", destination="salesforce"
)
def lost_at_salesforce(stage: Stage) -> None:
    _lost_after_rotation(stage)


def _taken_back(stage: Stage) -> None:
    """The consent goes in the middle of a run: it ends, what was answered counts, the rest waits."""
    door = _consented(stage, rotates=stage.random.random() < 0.5)
    prepared(stage)
    number = stage.fake.writes + stage.random.randint(2, 5)

    def script(call: Call) -> Act:
        if call.number == number:
            door.end_all()
            door.take_back()
        return TRUE

    ended = troubled(stage, script, codes=(1,))
    _explained(stage, ended)
    stage.most("asked_in_vain", door.refused)
    if door.refused > 2:
        stage.wrong("I7", f"{door.refused} exchanges were asked for after the first was refused")
    again = stage.sync()
    checker.balanced(stage, again)
    if again.code != 1:
        stage.wrong("I10", f"without consent a run ended with {again.code}: {again.out[-300:]}")
    _consent_again(stage, door)
    settled(stage)


@family("T05", "OAuth, HubSpot: the consent taken back in the middle of a run")
def taken_back_at_hubspot(stage: Stage) -> None:
    _taken_back(stage)


@family("T06", "OAuth, Salesforce: the consent taken back in the middle of a run", destination="salesforce")
def taken_back_at_salesforce(stage: Stage) -> None:
    _taken_back(stage)


@family("T07", "OAuth: two processes ask at once, where each exchange ends the token it was made with")
def asked_by_two(stage: Stage) -> None:
    """Two processes on one state: what the one is told in exchange holds for the other."""
    door = _consented(stage, rotates=True)
    stage.define("others", key="email")
    stage.ground.add(400)
    stage.ground.put()
    for _ in range(3):
        both = [stage.start("sync", name, "--json") for name in ("people", "others")]
        ended = [stage.finish(each) for each in both]
        for each in ended:
            checker.balanced(stage, each)
            stage.count("refused_runs", each.code == 1)
            if each.code == 1:
                _explained(stage, each)
        stage.cycles += 1
        stage.ground.change(200)
        stage.ground.put()
        if len(door.refresh) != 1:
            stage.wrong("campaign", "more than one refresh token counts")
    settled(stage)
