"""Casts of numbers whose bits lie in an order of their own: the rule against `convert` for every
code, the search for orders, and programs that pack and read on the reference machine and in C++."""

from __future__ import annotations

from functools import partial
from math import gcd

import numpy as np
import pytest

from benchmarks.casts import Case
from tests.compiler.test_casts import (
    SLOW,
    SOURCES,
    assert_same,
    expected,
    halves,
    rows_of_codes,
)
from vm.compiler import casts
from vm.compiler.casts_bit_order import bit_positions
from vm.compiler.casts_bits import moved_bits, moves_bits, places, repeated_part
from vm.compiler.pipeline import stages, target
from vm.isa.control import walk
from vm.isa.dtypes import DType, DTypeError, dtype
from vm.isa.nvidia_packed import Dequantize
from vm.isa.packing import pack_rows
from vm.isa.program import parse
from vm.isa.static import bit_order
from vm.isa.tensor import Tensor
from vm.layouts import dot_layout, local, spatial
from vm.runtime import reference
from vm.runtime.compiled import run_on_emulator

TARGETS = ("f16", "bf16")
MOVED = [
    (name, kind) for kind in TARGETS for name in SOURCES
    if moves_bits(dtype(name), dtype(kind)) and name not in ("i2", "i4", "i6", "i8")
]  # fmt: skip


def words_in_order(codes: np.ndarray, source: DType, bits: tuple[int, ...]) -> np.ndarray:
    """Rows of codes with bit b of each `len(bits)` bits at `bits[b]` of them, as words."""
    spread = (codes[:, :, None].astype(np.uint32) >> np.arange(source.bits, dtype=np.uint32)) & 1
    natural = spread.reshape(len(codes), -1, len(bits))
    held = np.zeros_like(natural)
    held[:, :, list(bits)] = natural
    weights = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    return (held.reshape(len(codes), -1, 32) * weights).sum(axis=2, dtype=np.uint32)


def check(
    source: DType, kind: DType, bits: tuple[int, ...], offset: int = 0, scaled: bool = True
) -> int:
    """The steps give what `convert` gives; how many they are."""
    size = len(bits) // source.bits
    found = casts.plan(source, kind, tuple(range(size)), size, offset, bits, scaled)
    codes = rows_of_codes(source, size)
    made = halves(found.choice.steps.run(words_in_order(codes, source, bits)))[:, :size]
    if scaled:
        wanted = expected(codes, source, kind, offset)
    else:
        numbers = source.decode(codes.astype(source.storage)).astype(np.float64)
        wanted = kind.encode(np.ldexp(numbers, source.bias - kind.bias), "ieee")
    assert_same(made, wanted, kind)
    return found.cost


@pytest.mark.parametrize("name, kind", MOVED)
def test_every_code_in_the_best_order(name, kind):
    source, to = dtype(name), dtype(kind)
    size = casts.block_size(source)
    bits = bit_positions(places(source, to), size * source.bits // 32)
    assert sorted(bits) == list(range(size * source.bits))
    cost = check(source, to, bits)
    if source.is_integer and source.bits < to.mantissa_bits:
        check(source, to, bits, offset=3)
    elif source.kind == "float" and kind == "f16":
        saved = 0 if source.has_nan else size // 2  # a NaN is put in by what multiplies
        assert check(source, to, bits, scaled=False) == cost - saved


@pytest.mark.parametrize(
    "name", ["u5", "i7", *(name for name in SOURCES if dtype(name).kind in ("float", "codebook"))]
)
def test_floats_and_integers_take_two_instructions(name):
    """In the order that costs least, but for a NaN of one and a few orders of 7 bits, which take a
    step more for 32 numbers."""
    source = dtype(name)
    for kind in TARGETS:
        free = Case(name, kind, "free")
        if source.kind == "codebook" or (name, kind) in SLOW:
            assert free.arranged == "memory"
        else:
            most = 96 if source.has_nan else 65 if source.kind == "float" else 64
            assert free.plan().cost <= most


@pytest.mark.parametrize("name, kind", [("f6e3m2", "f16"), ("f3e2m0", "bf16"), ("i5", "bf16"),
                                        ("f8e4m3", "f16"), ("u7", "f16")])  # fmt: skip
def test_any_order_of_bits(name, kind):
    source = dtype(name)
    generator = np.random.default_rng(source.bits)
    for size in {casts.block_size(source), 32 // gcd(source.bits, 32) * 2}:
        check(source, dtype(kind), tuple(map(int, generator.permutation(size * source.bits))))


def test_floats_lie_times_a_power_by_every_rule():
    """Signs copied, tables and moved bits give the same numbers where they are not scaled."""
    kind = dtype("f16")
    for name in ("f4e2m1", "f4e3m0", "f5e2m2", "f8e3m4", "f8e4m3", "f3e2m0"):
        source, held = dtype(name), casts.block_size(dtype(name))
        natural = tuple(range(held * source.bits))
        codes = rows_of_codes(source, held)
        numbers = source.decode(codes.astype(source.storage)).astype(np.float64)
        wanted = kind.encode(np.ldexp(numbers, source.bias - kind.bias), "ieee")
        for bits in ((), natural):
            found = casts.plan(source, kind, tuple(range(held)), held, bits=bits, scaled=False)
            made = found.choice.steps.run(words_in_order(codes, source, natural))
            assert_same(halves(made)[:, :held], wanted, kind)


def test_moved_bits():
    generator = np.random.default_rng(0)
    words = generator.integers(0, 2**32, (20, 3), dtype=np.uint32)
    bits = (words[:, :, None] >> np.arange(32, dtype=np.uint32) & 1).reshape(20, 96)
    for count in (32, 96, 128):
        order = tuple(int(b) for b in generator.integers(0, 96, count))
        made = moved_bits(order, 3).run(words)
        got = (made[:, :, None] >> np.arange(32, dtype=np.uint32) & 1).reshape(20, count)
        assert (got == bits[:, list(order)]).all()
    part = tuple(map(int, generator.permutation(64)))
    assert repeated_part((*part, *(b + 64 for b in part)), 32) == part
    assert repeated_part(part, 32) == part


def test_the_order_of_bits_is_a_layout():
    """The layout whose slots `best_order` gives, of every operand; wrong arguments are refused."""
    # Tests rule Layout/order.
    for name, kind in (("f6e3m2", "f16"), ("u4", "f16"), ("u5", "bf16"), ("nf4", "f16")):
        source, to = dtype(name), dtype(kind)
        for f in (spatial(32, 1) * local(1, 32), dot_layout(16, 8, 64, 16, 1).a, local(3)):
            made = bit_order(f, source, to)
            natural = f.concat(local(source.bits)).flat()
            assert made.shape == (*f.shape, source.bits) and made.threads == f.threads
            bits = casts.best_order(source, to, f.slots).bits
            at = [b // len(bits) * len(bits) + bits[b % len(bits)] for b in range(made.slots)]
            assert (made.flat()[:, at] == natural).all()
    f, u4, f16 = local(8), dtype("u4"), dtype("f16")
    for wrong in ((4, u4, f16), (f, 4, f16), (f, u4, 16), (f, u4, f16, 1)):
        with pytest.raises(DTypeError):
            bit_order(*wrong)


# --- programs ---
def program(source: str, kind: str, order: str = "bit_order(held, SOURCE, TARGET)", more: str = ""):
    """`pack` brings bits to an order, `read` brings them back and casts."""
    return parse(f"""vm 1
const SOURCE = {source}
const TARGET = {kind}
layout held = spatial(32, 1) * local(1, 32)
layout by_bit = held.concat(local(bits(SOURCE)))
layout ordered = {order}
layout bytes = packed(ordered, u1)
const SIZE = 128 * bits(SOURCE)
program pack(X: global(SOURCE)[32, 32], P: out(global(u8))[SIZE]) grid (1) threads 32 {{
  x = view(load(X, layout=held), u1, layout=by_bit)
  store(P, view(relayout(x, ordered), u8, layout=bytes))
}}
program read(P: global(u8)[SIZE], Y: out(global(TARGET))[32, 32]) grid (1) threads 32 {{
  x = view(load(P, layout=bytes), u1, layout=ordered)
  store(Y, cast(view(relayout(x, by_bit), SOURCE, layout=held), TARGET){more})
}}
""")


# Orders that no rule asked for.
SHUFFLED = f"by_bit.reorder({', '.join(map(str, np.random.default_rng(7).permutation(64)))})"
EXCHANGED = "by_bit.reorder(1, 0)"


@pytest.mark.parametrize(
    "name, kind, order, folded",
    [
        ("f6e3m2", "bf16", None, "bits"), ("i8", "f16", SHUFFLED, "bits"),
        ("u4", "f16", None, "slots"), ("f8e5m2", "bf16", None, "natural"),
        ("nf4", "f16", EXCHANGED, None),
    ],
)  # fmt: skip
def test_what_is_packed_is_read(name, kind, order, folded):
    """By the steps where some rule takes the order, bit by bit elsewhere."""
    module = program(name, kind, *([order] if order else []))
    pack, read = module["pack"].instantiate(), module["read"].instantiate()
    given, to = dtype(name), dtype(kind)
    selected = stages(read, target("sm_80"))["select"]
    made = [i for i in walk(selected.body) if isinstance(i, Dequantize)]
    assert len(made) == (folded is not None)
    for each in made:
        assert bool(each.bits) == (folded == "bits")
        assert (each.source is not None) == (folded in ("bits", "slots"))
    codes = np.random.default_rng(5).integers(0, 1 << given.bits, (32, 32))
    if given.has_nan:  # the reference machine holds numbers: of NaN it keeps no sign
        codes[np.isnan(given.decode(codes.astype(given.storage)).astype(float))] = 1
    storage = pack_rows(codes.astype(given.storage), given)
    for run in (reference.run, partial(run_on_emulator, optimization=0)):
        packed = np.zeros(128 * given.bits, np.uint8)
        arguments = {"X": Tensor(given, codes.shape, storage.view(given.memory).copy())}
        packed = run(pack, {**arguments, "P": packed}).outputs["P"].storage
        output = Tensor(to, codes.shape, np.zeros(codes.shape, to.memory))
        found = run(read, {"P": packed.copy(), "Y": output}).outputs["Y"].storage
        assert_same(found.view(to.storage), expected(codes, given, to), to)


def test_zero_points_leave_moved_integers():
    """A whole number that is subtracted is part of the cast of bits."""
    read = program("u6", "bf16", more=" - 31.0")["read"].instantiate()
    selected = stages(read, target("sm_90a"))["select"]
    made = [i for i in walk(selected.body) if isinstance(i, Dequantize)]
    assert [each.offset for each in made if each.bits] == [31]
    bits = casts.best_order(dtype("u6"), dtype("bf16"), 32).bits
    assert check(dtype("u6"), dtype("bf16"), bits, offset=31) == check(
        dtype("u6"), dtype("bf16"), bits
    )
