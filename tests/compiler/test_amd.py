"""AMD's CDNA: programs at warps of 64 lanes, on the emulator and after every pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.compiler import translation
from vm.compiler.facts import VARIANTS
from vm.compiler.pipeline import TARGETS, Lowered, compile_source, lower, target
from vm.errors import VmError
from vm.isa import amd, control
from vm.isa.kernel import Kernel
from vm.isa.program import load, parse
from vm.layouts import FRAGMENTS
from vm.runtime import cases
from vm.runtime.compiled import run_on_emulator
from vm.runtime.emulator import HostOptions, compile_host, run

FOLDER = Path(__file__).parents[2] / "programs"
PROGRAMS = ("vector_add", "softmax", "layer_norm", "transpose", "matmul_f16", "matmul_w4a16")
CASES = [(name, case) for name in PROGRAMS for case in load(FOLDER / f"{name}.vm").cases]
AMD = [name for name, each in TARGETS.items() if each.family == "amd"]

# Sizes at which the reference machine is quick.
SMALLER: dict[tuple[str, str], dict[str, int]] = {
    ("vector_add", "main"): {"N": 5000},
    ("matmul_f16", "main"): {"M": 64, "N": 128, "K": 96},
    ("matmul_w4a16", "main"): {"M": 72, "N": 128, "K": 256},
    ("matmul_w4a16", "quantized"): {"N": 128, "K": 256},
    ("transpose", "main"): {"M": 128, "N": 192},
    ("softmax", "main"): {"M": 8},
    ("layer_norm", "main"): {"M": 8},
}


def passed(name: str, case: str, executor: str) -> cases.CaseResult:
    module = load(FOLDER / f"{name}.vm")
    settings = SMALLER.get((name, case))
    result = cases.run_case(module, module.cases[case], executor=executor, settings=settings)
    assert result.fault is None, result.fault
    assert result.passed, result.expectations
    return result


@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_case_passes_on_the_emulator(name, case):
    result = passed(name, case, "emulator:gfx942")
    assert {call.executor for call in result.calls} == {"emulator:gfx942"}


TEXTS: set[Kernel] = set()
CURRENT: dict[str, str] = {}


def run_lowered(kernel: Kernel, values, *, target_name: str, output=print):
    """The reference machine on the kernel after every pass."""
    assert kernel.warp_width == 64
    validation = translation.Validation(target_name, CURRENT["variant"], TEXTS)
    return validation.execute(kernel, values, output=output)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_pass_keeps_the_meaning(name, variant, monkeypatch):
    monkeypatch.setitem(cases.EXECUTORS, "emulator", f"{__name__}:run_lowered")
    monkeypatch.setitem(CURRENT, "variant", variant)
    for case in load(FOLDER / f"{name}.vm").cases:
        passed(name, case, "emulator:gfx942")


def lowered(name: str, target_name: str) -> Lowered:
    (program, *_) = (p for p in load(FOLDER / f"{name}.vm") if p.name in (name, "matmul"))
    return lower(program.instantiate(warp_width=64), target(target_name))


@pytest.mark.parametrize("target_name", AMD)
@pytest.mark.parametrize("name", PROGRAMS)
def test_machine_instructions_are_those_of_the_target(name, target_name):
    opcodes = {i.opcode for i in control.walk(lowered(name, target_name).kernel.body)}
    assert {o for o in opcodes if "." in o} >= {"amd.load_global", "amd.store_global"}
    assert not [o for o in opcodes if "." in o and not o.startswith("amd.")]
    assert ("amd.mfma" in opcodes) == name.startswith("matmul")


@pytest.mark.parametrize("target_name", AMD)
def test_the_matmul_multiplies_each_fragment_once(target_name):
    products = [i for i in control.walk(lowered("matmul_f16", target_name).kernel.body)
                if isinstance(i, amd.MatrixMultiply)]  # fmt: skip
    # 64 x 128 x 32 in pieces of 16 x 16 x 16, by two warps.
    assert len(products) == 4 * 8 * 2 // 2
    assert {i.fragment for i in products} == {"mfma_16x16x16"}


SUM = """vm 1
program total(X: global(f32)[1, 1024], Y: out(global(f32))[1, 1]) grid (1) threads 128
{
  x = load(X[:, :], layout=spatial(1, 128).local(1, 8))
  store(Y[:, :], reduce(x, axis=1))
}
"""


@pytest.mark.parametrize("order", ["forward", "reverse", "random:3"])
def test_a_reduction_goes_through_all_lanes_of_a_warp(order):
    kernel = parse(SUM)["total"].instantiate(warp_width=64)
    made = lower(kernel, target("gfx942")).kernel
    masks = [i.mask for i in control.walk(made.body) if isinstance(i, amd.ShuffleXor)]
    assert masks == [1, 2, 4, 8, 16, 32]
    x = np.random.default_rng(1).integers(-9, 9, (1, 1024)).astype(np.float32)
    arguments = {"X": x, "Y": np.full((1, 1), np.nan, np.float32)}
    report = run_on_emulator(kernel, arguments, target_name="gfx942", order=order)
    assert report.outputs["Y"].values() == x.sum(dtype=np.float64)


@pytest.mark.parametrize(("name", "width"), [("sm_80", 32), ("gfx942", 64)])
@pytest.mark.parametrize(
    "layout",
    [
        "spatial(2, 12).replicated(8)", "spatial(16, 12)", "replicated(4).spatial(4, 12)",
        "spatial(4, 3).replicated(16)", "spatial(64, 3)", "spatial(3, 1).replicated(64)",
    ],
)  # fmt: skip
def test_lanes_whose_distance_is_no_power_of_two_are_not_shuffled(layout, name, width):
    """They are combined through shared memory: lane ^ 12 is not the lane 12 away."""
    rows, columns = (int(n) for n in layout.partition("spatial(")[2].partition(")")[0].split(","))
    text = (
        f"vm 1\nprogram p(X: global(i32)[{rows}, {columns}], Y: out(global(i32))[1, {columns}]) "
        f"grid (1) threads 192\n{{\n  x = load(X[:, :], layout={layout})\n"
        "  store(Y[:, :], reduce(x, axis=0))\n}\n"
    )
    kernel = parse(text)["p"].instantiate(warp_width=width)
    x = np.random.default_rng(3).integers(-99, 99, (rows, columns)).astype(np.int32)
    for order in ("forward", "reverse"):
        arguments = {"X": x, "Y": np.zeros((1, columns), np.int32)}
        report = run_on_emulator(kernel, arguments, target_name=name, order=order)
        np.testing.assert_array_equal(report.outputs["Y"].values()[0], x.sum(axis=0))


# --- what the target cannot do ---
def refused(body: str, target_name: str, code: str = "E0901", threads: int = 128, **types) -> str:
    a, c = types.get("a", "f32"), types.get("c", "f32")
    text = (
        f"vm 1\nprogram p(A: global({a})[256, 64], C: out(global({c}))[256, 64]) grid (1) "
        f"threads {threads}\n{{\n{body}\n}}\n"
    )
    kernel = parse(text)["p"].instantiate(warp_width=64)
    with pytest.raises(VmError) as caught:
        compile_source(kernel, target(target_name))
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize("target_name", AMD)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("barrier(1, 2)", "a barrier is for all threads of a block"),
        ("group g(warps=2) { synchronize() }", "for all threads of a block or for one warp"),
        # What is not written there, but needed for what is.
        (
            "group g(warps=2) {\n  x = load(A[0 +: 1, :], layout=spatial(1, 64).replicated(2))\n"
            "  store(C[0 +: 1, :], relayout(x, layout=replicated(2).spatial(1, 64)))\n}",
            "for all threads of a block or for one warp",
        ),
        ("grid_wait()", "a grid begins when the one before it has ended"),
        ("grid_launch_dependents()", "a grid begins when the one before it has ended"),
        ("print(1)", "nothing carries text to the host"),
        ("store(C[:, :], cast(exp(cast(load(A[:, :]), f64)), f32))", "approximations of f32 alone"),
    ],
)
def test_what_is_not_there_is_refused_with_a_reason(body, reason, target_name):
    message = refused(body, target_name)
    assert target_name in message and reason in message


@pytest.mark.parametrize(
    ("a", "accumulator", "target_name"),
    [
        ("f16", "f16", "gfx942"),  # MFMA adds in f32
        ("f8e4m3", "f32", "gfx942"),  # CDNA3 has these with other exponents and no infinities
        ("i8", "i32", "gfx90a"),  # that shape came with gfx940
    ],
)
def test_products_without_a_fragment_are_refused(a, accumulator, target_name):
    body = (
        f"var acc: register({accumulator})[64, 64] = fill(0)\n"
        "acc := dot(load(A[0 +: 64, :]), load(A[64 +: 64, :]), acc)\nstore(C[0 +: 64, :], acc)"
    )
    body = body.replace("fill(0)", "fill(0.0)") if accumulator != "i32" else body
    assert "has no mfma" in refused(body, target_name, a=a, c=accumulator)


def test_one_warp_of_a_group_may_synchronize():
    text = "vm 1\nprogram p(C: out(global(f32))[64]) grid (1) threads 128\n{\n" \
           "  group g(warps=1) { synchronize() }\n}\n"  # fmt: skip
    source = compile_source(parse(text)["p"].instantiate(warp_width=64), target("gfx942")).source
    assert "vm_synchronize_warp();" in source


@pytest.mark.parametrize(("width", "name"), [(32, "gfx942"), (64, "sm_80")])
def test_a_kernel_for_warps_of_another_width_is_refused(width, name):
    kernel = parse(SUM)["total"].instantiate(warp_width=width)
    with pytest.raises(VmError) as caught:
        lower(kernel, target(name))
    assert caught.value.code == "E0903"
    assert str(64 if width == 32 else 32) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "code"),
    [("emulator:gfx9", "E0902"), ("emulater", "E0809"), ("cuda:sm_80", "E0809"), ("", "E0809")],
)
def test_executors_that_are_not_there(name, code):
    with pytest.raises(VmError) as caught:
        cases.find_executor(name)
    assert caught.value.code == code


# --- MFMA on the emulator ---
FORMS = [(row.name, form) for row in FRAGMENTS.values() if row.name.startswith("mfma_")
         for form in row.dtypes]  # fmt: skip


def coded(values: np.ndarray, kind: str) -> np.ndarray:
    """The codes of whole numbers."""
    if kind == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"f16": np.float16, "i8": np.int8, "f32": np.float32, "i32": np.int32}[
        kind
    ]).view({"f16": np.uint16, "i8": np.uint8, "f32": np.uint32, "i32": np.uint32}[kind])


@pytest.mark.parametrize("order", ["forward", "reverse"])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_mfma_is_the_product_of_matrices(name, form, order, objects):
    """AMD's CDNA3 ISA, section 7.1: with P = 64 / M blocks of lanes, lane l has row (column) l % M
    of A (B) and the k from K / P * (l / M) on; of the result it has column l % M, and rows in runs
    of four, 4 * (l / M) within each 4 P."""
    # Tests rule Exec/amd.mfma.
    m, _, k = (int(n) for n in name.split("_")[1].split("x"))
    kind, _, sum_kind, _ = form
    rng = np.random.default_rng(5)
    a, b = rng.integers(-8, 8, (m, k)), rng.integers(-8, 8, (k, m))
    c = rng.integers(-99, 99, (m, m))
    lane = np.arange(64)
    run_k = k * m // 64
    at_k = run_k * (lane // m)[:, None] + np.arange(run_k)
    register = np.arange(m * m // 64)
    row = 256 // m * (register // 4) + 4 * (lane // m)[:, None] + register % 4
    column = (lane % m)[:, None]
    held_a = coded(np.ascontiguousarray(a[column, at_k]), kind)
    held_b = coded(np.ascontiguousarray(b[at_k, column]), kind)
    held_c = coded(np.ascontiguousarray(c[row, column]), sum_kind)
    shape = "_".join(name.split("_")[:2])
    words = m * m // 64
    text = f"""#include "vm.h"
VM_KERNEL(test, 64, 1)(unsigned char* a, unsigned char* b, unsigned char* c) {{
  unsigned x[2], y[2], z[{words}];
  vm_load_global<8>(x, 0, a + VM_THREAD * 8);
  vm_load_global<8>(y, 0, b + VM_THREAD * 8);
  for (int i = 0; i < {words}; i++) vm_load_global<4>(z, 4 * i, c + (VM_THREAD * {words} + i) * 4);
  vm_{shape}<vm_{kind}, vm_{kind}, vm_{sum_kind}>(z, x, y);
  for (int i = 0; i < {words}; i++) vm_store_global<4>(c + (VM_THREAD * {words} + i) * 4, z, 4 * i);
}}
"""
    host = compile_host(text, objects, HostOptions(optimization=0, warp_width=64))
    run(host, "test", (1,), 64, 0, [held_a, held_b, held_c], order)
    expected = coded(np.ascontiguousarray((a @ b + c)[row, column]), sum_kind)
    np.testing.assert_array_equal(held_c, expected)
