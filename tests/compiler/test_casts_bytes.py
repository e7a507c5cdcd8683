"""Fast casts to eight bits: every rule against `convert`, all codes in all places, in NumPy and on
the emulator; casts of 3-bit tables to pairs, which take the same fields; products of u4 and i8."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from benchmarks.casts import TABLES, dtype_of
from tests.compiler.test_casts import check as check_pairs
from tests.compiler.test_casts import program, rows_of_codes, words_of
from vm.compiler import casts
from vm.compiler.casts_bytes import RULES, ByteProblem
from vm.compiler.casts_rules import Unsuited, apply
from vm.compiler.casts_steps import Steps
from vm.compiler.pipeline import stages, target
from vm.errors import VmError
from vm.isa.conversion import convert
from vm.isa.dtypes import DType, codebook, dtype, known_names
from vm.isa.nvidia_packed import Dequantize
from vm.isa.packing import pack_rows
from vm.isa.program import parse
from vm.isa.static import cast_order
from vm.isa.tensor import Tensor
from vm.runtime import reference
from vm.runtime.compiled import cubin_of, run_on_emulator
from vm.runtime.sass import disassemble, instruction_counts

TARGETS = ("i8", "u8", "f8e4m3", "f8e5m2")
SOURCES = [
    name for name in known_names()
    if dtype(name).bits < 8 and dtype(name).kind in ("unsigned", "signed", "float", "codebook")
]  # fmt: skip


def differences(source: DType, to: DType, offset: int) -> np.ndarray | None:
    """The code that each code becomes, None where some number is none of the target: written
    without the rules' own conditions, from numbers alone."""
    values = source.decode(np.arange(1 << source.bits, dtype=source.storage)).astype(np.float64)
    codes = to.encode(convert(values - offset, dtype("f64"), to))
    exact = (to.decode(codes).astype(np.float64) == values - offset).all()
    return codes if exact and (source.is_integer or not to.is_integer) else None


def check(steps: Steps, wanted: np.ndarray, source: DType, slots: tuple[int, ...],
          held: int) -> None:  # fmt: skip
    codes = rows_of_codes(source, held)
    found = steps.run(words_of(codes, source.bits)).astype("<u4").view(np.uint8)
    assert (found[:, : len(slots)] == wanted[codes][:, list(slots)]).all()


def size_of(source: DType) -> int:
    """Elements that fill words, four or more."""
    return max(4, 32 // int(np.gcd(source.bits, 32)))


@pytest.mark.parametrize("name", SOURCES)
def test_every_code_in_every_place(name):
    """In the order of memory and in that which costs least; what is exact has a fast cast."""
    source, size = dtype(name), size_of(dtype(name))
    for to in map(dtype, TARGETS):
        wanted = differences(source, to, 0)
        for distance in {1, casts.best_distance(source, to, size)}:
            slots = casts.ordered(size, distance, 4)
            choice = casts.choose(source, to, slots, size * source.bits // 32)
            if wanted is not None and choice is not None:
                check(choice.steps, wanted, source, slots, size)
            # Exponents of more bits than the target's, and negative numbers, which u8 has none of.
            slow = source.is_integer and source.bits > 4
            assert wanted is None or choice is not None or slow or source.exponent_bits > 4


@pytest.mark.parametrize("name", ["u1", "u2", "i3", "u4", "i4", "u5", "f4e2m1", "f6e4m1"])
def test_every_rule_that_is_suited(name):
    """Not only the cheapest, and slots in any order, one of them twice."""
    source, size, suited = dtype(name), size_of(dtype(name)), 0
    words = size * source.bits // 32
    generator = np.random.default_rng(source.bits)
    orders = [casts.ordered(size, distance, 4) for distance in (1, 2, 8) if size >= 4 * distance]
    orders.append(tuple(int(slot) for slot in generator.integers(0, size, 8)))
    for to in map(dtype, TARGETS):
        for offset in (0, 1 << source.bits - 1) if source.kind == "unsigned" else (0,):
            for slots in orders:
                quads = tuple(zip(*(slots[lane::4] for lane in range(4)), strict=True))
                for rule in RULES:
                    try:
                        steps = apply(rule, ByteProblem(source, to, words, quads, offset))
                    except Unsuited:
                        continue
                    suited += 1
                    check(steps, differences(source, to, offset), source, slots, size)
    assert suited >= 8


@pytest.mark.parametrize("bits", range(1, 8))
def test_offsets(bits):
    """Half the range is the sign inverted; of at most 4 bits any offset is in a table."""
    source, size = dtype(f"u{bits}"), size_of(dtype(f"u{bits}"))
    for offset in (1 << bits - 1, 3, -5):
        slots = casts.ordered(size, 1, 4)
        choice = casts.choose(source, dtype("i8"), slots, size * bits // 32, offset)
        assert (choice is not None) == (bits <= 4 or offset == 1 << bits - 1)
        if choice is not None:
            check(choice.steps, differences(source, dtype("i8"), offset), source, slots, size)
    assert casts.choose(source, dtype("i8"), slots, size * bits // 32, 200) is None
    assert casts.choose(source, dtype("f8e4m3"), slots, size * bits // 32, 1) is None


# Steps for each element in the order of memory and in the best.
@pytest.mark.parametrize(
    "name, kind, memory, free",
    [
        ("u1", "i8", 1.0, 0.5), ("u2", "i8", 0.8125, 0.4375), ("u3", "i8", 1.25, 0.75),
        ("u4", "i8", 0.625, 0.375), ("u5", "i8", 1.5, 1.125), ("u6", "i8", 1.5, 1.0),
        ("u7", "u8", 1.5, 1.375), ("i3", "i8", 1.375, 1.25), ("i4", "i8", 1.0, 0.75),
        ("i5", "i8", 2.0, 1.625), ("i6", "i8", 2.0, 1.5), ("i7", "i8", 2.0, 1.875),
        ("f3e1m1", "f8e4m3", 1.375, 1.375), ("f4e2m1", "f8e4m3", 1.125, 1.125),
        ("u4", "f8e4m3", 1.125, 1.125), ("f7e4m2", "f8e4m3", 2.0, 1.375),
        ("f6e3m2", "f8e4m3", 3.5, 3.5), ("f6e3m2", "f8e5m2", 2.75, 2.75),
        ("nf4", "f8e4m3", 1.375, 1.375),
    ],
)  # fmt: skip
def test_costs(name, kind, memory, free):
    source, to = dtype(name), dtype(kind)
    assert casts.plan(source, to, tuple(range(32)), 32).cost / 32 <= memory
    slots = casts.ordered(32, casts.best_distance(source, to, 32), 4)
    assert casts.plan(source, to, slots, 32).cost / 32 <= free


def test_codebooks_are_rounded():
    """Entries between numbers of the target; those beyond it are left to the general path."""
    to = dtype("f8e4m3")
    for count in (2, 3, 8, 16):
        source = codebook(f"thirds{count}", np.float32(np.arange(count) / 3 - 1), "f32")
        size = size_of(source)
        choice = casts.choose(source, to, tuple(range(size)), size * source.bits // 32)
        padded = np.append(source.table, np.full((1 << source.bits) - count, np.nan))
        wanted = to.encode(convert(padded, dtype("f64"), to))
        check(choice.steps, wanted, source, tuple(range(size)), size)
    beyond = codebook("beyond", [0.0, 500.0], "f32")
    assert casts.plan(beyond, to, tuple(range(32)), 32) is None


@pytest.mark.parametrize("name", ["f3e1m1", "f3e2m0", "codebook8"])
@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_tables_of_three_bits_to_pairs(name, kind):
    source, to = dtype_of(name), dtype(kind)
    for slots in (tuple(range(32)), casts.ordered(32, 4), (7, 31, 0, 5)):
        choice = casts.choose(source, to, slots, 3)
        check_pairs(choice.steps, source, to, slots, 32)
    assert casts.plan(source, to, tuple(range(32)), 32).cost / 32 <= 2


def test_programs_give_tables_of_any_size():
    for name, table in TABLES.items():
        assert len(set(table)) == len(table) == int(name.removeprefix("codebook"))
        for kind in casts.TARGETS:
            assert casts.is_fast(dtype_of(name), dtype(kind)) == (not dtype(kind).is_integer)


def test_the_order_of_a_cast_is_a_layout():
    """`cast_order` puts what becomes one word some slots apart."""
    # Tests rule Layout/order.
    for name, run in (("u4", 8), ("u3", 32), ("i2", 16), ("u6", 16)):
        layout = cast_order(dtype(name), dtype("i8"), run)
        slots = casts.ordered(run, casts.best_distance(dtype(name), dtype("i8"), run), 4)
        held = [int(column) for _, column in layout.table()[0]]
        assert [held.index(element) for element in range(run)] == list(slots)
    nibbles = cast_order(dtype("u4"), dtype("i8"), 8).table()[0]
    assert [int(column) for _, column in nibbles] == [0, 4, 1, 5, 2, 6, 3, 7]


EMULATED = [
    ("u4", "i8", " - 8"), ("u4", "i8", " - 3"), ("u7", "i8", " - 64"), ("i5", "i8", ""),
    ("f4e2m1", "f8e4m3", ""), ("f6e3m2", "f8e4m3", ""), ("f3e1m1", "f8e5m2", ""),
]  # fmt: skip


@pytest.mark.parametrize("source, kind, offset", EMULATED)
def test_the_emulator_agrees(source, kind, offset):
    """The steps are taken, with the offset in them, and give in C++ what the cast means."""
    given, to, size = dtype(source), dtype(kind), 8
    kernel = program(source, kind, offset, size).instantiate()
    selected = stages(kernel, target("sm_80"))["select"]
    (cast,) = [i for i in selected.body if isinstance(i, Dequantize)]
    assert cast.offset == int(offset.replace("- ", "") or 0)
    codes = np.random.default_rng(5).integers(0, 1 << given.bits, (32, 4 * size))
    storage = pack_rows(codes.astype(given.storage), given)
    wanted = differences(given, to, cast.offset)[codes]
    for run in (reference.run, partial(run_on_emulator, optimization=0)):
        arguments = {"X": Tensor(given, codes.shape, storage.view(given.memory).copy()),
                     "Y": Tensor(to, codes.shape, np.zeros(codes.shape, to.memory))}  # fmt: skip
        found = run(kernel, arguments).outputs["Y"].storage
        assert (found.view(np.uint8) == wanted).all()


@pytest.mark.parametrize(
    "source, kind, offset",
    [("u8", "i8", 128), ("u7", "i8", -1), ("i4", "u8", 0), ("f4e2m1", "i8", 0), ("u5", "f8e4m3", 0),
     ("u4", "i16", 0)],
)  # fmt: skip
def test_what_is_not_exact_is_no_machine_instruction(source, kind, offset):
    text = f"""vm 1
program wrong(Y: out(global({kind}))[64]) grid (1) threads 32 {{
  x = fill(1, {source}, [64], layout=spatial(32).local(2))
  store(Y, nv.dequantize(x, {kind}, [0, 1], spatial(32).local(2), offset={offset}))
}}
"""
    with pytest.raises(VmError) as caught:
        parse(text)["wrong"].instantiate()
    assert caught.value.code == "E0205"


def test_offsets_that_no_rule_takes():
    """The machine instruction has them all the same: one number after the other."""
    kernel = parse("""vm 1
program shifted(Y: out(global(i8))[64]) grid (1) threads 32 {
  x = cast(iota(i32, [64], layout=spatial(32).local(2)) % 32, u5)
  store(Y, nv.dequantize(x, i8, [0, 1], spatial(32).local(2), offset=3))
}
""")["shifted"].instantiate()
    assert casts.plan(dtype("u5"), dtype("i8"), (0, 1), 2, 3) is None
    for run in (reference.run, partial(run_on_emulator, optimization=0)):
        found = run(kernel, {"Y": np.zeros(64, np.int8)}).outputs["Y"].storage
        assert (np.asarray(found) == np.arange(64) % 32 - 3).all()


# --- products of u4 and i8 ---
PRODUCT = """vm 1
layout dots = dot_layout({rows}, 8, {depth}, i8, 1, k_run=8)
layout codes = dots.a / local(1, 32) * cast_order(u4, i8, 32)
layout bytes = packed(codes, u4)
program multiply(Q: global({stored}, X: global(i8)[{depth}, 8], Y: out(global(i32))[{rows}, 8])
  grid (1) threads 32
{{
  q = {loaded}
  x = load(X, layout=dots.b)
  store(Y, {form})
}}
"""
PLAIN, INSIDE = "dot(cast(q, i8), x)", "dot(cast(q, i8) - 8, x)"
OUTSIDE = f"{PLAIN} - dot(fill(8, i8, [16, 256], layout=dots.a), x)"


def product(form: str, rows: int, depth: int, stored: str, loaded: str):
    text = PRODUCT.format(form=form, rows=rows, depth=depth, stored=stored, loaded=loaded)
    return parse(text)["multiply"].instantiate()


def test_offsets_leave_products_of_integers():
    """The sum of (q - 8) x is that of q x less 8 times that of x, to the bit."""
    generator = np.random.default_rng(1)
    codes, x = generator.integers(0, 16, (16, 256)), generator.integers(-128, 128, (256, 8))
    for form in (INSIDE, OUTSIDE):
        kernel = product(form, 16, 256, "u4)[16, 256]", "load(Q, layout=codes)")
        for run in (reference.run, partial(run_on_emulator, optimization=0)):
            arguments = {
                "Q": Tensor(dtype("u4"), codes.shape, pack_rows(codes.astype("u1"), dtype("u4"))),
                "X": x.astype(np.int8), "Y": np.zeros((16, 8), np.int32),
            }  # fmt: skip
            found = np.asarray(run(kernel, arguments).outputs["Y"].storage)
            assert (found == (codes - 8) @ x).all()


def test_weights_of_four_bits_take_an_and_for_four():
    """And a shift for every other four; what else there is, addresses, is little."""
    counted = []
    for depth in (256, 512):
        kernel = product(PLAIN, 64, depth, f"u8)[{32 * depth}]",
                         "view(load(Q, layout=bytes), u4, layout=codes)")  # fmt: skip
        sass = disassemble(cubin_of(kernel, "sm_80", "aligned").payload)
        counted.append(instruction_counts(sass, "(?!LDG|STG|IMMA|BRA|NOP|EXIT)"))
    weights = 64 * 256 // 32
    assert (counted[1] - counted[0]).total() / weights < 0.6
