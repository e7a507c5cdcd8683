"""Casts written as instructions on words: every shape that registers have, against the cast itself,
on the reference machine and on the emulator; and each instruction in C++."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.compiler import translation
from tests.spec import table_words
from vm.compiler import casts
from vm.compiler.facts import ALIGNED
from vm.compiler.pipeline import stages, target
from vm.compiler.words import EXPANDED
from vm.isa import control
from vm.isa.dtypes import dtype
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.nvidia_words import WordInstruction
from vm.isa.packing import pack_rows
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime import reference, sass
from vm.runtime.cache import Cache
from vm.runtime.compiled import cubin_of, run_on_emulator

emulator = partial(run_on_emulator, optimization=0)


def words_of(kernel, name: str = "sm_80"):
    """The kernel behind the last pass."""
    return stages(kernel, target(name))["words"]


def is_expanded(kernel) -> bool:
    return not any(isinstance(i, EXPANDED) for i in control.walk(kernel.body))


def instructions(kernel) -> list[WordInstruction]:
    return [i for i in control.walk(kernel.body) if isinstance(i, WordInstruction)]


# (source, target, shape, layout): slots that fill words in one group, in several, and not at all;
# an odd number of them; elements that several threads hold.
SHAPES = [
    ("u4", "f16", "[32, 8]", "spatial(32, 1).local(1, 8)"),
    ("u3", "f16", "[32, 64]", "spatial(32, 1).local(1, 64)"),
    ("u4", "f16", "[32, 3]", "spatial(32, 1).local(1, 3)"),
    ("i5", "bf16", "[32, 7]", "spatial(32, 1).local(1, 7)"),
    ("u8", "bf16", "[32, 1]", "spatial(32, 1).local(1, 1)"),
    ("u4", "f16", "[8, 4]", "spatial(8, 1).local(1, 4).replicated(4)"),
    ("f6e3m2", "f16", "[4, 48]", "replicated(8).spatial(4, 1).local(1, 48)"),
    ("f4e2m1", "bf16", "[32, 16]", "column_spatial(32, 1).local(1, 16)"),
]


def program(*cases: tuple[str, str, str, str]):
    """A program with an output for each cast; one of them is assigned to a variable."""
    parameters, body = [], []
    for k, (source, kind, shape, layout) in enumerate(cases):
        parameters += [f"X{k}: global({source}){shape}", f"Y{k}: out(global({kind})){shape}"]
        body += [f"x{k} = cast(load(X{k}, layout={layout}), {kind})", f"store(Y{k}, x{k})"]
    return parse(
        f"vm 1\nprogram casts({', '.join(parameters)}) grid (1) threads 32 {{\n"
        + "\n".join(body) + "\n}"
    )["casts"].instantiate()  # fmt: skip


def test_registers_of_every_shape():
    kernel = program(*SHAPES)
    after = words_of(kernel)
    assert is_expanded(after)
    translation.assert_text("casts", after)
    generator = np.random.default_rng(8)
    arguments = {}
    for parameter in kernel.parameters:
        kind, shape = parameter.type.dtype, parameter.type.shape
        codes = generator.integers(0, 1 << min(kind.bits, 8), shape).astype(kind.storage)
        if parameter.type.access == "out":
            arguments[parameter.name] = Tensor(kind, shape, np.zeros(shape, kind.memory))
        else:
            storage = pack_rows(codes, kind).view(kind.memory)
            arguments[parameter.name] = Tensor(kind, shape, storage)
    expected = reference.run(kernel, translation.copied(arguments)).outputs
    assert all(tensor.codes().any() for tensor in expected.values())
    for each, run in ((after, reference.run), (kernel, emulator)):
        found = run(each, translation.copied(arguments)).outputs
        translation.assert_same("words", expected, found)


def test_copies_that_only_computation_knows():
    """Threads that compute the same hold copies in the result, and not in what is cast."""
    kernel = parse("""vm 1
program same(n: i32, Y: out(global(f16))[8]) grid (1) threads 32 {
  x = fill(cast(n, u4), u4, [256], layout=spatial(32).local(8))
  y = nv.dequantize(x, f16, [0, 1, 2, 3, 4, 5, 6, 7], replicated(32).local(8), offset=4)
  store(Y, y)
}
""")["same"].instantiate()
    after = words_of(kernel)
    assert is_expanded(after) and not instructions(after)
    for each, run in ((kernel, reference.run), (after, reference.run), (kernel, emulator)):
        outputs = run(each, {"n": 13, "Y": np.zeros(8, np.float16)}).outputs
        assert outputs["Y"].values().tolist() == [9.0] * 8


@pytest.mark.parametrize("slots", [8, 64])
def test_a_step_is_one_instruction_for_all_groups(slots):
    kernel = program(("u4", "f16", f"[32, {slots}]", f"spatial(32, 1).local(1, {slots})"))
    steps = casts.plan(dtype("u4"), dtype("f16"), tuple(range(slots)), slots).choice.steps
    made = instructions(words_of(kernel))
    assert len(made) == steps.cost == 12
    assert {i.result.type.layout.slots for i in made} == {slots // 8}


# Written by hand, without a short way: to f32, less a number; of exponents that f16 lacks.
GENERAL = """vm 1
program general(X: global(u4)[32, 3], Z: global(f8e5m2)[32, 4], Y: out(global(f32))[32, 3],
                W: out(global(bf16))[32, 4])
  grid (1) threads 32
{
  var y: register(f32, layout=spatial(32, 1).local(1, 3))[32, 3]
  x = load(X, layout=spatial(32, 1).local(1, 3))
  y := nv.dequantize(x, f32, [2, 0, 1], spatial(32, 1).local(1, 3), offset=5)
  store(Y, y)
  z = load(Z, layout=spatial(32, 1).local(1, 4))
  store(W, nv.dequantize(z, bf16, [0, 1, 2, 3], spatial(32, 1).local(1, 4)))
}
"""


def test_what_has_no_short_way_is_cast_number_by_number():
    kernel = parse(GENERAL)["general"].instantiate()
    after = words_of(kernel)
    assert is_expanded(after) and not instructions(after)
    x = np.arange(96, dtype=np.uint8).reshape(32, 3) % 16
    z = np.arange(128, dtype=np.uint8).reshape(32, 4) % 0x7C  # finite
    u4, f8 = dtype("u4"), dtype("f8e5m2")
    for each, run in ((kernel, reference.run), (after, reference.run), (kernel, emulator)):
        outputs = run(each, {
            "X": Tensor(u4, x.shape, pack_rows(x, u4)), "Z": Tensor(f8, z.shape, z.copy()),
            "Y": Tensor(dtype("f32"), x.shape, np.zeros(x.shape, np.float32)),
            "W": Tensor(dtype("bf16"), z.shape, np.zeros(z.shape, dtype("bf16").memory)),
        }).outputs  # fmt: skip
        assert (outputs["Y"].values() == x[:, [2, 0, 1]].astype(int) - 5).all()
        assert (outputs["W"].values() == f8.decode(z)).all()


# Each instruction on words of a thread's own, on registers of several, and with a scalar.
EVERY = """vm 1
program every(A: global(u32)[64], X: global(f32)[64], n: u32, C: out(global(u32))[ROWS, 64],
              D: out(global(u32))[ROWS, 32])
  grid (1) threads 32
{
  a = load(A, layout=spatial(32).local(2))
  x = load(X, layout=spatial(32).local(2))
  held = shared_alloc(u32, [3, 32], address=0)
  nv.store_shared(thread_index() * 4, a, plus=128)
  nv.store_shared(thread_index() * 4, a, at=4, plus=256)
  synchronize()
BODY}
"""
CALLS = [
    *(f"nv.lop3({{a}}, n, 0x00FF00FF, {table:#x})" for table in (0xC0, 0xEA, 0x6A, 0xE4)),
    *(f"nv.prmt({{a}}, n, {selector:#x})" for selector in (0x3210, 0xF5C6, 0x8A9B)),
    "nv.prmt(0x80FF7F01, 7, {a})", "nv.shift_left({a}, 5)", "nv.shift_right({a}, 5)",
    "nv.shift_right({a}, 5, signed=true)", "nv.funnel_shift({a}, n, 13)",
    "nv.funnel_shift(n, {a}, 0)",
    *(f"nv.half2_{op}({{a}}, {more}, {kind})" for kind in ("f16", "bf16")
      for op, more in (("add", "0x3C013F81"), ("mul", "{a}"), ("fma", "0x3C013F81, n"))),
    *(f"nv.half2_fma({{a}}, 0x3C013F81, n, {kind}, negated=true)" for kind in ("f16", "bf16")),
    "nv.half2_exceeds({a}, 0x30013601, f16)", "nv.look_up({a}, address=128, entries=2)",
    *(f"nv.cvt_pack({{x}}, 2.5, {kind})" for kind in ("f16", "bf16", "f8e4m3", "f8e5m2")),
    'nv.cvt_pack(1e9, {x}, f16, overflow="ieee")',
    *(f"nv.cvt_f8x2_to_half2({{a}}, {kind})" for kind in ("f8e4m3", "f8e5m2")),
    *(f"nv.cvt_half2_to_f8x2({{a}}, {kind})" for kind in ("f8e4m3", "f8e5m2")),
]  # fmt: skip


def every():
    """The program with all calls."""
    body = ["  b = pick(a, [1], spatial(32))", "  y = pick(x, [0], spatial(32))"]
    for row, call in enumerate(CALLS):
        body.append(f"  store(C[{row}, 0 +: 64], {call.format(a='a', x='x')})")
        body.append(f"  store(D[{row}, 0 +: 32], {call.format(a='b', x='y')})")
    text = EVERY.replace("BODY", "\n".join(body)).replace("ROWS", str(len(CALLS)))
    return parse(text)["every"].instantiate()


def outputs_of_every(run) -> list[np.ndarray]:
    """What an executor gives for it."""
    # Halves that are numbers in every dtype: no NaN, whose bits are free.
    words = np.array(table_words.scattered(64, 5), np.uint32) & np.uint32(0x3BBB3BBB)
    words |= np.array(table_words.scattered(64, 6), np.uint32) & np.uint32(0x80008000)
    numbers = (np.arange(64, dtype=np.float32) - 30) ** 5 / 64
    arguments = {"A": words, "X": numbers, "n": 0x3C5B9B67}
    for name, width in (("C", 64), ("D", 32)):
        arguments[name] = np.zeros((len(CALLS), width), np.uint32)
    outputs = run(every(), arguments).outputs
    return [outputs[name].codes() for name in ("C", "D")]


def assert_every_is_the_same(run) -> None:
    """An executor gives what the reference machine gives."""
    for one, other in zip(outputs_of_every(reference.run), outputs_of_every(run), strict=True):
        for call, a, b in zip(CALLS, one, other, strict=True):
            assert a.any() and (a == b).all(), call


def test_every_instruction_in_cpp():
    kinds = {kind for kind in INSTRUCTIONS.values() if issubclass(kind, WordInstruction)}
    assert {type(i) for i in instructions(every())} == kinds
    assert_every_is_the_same(emulator)


# How many such instructions two words of a thread are, one of which the calls on one word share.
# One more gives the scalar of bf16 a minus sign. Conversions of f8 are more below sm_89; a shift by
# 0 is none, and one to the left is a product.
HALVES = r"HADD2(?!\.F32)|HMUL2|HFMA2"
MACHINE = {
    "sm_80": {HALVES: 2 * 8 + 1, "LDS": 2, r"HSET2": 2},
    "sm_90a": {HALVES: 2 * 8 + 1, "PRMT": 2 * 4, r"SHF\.R": 2 * 3, "F2FP": 2 * 9, "LDS": 2},
}


@pytest.mark.parametrize("name", MACHINE)
def test_every_instruction_is_one_of_the_machine(name, tmp_path):
    code = sass.disassemble(cubin_of(every(), name, ALIGNED, Cache(tmp_path)).payload)
    for pattern, count in MACHINE[name].items():
        assert sass.instruction_counts(code, pattern).total() == count, pattern
