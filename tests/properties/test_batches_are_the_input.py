"""However rows arrive and however large a batch may be: batches put together again are the input, row by row."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.plan import _chunks


@given(
    arriving=st.lists(st.integers(0, 40), max_size=12),
    size=st.integers(1, 50),
)
def test_batches_concatenated_equal_the_input(arriving: list[int], size: int) -> None:
    stream, place = [], 0
    for rows in arriving:
        stream.append(pa.record_batch({"n": pa.array(range(place, place + rows), pa.int64())}))
        place += rows
    batches = [batch.column("n").to_pylist() for batch in _chunks(iter(stream), size)]
    assert [number for batch in batches for number in batch] == list(range(place))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(0 < len(batch) <= size for batch in batches[-1:])
