"""Each rule has a program that it does, and one that it refuses for the reason it says."""

from __future__ import annotations

import pytest

from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED, NONE
from vm.compiler.rules import Refused, RuleSet
from vm.compiler.selection import Choice
from vm.errors import VmError
from vm.isa.elementwise import Add, Multiply
from vm.isa.program import parse

PARAMETERS = (
    "A: global(f32)[M, N], H: global(f16)[M, N], U: global(u4)[M, N], I: inout(global(i32))[M, N], "
    "C: out(global(f32))[M, N], D: out(global(f16))[M, N], Q: out(global(u4))[M, N], n: i32"
)
FRAGMENTS = (
    "s = shared_alloc(f16, [16, 16]); store(s, load(H[0 +: 16, 0 +: 16])); synchronize()\n"
    "  b = load(H[0 +: 16, 0 +: 8])\n"
)


def choices(body: str, variant: str = ALIGNED, target: str = "sm_80") -> tuple[Choice, ...]:
    text = f"vm 1\nprogram p({PARAMETERS}) grid (1) threads 32\n{{\n  {body}\n}}\n"
    return pipeline.lower(parse(text)["p"].instantiate(), pipeline.target(target), variant).choices


# (rule, what it does, the arguments' variant)
TAKEN = [
    ("load_global_vectors", "print(load(A[0 +: 4, 0 +: 8]))", NONE),
    ("load_global_bits", "print(cast(load(U[0 +: 4, 1 +: 8]), i32))", NONE),
    ("store_global_vectors", "store(C[0 +: 4, 0 +: 8], load(A[0 +: 4, 0 +: 8]))", NONE),
    ("store_global_bits", "store(Q[0 +: 4, 1 +: 8], load(U[0 +: 4, 1 +: 8]))", NONE),
    ("load_scalar_by_every_thread", "print(load_scalar(A[n, 0]))", NONE),
    ("load_shared_vectors",
     "s = shared_alloc(f32, [4, 8]); store(s, 1.0); synchronize(); print(load(s))", NONE),
    ("store_shared_vectors", "s = shared_alloc(f32, [4, 8]); store(s, 1.0)", NONE),
    ("load_shared_bits",
     "s = shared_alloc(u4, [4, 9]); store(s, load(U[0 +: 4, 0 +: 9])); synchronize()\n"
     "  print(cast(load(s), i32))", NONE),
    ("store_shared_bits", "s = shared_alloc(u4, [4, 9]); store(s, load(U[0 +: 4, 0 +: 9]))", NONE),
    ("load_matrices", FRAGMENTS + "  print(dot(load(s), b))", NONE),
    ("multiply_with_matrix_units", FRAGMENTS + "  print(dot(load(s), b))", NONE),
    ("copy_with_cp_async", "s = shared_alloc(f16, [8, 64]); copy_async(s, H[0 +: 8, 0 +: 64])\n"
     "  commit_async(); wait_async(0)", ALIGNED),
    ("copy_through_registers", "s = shared_alloc(f16, [8, 64]); copy_async(s, H[0 +: 8, 0 +: 64])\n"
     "  commit_async(); wait_async(0)", NONE),
    ("gather_elements",
     "print(gather(A[0 +: 32, 0 +: 8], iota(i32, [4]), axis=0))", NONE),
    ("scatter_elements",
     "scatter(I[0 +: 32, 0 +: 8], iota(i32, [4]), fill(1, i32, [4, 8]), axis=0)", NONE),
    ("atomic_on_global", "atomic(I[0 +: 4, 0 +: 8], iota(i32, [4, 8]))", NONE),
    ("atomic_on_shared", "s = shared_alloc(i32, [4, 8]); store(s, 1); synchronize()\n"
     "  atomic(s, iota(i32, [4, 8]))", NONE),
    ("reduce_slots_then_lanes_then_warps",
     "store(C[0 +: 4, 0 +: 1], reduce(load(A[0 +: 4, 0 +: 8]), 1))", NONE),
    ("relayout_through_shared",
     "x = load(A[0 +: 4, 0 +: 8], layout=spatial(4, 8))\n"
     "  store(C[0 +: 4, 0 +: 8], relayout(x, layout=column_spatial(4, 8)))", NONE),
    ("slots_renamed",
     "x = load(A[0 +: 4, 0 +: 16], layout=spatial(4, 8).local(1, 2))\n"
     "  store(C[0 +: 4, 0 +: 16], relayout(x, layout=spatial(4, 8).local(1, 2)))", NONE),
    ("held_by_every_thread", "print(item(load(A[0 +: 1, 0 +: 1])))", NONE),
    ("positions_of_threads_and_slots", "print(iota(i32, [4, 8], axis=1))", NONE),
    ("axes_renamed", "store(C[0 +: 8, 0 +: 4], transpose(load(A[0 +: 4, 0 +: 8])))", NONE),
    ("extents_renamed", "store(C[0 +: 2, 0 +: 16], reshape(load(A[0 +: 4, 0 +: 8]), [2, 16]))",
     NONE),
    ("slots_repeated", "x = load(A[0 +: 1, 0 +: 8])\n"
     "  store(C[0 +: 4, 0 +: 8], broadcast(x, [4, 8]))", NONE),
    ("slots_repeated_in_a_row", "x = load(A[0 +: 4, 0 +: 8])\n"
     "  store(C[0 +: 4, 0 +: 16], repeat(x, 2, axis=1))", NONE),
    ("part_of_the_workspace", "w = global_alloc(f32, [M, 8]); store(w[0 +: 4, :], 1.0)", NONE),
    ("part_of_the_semaphores", "s = semaphore_alloc([M])", NONE),
    ("one_thread_waits", "s = semaphore_alloc([2]); semaphore_wait(s[1], n)", NONE),
    ("one_thread_signals", "s = semaphore_alloc([2]); semaphore_release(s[n], 0)", NONE),
    ("filled_where_declared", "store(C[0 +: 4, 0 +: 8], fill(1.0, f32, [4, 8]))", NONE),
]  # fmt: skip


MATRIX = "s = shared_alloc(f16, [16, 16], layout=shared(16, 16))\n  "


@pytest.mark.parametrize(
    ("layout", "target", "taken"),
    [
        ("spatial(8, 4).local(2, 4)", "sm_90a", "store_shared_vectors"),
        ("local(2, 2).spatial(8, 4).local(1, 2)", "sm_90a", "store_matrices"),
        ("local(2, 2).spatial(8, 4).local(1, 2)", "sm_80", "store_shared_vectors"),
        ("local(2, 2).column_spatial(4, 8).local(2, 1)", "sm_90a", "store_matrices"),
    ],
)
def test_matrices_are_stored_where_there_is_an_instruction(layout, target, taken):
    body = f"{MATRIX}x = load(H[0 +: 16, 0 +: 16], layout={layout})\n  store(s, x)"
    found = choices(body, NONE, target)
    assert [choice.rule for choice in found if choice.opcode == "store"] == [taken]


@pytest.mark.parametrize(("rule", "body", "variant"), TAKEN, ids=[rule for rule, _, _ in TAKEN])
def test_a_rule_is_taken(rule, body, variant):
    assert rule in [choice.rule for choice in choices(body, variant)]


# (rule, its reason, what it refuses)
REFUSED = [
    ("load_global_vectors", "the elements do not fill bytes",
     "print(cast(load(U[0 +: 4, 1 +: 8]), i32))"),
    ("store_global_vectors", "the elements do not fill bytes",
     "store(Q[0 +: 4, 1 +: 8], load(U[0 +: 4, 1 +: 8]))"),
    ("load_global_vectors", "the tile is in shared memory",
     "s = shared_alloc(u4, [4, 9]); store(s, load(U[0 +: 4, 0 +: 9])); synchronize()\n"
     "  print(cast(load(s), i32))"),
    ("store_shared_vectors", "the elements do not fill bytes",
     "s = shared_alloc(u4, [4, 9]); store(s, load(U[0 +: 4, 0 +: 9]))"),
    ("load_matrices", "the tile is in global memory", "print(load(A[0 +: 4, 0 +: 8]))"),
    ("load_matrices", "matrices have 16-bit elements, two in each word, and belong to warps",
     "s = shared_alloc(f32, [4, 8]); store(s, 1.0); synchronize(); print(load(s))"),
    ("copy_with_cp_async", "no run of 4 bytes is aligned on both sides",
     "s = shared_alloc(f16, [8, 64]); copy_async(s, H[0 +: 8, 1 +: 64])\n"
     "  commit_async(); wait_async(0)"),
    ("copy_with_cp_async", "several threads would copy the same elements",
     "s = shared_alloc(f32, [2, 4]); copy_async(s, A[0 +: 2, 0 +: 4])\n"
     "  commit_async(); wait_async(0)"),
    ("slots_renamed", "column_spatial(4, 8) needs elements of spatial(4, 8) that its threads do "
     "not hold", "x = load(A[0 +: 4, 0 +: 8], layout=spatial(4, 8))\n"
     "  store(C[0 +: 4, 0 +: 8], relayout(x, layout=column_spatial(4, 8)))"),
    ("atomic_on_global", "the tile is in shared memory",
     "s = shared_alloc(i32, [4, 8]); store(s, 1); synchronize()\n  atomic(s, iota(i32, [4, 8]))"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "reason", "body"), REFUSED)
def test_a_rule_refuses_and_says_why(rule, reason, body):
    assert (rule, reason) in [each for choice in choices(body) for each in choice.refused]


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("full = mbarrier_alloc([1]); mbarrier_wait(full[0], 0)",
         "made_by_threads: it needs a capability of 90"),
        ("print(dot(fill(1.0, f8e4m3, [16, 32]), fill(1.0, f8e4m3, [32, 8]), "
         "fill(0.0, f32, [16, 8])))", "for f8e4m3, f8e4m3, f32"),
    ],
)  # fmt: skip
def test_what_no_rule_does_is_an_error_with_all_reasons(body, note):
    text = PARAMETERS.replace("D: out(", "D: inout(")
    program = f"vm 1\nprogram p({text}) grid (1) threads 32\n{{\n  {body}\n}}\n"
    with pytest.raises(VmError) as raised:
        pipeline.lower(parse(program)["p"].instantiate(), pipeline.target("sm_80"))
    assert raised.value.code == "E0901"
    assert any(note in each for each in raised.value.diagnostics[0].notes)


def test_rules_are_asked_in_order_of_rank_and_the_base_is_asked_too():
    base = RuleSet("base")
    family = RuleSet("family", base)

    @base.rule(Add)
    def general(s, i):
        """Slowly."""

    @family.rule(Add, rank=2)
    def last(s, i):
        raise Refused("never")

    @family.rule(Add, Multiply, rank=0)
    def best(s, i):
        """Fast."""

    assert [rule.name for rule in family.of(Add)] == ["best", "general", "last"]
    assert [rule.name for rule in family.of(Multiply)] == ["best"]
    assert [rule.name for rule in base.of(Add)] == ["general"]
    assert family.of(Add)[0].meaning == "Fast."


def test_every_rule_says_what_it_does():
    for target in pipeline.TARGETS.values():
        rules = target.rules
        while rules is not None:
            assert all(rule.meaning for rule in rules.rules)
            rules = rules.base
