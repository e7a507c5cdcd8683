"""Products of fields: the words that are made of them, the order that a packing asks for, and
programs with them against the definition, on the reference machine and on the emulator."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compiler.test_casts import rows_of_codes, words_of
from vm.compiler import casts_fields
from vm.compiler.pipeline import stages, target
from vm.isa.control import walk
from vm.isa.dtypes import DTypeError, dtype
from vm.isa.elementwise import FusedMultiplyAdd, Multiply
from vm.isa.nvidia_packed import Dequantize, Fields
from vm.isa.packing import pack_rows
from vm.isa.program import parse
from vm.isa.static import product_order
from vm.isa.tensor import Tensor
from vm.layouts import dot_layout, local, spatial
from vm.runtime import reference
from vm.runtime.compiled import run_on_emulator

WIDTHS = range(1, 9)


def check(found, bits: int, slots, places, held: int) -> None:
    """The words of a plan for every code: each half is the code, moved up, and nothing else."""
    codes = rows_of_codes(dtype(f"u{bits}"), held)
    words = words_of(codes, bits)
    steps = found.choice.steps
    got = np.concatenate(
        [steps.run(words[:, g * steps.words : (g + 1) * steps.words]) for g in found.groups], axis=1
    )
    wanted = codes[:, list(slots)].astype(np.uint32) << np.repeat(places, 2).astype(np.uint32)
    assert (got == (wanted[:, ::2] | wanted[:, 1::2] << np.uint32(16))).all()


def arranged(bits: int, rows: int, depth: int):
    """(the source's slots in the order of the operand, which row each pair is of, how many)."""
    operand = dot_layout(rows, 8, depth, 16, 1, k_run=depth // 16).a
    held = product_order(operand, dtype(f"u{bits}")).table()[0].tolist()
    asked = operand.table()[0].tolist()
    slots = tuple(held.index(index) for index in asked)
    return slots, tuple(row for row, _ in asked[::2]), len(slots)


# Instructions for two weights in the product order, by bits: of 64 rows (8 of a thread), of 32.
@pytest.mark.parametrize(
    ("bits", "most", "most_32"),
    [(1, 1.07, 1.19), (2, 1.13, 1.13), (3, 1.38, 1.63), (4, 1.25, 1.25), (5, 1.75, 2), (6, 2, 2),
     (7, 2.25, 2.38), (8, 1, 1)],
)  # fmt: skip
def test_the_product_order_takes_few_steps(bits, most, most_32):
    for rows, depth, limit in ((64, 64, most), (32, 64, most_32), (16, 128, 3)):
        slots, classes, held = arranged(bits, rows, depth)
        source = dtype(f"u{bits}")
        found = casts_fields.arrange(source, slots, classes, held)
        assert sorted(found.slots) == list(range(held))
        for k, one in enumerate(classes):
            here = found.pairs[k]
            assert found.slots[2 * here : 2 * here + 2] == slots[2 * k : 2 * k + 2]
            assert found.places[here] == found.places[found.pairs[classes.index(one)]]
        plan = casts_fields.plan(source, found.slots, found.places, held)
        assert plan.cost <= limit * held / 2
        size = 2 * casts_fields.period(source)
        check(plan if held == size else casts_fields.plan(
            source, found.slots[:size], found.places[: size // 2], size
        ), bits, found.slots[:size], found.places[: size // 2], size)  # fmt: skip


@pytest.mark.parametrize("bits", WIDTHS)
def test_fields_from_anywhere_to_any_place(bits):
    """Slots in any order and number, places as they come: every plan is right."""
    generator = np.random.default_rng(bits)
    source = dtype(f"u{bits}")
    for held in (7, 12):
        slots = tuple(int(s) for s in generator.integers(0, held, 8))
        places = tuple(int(p) for p in generator.integers(0, 12 - bits, 4))
        check(casts_fields.plan(source, slots, places, held), bits, slots, places, held)


def test_all_blocks_alike():
    slots, classes, held = arranged(3, 64, 64)
    found = casts_fields.arrange(dtype("u3"), slots, classes, held)
    plan = casts_fields.plan(dtype("u3"), found.slots, found.places, held)
    assert plan.groups == (0, 1, 2, 3)
    check(plan, 3, found.slots, found.places, held)


def test_the_order_is_a_permutation_of_slots():
    """Nothing moves between threads; what has no fields, or too few pairs, stays as it is."""
    for bits in WIDTHS:
        for rows in (16, 32, 48, 64):
            dots = dot_layout(rows, 8, 64, 16, 1, k_run=4)
            for operand, axis in ((dots.a, 1), (dots.b, 0)):
                found = product_order(operand, dtype(f"u{bits}"), axis)
                assert found.shape == operand.shape
                both = zip(found.flat(), operand.flat(), strict=True)
                assert all(sorted(a) == sorted(b) for a, b in both)
    operand = dot_layout(64, 8, 64, 16, 1).a
    for other in ("i4", "f4e2m1", "u9"):
        assert product_order(operand, dtype(other)) == operand
    small = spatial(32, 1) * local(1, 3)
    assert product_order(small, dtype("u4")) == small
    for wrong in ((operand, 4), (4, dtype("u4")), (operand, dtype("u4"), 2)):
        with pytest.raises(DTypeError):
            product_order(*wrong)


def test_rows_that_do_not_lie_alike_have_no_places():
    source = dtype("u4")
    # Both pairs of a row in one word, four bits apart: one place would take two views; other words
    # with other rows at these bits lie differently.
    assert casts_fields.arrange(source, (0, 4, 1, 5, 2, 6, 3, 7), (0, 0, 1, 1), 8) is not None
    mixed = (0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15)
    assert casts_fields.arrange(source, mixed, (0, 0, 1, 1, 1, 1, 0, 0), 16) is None
    assert casts_fields.arrange(source, (0, 8, *range(1, 8), *range(9, 16)), (0,) * 8, 16) is None
    assert casts_fields.arrange(dtype("i4"), tuple(range(8)), (0,) * 4, 8) is None


# --- programs ---
# What makes {y} of the fields {q}.
FORMS = {
    "product": "{y} = dot({q}, x)",
    "added": "{y} = dot({q}, x, load(C))",
    "chain": "{y} = dot({q}, x, dot({q}, x))",
    "scaled": "{y} = fma(dot({q}, x), s, load(C))",
    "times": "{y} = dot({q}, x) * s",
    "plus": "{y} = load(C) + dot({q}, x)",
    "variable": "var {y}: register(f32)[64, 8] = load(C)\n"
                "  for i in range(2) {{ {y} := dot({q}, x, {y}) }}",
}  # fmt: skip
PLAIN, PRODUCT = "dots.a", "product_order(dots.a, SOURCE)"


def program(*forms: str, source: str = "u3", orders: tuple[str, ...] = (PRODUCT,)):
    """A kernel with an output for each form of the product, with each order of the fields."""
    layouts = parameters = text = ""
    for at, order in enumerate(orders):
        layouts += f"layout order{at} = {order}\n"
        text += f"  q{at} = cast(load(Q, layout=order{at}), f16)\n"
        for number, form in enumerate(forms):
            y = f"y{at}_{number}"
            parameters += f", {y.upper()}: out(global(f32))[64, 8]"
            text += f"  {FORMS[form].format(y=y, q=f'q{at}')}\n  store({y.upper()}, {y})\n"
    return parse(f"""vm 1
const SOURCE = {source}
layout dots = dot_layout(64, 8, 64, f16, 1, k_run=4)
{layouts}program multiply(Q: global(SOURCE)[64, 64], X: global(f16)[64, 8], S: global(f16)[64, 1],
  C: global(f32)[64, 8]{parameters})
  grid (1) threads 32
{{
  x = load(X, layout=dots.b)
  s = cast(load(S), f32)
{text}}}
""")["multiply"].instantiate()


def run(kernel, executor, x, s, c) -> list[np.ndarray]:
    kind = kernel.parameters[0].type.dtype
    codes = np.random.default_rng(3).integers(0, 1 << kind.bits, (64, 64)).astype(kind.storage)
    arguments = {
        "Q": Tensor(kind, codes.shape, pack_rows(codes, kind).view(kind.memory).copy()),
        "X": x.astype(np.float16), "S": s.astype(np.float16), "C": c.astype(np.float32),
        **{each.name: np.zeros((64, 8), np.float32) for each in kernel.parameters[4:]},
    }  # fmt: skip
    return [found.storage for found in executor(kernel, arguments).outputs.values()]


def inputs(exact: bool):
    generator = np.random.default_rng(11)
    if exact:  # every sum is a whole number that f32 holds
        return (generator.integers(-8, 9, (64, 8)), generator.integers(1, 9, (64, 1)),
                generator.integers(-99, 99, (64, 8)))  # fmt: skip
    x = generator.standard_normal((64, 8)) * 2.0 ** generator.integers(-20, 10, (64, 8))
    return x, generator.standard_normal((64, 1)), generator.standard_normal((64, 8))


def selected(kernel, name: str = "sm_80"):
    """The kernel with the rules of a target applied."""
    return stages(kernel, target(name))["select"]


def has(kernel, kind) -> bool:
    return any(isinstance(i, kind) for i in walk(kernel.body))


@pytest.mark.parametrize("form", FORMS)
def test_sums_are_scaled_once(form):
    """By an fma that adds, or by what they are multiplied by."""
    lowered = selected(program(form))
    assert has(lowered, Fields) and not has(lowered, Dequantize)
    assert has(lowered, FusedMultiplyAdd) == (form not in ("product", "chain", "times"))
    products = [i for i in walk(lowered.body)
                if isinstance(i, Multiply) and i.x.type.dtype.name == "f32"]  # fmt: skip
    slots = [i.x.type.layout.slots for i in products]
    wanted = {"product": [16], "chain": [16], "times": [8, 16], "scaled": [8]}
    assert slots == wanted.get(form, [])


def test_programs_mean_the_same():
    """Sums that no rounding touches come out to the bit, before and after the rules, and in C++."""
    kernel = program(*FORMS)
    passes = stages(kernel, target("sm_80"))
    values = inputs(exact=True)
    wanted = run(kernel, reference.run, *values)
    assert len(wanted) == len(FORMS) and all(one.any() for one in wanted)
    for each, executor in ((passes["select"], reference.run), (passes["words"], reference.run),
                           (kernel, run_on_emulator)):  # fmt: skip
        for one, other in zip(run(each, executor, *values), wanted, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bits", [3, 6, 8])
def test_rounded_sums_are_those_of_numbers(bits):
    """The same bits as from casts: sums of fields round where sums of numbers round. Subnormal,
    infinite and undefined activations included."""
    x, s, c = inputs(exact=False)
    x[3, 2], x[5, 3], x[7, 4], x[9, 5], x[11, 5] = 2.0**-24, np.inf, np.nan, 65504, -65504
    kernel = program("product", source=f"u{bits}", orders=(PRODUCT, PLAIN))
    lowered = selected(kernel)
    assert has(lowered, Fields) and has(lowered, Dequantize)
    one, other = run(kernel, run_on_emulator, x, s, c)
    nan = np.isnan(one)
    assert nan.any() and not nan.all() and (np.isnan(other) == nan).all()
    assert (one.view(np.uint32)[~nan] == other.view(np.uint32)[~nan]).all()


OPERAND_B = """vm 1
layout dots = dot_layout(16, 64, 64, f16, 1, k_run=4)
layout codes = product_order(dots.b, u4, axis=0)
program multiply(X: global(f16)[16, 64], Q: global(u4)[64, 64], Y: out(global(f32))[16, 64])
  grid (1) threads 32
{
  store(Y, dot(load(X, layout=dots.a), cast(load(Q, layout=codes), f16)))
}
"""


def test_fields_as_the_second_operand():
    """Columns of a fragment belong to several threads: they share a place."""
    kernel = parse(OPERAND_B)["multiply"].instantiate()
    lowered = selected(kernel, "sm_90a")
    assert has(lowered, Fields)
    generator = np.random.default_rng(2)
    x = generator.integers(-9, 10, (16, 64))
    codes = generator.integers(0, 16, (64, 64))
    for executor in (reference.run, run_on_emulator):
        arguments = {
            "X": x.astype(np.float16), "Y": np.zeros((16, 64), np.float32),
            "Q": Tensor(dtype("u4"), codes.shape, pack_rows(codes.astype(np.uint8), dtype("u4"))),
        }  # fmt: skip
        assert (np.asarray(executor(kernel, arguments).outputs["Y"].storage) == x @ codes).all()


FLOATS = """vm 1
const SOURCE = {source}
layout dots = dot_layout(64, 8, 64, f16, 1, k_run=4)
layout by_bit = dots.a.concat(local(bits(SOURCE)))
layout held = bit_order(dots.a, SOURCE, f16, product=true)
program multiply(Q: global(SOURCE)[64, 64], X: global(f16)[64, 8], S: global(f16)[64, 1],
  C: global(f32)[64, 8], Y0: out(global(f32))[64, 8], Y1: out(global(f32))[64, 8],
  Y2: out(global(f32))[64, 8], Y3: out(global(f32))[64, 8]) grid (1) threads 32
{{
  x = load(X, layout=dots.b)
  plain = cast(load(Q, layout=dots.a), f16)
  bits_of_q = relayout(view(load(Q, layout=dots.a), u1, layout=by_bit), held)
  q = cast(view(relayout(bits_of_q, by_bit), SOURCE, layout=dots.a), f16)
  store(Y0, dot(plain, x))
  store(Y1, dot(q, x))
  store(Y2, dot(q * fill(1.0, f16, [64, 64], layout=dots.a), x))
  store(Y3, fma(dot(q, x), cast(load(S), f32), load(C)))
}}
"""


@pytest.mark.parametrize("source", ["f6e3m2", "f8e3m4"])
def test_floats_are_multiplied_as_they_lie(source):
    """In the order of memory and in that of bits: rounded where the numbers' own sums are,
    subnormal codes, infinite activations and NaN of both included. Exact sums are the
    definition's."""
    kernel = parse(FLOATS.format(source=source))["multiply"].instantiate()
    lowered = selected(kernel)
    made = [i for i in walk(lowered.body) if isinstance(i, Fields)]
    # f8e3m4 stays in the order of memory.
    assert {i.source is None for i in made} == {source == "f8e3m4", True}
    assert has(lowered, Dequantize)  # the product of Y2 is of what is not a cast alone
    exact = inputs(exact=True)
    wanted = run(kernel, reference.run, *exact)
    for each, executor in ((lowered, reference.run), (kernel, run_on_emulator)):
        for one, other in zip(run(each, executor, *exact), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    x, s, c = inputs(exact=False)
    x[3, 2], x[5, 3], x[7, 4], x[9, 5], x[11, 5] = 2.0**-24, np.inf, np.nan, 65504, -65504
    found = run(kernel, run_on_emulator, x, s, c)
    nan = np.isnan(found[2])
    assert nan.any() and not nan.all()
    for one in found[:2]:
        assert (np.isnan(one) == nan).all()
        assert (one.view(np.uint32)[~nan] == found[2].view(np.uint32)[~nan]).all()


@pytest.mark.parametrize(
    ("source", "order"),
    [("i4", PLAIN), ("u4", PLAIN), ("f8e4m3", PLAIN),
     ("u4", "dots.a / local(1, 16) * cast_order(SOURCE, f16, 16)")],
)
def test_what_is_not_cheaper_is_cast(source, order):
    lowered = selected(program("product", source=source, orders=(order,)))
    assert has(lowered, Dequantize) and not has(lowered, Fields)
