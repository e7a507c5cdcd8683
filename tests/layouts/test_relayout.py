"""Relayout plans are right for any pair of layouts, and cheap where they can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.worlds import every_layout, general
from vm.layouts import (
    FRAGMENTS,
    LayoutError,
    RegisterLayout,
    column_local,
    column_spatial,
    difference,
    dot_layout,
    local,
    own_slots,
    plan_relayout,
    spatial,
)
from vm.layouts.relayout import Nothing, RegisterPermutation, ThroughShared, WarpShuffles

law = settings(deadline=None, max_examples=80)


def check(source: RegisterLayout, target: RegisterLayout, warp_width: int = 32, bits: int = 32):
    """The plan brings every element to every place that the target names."""
    plan = plan_relayout(source, target, warp_width, bits)
    tile = np.arange(source.size) * 3 + 1
    moved = plan.apply(tile[source.flat()])
    assert np.array_equal(moved, tile[target.flat()]), (source, target, plan)
    return plan


@law
@given(general(), st.randoms(use_true_random=False))
def test_any_other_layout_of_the_tile(source, random):
    """The target: the same digits dealt out anew, so any tile, any sizes, with replication."""
    digits = [*source.spatial_modes, *source.local_modes]
    order = list(range(len(source.modes)))
    random.shuffle(order)
    copies = [m for m in digits if m < 0]
    for split in range(len(order) + 1):
        threads = [*copies, *order[:split]]
        random.shuffle(threads)
        target = RegisterLayout(source.shape, source.modes, tuple(threads), tuple(order[split:]))
        if target.threads == source.threads:
            for warp_width in (2, 4, 32):
                if source.threads <= warp_width or source.threads % warp_width == 0:
                    check(source, target, warp_width)


@pytest.mark.parametrize("size", [8, 12, 16])
def test_every_pair_of_small_layouts(size):
    """All pairs of one shape and number of threads, in warps of 4 lanes."""
    groups: dict[tuple, list[RegisterLayout]] = {}
    for layout in every_layout(size, 1, (2,)):
        groups.setdefault((layout.shape, layout.threads), []).append(layout)
    kinds = set()
    for group in groups.values():
        for source in group:
            for target in group:
                if source.threads <= 4 or source.threads % 4 == 0:
                    kinds.add(type(check(source, target, 4)))
    assert kinds == {Nothing, RegisterPermutation, WarpShuffles, ThroughShared}


def test_equal_layouts_need_nothing():
    f = dot_layout(64, 64, 64, 16, 4).c
    assert check(f, f) == Nothing()


def test_same_thread_other_slots_is_a_register_permutation():
    plan = check(spatial(32, 1) * local(2, 2), spatial(32, 1) * column_local(2, 2))
    assert plan == RegisterPermutation((0, 2, 1, 3))


def test_within_a_warp_is_shuffles():
    plan = check(spatial(8, 4).local(1, 2), column_spatial(8, 4).local(1, 2))
    assert isinstance(plan, WarpShuffles) and plan.vector == 2 and len(plan.rounds) == 1


def test_a_transposed_bit_costs_half_the_slots():
    """One lane bit against one slot bit: of N slots N/2 stay, the others cross in N/2 rounds."""
    plan = check(local(2).spatial(32), spatial(2).local(2).spatial(16))
    assert isinstance(plan, WarpShuffles) and len(plan.rounds) == 1


def test_a_choice_among_own_copies_moves_nothing():
    plan = check(local(32).replicated(32), spatial(32))
    assert isinstance(plan, WarpShuffles) and plan.rounds == () and plan.cost == 0


def test_accumulators_to_operands():
    """C of one product as A of the next (attention): the fragments agree, so no data moves."""
    first = dot_layout(16, 64, 64, 16, 1)
    second = dot_layout(16, 64, 64, 16, 1)
    plan = check(first.c, second.a)
    assert isinstance(plan, RegisterPermutation | Nothing)


def test_across_warps_goes_through_shared():
    plan = check(spatial(128).local(8), local(8).spatial(128))
    assert isinstance(plan, ThroughShared) and plan.memory.is_injective()


def test_copies_do_not_write():
    plan = check(spatial(64).replicated(4).local(4), local(4).replicated(4).spatial(64))
    assert isinstance(plan, ThroughShared)
    assert plan.writers.tolist() == [thread % 4 == 0 for thread in range(256)]


@pytest.mark.parametrize("bits", [4, 8, 16, 32, 64])
def test_any_width_of_elements(bits):
    costs = check(local(4).spatial(32), spatial(32).local(4), 32, bits).cost
    assert costs > 0
    check(spatial(96).local(3), local(3).spatial(96), 32, bits)


def test_wider_elements_cost_more():
    costs = [check(spatial(32).local(2), local(2).spatial(32), 32, bits).cost for bits in (32, 64)]
    assert costs[0] < costs[1]


def test_wave_of_64():
    row = FRAGMENTS["mfma_16x16x16"]
    plan = check(row.c, row.a, 64)
    assert isinstance(plan, WarpShuffles) and plan.warp_width == 64


@law
@given(general(rank=1), st.integers(1, 4))
def test_own_slots_of_a_broadcast_operand(f, extent):
    """A row vector next to a tile: where the tile's thread holds the element, that slot has
    it."""
    tile = local(extent, 1) * f.unsqueeze(0)
    slots = own_slots(f, tile)
    row = np.arange(f.size) + 5
    registers = row[f.flat()]
    wanted = np.broadcast_to(row, tile.shape).reshape(-1)[tile.flat()]
    assert (slots >= 0).all()
    assert np.array_equal(np.take_along_axis(registers, slots, 1), wanted)


def test_own_slots_says_where_data_is_missing():
    slots = own_slots(spatial(4).local(2), spatial(2).local(2).spatial(2))
    for thread in range(4):
        held = [(2 * thread + j) for j in range(2)]
        for j in range(2):
            element = thread // 2 * 4 + j * 2 + thread % 2
            assert slots[thread, j] == (held.index(element) if element in held else -1)
    with pytest.raises(LayoutError, match="32 threads"):
        own_slots(spatial(32), spatial(16))


def test_plans_are_deterministic():
    a, b = local(3).spatial(32), spatial(32).local(3)
    first, second = plan_relayout(a, b), plan_relayout(a, b)
    assert first.cost == second.cost
    assert np.array_equal(first.keep, second.keep)
    assert [r.lane.tolist() for r in first.rounds] == [r.lane.tolist() for r in second.rounds]


def test_difference_names_the_first_element():
    assert difference(local(2), local(2)) is None
    text = difference(local(2, 2), column_local(2, 2))
    assert "thread 0, slot 1" in text and "[0, 1]" in text and "[1, 0]" in text
    assert "slots per thread" in difference(local(2).replicated(4), spatial(2).replicated(2))
    assert "shape" in difference(local(2), local(4))
    assert "threads" in difference(local(2), local(2).replicated(2))


def test_refusals_name_both():
    with pytest.raises(LayoutError) as caught:
        plan_relayout(spatial(32), spatial(16).local(2))
    for part in ("spatial(32)", "spatial(16).local(2)", "32 threads", "16 threads"):
        assert part in str(caught.value)
    with pytest.raises(LayoutError):
        plan_relayout(spatial(32), spatial(4, 8))
