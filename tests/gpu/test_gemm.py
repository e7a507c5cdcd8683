"""C = A W^T for few rows of A on the GPU: every form, schedule and number of rows, random data of
several seeds, outliers, and the same bits each time."""

from __future__ import annotations

import numpy as np
import pytest

from programs.gemm import gemm
from programs.gemm_tiling import Schedule
from programs.quantized_matmul import Form
from tests.programs.test_gemm import FORMS, SCHEDULES
from vm.isa.program import Module
from vm.runtime.cases import run_case
from vm.runtime.inputs import RandomInput, parse_input

pytestmark = pytest.mark.gpu

SEEDS = (11, 12, 13)
BULK, THREADS = SCHEDULES["bulk"], SCHEDULES["threads"]


def passes(module: Module, case: str, sizes: dict[str, int], **inputs) -> None:
    result = run_case(module, module.cases[case], executor="cuda", inputs=inputs, settings=sizes)
    assert result.fault is None, result.fault
    assert result.passed, result.expectations


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("schedule", [BULK, THREADS], ids=["bulk", "threads"])
def test_every_form(name, schedule):
    module = gemm(FORMS[name], schedule)
    for case in module.cases:
        for seed in SEEDS:
            passes(module, case, {}, A=RandomInput(seed), W=RandomInput(seed + 10))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("form", ["u3", "nvfp4", "u4 zero 64", "u8", "f5e2m2"])
def test_every_schedule(name, form):
    schedule = SCHEDULES[name]
    module = gemm(FORMS[form], schedule)
    step = 128 * schedule.span
    least = schedule.blocks or 1
    for tiles in (least, least * schedule.warps, schedule.warps * schedule.stages + least):
        for seed in SEEDS:
            sizes = {"M": schedule.columns + 1, "N": schedule.rows + 1, "K": step * tiles}
            passes(module, "main", sizes, A=RandomInput(seed), W=RandomInput(seed + 10))


@pytest.mark.parametrize("m", [*range(1, 18), 31, 32, 33, 64])
def test_any_number_of_rows(m):
    module = gemm(FORMS["u4"], Schedule(depth=64))
    passes(module, "main", {"M": m, "N": 129, "K": 1152})


@pytest.mark.parametrize("weight", ["u1", "u2", "u3", "u4", "u8", "f6e3m2"])
def test_outliers(tmp_path, weight):
    """One activation in a hundred is 1000 times the others."""
    generator = np.random.default_rng(7)
    activations = generator.standard_normal((4, 1152)).astype(np.float16)
    activations[generator.random(activations.shape) < 0.01] *= 1000
    np.save(tmp_path / "A.npy", activations)
    given = parse_input(str(tmp_path / "A.npy"))
    passes(gemm(FORMS[weight], BULK), "main", {"M": 4, "N": 129, "K": 1152}, A=given)


@pytest.mark.parametrize("weight", ["u1", "u4", "f4e2m1"])
@pytest.mark.parametrize("schedule", [BULK, THREADS], ids=["bulk", "threads"])
def test_the_same_bits_a_thousand_times(weight, schedule):
    import torch

    import vm
    from programs.gemm_tiling import stage_bytes

    form = Form(weight, offset=1 << (int(weight[1:]) - 1)) if weight[0] == "u" else Form(weight)
    module = gemm(form, schedule)
    m, n, k = 5, 1000, 8192
    random = torch.Generator("cuda").manual_seed(1)
    bits = int(weight[1])
    codes = torch.randint(0, 256, (n, k * bits // 8), generator=random, device="cuda")
    scales = torch.rand((n, k // 128), generator=random, device="cuda").half() * 0.01
    activations = torch.randn((m, k), generator=random, device="cuda").half()
    steps = k // (128 * schedule.span)
    shape = (-(-n // schedule.rows), steps, stage_bytes(form, schedule))
    packed = torch.zeros(shape, dtype=torch.uint8, device="cuda")
    vm.compile(module["pack"])(codes.to(torch.uint8), scales, packed)
    kernel = vm.compile(module["gemm"])
    first, again = (torch.full((m, n), torch.nan, device="cuda").half() for _ in range(2))
    kernel(activations, packed, first)
    different = torch.zeros((), dtype=torch.int64, device="cuda")
    for _ in range(1000):
        again.fill_(torch.nan)
        kernel(activations, packed, again)
        different += (again != first).sum()
    assert int(different) == 0
