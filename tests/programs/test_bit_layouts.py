"""The bits of an element are an axis: bit planes and interleaved orders are layouts of a view.

Each program only loads, views and stores; what comes out is computed here bit by bit.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.isa.dtypes import dtype
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.reference import run

PLANES = """vm 1
# Weights stored as bit planes: plane b holds bit b of every element. A thread that holds all planes
# of its elements sees them as elements: its slots are elements, and in each of them the planes.
const WEIGHT = {name}
const ELEMENTS = {elements}  # of each thread

layout elements = spatial(32).local(ELEMENTS)
layout planes = spatial(1, 32).local(1, ELEMENTS).local(bits(WEIGHT), 1)

program join(P: global(u1)[bits(WEIGHT), N], W: out(global(WEIGHT))[N])
  grid (ceil_div(N, 32 * ELEMENTS)) threads 32
{{
  n = block_index() * 32 * ELEMENTS
  p = load(P[:, n +: 32 * ELEMENTS], layout=planes)
  store(W[n +: 32 * ELEMENTS], view(p, WEIGHT, layout=elements))
}}

program split(W: global(WEIGHT)[N], P: out(global(u1))[bits(WEIGHT), N])
  grid (ceil_div(N, 32 * ELEMENTS)) threads 32
{{
  n = block_index() * 32 * ELEMENTS
  w = load(W[n +: 32 * ELEMENTS], layout=elements)
  store(P[:, n +: 32 * ELEMENTS], view(w, u1, layout=planes))
}}
"""


@pytest.mark.parametrize("name", ["u1", "u3", "i4", "u5", "f6e3m2", "i7", "f8e4m3", "nf4", "u12"])
@pytest.mark.parametrize("count", [1, 77, 300])
def test_bit_planes_are_a_layout(name, count):
    element = dtype(name)
    bits = element.bits
    # Codes of NaN come back as the one that casts write: they are left out.
    known = [c for c in range(1 << bits) if not np.isnan(element.decode([c]).astype(float))[0]]
    codes = np.random.default_rng(bits).choice(known, count)
    planes = np.array([(codes >> b) & 1 for b in range(bits)])
    module = parse(PLANES.format(name=name, elements=4))
    joined = run(module["join"].instantiate(), {"P": Tensor.from_codes("u1", planes), "W": None})
    assert joined.outputs["W"].codes().tolist() == codes.tolist()
    split = run(module["split"].instantiate(), {"W": Tensor.from_codes(name, codes), "P": None})
    assert split.outputs["P"].codes().tolist() == planes.tolist()


INTERLEAVED = """vm 1
# Words of eight 4-bit elements whose nibbles stand in another order: {order}.
layout words = spatial(32).local(2)
layout nibbles = spatial(32).local(2) * {nibbles}

program unpack(W: global(u32)[N / 8], C: out(global(u4))[N])
  grid (ceil_div(N, 512)) threads 32 where N % 8 == 0
{{
  n = block_index() * 64
  store(C[8 * n +: 512], view(load(W[n +: 64], layout=words), u4, layout=nibbles))
}}

program pack(C: global(u4)[N], W: out(global(u32))[N / 8])
  grid (ceil_div(N, 512)) threads 32 where N % 8 == 0
{{
  n = block_index() * 64
  store(W[n +: 64], view(load(C[8 * n +: 512], layout=nibbles), u32, layout=words))
}}
"""

# Which element each nibble of a word holds, from the lowest nibble up, and the layout that says so.
ORDERS = {
    "in order": ((0, 1, 2, 3, 4, 5, 6, 7), "local(8)"),
    "AWQ": ((0, 2, 4, 6, 1, 3, 5, 7), "column_local(4, 2).reshape(8)"),
    "halves": ((0, 4, 1, 5, 2, 6, 3, 7), "column_local(2, 4).reshape(8)"),
    "reversed pairs of pairs": ((0, 1, 4, 5, 2, 3, 6, 7), "column_local(2, 2).local(1, 2)"
                                                          ".reshape(8)"),
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
def test_interleaved_nibbles_are_a_layout(order):
    positions, nibbles = ORDERS[order]
    elements = np.random.default_rng(8).integers(0, 16, (131, 8))
    words = sum(
        elements[:, element].astype(np.uint64) << np.uint64(4 * nibble)
        for nibble, element in enumerate(positions)
    ).astype(np.uint32)
    module = parse(INTERLEAVED.format(order=order, nibbles=nibbles))
    unpacked = run(module["unpack"].instantiate(), {"W": words, "N": 8 * 131, "C": None})
    assert unpacked.outputs["C"].codes().tolist() == elements.reshape(-1).tolist()
    given = Tensor.from_codes("u4", elements.reshape(-1))
    packed = run(module["pack"].instantiate(), {"C": given, "W": None})
    assert packed.outputs["W"].values().tolist() == words.tolist()


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_any_order_of_the_bits_of_bytes_is_a_layout(order, seed):
    """The 32 bits of four bytes, in any order of the five binary digits of a bit's position, seen
    as eight 4-bit elements: views as u1 on both sides of one relayout."""
    # A register layout whose slot digits, slowest first, are these digits of the bit's number.
    slots = f"register_layout(shape=[32], modes=[2, 2, 2, 2, 2], spatial=[-32], local={order})"
    text = f"""vm 1
program f(X: global(u8)[4], C: out(global(u4))[8]) grid (1) threads 32 {{
  bits = view(load(X, layout=replicated(32).local(4)), u1, layout={slots})
  ordered = relayout(bits, replicated(32).local(32))
  store(C, view(ordered, u4, layout=replicated(32).local(8)))
}}"""
    given = np.random.default_rng(seed).integers(0, 256, 4).astype(np.uint8)
    got = run(parse(text)["f"].instantiate(), {"X": given, "C": None}).outputs["C"].codes()
    bits = [int(given[i // 8]) >> i % 8 & 1 for i in range(32)]
    placed = [0] * 32
    for slot in range(32):
        # Digit j of the slot (slowest first) is digit order[j] of the element's position.
        digit = {order[j]: slot >> (4 - j) & 1 for j in range(5)}
        placed[sum(digit[j] << (4 - j) for j in range(5))] = bits[slot]
    assert got.tolist() == [sum(placed[4 * i + b] << b for b in range(4)) for i in range(8)]
