"""Every pass keeps the meaning of every program, and the emitted C++ means the same."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from tests.compiler import random_programs, translation
from tests.compiler.targets import has_rules
from vm.compiler.facts import VARIANTS
from vm.isa.kernel import Kernel
from vm.isa.program import load
from vm.runtime import cases

FOLDER = Path(__file__).parents[2] / "programs"
CASES = [(path, case) for path in sorted(FOLDER.glob("*.vm")) for case in load(path).cases]
TARGETS = ("sm_80", "sm_90a")


@lru_cache
def targets_of(path: Path) -> tuple[str, ...]:
    """Those of the targets that have what all programs of the file need."""
    kernels = [p.instantiate() for p in load(path) if p.definition.kind == "program"]
    return tuple(name for name in TARGETS if all(has_rules(name, kernel) for kernel in kernels))


RUNS = [(*each, target) for each in CASES for target in targets_of(each[0])]

# Cases that would take long on the reference machine, cut down; the others run as they are.
SMALLER: dict[tuple[str, str], dict[str, int]] = {
    ("vector_add", "main"): {"N": 5000},
    ("matmul_f16", "main"): {"M": 128, "N": 128, "K": 96},
    ("matmul_w4a16", "main"): {"M": 72, "N": 256, "K": 256},
    ("matmul_w4a16", "quantized"): {"N": 128, "K": 256},
    ("gemm_w4a16_sm80", "main"): {"K": 1024, "N": 64},
    ("gemm_w4a16", "main"): {"K": 2176, "N": 64},
    ("transpose", "main"): {"M": 128, "N": 192},
    ("softmax", "main"): {"M": 8},
    ("layer_norm", "main"): {"M": 8},
}

TEXTS: set[Kernel] = set()


def names(value: object) -> str:
    return value.stem if isinstance(value, Path) else str(value)


def run(monkeypatch, path: Path, case: str, target: str, variant: str, settings) -> None:
    """Runs a case with every kernel held to its lowerings."""
    validation = translation.Validation(target, variant, TEXTS)
    monkeypatch.setitem(cases.EXECUTORS, "lowered", "tests.compiler.translation:execute")
    monkeypatch.setattr(translation, "execute", validation.execute, raising=False)
    module = load(path)
    result = cases.run_case(module, module.cases[case], executor="lowered", settings=settings)
    assert result.fault is None, result.fault
    assert result.passed, result.expectations


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("path", "case", "target"), RUNS, ids=names)
def test_every_pass_keeps_the_meaning_of_a_case(monkeypatch, path, case, target, variant):
    run(monkeypatch, path, case, target, variant, SMALLER.get((path.stem, case)))


# One past a tile, one past a stage, a single row; constants other than those of the file.
ODD = [
    ("vector_add", "main", {"N": 1027, "TILE": 512}),
    ("softmax", "main", {"N": 300, "M": 3, "COLUMNS": 128}),
    ("layer_norm", "main", {"N": 300, "M": 3, "ROWS": 8}),
    ("matmul_f16", "main", {"M": 33, "N": 70, "K": 50, "BM": 32, "BN": 64, "BK": 16, "STAGES": 4}),
    ("matmul_f16", "main", {"M": 1, "N": 136, "K": 40}),
    ("matmul_w4a16", "main", {"M": 5, "N": 256, "K": 128, "BN": 256, "BK": 32, "GROUP": 64}),
    ("matmul_w4a16", "main", {"M": 1, "N": 128, "K": 128, "STAGES": 3}),
    ("transpose", "main", {"M": 33, "N": 129, "TILE": 32}),
]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("name", "case", "settings"), ODD, ids=str)
def test_odd_sizes_and_other_constants(monkeypatch, name, case, settings, variant):
    run(monkeypatch, FOLDER / f"{name}.vm", case, "sm_80", variant, settings)


# Seeds of random programs; more with `python -m tests.compiler.random_programs`.
ON_MACHINE = range(40)
ON_EMULATOR = range(100, 116)


@pytest.mark.parametrize("seed", ON_MACHINE)
def test_every_pass_keeps_the_meaning_of_a_random_program(seed):
    assert random_programs.check_on_machine(random_programs.trial(seed)) == []


def test_emitted_random_programs_give_the_same_bits(objects):
    trials = [random_programs.trial(seed) for seed in ON_EMULATOR]
    assert list(random_programs.check_on_emulator(trials, objects)) == []


def test_random_programs_have_every_step():
    texts = [random_programs.random_program(seed) for seed in (*ON_MACHINE, *ON_EMULATOR)]
    for word in ("dot(", "group ", "scatter(", "gather(", "reduce(", "relayout(", "view(",
                 "shared_alloc(", "copy_async(", "atomic(", "for ", "if ", "load_scalar("):
        assert sum(word in text for text in texts) >= 3, word
