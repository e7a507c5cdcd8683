"""The arithmetic of rotating, interleaving and summing up; nothing here needs a GPU."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.timing import (
    LEAST_CALLS,
    REPLAY_US,
    ROTATE_BYTES,
    calls_per_graph,
    rotation,
    summarize,
    visiting_order,
)


@given(size=st.integers(1_000_000, 2_000_000_000))
def test_copies_together_exceed_what_must_be_rotated(size):
    copies = rotation(size)
    assert copies >= 2
    assert copies * size >= ROTATE_BYTES
    assert copies == 2 or (copies - 1) * size < ROTATE_BYTES


@given(copies=st.integers(2, 300), call_us=st.floats(1.0, 10_000.0))
def test_a_graph_is_whole_rotations_and_long_enough(copies, call_us):
    calls = calls_per_graph(copies, call_us)
    assert calls % copies == 0
    assert calls >= LEAST_CALLS
    assert calls * call_us >= REPLAY_US * (1 - 1e-12)


@given(count=st.integers(1, 8), start=st.integers(0, 20))
def test_every_round_visits_each_once_and_everyone_starts_and_ends(count, start):
    orders = [visiting_order(count, start + index) for index in range(2 * count)]
    everyone = list(range(count))
    assert all(sorted(order) == everyone for order in orders)
    assert sorted({order[0] for order in orders}) == everyone
    assert sorted({order[-1] for order in orders}) == everyone


@settings(deadline=None)
@given(samples=st.lists(st.floats(0.5, 1e4), min_size=2, max_size=40))
def test_summary_is_what_numpy_says(samples):
    summary = summarize(samples)
    assert summary.median == pytest.approx(np.median(samples))
    assert (summary.low, summary.high) == pytest.approx(tuple(np.percentile(samples, (10, 90))))
    middle = len(samples) // 2
    assert summary.first_half == pytest.approx(np.median(samples[:middle]))
    assert summary.second_half == pytest.approx(np.median(samples[middle:]))


def test_one_sample_has_no_spread():
    with pytest.raises(ValueError, match="two samples"):
        summarize([1.0])
