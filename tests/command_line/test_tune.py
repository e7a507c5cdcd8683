"""`vm tune` with a stopwatch that makes up times, and what it says where there is no GPU."""

import io

import pytest
from rich.console import Console

from tests.runtime.test_tuning import TEXT, FakeStopwatch, blocks
from vm.command_line import tune as command
from vm.command_line.tune import Bar, combinations
from vm.errors import VmError
from vm.runtime.stopwatch import Measurement
from vm.runtime.tuning import Outcome


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "twice.vm"
    path.write_text(TEXT)
    return path


@pytest.fixture
def watch(monkeypatch, tmp_path):
    watch = FakeStopwatch()
    monkeypatch.setattr(command, "CudaStopwatch", lambda: watch)
    monkeypatch.setenv("VM_CACHE_DIR", str(tmp_path / "cache"))
    return watch


def test_the_fastest_comes_first_and_progress_is_told_in_plain_lines(vm, file, watch):
    outcome = vm("tune", file, "--try", "BLOCK=32,64,96", "--set", "N=96")
    assert outcome.status == 0
    assert outcome.output.splitlines() == [
        "3 configurations on none",
        "      10.00 us  (9.00 to 11.00)  BLOCK=64",
        "      42.00 us  (41.00 to 43.00)  BLOCK=32",
        "      42.00 us  (41.00 to 43.00)  BLOCK=96",
    ]
    assert outcome.errors.splitlines() == [
        "1 of 3  BLOCK=32: 42.00 us", "2 of 3  BLOCK=64: 10.00 us", "3 of 3  BLOCK=96: 42.00 us",
    ]  # fmt: skip
    assert watch.sizes == [(96,)] * 3
    again = vm("tune", file, "--try", "BLOCK=32,64,96", "--set", "N=96")
    assert (again.status, again.output, again.errors) == (0, outcome.output, "")


def test_constants_that_are_set_are_the_same_in_all(vm, file, watch):
    outcome = vm("tune", file, "--try", "BLOCK=32", "--set", "FACTOR=3")
    assert outcome.status == 1
    assert "no time      BLOCK=32: C is wrong in" in outcome.output
    assert "E0850" in outcome.errors


def test_all_values_of_all_constants_are_combined():
    found = combinations(["A=1,2", "B=f16,local(2, 3)"])
    assert [(each["A"], str(each["B"])) for each in found] == [
        (1, "f16"), (1, "local(2, 3)"), (2, "f16"), (2, "local(2, 3)"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "tries, hint",
    [([], "nothing to try"), (["A"], "is not NAME=VALUE"), (["A=load(B)"], "instruction")],
)
def test_what_cannot_be_tried_is_refused(tries, hint):
    with pytest.raises(VmError, match="E0803") as caught:
        combinations(tries)
    assert hint in str(caught.value)


def test_without_a_gpu_it_says_so_and_other_mistakes_first(vm, file, monkeypatch):
    from vm.errors import fail

    def nothing():
        raise fail("E0821", "no NVIDIA GPU can be used", None)

    monkeypatch.setattr(command, "CudaStopwatch", nothing)
    assert "E0821" in vm("tune", file, "--try", "BLOCK=64").errors
    assert "did you mean `BLOCK`" in vm("tune", file, "--try", "BLOK=64").errors
    assert "E0809" in vm("tune", file, "--try", "BLOCK=64", "--program", "doubled").errors
    assert "E0809" in vm("tune", file, "--try", "BLOCK=64", "--case", "other").errors


def test_a_terminal_gets_a_bar_with_the_time_left():
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    with Bar(console) as bar:
        bar.planned(4)
        for configuration in blocks(32, 64):
            bar.measured(configuration, Outcome(Measurement(12.5, 12, 13, 16)))
    shown = written.getvalue()
    assert "2/4" in shown and "left:" in shown and "BLOCK=64: 12.50 us" in shown
