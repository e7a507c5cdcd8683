"""The suite is large enough: in all, for every core instruction, and for every directive.

`vm test spec/conformance` prints the same counts.
"""

from __future__ import annotations

from functools import lru_cache

import pytest

from tests.spec.conftest import suite
from vm.isa.instruction import INSTRUCTIONS
from vm.runtime.conformance import PASS, Report, Result
from vm.runtime.conformance_directives import DIRECTIVES, Runner, Walk

CORE = [opcode for opcode in INSTRUCTIONS if "." not in opcode]
TRAPPING = {
    "E0501": ("load", "store", "load_scalar", "gather", "scatter", "atomic", "copy_async",
              "mbarrier_arrive", "mbarrier_expect", "mbarrier_wait", "copy_bulk", "semaphore_wait",
              "semaphore_release"),
    "E0502": ("div", "mod", "ceil_div"), "E0503": ("for",), "E0504": ("shl", "shr"),
    "E0505": ("assert",), "E0506": ("global_view",), "E0508": ("lookup",), "E0510": ("uniform",),
    "E0512": ("semaphore_alloc", "semaphore_release"),
}  # fmt: skip
"""What ends in which trap: chapter 5, and `Exec/` of the instructions."""


@lru_cache(maxsize=1)
def assertions() -> Report:
    """Every assertion of the suite, counted and not held."""
    report = Report("reference")
    for file, instances in suite():
        for test in instances.module.tests.values():
            for call in Walk(instances, test, Runner("reference")).assertions():
                place = call.origin.line
                report.results.append(
                    Result(file.name, test.name, place, call.function, PASS, "", test.rules)
                )
    return report


@lru_cache(maxsize=1)
def counts_by_instruction() -> dict[str, dict[str, int]]:
    return assertions().by_instruction()


def test_the_suite_has_2500_assertions():
    assert len(assertions().results) >= 2_500


def test_every_directive_is_used():
    assert set(assertions().by_directive()) == set(DIRECTIVES)


@pytest.mark.parametrize("opcode", CORE)
def test_every_core_instruction_has_its_share(opcode):
    counts = counts_by_instruction()[opcode]
    assert sum(counts.values()) >= 25
    assert counts.get("assert_invalid", 0) >= 4
    assert counts.get("assert_malformed", 0) >= 2
    if any(opcode in trapping for trapping in TRAPPING.values()):
        assert counts.get("assert_trap", 0) >= 2
