"""packed, default_layout, dot_layout and the names of expressions."""

from __future__ import annotations

from math import gcd, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.worlds import general
from vm.layouts import (
    FRAGMENTS,
    METHODS,
    NAMES,
    LayoutError,
    RegisterLayout,
    default_layout,
    dot_grids,
    dot_layout,
    dot_layouts,
    local,
    packed,
    spatial,
)

law = settings(deadline=None, max_examples=60)


@law
@given(general(), st.integers(1, 16))
def test_packed_keeps_threads_and_bits(f, bits):
    if f.slots * bits % 8:
        with pytest.raises(LayoutError, match="not whole bytes"):
            packed(f, bits)
        return
    g = packed(f, bits)
    assert g.rank == 1 and g.threads == f.threads
    assert g.slots * 8 == f.slots * bits
    originals = sorted({min(t for t, _ in f.inverse(f(u, 0))) for u in range(f.threads)})
    run = gcd(g.slots, 16)
    for part in range(g.slots // run):
        addresses = g.flat()[originals, part * run : (part + 1) * run].reshape(-1)
        assert np.array_equal(addresses, addresses[0] + np.arange(addresses.size))


@law
@given(general(), st.sampled_from([4, 8, 16]))
def test_packed_bytes_are_copies_exactly_where_elements_are(f, bits):
    if f.slots * bits % 8:
        return
    g = packed(f, bits)
    assert g.size * 8 == f.size * bits
    elements, places = f.flat().tolist(), g.flat().tolist()
    for t in range(f.threads):
        for u in range(f.threads):
            assert (elements[t] == elements[u]) == (places[t] == places[u])


def test_packed_examples_of_the_paper():
    """Tilus, section 4: i6 in local(2,1).column_spatial(4,8).local(2,1) is u8 in
    local(3).spatial(32)."""
    f = local(2, 1).column_spatial(4, 8).local(2, 1)
    assert packed(f, 6) == local(3).spatial(32)
    assert packed(dot_layout(64, 128, 64, 16, 4).b, 4) == local(2).spatial(128).local(16)


class Four:
    bits = 4


def test_a_dtype_stands_for_its_bits():
    assert packed(spatial(32).local(4), Four()) == spatial(32).local(2)


@law
@given(
    st.lists(st.integers(1, 40), max_size=3),
    st.sampled_from([1, 2, 3, 32, 64, 96, 128, 256]),
    st.integers(1, 16),
)
def test_default_layout_covers_any_tile(shape, threads, vector):
    f = default_layout(shape, threads, vector)
    assert f.shape == tuple(shape) and f.threads == threads
    counts = np.bincount(f.flat().reshape(-1), minlength=prod(shape))
    assert (counts == f.replication).all()


def test_default_layout_is_coalesced():
    f = default_layout((64, 64), 128, 8)
    assert f == local(4, 1).spatial(16, 8).local(1, 8)
    assert np.array_equal(f.flat()[:32, :8].reshape(-1), np.arange(256))


def test_default_layout_shortens_runs_rather_than_replicate():
    assert default_layout((64, 4), 128, 8) == spatial(64, 2).local(1, 2)
    assert default_layout((7, 5), 32, 4) == local(7, 5).replicated(32)


GRIDS = [
    (m, n, k, w)
    for m in (16, 48, 64)
    for n in (8, 24, 128)
    for k in (16, 48)
    for w in (1, 2, 3, 4, 8)
]


def block_product(dot, a, b):
    """Runs the instructions of every warp as the hardware would, from registers."""
    fragment = dot.fragment
    a_registers, b_registers = a.reshape(-1)[dot.a.flat()], b.reshape(-1)[dot.b.flat()]
    c_registers = np.zeros((dot.threads, dot.c.slots), np.int64)
    for first in range(0, dot.threads, fragment.threads):
        lanes = slice(first, first + fragment.threads)
        for a_slots, b_slots, c_slots in dot.steps():
            tile_a = a_registers[lanes][:, a_slots].reshape(-1)[fragment.a.owner()]
            tile_b = b_registers[lanes][:, b_slots].reshape(-1)[fragment.b.owner()]
            tile_c = tile_a.reshape(fragment.m, fragment.k) @ tile_b.reshape(fragment.k, fragment.n)
            c_registers[lanes, c_slots] += tile_c.reshape(-1)[fragment.c.flat()]
    return c_registers


@pytest.mark.parametrize(("m", "n", "k", "warps"), GRIDS)
def test_dot_layout_multiplies(m, n, k, warps):
    dot = dot_layout(m, n, k, 16, warps)
    assert dot.threads == 32 * warps == dot.a.threads == dot.b.threads
    assert (dot.a.shape, dot.b.shape, dot.c.shape) == ((m, k), (k, n), (m, n))
    random = np.random.default_rng(m + n + k)
    a, b = random.integers(-4, 5, (m, k)), random.integers(-4, 5, (k, n))
    assert np.array_equal(block_product(dot, a, b), (a @ b).reshape(-1)[dot.c.flat()])


@pytest.mark.parametrize(
    ("bits", "width", "name"),
    [(16, 32, None), (8, 32, None), (32, 32, None), (16, 64, None), (16, 64, "mfma_32x32x8")],
)
@pytest.mark.parametrize("k_run", [1, 2])
def test_dot_layout_of_every_width(bits, width, name, k_run):
    dot = dot_layout(64, 64, 64, bits, 2, warp_width=width, fragment=name, k_run=k_run)
    random = np.random.default_rng(bits)
    a, b = random.integers(-4, 5, (64, 64)), random.integers(-4, 5, (64, 64))
    assert np.array_equal(block_product(dot, a, b), (a @ b).reshape(-1)[dot.c.flat()])
    share = k_run * dot.fragment.k_order.slots  # of a thread, along K, in so many steps
    if k_run > 1:
        for held in (dot.a.table()[:, :share, 1], dot.b.transpose().table()[:, :share, 1]):
            assert np.array_equal(held, held[:, :1] + np.arange(share))


def test_k_run_makes_runs_longer():
    plain, wide = (dot_layout(64, 64, 64, 16, 4, k_run=v) for v in (1, 4))
    assert [tuple(plain.a(0, i)) for i in range(3)] == [(0, 0), (0, 1), (8, 0)]
    assert [wide.a(0, i)[1] for i in range(16)] == list(range(16))
    assert [wide.b(0, i)[0] for i in range(16)] == list(range(16))


def test_dot_layout_takes_the_fewest_registers():
    def operand_slots(dot):
        return dot.a.slots + dot.b.slots

    for m, n, warps in ((64, 128, 4), (128, 32, 4), (96, 64, 6)):
        dot = dot_layout(m, n, 32, 16, warps)
        assert dot.warps[2] == 1
        for along_m in range(1, warps + 1):
            along_n = warps // along_m
            if along_m * along_n == warps and m // 16 % along_m == 0 and n // 8 % along_n == 0:
                other = 2 * 8 * (m // 16 // along_m) + 2 * 4 * (n // 8 // along_n)
                assert operand_slots(dot) <= other


def test_dot_layout_operands_are_held_by_the_warps_that_need_them():
    dot = dot_layout(64, 128, 32, 16, 4)
    for warp in range(4):
        a, b, c = (
            layout.table()[32 * warp :][:32].reshape(-1, 2) for layout in (dot.a, dot.b, dot.c)
        )
        assert set(a[:, 0]) == set(c[:, 0]) and set(b[:, 1]) == set(c[:, 1])
        assert set(a[:, 1]) == set(b[:, 0]) == set(range(32))


def test_warps_that_find_no_share_copy():
    dot = dot_layout(16, 8, 16, 16, 4)
    assert dot.warps == (1, 1, 4) and dot.c.replication == 4


def test_a_grid_may_be_asked_for():
    """Attention: each warp holds whole rows of C, and gives them on as its rows of A."""
    scores, values = dot_layout(64, 128, 64, 16, 4, grid=[4, 1]), dot_layout(
        64, 64, 128, 16, 4, grid=(4, 1)
    )  # fmt: skip
    assert scores.warps == values.warps == (4, 1, 1)
    assert scores.b.replication == 4 and scores.a.replication == 1
    for t in range(128):
        rows = scores.c.table()[t, :, 0]
        assert set(rows // 16) == {t // 32}
        assert sorted(scores.c.flat()[t]) == sorted(values.a.flat()[t])
    random = np.random.default_rng(1)
    a, b = random.integers(-4, 5, (64, 64)), random.integers(-4, 5, (64, 128))
    assert np.array_equal(block_product(scores, a, b), (a @ b).reshape(-1)[scores.c.flat()])


@pytest.mark.parametrize("warps", [1, 4, 6])
def test_all_layouts_of_a_product(warps):
    """Every grid with every run, against an enumeration; each computes the product."""
    found = dot_layouts(48, 32, 32, 16, warps)
    assert found[0] == dot_layout(48, 32, 32, 16, warps)
    large = [each for each in found if each.fragment == FRAGMENTS["mma_m16n8k16"]]
    grids = [
        (m, n)
        for m in range(1, 4)
        for n in range(1, 5)
        if warps % (m * n) == 0 and 3 % m == 0 and 4 % n == 0
    ]
    assert {(each.warps[:2], each.k_run) for each in large} == {
        (grid, run) for grid in grids for run in (1, 2)
    }
    assert len(large) == 2 * len(grids)
    random = np.random.default_rng(2)
    a, b = random.integers(-4, 5, (48, 32)), random.integers(-4, 5, (32, 32))
    for each in found:
        assert np.array_equal(block_product(each, a, b), (a @ b).reshape(-1)[each.c.flat()])


def test_grids_make_no_more_copies_than_the_default():
    found = dot_grids(64, 128, 64, 16, 4)
    assert [each.warps for each in found] == [(1, 4, 1), (2, 2, 1), (4, 1, 1)]
    assert [each.warps for each in dot_grids(16, 8, 16, 16, 4)] == [(1, 1, 4)]
    slots = [each.a.slots + each.b.slots for each in found]
    assert slots == sorted(slots)


@pytest.mark.parametrize(
    ("arguments", "options", "parts"),
    [
        ((8, 8, 16, 16, 4), {}, ["M=8", "mma_m16n8k16", "M=16", "K=16", "mma_m16n8k8"]),
        ((16, 8, 16, 4, 4), {}, ["4-bit", "8, 16, 32", "cast"]),
        ((16, 8, 16, 16, 4), {"k_run": 4}, ["K=16", "K=64", "K=32"]),
        ((16, 8, 16, 16, 4), {"fragment": "mma_m9"}, ["mma_m9"]),
        ((16, 8, 16, 16, 4), {"fragment": "mma_m16n8k32_i8"}, ["8-bit", "16-bit"]),
        ((64, 8, 16, 16, 2), {"fragment": "wgmma_m64n8k16"}, ["128 threads", "2 warps"]),
        ((16, 8, 16, 16, 0), {}, ["at least 1"]),
        ((64, 64, 16, 16, 4), {"grid": (3, 1)}, ["3 x 1", "4 warps"]),
        ((48, 64, 16, 16, 4), {"grid": (2, 2)}, ["2 warps along M", "3 fragments"]),
        ((64, 64, 16, 16, 4), {"grid": (4,)}, ["along M and along N", "[4]"]),
    ],
)
def test_dot_layout_says_what_would_fit(arguments, options, parts):
    with pytest.raises(LayoutError) as caught:
        dot_layout(*arguments, **options)
    for part in parts:
        assert part in str(caught.value)


def test_every_name_and_method_can_be_reached():
    samples = [
        local(2, 2),
        FRAGMENTS["mma_m16n8k16"],
        NAMES["ldmatrix_x4"],
        dot_layout(16, 8, 16, 16, 1),
        *([NAMES["shared"](8, 8)] if "shared" in NAMES else []),
    ]
    for method in METHODS:
        assert any(hasattr(sample, method) for sample in samples), method
    assert not any(method.startswith("_") for method in METHODS)
    for name in ("local", "spatial", "packed", "register_layout", "mma_m16n8k16", "mfma_32x32x8"):
        assert name in NAMES
    assert isinstance(NAMES["mma_m16n8k16"].b, RegisterLayout)
