"""Shared tensors: layouts without conflicts for the accesses made, addresses without overlap."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.compiler.layouts import infer_layouts
from vm.compiler.shared_memory import plan_shared, planned_bytes, staged
from vm.errors import VmError
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.memory import Load, SharedAllocate, Store
from vm.isa.program import load, parse
from vm.layouts import bank_conflicts, matrix_conflicts, shared

ROOT = Path(__file__).parents[2]
LIMIT = 227 * 1024
HEADER = (
    "vm 1\nprogram p(A: global(f32)[M, N], H: global(f16)[M, N], C: out(global(f32))[M, N], n: i32)"
    " grid (1) threads 128\n{{\n  {body}\n}}\n"
)


def planned(*body: str, limit: int = LIMIT) -> Kernel:
    text = HEADER.format(body="\n  ".join(body))
    return plan_shared(infer_layouts(parse(text)["p"].instantiate()), limit)


def of_program(file: str, name: str) -> Kernel:
    kernel = load(ROOT / f"programs/{file}.vm")[name].instantiate()
    return plan_shared(infer_layouts(kernel), LIMIT)


def allocations(kernel: Kernel) -> dict[str, SharedAllocate]:
    return {
        i.result.name: i for i in control.walk(kernel.body) if isinstance(i, SharedAllocate)
    }


def addresses(kernel: Kernel) -> dict[str, int]:
    return {name: each.address for name, each in allocations(kernel).items()}


def places(instruction: SharedAllocate) -> set[int]:
    """Every bit of shared memory that an element of the tensor takes."""
    bits = instruction.dtype.bits
    first = instruction.layout.offsets().reshape(-1).astype(np.int64) * bits
    return set((8 * instruction.address + first[:, None] + np.arange(bits)).ravel().tolist())


# --- layouts ---
def test_the_operands_of_a_product_are_free_of_conflicts():
    kernel = of_program("matmul_w4a16", "matmul")
    tensors = allocations(kernel)
    (a_load,) = [
        i for i in control.walk(kernel.body) if isinstance(i, Load) and i.source.base.name == "a"
    ]
    one = tensors["a"].layout.select(0, 0)
    report = matrix_conflicts(one, a_load.result.type.layout, "ldmatrix_x4")
    assert report.conflicts == 0
    plain = matrix_conflicts(shared(64, 64), a_load.result.type.layout, "ldmatrix_x4")
    assert plain.conflicts > 0
    assert tensors["p"].layout == shared(4, 4096)


def test_the_other_operand_is_read_transposed_without_conflicts():
    kernel = of_program("matmul_f16", "matmul")
    loads = [
        i for i in control.walk(kernel.body) if isinstance(i, Load) and i.source.base.name == "b"
    ]
    one = allocations(kernel)["b"].layout.select(0, 0)
    assert matrix_conflicts(one, loads[0].result.type.layout, "ldmatrix_x4_trans").conflicts == 0


def test_rows_written_and_columns_read_meet_in_a_swizzle():
    kernel = of_program("transpose", "transpose")
    memory = allocations(kernel)["tile"].layout
    store = next(i for i in control.walk(kernel.body) if isinstance(i, Store))
    fetch = [i for i in control.walk(kernel.body) if isinstance(i, Load)][1]
    written = bank_conflicts(memory, store.value.type.layout, 32, write=True)
    read = bank_conflicts(memory, fetch.result.type.layout, 32)
    plain = bank_conflicts(shared(64, 64), fetch.result.type.layout, 32)
    assert written.conflicts + read.conflicts < plain.conflicts / 4


def test_every_stage_is_swizzled_and_aligned_alike():
    for file in ("matmul_f16", "matmul_w4a16"):
        for each in allocations(of_program(file, "matmul")).values():
            stages = each.layout.offsets()
            for stage in stages:
                assert np.array_equal(stage - stage.min(), stages[0])
                assert stage.min() * each.dtype.bits % 128 == 0


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9)), st.integers(1, 4), st.sampled_from([3, 4, 8]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_stages_do_not_overlap_and_begin_at_16_bytes(shape, count, bits):
    layout = staged(shared(*shape), count, bits)
    assert layout.is_injective()
    assert layout.shape == (count, *shape)
    starts = layout.offsets()[:, 0, 0] * bits
    assert not (starts % 128).any()


def test_a_layout_of_the_author_is_kept():
    written = "shared(16, 32).pad(8)"
    kernel = planned(
        f"s = shared_alloc(f32, [16, 32], layout={written})",
        "store(s, load(A[0 +: 16, 0 +: 32]))",
    )
    assert allocations(kernel)["s"].layout == shared(16, 32).pad(8)
    assert planned_bytes(kernel) == (15 * 40 + 32) * 4


def test_tiles_within_a_tensor_are_planned_for():
    kernel = planned(
        "s = shared_alloc(f16, [2, 64, 64])",
        "store(s[0, 16 +: 16, 0 +: 64], load(H[0 +: 16, 0 +: 64]))",
        "b = load(s[1, 0 +: 16, 0 +: 64])",
        "c = dot(load(H[0 +: 64, 0 +: 16]), b)",
        "store(C[0 +: 64, 0 +: 64], c)",
    )
    fetch = next(
        i for i in control.walk(kernel.body) if isinstance(i, Load) and i.source.base.name == "s"
    )
    part = allocations(kernel)["s"].layout.select(0, 1).slice(0, 0, 16)
    register = fetch.result.type.layout
    assert matrix_conflicts(part, register, "ldmatrix_x4_trans").conflicts == 0


def test_odd_extents_and_unusual_accesses_have_some_layout():
    kernel = planned(
        "s = shared_alloc(f32, [7, 13])", "t = shared_alloc(u4, [3, 10])",
        "u = shared_alloc(f32, [10])", "v = shared_alloc(i32, [4, 6])",
        "store(s[1 +: 5, 0 +: 13], load(A[0 +: 5, 0 +: 13]))",
        "store(t, 3)", "x = load(s[:, 3])", "y = load_scalar(u[n])",
        "z = gather(v, iota(i32, [3]), axis=0)", "print(x)", "print(y)", "print(z)",
    )  # fmt: skip
    for each in allocations(kernel).values():
        assert each.layout.is_injective()


def test_a_layout_that_is_none():
    with pytest.raises(VmError) as raised:
        planned("s = shared_alloc(f32, [8, 4], layout=spatial(8, 4))")
    assert raised.value.code == "E0304"


def test_a_layout_that_puts_two_elements_at_one_place():
    with pytest.raises(VmError) as raised:
        planned("s = shared_alloc(f32, [8, 4], layout=strided([8, 4], [2, 1]))")
    assert raised.value.code == "E0304"
    assert "one place" in str(raised.value)


# --- addresses ---
def test_what_is_alive_together_does_not_overlap():
    kernel = planned(
        "a = shared_alloc(f32, [100])", "b = shared_alloc(u4, [33])",
        "if n == 0 {", "  c = shared_alloc(f16, [7, 9])", "  store(c, 0.0)", "}",
        "d = shared_alloc(f32, [3])",
    )  # fmt: skip
    found = allocations(kernel)
    for first, second in combinations(found.values(), 2):
        assert not places(first) & places(second)
    assert all(each.address % 128 == 0 for each in found.values())
    last = max(max(places(each)) for each in found.values()) // 8 + 1
    assert planned_bytes(kernel) == last


def test_memory_is_used_again_behind_a_barrier():
    block = ["if n == 0 {", "  {} = shared_alloc(f32, [64])", "  store({}, 0.0)", "}"]

    def named(name: str) -> list[str]:
        return [line.replace("{}", name) for line in block]

    kernel = planned(*named("a"), "synchronize()", *named("b"))
    assert addresses(kernel) == {"a": 0, "b": 0}
    kernel = planned(*named("a"), *named("b"), "synchronize()", *named("c"))
    assert addresses(kernel) == {"a": 0, "b": 256, "c": 0}


def test_a_barrier_in_a_branch_or_a_group_frees_nothing_outside():
    for barrier in ("if n == 1 {\n synchronize()\n }", "group g(warps=1) {\n synchronize()\n }"):
        kernel = planned(
            "if n == 0 {", "  a = shared_alloc(f32, [64])", "  store(a, 0.0)", "}", barrier,
            "b = shared_alloc(f32, [64])",
        )  # fmt: skip
        assert addresses(kernel)["b"] == 256


def test_in_a_loop_the_next_turn_comes_without_a_barrier():
    kernel = planned(
        "for i in range(n) {",
        "  if n == 0 {", "    a = shared_alloc(f32, [64])", "    store(a, 0.0)", "  }",
        "  synchronize()",
        "  b = shared_alloc(f32, [64])", "  store(b, 0.0)",
        "}",
    )  # fmt: skip
    assert addresses(kernel) == {"a": 0, "b": 256}


def test_groups_that_run_side_by_side_share_nothing():
    kernel = planned(
        "group one(warps=1) {", "  a = shared_alloc(f32, [64])", "  store(a, 0.0)", "}",
        "group two(warps=1) {", "  b = shared_alloc(f32, [64])", "  store(b, 0.0)", "}",
        "synchronize()", "c = shared_alloc(f32, [64])",
    )  # fmt: skip
    assert addresses(kernel) == {"a": 0, "b": 256, "c": 0}


def test_a_long_swizzle_begins_at_its_period():
    kernel = planned(
        "a = shared_alloc(u8, [5])",
        "b = shared_alloc(f16, [64, 64], layout=shared(64, 64).swizzle(3, 3, 3))",
    )
    assert addresses(kernel) == {"a": 0, "b": 1024}


def test_too_much_is_told_as_a_table():
    with pytest.raises(VmError) as raised:
        planned("a = shared_alloc(f32, [100])", "b = shared_alloc(f16, [64])", limit=639)
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code == "E0405"
    assert diagnostic.message == "640 bytes of shared memory, 639 are there"
    assert [note.strip() for note in diagnostic.notes] == [
        "400 bytes at       0: a, f32[100], allocated at 4:7",
        "128 bytes at     512: b, f16[64], allocated at 5:7",
    ]
    assert planned_bytes(
        planned("a = shared_alloc(f32, [100])", "b = shared_alloc(f16, [64])", limit=640)
    ) == 640  # fmt: skip


@pytest.mark.parametrize("file", ["matmul_f16", "matmul_w4a16", "transpose", "softmax"])
def test_a_planned_kernel_reads_back_and_is_planned_alike(file):
    module = load(ROOT / f"programs/{file}.vm")
    for program in module:
        if program.definition.kind != "program":
            continue
        kernel = plan_shared(infer_layouts(program.instantiate()), LIMIT)
        again = parse(f"vm 1\n{kernel}")[program.name].instantiate()
        assert again == kernel == plan_shared(again, LIMIT)


def test_a_kernel_without_shared_memory_takes_none():
    assert planned_bytes(planned("store(C[0 +: 8, 0 +: 8], 0.0)")) == 0
