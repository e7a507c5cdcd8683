"""The stages of a kernel, targets, and what a launch is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED, NONE
from vm.compiler.layouts import has_all_layouts
from vm.errors import VmError
from vm.isa import control
from vm.isa.program import load, parse

PROGRAMS = Path(__file__).parents[2] / "programs"


def test_every_stage_is_there_and_does_its_part():
    kernel = load(PROGRAMS / "matmul_f16.vm")["matmul"].instantiate()
    found = pipeline.stages(kernel, pipeline.target("sm_80"))
    assert tuple(found) == pipeline.STAGES
    assert found["instantiate"] is kernel
    assert not has_all_layouts(kernel)
    assert has_all_layouts(found["layouts"])
    allocations = [i for i in control.walk(found["shared"].body) if i.opcode == "shared_alloc"]
    assert all(i.address is not None and i.layout is not None for i in allocations)
    assert any(i.opcode == "nv.mma" for i in control.walk(found["select"].body))
    assert found["words"] == pipeline.lower(kernel, pipeline.target("sm_80")).kernel


def test_the_kernel_that_goes_in_stays_as_it_is():
    kernel = load(PROGRAMS / "softmax.vm")["softmax"].instantiate()
    before = str(kernel)
    pipeline.compile_source(kernel, pipeline.target("sm_90a"))
    assert str(kernel) == before


def test_unknown_targets_are_answered_with_the_nearest():
    with pytest.raises(VmError, match="did you mean sm_90a") as raised:
        pipeline.target("sm_90")
    assert raised.value.code == "E0902"
    with pytest.raises(VmError, match="one of: sm_80, "):  # an older one, and not a wrong digit
        pipeline.target("sm_75")


def test_variants_differ_and_a_variant_is_always_the_same():
    kernel = load(PROGRAMS / "transpose.vm")["transpose"].instantiate()
    target = pipeline.target("sm_80")
    sources = {v: pipeline.compile_source(kernel, target, v).source for v in (ALIGNED, NONE)}
    assert sources[ALIGNED] != sources[NONE]
    assert sources[ALIGNED] == pipeline.compile_source(kernel, target, ALIGNED).source


def test_shared_memory_is_held_to_the_limit_of_the_target():
    text = (
        "vm 1\nprogram p(C: out(global(f32))[N]) grid (1) threads 32\n{\n"
        "  s = shared_alloc(f32, [30000])\n  store(s[0 +: 32], 1.0)\n  synchronize()\n"
        "  store(C[0 +: 32], load(s[0 +: 32]))\n}\n"
    )
    kernel = parse(text)["p"].instantiate()
    assert pipeline.lower(kernel, pipeline.target("sm_80")).shared_bytes == 120_000
    with pytest.raises(VmError) as raised:
        pipeline.lower(kernel, pipeline.target("sm_89"))
    assert raised.value.code == "E0405"


def test_the_manifest_has_arguments_in_the_order_of_the_function():
    # Tests rule Embed/order.
    text = (
        "vm 1\nprogram p(x: f32, A: global(u4)[M, K], n: i32, C: inout(global(f16))[M, N])\n"
        "  grid (M) threads 64 where N % 8 == 0, aligned(A, 16)\n{\n"
        "  print(n)\n  print(x)\n}\n"
    )
    made = pipeline.compile_source(parse(text)["p"].instantiate(), pipeline.target("sm_80"))
    manifest = made.manifest
    assert [(p.name, p.dtype, p.access) for p in manifest.pointers] == [
        ("A", "u4", "in"), ("C", "f16", "inout"),
    ]  # fmt: skip
    assert [p.shape for p in manifest.pointers] == [("M", "K"), ("M", "N")]
    assert [size.value for size in manifest.sizes] == ["M", "K", "N"]
    assert [(s.name, s.dtype) for s in manifest.scalars] == [("x", "f32"), ("n", "i32")]
    assert manifest.threads == 64
    assert not manifest.pdl
    signature = next(line for line in made.source.splitlines() if line.startswith("VM_KERNEL"))
    names = re.findall(r"(\w+)(?:, |\) \{)", signature.split(")(", 1)[1])
    assert [name.split("_")[0] for name in names] == ["A", "C", "M", "K", "N", "x", "n"]
