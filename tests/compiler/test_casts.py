"""Fast casts: every rule against `convert`, on all codes and on random words, in NumPy and on the
emulator; orders, zero points, and what is refused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import benchmarks.casts
from vm.compiler import casts
from vm.compiler.casts_rules import RULES, Problem, Unsuited, apply
from vm.compiler.casts_steps import Steps
from vm.compiler.pipeline import stages, target
from vm.isa.conversion import convert
from vm.isa.dtypes import DType, DTypeError, codebook, dtype, known_names
from vm.isa.nvidia_packed import Dequantize
from vm.isa.nvidia_words import WordInstruction
from vm.isa.packing import pack_rows
from vm.isa.program import parse
from vm.isa.static import cast_order
from vm.isa.tensor import Tensor
from vm.runtime import reference
from vm.runtime.compiled import run_on_emulator

SOURCES = [
    name for name in known_names()
    if dtype(name).bits <= 8 and dtype(name).kind in ("unsigned", "signed", "float", "codebook")
]  # fmt: skip
TARGETS = ("f16", "bf16")
# Codes that need exponents or special numbers of more than one target bit: the general path.
SLOW = {
    *((name, "f16") for name in ("f6e5m0", "f7e5m1", "f7e6m0", "f8e6m1", "f8e7m0")),
    ("f8e5m2", "bf16"),
}  # fmt: skip


def words_of(codes: np.ndarray, bits: int) -> np.ndarray:
    """Rows of codes packed from bit 0 of word 0 up, bit by bit."""
    count = -(-codes.shape[1] * bits // 32)
    spread = (codes[:, :, None].astype(np.uint32) >> np.arange(bits, dtype=np.uint32)) & 1
    flat = spread.reshape(len(codes), -1)
    flat = np.pad(flat, ((0, 0), (0, 32 * count - flat.shape[1])))
    weights = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    return (flat.reshape(len(codes), count, 32) * weights).sum(axis=2, dtype=np.uint32)


def rows_of_codes(source: DType, held: int) -> np.ndarray:
    """Every code in every place, below all zeros, all ones and random neighbours."""
    generator = np.random.default_rng(source.bits)
    every = 1 << source.bits
    random = generator.integers(0, every, (256, held))
    rows = [random]
    for place in range(held):
        for fill in (0, every - 1, None):
            part = np.full((every, held), 0 if fill is None else fill)
            if fill is None:
                part = generator.integers(0, every, (every, held))
            part[:, place] = np.arange(every)
            rows.append(part)
    return np.concatenate(rows)


def halves(words: np.ndarray) -> np.ndarray:
    return np.stack([words & 0xFFFF, words >> 16], axis=-1).reshape(len(words), -1)


def expected(codes: np.ndarray, source: DType, kind: DType, offset: int = 0) -> np.ndarray:
    """The codes of the target, by conversion and exact subtraction."""
    values = convert(source.decode(codes.astype(source.storage)), source, kind)
    if offset:
        values = (values.astype(np.float64) - offset).astype(kind.array)
    return kind.encode(values, "ieee")


def assert_same(found: np.ndarray, wanted: np.ndarray, kind: DType) -> None:
    """Equal codes, or both NaN."""
    nan = np.isnan(kind.decode(wanted).astype(np.float64))
    assert (np.isnan(kind.decode(found.astype(np.uint16)).astype(np.float64)) == nan).all()
    assert (found[~nan] == wanted[~nan]).all()


def check(steps: Steps, source: DType, kind: DType, slots: tuple[int, ...], held: int,
          offset: int = 0) -> None:  # fmt: skip
    codes = rows_of_codes(source, held)
    found = halves(steps.run(words_of(codes, source.bits)))[:, : len(slots)]
    assert_same(found, expected(codes, source, kind, offset)[:, list(slots)], kind)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("name", SOURCES)
def test_every_code_in_every_place(name, kind):
    source, to = dtype(name), dtype(kind)
    size = 32 // np.gcd(source.bits, 32)
    distance = casts.best_distance(source, to, int(size) if size > 1 else 2)
    for slots in {casts.ordered(int(size), 1), casts.ordered(int(size), distance)}:
        choice = casts.choose(source, to, slots, int(size) * source.bits // 32)
        assert (choice is None) == ((name, kind) in SLOW)
        if choice is not None:
            check(choice.steps, source, to, slots, int(size))


@pytest.mark.parametrize("name", ["u2", "u4", "i4", "u8", "i8", "f4e2m1", "f8e3m4", "nf4"])
def test_every_rule_that_is_suited(name):
    """Not only the cheapest: each rule that takes a problem solves it."""
    source, suited = dtype(name), 0
    size = 32 // source.bits
    for kind in map(dtype, TARGETS):
        for distance in (d for d in (1, 2, 4, 8) if size % (2 * d) == 0):
            slots = casts.ordered(size, distance)
            pairs = tuple(zip(slots[::2], slots[1::2], strict=True))
            for rule in RULES:
                try:
                    steps = apply(rule, Problem(source, kind, 1, pairs))
                except Unsuited:
                    continue
                suited += 1
                check(steps, source, kind, slots, size)
    assert suited


@pytest.mark.parametrize("name", ["u1", "u3", "u4", "i4", "u5", "u8", "i8"])
@pytest.mark.parametrize("kind", TARGETS)
def test_zero_points(name, kind):
    source, to = dtype(name), dtype(kind)
    size = 32 // np.gcd(source.bits, 32)
    folded = 0
    for offset in (-1, 1, 7, 8, 15, 16, 100, 128, 300):
        for distance in {1, casts.best_distance(source, to, int(size))}:
            slots = casts.ordered(int(size), distance)
            choice = casts.choose(source, to, slots, size * source.bits // 32, offset)
            if choice is not None:
                folded += 1
                check(choice.steps, source, to, slots, size, offset)
    assert folded >= (2 if kind == "f16" or source.bits < 8 else 1)


def test_arbitrary_orders():
    """Any slots, in any number, one of them twice: nothing but the order of memory is needed."""
    generator = np.random.default_rng(0)
    for name, held in (("u3", 11), ("u4", 16), ("i5", 9), ("f6e3m2", 7), ("u8", 5), ("f8e3m4", 6)):
        source, to = dtype(name), dtype("f16")
        for _ in range(3):
            slots = tuple(int(s) for s in generator.integers(0, held, 7))
            found = casts.plan(source, to, slots, held)
            assert found is not None and found.groups == (0,)
            check(found.choice.steps, source, to, slots, held)


def test_groups_are_cast_alike():
    to = dtype("f16")
    slots = tuple(8 * block + slot for block in (2, 0, 1, 3) for slot in casts.ordered(8, 4))
    found = casts.plan(dtype("u4"), to, slots, 32)
    assert found.groups == (2, 0, 1, 3) and found.choice.steps.words == 1


# Instructions for each element, constants aside: what the issue asks for and what was reached.
@pytest.mark.parametrize(
    "name, kind, run, memory, free",
    [
        ("u4", "f16", 8, 1.5, 1.0),
        ("u8", "f16", 8, 1.0, 1.0),
        ("i4", "f16", 8, 1.5, 1.125),
        ("u4", "bf16", 8, 2.375, 1.375),
        ("i8", "bf16", 8, 2.0, 1.75),
        ("f4e2m1", "f16", 8, 1.625, 1.625),
        ("f8e3m4", "bf16", 8, 2.0, 2.0),
        ("f8e5m2", "f16", 8, 0.5, 0.5),
        ("nf4", "f16", 8, 2.625, 2.625),
    ],
)
def test_costs(name, kind, run, memory, free):
    source, to = dtype(name), dtype(kind)
    found = casts.plan(source, to, tuple(range(run)), run)
    assert found.cost / run <= memory
    distance = casts.best_distance(source, to, run)
    assert casts.plan(source, to, casts.ordered(run, distance), run).cost / run <= free


@pytest.mark.parametrize("name", SOURCES)
def test_integers_and_floats_within_three(name):
    source = dtype(name)
    for kind in map(dtype, TARGETS):
        found = casts.plan(source, kind, tuple(range(32)), 32)
        if found is not None:
            assert found.cost / 32 <= 3


def test_the_order_of_a_cast_is_a_layout():
    """`cast_order` is the layout whose slots `ordered` counts; wrong arguments are refused."""
    # Tests rule Layout/order.
    for name, run in (("u4", 8), ("u3", 32), ("u2", 16), ("u8", 4), ("f6e3m2", 16)):
        source = dtype(name)
        layout = cast_order(source, dtype("f16"), run)
        slots = casts.ordered(run, casts.best_distance(source, dtype("f16"), run))
        assert layout.shape == (1, run) and layout.threads == 1
        held = [int(column) for _, column in layout.table()[0]]
        assert [held.index(element) for element in range(run)] == list(slots)
    for wrong in ((dtype("u4"), dtype("f16"), 7), (dtype("u4"), 16, 8), (4, dtype("f16"), 8)):
        with pytest.raises(DTypeError):
            cast_order(*wrong)


def test_codebooks_of_other_sizes():
    generator = np.random.default_rng(1)
    for count in (2, 3, 4, 11, 16):
        table = tuple(float(v) for v in generator.integers(-1000, 1000, count) / 64)
        source = codebook(f"test{count}", table, "f16")
        size = 32 // source.bits
        for distance in (1, 2):
            slots = casts.ordered(size, distance)
            choice = casts.choose(source, dtype("f16"), slots, 1)
            check(choice.steps, source, dtype("f16"), slots, size)


def program(source: str, kind: str, offset: str, size: int):
    return parse(f"""vm 1
layout spread = spatial(32, 1) * local(1, 4 * {size})
program cast_all(X: global({source})[32, {4 * size}], Y: out(global({kind}))[32, {4 * size}])
  grid (1) threads 32
{{
  x = load(X[0 +: 32, 0 +: {4 * size}], layout=spread)
  store(Y[0 +: 32, 0 +: {4 * size}], cast(x, {kind}){offset})
}}
""").programs["cast_all"]


EMULATED = [
    *((name, "f16", "") for name in ("u1", "u3", "i5", "u6", "i7", "i8", "f6e3m2", "f4e2m1")),
    *((name, "bf16", "") for name in ("u2", "i4", "u7", "u8", "i8", "f8e3m4", "f4e1m2")),
    ("u4", "f16", " - 8.0"), ("u4", "bf16", " - 7.0"), ("u8", "f16", " - 128.0"),
    ("f8e5m2", "f16", ""), ("f8e4m3", "f16", ""), ("f8e4m3", "bf16", ""),
]  # fmt: skip


@pytest.mark.parametrize("source, kind, offset", EMULATED)
def test_the_emulator_agrees(source, kind, offset):
    """The steps are taken, and give in C++ what the reference machine gives."""
    given, to, size = dtype(source), dtype(kind), 8
    kernel = program(source, kind, offset, size).instantiate()
    passes = stages(kernel, target("sm_80"))
    assert any(isinstance(i, Dequantize) for i in passes["select"].body)
    assert any(isinstance(i, WordInstruction) for i in passes["words"].body)
    codes = np.random.default_rng(5).integers(0, 1 << given.bits, (32, 4 * size))
    storage = pack_rows(codes.astype(given.storage), given)
    results = []
    emulator = partial(run_on_emulator, optimization=0)
    for run, each in ((reference.run, kernel), (reference.run, passes["words"]),
                      (emulator, kernel)):  # fmt: skip
        arguments = {"X": Tensor(given, codes.shape, storage.view(given.memory).copy()),
                     "Y": Tensor(to, codes.shape, np.zeros(codes.shape, to.memory))}  # fmt: skip
        results.append(run(each, arguments).outputs["Y"].storage.view(np.uint16))
    number = int(float(offset.replace("- ", "").strip() or 0))
    wanted = expected(codes, given, to, number)
    for found in results:
        assert_same(found, wanted, to)


def test_the_document_comes_from_the_counts():
    """The table is that of the result file, and machine code has few instructions beyond the steps:
    constants that the compiler makes again, in casts with many of them."""
    counts = benchmarks.casts.read()
    text = benchmarks.casts.DOCUMENT.read_text()
    assert benchmarks.casts.refreshed(text, counts) == text
    known = {(c.source, c.target, c.order): c for c in counts if c.architecture == "sm_90a"}
    assert known["u4", "f16", "free"].machine <= 1.01
    assert known["u8", "f16", "memory"].machine <= 1.01
    integers = [c for c in counts if c.target == "f16" and c.source[0] in "ui"]
    assert integers and all(c.machine <= 2 for c in integers)
