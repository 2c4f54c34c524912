"""One daemon, several workers, PostgreSQL and the sandbox: processes of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
import sqlalchemy as sa
import yaml

from reverse_etl.config.timing import Priority
from reverse_etl.daemon.queue import NAME, TASK, Queue
from reverse_etl.daemon.workforce import Order
from reverse_etl.errors import StateError
from reverse_etl.state.scheduling import Seat, scheduling
from tests.sandbox.scene import Scene, scene_in
from tests.sandbox.test_daemon import runs, started

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def project(scene: Scene, postgres: str) -> Scene:
    scene.write_project(daemon={"listen": "127.0.0.1:0", "workers": "queue", "runs": 2}, state={"url": postgres})
    scene.people(("ada@example.com", "Ada", 1))
    return scene


def test_workers_run_what_the_daemon_schedules_and_everybody_ends_when_asked(project: Scene) -> None:
    project.define(schedule="every 1 second")
    with ExitStack() as stack:
        workers = [stack.enter_context(started(project, command="worker")) for _ in range(2)]
        daemon = stack.enter_context(started(project))
        daemon.until_said("people: succeeded")
        daemon.until(lambda: sum(line["event"].startswith("people: succeeded") for line in daemon.lines()) >= 3)
        assert daemon.terminate() == 0
        assert any(worker.said("people: run begins: every 1 second") for worker in workers)
        assert [worker.terminate() for worker in workers] == [0, 0]
    assert project.contacts("firstname") == {"ada@example.com": "Ada"}


def test_a_daemon_that_ends_leaves_its_orders_to_the_workers(project: Scene) -> None:
    project.define(schedule="every 1 hour")
    with started(project) as daemon:
        daemon.until_said("people: run begins")
        assert daemon.terminate() == 0
    with started(project, command="worker") as worker:
        worker.until_said("people: succeeded")
        assert worker.terminate() == 0
    assert project.contacts("firstname") == {"ada@example.com": "Ada"}


def test_a_run_that_is_not_done_in_time_is_cut_and_gone_on_with_by_another_worker(scene: Scene, postgres: str) -> None:
    scene.write_project(daemon={"listen": "127.0.0.1:0", "workers": "queue", "drain": "1s"}, state={"url": postgres})
    quick = (scene.folder / "reverse_etl.yml").read_text()
    settings = yaml.safe_load(quick)
    settings["destinations"]["hubspot"]["rate_limit"] = {"requests": 1, "per": "60s"}
    scene.write("reverse_etl.yml", yaml.safe_dump(settings))
    scene.people(("ada@example.com", "Ada", 1))
    scene.define(schedule="every 1 hour")
    with started(scene) as daemon:
        with started(scene, command="worker") as worker:
            worker.until_said("people: run begins")
            time.sleep(1)  # it waits for its second call's place
            assert worker.terminate() == 143
            assert worker.said("people: interrupted")
        scene.write("reverse_etl.yml", quick)
        with started(scene, command="worker") as other:
            other.until_said("people: succeeded")
            assert other.terminate() == 0
        daemon.until_said("people: succeeded")
        assert daemon.terminate() == 0


# Shorter than the real terms, and long enough for a machine that is busy; the clock is the database's own.
LEASE_SECONDS, SLACK_SECONDS = 5.0, 15.0
QUICK = (
    "from reverse_etl.state import lease; from reverse_etl.daemon import worker; "
    f"lease.RUN = lease.Term({LEASE_SECONDS}, 1.0, lease.RUN.taken); "
    "worker.HEARTBEAT, worker.DEAD_AFTER, worker.LOOK_FOR_DEAD, worker.TRY_AGAIN = 0.5, 5.0, 0.5, 0.25; "
)


def test_P37_a_dead_worker_s_run_is_taken_over_as_soon_as_its_lease_has_ended(project: Scene) -> None:
    project.define(schedule="every 1 hour")
    project.sandbox.faults.add("slow", seconds=30.0, path="batch")
    with ExitStack() as stack:
        daemon = stack.enter_context(started(project))
        first = stack.enter_context(started(project, command="worker", first=QUICK))
        first.until(lambda: any("batch" in entry.path for entry in project.sandbox.requests))
        other = stack.enter_context(started(project, command="worker", first=QUICK))
        other.until_said("the worker has started")
        project.sandbox.faults.clear()
        first.process.kill()
        killed = datetime.now(UTC)
        other.until_said("people: succeeded")
        daemon.until_said("people: succeeded")
        assert [other.terminate(), daemon.terminate()] == [0, 0]
    second, dead = runs(project)
    assert (dead.finished_at, second.status) == (None, "succeeded")
    assert second.started_at - killed <= timedelta(seconds=LEASE_SECONDS + SLACK_SECONDS)
    assert project.contacts("firstname") == {"ada@example.com": "Ada"}


def test_a_worker_tells_its_health_and_figures_where_it_is_asked_to(project: Scene) -> None:
    project.define(schedule="every 1 hour", first_run="baseline")
    with started(project) as daemon, started(project, "--listen", "127.0.0.1:0", command="worker") as worker:
        worker.until_said("people: succeeded")
        address = next(str(line["url"]) for line in worker.lines() if "url" in line)
        with httpx.Client(base_url=address) as client:
            assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/status")] == [200, 200, 404]
            figures = client.get("/metrics").text
        assert 'reverse_etl_runs_total{status="succeeded",sync="people"} 1.0' in figures
        assert "reverse_etl_start_lag_seconds_count 1.0" in figures
        assert [worker.terminate(), daemon.terminate()] == [0, 0]


@pytest.mark.parametrize("listen", ["0.0.0.0:8781", "8781", "example.com:80"])
def test_S01_a_worker_answers_beyond_its_machine_only_with_a_token(project: Scene, listen: str) -> None:
    project.define()
    refused = project.cli("worker", "--listen", listen)
    assert refused.returncode == 2
    assert listen in refused.stderr


def test_workers_need_a_state_that_others_reach(scene: Scene) -> None:
    scene.write_project()
    scene.define()
    with started(scene, command="worker") as worker:
        assert worker.ends() == 2
        assert "workers need the state in PostgreSQL" in worker.errors()


# --- the queue --------------------------------------------------------------------------------------------------------


@pytest.fixture
def right(postgres: str) -> Iterator[Seat]:
    """The right to schedule."""
    with scheduling(postgres, "a test") as seat:
        assert seat is not None
        yield seat


def order(sync: str, priority: Priority = "normal") -> Order:
    return Order(sync, "asked for", NOON, priority)


def test_an_order_waits_once_a_sync(postgres: str, right: Seat) -> None:
    async def scenario() -> None:
        async with Queue(postgres).open() as queue, Queue(postgres).open() as other:
            first = await queue.put(order("people"), right)
            assert await other.put(order("people"), right) == first
            assert await other.put(order("companies"), right) != first

    anyio.run(scenario)


def test_an_order_that_was_just_given_is_not_taken_for_one_that_has_ended(postgres: str, right: Seat) -> None:
    async def scenario() -> None:
        async with Queue(postgres).open() as queue:
            assert await queue.has_ended(1, time.monotonic())  # a look at a queue that is empty yet
            number = await queue.put(order("people"), right)
            assert not await queue.has_ended(number, time.monotonic())

    anyio.run(scenario)


def test_urgent_orders_are_taken_first_and_a_sync_is_run_by_one_worker_at_a_time(postgres: str, right: Seat) -> None:
    async def scenario() -> None:
        async with Queue(postgres).open() as queue:
            for name, priority in (("slow", "low"), ("usual", "normal"), ("drip", "high")):
                await queue.put(order(name, priority), right)  # type: ignore[arg-type]
            jobs = queue.app.job_manager
            worker = await jobs.register_worker()
            taken = [await jobs.fetch_job(queues=[NAME], worker_id=worker) for _ in range(2)]
            assert [job.lock for job in taken if job is not None] == ["drip", "usual"]
            await queue.put(order("drip", "high"), right)  # waits until the first one has ended
            following = await jobs.fetch_job(queues=[NAME], worker_id=worker)
            assert following is not None
            assert following.lock == "slow"
            assert await jobs.fetch_job(queues=[NAME], worker_id=worker) is None

    anyio.run(scenario)


@pytest.mark.parametrize("younger", [False, True])
def test_P37_a_dead_worker_s_run_is_put_back_once(postgres: str, right: Seat, younger: bool) -> None:
    async def scenario() -> None:
        async with Queue(postgres).open() as queue:
            number = await queue.put(order("people"), right)
            jobs = queue.app.job_manager
            dead = await jobs.register_worker()
            await jobs.fetch_job(queues=[NAME], worker_id=dead)
            if younger:
                number = await queue.put(order("people"), right)
            assert list(await queue.stalled(30)) == []
            _execute(postgres, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 minute'")
            (stalled,) = await queue.stalled(30)
            assert await queue.put_back(stalled)
            assert list(await queue.stalled(30)) == []
            alive = await jobs.register_worker()
            taken = await jobs.fetch_job(queues=[NAME], worker_id=alive)
            assert taken is not None
            assert (taken.id, taken.task_name) == (number, TASK)
            assert await jobs.fetch_job(queues=[NAME], worker_id=alive) is None

    anyio.run(scenario)


def test_a_database_that_is_not_there_is_told_in_a_sentence() -> None:
    async def scenario() -> None:
        with pytest.raises(StateError, match="the queue in the state's database can't be used"):
            async with Queue("postgresql+psycopg://nobody@127.0.0.1:1/none").open():
                raise AssertionError("it is open")

    anyio.run(scenario)


def _execute(url: str, sql: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(sql))


# A day's course in seconds, not in a quarter of an hour.
HASTY = (
    "from datetime import timedelta; from reverse_etl import quota; from reverse_etl.daemon import service, worker; "
    "quota.SHORTEST_COURSE = quota.STEP = timedelta(); worker.TELL_DAYS = service.ROWS_SECONDS = 0.2; "
)


def test_a_day_that_will_not_last_is_told_by_the_daemon_though_only_workers_know_it(
    tmp_path: Path, postgres: str
) -> None:
    with scene_in(tmp_path, hubspot_daily=100) as scene:
        scene.write_project(daemon={"listen": "127.0.0.1:0", "workers": "queue"}, state={"url": postgres})
        scene.people(*((f"{number}@example.com", "Ada", number) for number in range(300)))
        scene.define(schedule="every 1 hour")
        with started(scene, first=HASTY) as daemon, started(scene, command="worker", first=HASTY) as worker:
            daemon.until_said("alert: HubSpot (connection 'hubspot'): ", "of the day's 100 calls are left")
            assert [worker.terminate(), daemon.terminate()] == [0, 0]
        assert sum("alert: HubSpot" in line["event"] for line in daemon.lines()) == 1
