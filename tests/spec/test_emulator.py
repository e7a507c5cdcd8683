"""The conformance suite on the emulator: the C++ that is emitted, compiled for this computer.

The kernels of a file are compiled together, or most of the time would go into reading the headers.
Files without programs hold nothing that an executor does.
"""

from __future__ import annotations

import pytest

from tests.spec.conftest import SUITE, suite
from vm.runtime.conformance import PASS, SKIP, run_tests, waivers

FILES = [
    pytest.param(instances, id=file.stem)
    for file, instances in suite() if instances.module.programs
]  # fmt: skip


@pytest.mark.parametrize("instances", FILES)
def test_does_all_that_needs_no_capability(instances):
    results = run_tests(instances, "emulator", waivers(SUITE))
    assert results
    wrong = [
        f"line {r.line} {r.directive}: {r.status}: {r.reason}"
        for r in results
        if r.status != PASS and not (r.status == SKIP and r.reason.startswith("emulator lacks "))
    ]
    assert not wrong, "\n".join(wrong)
