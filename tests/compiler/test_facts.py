"""What is known about integers holds for all of them: brute force over small values."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.compiler.facts import ALIGNED, NONE, Facts
from vm.isa import control
from vm.isa.instruction import INSTRUCTIONS
from vm.isa.kernel import Kernel
from vm.isa.program import parse
from vm.isa.types import Immediate, Value

HEADER = (
    "vm 1\nprogram p(A: global(f16)[M, N], B: global(u4)[K], n: i32, m: i32) grid (M)\n"
    "  threads 64 where {where}\n{{\n{body}\n}}\n"
)


def kernel_of(body: str, where: str = "M > 0") -> Kernel:
    return parse(HEADER.format(where=where, body=body))["p"].instantiate()


def facts_of(kernel: Kernel, variant: str = NONE) -> tuple[Facts, dict[str, Value]]:
    """Facts with the definitions of the kernel, and its values by name."""
    facts = Facts(kernel, variant)
    for size in kernel.sizes:
        facts.know_natural(size)
    named = {value.name: value for value in (*kernel.parameters, *kernel.sizes)}
    for instruction in control.walk(kernel.body):
        facts.define(instruction)
        named |= {value.name: value for value in instruction.results if value.name}
    return facts, named


# --- divisors and signs: every expression, all small values ---
_OPERATIONS = ("add", "sub", "mul", "div", "mod", "min", "max", "ceil_div")


@st.composite
def expressions(draw, depth: int = 3) -> str:
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(("M", "N", "n", "m", "1", "2", "3", "4", "8", "12")))
    operation = draw(st.sampled_from(_OPERATIONS))
    left = draw(expressions(depth=depth - 1))
    divides = operation in ("div", "mod", "ceil_div")
    right = draw(st.sampled_from(("2", "3", "4", "8")) if divides else expressions(depth=depth - 1))
    return f"{operation}({left}, {right})"


def value_of(operand, facts: Facts, values: dict[str, int]) -> int:
    """What an operand comes to, by the instructions' own folding of numbers."""
    if isinstance(operand, Immediate):
        return int(operand.value)
    made = facts.definitions.get(operand)
    if made is None:
        return values[operand.name]
    numbers = [value_of(o, facts, values) for o in made.operands()]
    return int(INSTRUCTIONS[made.opcode].fold(*numbers))


@settings(max_examples=150, deadline=None)
@given(expressions())
def test_divisors_and_signs_hold_for_every_small_value(text):
    kernel = kernel_of(f"  e = add({text}, m)\n  f = mul(e, 1)\n  print(e); print(f)",
                       "M % 4 == 0, N % 6 == 0")  # fmt: skip
    facts, _ = facts_of(kernel)
    derived = [v for v in facts.definitions if v.type.space == "scalar"]
    if not derived:
        return
    known = {v: (facts.divisor(v), facts.is_natural(v)) for v in derived}
    for size, other, n, m in itertools.product((0, 4, 8, 12), (0, 6, 18), (-3, 0, 5), (-4, 7)):
        values = {"M": size, "N": other, "K": 1, "n": n, "m": m}
        for operand, (divisor, natural) in known.items():
            number = value_of(operand, facts, values)
            assert number == 0 if divisor == 0 else number % divisor == 0
            assert number >= 0 or not natural


def test_what_is_known_is_not_nothing():
    kernel = kernel_of(
        "  a = N * 4; b = M + 8; c = M / 2; d = max(n, 3); e = block_index() * 64; g = N % 16\n"
        "  f = e + M\n  print(a); print(b); print(c); print(d); print(f); print(g)",
        "M % 4 == 0, N % 6 == 0",
    )
    facts, named = facts_of(kernel)
    divisors = {name: facts.divisor(named[name]) for name in "abcdefg"}
    assert divisors == {"a": 24, "b": 4, "c": 2, "d": 1, "e": 64, "f": 4, "g": 2}
    assert all(facts.is_natural(named[name]) for name in "abcdefg")
    assert not facts.is_natural(named["n"])
    assert facts.divides(8, named["a"])
    assert not facts.divides(16, named["a"])


# --- variants ---
def test_the_aligned_variant_assumes_whole_rows_and_begins():
    kernel = kernel_of("  print(N)")
    known, named = facts_of(kernel, ALIGNED)
    assert known.alignment(named["A"]) == 16
    assert known.divisor(named["N"]) == 8  # 16 bytes of f16
    assert known.divisor(named["M"]) == 1
    assert known.divisor(named["K"]) == 1  # one row needs no pitch
    nothing, named = facts_of(kernel, NONE)
    assert nothing.alignment(named["A"]) == 2
    assert nothing.alignment(named["B"]) == 1
    assert nothing.divisor(named["N"]) == 1


def test_facts_of_the_program_hold_in_every_variant():
    kernel = kernel_of("  print(N)", "N % 12 == 0, aligned(A, 32)")
    for variant, divisor in ((NONE, 12), (ALIGNED, 24)):
        facts, named = facts_of(kernel, variant)
        assert facts.alignment(named["A"]) == 32
        assert facts.divisor(named["N"]) == divisor


# --- tiles that fit ---
def fits(offset: str, extent: int, whole: str, grid: str, where: str = "M > 0") -> bool:
    """Whether a tile at an offset is known to lie inside, for the first block index."""
    text = (
        f"vm 1\nprogram p(A: global(f16)[M, N]) grid ({grid}) threads 64 where {where}\n"
        f"{{\n  i = block_index(); w = {whole} + 0; g = {grid} + 0; o = {offset}\n"
        "  print(o); print(w); print(g)\n}\n"
    )
    kernel = parse(text)["p"].instantiate()
    facts, named = facts_of(kernel)
    facts.grid = (_plain(facts, named["g"]),)
    return facts.fits(named.get("o", named["i"]), extent, _plain(facts, named["w"]))


def _plain(facts: Facts, value: Value):
    """x + 0 as x, which the rewriter would have made of it."""
    made = facts.definitions.get(value)
    zero = made is not None and made.opcode == "add" and getattr(made.y, "value", 1) == 0
    return made.x if zero else value


@pytest.mark.parametrize(
    ("offset", "extent", "whole", "grid", "where", "known"),
    [
        ("i * 64", 64, "M", "M / 64", "M % 64 == 0", True),
        ("i * 64", 64, "M", "M / 64", "M > 0", True),  # the last tile ends before M
        ("i * 64", 65, "M", "M / 64", "M > 0", False),
        ("i * 64", 64, "M", "ceil_div(M, 64)", "M > 0", False),
        ("i * 64", 64, "M", "ceil_div(M, 64)", "M % 64 == 0", True),
        ("i * 32", 32, "M", "M / 64", "M > 0", False),
        ("i * 64", 64, "N", "M / 64", "M > 0", False),
        ("i", 1, "M", "M", "M > 0", True),
        ("i", 2, "M", "M", "M > 0", False),
        ("i + 1", 1, "M", "M", "M > 0", False),
        ("i - 1", 1, "M", "M", "M > 0", False),
    ],
)
def test_tiles_that_are_known_to_fit_do(offset, extent, whole, grid, where, known):
    assert fits(offset, extent, whole, grid, where) == known
    if not known:
        return
    for m in range(1, 400):
        if m % 64 and "% 64" in where:
            continue
        blocks = {"M / 64": m // 64, "ceil_div(M, 64)": -(-m // 64), "M": m}[grid]
        for i in range(blocks):
            at = eval(offset, {"i": i})
            assert at >= 0
            assert at + extent <= m


def test_constants_fit_by_their_numbers():
    facts, _ = facts_of(kernel_of("  print(N)"))
    for offset, extent, whole in itertools.product(range(-2, 5), range(1, 4), range(6)):
        inside = offset >= 0 and offset + extent <= whole
        assert facts.fits(Immediate(offset), extent, Immediate(whole)) == inside


@pytest.mark.parametrize(
    ("name", "known"),
    [("u3", 1), ("i8", 1), ("f16", 2), ("f32", 4), ("i64", 8), ("u40", 1), ("u48", 2), ("i63", 1)],
)
def test_elements_lie_at_powers_of_two_of_bytes(name, known):
    text = f"vm 1\nprogram p(A: global({name})[N]) grid (1) threads 32 {{ exit() }}\n"
    kernel = parse(text)["p"].instantiate()
    assert Facts(kernel, NONE).alignment(kernel.parameters[0]) == known
