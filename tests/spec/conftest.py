"""Collects each `test` item of the conformance suite as one case."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.isa.program import load

SUITE = Path(__file__).parents[2] / "spec" / "conformance"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "conformance_test" in metafunc.fixturenames:
        cases = []
        for file in sorted(SUITE.glob("**/*.vm")):
            module = load(file)
            cases += [
                pytest.param((module, test), id=f"{file.stem}: {test.name}")
                for test in module.tests.values()
            ]
        metafunc.parametrize("conformance_test", cases)
