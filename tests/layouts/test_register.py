"""Laws of register layouts, against brute force from the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.worlds import (
    definition,
    every_layout,
    function,
    general,
    product_function,
    products,
)
from vm.layouts import (
    NAMES,
    LayoutError,
    RegisterLayout,
    column_local,
    column_spatial,
    local,
    register_layout,
    replicated,
    spatial,
)

law = settings(deadline=None, max_examples=60)
NUMBERS = range(1, 65)


def evaluated(layout: RegisterLayout) -> object:
    return eval(str(layout), {"__builtins__": {}}, dict(NAMES))


# -- exhaustive ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_every_small_layout_is_its_definition(rank):
    count = 0
    for size in NUMBERS:
        for layout in every_layout(size, rank):
            table = layout.table()
            assert table.shape == (layout.threads, layout.slots, rank)
            assert np.array_equal(table, definition(layout)), layout
            count += 1
    assert count > 500


def test_every_small_layout_with_replication_is_its_definition():
    for size in range(1, 25):
        for layout in every_layout(size, 2, (2, 3)):
            assert np.array_equal(layout.table(), definition(layout)), layout


@pytest.mark.parametrize("rank", [1, 2])
def test_every_small_layout_prints_as_itself(rank):
    for size in NUMBERS:
        for layout in every_layout(size, rank, (2,) if size <= 16 else ()):
            assert evaluated(layout) == layout, layout


def test_equal_exactly_if_the_same_function():
    for size in range(1, 25):
        seen: dict[tuple, RegisterLayout] = {}
        for layout in every_layout(size, 2, (2, 3)):
            key = (layout.shape, tuple(function(layout).items()))
            assert key not in seen, (layout, seen.get(key))
            seen[key] = layout


def test_inverse_and_owner_of_every_small_layout():
    for size in range(1, 25):
        for layout in every_layout(size, 2, (2,)):
            holders: dict[tuple[int, ...], list[tuple[int, int]]] = {}
            for place, index in function(layout).items():
                holders.setdefault(index, []).append(place)
            for number, index in enumerate(np.ndindex(*layout.shape)):
                assert list(layout.inverse(index)) == sorted(holders[index]), layout
                thread, slot = min(holders[index])
                assert layout.owner()[number] == thread * layout.slots + slot


def test_division_finds_every_quotient_and_no_other():
    """q * g / g == q, and where f / g exists its product is f; where not, no layout in the
    world fits."""
    world = [f for size in (1, 2, 4) for f in every_layout(size, 2, (2,))]
    wholes: dict[RegisterLayout, set] = {}
    for outer in world:
        for inner in world:
            if outer.size * inner.size <= 12:
                wholes.setdefault(outer * inner, set()).add((outer, inner))
    for whole, pairs in wholes.items():
        for outer, inner in pairs:
            assert whole / inner == outer
            assert whole.left_divide(outer) == inner
        rights = {inner for _, inner in pairs}
        for candidate in world:
            if candidate not in rights and whole.size % candidate.size == 0:
                try:
                    quotient = whole / candidate
                except LayoutError:
                    continue
                assert quotient * candidate == whole


# -- laws ------------------------------------------------------------------------------------------


@law
@given(products(), products())
def test_product_is_its_definition(f, g):
    assert function(f * g) == product_function(function(f), function(g), g.shape)


@law
@given(general(), general())
def test_product_of_general_layouts_is_its_definition(f, g):
    assert function(f * g) == product_function(function(f), function(g), g.shape)


@law
@given(general(), general(), general())
def test_product_is_associative(f, g, h):
    assert (f * g) * h == f * (g * h)


@law
@given(general())
def test_identity_of_the_product(f):
    for one in (local(), spatial(), local(1, 1), replicated(1)):
        assert f * one == f == one * f


def test_product_does_not_commute():
    assert local(2) * spatial(2) != spatial(2) * local(2)


@law
@given(general(), general())
def test_multiply_then_divide_right(f, g):
    assert (f * g) / g == f


@law
@given(general(), general())
def test_multiply_then_divide_left(f, g):
    assert (f * g).left_divide(f) == g


@law
@given(general(), general())
def test_divide_then_multiply(f, g):
    try:
        quotient = f / g
    except LayoutError:
        return
    assert quotient * g == f


@law
@given(general())
def test_a_layout_divides_itself(f):
    assert f / f == local(1, 1) == f.left_divide(f)


@law
@given(general(rank=1), general(rank=2))
def test_shorter_shape_is_padded_on_the_left(f, g):
    assert f * g == f.with_rank(2) * g
    assert g * f == g * f.with_rank(2)


@law
@given(general(), general())
def test_sizes_multiply(f, g):
    h = f * g
    assert (h.threads, h.slots, h.size) == (
        f.threads * g.threads,
        f.slots * g.slots,
        f.size * g.size,
    )
    assert h.replication == f.replication * g.replication


@law
@given(general())
def test_threads_times_slots_is_size_times_replication(f):
    assert f.threads * f.slots == f.size * f.replication


@law
@given(general(), st.data())
def test_call_agrees_with_table_and_flat(f, data):
    t = data.draw(st.integers(0, f.threads - 1))
    i = data.draw(st.integers(0, f.slots - 1))
    assert f(t, i) == tuple(f.table()[t, i])
    assert np.ravel_multi_index(f(t, i), f.shape) == f.flat()[t, i]


@law
@given(general())
def test_inverse_holds_exactly_the_places_of_an_element(f):
    for index in np.ndindex(*f.shape):
        places = f.inverse(index)
        assert len(places) == f.replication
        assert all(f(t, i) == index for t, i in places)


@law
@given(general())
def test_scatter_then_gather_by_owner_is_identity(f):
    tile = np.arange(f.size) * 7 + 3
    registers = tile[f.flat()]
    assert np.array_equal(registers.reshape(-1)[f.owner()], tile)


@law
@given(general())
def test_canonical_form_is_idempotent(f):
    again = RegisterLayout(f.shape, f.modes, f.spatial_modes, f.local_modes)
    assert (again.modes, again.spatial_modes, again.local_modes) == (
        f.modes,
        f.spatial_modes,
        f.local_modes,
    )


@law
@given(general(), st.data())
def test_splitting_a_mode_does_not_change_the_layout(f, data):
    splittable = [m for m, size in enumerate(f.modes) if size == 4]
    if not splittable:
        return
    m = data.draw(st.sampled_from(splittable))

    def renumbered(order):
        return [x for n in order for x in ([n] if n < m else [n, n + 1] if n == m else [n + 1])]

    modes = [*f.modes[:m], 2, 2, *f.modes[m + 1 :]]
    again = register_layout(
        shape=f.shape,
        modes=modes,
        spatial=renumbered(f.spatial_modes),
        local=renumbered(f.local_modes),
    )
    assert again == f and hash(again) == hash(f)


@law
@given(general(), general())
def test_equality_agrees_with_the_function_and_with_hash(f, g):
    same = f.shape == g.shape and function(f) == function(g)
    assert (f == g) == same
    if same:
        assert hash(f) == hash(g)


@law
@given(general(rank=3))
def test_text_evaluates_to_the_layout(f):
    assert evaluated(f) == f
    assert repr(f) == str(f)


@law
@given(general(rank=3))
def test_factors_multiply_to_the_layout(f):
    result = local(1, 1, 1)
    for factor in f.factors():
        result = result * factor
    assert result == f


@law
@given(products(most=3))
def test_text_has_no_more_factors_than_needed(f):
    assert str(f).count("(") <= 4 and not str(f).startswith("register_layout")


@law
@given(general(rank=3), st.permutations(range(3)))
def test_permute_permutes_every_index(f, axes):
    g = f.permute(*axes)
    assert function(g) == {p: tuple(i[a] for a in axes) for p, i in function(f).items()}


@law
@given(general(rank=3), st.permutations(range(3)))
def test_permute_undone_by_its_inverse(f, axes):
    assert f.permute(*axes).permute(*np.argsort(axes).tolist()) == f


@law
@given(general(), general())
def test_transpose_distributes_over_the_product(f, g):
    assert (f * g).transpose() == f.transpose() * g.transpose()
    assert f.transpose().transpose() == f


@law
@given(general())
def test_flatten_keeps_the_linear_index(f):
    g = f.reshape(f.size)
    assert g.shape == (f.size,)
    assert np.array_equal(g.flat(), f.flat())
    assert g.reshape(*f.shape) == f


@law
@given(general(rank=1), st.data())
def test_reshape_succeeds_exactly_if_some_layout_has_the_function(f, data):
    rows = data.draw(st.sampled_from([d for d in range(1, f.size + 1) if f.size % d == 0]))
    shape = (rows, f.size // rows)
    try:
        g = f.reshape(*shape)
    except LayoutError:
        assert any(
            shape[1] % f.mode_strides[m] or f.modes[m] % (shape[1] // f.mode_strides[m])
            for m in range(len(f.modes))
            if f.mode_strides[m] < shape[1] < f.mode_strides[m] * f.modes[m]
        )
    else:
        assert g.shape == shape and np.array_equal(g.flat(), f.flat())


@law
@given(general(), st.integers(-3, 2))
def test_unsqueeze_then_squeeze(f, axis):
    g = f.unsqueeze(axis)
    assert g.shape[axis] == 1 and np.array_equal(g.flat(), f.flat())
    assert g.squeeze(axis) == f


@law
@given(general(rank=3), st.sets(st.integers(0, 2)))
def test_reduce_forgets_the_axis(f, axes):
    """Who holds some element of a row holds the row's sum, and nobody else does."""
    g = f.reduce(*axes, keepdims=True)
    assert g.threads == f.threads

    def projected(layout):
        return {
            (t, tuple(0 if a in axes else n for a, n in enumerate(index)))
            for (t, _), index in function(layout).items()
        }

    assert projected(g) == projected(f)
    assert g.squeeze(*axes) == f.reduce(*axes) if axes else g == f


@law
@given(general(rank=3))
def test_reduce_in_steps_is_reduce_at_once(f):
    assert f.reduce(0, keepdims=True).reduce(2, keepdims=True) == f.reduce(0, 2, keepdims=True)


@law
@given(general(), general())
def test_reduce_distributes_over_the_product(f, g):
    assert (f * g).reduce(0, keepdims=True) == f.reduce(0, keepdims=True) * g.reduce(
        0, keepdims=True
    )


@law
@given(general(rank=1), st.integers(1, 5))
def test_broadcast_then_reduce(f, extent):
    assert f.broadcast(extent, f.size).reduce(0) == f


@law
@given(general(rank=1), st.integers(1, 4), st.integers(0, 2**16))
def test_broadcast_is_the_adjoint_of_reduce(f, extent, seed):
    """<reduce x, y> == <x, broadcast y>, computed in registers."""
    random = np.random.default_rng(seed)
    wide = f.broadcast(extent, f.size)
    x = random.integers(-9, 9, (extent, f.size))
    y = random.integers(-9, 9, f.size)
    x_registers, y_registers = x.reshape(-1)[wide.flat()], y[f.flat()]
    summed = x_registers.reshape(f.threads, extent, f.slots).sum(1)
    copied = np.tile(y_registers, (1, extent))
    assert np.array_equal(copied, np.broadcast_to(y, x.shape).reshape(-1)[wide.flat()])
    assert (summed * y_registers).sum() == (x_registers * copied).sum()


@law
@given(general(rank=1), st.integers(1, 5))
def test_expand_is_broadcast_of_one_axis(f, extent):
    assert f.unsqueeze(0).expand(0, extent) == f.broadcast(extent, f.size)


@law
@given(general(), st.data())
def test_slice_is_the_restriction(f, data):
    axis = data.draw(st.integers(0, 1))
    start = data.draw(st.integers(0, f.shape[axis] - 1))
    extent = data.draw(st.integers(1, f.shape[axis] - start))
    tile = np.arange(f.size).reshape(f.shape)
    part = tile[(slice(None),) * axis + (slice(start, start + extent),)].reshape(-1)
    inside = np.isin(f.flat(), part)
    try:
        g = f.slice(axis, start, extent)
    except LayoutError:
        return
    slots = f.slice_slots(axis, start, extent)
    assert np.array_equal(part[g.flat()], f.flat()[:, slots])
    assert inside.sum() == g.threads * g.slots


@law
@given(general())
def test_slice_of_everything_is_the_layout(f):
    assert f.slice(0, 0, f.shape[0]) == f


@law
@given(general(rank=1), general(rank=1))
def test_concat_pairs_the_indices(f, g):
    h = f.concat(g)
    assert h.shape == f.shape + g.shape
    for t in range(h.threads):
        for i in range(h.slots):
            assert h(t, i) == f(t // g.threads, i // g.slots) + g(t % g.threads, i % g.slots)


@law
@given(general(), general())
def test_methods_chain_products(f, g):
    assert f.local(2, 3) == f * local(2, 3)
    assert f.spatial(2, 3) == f * spatial(2, 3)
    assert f.column_local(2, 3) == f * column_local(2, 3)
    assert f.column_spatial(2, 3) == f * column_spatial(2, 3)
    assert f.replicated(3) == f * replicated(3)


def test_column_forms_are_row_forms_of_the_transpose():
    assert column_local(2, 3) == local(3, 2).transpose()
    assert column_spatial(2, 3) == spatial(3, 2).transpose()


def test_the_operand_of_the_paper():
    """Tilus, figure 3: A of mma.m16n8k8 is f(t, i) = (t/4 + (i/2) * 8, (t%4)*2 + i%2)."""
    f = local(2, 1).spatial(8, 4).local(1, 2)
    for t in range(32):
        for i in range(4):
            assert f(t, i) == (t // 4 + i // 2 * 8, t % 4 * 2 + i % 2)
    assert str(f) == "local(2, 1).spatial(8, 4).local(1, 2)"
    assert f / local(1, 2) == local(2, 1).spatial(8, 4)


def test_text_of_an_order_that_is_no_product():
    f = register_layout(shape=[8], modes=[2, 4], spatial=[1, 0], local=[])
    assert str(f) == "register_layout(shape=[8], modes=[2, 4], spatial=[1, 0], local=[])"
    assert [f(t, 0) for t in range(8)] == [(0,), (4,), (1,), (5,), (2,), (6,), (3,), (7,)]
    assert f.factors() == (f,)


def test_a_table_of_a_large_layout_is_made_at_once():
    f = spatial(16, 8).local(16, 32)
    assert f.flat().shape == (128, 512) and f.flat() is f.flat()
    with pytest.raises(ValueError):
        f.flat()[0, 0] = 1


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: local(0), ["at least 1", "0"]),
        (lambda: local(2.0), ["whole numbers", "2.0"]),
        (lambda: local(True), ["True"]),
        (lambda: replicated(0), ["at least 1"]),
        (lambda: local(2**20, 2**12), ["2^31"]),
        (lambda: spatial(4)(4, 0), ["thread 4", "0..3"]),
        (lambda: spatial(4)(0, 1), ["slot 1", "0..0"]),
        (lambda: spatial(4).inverse((4,)), ["(4,)", "[4]"]),
        (lambda: local(2, 1) / local(1, 2), ["extent 1 of axis 1", "2"]),
        (lambda: local(4) / spatial(4), ["threads", "1", "4"]),
        (lambda: spatial(2).local(2) / local(2).spatial(2), ["local(2).spatial(2)", "digit"]),
        (lambda: local(2) / local(1, 2), ["1 axes against 2"]),
        (lambda: local(2, 3).permute(0, 0), ["[0, 0]"]),
        (lambda: local(2, 3).permute(0, 5), ["axis 5"]),
        (lambda: local(2).transpose(), ["2 axes", "permute"]),
        (lambda: local(6).reshape(4, 2), ["6 elements", "8"]),
        (lambda: spatial(6).reshape(3, 2).local(2, 1).reshape(4, 3), ["[4, 3]", "ends inside"]),
        (lambda: local(2, 3).squeeze(0), ["extent 2"]),
        (lambda: local(2).unsqueeze(5), ["[5]"]),
        (lambda: local(2).broadcast(3), ["[2]", "[3]", "axis 0"]),
        (lambda: local(2, 2).broadcast(2), ["[2, 2]", "[2]"]),
        (lambda: local(2, 2).expand(0, 4), ["extent 2"]),
        (lambda: spatial(8).slice(0, 0, 4), ["0 +: 4", "threads", "multiples of 8"]),
        (lambda: local(4).spatial(8).slice(0, 4, 8), ["multiples of 8"]),
        (lambda: local(4).local(1).slice(0, 2, 3), ["2 +: 3", "0 +: 4"]),
        (
            lambda: register_layout(shape=[4], modes=[3], spatial=[], local=[0]),
            ["[3]", "4"],
        ),
        (lambda: register_layout(shape=[4], modes=[2, 2], spatial=[0], local=[0, 1]), ["twice"]),
        (lambda: register_layout(shape=[4], modes=[2, 2], spatial=[0], local=[]), ["mode 1"]),
        (lambda: register_layout(shape=[4], modes=[4], spatial=[], local=[3]), ["mode 3"]),
        (lambda: register_layout(shape=[4], modes=[4], spatial=["x"], local=[0]), ["'x'"]),
        (lambda: register_layout(shape=[4], modes=[4, 2], spatial=[], local=[0, 1]), ["[4, 2]"]),
    ],
)
def test_refusals_name_what_disagrees(make, parts):
    with pytest.raises(LayoutError) as caught:
        make()
    for part in parts:
        assert part in str(caught.value)
