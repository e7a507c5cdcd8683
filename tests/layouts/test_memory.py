"""Laws of memory layouts and of the F2 view."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.worlds import every_layout, general
from vm.layouts import (
    NAMES,
    LayoutError,
    RegisterLayout,
    column_major,
    local,
    shared,
    shared_layout,
    spatial,
    strided,
    tiled,
)
from vm.layouts.binary import (
    BinaryMatrix,
    address_matrix,
    memory_from_binary,
    memory_to_binary,
    register_from_binary,
    register_to_binary,
)
from vm.layouts.memory import MemoryLayout, Swizzle

law = settings(deadline=None, max_examples=60)


@st.composite
def memories(draw, rank=2, most=4) -> MemoryLayout:
    """Row-major, permuted, padded or tiled tiles, some swizzled."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=rank, max_size=rank))
    kind = draw(st.sampled_from(["plain", "permuted", "padded", "tiled"]))
    layout = shared(*shape)
    if kind == "permuted":
        order = draw(st.permutations(range(rank)))
        layout = shared(*(shape[a] for a in order)).permute(*np.argsort(order).tolist())
    elif kind == "padded":
        layout = layout.pad(draw(st.integers(1, 5)))
    elif kind == "tiled":
        tile = [draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0])) for n in shape]
        layout = tiled(shape, tile)
    if draw(st.booleans()):
        bits = draw(st.integers(1, 2))
        layout = layout.swizzle(draw(st.integers(0, 2)), bits, draw(st.integers(bits, 3)))
    return layout


def by_definition(layout: MemoryLayout, index) -> int:
    """start + sum of digit x stride, then the swizzle bit by bit."""
    offset, m = layout.start, 0
    for extent, value in zip(layout.shape, index, strict=True):
        digits, covered, first = [], 1, m
        while covered != extent:
            covered *= layout.modes[m]
            m += 1
        for mode in range(m - 1, first - 1, -1):
            digits.append((mode, value % layout.modes[mode]))
            value //= layout.modes[mode]
        offset += sum(layout.strides[mode] * digit for mode, digit in digits)
    if layout.swizzling:
        s = layout.swizzling
        for bit in range(s.bits):
            if offset >> (s.base + s.shift + bit) & 1:
                offset ^= 1 << (s.base + bit)
    return offset


@law
@given(memories(rank=3))
def test_offsets_are_the_definition(f):
    for index in np.ndindex(*f.shape):
        assert f(*index) == f(index) == f.offsets()[index] == by_definition(f, index)


@law
@given(memories())
def test_no_two_elements_share_an_offset(f):
    assert f.is_injective() and f.size > f.offsets().max() and f.elements == prod(f.shape)


def test_a_broadcast_stride_is_not_injective():
    assert not strided([4, 2], [0, 1]).is_injective()


@law
@given(memories(rank=3))
def test_text_evaluates_to_the_layout(f):
    again = eval(str(f), {"__builtins__": {}}, dict(NAMES))
    assert again == f and hash(again) == hash(f)


@law
@given(memories())
def test_canonical_form_is_idempotent(f):
    again = MemoryLayout(f.shape, f.modes, f.strides, f.swizzling, f.start)
    assert (again.modes, again.strides) == (f.modes, f.strides)


@law
@given(memories(), memories())
def test_equality_without_swizzle_is_equality_of_offsets(f, g):
    if f.swizzling or g.swizzling or f.shape != g.shape:
        return
    assert (f == g) == np.array_equal(f.offsets(), g.offsets())


@law
@given(st.integers(0, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**14))
def test_swizzle_undoes_itself_within_its_block(base, bits, more, offset):
    s = Swizzle(base, bits, bits + more)
    assert s.apply(s.apply(offset)) == offset
    assert s.apply(offset) // s.block == offset // s.block
    assert s.apply(offset + s.period) == s.apply(offset) + s.period


@law
@given(memories(), st.integers(1, 4))
def test_stages_are_swizzled_alike(f, count):
    g = f.stages(count)
    step = g.select(0, count - 1).start // max(1, count - 1)
    for stage in range(count):
        part = g.select(0, stage)
        assert np.array_equal(part.offsets(), f.offsets() + stage * step)
        assert np.array_equal(part.offsets(), g.offsets()[stage])
    assert g.is_injective()


@law
@given(memories(rank=3), st.data())
def test_slice_is_the_restriction(f, data):
    axis = data.draw(st.integers(0, 2))
    start = data.draw(st.integers(0, f.shape[axis] - 1))
    extent = data.draw(st.integers(1, f.shape[axis] - start))
    try:
        part = f.slice(axis, start, extent)
    except LayoutError:
        assert len([a for a in f.mode_axes if a == axis]) > 1
        return
    want = np.take(f.offsets(), range(start, start + extent), axis)
    assert np.array_equal(part.offsets(), want)


@law
@given(memories(rank=3), st.permutations(range(3)))
def test_permute_permutes_the_axes(f, axes):
    assert np.array_equal(f.permute(*axes).offsets(), f.offsets().transpose(axes))
    assert f.permute(*axes).permute(*np.argsort(axes).tolist()) == f


@law
@given(memories())
def test_reshape_keeps_the_order_of_elements(f):
    g = f.reshape(f.elements)
    assert np.array_equal(g.offsets(), f.offsets().reshape(-1))
    assert g.reshape(*f.shape) == f


@law
@given(memories(), memories())
def test_product_lays_out_copies(f, g):
    if f.swizzling or g.swizzling:
        with pytest.raises(LayoutError, match="before swizzling"):
            _ = f * g
        return
    h = f * g
    for index in np.ndindex(*h.shape):
        outer = [i // n for i, n in zip(index, g.shape, strict=True)]
        inner = [i % n for i, n in zip(index, g.shape, strict=True)]
        assert h(index) == f(outer) * g.size + g(inner)


@law
@given(memories(), memories(), memories())
def test_product_is_associative_with_an_identity(f, g, h):
    f, g, h = (shared_layout(shape=x.shape, modes=x.modes, strides=x.strides) for x in (f, g, h))
    assert (f * g) * h == f * (g * h)
    assert shared() * f == f == f * shared(1)


@law
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 5), st.data())
def test_padding_leaves_gaps(rows, columns, extra, data):
    every = data.draw(st.sampled_from([columns * d for d in range(1, rows + 1) if rows % d == 0]))
    f = shared(rows, columns).pad(extra, every)
    linear = np.arange(rows * columns)
    assert np.array_equal(f.offsets().reshape(-1), linear + linear // every * extra)


def test_orders_of_global_memory():
    assert strided([2, 3], [3, 1]) == shared(2, 3)
    assert column_major(2, 3).offsets().tolist() == [[0, 2, 4], [1, 3, 5]]
    f = tiled([4, 4], [2, 2])
    assert f.offsets().tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@law
@given(general())
def test_addresses_are_one_composition(f):
    memory = shared(*f.shape).pad(3)
    addresses = memory.addresses(f)
    for t in range(f.threads):
        for i in range(f.slots):
            assert addresses[t, i] == memory(f(t, i))


def test_the_example_of_the_issue():
    f = shared(64, 64).swizzle(3, 3, 3)
    assert str(f) == "shared(64, 64).swizzle(3, 3, 3)" and f.size == 4096
    for row in range(64):
        for column in range(0, 64, 8):
            assert f(row, column) == row * 64 + (column // 8 ^ row % 8) * 8


# -- F2 --------------------------------------------------------------------------------------------

vectors = st.lists(st.integers(0, 31), min_size=5, max_size=5)


@law
@given(vectors, vectors, st.integers(0, 31), st.integers(0, 31))
def test_binary_matrices_are_linear_and_compose(first, second, x, y):
    a, b = BinaryMatrix(tuple(first), 5), BinaryMatrix(tuple(second), 5)
    assert a.apply(x ^ y) == a.apply(x) ^ a.apply(y)
    assert (a @ b).apply(x) == a.apply(b.apply(x))
    assert (a + b).apply(x) == a.apply(x) ^ b.apply(x)
    assert a.table().tolist() == [a.apply(v) for v in range(32)]


@law
@given(vectors)
def test_rank_and_kernel_and_inverse(columns):
    a = BinaryMatrix(tuple(columns), 5)
    image = {a.apply(v) for v in range(32)}
    kernel = a.kernel()
    assert len(image) == 1 << a.rank() and len(kernel) == 5 - a.rank()
    assert all(a.apply(v) == 0 for v in kernel)
    tops = [v.bit_length() for v in kernel]
    for i, v in enumerate(kernel):
        assert all(w == v or not w >> (tops[i] - 1) & 1 for w in kernel)
    if a.rank() == 5:
        assert a @ a.inverse() == BinaryMatrix.identity(5) == a.inverse() @ a
    else:
        with pytest.raises(LayoutError, match="no inverse"):
            a.inverse()


@law
@given(general(power_of_two=True))
def test_register_layouts_to_f2_and_back(f):
    matrix = register_to_binary(f)
    table = matrix.table()
    for t in range(f.threads):
        for i in range(f.slots):
            assert table[t * f.slots + i] == f.flat()[t, i]
    assert register_from_binary(matrix, f.shape, f.slots) == f


def test_every_small_power_of_two_layout_to_f2_and_back():
    for size in (1, 2, 4, 8, 16, 32, 64):
        for f in every_layout(size, 2, (2,)):
            assert register_from_binary(register_to_binary(f), f.shape, f.slots) == f


@law
@given(memories())
def test_memory_layouts_to_f2_and_back(f):
    try:
        matrix = memory_to_binary(f)
    except LayoutError:
        sizes = [*f.shape, *f.strides]
        assert any(n & (n - 1) for n in sizes) or f.start
        return
    assert np.array_equal(matrix.table(), f.offsets().reshape(-1))
    back = memory_from_binary(matrix, f.shape)
    assert np.array_equal(back.offsets(), f.offsets())


def test_strides_that_are_no_powers_of_two_may_be_linear_too():
    for f in (MemoryLayout((4, 1), (4,), (5,)), MemoryLayout((4, 1), (4,), (5,), Swizzle(0, 1, 1)),
              MemoryLayout((4, 2), (4, 2), (17, 4), Swizzle(0, 2, 3))):  # fmt: skip
        back = memory_from_binary(memory_to_binary(f), f.shape)
        assert np.array_equal(back.offsets(), f.offsets())


def test_a_swizzle_is_identity_plus_a_shift():
    plain, moved = (
        memory_to_binary(shared(64, 64)),
        memory_to_binary(shared(64, 64).swizzle(3, 3, 3)),
    )
    shift = BinaryMatrix(tuple(1 << (i - 3) if 6 <= i < 9 else 0 for i in range(12)), 12)
    assert moved == plain + shift
    assert moved @ moved == BinaryMatrix.identity(12)


@law
@given(general(power_of_two=True))
def test_addresses_in_f2_are_a_matrix_product(f):
    memory = shared(*f.shape).swizzle(1, 1, 2)
    matrix = address_matrix(memory, f)
    assert np.array_equal(matrix.table(), memory.addresses(f).reshape(-1))


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: shared(4, 0), ["at least 1"]),
        (lambda: shared(4)(4), ["(4,)", "[4]"]),
        (lambda: shared(4, 4)(1), ["(1,)"]),
        (lambda: shared(4).swizzle(0, 3, 2), ["swizzle(0, 3, 2)", "shift >= bits"]),
        (lambda: shared(4).swizzle(20, 8, 8), ["bit 31"]),
        (lambda: shared(4).swizzle(0, 1, 1).swizzle(0, 1, 1), ["already"]),
        (lambda: shared(8, 8).swizzle(0, 1, 1).pad(1), ["pad before"]),
        (lambda: shared(4, 6).pad(1, 4), ["run of 4", "digit"]),
        (lambda: shared(4, 6).slice(0, 3, 2), ["3 +: 2", "0 +: 4"]),
        (lambda: tiled([8], [4]).slice(0, 0, 9), ["0 +: 9"]),
        (lambda: column_major(4, 4).reshape(16).slice(0, 2, 4), ["2 +: 4"]),
        (lambda: shared(4, 6).reshape(5, 5), ["24 elements", "25"]),
        (lambda: shared(4, 6).permute(0), ["[0]", "2 axes"]),
        (lambda: shared(4).transpose(), ["2 axes"]),
        (lambda: shared(4).select(1, 0), ["axis 1"]),
        (lambda: tiled([6], [4]), ["[4]", "[6]"]),
        (lambda: strided([4], [1, 2]), ["1 modes", "[1, 2]"]),
        (lambda: shared(4, 4).addresses(local(4)), ["[4]", "[4, 4]"]),
        (lambda: register_to_binary(spatial(6)), ["threads 6", "power of two"]),
        (lambda: memory_to_binary(shared(4, 4).pad(1)), ["not linear", "element"]),
        (lambda: register_from_binary(BinaryMatrix((3, 2), 2), (4,), 2), ["column 0", "0b11"]),
        (lambda: register_from_binary(BinaryMatrix((1, 1), 1), (2,), 2), ["same bit"]),
        (lambda: register_from_binary(BinaryMatrix((1,), 2), (4,), 2), ["only 1 of 2"]),
        (lambda: memory_from_binary(BinaryMatrix((3, 3), 2), (4,)), ["not strides"]),
        (lambda: BinaryMatrix((4,), 2), ["do not fit"]),
    ],
)
def test_refusals_name_what_disagrees(make, parts):
    with pytest.raises(LayoutError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)


def test_register_layouts_do_not_multiply_with_memory_layouts():
    with pytest.raises(TypeError):
        _ = shared(4) * local(4)
    with pytest.raises(TypeError):
        _ = local(4) * shared(4)
    assert isinstance(local(4), RegisterLayout)
