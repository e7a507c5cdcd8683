"""Which schedules of the decode GEMM fit a device, and what the model says of them."""

from dataclasses import replace

import pytest

from programs.gemm import gemm
from programs.gemm_schedules import (
    H100,
    best,
    cast_cost,
    choose,
    configurations,
    fitting,
    main,
    places,
    predicted_us,
    shared_bytes,
    table_bytes,
    work,
)
from programs.gemm_tiling import Schedule
from programs.quantized_matmul import FORMATS, Form
from vm.compiler.pipeline import compile_source, target
from vm.runtime import reference
from vm.runtime.stopwatch import Measurement
from vm.runtime.tuning import Store, tune

FORM = Form("u4", 128, offset=8)


@pytest.mark.parametrize("form", [FORM, Form("nf4", 128)], ids=["integers", "a codebook"])
def test_shared_memory_of_a_block_is_what_the_compiler_plans(form):
    schedule = Schedule(32, 8, 8, stages=2, span=2)
    made = compile_source(gemm(form, schedule)["gemm"].instantiate(), target("sm_90a"))
    spare = made.manifest.shared_bytes - shared_bytes(form, schedule)
    assert 0 <= spare < 128  # what aligns its parts


def test_room_for_the_tables_that_casts_look_up():
    form = Form("nf4", 128)
    assert table_bytes(form) == 32 << 10 and table_bytes(FORM) == 0
    for schedule in fitting(form, 1, 8192, 8192, H100):
        taken = shared_bytes(form, schedule) + H100.reserved_bytes
        assert taken * schedule.resident <= H100.shared_bytes


def test_tiles_of_128_rows_are_for_few_columns_and_many_rows():
    """Where there are enough of them for all multiprocessors, the activations are read half as
    often."""
    for m, n, wanted in ((8, 57344, True), (16, 57344, False), (8, 64, False)):
        found = {schedule.rows for schedule in fitting(FORM, m, n, 8192, H100)}
        assert (128 in found) == wanted
    assert 128 in {each.rows for each in best(FORM, 8, 57344, 8192, H100, 4)}
    assert 128 not in {each.rows for each in best(FORM, 8, 8192, 8192, H100, 8)}


@pytest.mark.parametrize("m, n, k", [(1, 8192, 8192), (16, 3584, 14336), (3, 17, 1152)])
def test_as_many_blocks_fit_as_are_to_be_resident_and_all_warps_have_work(m, n, k):
    found = list(fitting(FORM, m, n, k, H100))
    assert found
    for schedule in found:
        assert places(FORM, schedule, H100) >= schedule.resident
        assert -(-k // (128 * schedule.span)) >= schedule.warps
        assert schedule.columns >= min(m, 16)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_has_a_schedule_for_the_largest_and_the_smallest_sizes(name):
    form = FORMATS[name]
    for m, n, k in ((1, 57344, 8192), (16, 1, form.group or 1)):
        assert choose(form, m, n, k, H100) in set(fitting(form, m, n, k, H100))


def test_a_device_without_shared_memory_has_none():
    with pytest.raises(ValueError, match="no schedule"):
        choose(FORM, 1, 8192, 8192, replace(H100, shared_bytes=8 << 10))


def test_a_device_without_bulk_copies_gets_schedules_of_copies_that_run_ahead():
    found = list(fitting(FORM, 1, 8192, 8192, replace(H100, has_bulk_copies=False)))
    assert found and all(not each.bulk and each.stages != 1 for each in found)
    assert {each.stages > 0 for each in found} == {True, False}  # rings, and straight to registers


def test_no_call_is_faster_than_reading_its_weights_and_more_of_anything_takes_longer():
    schedule = choose(FORM, 1, 8192, 8192, H100)

    def us(form=FORM, m=1, n=8192, k=8192, device=H100):
        return predicted_us(form, m, n, k, schedule, device)

    assert us() > 8192 * 8192 * (4 + 16 / 128) / 8 / H100.bandwidth
    assert us(n=16384) > us() and us(k=16384) > us() and us(m=8) > us() and us(m=9) > 1.5 * us()
    assert us(Form("u5", 128, offset=16)) > us()
    assert us(device=replace(H100, bandwidth=H100.bandwidth / 2)) > 1.5 * us()


def test_a_cast_costs_what_its_generator_says_and_a_zero_point_half_an_instruction():
    inside = Schedule(offset_outside=False)
    assert cast_cost(FORM, inside) == 1.0
    assert cast_cost(Form("u4", 128, zero_point=True), inside) == 1.5
    floats = [cast_cost(Form(name, 128), inside) for name in ("f6e3m2", "f8e4m3")]
    assert cast_cost(Form("u2", 128, offset=2), inside) < floats[0] < floats[1]


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_that_are_multiplied_as_they_are_cost_less_than_a_cast(bits):
    form = Form(f"u{bits}", 128, offset=1 << (bits - 1))
    outside, inside = (cast_cost(form, Schedule(offset_outside=each)) for each in (True, False))
    assert 0.5 <= outside < inside
    assert cast_cost(replace(form, activation="bf16"), Schedule()) >= inside


def test_the_best_differ_in_more_than_depth_and_come_in_the_order_of_their_times():
    found = best(FORM, 8, 8192, 8192, H100, 8)
    assert len({replace(each, depth=128) for each in found}) == len(found) == 8
    times = [predicted_us(FORM, 8, 8192, 8192, each, H100) for each in found]
    assert times == sorted(times)
    assert found[0] == choose(FORM, 8, 8192, 8192, H100)
    assert best(FORM, 8, 8192, 8192, H100)[:8] == found


def test_the_command_shows_the_best_and_says_what_is_wrong(capsys):
    assert main(["--weight", "u4", "--offset", "8", "--size", "1,8192,8192", "--count", "3"]) == 0
    first, *shown = capsys.readouterr().out.splitlines()
    assert first == "M, N, K = 1, 8192, 8192 on an H100"
    assert [line.split("  ")[-1] for line in shown] == [
        str(each) for each in best(FORM, 1, 8192, 8192, H100, 3)
    ]
    assert main(["--weight", "u9", "--size", "1,64,128"]) == 1
    assert capsys.readouterr().err.startswith("error: u9")


def test_schedules_are_tuned_on_the_main_case_with_the_sizes_that_are_asked_for(tmp_path):
    """On a stopwatch that knows nothing of time: the kernel and its arguments reach it."""
    seen = []

    class Watch:
        device_name, versions = "none", {}

        def run(self, kernel, arguments, *, output):
            return reference.run(kernel, arguments, output=output)

        def measure(self, kernel, arguments):
            seen.append((kernel.name, arguments["A"].shape, arguments["C"].shape))
            return Measurement(1.0, 1.0, 1.0, 16)

    found = best(FORM, 2, 16, 1024, H100, 1)
    outcomes = tune(configurations(FORM, found), work(2, 16, 1024), Watch(), Store(tmp_path))
    assert seen == [("gemm", (2, 1024), (2, 16))]
    assert outcomes[0][1].measurement.us == 1.0
