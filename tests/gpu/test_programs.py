"""Every program and case on the GPU, held to the bounds that the reference machine is held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.isa.program import load
from vm.runtime.cases import run_case

PROGRAMS = sorted(Path("programs").glob("*.vm"))
CASES = [(path, case) for path in PROGRAMS for case in load(path).cases.values()]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("path", "case"), CASES, ids=[f"{path.stem}-{case.name}" for path, case in CASES]
)
def test_case_on_cuda(path: Path, case) -> None:
    result = run_case(load(path), case, executor="cuda")
    assert result.passed, result
