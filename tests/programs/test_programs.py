"""Every program that we give to users does what its cases say, and is written as `vm fmt` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.command_line.check import diagnose
from vm.command_line.fmt import formatted
from vm.errors import read_source
from vm.isa.program import load, parse
from vm.runtime.cases import CaseResult, run_case

FOLDER = Path(__file__).parents[2] / "programs"
FILES = sorted(FOLDER.glob("*.vm"))
CASES = [(path, case) for path in FILES for case in load(path).cases]


def names(value: object) -> str:
    return value.stem if isinstance(value, Path) else str(value)


FIRST = ("vector_add", "softmax", "layer_norm", "matmul_f16", "matmul_w4a16", "transpose")


@pytest.mark.parametrize("path", FILES, ids=names)
def test_nothing_is_wrong_with_a_program(path):
    assert diagnose(path) == []


@pytest.mark.parametrize("path", FILES, ids=names)
def test_a_program_is_formatted(path):
    source = read_source(path)
    assert formatted(source) == source.text


@pytest.mark.parametrize("path", FILES, ids=names)
def test_a_program_prints_as_a_text_that_means_the_same(path):
    module = load(path)
    assert parse(str(module)) == module


@pytest.mark.parametrize(("path", "case"), CASES, ids=names)
def test_a_case_passes(path, case):
    result = passed(path, case)
    assert result.calls and result.expectations


@pytest.mark.parametrize("name", FIRST)
def test_cases_cover_odd_sizes_and_tile_edges(name):
    cases = load(FOLDER / f"{name}.vm").cases
    assert len(cases) >= 3
    assert "main" in cases


def passed(path: Path, case: str, **settings: int) -> CaseResult:
    module = load(path)
    result = run_case(module, module.cases[case], settings=settings)
    assert result.fault is None, result.fault
    assert result.passed, result.expectations
    return result


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("vector_add", {"N": 999, "TILE": 256}),
        ("softmax", {"N": 300, "M": 3, "COLUMNS": 128}),
        ("layer_norm", {"N": 300, "M": 3, "ROWS": 8}),
        ("matmul_f16", {"M": 33, "N": 70, "K": 50, "BM": 32, "BN": 64, "BK": 16, "STAGES": 4}),
        ("matmul_w4a16", {"M": 5, "N": 256, "K": 256, "BN": 256, "BK": 32, "GROUP": 64}),
        ("transpose", {"M": 33, "N": 129, "TILE": 32}),
    ],
)
def test_other_constants_give_the_same_answers(name, settings):
    passed(FOLDER / f"{name}.vm", "main", **settings)


@pytest.mark.parametrize("schedule", ["reverse", "random:1"])
@pytest.mark.parametrize("effects", ["issue", "random:2"])
def test_the_matmul_does_not_depend_on_the_order_of_what_is_unordered(schedule, effects):
    from vm.runtime.case_functions import random
    from vm.runtime.reference import run

    module = load(FOLDER / "matmul_f16.vm")
    kernel = module["matmul"].instantiate()
    f16 = next(p.type.dtype for p in kernel.parameters)
    (a,), (b,) = (random(f16, shape, seed=1).compute() for shape in ((65, 100), (100, 70)))
    arguments = {"A": a, "B": b, "C": None}
    plain = run(kernel, arguments).outputs["C"].codes()
    other = run(kernel, arguments, schedule=schedule, effects=effects).outputs["C"].codes()
    assert (plain == other).all()
