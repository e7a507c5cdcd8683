"""Mbarriers and bulk copies compiled: the same meaning after every pass, the same bits from the
emitted C++, the hardware's own instructions; and what a target or a layout cannot do."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED, NONE, VARIANTS
from vm.compiler.layouts import infer_layouts
from vm.compiler.shared_memory import plan_shared
from vm.errors import VmError
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.mbarriers import MbarrierAllocate
from vm.isa.memory import SharedAllocate
from vm.isa.nvidia_bulk import Fence, MbarrierInit
from vm.isa.program import parse
from vm.runtime import reference
from vm.runtime.compiled import cubin_of, run_on_emulator
from vm.runtime.sass import disassemble, find_disassembler, instruction_counts

NUMBERS = np.arange(512, dtype=np.float32)
HEADER = """vm 1
program p(A: global(f32)[512], C: out(global(f32))[512]) grid (1) threads %d
  where aligned(A, 16)
{
"""


def program(body: str, threads: int = 96) -> Kernel:
    return parse(HEADER % threads + body + "\n}\n")["p"].instantiate()


# A producer and consumers of two warps; a whole block that fills its own ring; memory that ordinary
# stores have written before; several copies of a group, each with mbarriers of its own.
PROGRAMS = {
    "ring": program("""
  s = shared_alloc(f32, [3, 64])
  full = mbarrier_alloc([3])
  empty = mbarrier_alloc([3], warps=2)
  group producer(warps=1) {
    for i in range(8) {
      mbarrier_wait(empty[i % 3], (i / 3 + 1) % 2)
      mbarrier_expect(full[i % 3], 256)
      copy_bulk(s[i % 3], A[i * 64 +: 64], full[i % 3])
    }
  }
  group consumer(warps=2) {
    for i in range(8) {
      mbarrier_wait(full[i % 3], i / 3 % 2)
      store(C[i * 64 +: 64], load(s[i % 3]) + 1.0)
      mbarrier_arrive(empty[i % 3])
    }
  }"""),
    "block": program("""
  s = shared_alloc(f32, [2, 128])
  full = mbarrier_alloc([2], warps=3)
  for i in range(2) unroll full {
    mbarrier_expect(full[i], 512); copy_bulk(s[i], A[i * 128 +: 128], full[i])
  }
  for i in range(4) {
    mbarrier_wait(full[i % 2], i / 2)
    x = load(s[i % 2])
    synchronize()
    if i < 2 {
      mbarrier_expect(full[i % 2], 512)
      copy_bulk(s[i % 2], A[(i + 2) * 128 +: 128], full[i % 2])
    }
    store(C[i * 128 +: 128], x + 1.0)
  }"""),
    "stores": program("""
  s = shared_alloc(f32, [512])
  full = mbarrier_alloc([1], warps=3)
  store(s, 7.0)
  synchronize()
  mbarrier_expect(full[0], 1024); copy_bulk(s[0 +: 256], A[0 +: 256], full[0])
  mbarrier_wait(full[0], 0)
  store(C[0 +: 512], where(load(s) == 7.0, load(A[0 +: 512]), load(s)) + 1.0)"""),
    "copies": program("""
  s = shared_alloc(f32, [2, 256])
  full = mbarrier_alloc([2])
  group each(warps=1, copies=2) {
    w = group_index()
    mbarrier_expect(full[w], 1024); copy_bulk(s[w], A[w * 256 +: 256], full[w])
    mbarrier_wait(full[w], 0)
    store(C[w * 256 +: 256], load(s[w]) + 1.0)
  }"""),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pass_keeps_the_meaning_in_every_order(name, variant):
    # Tests rules Exec/nv.copy_bulk, Exec/nv.mbarrier_init, Exec/nv.mbarrier_arrive,
    # Exec/nv.mbarrier_expect, Exec/nv.mbarrier_wait.
    kernel = PROGRAMS[name]
    for stage, made in pipeline.stages(kernel, pipeline.target("sm_90a"), variant).items():
        again = parse(f"vm 1\n{made}")["p"].instantiate()
        assert again == made, stage
        for schedule in ("program", "reverse", "random:1"):
            for effects in ("wait", "issue", "random:1"):
                report = reference.run(
                    made, {"A": NUMBERS, "C": None}, schedule=schedule, effects=effects
                )
                assert np.array_equal(report.outputs["C"].values(), NUMBERS + 1), stage


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("order", ["forward", "reverse", "random:1", "random:2"])
def test_the_emulator_gives_the_same(name, order):
    report = run_on_emulator(PROGRAMS[name], {"A": NUMBERS, "C": None}, order=order)
    assert np.array_equal(report.outputs["C"].values(), NUMBERS + 1)


def test_a_copy_that_is_not_waited_for_is_not_there():
    """The emulator brings it as late as it may: the wait is what the emitted text says."""
    kernel = PROGRAMS["copies"]
    source = pipeline.compile_source(kernel, pipeline.target("sm_90a")).source
    assert source.count("vm_mbarrier_wait(") == 1
    made = reference.run(
        pipeline.lower(kernel, pipeline.target("sm_90a")).kernel, {"A": NUMBERS, "C": None}
    )
    assert np.array_equal(made.outputs["C"].values(), NUMBERS + 1)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_hardware_has_instructions_for_it(name):
    entry = cubin_of(PROGRAMS[name], "sm_90a", ALIGNED)
    assert entry.metadata["spill_bytes"] == 0
    assert find_disassembler() is not None
    sass = disassemble(entry.payload)
    assert sum(instruction_counts(sass, r"UBLKCP").values()) >= 1
    assert sum(instruction_counts(sass, r"SYNCS.*TRYWAIT").values()) >= 1


# --- where things lie ---
def test_mbarriers_take_8_bytes_each_at_a_multiple_of_8():
    kernel = program("""
  a = mbarrier_alloc([3])
  s = shared_alloc(u8, [40])
  b = mbarrier_alloc([2, 2])
  store(s, 0)
  mbarrier_arrive(a[2]); mbarrier_arrive(b[1, 1])""")
    planned = pipeline.stages(kernel, pipeline.target("sm_90a"))["shared"]
    places = [
        (i.address, i.result.type.bytes)
        for i in control.walk(planned.body)
        if isinstance(i, (SharedAllocate, MbarrierAllocate))
    ]
    assert all(address % 8 == 0 for address, _ in places)
    assert [size for _, size in places] == [24, 40, 32]
    ends = sorted((address, address + size) for address, size in places)
    assert all(one[1] <= other[0] for one, other in pairwise(ends))


def test_more_mbarriers_than_threads():
    kernel = program("""
  m = mbarrier_alloc([80])
  mbarrier_arrive(m[79])
  mbarrier_wait(m[79], 0)
  store(C[0 +: 512], load(A[0 +: 512]) + 1.0)""", threads=32)
    made = pipeline.lower(kernel, pipeline.target("sm_90a")).kernel
    assert sum(isinstance(i, MbarrierInit) for i in control.walk(made.body)) == 3
    for run in (reference.run, run_on_emulator):
        for each in (kernel, made) if run is reference.run else (kernel,):
            report = run(each, {"A": NUMBERS, "C": None})
            assert np.array_equal(report.outputs["C"].values(), NUMBERS + 1)


def test_the_engine_sees_ordinary_stores_behind_a_fence_and_needs_none_otherwise():
    # Tests rule Exec/nv.fence.
    def fences(name: str) -> int:
        made = pipeline.lower(PROGRAMS[name], pipeline.target("sm_90a")).kernel
        return sum(isinstance(i, Fence) and i.of == "async_shared" for i in control.walk(made.body))

    assert fences("stores") == 1
    assert fences("ring") == fences("block") == fences("copies") == 0


# --- what cannot be done ---
def refused(kernel: Kernel, target: str = "sm_90a", variant: str = ALIGNED) -> VmError:
    with pytest.raises(VmError) as caught:
        pipeline.lower(kernel, pipeline.target(target), variant)
    return caught.value


@pytest.mark.parametrize(("target", "warp_width"), [("sm_80", 32), ("sm_89", 32), ("gfx942", 64)])
def test_older_and_other_targets_have_no_mbarriers(target, warp_width):
    text = HEADER % 128 + "  full = mbarrier_alloc([3])\n  mbarrier_arrive(full[0])\n}\n"
    error = refused(parse(text)["p"].instantiate(warp_width=warp_width), target)
    assert error.code == "E0901"
    assert error.origin.text_line().strip() == "full = mbarrier_alloc([3])"


def test_the_source_has_to_be_known_to_be_aligned():
    text = str(PROGRAMS["copies"]).replace(" where aligned(A, 16)", "")
    assert "aligned" not in text
    kernel = parse(f"vm 1\n{text}")["p"].instantiate()
    error = refused(kernel, variant=NONE)
    assert error.code == "E0901"
    assert "aligned(A, 16)" in str(error)
    pipeline.lower(kernel, pipeline.target("sm_90a"), ALIGNED)


def test_the_offset_has_to_be_known_to_be_aligned():
    kernel = program("""
  s = shared_alloc(f32, [256])
  full = mbarrier_alloc([1], warps=3)
  n = cast(load_scalar(A[4]), i32)
  mbarrier_expect(full[0], 1024); copy_bulk(s, A[n +: 256], full[0])
  mbarrier_wait(full[0], 0)
  store(C[0 +: 256], load(s))""")
    error = refused(kernel)
    assert error.code == "E0901"
    assert "not known to begin at a multiple of 16 bytes" in str(error)
    # The machine sees that it is, in this run.
    reference.run(kernel, {"A": NUMBERS, "C": np.zeros(512, np.float32)})


def test_a_layout_that_scatters_the_tile():
    kernel = program("""
  s = shared_alloc(f32, [8, 32], layout=shared(8, 32).swizzle(3, 2, 3))
  full = mbarrier_alloc([1], warps=3)
  B = global_view(A, f32, 16, 32)
  mbarrier_expect(full[0], 1024); copy_bulk(s, B[0 +: 8], full[0])
  mbarrier_wait(full[0], 0)
  store(C[0 +: 256], reshape(load(s), [256]))""")
    error = refused(kernel)
    assert error.code == "E0901"
    assert "its layout in shared memory scatters the tile" in str(error)


def test_the_compiler_gives_no_swizzle_to_what_is_copied_whole():
    kernel = program("""
  s = shared_alloc(f16, [64, 64])
  full = mbarrier_alloc([1], warps=3)
  B = global_view(A, f16, 16, 64)
  mbarrier_expect(full[0], 2048); copy_bulk(s[0 +: 16], B[0 +: 16], full[0])
  mbarrier_wait(full[0], 0)
  x = load(s[0 +: 16])
  store(C[0 +: 64], cast(reduce(x, axis=0, keep=false), f32))""")
    planned = plan_shared(infer_layouts(kernel), 227 * 1024)
    (layout,) = (i.layout for i in control.walk(planned.body) if isinstance(i, SharedAllocate))
    assert layout.swizzling is None


# --- the same faults at the machine level ---
@pytest.mark.parametrize(
    ("code", "pattern", "replacement"),
    [
        ("E0604", r"\n *nv.mbarrier_wait\(.*\)", ""),
        ("E0507", r"\n *nv.mbarrier_init\(.*\)", ""),
        ("E0603", r"nv.mbarrier_expect\((\w+), \w+,", r"nv.mbarrier_arrive(\1,"),
    ],
)
def test_the_machine_level_is_checked_too(code, pattern, replacement):
    made = pipeline.lower(PROGRAMS["copies"], pipeline.target("sm_90a")).kernel
    text, count = re.subn(pattern, replacement, str(made))
    assert count == 1
    with pytest.raises(VmError) as caught:
        reference.run(parse(f"vm 1\n{text}")["p"].instantiate(), {"A": NUMBERS, "C": None})
    # Without the bytes the phase ends before the copies, which then count in the next.
    assert caught.value.code == ("E0607" if code == "E0603" else code)
