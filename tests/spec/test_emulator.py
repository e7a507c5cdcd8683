"""The conformance suite on the emulator: the C++ that is emitted, compiled for this computer.

The kernels of a file are compiled together, or most of the time would go into reading the headers.
Files without programs hold nothing that an executor does.
"""

from __future__ import annotations

import pytest

from tests.spec.conftest import FILES, SUITE, has_programs, instances_of
from vm.runtime.conformance import PASS, SKIP, run_tests, waivers


@pytest.mark.parametrize("file", [*filter(has_programs, FILES)], ids=lambda file: file.stem)
def test_does_all_that_needs_no_capability(file):
    results = run_tests(instances_of(file), "emulator", waivers(SUITE))
    assert results
    wrong = [
        f"line {r.line} {r.directive}: {r.status}: {r.reason}"
        for r in results
        if r.status != PASS and not (r.status == SKIP and r.reason.startswith("emulator lacks "))
    ]
    assert not wrong, "\n".join(wrong)
