"""The conformance suite on the reference machine."""

from __future__ import annotations

from tests.spec.conftest import SUITE, has_programs, instances_of, names_in, suite
from vm.runtime.conformance import FAIL, run_test, waivers


def test_every_test_is_collected():
    for file, instances in suite():
        assert names_in(file) == list(instances.module.tests)
        assert has_programs(file) == bool(instances.module.programs)


def test_passes(conformance_test):
    # Tests rule Conform/parts.
    file, name = conformance_test
    instances = instances_of(file)
    test = instances.module.tests[name]
    results = run_test(instances, test, "reference", waivers(SUITE))
    assert results
    failed = [f"line {r.line} {r.directive}: {r.reason}" for r in results if r.status == FAIL]
    assert not failed, "\n".join(failed)
