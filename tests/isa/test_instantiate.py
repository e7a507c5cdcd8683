"""From program to kernel: what is decided, what is given names and types, and what may not be."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa import generators
from tests.isa.instruction_cases import PROGRAMS
from tests.isa.test_parse import SEEDS, VOCABULARY
from vm.errors import Source, VmError
from vm.isa.kernel import Kernel
from vm.isa.parse import parse_expression
from vm.isa.printer import format_text
from vm.isa.program import Module, parse

TREES = [parse(seed).text for seed in SEEDS]
# Expressions of every kind, most of them in the wrong place wherever they go.
STRANGERS = """-1; 0; 1.5; true; inf; nan; []; [1, 2]; [M, 4]; [1.5]; [true]; [[1], [2]]; "text";
f16; u4; nf4; f16 + 1; bits(f16); 99999999999; 1 << 40; 2147483647; -2147483648; A; A[0, 0];
A[:, :]; A[n]; H; n; x; c; M; M / 2; ceil_div(M, 2); min(1, 2); n + x; -x; ~n; not c;
spatial(32); local(2);
spatial(0); local(0, 3); spatial(32) * local(2); spatial(32) / local(3);
spatial(32).shape;
spatial(32).shape[0]; spatial(32).shape[5]; column_spatial(4, 8); replicated(2); dot_layout;
dot_layout(16, 8, 16, f16); dot_layout(16, 8, 16, f16).c; mma_m16n8k16.a; iota; iota(i32, [4]);
fill(0.0); block_index(); thread_index(); synchronize(); store(A[n, :], 1.0);
load(A[0 +: 16, 0 +: 16]); load(H[0 +: 16, 0 +: 16]); shared_alloc(f32, [4]); div(1, 0); 1 % 0;
register(f32)[4, 4]; global(f32)[M]; shared(f32)[3]; out(global(f32))[M]; floor(inf); 1 << -1"""
POOL = [parse_expression(Source("<pool>", text.strip())) for text in STRANGERS.split(";")]
SIZES = {"M": 4, "N": 128, "K": 128}


def kernel(body: str, parameters: str = "n: i32, c: bool", before: str = "", **constants) -> Kernel:
    text = f"vm 1\n{before}\nprogram f({parameters}) grid (1) threads 32 {{\n{body}\n}}\n"
    return parse(text)["f"].instantiate(**constants)


# --- what is decided now ---
@pytest.mark.parametrize(
    ("body", "same"),
    [
        ("if 2 > 1 { print(n) } else { print(c) }", "print(n)"),
        ("if B == 4 { print(n) }", ""),
        ("if B == 3 and not false { print(n) }", "print(n)"),
        ("for k in range(2) unroll full { print(n + k) }", "print(n + 0); print(n + 1)"),
        ("for k in range(4, 0, -2) unroll full { print(k) }", "print(4); print(2)"),
        ("for k in range(3, 3) { print(k) }", ""),
        ("while false { print(n) }", ""),
        ("x = 2 * B + 1\nprint(x)", "print(7)"),
        ("x = min(B, 2); y = ceil_div(7, x); print(y)", "print(4)"),
        ("print(-7 / 2); print(-7 % 3)", "print(-4); print(2)"),
        ("x = +n; print(x)", "print(n)"),
        ("print(n * 2 + 1)", "t = n * 2; u = t + 1; print(u)"),
        ("var x = n; x := x + 1; print(x)", "var x: i32 = n; x := add(x, 1); print(x)"),
    ],
)  # fmt: skip
def test_decided_at_instantiation(body, same):
    # Tests rule Syntax/kernel.
    assert kernel(body, before="const B = 3").text == kernel(same, before="const B = 3").text


def test_constants_and_sizes_may_be_given():
    # Tests rule Embed/instantiate.
    text = (
        "vm 1\nconst B = 8\nconst T = f16\n"
        "program f(A: global(T)[M, B]) grid (M / B) threads 32 where M % B == 0 {\n"
        "x = load(A[0 +: B, :])\nprint(x)\n}\n"
    )
    module = parse(text)
    assert "load(A[0 +: 8, 0 +: 8])" in str(module["f"].instantiate())
    from vm.isa.dtypes import dtype

    changed = module["f"].instantiate(B=4, T=dtype("f32"), M=64)
    assert "A: global(f32)[64, 4]" in str(changed)
    assert changed.sizes == ()
    assert changed.grid == (16,)
    with pytest.raises(VmError) as caught:
        module["f"].instantiate(B=7, M=64)
    assert caught.value.code == "E0306"


def test_a_value_for_a_name_that_is_nowhere_is_refused():
    text = "vm 1\nconst TILE = 8\nprogram f(A: global(f16)[TILE, N]) grid (N) threads 32 { }\n"
    with pytest.raises(VmError, match="did you mean `TILE`") as caught:
        parse(text)["f"].instantiate(TLIE=8)
    assert caught.value.code == "E0201"
    assert caught.value.origin.line == 3


@pytest.mark.parametrize(
    "body",
    ["n2 = 2 * B\nvar x: register(f32)[n2, 32] = fill(0.0)\nprint(x)",
     "for n2 in range(6, 7) unroll full { var x: register(f32)[n2, 32] = fill(0.0)\nprint(x) }"],
)  # fmt: skip
def test_a_name_for_a_constant_stands_in_the_type_of_a_variable(body):
    same = "var x: register(f32)[6, 32] = fill(0.0)\nprint(x)"
    assert kernel(body, before="const B = 3").text == kernel(same, before="const B = 3").text


def test_a_variable_keeps_its_value_when_it_is_bound():
    made = kernel("var x = n\ny = x\nx := x + 1\nprint(y)")
    assert "copy(x)" in str(made)


def test_a_bound_name_hides_an_instruction_and_layout():
    made = kernel("min = n\nspatial = n + 1\nprint(min + spatial)")
    assert parse(f"vm 1\n{made}")["f"].instantiate() == made


def test_kernels_are_equal_up_to_local_names():
    # Tests rule Syntax/kernel-text.
    assert kernel("x = n + 1\nprint(x)") == kernel("y = n + 1\nprint(y)")
    assert kernel("x = n + 1\nprint(x)") != kernel("x = n + 2\nprint(x)")
    assert len({kernel("x = n\nprint(x)"), kernel("y = n\nprint(y)")}) == 1


def test_names_end_with_their_block():
    made = kernel("if c { x = n; print(x) } else { x = n + 1; print(x) }\nx = 3\nprint(x)")
    assert parse(f"vm 1\n{made.text}")["f"].instantiate().text == made.text


def test_jumps_and_definite_assignment():
    made = kernel(
        "var x: i32\nfor k in range(n) { if c { continue }\nx := k; print(x) }\n"
        "var y: i32\nif c { y := 1 } else { exit() }\nprint(1)"
    )
    assert "continue" in str(made)


# --- every kernel is a program ---
def assert_reads_back(made: Kernel) -> None:
    for text in (made.text, str(made)):
        again = parse(f"vm 1\n{text}")[made.name].instantiate(warp_width=made.warp_width)
        assert again.text == made.text


def test_wide_warps():
    module = parse("vm 1\nprogram f() grid (1) threads 64 { print(thread_index()) }\n")
    assert_reads_back(module["f"].instantiate(warp_width=64))


def instantiate_all(module: Module) -> None:
    for program in module:
        reference = program.definition.kind == "reference"
        made = program.instantiate(**(SIZES if reference else {}))
        assert_reads_back(made)


# --- whatever the program ---
@settings(deadline=None, max_examples=200)
@given(st.randoms(use_true_random=False))
def test_only_vm_errors_escape_from_grafts(random: Random):
    """Expressions are exchanged for others: well formed, and mostly nonsense."""
    text = format_text(generators.graft(random.choice(TREES), random, POOL))
    try:
        instantiate_all(parse(text))
    except VmError as error:
        assert str(error)
        assert error.diagnostics[0].fix
        assert error.origin.line > 0


@settings(deadline=None, max_examples=100)
@given(st.randoms(use_true_random=False))
def test_only_vm_errors_escape_from_mutants(random: Random):
    text = generators.mutate(random.choice(list(PROGRAMS.values())), random, VOCABULARY)
    try:
        instantiate_all(parse(text))
    except VmError as error:
        assert str(error)
