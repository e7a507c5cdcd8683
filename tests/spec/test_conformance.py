"""The conformance suite on the reference machine."""

from __future__ import annotations

from tests.spec.conftest import SUITE, module_of, names_in, suite
from vm.runtime.conformance import FAIL, run_test, waivers


def test_every_test_is_collected():
    for file, module in suite():
        assert names_in(file) == list(module.tests)


def test_passes(conformance_test):
    file, name = conformance_test
    module = module_of(file)
    results = run_test(module, module.tests[name], "reference", waivers(SUITE))
    assert results
    failed = [f"line {r.line} {r.directive}: {r.reason}" for r in results if r.status == FAIL]
    assert not failed, "\n".join(failed)
