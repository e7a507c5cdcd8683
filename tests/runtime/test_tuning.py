"""Tuning on a stopwatch that runs programs on the reference machine and makes up their times."""

import pytest

from vm.errors import VmError, fail
from vm.isa.program import parse
from vm.runtime import cases, reference
from vm.runtime.stopwatch import Measurement
from vm.runtime.tuning import (
    Configuration,
    Store,
    Work,
    called_programs,
    fastest,
    stored,
    tune,
    with_values,
)

TEXT = """vm 1
const BLOCK = 32
const FACTOR = 2

program twice(A: global(f32)[N], C: out(global(f32))[N])
  grid (ceil_div(N, BLOCK)) threads 32
{
  i = block_index() * BLOCK
  x = load(A[i +: BLOCK])
  store(C[i +: BLOCK], x * cast(FACTOR, f32))
}

program copy(A: global(f32)[N], C: out(global(f32))[N])
  grid (ceil_div(N, 32)) threads 32
{
  i = block_index() * 32
  store(C[i +: 32], load(A[i +: 32]))
}

reference doubled(A: f32[N]) {
  return A + A
}

case main(N = 64) {
  A = random(f32, [N], seed=1)
  B = copy(A)
  C = twice(copy(B))
  expect(C, doubled(A), bound=exact())
}
"""
MODULE = parse(TEXT)
WORK = Work("main", {"N": 96})


class FakeStopwatch:
    """Blocks of 64 are the fastest; `measured` are the blocks that were measured."""

    device_name = "none"

    def __init__(self, versions=None, breaks_at=None, code="E0825"):
        self.versions = versions or {"vm": "1"}
        self.measured, self.sizes, self.ahead = [], [], []
        self.breaks_at, self.code = breaks_at, code

    def run(self, kernel, arguments, *, output):
        return reference.run(kernel, arguments, output=output)

    def compile_ahead(self, kernels):
        self.ahead += [kernel.name for kernel in kernels]

    def measure(self, kernel, arguments):
        assert kernel.name == "twice"
        block = int(kernel.text.split("+: ")[1].split("]")[0])
        if block == self.breaks_at:
            raise fail(self.code, "the device is gone", None)
        self.measured.append(block)
        self.sizes.append(arguments["A"].shape)
        us = 10.0 + abs(block - 64)
        return Measurement(us, us - 1, us + 1, 16)


def blocks(*values):
    return [with_values(MODULE, {"BLOCK": value}) for value in values]


def test_what_will_be_compiled_is_told_before_anything_is_measured(tmp_path):
    stopwatch, store = FakeStopwatch(), Store(tmp_path)
    tune(blocks(64), WORK, stopwatch, store, ahead=stopwatch.compile_ahead)
    assert stopwatch.ahead == ["copy", "copy", "twice"]
    stopwatch.ahead.clear()
    tune(blocks(32, 64), WORK, stopwatch, store, ahead=stopwatch.compile_ahead)
    assert stopwatch.ahead == ["copy", "copy", "twice"]  # those of the new one
    stopwatch.ahead.clear()
    tune(blocks(32, 64), WORK, stopwatch, store, ahead=stopwatch.compile_ahead)
    assert not stopwatch.ahead


def test_what_all_configurations_are_compared_with_is_computed_once(tmp_path, monkeypatch):
    calls, run = [], cases.run_reference
    monkeypatch.setattr(cases, "run_reference", lambda *a, **k: calls.append(1) or run(*a, **k))
    tune(blocks(32, 64, 96), WORK, FakeStopwatch(), Store(tmp_path))
    assert len(calls) == 1


def test_each_configuration_is_measured_once_on_the_inputs_of_the_case(tmp_path):
    stopwatch, seen, counts = FakeStopwatch(), [], []
    found = tune(blocks(32, 64, 96), WORK, stopwatch, Store(tmp_path),
                 planned=counts.append, measured=lambda c, o: seen.append(str(c)))  # fmt: skip
    assert stopwatch.measured == [32, 64, 96] and stopwatch.sizes == [(96,)] * 3
    assert counts == [3] and seen == ["BLOCK=32", "BLOCK=64", "BLOCK=96"]
    configuration, measurement = fastest(found)
    assert configuration.values == {"BLOCK": 64} and measurement == Measurement(10, 9, 11, 16)
    assert len(list(tmp_path.glob("*.entry"))) == 3


def test_what_is_stored_is_not_measured_again_unless_something_it_depends_on_has_changed(tmp_path):
    first = tune(blocks(32, 64), WORK, FakeStopwatch(), Store(tmp_path))
    again = FakeStopwatch()
    counts = []
    second = tune(blocks(32, 64, 96), WORK, again, Store(tmp_path), planned=counts.append)
    assert again.measured == [96] and counts == [1]
    assert [o for _, o in second[:2]] == [o for _, o in first]
    other = FakeStopwatch(versions={"vm": "2"})
    tune(blocks(32), WORK, other, Store(tmp_path))
    tune(blocks(32), Work("main", {"N": 64}), other, Store(tmp_path))
    assert other.measured == [32, 32]
    other.device_name = "another"
    tune(blocks(32), WORK, other, Store(tmp_path))
    assert other.measured == [32, 32, 32]


def test_what_was_tuned_can_be_looked_up_without_measuring(tmp_path):
    measured = tune(blocks(32, 64), WORK, FakeStopwatch(), Store(tmp_path))
    looking = FakeStopwatch()
    found = stored(blocks(32, 64, 96), WORK, looking, Store(tmp_path))
    assert [outcome for _, outcome in found] == [*(o for _, o in measured), None]
    assert looking.measured == []


def test_an_interrupted_tuning_goes_on_where_it_stopped(tmp_path):
    broken = FakeStopwatch(breaks_at=64)
    with pytest.raises(VmError, match="E0825"):
        tune(blocks(32, 64, 96), WORK, broken, Store(tmp_path))
    whole = FakeStopwatch()
    tune(blocks(32, 64, 96), WORK, whole, Store(tmp_path))
    assert broken.measured == [32] and whole.measured == [64, 96]


def test_a_damaged_file_is_measured_again(tmp_path):
    tune(blocks(32, 64), WORK, FakeStopwatch(), Store(tmp_path))
    path = next(iter(sorted(tmp_path.glob("*.entry"))))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = FakeStopwatch()
    tune(blocks(32, 64), WORK, again, Store(tmp_path))
    assert len(again.measured) == 1


def test_the_same_kernel_is_measured_once(tmp_path):
    stopwatch = FakeStopwatch()
    one, other = (Configuration({"name": n}, lambda: MODULE) for n in ("one", "other"))
    found = tune([one, other], WORK, stopwatch, Store(tmp_path))
    assert stopwatch.measured == [32]
    assert found[0][1] == found[1][1] and [c for c, _ in found] == [one, other]


def test_what_does_not_fit_or_is_wrong_has_a_reason_and_is_not_tried_again(tmp_path):
    configurations = [*blocks(32, 64), with_values(MODULE, {"FACTOR": 3})]
    stopwatch = FakeStopwatch(breaks_at=64, code="E0904")
    found = tune(configurations, WORK, stopwatch, Store(tmp_path))
    reasons = [outcome.fault for _, outcome in found]
    assert reasons[0] is None
    assert "E0904" in reasons[1] and "C is wrong in 96 elements" in reasons[2]
    again = FakeStopwatch()
    assert tune(configurations, WORK, again, Store(tmp_path)) == found
    assert again.measured == []


def test_constants_that_no_kernel_can_be_made_with_are_not_run(tmp_path):
    stopwatch = FakeStopwatch()
    found = tune(blocks(0, 32), WORK, stopwatch, Store(tmp_path))
    assert found[0][1].measurement is None and found[0][1].fault.startswith("error[E")
    assert stopwatch.measured == [32]


def test_a_case_or_size_that_is_not_there_is_no_fault_of_a_configuration(tmp_path):
    for work, code in ((Work("other", {}), "E0809"), (Work("main", {"L": 1}), "E0803")):
        with pytest.raises(VmError, match=code):
            tune(blocks(32), work, FakeStopwatch(), Store(tmp_path))


def test_where_nothing_can_be_used_every_reason_is_told(tmp_path):
    found = tune(blocks(0, -32), WORK, FakeStopwatch(), Store(tmp_path))
    with pytest.raises(VmError, match="E0850") as caught:
        fastest(found)
    assert "BLOCK=0: " in str(caught.value) and "BLOCK=-32: " in str(caught.value)


def test_the_last_program_of_the_case_is_tuned_unless_another_is_named():
    assert called_programs(MODULE, MODULE.cases["main"]) == ["copy", "copy", "twice"]
    assert WORK.find(MODULE)[1] == "twice"
    assert Work("main", {}, "copy").find(MODULE)[1] == "copy"
    for work, hint in ((Work("main", {}, "doubled"), "it calls"), (Work("mian", {}), "`main`")):
        with pytest.raises(VmError, match="E0809") as caught:
            work.find(MODULE)
        assert hint in str(caught.value)


def test_a_name_that_is_no_constant_is_refused():
    with pytest.raises(VmError, match="E0803") as caught:
        with_values(MODULE, {"BLOK": 1})
    assert "did you mean `BLOCK`?" in str(caught.value)
