"""A sync against everything that can happen to it, in any order, and what must hold after every step.

The suite plays a story of 16 steps of each family, always the same; `make model` plays 30 of 40 steps, the Hypothesis
profile `nightly` 1,000.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.model.definition import LINKED, MAPPING, Definition, Entry
from tests.properties.model.machine import SyncMachine


class Upsert(SyncMachine):
    definitions: ClassVar = st.builds(
        Definition,
        composite=st.booleans(),
        on_duplicate=st.sampled_from(["owner", "owner", "none"]),
        max_changed=st.sampled_from([None, None, 0.5]),
    )


class Cursor(SyncMachine):
    definitions: ClassVar = st.builds(Definition, cursor=st.just(True), composite=st.booleans())


class Mirror(SyncMachine):
    definitions: ClassVar = st.one_of(
        st.builds(Definition, mode=st.just("mirror"), max_removed=st.sampled_from([None, None, 0.34])),
        st.builds(Definition, on_removed=st.just("gone"), composite=st.booleans()),
    )


class CreateOrUpdate(SyncMachine):
    definitions: ClassVar = st.builds(Definition, mode=st.sampled_from(["insert", "update"]))


class Append(SyncMachine):
    definitions: ClassVar = st.builds(Definition, mode=st.just("append"), composite=st.booleans())


class Changing(SyncMachine):
    """Its mode is another one now and then, and so is what becomes of rows that left."""

    definitions: ClassVar = st.builds(Definition, first_run=st.sampled_from(["send", "baseline"]), cursor=st.booleans())
    changes: ClassVar = (
        *(("mode", mode) for mode in ("upsert", "update", "insert", "mirror")),
        *(("on_removed", word) for word in ("gone", "ignore")),
    )


class Digested(SyncMachine):
    """What is kept of values are digests, always or now and then."""

    definitions: ClassVar = st.builds(
        Definition,
        values=st.just("hashes"),
        composite=st.booleans(),
        cursor=st.booleans(),
        mode=st.sampled_from(["upsert", "upsert", "mirror", "update"]),
        on_removed=st.sampled_from(["ignore", "gone"]),
    )
    changes: ClassVar = (("values", "keep"), ("values", "hashes"))


class Once(SyncMachine):
    """The destination's writes do harm when they are repeated."""

    repeatable: ClassVar = False
    definitions: ClassVar = st.builds(
        Definition, mode=st.sampled_from(["append", "append", "upsert", "mirror"]), cursor=st.booleans()
    )
    changes: ClassVar = (("in_doubt", "resend"), ("in_doubt", "hold"))


class Linking(SyncMachine):
    """Rows are about companies, to which their records are linked."""

    definitions: ClassVar = st.builds(
        Definition,
        mapping=st.just(LINKED),
        mode=st.sampled_from(["upsert", "upsert", "mirror", "update"]),
        cursor=st.booleans(),
        composite=st.booleans(),
        on_removed=st.sampled_from(["ignore", "gone"]),
        values=st.sampled_from(["keep", "keep", "hashes"]),
    )
    changes: ClassVar = (
        ("mapping", LINKED),
        ("mapping", MAPPING),
        ("mapping", {**LINKED, "company": Entry("company", nulls="ignore", links=True)}),
    )


FAMILIES = (Upsert, Cursor, Mirror, CreateOrUpdate, Append, Changing, Digested, Once, Linking)
FEW = (1, 16)  # stories of each family, and the steps of one
MANY = {"model": (30, 40), "nightly": (1000, 40)}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_happens_the_destination_ends_as_the_warehouse_says(family: type[SyncMachine]) -> None:
    stories, steps = MANY.get(settings.get_current_profile_name(), FEW)
    _play(family, stories, steps)


@pytest.mark.timeout(0)
def test_whatever_happens_with_a_state_in_postgresql(new_database: Callable[[], str]) -> None:
    class Shared(SyncMachine):
        definitions: ClassVar = st.builds(
            Definition, mode=st.sampled_from(["upsert", "mirror"]), cursor=st.booleans(), composite=st.booleans()
        )

        def new_state(self) -> str:
            return new_database()

    stories, steps = MANY.get(settings.get_current_profile_name(), FEW)
    _play(Shared, max(1, stories // 4), steps // 2)


def _play(family: type[SyncMachine], stories: int, steps: int) -> None:
    run_state_machine_as_test(
        family,
        settings=settings(
            max_examples=stories,
            stateful_step_count=steps,
            derandomize=settings.get_current_profile_name() not in MANY,
            database=None,
            deadline=None,
            phases=(Phase.generate,),  # a story takes seconds: shrinking one would take an hour
            suppress_health_check=list(HealthCheck),
        ),
    )
