"""Sub-byte tensors in memory: odd shapes, odd offsets, bytes that elements share.

Memory here is one Python integer of all bits: what a program reads is cut out of it, what it should
leave behind is put together in it.
"""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.errors import VmError
from vm.isa.dtypes import dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.compiled import run_on_emulator
from vm.runtime.reference import run

NAMES = ("u1", "u2", "i3", "u4", "f5e2m2", "u6", "i7", "f6e3m2", "u11", "u13")


def bits_of(memory: np.ndarray) -> int:
    return int.from_bytes(memory.tobytes(), "little")


def bytes_of(bits: int, size: int) -> list[int]:
    return list(bits.to_bytes(size, "little"))


def field(bits: int, at: int, width: int) -> int:
    return bits >> at & (1 << width) - 1


def with_field(bits: int, at: int, width: int, code: int) -> int:
    return bits & ~(((1 << width) - 1) << at) | code << at


def row_strides(shape: tuple[int, ...], width: int) -> list[int]:
    """Bits from one index to the next along each axis: every row begins at a byte."""
    row = -(-shape[-1] * width // 8) * 8
    outer = [row * prod(shape[axis + 1 : -1]) for axis in range(len(shape) - 1)]
    return [*outer, width]


def random_memory(seed: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


shapes = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)
names = st.sampled_from(NAMES)


@settings(deadline=None, max_examples=80)
@given(names, shapes, st.data())
def test_a_tile_at_any_place_of_any_shape_is_read_and_written(name, shape, data):
    """A tile of an odd shape at an odd offset, partly outside, is copied to another tensor."""
    width, rank = dtype(name).bits, len(shape)
    offsets = [data.draw(st.integers(-3, extent + 1)) for extent in shape]
    extents = [data.draw(st.integers(1, extent + 3)) for extent in shape]
    axes = [chr(ord("I") + axis) for axis in range(rank)]
    tile = ", ".join(f"{o} +: {e}" for o, e in zip(offsets, extents, strict=True))
    whole = ", ".join(f"0 +: {e}" for e in extents)
    text = f"""vm 1
program f(A: inout(global({name}))[{", ".join(axes)}],
          B: inout(global({name}))[{", ".join(str(e) for e in extents)}],
          C: out(global({name}))[{", ".join(str(e) for e in extents)}]) grid (1) threads 32
{{
  store(C[{whole}], load(A[{tile}]))
  synchronize()
  store(A[{tile}], load(B[{whole}]))
}}"""
    strides, inner = row_strides(shape, width), row_strides(tuple(extents), width)
    memory = random_memory(1, prod(shape[:-1]) * (-(-shape[-1] * width // 8)))
    other = random_memory(2, prod(extents[:-1]) * (-(-extents[-1] * width // 8)))
    before, source = bits_of(memory), bits_of(other)
    rows = (*shape[:-1], -1), (*extents[:-1], -1)
    A, B = (
        Tensor(dtype(name), dims, bytes_.reshape(row))
        for dims, bytes_, row in zip((shape, tuple(extents)), (memory, other), rows, strict=True)
    )
    result = run(parse(text)["f"].instantiate(), {"A": A, "B": B, "C": None}).outputs
    read, after = {}, before
    for index in np.ndindex(*extents):
        at = [o + i for o, i in zip(offsets, index, strict=True)]
        place = sum(a * s for a, s in zip(at, strides, strict=True))
        is_inside = all(0 <= a < e for a, e in zip(at, shape, strict=True))
        read[index] = field(before, place, width) if is_inside else 0
        if is_inside:
            mine = sum(i * s for i, s in zip(index, inner, strict=True))
            after = with_field(after, place, width, field(source, mine, width))
    codes = result["C"].codes()
    assert all(codes[index] == code for index, code in read.items())
    assert bytes_of(after, memory.size) == memory.tolist()


@settings(deadline=None, max_examples=60)
@given(names, st.integers(0, 40), st.integers(1, 7), st.integers(1, 7), st.data())
def test_a_view_begins_at_any_element_and_has_any_strides(name, offset, rows, columns, data):
    width = dtype(name).bits
    stride = data.draw(st.integers(columns, columns + 5))
    swapped = data.draw(st.booleans())
    strides = [1, stride] if swapped else [stride, 1]
    extents = [columns, rows] if swapped else [rows, columns]
    size = -(-(offset + rows * stride) * width // 8)
    text = f"""vm 1
program f(A: inout(global(u8))[N], C: out(global({name}))[{extents[0]}, {extents[1]}])
  grid (1) threads 32
{{
  v = global_view(A, {name}, {extents[0]}, {extents[1]}, offset={offset}, strides={strides})
  x = load(v[0 +: {extents[0]}, 0 +: {extents[1]}])
  store(C[0 +: {extents[0]}, 0 +: {extents[1]}], x)
  synchronize()
  store(v[0 +: {extents[0]}, 0 +: 1], 0)
}}""".replace(", 0)", ", 0)" if dtype(name).is_integer else ", 0.0)")
    memory = random_memory(offset, size)
    before = after = bits_of(memory)
    codes = run(parse(text)["f"].instantiate(), {"A": memory, "C": None}).outputs["C"].codes()
    for i, j in np.ndindex(*extents):
        place = (offset + i * strides[0] + j * strides[1]) * width
        assert codes[i, j] == field(before, place, width)
        if j == 0:
            after = with_field(after, place, width, 0)
    assert memory.tolist() == bytes_of(after, size)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", ["program", "reverse", "random:3"])
def test_stores_of_blocks_that_share_bytes_lose_nothing(name, order):
    """Tiles of three elements, so that neighbours share bytes, each stored by another block."""
    text = f"""vm 1
program f(A: global({name})[N], C: out(global({name}))[N]) grid (ceil_div(N, 3)) threads 32 {{
  n = block_index() * 3
  store(C[n +: 3], load(A[n +: 3]))
}}"""
    codes = np.random.default_rng(5).integers(0, 1 << dtype(name).bits, 100)
    given = Tensor.from_codes(name, codes)
    out = run(parse(text)["f"].instantiate(), {"A": given, "C": None}, schedule=order)
    assert out.outputs["C"].codes().tolist() == codes.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_stores_of_groups_that_share_bytes_of_shared_memory_lose_nothing(name):
    """Two groups fill alternate tiles of five elements of one shared tensor: that is no race, for
    elements are what is shared, not bytes; touching one element twice would be one."""
    text = f"""vm 1
program f(A: global({name})[40], C: out(global({name}))[40]) grid (1) threads 64 {{
  s = shared_alloc({name}, [40])
  group even(warps=1) {{
    for k in range(4) {{ store(s[k * 10 +: 5], load(A[k * 10 +: 5])) }}
  }}
  group odd(warps=1) {{
    for k in range(4) {{ store(s[k * 10 + 5 +: 5], load(A[k * 10 + 5 +: 5])) }}
  }}
  synchronize()
  store(C[0 +: 40], load(s))
}}"""
    codes = np.random.default_rng(6).integers(0, 1 << dtype(name).bits, 40)
    for order in ("program", "reverse", "random:1", "random:2"):
        given = {"A": Tensor.from_codes(name, codes), "C": None}
        out = run(parse(text)["f"].instantiate(), given, schedule=order)
        assert out.outputs["C"].codes().tolist() == codes.tolist()
    one_twice = text.replace("k * 10 + 5 +: 5], load", "k * 10 + 4 +: 5], load")
    given = {"A": Tensor.from_codes(name, codes), "C": None}
    with pytest.raises(VmError, match="E0601"):
        run(parse(one_twice)["f"].instantiate(), given)


@pytest.mark.parametrize("name", ["u1", "u3", "i5", "u7"])
def test_gather_and_scatter_reach_single_elements_within_bytes(name):
    text = f"""vm 1
program f(A: global({name})[N], I: global(i32)[32], C: inout(global({name}))[N])
  grid (1) threads 32
{{
  x = gather(A, load(I), axis=0)
  scatter(C, load(I), x, axis=0)
}}"""
    random = np.random.default_rng(7)
    count = 1 << dtype(name).bits
    codes, left = random.integers(0, count, 61), random.integers(0, count, 61)
    places = random.permutation(61)[:32].astype(np.int32)
    given = {"A": Tensor.from_codes(name, codes), "I": places}
    C = Tensor.from_codes(name, left)
    out = run(parse(text)["f"].instantiate(), {**given, "C": C}).outputs["C"].codes()
    assert out.tolist() == np.where(np.isin(np.arange(61), places), codes, left).tolist()


def test_the_emulator_loses_no_neighbour_either():
    """Stores of three elements at odd offsets by blocks that share bytes, of five elements in
    shared memory by warps that do, and of tiles in part outside: types of all sorts in one kernel,
    since compiling is what takes long."""
    names = range(0, len(NAMES), 2)
    parameters = [f"A{k}: global({NAMES[k]})[N], C{k}: inout(global({NAMES[k]}))[N]" for k in names]
    tiles = [f"store(C{k}[n + 1 +: 3], load(A{k}[n +: 3]))" for k in names]
    rings = [f"s{k} = shared_alloc({NAMES[k]}, [20])" for k in names]
    halves = [
        [f"store(s{k}[j * 10 + {at} +: 5], load(A{k}[j * 10 + {at} +: 5]))" for k in names]
        for at in (0, 5)
    ]
    outs = [f"store(B{k}[block_index(), 0 +: 20], load(s{k}))" for k in names]
    more = [f"B{k}: out(global({NAMES[k]}))[ceil_div(N, 3), 20]" for k in names]
    text = f"""vm 1
program f({", ".join([*parameters, *more])}) grid (ceil_div(N, 3)) threads 64 {{
  n = block_index() * 3
  {"; ".join([*tiles, *rings])}
  group even(warps=1) {{ for j in range(2) {{ {"; ".join(halves[0])} }} }}
  group odd(warps=1) {{ for j in range(2) {{ {"; ".join(halves[1])} }} }}
  synchronize()
  {"; ".join(outs)}
}}"""
    kernel = parse(text)["f"].instantiate()
    count, random = 52, np.random.default_rng(8)
    codes = {k: random.integers(0, 1 << dtype(NAMES[k]).bits, (2, count)) for k in names}
    for order in ("forward", "reverse", "random:1"):
        given = {f"B{k}": None for k in names}
        for k in names:
            given[f"A{k}"] = Tensor.from_codes(NAMES[k], codes[k][0])
            given[f"C{k}"] = Tensor.from_codes(NAMES[k], codes[k][1])
        outputs = run_on_emulator(kernel, given, order=order, optimization=0).outputs
        for k in names:
            source, left = codes[k]
            assert outputs[f"C{k}"].codes().tolist() == [left[0], *source[:-1]]
            assert (outputs[f"B{k}"].codes() == source[:20]).all()
