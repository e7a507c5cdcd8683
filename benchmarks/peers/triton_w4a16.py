"""A Triton kernel of our own for 2, 4 and 8 bit integer weights, with a short list of schedules.

It stands for what a careful author gets from Triton in an afternoon: weights packed for the
kernel, fields extracted through the mantissa of 1024.0, groups of 128 pipelined, split over K.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.problem import GROUP, Point, pack_planes
from benchmarks.timing import calls_per_graph, capture, interleaved_samples, rotation

if TYPE_CHECKING:
    from benchmarks.laboratory import Problem

ROWS = 16
"""Rows of A per block: the least that the matrix unit takes. Larger M is left to other peers."""
TUNING_ROUNDS = 3


@dataclass(frozen=True)
class Schedule:
    columns: int
    split: int
    warps: int
    stages: int


SCHEDULES = (
    Schedule(32, 1, 4, 4),
    Schedule(32, 2, 4, 4),
    Schedule(64, 2, 4, 4),
    Schedule(64, 4, 4, 4),
    Schedule(128, 2, 4, 4),
    Schedule(128, 8, 8, 4),
)


def supports(point: Point) -> bool:
    if point.activation != "f16" or not point.weight.is_integer:
        return False
    return point.weight.bits in (2, 4, 8) and point.m <= ROWS


def triton_version() -> str:
    import triton

    return version(triton.__name__)


def prepare(point: Point, problem: Problem) -> Prepared:
    from triton.errors import TritonError

    try:
        return tuned(point, problem)
    except TritonError as error:  # derives from Exception alone
        raise RuntimeError(str(error)[-400:]) from error


def tuned(point: Point, problem: Problem) -> Prepared:
    """The fastest of SCHEDULES, each timed as the harness times."""
    import torch

    words = pack_planes(problem.codes.to(torch.int32), point.weight.bits)
    words = words.to(torch.int16).transpose(0, 1).contiguous()
    scales = problem.scales.t().contiguous()
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    copies = [(words.clone(), scales.clone()) for _ in outputs]
    partials = torch.empty(
        (max(each.split for each in SCHEDULES), ROWS, point.n), dtype=torch.float32, device="cuda"
    )
    arrived = torch.zeros(point.n // 32 + 1, dtype=torch.int32, device="cuda")

    def prepared(schedule: Schedule) -> Prepared:
        launches = tuple(
            launcher(point, schedule, problem.activations, *copy, output, partials, arrived)
            for copy, output in zip(copies, outputs, strict=True)
        )
        return Prepared(launches, outputs, str(schedule))

    candidates = [prepared(schedule) for schedule in SCHEDULES]
    calls = calls_per_graph(len(copies), max(1.0, 1e6 * point.bytes / 3e12))
    graphs = [capture(candidate, calls) for candidate in candidates]
    medians = [statistics.median(each) for each in interleaved_samples(graphs, TUNING_ROUNDS)]
    return candidates[medians.index(min(medians))]


def launcher(point: Point, schedule: Schedule, *arguments: object) -> Callable[[], None]:
    from benchmarks.peers.triton_kernel import quantized_matmul

    grid = (-(-point.n // schedule.columns), schedule.split)
    return partial(
        quantized_matmul[grid],
        *arguments,
        point.m,
        point.n,
        point.k,
        BITS=point.weight.bits,
        GROUP=GROUP,
        ROWS=ROWS,
        COLUMNS=schedule.columns,
        SPLIT=schedule.split,
        STAGES=schedule.stages,
        num_warps=schedule.warps,
    )


TRITON = Peer("triton", "Triton (ours)", triton_version, supports, prepare)
