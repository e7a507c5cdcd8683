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

ROWS = 64
COLUMNS = 8
SCHEDULES = (
    {"WARPS": 8, "STAGES": 2},
    {"WARPS": 8, "STAGES": 3},
    {"WARPS": 8, "STAGES": 4},
    {"WARPS": 16, "STAGES": 2},
    {"WARPS": 16, "STAGES": 3},
    {"WARPS": 4, "STAGES": 4},
)
TUNING_ROUNDS = 3


def supports(point: Point) -> bool:
    fits = point.n % ROWS == 0 and point.k % (4 * GROUP) == 0
    return point.weight.name == "u4" and point.m <= COLUMNS and fits


def prepare(point: Point, problem: Problem) -> Prepared:
    """The fastest of SCHEDULES, each timed as the harness times."""
    import torch

    from vm.isa.program import load
    from vm.runtime.compiled import compile_program

    module = load("programs/decode_w4a16.vm")
    pack = compile_program(module["pack_weight"])
    codes = problem.codes
    pairs = (codes[:, 0::2] | codes[:, 1::2] << 4).contiguous()
    blocks, groups = point.n // ROWS, point.k // GROUP
    packed = torch.empty((blocks, groups, ROWS * GROUP // 2), dtype=torch.uint8, device="cuda")
    pack(pairs, packed)
    scales = problem.scales.view(blocks, 8, 8, groups).permute(0, 3, 2, 1).contiguous()
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    copies = [(packed.clone(), scales.clone()) for _ in outputs]
    candidates = []
    for schedule in SCHEDULES:
        if point.k % (schedule["WARPS"] * GROUP):
            continue
        decode = compile_program(module["decode"], **schedule)
        launches = tuple(
            partial(decode, problem.activations, *copy, output)
            for copy, output in zip(copies, outputs, strict=True)
        )
        candidates.append(Prepared(launches, outputs, str(schedule)))
    calls = calls_per_graph(len(copies), max(1.0, 1e6 * point.bytes / 3e12))
    graphs = [capture(candidate, calls) for candidate in candidates]
    medians = [statistics.median(each) for each in interleaved_samples(graphs, TUNING_ROUNDS)]
    for candidate, median in zip(candidates, medians, strict=True):
        print(point, candidate.configuration, f"{median:.2f} us")
    return candidates[medians.index(min(medians))]


VM_DECODE = Peer("vm_decode", "vm decode (this project)", vm_version, supports, prepare)
