"""The campaign tests itself: known bugs are planted in a copy of the product, and each must turn a family red."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import reverse_etl
from tests.faults.campaign import play
from tests.faults.families import FAMILIES

INSTALLED = Path(reverse_etl.__file__).parents[1]
SEEDS = ("plant.0", "plant.1", "plant.2")


@dataclass(frozen=True)
class Plant:
    """A bug: `line` of a module becomes `bug`. One of `families` must find it within a few seeds."""

    name: str
    module: str
    line: str
    bug: str
    families: tuple[str, ...]


PLANTS = (
    Plant(
        "the cursor moves before the answer",
        "run.py",
        "            await self._deliver(made, refused, asked)\n",
        "            if reached is not None:\n"
        "                moved = {'cursor_value': reached.text, 'cursor_type': reached.type_text}\n"
        "                self.ledger.finish(self.report, moved, state.cursor_value if state else None)\n"
        "            await self._deliver(made, refused, asked)\n",
        ("F53", "F55"),
    ),
    Plant(
        "the batch's status is taken for every row's",
        "deliver.py",
        "        outcomes.take_over(places, answered)\n        doubtful",
        "        for at in range(len(batch)):\n"
        "            if answered.verdicts[at] is Verdict.NO_ANSWER:\n"
        "                answered.updated(at, None)\n"
        "        outcomes.take_over(places, answered)\n        doubtful",
        ("F14", "F13"),
    ),
    Plant(
        "the cursor is compared with a strict sign",
        "read.py",
        "{column} >= :cursor or",
        "{column} > :cursor or",
        ("F55",),
    ),
    Plant(
        "the next batch is sent before the last is recorded",
        "record.py",
        "        await answered.stored.wait()\n",
        "        await anyio.sleep(0)\n",
        ("F56",),
    ),
    Plant(
        "rows are recorded before they are sent",
        "deliver.py",
        "            answered = await self.destination.write(batch)\n",
        "            answered = Outcomes(len(batch))\n"
        "            for at in range(len(batch)):\n"
        "                answered.updated(at, None)\n"
        "            import asyncio\n"
        "            asyncio.get_running_loop().create_task(self.destination.write(batch))\n",
        ("F02", "F10"),
    ),
    Plant(
        "a told pause is not kept",
        "pace.py",
        "            self._not_before = max(self._not_before, self.clock.monotonic() + seconds)\n",
        "            self._not_before = self._not_before\n",
        ("F11",),
    ),
    Plant(
        "a fold doesn't wait for the disk",
        "state/engine.py",
        "            home.harden(log)\n",
        "            return\n",
        ("F07",),
    ),
    Plant(
        "a lease goes by the worker's clock",
        "state/lease.py",
        '"WHERE leases.expires_at < clock_timestamp() RETURNING token"',
        'f"WHERE leases.expires_at < to_timestamp({time.time()}) RETURNING token"',
        ("F48",),
    ),
    Plant(
        "calls are repeated without end",
        "retries.py",
        "        if self.again + 1 > FREE_OF_A_RUN + SHARE_OF_A_RUN * self.first or "
        "(batch is not None and batch.left == 0):\n            return False\n",
        "",
        ("F24",),
    ),
    Plant(
        "what a killed run had under way is forgotten",
        "state/ledger.py",
        "        self._take_up(report)\n",
        "        self.under_way.forget()\n",
        ("F09",),
    ),
    Plant(
        "what goes out isn't written down before",
        "deliver.py",
        "            await self.flights[bool(parcel.batch.path)].begin(parcel.batch.keys)\n",
        "            pass\n",
        ("F09",),
    ),
    Plant(
        "another machine doesn't find what was under way",
        "state/slots.py",
        "            for key in decoded(bytes(body)):\n                yield Left(key, since, in_job=slot >= JOBS)\n",
        "            yield from ()\n",
        ("F59",),
    ),
    Plant(
        "an approval covers whatever comes",
        "guard.py",
        "    return more == 0\n",
        "    return True\n",
        ("F60",),
    ),
    Plant(
        "no room is kept for what is sent",
        "run.py",
        "            self.ledger.under_way.make_room(slots * max(map(room, some)))\n",
        "",
        ("F36",),
    ),
    Plant(
        "damaged state is taken for none",
        "state/look.py",
        "        self._verify(store, state, connection)\n        return Found",
        "        return Found",
        ("F33", "F34"),
    ),
    Plant(
        "a bulk job is not remembered before its data goes up",
        "destinations/salesforce/bulk.py",
        "            work = known.add(await self._asked(batch, table), carried)\n",
        "            work = await self._asked(batch, table)\n            known.put = lambda told: told\n",
        ("S10", "S16"),
    ),
    Plant(
        "what a bulk job left unprocessed is taken for saved",
        "destinations/salesforce/results.py",
        "        left = [places[at] for at in pc.indices_nonzero(unprocessed.is_valid()).to_pylist()]\n",
        "        left = []\n"
        "        for at in pc.indices_nonzero(unprocessed.is_valid()).to_pylist():\n"
        "            outcomes.updated(places[at], None)\n",
        ("S12",),
    ),
    Plant(
        "rows that no result file names are taken for saved",
        "destinations/salesforce/bulk.py",
        "        if settled.stops:\n",
        "        for at in places:\n"
        "            if _is_open(outcomes, at) and at not in settled.unprocessed:\n"
        "                outcomes.updated(at, None)\n"
        "        if settled.stops:\n",
        ("S14",),
    ),
    Plant(
        "an upload without an answer is trusted",
        "destinations/salesforce/jobs.py",
        "        except InDoubt:\n            return False\n        return True",
        "        except InDoubt:\n            return True\n        return True",
        ("S11",),
    ),
)


@contextmanager
def planted(plant: Plant, original: Path) -> Iterator[Path]:
    """A folder with a copy of the product that has the bug. Raises ValueError when its line is no longer there."""
    with tempfile.TemporaryDirectory(prefix="faults-plant-") as folder:
        copy = Path(folder) / "reverse_etl"
        shutil.copytree(original / "reverse_etl", copy, ignore=shutil.ignore_patterns("__pycache__"))
        module = copy / plant.module
        text = module.read_text()
        if text.count(plant.line) != 1:
            raise ValueError(f"{plant.name}: its line is not in {plant.module} any more, plant it anew")
        module.write_text(text.replace(plant.line, plant.bug))
        yield Path(folder)


def found(original: Path = INSTALLED) -> Iterator[tuple[str, str]]:
    """Every plant, and what found it; nothing found it where the second text is empty."""
    for plant in PLANTS:
        with planted(plant, original) as package:
            yield plant.name, _found(plant, package, original)


def _found(plant: Plant, package: Path, original: Path) -> str:
    """The first red play that is green without the bug."""
    for id in plant.families:
        for seed in SEEDS:
            violations = play(FAMILIES[id], seed, package).violations
            if violations and not play(FAMILIES[id], seed, original).violations:
                return f"{id} seed {seed}: {violations[0].invariant} {violations[0].text[:100]}"
    return ""
