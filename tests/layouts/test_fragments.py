"""Every fragment against the formulas of the vendors' manuals, and as an element-wise product."""

from __future__ import annotations

import numpy as np
import pytest

from vm.layouts import FRAGMENTS, Fragment, LayoutError, local, spatial
from vm.layouts.fragments import MFMA_ROWS, MMA_ROWS, TRANSFERS, WGMMA_ROWS

# PTX ISA 9.7.14.5, "row and column of a matrix fragment can be computed as", with g = lane >> 2 and
# t = lane % 4, written down from the manual for each shape and element width.
PTX_A = {
    (16, 4, 32): lambda g, t, i: (g if i == 0 else g + 8, t),
    (16, 8, 32): lambda g, t, i: (g if i in (0, 2) else g + 8, t if i < 2 else t + 4),
    (16, 8, 16): lambda g, t, i: (g if i < 2 else g + 8, t * 2 + (i & 1)),
    (16, 16, 16): lambda g, t, i: (
        g if 0 <= i < 2 or 4 <= i < 6 else g + 8,
        t * 2 + (i & 1) if i < 4 else t * 2 + (i & 1) + 8,
    ),
    (8, 16, 8): lambda g, t, i: (g, t * 4 + i),
    (16, 16, 8): lambda g, t, i: (g if i < 4 else g + 8, t * 4 + (i & 3)),
    (16, 32, 8): lambda g, t, i: (
        g if 0 <= i < 4 or 8 <= i < 12 else g + 8,
        t * 4 + (i & 3) if i < 8 else t * 4 + (i & 3) + 16,
    ),
}
PTX_B = {
    (4, 32): lambda g, t, i: (t, g),
    (8, 32): lambda g, t, i: (t if i == 0 else t + 4, g),
    (8, 16): lambda g, t, i: (t * 2 + i, g),
    (16, 16): lambda g, t, i: (t * 2 + (i & 1) if i < 2 else t * 2 + (i & 1) + 8, g),
    (16, 8): lambda g, t, i: (t * 4 + i, g),
    (32, 8): lambda g, t, i: (t * 4 + (i & 3) if i < 4 else t * 4 + (i & 3) + 16, g),
}


def ptx_c(g, t, i):
    return (g if i < 2 else g + 8, t * 2 + (i & 1))


def check(layout, threads, formula):
    assert layout.threads == threads
    for thread in range(threads):
        for slot in range(layout.slots):
            assert layout(thread, slot) == formula(thread, slot), (thread, slot)


@pytest.mark.parametrize("row", MMA_ROWS, ids=str)
def test_mma_is_the_manual(row):
    a, b = PTX_A[row.m, row.k, row.bits], PTX_B[row.k, row.bits]
    check(row.a, 32, lambda lane, i: a(lane >> 2, lane % 4, i))
    check(row.b, 32, lambda lane, i: b(lane >> 2, lane % 4, i))
    check(row.c, 32, lambda lane, i: ptx_c(lane >> 2, lane % 4, i))


@pytest.mark.parametrize("row", WGMMA_ROWS[3::16], ids=str)
def test_wgmma_is_the_manual(row):
    """PTX ISA 9.7.15.5.1.1: warp w of the group holds rows 16 w .. 16 w + 15."""
    a = PTX_A[16, row.k, row.bits]

    def a_formula(thread, i):
        m, k = a(thread % 32 >> 2, thread % 4, i)
        return 16 * (thread // 32) + m, k

    def c_formula(thread, i):
        g, t = thread % 32 >> 2, thread % 4
        return 16 * (thread // 32) + g + 8 * (i // 2 % 2), i // 4 * 8 + t * 2 + i % 2

    check(row.a, 128, a_formula)
    check(row.c, 128, c_formula)


def test_wgmma_has_every_width():
    names = {row.name for row in WGMMA_ROWS}
    for n in range(8, 257, 8):
        assert {f"wgmma_m64n{n}k16", f"wgmma_m64n{n}k8_tf32", f"wgmma_m64n{n}k32_f8"} <= names
    assert "wgmma_m64n40k32_i8" not in names and "wgmma_m64n48k32_i8" in names


@pytest.mark.parametrize("row", MFMA_ROWS, ids=str)
def test_mfma_is_the_manual(row):
    """AMD CDNA3 ISA, section 7.1; compared in full with AMD's matrix instruction calculator by
    hand."""
    run = row.k // (64 // row.m)
    check(row.a, 64, lambda lane, v: (lane % row.m, run * (lane // row.m) + v))
    check(row.b, 64, lambda lane, v: (run * (lane // row.m) + v, lane % row.m))
    rows = 4 * (64 // row.m)
    check(
        row.c,
        64,
        lambda lane, v: (rows * (v // 4) + 4 * (lane // row.m) + v % 4, lane % row.m),
    )


def test_mfma_known_elements():
    """facts/targets.md section 3: D[8][0] of 32x32x8 is v4{0}."""
    row = FRAGMENTS["mfma_32x32x8"]
    assert row.c.inverse((8, 0)) == ((0, 4),)
    assert row.a.inverse((0, 4)) == ((32, 0),)


ROWS = [*MMA_ROWS, *MFMA_ROWS]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_product_element_by_element(row):
    """What the hardware does: it knows lanes and slots only. For each lane and slot of D the
    terms are the pairs of A and B places whose k agree; the sums must be the matrix product."""
    random = np.random.default_rng(row.k)
    a = random.integers(-4, 5, (row.m, row.k))
    b = random.integers(-4, 5, (row.k, row.n))
    a_registers, b_registers = a.reshape(-1)[row.a.flat()], b.reshape(-1)[row.b.flat()]
    a_places: dict[int, list] = {}
    b_places: dict[tuple[int, int], int] = {}
    for lane in range(row.threads):
        for slot in range(row.a.slots):
            m, k = row.a(lane, slot)
            a_places.setdefault(m, []).append((k, a_registers[lane, slot]))
        for slot in range(row.b.slots):
            b_places[row.b(lane, slot)] = b_registers[lane, slot]
    want = a @ b
    for lane in range(row.threads):
        for slot in range(row.c.slots):
            m, n = row.c(lane, slot)
            assert len(a_places[m]) == row.k
            assert sum(x * b_places[k, n] for k, x in a_places[m]) == want[m, n]


@pytest.mark.parametrize("row", FRAGMENTS.values(), ids=str)
def test_k_order_of_both_operands(row):
    """A and B permuted alike along k give the same product: so k itself is compared, lane part by
    lane part and slot part by slot part, with the order the row states."""
    order = row.k_order
    assert order.shape == (row.k,)
    for name in ("a", "b"):
        if name not in row.operands:
            continue
        layout, axis = row.operands[name], 1 if name == "a" else 0
        held: dict[tuple, list[int]] = {}
        for thread in range(layout.threads):
            for slot in range(layout.slots):
                index = layout(thread, slot)
                held.setdefault((thread, index[1 - axis]), []).append(index[axis])
        want = sorted(tuple(order.flat()[part]) for part in range(order.threads))
        assert sorted(set(map(tuple, held.values()))) == want
        lanes = {thread: tuple(ks) for (thread, _), ks in held.items()}
        for thread, ks in lanes.items():
            part = thread % 4 if row.name.startswith(("mma", "wgmma")) else thread % 64 // row.m
            assert ks == tuple(order.flat()[part])


def test_a_product_alone_cannot_see_k_permuted_alike():
    """Why k order is proved apart: A and B with k permuted alike still multiply to the same
    sums, but their k order is another."""
    row = FRAGMENTS["mma_m16n8k16"]
    permuted = Fragment(
        "permuted",
        16,
        8,
        16,
        16,
        "none",
        row.dtypes,
        {
            "a": row.a.reshape(16, 2, 4, 2).permute(0, 2, 1, 3).reshape(16, 16),
            "b": row.b.reshape(2, 4, 2, 8).permute(1, 0, 2, 3).reshape(16, 8),
            "c": row.c,
        },
        row.k_order,
    )
    test_product_element_by_element(permuted)
    with pytest.raises(AssertionError):
        test_k_order_of_both_operands(permuted)


@pytest.mark.parametrize("row", TRANSFERS.values(), ids=str)
def test_matrix_transfers_are_the_manual(row):
    """PTX ISA, ldmatrix: thread 8 j + r addresses row r of matrix j; a row's 16 bytes go, 4
    bytes each, to threads 4 r .. 4 r + 3; with .trans thread T gets elements (2 (T % 4) + {0,
    1}, T / 4)."""
    per_register = 32 // row.bits
    for thread in range(8 * row.count):
        assert row.rows(thread, 0) == (thread // 8, thread % 8)
    for thread in range(32):
        for slot in range(row.count * per_register):
            matrix, element = divmod(slot, per_register)
            if row.transposed:
                want = (2 * (thread % 4) + element, thread // 4)
            else:
                want = (thread // 4, thread % 4 * per_register + element)
            assert row.registers(thread, slot) == (8 * matrix + want[0], want[1])
            assert row.atom(thread, element) == want


def test_names_of_one_width_hold_32_bit_registers():
    for row in FRAGMENTS.values():
        assert row.a.slots * row.bits % 32 == 0
        for a, b, c, d in row.dtypes:
            assert c == d and a[0] in "fbtiu" and b[0] in "fbtiu"


def test_the_form_takes_sparse_metadata():
    """mma.sp m16n8k32: A is stored as 16 x 16, and a further operand says where it came from."""
    dense = FRAGMENTS["mma_m16n8k16"]
    b = local(4, 1).column_spatial(4, 8).local(2, 1)
    metadata = spatial(8, 4).local(2, 1)
    operands = {"a": dense.a, "b": b, "c": dense.c, "e": metadata}
    row = Fragment("sparse", 16, 8, 32, 16, "sm_80", dense.dtypes, operands, dense.k_order)
    assert row.operand("e") == metadata
    with pytest.raises(LayoutError, match=r"\[16, 16\], not \[16, 32\]"):
        del operands["e"]
        Fragment("dense", 16, 8, 32, 16, "sm_80", dense.dtypes, operands, dense.k_order)


def test_rows_cannot_be_changed():
    row = FRAGMENTS["mma_m16n8k16"]
    with pytest.raises(TypeError):
        row.operands["a"] = local(16, 16)
    with pytest.raises(TypeError):
        FRAGMENTS["x"] = row


def test_refusals():
    with pytest.raises(LayoutError, match=r"wgmma_m64n8k16 .* operand b .* only a, c"):
        _ = FRAGMENTS["wgmma_m64n8k16"].b
    row = FRAGMENTS["mma_m16n8k16"]
    with pytest.raises(LayoutError, match=r"wrong\.a has shape \[16, 8\], not \[16, 16\]"):
        Fragment("wrong", 16, 8, 16, 16, "sm_80", row.dtypes, {"a": local(16, 8)}, row.k_order)
