"""How well the model of the decode GEMM chooses, on the committed times."""

import statistics
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.gemm_model import (
    MEASURED,
    RESULTS,
    Timed,
    compiled,
    data_of,
    fit,
    form_of,
    regrets,
    report,
    timed,
)
from benchmarks.problem import Point, WeightType
from programs.gemm_schedules import COSTS, H100, fits_registers, fitting, predicted_us


@pytest.fixture(scope="module", params=MEASURED)
def device(request):
    return request.param


@pytest.fixture(scope="module")
def found(device):
    return regrets(timed(device))


POINTS = {"h100": 24, "h200": 19}
FIRST = {"h100": (0.01, 0.04), "h200": (0.03, 0.11)}
"""What the first choice may cost in the mean, and at worst."""
OF_EIGHT = {"h100": 0.02, "h200": 0.04}


def test_the_best_of_the_first_eight_is_near_the_fastest_everywhere(found, device):
    assert len(found) >= POINTS[device]
    assert all(each.schedules > 30 for each in found)
    assert max(each.of_eight for each in found) <= OF_EIGHT[device]


def test_the_first_choice_costs_little(found, device):
    firsts = [each.first for each in found]
    mean, worst = FIRST[device]
    assert statistics.mean(firsts) <= mean
    assert max(firsts) <= worst


def test_the_notes_say_how_well_it_chooses(found, device):
    lines = []
    report(found, lines.append)
    notes = (RESULTS.parent / "notes.md").read_text()
    shown = "".join(f"    {line}\n" for line in lines[-2:])
    assert f"<!-- regrets {data_of(device).name} -->\n{shown}<!-- end regrets -->" in notes


def test_schedules_that_spill_are_left_out_and_hardly_any_that_do_not():
    def fits(each):
        form = form_of(Point("8192x8192", WeightType.parse(each.weight), 1))
        return fits_registers(form, each.schedule, H100)

    spilled = [fits(each) for each in compiled() if each.registers is None]
    whole = [fits(each) for each in compiled() if each.registers is not None]
    assert len(spilled) > 100 and len(whole) > 200
    assert statistics.mean(spilled) <= 0.35
    assert statistics.mean(whole) >= 0.99


def test_the_fit_finds_constants_that_times_were_made_with():
    """Times that the model itself makes, with noise, lead back to it from other constants."""
    true = replace(COSTS, weight=2.0, block=1.5, burst=0.4)
    noise = np.random.default_rng(1)
    rows = []
    for shape, m in (("gm9_dn", 1), ("8192x8192", 8)):
        point = Point(shape, WeightType.parse("u4"), m)
        form = form_of(point)
        for schedule in list(fitting(form, m, point.n, point.k, H100))[::4]:
            us = predicted_us(form, m, point.n, point.k, schedule, H100, true)
            rows.append(Timed(point, schedule, us * (1 + noise.normal(0, 0.002))))

    def error(costs):
        logs = [
            np.log(predicted_us(form_of(r.point), r.point.m, r.point.n, r.point.k, r.schedule,
                                H100, costs) / r.us)
            for r in rows
        ]  # fmt: skip
        return float(np.sqrt(np.mean(np.square(logs))))

    assert error(COSTS) > 0.03
    assert error(fit(rows, COSTS, turns=8)) < 0.01
