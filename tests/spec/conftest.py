"""Collects each `test` item of the conformance suite as one case."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from vm.isa.program import load
from vm.runtime.conformance_directives import Instances

SUITE = Path(__file__).parents[2] / "spec" / "conformance"


@lru_cache(maxsize=1)
def suite() -> tuple[tuple[Path, Instances], ...]:
    """The files of the suite, read once in a process."""
    return tuple((file, Instances(load(file))) for file in sorted(SUITE.glob("**/*.vm")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "conformance_test" in metafunc.fixturenames:
        cases = []
        for file, instances in suite():
            cases += [
                pytest.param((instances, test), id=f"{file.stem}: {test.name}")
                for test in instances.module.tests.values()
            ]
        metafunc.parametrize("conformance_test", cases)
