"""Whatever HubSpot answers, in whatever order: a row's verdict is what the answer says of that row, or none."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.answer import Answer
from reverse_etl.destinations.hubspot.calls import Call
from reverse_etl.destinations.hubspot.verdicts import read
from reverse_etl.model import Operation

FATES = st.sampled_from(["created", "updated", "refused", "left out"])


@settings(max_examples=200, deadline=None)
@given(
    fates=st.lists(FATES, min_size=1, max_size=30),
    operation=st.sampled_from([Operation.UPSERT, Operation.UPDATE, Operation.CREATE]),
    by_id=st.booleans(),
    echoes=st.booleans(),
    strangers=st.integers(0, 3),
    together=st.booleans(),
    random=st.randoms(use_true_random=False),
)
def test_P21_each_row_gets_what_the_answer_says_of_it_and_nothing_else(
    *,
    fates: list[str],
    operation: Operation,
    by_id: bool,
    echoes: bool,
    strangers: int,
    together: bool,
    random: Any,
) -> None:
    positions = list(range(0, 2 * len(fates), 2))  # a call may carry only some rows of its batch
    by_id = by_id and operation is Operation.UPDATE
    keys = [str(1000 + at) if by_id else f"Person{at}@X.io" for at in positions]
    properties = [{"email": f"person{at}@x.io"} for at in positions]
    call = Call(operation, None if by_id else "email", positions, keys, properties)

    results: list[dict[str, Any]] = []
    refused: list[int] = []
    for at, fate in zip(positions, fates, strict=True):
        if fate == "refused":
            refused.append(at)
        elif fate != "left out":
            said = {"id": str(1000 + at), "properties": {"email": f"person{at}@x.io"}, "new": fate == "created"}
            results.append(said | ({"objectWriteTraceId": str(at)} if echoes else {}))
    results += [{"id": str(9000 + n), "properties": {"email": f"who{n}@x.io"}} for n in range(strangers)]
    random.shuffle(results)
    groups = [refused] if together and refused else [[at] for at in refused]
    errors = [
        {"category": "VALIDATION_ERROR", "message": "no", "context": {"objectWriteTraceId": [str(at) for at in group]}}
        for group in groups
    ]
    random.shuffle(errors)

    reading = read(call, Answer(207, {}, json.dumps({"results": results, "errors": errors}).encode()))

    told = {at: fate for at, fate in zip(positions, fates, strict=True) if fate in ("created", "updated")}
    assert {at: ("created" if result["new"] else "updated") for at, result in reading.results.items()} == told
    assert all(result["id"] == str(1000 + at) for at, result in reading.results.items())
    assert sorted(reading.faults) == refused
    assert reading.empty == (not results and not errors)
