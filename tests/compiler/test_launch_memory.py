"""Memory that a launch owns, compiled: where it begins, and how blocks wait for each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiler.translation import assert_text
from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED, NONE
from vm.compiler.launch_memory import launch_memory
from vm.errors import VmError
from vm.isa.program import parse
from vm.isa.static import Environment
from vm.isa.static import evaluate as evaluate_static
from vm.runtime import reference
from vm.runtime.compiled import cubin_of, run_on_emulator
from vm.runtime.emulator import EmulatorFault
from vm.runtime.manifest import evaluate
from vm.runtime.sass import disassemble, find_disassembler, instruction_counts

# Each block adds its rows to what the blocks before it left, and the last one writes C.
IN_TURN = """vm 1
program p(A: global(f32)[M, 32], C: out(global(f32))[32]) grid (M / 2) threads {threads} {{
  unused = global_alloc(u3, [M, 5])
  sum = global_alloc(f32, [2, ceil_div(M, M), 32])
  spare = semaphore_alloc([M / 2])
  turn = semaphore_alloc([3, M])
  b = block_index()
  blocks = grid_size()
  var x: register(f32)[32] = load(A[2 * b, :]) + load(A[2 * b + 1, :])
  semaphore_wait(turn[2, 1], b)
  if b > 0 {{
    x := load(sum[1, 0, :]) + x
    synchronize()
  }}
  if b == blocks - 1 {{
    store(C, x)
  }} else {{
    store(sum[1, 0, :], x)
  }}
  semaphore_release(turn[2, 1], (b + 1) % blocks)
}}
"""
TARGETS = {"sm_80": (64, 32), "sm_90a": (64, 32), "gfx942": (128, 64)}
ROWS = np.random.default_rng(3).standard_normal((10, 32)).astype(np.float32)


def in_turn(target: str):
    threads, width = TARGETS[target]
    return parse(IN_TURN.format(threads=threads))["p"].instantiate(warp_width=width)


def wanted() -> np.ndarray:
    total = np.zeros(32, np.float32)
    for block in range(5):
        total = total + (ROWS[2 * block] + ROWS[2 * block + 1])
    return total


@pytest.mark.parametrize("target", TARGETS)
def test_every_pass_keeps_the_meaning_in_every_order(target):
    # Tests rules Exec/nv.wait_for, Exec/nv.signal, Exec/amd.wait_for, Exec/amd.signal.
    for stage, made in pipeline.stages(in_turn(target), pipeline.target(target), NONE).items():
        assert_text(stage, made)
        for schedule in ("program", "reverse", "random:1"):
            report = reference.run(made, {"A": ROWS, "C": None}, schedule=schedule)
            assert np.array_equal(report.outputs["C"].values(), wanted()), stage


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("order", ["forward", "reverse", "random:1", "random:2"])
def test_the_emulator_gives_the_same(target, order):
    report = run_on_emulator(
        in_turn(target), {"A": ROWS, "C": None}, target_name=target, order=order
    )
    assert np.array_equal(report.outputs["C"].values(), wanted())


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_one_thread_acquires_and_one_releases(target):
    assert find_disassembler() is not None
    sass = disassemble(cubin_of(in_turn(target), target, ALIGNED).payload)
    assert sum(instruction_counts(sass, r"LDG.*STRONG\.GPU").values()) == 1
    assert sum(instruction_counts(sass, r"ST(G|)\..*STRONG\.GPU").values()) == 1
    assert sum(instruction_counts(sass, r"MEMBAR.*GPU").values()) >= 1


def source_of(body: str, target: str = "sm_90a", threads: int = 32, width: int = 32) -> str:
    text = f"vm 1\nprogram p(A: global(f32)[64], C: inout(global(f32))[64]) grid (2) " \
           f"threads {threads} {{\n{body}\n}}\n"  # fmt: skip
    kernel = parse(text)["p"].instantiate(warp_width=width)
    return pipeline.compile_source(kernel, pipeline.target(target)).source


COPY = """  s = shared_alloc(f32, [64]); full = mbarrier_alloc([1]); w = global_alloc(f32, [64])
  mbarrier_expect(full[0], 256); copy_bulk(s, {source}, full[0]); mbarrier_wait(full[0], 0)
  store(C[0 +: 1], load(s[0 +: 1]))"""


@pytest.mark.parametrize(("source", "fences"), [("A", 0), ("C", 1), ("w", 1)])
def test_the_copy_engine_sees_global_memory_that_blocks_write(source, fences):
    assert source_of(COPY.format(source=source)).count("vm_fence_async_global();") == fences


def test_every_thread_of_an_amd_block_fences_before_the_barrier():
    source = source_of(
        "  turn = semaphore_alloc([1]); semaphore_release(turn[0], 0)", "gfx942", 64, 64
    )
    fence, barrier, signal = (
        source.index(call) for call in ("vm_fence_device()", "vm_synchronize()", "vm_signal(")
    )
    assert fence < barrier < signal


def test_a_group_of_several_wavefronts_cannot_meet_on_amd():
    # Tests rule Error/E0901.
    body = "  turn = semaphore_alloc([1])\n  group g(warps=2) { semaphore_wait(turn[0], 0) }"
    with pytest.raises(VmError) as raised:
        source_of(body, "gfx942", 128, 64)
    assert raised.value.code == "E0901"
    assert "vm_barrier(" in source_of(body, "sm_80", 64)


# --- where it lies ---
extents = st.lists(st.sampled_from(["1", "3", "40", "M", "ceil_div(M, 16)", "M / 4 * 3", "n + 1"]),
                   min_size=1, max_size=3)  # fmt: skip
tensors = st.tuples(st.sampled_from(["f32", "u4", "f16", "u3", "f64"]), extents)


@settings(max_examples=25, deadline=None)
@given(made=st.lists(tensors, min_size=1, max_size=3), semaphores=st.lists(extents, max_size=3),
       m=st.sampled_from([4, 100, 64000]), n=st.integers(0, 9))  # fmt: skip
def test_what_is_declared_does_not_overlap(made, semaphores, m, n):
    body = [f"  w{i} = global_alloc({kind}, [{', '.join(shape)}])"
            for i, (kind, shape) in enumerate(made)]  # fmt: skip
    body += [f"  s{i} = semaphore_alloc([{', '.join(shape)}])"
             for i, shape in enumerate(semaphores)]  # fmt: skip
    text = "vm 1\nprogram p(A: global(f32)[M], n: i32) grid (1) threads 32 {\n" + "\n".join(body)
    kernel = parse(text + "\n}\n")["p"].instantiate()
    memory = launch_memory(kernel)
    manifest = pipeline.compile_source(kernel, pipeline.target("sm_80")).manifest
    sizes = {"M": m, "n": n}

    def value(node):
        return node if isinstance(node, int) else evaluate_static(node, Environment(sizes))

    def elements(shape):
        known = [evaluate(extent, sizes) for extent in shape]
        return known, int(np.prod(known, dtype=object))

    behind, offsets = 0, iter(memory.offsets.values())
    for kind, shape in made:
        begin = value(next(offsets))
        assert begin % 256 == 0 and begin >= behind
        known, count = elements(shape)
        bits = int(kind[1:])
        rows = count // known[-1] if known[-1] else 0
        behind = begin + rows * -(-known[-1] * bits // 8)
    assert behind <= evaluate(manifest.workspace_bytes, sizes) < behind + 256
    count = 0
    for shape in semaphores:
        assert value(next(offsets)) == 4 * count
        count += elements(shape)[1]
    assert evaluate(manifest.semaphores, sizes) == count


def test_extents_that_are_negative_are_refused_at_launch():
    head = "program p(A: global(f32)[M]) grid (1) threads 32"
    kernel = parse(f"vm 1\n{head} {{ w = global_alloc(f32, [M - 9]) }}")["p"].instantiate()
    assert pipeline.compile_source(kernel, pipeline.target("sm_80")).manifest.facts == (
        "M - 9 >= 0",
    )
    small = {"A": np.zeros(5, np.float32)}
    with pytest.raises(VmError) as raised:
        run_on_emulator(kernel, small)
    assert raised.value.code == "E0836"
    with pytest.raises(VmError) as raised:
        reference.run(kernel, small)
    assert raised.value.code == "E0509"


# --- what the emulator finds ---
def test_the_emulator_names_the_places_of_a_deadlock():
    text = IN_TURN.format(threads=64).replace("(b + 1) % blocks", "b + 2")
    with pytest.raises(EmulatorFault) as raised:
        run_on_emulator(parse(text)["p"].instantiate(), {"A": ROWS, "C": None})
    assert raised.value.kind == "deadlock"
    assert {(site.name, site.block[0]) for site in raised.value.sites} >= {
        ("wait_for", 1), ("synchronize", 1),
    }  # fmt: skip


def test_the_emulator_finds_semaphores_that_are_not_left_zero():
    text = IN_TURN.format(threads=64).replace("(b + 1) % blocks", "b + 1")
    with pytest.raises(VmError) as raised:
        run_on_emulator(parse(text)["p"].instantiate(), {"A": ROWS, "C": None})
    assert raised.value.code == "E0512"
    # Behind the 5 of `spare`, element [2, 1] of [3, 10].
    assert "the first is number 26, 5" in str(raised.value)
