"""The conformance suite on the reference machine."""

from __future__ import annotations

from tests.spec.conftest import SUITE
from vm.runtime.conformance import FAIL, run_test, waivers


def test_passes(conformance_test):
    # Tests rule Conform/parts.
    instances, test = conformance_test
    results = run_test(instances, test, "reference", waivers(SUITE))
    assert results
    failed = [f"line {r.line} {r.directive}: {r.reason}" for r in results if r.status == FAIL]
    assert not failed, "\n".join(failed)
