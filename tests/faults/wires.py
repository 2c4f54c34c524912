"""The wire itself: slow, cut after so many bytes, half closed, swallowed; on the way there and on the way back."""

from __future__ import annotations

from tests.faults.answers import prepared, settled, troubled
from tests.faults.families import family
from tests.faults.proxy import CLEAR, Ending, Proxy, Wire, proxied
from tests.faults.scripted import TRUE
from tests.faults.stage import Stage

ENDINGS: tuple[Ending, ...] = ("reset", "close", "half", "hole")


def _spoiling(stage: Stage, proxy: Proxy, *, share: float, held: float) -> None:
    """A share of the connections ends somewhere between the first byte and beyond a whole batch."""

    def choose(nth: int) -> tuple[Wire, Wire]:
        if nth % 2 and stage.random.random() > share:
            return CLEAR, CLEAR
        up = stage.random.random() < 0.5
        most = 60_000 if up else 40_000
        wire = Wire(
            delay=stage.random.choice((0.0, 0.0, 0.02)),
            after=stage.random.randrange(1, most),
            ending=stage.random.choice(ENDINGS),
            held=held,
        )
        return (wire, CLEAR) if up else (CLEAR, wire)

    proxy.choose = choose


@family("F21", "the wire cut, half closed, swallowed after N bytes, there and back")
def spoiled(stage: Stage) -> None:
    prepared(stage)
    with proxied(stage.fake.port) as proxy:
        stage.project(base_url=proxy.url)
        _spoiling(stage, proxy, share=0.6, held=1.0)
        troubled(stage, lambda _call: TRUE, runs=2)
        stage.count("connections_spoiled", proxy.spoiled)
    stage.project()
    settled(stage)


@family("F22", "a slow wire: delays of 200 ms, 100 kB a second")
def slow(stage: Stage) -> None:
    prepared(stage)
    with proxied(stage.fake.port) as proxy:
        stage.project(base_url=proxy.url)
        proxy.choose = lambda _nth: (Wire(delay=0.1, rate=100_000), Wire(delay=0.1, rate=100_000))
        troubled(stage, lambda _call: TRUE, codes=(0,))
    stage.project()
    settled(stage)


@family("F23", "a black hole: answers that never come", nightly=1, release=2, waits=230)
def black_hole(stage: Stage) -> None:
    """Every request has a deadline; a run ends, and says so."""
    prepared(stage, 300)
    with proxied(stage.fake.port) as proxy:
        stage.project(base_url=proxy.url)
        hole = Wire(after=6_000, ending="hole", held=400.0)
        proxy.choose = lambda nth: (CLEAR, hole) if nth <= 5 else (CLEAR, CLEAR)
        running = stage.start_sync()
        ended = stage.finish(running, 600.0)
        stage.most("longest_s", ended.seconds)
        if ended.code not in (0, 1, 3):
            stage.wrong("I10", f"in a black hole it ended with {ended.code}")
        stage.cycles += 1
    stage.project()
    settled(stage)
