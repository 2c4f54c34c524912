"""The checker sees what it is there to see: a quiet campaign must not be a blind one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.faults import checker, plants
from tests.faults.door import SECRET
from tests.faults.scripted import Entry
from tests.faults.stage import Ended, Stage, stage


@pytest.fixture
def scene() -> Iterator[Stage]:
    """Five rows, all of them delivered."""
    with stage("checker") as here:
        here.ground.add(5)
        for nth, row in enumerate(here.ground.rows.values()):
            here.fake.records[str(nth)] = dict(row.wanted)
            here.fake.by_key[row.email] = str(nth)
            here.fake.ledger.append(Entry(0.0, 1, "upsert", row.email, dict(row.wanted), True))
        yield here


def told(stage: Stage) -> set[str]:
    return {violation.invariant for violation in stage.violations}


def report(stage: Stage, *, code: int = 0, **changes: object) -> Ended:
    rows = {"read": 5, "added": 5, "changed": 0, "removed": 0, "unchanged": 0, "invalid": 0, "retried": 0}
    delivered = {"created": 5, "updated": 0, "removed": 0, "skipped": 0, "kept_fields": 0}
    run = {"status": "succeeded", "rows": rows, "delivered": delivered, "rejected": 0, "in_doubt": 0, "pending": 0}
    return Ended(("sync",), code, json.dumps({"runs": [run | changes]}), "", 1.0, 0)


def test_what_is_well_is_left_alone(scene: Stage) -> None:
    checker.converged(scene, removes=True)
    checker.no_deletions(scene)
    checker.unclaimed(scene, [], scene.ground.rows)
    checker.polite(scene)
    checker.silent(scene)
    checker.balanced(scene, report(scene))
    checker.honest(scene, report(scene))
    assert scene.violations == []


def test_a_lost_an_old_and_an_invented_record_are_found(scene: Stage) -> None:
    lost, old, *_ = scene.ground.rows
    del scene.fake.by_key[lost]
    scene.ground.rows[old] = replace(scene.ground.rows[old], seats=-1)
    scene.fake.by_key["stranger@example.com"] = "0"
    checker.converged(scene)
    assert told(scene) == {"I1", "I4", "I5"}


def test_a_row_taken_for_delivered_is_found(scene: Stage) -> None:
    (key, *_) = scene.ground.rows
    scene.fake.records[scene.fake.by_key[key]]["seats"] = "-1"
    checker.unclaimed(scene, [], scene.ground.rows)
    assert told(scene) == {"I2"}


def test_more_repeats_than_were_in_flight_are_found(scene: Stage) -> None:
    assert checker.repeats(scene, scene.fake.ledger, scene.fake.ledger, bound=4) == 5
    assert told(scene) == {"I3"}


def test_a_deletion_without_cause_is_found(scene: Stage) -> None:
    (key, *_) = scene.ground.rows
    scene.fake.ledger.append(Entry(0.0, 2, "archive", key, {}, True))
    checker.no_deletions(scene)
    assert told(scene) == {"I5"}


def test_figures_that_do_not_add_up_and_a_wrong_exit_code_are_found(scene: Stage) -> None:
    checker.balanced(scene, report(scene, delivered={"created": 4, "updated": 0, "removed": 0, "skipped": 0}))
    checker.balanced(scene, report(scene, code=1))
    assert told(scene) == {"I6", "I10"}


def test_a_report_of_more_than_arrived_is_found(scene: Stage) -> None:
    scene.fake.ledger.pop()
    checker.honest(scene, report(scene))
    assert told(scene) == {"I10"}


def test_the_secret_is_found_in_a_file(scene: Stage) -> None:
    (scene.folder / "log.txt").write_text(f"token={SECRET}")
    checker.silent(scene)
    assert told(scene) == {"I8"}


@pytest.mark.parametrize("plant", plants.PLANTS, ids=lambda plant: plant.name)
def test_every_planted_bug_still_has_its_line(plant: plants.Plant) -> None:
    assert (plants.INSTALLED / "reverse_etl" / plant.module).read_text().count(plant.line) == 1
