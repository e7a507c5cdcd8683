"""What selection keeps, asks and tells."""

from __future__ import annotations

import pytest

from vm.compiler import pipeline
from vm.compiler.facts import NONE, VARIANTS
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.program import parse
from vm.isa.types import RegisterType


def lowered(body: str, variant: str = NONE, grid: str = "1", where: str = "M > 0") -> Kernel:
    text = (
        "vm 1\nprogram p(A: global(f32)[M, N], C: inout(global(f32))[M, N], n: i32)\n"
        f"  grid ({grid}) threads 64 where {where}\n{{\n{body}\n}}\n"
    )
    return pipeline.lower(parse(text)["p"].instantiate(), pipeline.target("sm_80"), variant).kernel


def all_of(kernel: Kernel, opcode: str) -> list:
    return [i for i in control.walk(kernel.body) if i.opcode == opcode]


def test_nothing_but_slots_threads_and_machine_instructions_is_left():
    kernel = lowered(
        "  x = load(A[0 +: 8, 0 +: 8])\n  y = reduce(transpose(x), 0, op=\"max\")\n"
        "  store(C[0 +: 8, 0 +: 8], x + broadcast(y, [8, 8]))"
    )
    core = {"load", "store", "reduce", "transpose", "broadcast", "relayout", "reshape", "dot"}
    assert not core & {i.opcode for i in control.walk(kernel.body)}
    for instruction in control.walk(kernel.body):
        for value in instruction.results:
            assert not isinstance(value.type, RegisterType) or value.type.layout is not None


@pytest.mark.parametrize(
    ("grid", "where", "masked"),
    [
        ("ceil_div(M, 8)", "M > 0", True),
        ("ceil_div(M, 8)", "M % 8 == 0", False),
        ("M / 8", "M > 0", False),
    ],
)
def test_rows_are_masked_only_where_tiles_may_reach_outside(grid, where, masked):
    body = "  i = block_index() * 8\n  store(C[i +: 8, :], load(A[i +: 8, :]))"
    text = (
        "vm 1\nprogram p(A: global(f32)[M, 64], C: inout(global(f32))[M, 64])\n"
        f"  grid ({grid}) threads 64 where {where}\n{{\n{body}\n}}\n"
    )
    kernel = parse(text)["p"].instantiate()
    made = pipeline.lower(kernel, pipeline.target("sm_80"), NONE).kernel
    for opcode in ("nv.load_global", "nv.store_global"):
        assert all((i.predicate is not None) == masked for i in all_of(made, opcode))


def test_a_condition_is_known_where_it_holds():
    body = (
        "  k = block_index()\n"
        "  if k < M {{\n    store(C[k +: 1, 0 +: 64], {value}, inside=false)\n  }}"
    )
    text = (
        "vm 1\nprogram p(C: inout(global(f32))[M, 64]) grid (70) threads 64\n{\n"
        + body.format(value="1.0") + "\n}\n"
    )
    kernel = parse(text)["p"].instantiate()
    made = pipeline.lower(kernel, pipeline.target("sm_80"), NONE).kernel
    assert all(i.predicate is None for i in all_of(made, "nv.store_global"))
    outside = parse(text.replace("k < M", "k < M + 1"))["p"].instantiate()
    made = pipeline.lower(outside, pipeline.target("sm_80"), NONE).kernel
    assert all(i.predicate is not None for i in all_of(made, "nv.store_global"))


def test_one_of_several_copies_is_stored():
    kernel = lowered("  store(C[0 +: 1, 0 +: 4], load(A[0 +: 1, 0 +: 4]), inside=true)")
    assert all(i.predicate is not None for i in all_of(kernel, "nv.store_global"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_choices_name_the_instruction_and_its_place(variant):
    text = (
        "vm 1\nprogram p(A: global(f32)[M, N], C: inout(global(f32))[M, N])\n"
        "  grid (1) threads 32\n{\n  store(C[0 +: 4, 0 +: 8], load(A[0 +: 4, 0 +: 8]))\n}\n"
    )
    kernel = parse(text)["p"].instantiate()
    choices = pipeline.lower(kernel, pipeline.target("sm_80"), variant).choices
    found = [(c.opcode, c.rule, c.origin.line, c.origin.column) for c in choices]
    assert found == [
        ("load", "load_global_vectors", 5, 28),
        ("store", "store_global_vectors", 5, 3),
    ]


def test_memory_of_the_compilers_own_comes_behind_the_authors():
    body = (
        "  s = shared_alloc(f32, [100])\n  store(s, 1.0)\n  synchronize()\n"
        "  x = load(A[0 +: 8, 0 +: 8], layout=spatial(8, 8))\n"
        "  store(C[0 +: 8, 0 +: 8], relayout(x, layout=column_spatial(8, 8)))\n"
        "  print(load(s))"
    )
    text = (
        "vm 1\nprogram p(A: global(f32)[M, N], C: inout(global(f32))[M, N])\n"
        f"  grid (1) threads 64\n{{\n{body}\n}}\n"
    )
    made = pipeline.lower(parse(text)["p"].instantiate(), pipeline.target("sm_80"), NONE)
    # 400 bytes, up to the next multiple of 128, and 64 numbers.
    assert made.shared_bytes == 512 + 256
    # A barrier before it is written and one before it is read.
    assert len(all_of(made.kernel, "synchronize")) == 1 + 2
