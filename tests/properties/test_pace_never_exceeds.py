"""Whatever the network does, no window at the destination ever sees more calls than the allowance."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.pace import Pace
from tests.virtual_time import VirtualClock, run

SECONDS = st.floats(min_value=0.0, max_value=12.0, allow_nan=False)


@dataclass(frozen=True)
class Call:
    starts: float
    out: float
    back: float
    answered: bool


CALLS = st.lists(st.builds(Call, SECONDS, SECONDS, SECONDS, st.booleans()), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None)
@given(calls=CALLS, requests=st.integers(1, 12), in_flight=st.integers(1, 8), pauses=st.lists(SECONDS, max_size=3))
def test_P18_arrivals_in_any_window_never_exceed_the_allowance(
    calls: list[Call], requests: int, in_flight: int, pauses: list[float]
) -> None:
    arrivals: list[float] = []

    async def scenario() -> None:
        pace = Pace(requests=requests, per_seconds=10, clock=VirtualClock(), in_flight=in_flight)

        async def one(call: Call) -> None:
            await anyio.sleep(call.starts)
            async with pace.slot():
                await anyio.sleep(call.out)
                arrivals.append(pace.clock.monotonic())
                await anyio.sleep(call.back)
                if call.answered:
                    pace.learn(requests=requests, remaining=max(0, requests - len(arrivals)))

        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(one, call)
            for seconds in pauses:
                await anyio.sleep(seconds)
                pace.pause(seconds)

    run(scenario)
    assert len(arrivals) == len(calls)  # and each call got its turn
    arrivals.sort()
    for at, arrival in enumerate(arrivals):
        assert bisect_right(arrivals, arrival + 10) - at <= requests
