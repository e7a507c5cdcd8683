"""Laws of layouts whose slots are in an order that is listed, against their definition."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.worlds import every_layout, general
from vm.layouts import NAMES, LayoutError, RegisterLayout, local, register_layout, spatial
from vm.layouts.relayout import RegisterPermutation, plan_relayout

law = settings(deadline=None, max_examples=40)


def listed(f: RegisterLayout, order: tuple[int, ...]) -> RegisterLayout:
    return RegisterLayout(f.shape, f.modes, f.spatial_modes, f.local_modes, order)


def definition(f: RegisterLayout, order: tuple[int, ...]) -> np.ndarray:
    """The table of f with an order: of each len(order) slots, slot i is what order[i] was."""
    n = len(order)
    at = [slot // n * n + order[slot % n] for slot in range(f.slots)]
    return f.table()[:, at]


@st.composite
def ordered(draw: st.DrawFn, rank: int = 2) -> RegisterLayout:
    f = draw(general(rank))
    length = draw(st.sampled_from([n for n in range(1, f.slots + 1) if f.slots % n == 0]))
    return listed(f, tuple(draw(st.permutations(range(length)))))


def test_every_order_of_small_layouts():
    """It is its definition, and two are equal as data where they are equal as functions."""
    # Tests rule Layout/general.
    found: dict[tuple, set[RegisterLayout]] = {}
    for size in (1, 2, 3, 4, 6):
        for f in every_layout(size, 2):
            for order in permutations(range(f.slots)):
                made = listed(f, order)
                wanted = definition(f, order)
                assert np.array_equal(made.table(), wanted), made
                found.setdefault((made.shape, wanted.shape, wanted.tobytes()), set()).add(made)
    assert len(found) > 500 and all(len(made) == 1 for made in found.values())


@law
@given(ordered())
def test_what_a_layout_knows_of_itself(f):
    table = f.table()
    for thread in range(f.threads):
        for slot in range(f.slots):
            index = f(thread, slot)
            assert index == tuple(table[thread, slot])
            assert (thread, slot) in f.inverse(index)
    owner = f.owner()
    assert (f.flat()[owner // f.slots, owner % f.slots] == np.arange(f.size)).all()
    assert eval(str(f), {"__builtins__": {}}, dict(NAMES)) == f


@law
@given(ordered(), ordered())
def test_the_product_is_the_definition(f, g):
    h = f * g
    thread, slot = np.indices((h.threads, h.slots))
    outer = f.table()[thread // g.threads, slot // g.slots]
    inner = g.table()[thread % g.threads, slot % g.slots]
    assert np.array_equal(h.table(), outer * g.shape + inner)


@law
@given(ordered(rank=3))
def test_axes_move_and_slots_do_not(f):
    assert np.array_equal(f.permute(2, 0, 1).table(), f.table()[..., [2, 0, 1]])
    assert np.array_equal(f.reshape(f.size).table()[..., 0], f.flat())


@law
@given(ordered())
def test_a_relayout_is_a_permutation_of_slots(f):
    plain = RegisterLayout(f.shape, f.modes, f.spatial_modes, f.local_modes)
    for source, target in ((plain, f), (f, plain)):
        plan = plan_relayout(source, target)
        moved = plan.apply(source.flat())
        assert np.array_equal(moved, target.flat())
        assert isinstance(plan, RegisterPermutation) == (source != target)


def test_digits_are_found_again():
    """An order that digits write is theirs."""
    assert listed(local(2, 3), (0, 3, 1, 4, 2, 5)) == register_layout(
        shape=[2, 3], modes=[2, 3], spatial=[], local=[1, 0]
    )
    assert listed(local(8), (0, 4, 1, 5, 2, 6, 3, 7)).slot_order == ()
    assert listed(local(8), (0, 1, 2, 3, 4, 5, 7, 6)).slot_order == (0, 1, 2, 3, 4, 5, 7, 6)
    assert listed(local(4, 2), (1, 0, 3, 2, 5, 4, 7, 6)).slot_order == (1, 0)


def test_what_is_refused():
    f = spatial(2, 1) * listed(local(1, 4), (0, 2, 3, 1))
    for wrong in ((0, 0, 1, 2), (1, 2, 3, 4), (0, 1, 2), (0, 1, 2, 3, 4, 5, 6, 7)):
        with pytest.raises(LayoutError):
            listed(local(1, 4), wrong)
    for refused in (
        lambda: f / local(1, 4), lambda: (f * f) / f, lambda: f.reduce(1),
        lambda: f.slice(1, 0, 2), lambda: local(1, 4) / listed(local(1, 4), (0, 2, 3, 1)),
    ):  # fmt: skip
        with pytest.raises(LayoutError, match="order"):
            refused()
