"""Several daemons on one PostgreSQL: one schedules, the others stand by. Processes of their own."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise

import httpx
import pytest
import sqlalchemy as sa

from tests.sandbox.scene import Scene
from tests.sandbox.test_daemon import KEY, Daemon, address, runs, started

# Long enough for a machine on which everything takes its time.
SHORT = "from reverse_etl.state import lease; lease.DAEMON = lease.Term(3.0, 0.5, lease.DAEMON.taken); "
ON_DUTY = "this daemon schedules from now on"
OFF_DUTY = "another daemon schedules by now, as this one was cut off or stood still; it stands by"


@pytest.fixture
def project(scene: Scene, postgres: str) -> Scene:
    """Parent and child, due all the time, on a state that other machines reach."""
    scene.write_project(daemon={"listen": "127.0.0.1:0"}, state={"url": postgres})
    scene.people(("ada@example.com", "Ada", 1))
    scene.define(schedule="every 2 seconds", first_run="baseline")
    scene.define(name="child", schedule={"after": "people"}, first_run="baseline")
    return scene


def machines(scene: Scene, number: int) -> list[Scene]:
    """The project as it lies on so many machines."""
    found = [scene]
    for name in range(1, number):
        folder = scene.folder.with_name(f"{scene.folder.name}-{name}")
        shutil.copytree(scene.folder, folder, ignore=shutil.ignore_patterns(".reverse_etl", "log-*"))
        found.append(replace(scene, folder=folder))
    return found


def begins(daemon: Daemon, sync: str = "people") -> list[str]:
    """The times for which this daemon had runs of a sync begin."""
    return [line["due"] for line in daemon.lines() if line["event"].startswith(f"{sync}: run begins")]


def ended(daemon: Daemon, sync: str = "people") -> int:
    return sum(line["event"].startswith(f"{sync}: succeeded") for line in daemon.lines())


def at_rest(daemon: Daemon, sync: str) -> bool:
    return ended(daemon, sync) == len(begins(daemon, sync)) > 0


def check_record(scene: Scene, daemons: list[Daemon]) -> None:
    """Every time was run once, and every end of the parent was followed by one run of the child."""
    times = [due for daemon in daemons for due in begins(daemon)]
    assert len(times) == len(set(times))
    parents, children = ([*reversed(runs(scene, name))] for name in ("people", "child"))
    finished = [run.finished_at for run in parents if run.finished_at is not None]
    for before, after in pairwise(children):
        assert any(before.started_at < moment <= after.started_at for moment in finished), "a child ran twice"
    assert len(parents) - len(children) <= len(parents) // 2, "children were left out"


def test_of_three_daemons_one_schedules_and_when_it_is_killed_another_does(project: Scene) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(started(project, first=SHORT))
        first.until(lambda: ended(first, "child") >= 1)
        others = [stack.enter_context(started(each, first=SHORT)) for each in machines(project, 3)[1:]]
        for other in others:
            other.until_said("another daemon schedules for this state", f"process {first.process.pid}", "stands by")
        assert [begins(other) for other in others] == [[], []]
        first.until(
            lambda: at_rest(first, "people") and at_rest(first, "child")
        )  # else a run's lease is waited for, too
        first.process.kill()
        first.ends()
        others[0].until(lambda: any(other.said(ON_DUTY) for other in others))
        second, third = sorted(others, key=lambda other: not other.said(ON_DUTY))
        second.until(lambda: ended(second) >= 3 and ended(second, "child") >= 2)
        assert begins(third) == []
        assert second.terminate() == 0, "the place is given up at once"
        third.until(lambda: ended(third, "child") >= 1)
        assert third.terminate() == 0
        check_record(project, [first, second, third])


def test_a_daemon_that_stood_still_gives_no_orders_any_more(project: Scene) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(started(each, first=SHORT)) for each in machines(project, 2))
        both = [first, second]
        first.until(lambda: any(ended(daemon) >= 1 for daemon in both))
        active, other = sorted(both, key=lambda daemon: not begins(daemon))
        os.kill(active.process.pid, signal.SIGSTOP)
        other.until(lambda: ended(other) >= 2)
        os.kill(active.process.pid, signal.SIGCONT)
        active.until_said(OFF_DUTY)
        before = len(begins(active))
        other.until(lambda: ended(other) >= 4)
        assert len(begins(active)) == before
        assert [active.terminate(), other.terminate()] == [0, 0]
        check_record(project, both)


def standing(url: str) -> int:
    """How many orders wait for workers."""
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("procrastinate_jobs"):
            return 0
        return int(connection.scalar(sa.text("SELECT count(*) FROM procrastinate_jobs")) or 0)


def test_orders_that_stand_are_waited_for_by_the_daemon_that_takes_over(project: Scene, postgres: str) -> None:
    settings = {"listen": "127.0.0.1:0", "workers": "queue", "runs": 2}
    project.write_project(daemon=settings, state={"url": postgres})
    project.define(schedule="every 1 hour", first_run="baseline")
    with ExitStack() as stack:
        first, second = (stack.enter_context(started(each, first=SHORT)) for each in machines(project, 2))
        first.until(lambda: standing(postgres) == 1)
        active, other = sorted([first, second], key=lambda daemon: not begins(daemon))
        active.process.kill()
        active.ends()
        other.until_said(ON_DUTY)
        assert begins(other) == begins(active), "the order stands for the same time"
        assert standing(postgres) == 1
        worker = stack.enter_context(started(project, command="worker"))
        other.until(lambda: ended(other) == 1 and ended(other, "child") == 1)
        assert [other.terminate(), worker.terminate()] == [0, 0]
    assert (len(runs(project)), len(runs(project, "child"))) == (1, 1)


def test_a_daemon_that_stands_by_says_so_and_takes_no_requests(project: Scene, postgres: str) -> None:
    project.write_project(daemon={"listen": "127.0.0.1:0", "trigger_secret": KEY}, state={"url": postgres})
    with ExitStack() as stack:
        first = stack.enter_context(started(project))
        first.until_said("the daemon has started")
        second = stack.enter_context(started(machines(project, 2)[1]))
        second.until_said("stands by")
        with httpx.Client(base_url=address(second)) as client:
            ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (200, "standing by")
            assert ready.json()["standing_by"].startswith("another daemon schedules for this state")
            assert [client.get(path).status_code for path in ("/healthz", "/leader")] == [200, 503]
            assert "reverse_etl_scheduling 0.0" in client.get("/metrics").text
            asked = client.post("/syncs/people/run")
            assert (asked.status_code, asked.json()["error"]["code"]) == (503, "standing_by")
            assert client.get("/status").json()["daemon"]["standing_by"].startswith("another daemon schedules")
        second.signal(signal.SIGTERM)
        first.signal(signal.SIGTERM)
        assert [second.ends(), first.ends()] == [0, 0]
        assert not second.said(ON_DUTY), "one that ends takes no seat"
        assert not held(postgres)


def held(url: str) -> bool:
    """Whether a daemon that starts now would have to wait."""
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        return bool(connection.scalar(sa.text("SELECT count(*) FROM leases WHERE expires_at > clock_timestamp()")))
