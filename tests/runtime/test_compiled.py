"""Compiled programs without a GPU: the emitted C++ of every program on the emulator, the variant
that arguments allow, and machine code from the cache."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.compiler.targets import first_target
from vm.compiler import pipeline
from vm.compiler.facts import ALIGNED, NONE, VARIANTS
from vm.isa.program import load, parse
from vm.isa.tensor import Tensor
from vm.runtime import cases, compiled
from vm.runtime.cache import Cache
from vm.runtime.compiled import (
    compile_together,
    cubin_of,
    grid_of,
    run_on_emulator,
    variant_for,
)

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "programs").glob("*.vm"))
CASES = [(path, case) for path in PROGRAMS for case in load(path).cases]

# Cases that would take long on one core, cut down; the others run as they are.
SMALLER = {
    ("vector_add", "main"): {"N": 20_000},
    ("matmul_w4a16", "main"): {"M": 72, "N": 256, "K": 256},
    ("matmul_w4a16", "quantized"): {"N": 256, "K": 256},
    ("gemm_w4a16_sm80", "main"): {"K": 2048},
}


def names(value: object) -> str:
    return value.stem if isinstance(value, Path) else str(value)


def run(monkeypatch, path: Path, case: str, **options) -> cases.CaseResult:
    """A case on the emulator with options of it."""
    execute = functools.partial(run_on_emulator, **options)
    monkeypatch.setattr(compiled, "run_with_options", execute, raising=False)
    monkeypatch.setitem(cases.EXECUTORS, "here", "vm.runtime.compiled:run_with_options")
    module = load(path)
    settings = SMALLER.get((path.stem, case))
    return cases.run_case(module, module.cases[case], executor="here", settings=settings)


@pytest.mark.parametrize("order", ["forward", "reverse", "random:1"])
@pytest.mark.parametrize(("path", "case"), CASES, ids=names)
def test_every_case_passes_in_every_order(monkeypatch, path, case, order):
    result = run(monkeypatch, path, case, order=order)
    assert result.fault is None, result.fault
    assert result.passed, result.expectations


@pytest.mark.parametrize("path", PROGRAMS, ids=names)
def test_the_address_sanitizer_finds_nothing(monkeypatch, path):
    odd = [case for case in load(path).cases if case != "main"]
    # Not optimized: no access is left out, and it compiles in a quarter of the time.
    result = run(monkeypatch, path, odd[0], address_sanitizer=True, optimization=0)
    assert result.passed, result.fault or result.expectations


# --- variants ---
ADD = """vm 1
program add(A: global(f16)[M, N], C: out(global(f16))[M, N]) grid (M) threads 32
{
  i = block_index()
  for k in range(ceil_div(N, 64)) {
    store(C[i +: 1, k * 64 +: 64], load(A[i +: 1, k * 64 +: 64]) + 1.0)
  }
}
"""


def tensor(shape: tuple[int, ...], offset: int = 0) -> Tensor:
    """f16 numbers whose memory begins `offset` elements behind a multiple of 64 bytes."""
    count = int(np.prod(shape))
    memory = np.zeros(count + 64 + offset, np.float16)
    start = -memory.ctypes.data % 64 // 2 + offset
    storage = memory[start : start + count].reshape(shape)
    storage[...] = np.arange(count).reshape(shape) % 100
    return Tensor(load_dtype(), shape, storage)


def load_dtype():
    return parse(ADD)["add"].instantiate().parameters[0].type.dtype


@pytest.mark.parametrize(
    ("columns", "offset", "variant"),
    [(64, 0, ALIGNED), (72, 0, ALIGNED), (68, 0, NONE), (65, 0, NONE), (64, 1, NONE),
     (64, 8, ALIGNED), (64, 4, NONE)],
)  # fmt: skip
def test_the_variant_follows_from_addresses_and_rows(columns, offset, variant):
    kernel = parse(ADD)["add"].instantiate()
    values = {"A": tensor((3, columns), offset), "C": tensor((3, columns))}
    assert variant_for(kernel, values) == variant
    values = {"A": tensor((3, columns)), "C": tensor((3, columns), offset)}
    assert variant_for(kernel, values) == variant
    report = run_on_emulator(kernel, values)
    expected = values["A"].values() + 1
    assert np.array_equal(report.outputs["C"].values(), expected)


def test_nothing_is_assumed_of_rows_that_are_no_size_of_their_own():
    kernel = parse(ADD.replace("A: global(f16)[M, N]", "A: global(f16)[M, N + 3]"))
    kernel = kernel["add"].instantiate()
    values = {"A": tensor((3, 67)), "C": tensor((3, 64))}
    assert variant_for(kernel, values) == ALIGNED
    report = run_on_emulator(kernel, values)
    assert np.array_equal(report.outputs["C"].values(), values["A"].values()[:, :64] + 1)


def test_grids_are_computed_from_sizes():
    kernel = load(ROOT / "programs" / "matmul_f16.vm")["matmul"].instantiate()
    assert grid_of(kernel)({"M": 65, "N": 128, "K": 7}) == (2, 1, 1)


# --- determinism ---
def emitted_digests() -> list[str]:
    """Every program, with a digest of what is emitted for the first target that can do it."""
    lines = []
    for path in PROGRAMS:
        for program in load(path):
            if program.definition.kind == "program":
                kernel = program.instantiate()
                made = pipeline.compile_source(kernel, pipeline.target(first_target(kernel)))
                digest = hashlib.sha256(made.source.encode()).hexdigest()
                lines.append(f"{path.stem} {program.name} {digest} {made.manifest.as_json()}")
    return lines


EMIT = """
from tests.runtime.test_compiled import emitted_digests
print(*emitted_digests(), sep="\\n")
"""


def test_emitted_text_does_not_depend_on_the_order_of_hashes():
    """This process has a seed of its own, or that of its environment, which is not the other's."""
    other = "4711" if os.environ.get("PYTHONHASHSEED") != "4711" else "0"
    output = subprocess.run(
        [sys.executable, "-c", EMIT], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": other},
    ).stdout  # fmt: skip
    here = emitted_digests()
    assert len(here) >= len(PROGRAMS)
    assert output.splitlines() == here


# --- machine code ---
COPY = """vm 1
const COUNT = 32
program copy(A: global(f32)[COUNT], C: out(global(f32))[COUNT]) grid (1) threads 32 {
  store(C[0 +: COUNT], load(A[0 +: COUNT]))
}
program large(A: global(f32)[COUNT], C: out(global(f32))[COUNT]) grid (1) threads 32 {
  s = shared_alloc(f32, [50000])
  store(s[0 +: 32], load(A))
  synchronize()
  store(C, load(s[0 +: 32]))
}
"""


def test_kernels_are_compiled_together_and_what_fails_is_left(tmp_path, monkeypatch):
    from vm.runtime import nvrtc

    monkeypatch.setenv("VM_CACHE_DIR", str(tmp_path))
    module = parse(COPY)
    kernels = [module["copy"].instantiate(COUNT=32), module["copy"].instantiate(COUNT=64)]
    compile_together([*kernels, kernels[0], module["large"].instantiate()], "sm_80")
    assert len(list(tmp_path.rglob("*.entry"))) == 2
    monkeypatch.setattr(nvrtc, "compile_cubin", None)  # what is there is not compiled again
    for kernel in kernels:
        assert cubin_of(kernel, "sm_80", ALIGNED).payload


def test_machine_code_is_compiled_once_for_each_variant(tmp_path, monkeypatch):
    from vm.runtime import nvrtc

    calls = []
    compile_cubin = nvrtc.compile_cubin
    monkeypatch.setattr(
        nvrtc, "compile_cubin", lambda *given: calls.append(given[1:3]) or compile_cubin(*given)
    )
    kernel = parse(ADD)["add"].instantiate()
    cache = Cache(tmp_path)
    entries = {v: cubin_of(kernel, "sm_80", v, cache) for v in VARIANTS}
    assert len(calls) == 2
    again = {v: cubin_of(kernel, "sm_80", v, cache) for v in VARIANTS}
    assert len(calls) == 2
    assert all(entries[v].payload == again[v].payload for v in VARIANTS)
    assert entries[ALIGNED].payload != entries[NONE].payload
    cubin_of(kernel, "sm_90a", NONE, cache)
    assert len(calls) == 3


def test_the_manifest_says_what_a_launch_needs():
    kernel = load(ROOT / "programs" / "gemm_w4a16_sm80.vm")["gemm"].instantiate()
    manifest = pipeline.compile_source(kernel, pipeline.target("sm_90a")).manifest
    assert [p.name for p in manifest.pointers] == ["A", "P", "C"]
    assert [p.access for p in manifest.pointers] == ["in", "in", "out"]
    assert manifest.pdl
    assert manifest.threads == kernel.threads
    assert [size.value for size in manifest.sizes] == [size.name for size in kernel.sizes]
