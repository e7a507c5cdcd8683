"""The project's own kernels for few rows: compiled from programs/decode_w4a16.vm."""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.peers.vm_w4a16 import vm_version
from benchmarks.problem import GROUP, Point
from benchmarks.timing import calls_per_graph, capture, interleaved_samples, rotation

if TYPE_CHECKING:
    from benchmarks.laboratory import Problem

COLUMNS = 8
SCHEDULES = tuple(
    {"ROWS": rows, "WARPS": warps, "STAGES": stages, "RESIDENT": resident}
    for rows, warps, stages, resident in (
        (16, 16, 3, 2),
        (16, 8, 3, 4),
        (16, 12, 3, 3),
        (32, 16, 2, 2),
        (32, 16, 3, 2),
        (32, 8, 2, 4),
        (32, 8, 3, 4),
        (32, 8, 3, 2),
        (32, 10, 2, 3),
        (64, 8, 2, 2),
        (64, 16, 2, 1),
    )
)
TUNING_ROUNDS = 3


def supports(point: Point) -> bool:
    fits = point.n % 16 == 0 and point.k % GROUP == 0
    return point.weight.name == "u4" and point.m <= COLUMNS and fits


def prepare(point: Point, problem: Problem) -> Prepared:
    """The fastest of SCHEDULES, each timed as the harness times."""
    import vm
    from vm.isa.program import load

    module = load("programs/decode_w4a16.vm")
    codes = problem.codes
    pairs = (codes[:, 0::2] | codes[:, 1::2] << 4).contiguous()
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    candidates = []
    copies: dict[int, list] = {}
    for schedule in SCHEDULES:
        rows = schedule["ROWS"]
        if point.n % rows:
            continue
        if rows not in copies:
            copies[rows] = _packed_copies(module, problem, pairs, point, rows, len(outputs))
        decode = vm.compile(module["decode"], **schedule)
        launches = tuple(
            partial(decode, problem.activations, *copy, output)
            for copy, output in zip(copies[rows], outputs, strict=True)
        )
        candidates.append(Prepared(launches, outputs, str(schedule)))
    calls = calls_per_graph(len(outputs), max(1.0, 1e6 * point.bytes / 3e12))
    graphs = [capture(candidate, calls) for candidate in candidates]
    medians = [statistics.median(each) for each in interleaved_samples(graphs, TUNING_ROUNDS)]
    for candidate, median in zip(candidates, medians, strict=True):
        print(point, candidate.configuration, f"{median:.2f} us")
    return candidates[medians.index(min(medians))]


def _packed_copies(module, problem, pairs, point: Point, rows: int, count: int) -> list:
    """Weights and scales as the program wants them for blocks of `rows` outputs."""
    import torch

    import vm

    blocks, groups = point.n // rows, point.k // GROUP
    packed = torch.empty((blocks, groups, rows * GROUP // 2), dtype=torch.uint8, device="cuda")
    vm.compile(module["pack_weight"], ROWS=rows)(pairs, packed)
    scales = problem.scales.view(blocks, rows // 8, 8, groups).permute(0, 3, 2, 1).contiguous()
    return [(packed.clone(), scales.clone()) for _ in range(count)]


VM_DECODE = Peer("vm_decode", "vm decode (this project)", vm_version, supports, prepare)
