"""Running conformance tests: what passes, fails, is skipped and waived, and how that is counted."""

from __future__ import annotations

from vm.errors import Source
from vm.isa.parse import parse_text
from vm.isa.program import Module
from vm.runtime.conformance import FAIL, PASS, SKIP, WAIVED, Report, Waiver, run_tests
from vm.runtime.conformance_directives import Instances

TEXT = """vm 1
program twice(A: global(i32)[4], C: out(global(i32))[4]) grid (1) threads 32 {
  store(C, load(A) * 2)
}
program fails(n: i32, C: out(global(i32))[1]) grid (1) threads 32 { store(C, 1 / n) }
test "right and wrong" rules "Exec/load", "Exec/mul" {
  assert_return(twice(tensor(i32, [1, 2, 3, 4])), tensor(i32, [2, 4, 6, 8]))
  assert_return(twice(tensor(i32, [1, 2, 3, 4])), tensor(i32, [2, 4, 6, 9]))
}
test "a trap" rules "Exec/div" {
  assert_trap(fails(0), "E0502", at="n", nth=2)
}
test "of another world" needs "quantum" rules "Exec/load" {
  assert_return(twice(tensor(i32, [1, 2, 3, 4])), tensor(i32, [0, 0, 0, 0]))
}
test "no test at all" rules "Exec/load" {
  assert_return(twice(nothing), tensor(i32, [0, 0, 0, 0]))
}
"""


def results(executor: str = "reference", *waived: Waiver):
    module = Module(parse_text(Source("some/suite.vm", TEXT)))
    return run_tests(Instances(module), executor, waived)


def statuses(executor: str = "reference", *waived: Waiver) -> list[str]:
    return [each.status for each in results(executor, *waived)]


def test_what_holds_passes_and_a_skip_says_what_is_missing():
    # Tests rule Text/report.
    found = results()
    assert [each.status for each in found] == [PASS, FAIL, PASS, SKIP, FAIL]
    assert [each.line for each in found] == [7, 8, 11, 14, 17]
    assert "result 0[3] is 8" in found[1].reason
    assert found[3].reason == "reference lacks quantum"
    assert found[4].directive == "test" and "nothing" in found[4].reason


def test_an_executor_that_declares_less_skips_more():
    assert statuses("emulator") == [PASS, FAIL, SKIP, SKIP, FAIL]


def test_what_a_target_cannot_do_is_a_skip_with_its_reason(monkeypatch):
    from vm.errors import fail
    from vm.runtime import compiled

    def refuse(kernel, arguments, **options):
        raise fail("E0901", "no GPU does this", None)

    monkeypatch.setattr(compiled, "run_on_emulator", refuse)
    found = results("emulator")
    assert [each.status for each in found] == [SKIP, SKIP, SKIP, SKIP, FAIL]
    assert found[0].reason == "emulator: no GPU does this"


def test_waivers_are_for_one_test_on_one_executor_and_must_be_needed():
    waiver = Waiver("reference", "suite.vm", "right and wrong", "not done yet")
    assert statuses("reference", waiver) == [PASS, WAIVED, PASS, SKIP, FAIL]
    other = Waiver("emulator", "suite.vm", "right and wrong", "not done yet")
    assert statuses("reference", other) == [PASS, FAIL, PASS, SKIP, FAIL]
    needless = Waiver("reference", "suite.vm", "a trap", "it was once")
    assert statuses("reference", needless) == [PASS, FAIL, FAIL, SKIP, FAIL]


def test_counts():
    report = Report("reference", results())
    assert report.counts() == {PASS: 2, FAIL: 2, SKIP: 1, WAIVED: 0}
    assert not report.passed and Report("reference", results()[:1]).passed
    assert report.by_directive() == {"assert_return": 3, "assert_trap": 1, "test": 1}
    counts = {name: found for name, found in report.by_instruction().items() if found}
    assert counts == {
        "div": {"assert_trap": 1}, "load": {"assert_return": 3, "test": 1},
        "mul": {"assert_return": 2},
    }  # fmt: skip
    assert report.as_json()["by_instruction"]["mul"] == {"assert_return": 2}
