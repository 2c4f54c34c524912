from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reverse_etl.config.alerts import EVENTS, AlertRules, EmailChannel, SlackChannel, WebhookChannel
from reverse_etl.config.daemon import DaemonFile
from reverse_etl.config.timing import QuietWindow, Timing, parse_quiet_hours
from tests.project_folder import PROJECT, ProjectFolder

CHANNELS = """\
daemon:
  alerts:
    ops: {type: slack, url: "${SLACK:-https://hooks.slack.com/services/T/B/x}"}
    hook: {type: webhook, url: https://example.com/hook, secret: a-key-for-the-hook}
    mail: {type: email, host: mail.example.com, sender: etl@example.com, to: [ops@example.com]}
"""


@pytest.fixture
def project(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path)


def settings(project: ProjectFolder, section: str) -> DaemonFile:
    project.write("reverse_etl.yml", PROJECT + section)
    return project.load(only=[], daemon=True)[0].daemon


def complaint(project: ProjectFolder, section: str) -> str:
    project.write("reverse_etl.yml", f"{PROJECT}daemon:\n  {section}\n")
    (found,) = project.complaints(only=[], daemon=True)
    return found


def test_a_daemon_answers_on_this_machine_alone_unless_it_is_told_otherwise(project: ProjectFolder) -> None:
    found = settings(project, "")
    assert (found.host, found.port, found.only_here) == ("127.0.0.1", 8780, True)
    assert (found.runs, found.drain) == (4, 20.0)


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("'[::1]:9000'", "::1", 9000),
        ("localhost:8000", "localhost", 8000),
    ],
)
def test_an_address_is_a_host_and_a_port(project: ProjectFolder, listen: str, host: str, port: int) -> None:
    found = settings(project, f"daemon: {{listen: {listen}}}\n")
    assert (found.host, found.port, found.only_here) == (host, port, True)


def test_S01_another_address_needs_a_token(project: ProjectFolder) -> None:
    assert complaint(project, "listen: 0.0.0.0:8780").startswith(
        "reverse_etl.yml:9:11: needs a `token` beside it: others than this machine can reach this address"
    )
    found = settings(project, "daemon: {listen: 0.0.0.0:8780, token: a-token-nobody-guesses}\n")
    assert not found.only_here


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("listen: 8780", "9:11: should be text"),
        ("listen: everywhere:80", "9:11: should be an address of this machine and a port, such as 127.0.0.1:8780"),
        ("listen: 127.0.0.1:99999", "9:11: should be an address of this machine and a port"),
        ("listen: 999.0.0.1:80", "9:11: should be an address of this machine and a port"),
        ("token: short", "9:10: should have at least 16 characters"),
        ("trigger_secret: short", "9:19: should have at least 16 characters"),
        ("runs: 0", "9:9: should be greater than or equal to 1"),
        ("drain: soon", "9:10: should be a duration such as 10s or 1m"),
        ("workers: 4", "9:12: should be here or queue"),
        ("alerts: {ops: {type: slak, url: https://e.com}}", "9:24: should be slack or webhook or email"),
        ("alerts: {ops: {type: slack}}", "9:12: `url` is missing here"),
        ("alerts: {ops: {type: slack, url: http://e.com/x}}", "9:36: should start with https://"),
        ("alerts: {ops: {type: webhook, url: 'https://10.0.0.1/x'}}", "9:38: should be a public host"),
        ("alerts: {m: {type: email, host: h, sender: a@b, to: []}}", "9:51: should not be empty"),
    ],
)
def test_P46_what_is_wrong_in_the_daemons_section_has_its_place(
    project: ProjectFolder, written: str, said: str
) -> None:
    assert complaint(project, written).startswith(f"reverse_etl.yml:{said}")


def test_channels_are_told_by_their_type(project: ProjectFolder) -> None:
    found = settings(project, CHANNELS).alerts
    assert [type(channel) for channel in found.values()] == [SlackChannel, WebhookChannel, EmailChannel]
    assert "services" not in repr(found)


def test_a_run_needs_no_variable_of_the_daemon(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "daemon: {token: '${DAEMON_TOKEN}'}\n")
    project.sync()
    assert project.complaints() == []
    assert "DAEMON_TOKEN is not set" in project.complaints(daemon=True)[0]


# --- keys of a sync ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "timing"),
    [
        ("jitter: 30s", Timing(jitter=timedelta(seconds=30))),
        ("quiet_hours: 22:00-06:00", Timing(quiet_hours=(QuietWindow(frozenset(range(7)), 22 * 60, 6 * 60),))),
        ("quiet_hours: [sat-sun 00:00-24:00]", Timing(quiet_hours=(QuietWindow(frozenset({6, 0}), 0, 24 * 60),))),
        ("priority: high", Timing(priority="high")),
        ("schedule: {after: other}\nafter_failure: run", Timing(after_failure="run")),
        ("", Timing()),
    ],
)
def test_the_keys_of_time_mean_what_they_say(project: ProjectFolder, more: str, timing: Timing) -> None:
    project.sync(name="other")
    project.sync(more=more)
    assert project.load()[1]["people"].timing == timing


def test_the_project_may_give_every_sync_its_quiet_hours(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + "defaults: {quiet_hours: 22:00-06:00, jitter: 1m, after_failure: run}\n")
    project.sync()
    timing = project.only().timing
    assert (len(timing.quiet_hours), timing.jitter, timing.after_failure) == (1, timedelta(minutes=1), "run")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("jitter: a while", "9:9: should be a length of time such as 30s, 10m, 1h or 2 days"),
        ("quiet_hours: at night", "9:14: should be hours such as 22:00-06:00"),
        ("quiet_hours: 25:00-06:00", "9:14: `25:00` is no time of day"),
        ("quiet_hours: 06:00-06:00", "9:14: quiet hours should end at another time than they begin"),
        ("quiet_hours: someday 06:00-07:00", "9:14: `someday` is no weekday"),
        ("quiet_hours: [00:00-13:00, 12:00-24:00]", "9:1: these quiet hours leave no time for a run"),
        ("priority: urgent", "9:11: should be high, normal or low"),
        ("after_failure: run", "9:1: is only for a sync that runs after others"),
        ("alerts: {to: nobody}", "9:14: reverse_etl.yml has no channel `nobody` under daemon.alerts; it has none"),
        ("alerts: {events: [broken]}", "9:19: should be failed, partial, guarded, recovered, silent, stuck or quota"),
        ("alerts: {failures: 0}", "9:20: should be greater than or equal to 1"),
    ],
)
def test_P46_what_is_wrong_in_the_keys_of_time_has_its_place(project: ProjectFolder, more: str, said: str) -> None:
    project.sync(more=more)
    (found,) = project.complaints()
    assert found.startswith(f"syncs/people.yml:{said}")


def test_a_sync_names_the_channels_that_hear_of_it(project: ProjectFolder) -> None:
    project.write("reverse_etl.yml", PROJECT + CHANNELS)
    project.sync(more="alerts: {to: [ops, mail], events: [failed], failures: 3, silent_after: 2h, stuck_after: 2 days}")
    assert project.only().alerts == AlertRules(
        to=("ops", "mail"),
        events=("failed",),
        failures=3,
        silent_after=timedelta(hours=2),
        stuck_after=timedelta(days=2),
    )


def test_every_sync_is_watched_by_every_channel_by_default(project: ProjectFolder) -> None:
    project.sync()
    assert project.only().alerts == AlertRules(to=None, events=EVENTS)


# --- quiet hours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "zone", "moment", "awake"),
    [
        ("22:00-06:00", "UTC", "2026-06-01T21:59:59", "2026-06-01T21:59:59"),
        ("22:00-06:00", "UTC", "2026-06-01T22:00:00", "2026-06-02T06:00:00"),
        ("22:00-06:00", "UTC", "2026-06-02T05:59:59", "2026-06-02T06:00:00"),
        ("22:00-06:00", "UTC", "2026-06-02T06:00:00", "2026-06-02T06:00:00"),
        ("08:00-18:00", "America/New_York", "2026-06-01T12:00:00", "2026-06-01T22:00:00"),
        ("sat-sun 00:00-24:00", "UTC", "2026-06-06T00:00:00", "2026-06-08T00:00:00"),  # 6 June is a Saturday
        ("fri 20:00-08:00", "UTC", "2026-06-06T07:00:00", "2026-06-06T08:00:00"),  # belongs to the day it begins on
        ("fri 20:00-08:00", "UTC", "2026-06-07T07:00:00", "2026-06-07T07:00:00"),
        ("00:00-12:00,12:00-13:00", "UTC", "2026-06-01T03:00:00", "2026-06-01T13:00:00"),  # one after the other
        ("01:00-04:00", "Europe/Berlin", "2026-03-29T00:30:00", "2026-03-29T02:00:00"),  # an hour is left out
        ("01:00-04:00", "Europe/Berlin", "2026-10-25T00:30:00", "2026-10-25T03:00:00"),  # an hour comes twice
        ("02:30-06:00", "America/New_York", "2026-03-08T07:15:00", "2026-03-08T07:15:00"),
    ],
)
def test_a_moment_in_quiet_hours_moves_to_their_end(written: str, zone: str, moment: str, awake: str) -> None:
    windows: str | Sequence[str] = written.split(",") if "," in written else written
    timing = Timing(quiet_hours=parse_quiet_hours(windows))
    assert timing.awake(at(moment), zone) == at(awake)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
