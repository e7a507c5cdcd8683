"""The scripts that run suites on a GPU, as far as they go without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cases_on_gpu, conformance_on_gpu
from vm.isa.program import load

PROGRAMS = sorted((cases_on_gpu.ROOT / "programs").glob("*.vm"))


def test_every_program_has_sizes_beyond_those_of_its_cases():
    assert set(cases_on_gpu.SIZES) == {path.stem for path in PROGRAMS}
    for path in PROGRAMS:
        *own, (_, name, sizes) = cases_on_gpu.jobs_of(path)
        assert [case for _, case, _ in own] == list(load(path).cases)
        assert name in load(path).cases
        assert 1 in sizes.values() or len(sizes) == 1
        assert cases_on_gpu.small_case(path) in load(path).cases


@pytest.mark.parametrize("name", ["transpose", "vector_add", "softmax"])
def test_rows_hold_every_seed_to_the_bound(name):
    path = cases_on_gpu.ROOT / "programs" / f"{name}.vm"
    found = cases_on_gpu.rows("reference", cases_on_gpu.jobs_of(path)[-1])
    assert [row["seed"] for row in found] == list(cases_on_gpu.SEEDS)
    assert all(row["passed"] and row["worst_share_of_bound"] <= 1 for row in found)
    assert all(row["sizes"] == cases_on_gpu.jobs_of(path)[-1][2] for row in found)


SUITE = """vm 1
const T = i32
program plus(A: global(T)[N], C: out(global(T))[N]) grid (1) threads 32 {
  store(C[0 +: 32], load(A[0 +: 32]) + 1)
}
program bulk(C: out(global(i32))[4]) grid (1) threads 32 {
  full = mbarrier_alloc([1])
  mbarrier_arrive(full[0])
}
test "adding" {
  b = plus(tensor(i32, [1, 2]))
  assert_return(plus(b), tensor(i32, [3, 4]))
  assert_return(bulk(), tensor(i32, [0, 0, 0, 0]))
  assert_trap(plus(b), "E0502", at="load(A[0 +: 32])")
}
"""


def test_a_tests_kernels_are_compiled_once_and_refusals_are_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VM_CACHE_DIR", str(tmp_path))
    file = tmp_path / "suite.vm"
    file.write_text(SUITE)
    compiled = conformance_on_gpu.compile_test(("sm_80",), file, "adding")
    assert (compiled.kernels, compiled.failed) == (2, [])
    (refused,) = compiled.refused
    assert refused.startswith("sm_80 bulk") and "mbarrier_alloc" in refused
    assert len(list(tmp_path.rglob("*.entry"))) == 1


def test_the_table_counts_and_shows_the_first_failures():
    def result(line: int, status: str) -> dict[str, object]:
        return {"file": "a.vm", "line": line, "test": "t", "status": status, "reason": "no\nluck"}

    reports = [
        {"file": "a.vm", "wall_seconds": 1.5, "counts": {"pass": 3, "fail": 5, "skip": 1},
         "results": [result(line, "fail") for line in range(5)] + [result(9, "pass")]},
        {"file": "b.vm", "wall_seconds": 0.5, "counts": {}, "results": [], "ended": "a fault"},
    ]  # fmt: skip
    assert len(conformance_on_gpu.failures(reports[0])) == 5
    lines = conformance_on_gpu.table(reports).splitlines()
    assert lines[1].split() == ["a.vm", "3", "5", "1", "1.5"]
    assert lines[2].split()[-2:] == ["ended", "early"]
    assert lines[3].split() == ["all", "3", "5", "1"]
    assert [line for line in lines if "no luck" in line] == lines[4:7]
    assert "a fault" in lines[7]
