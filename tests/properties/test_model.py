"""A sync against everything that can happen to it, in any order, and what must hold after every step.

The suite plays ten stories of 20 steps, always the same; `make model` plays 150 of 40 steps, the Hypothesis profile
`nightly` 5,000.
"""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.model.definition import Definition
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


FAMILIES = (Upsert, Cursor, Mirror, CreateOrUpdate, Append)
FEW = (2, 20)  # stories of each family, and the steps of one
MANY = {"model": (30, 40), "nightly": (1000, 40)}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_happens_the_destination_ends_as_the_warehouse_says(family: type[SyncMachine]) -> None:
    profile = settings.get_current_profile_name()
    stories, steps = MANY.get(profile, FEW)
    run_state_machine_as_test(
        family,
        settings=settings(
            max_examples=stories,
            stateful_step_count=steps,
            derandomize=profile not in MANY,
            database=None,
            deadline=None,
            phases=(Phase.generate,),  # a story takes seconds: shrinking one would take an hour
            suppress_health_check=list(HealthCheck),
        ),
    )
