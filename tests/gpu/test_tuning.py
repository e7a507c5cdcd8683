"""Tuning the decode GEMM on a GPU: times that can be, kept, and no slower than another clock's."""

from __future__ import annotations

import pytest

from programs.gemm_schedules import H100, best, configurations, work
from programs.quantized_matmul import Form

pytestmark = pytest.mark.gpu

SIZES = 1, 4096, 4096


def test_two_schedules_have_times_between_the_floor_and_a_millisecond_and_keep_them(tmp_path):
    from vm.runtime.stopwatch import CudaStopwatch
    from vm.runtime.tuning import Store, fastest, tune

    form = Form("u4", 128, offset=8)
    found = best(form, *SIZES, H100, 2)
    counts: list[int] = []

    def outcomes():
        return tune(configurations(form, found), work(*SIZES), CudaStopwatch(), Store(tmp_path),
                    planned=counts.append)  # fmt: skip

    first, second = outcomes(), outcomes()
    kept = [[(each.values, outcome) for each, outcome in found] for found in (first, second)]
    assert counts == [2, 0] and kept[0] == kept[1]
    floor = 1e6 * 4096 * 4096 * 4.125 / 8 / 5e12  # no memory reads 5 TB/s
    for _, outcome in first:
        assert outcome.fault is None
        measured = outcome.measurement
        assert floor < measured.low <= measured.us <= measured.high < 1000
        assert measured.high < 1.5 * measured.low
    assert fastest(first)[1].us == min(o.measurement.us for _, o in first)
