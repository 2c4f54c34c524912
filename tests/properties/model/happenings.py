"""What may happen to a sync: changes in the warehouse, troubles, whims of people; drawn by Hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import strategies as st

from tests.properties.model.definition import DOMAINS
from tests.properties.model.reckoning import Wish

IDS = st.integers(1, 5)
REGIONS = st.sampled_from(["a", "b"])
WAITS = st.sampled_from([timedelta(seconds=1), timedelta(seconds=20), timedelta(minutes=2), timedelta(hours=6)])
WISHES = st.sampled_from([*[Wish()] * 5, Wish(full=True), Wish(limit=1), Wish(limit=2), Wish(retry=True)])
WHIMS = st.sampled_from(
    [
        *("delete a record", "make a record", "edit a record", "rename a record", "make a company"),
        *("reset", "forget", "back up", "restore", "set the clock back", "land", "obey"),
    ]
)


@dataclass(frozen=True)
class Edit:
    """Something that happens to a row. `when`: its cursor value in minutes beside the newest one; None: it has none."""

    what: str
    id: int
    region: str
    email: str
    plan: str | None
    seats: float | None
    when: int | None
    company: str | None = None


@dataclass(frozen=True)
class Trouble:
    """Something that will go wrong. `call` and `moment`: at which call; `applied`: carried out, or stored, before."""

    what: str
    call: int
    applied: bool
    id: int
    plan: str
    moment: int


EDITS = st.builds(
    Edit,
    what=st.sampled_from([*["put"] * 7, "drop", "drop", "double", "nameless"]),
    id=IDS,
    region=REGIONS,
    email=st.sampled_from([*["own"] * 5, "upper", "next", "none", "blank"]),
    plan=st.sampled_from(["free", "pro", "gold", None, "far too long"]),
    seats=st.sampled_from([None, 1.0, 2.0, 3.0, float("nan")]),
    when=st.sampled_from([-9, 0, 0, 15, None]),
    company=st.sampled_from([None, *DOMAINS]),
)
TROUBLES = st.builds(
    Trouble,
    what=st.sampled_from(
        ["refuse", "refuse batches", "leave out", "lose", "come late", "be unavailable", "revoke", "go down"]
        + ["lose links", "refuse links"]
        + ["die sending", "die storing"] * 2
    ),
    call=st.integers(1, 3),
    applied=st.booleans(),
    id=IDS,
    plan=st.sampled_from(["gold", "pro"]),
    moment=st.integers(1, 12),
)
