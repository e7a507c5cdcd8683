"""The project's own kernels for few rows: compiled from what programs/gemm.py builds.

Of the schedules that fit, the model's best few are timed and the fastest is taken. Where these were
tuned before (`python -m programs.gemm_schedules --tune`) it is the fastest of then, and none is
timed.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache, partial
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.peers.vm_w4a16 import vm_version
from benchmarks.problem import GROUP, Point, pack_words
from benchmarks.timing import calls_per_graph, capture, interleaved_samples, rotation
from programs.gemm import Schedule, gemm, stage_bytes
from programs.gemm_schedules import DEVICES, H100, Device, best, configurations, fitting, work
from programs.quantized_matmul import Form

if TYPE_CHECKING:
    import torch

    from benchmarks.laboratory import Problem
    from vm.isa.program import Module

MOST_ROWS = 16
TUNING_ROUNDS = 3
COUNT = int(os.environ.get("VM_GEMM_COUNT", "8"))
"""Schedules of a point that are timed; 0 stands for all that fit, for the data of the model."""
TIMES = os.environ.get("VM_GEMM_TIMES")
"""A file for the time of every schedule that was tried, a JSON object a line."""

_failed: set[tuple[Form, Schedule]] = set()
"""Schedules that do not compile: too many registers."""


def supports(point: Point) -> bool:
    return point.m <= MOST_ROWS and point.k % GROUP == 0


def form_of(point: Point) -> Form:
    weight = point.weight
    return Form(weight.name, GROUP, offset=0 if weight.is_float else 1 << (weight.bits - 1))


@lru_cache(maxsize=1)
def device() -> Device:
    """The GPU at hand, as the model knows it; an H100 where there is none, or another."""
    from vm.errors import VmError
    from vm.runtime import cuda

    try:
        name = cuda.device(0).name.lower()
    except VmError:
        return H100
    return next((each for key, each in DEVICES.items() if key in name), H100)


def schedules(point: Point) -> list[Schedule]:
    """The best few of those that compile, as far as that is known."""
    form, sizes = form_of(point), (point.m, point.n, point.k)
    found = best(form, *sizes, device()) if COUNT else fitting(form, *sizes, device())
    return list(islice((s for s in found if (form, s) not in _failed), COUNT or None))


def tuned(point: Point, found: Sequence[Schedule]) -> list[Schedule]:
    """The one that was the fastest when they were tuned; all where none was."""
    from vm.runtime.stopwatch import CudaStopwatch
    from vm.runtime.tuning import Store, stored

    form, sizes = form_of(point), (point.m, point.n, point.k)
    outcomes = stored(configurations(form, found), work(*sizes), CudaStopwatch(), Store())
    times = {
        schedule: outcome.measurement.us
        for schedule, (_, outcome) in zip(found, outcomes, strict=True)
        if outcome is not None and outcome.measurement is not None
    }
    return [min(times, key=times.__getitem__)] if times else list(found)


@lru_cache(maxsize=1024)
def module(form: Form, schedule: Schedule) -> Module:
    return gemm(form, schedule)


def _compiles(job: tuple[Form, Schedule]) -> bool:
    """Compiles the programs of a schedule into the cache of the machine."""
    from vm.errors import VmError
    from vm.runtime.compiled import cubin_of

    try:
        for name in ("pack", "gemm"):
            cubin_of(module(*job)[name].instantiate(), "sm_90a", "aligned")
    except VmError as error:
        print(job, str(error).splitlines()[0], flush=True)
        return False
    return True


def compile_ahead(points: Sequence[Point]) -> None:
    """In place of those that do not compile the next best come."""
    tried: dict[tuple[Form, Schedule], None] = {}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        while True:
            jobs = dict.fromkeys((form_of(p), s) for p in points for s in schedules(p))
            new = [job for job in jobs if job not in tried]
            if not new:
                break
            compiled = list(pool.map(_compiles, new, chunksize=2))
            _failed.update(job for job, good in zip(new, compiled, strict=True) if not good)
            tried.update(dict.fromkeys(new))
    print(f"{len(tried)} schedules, {len(_failed)} do not compile", flush=True)


def prepare(point: Point, problem: Problem) -> Prepared:
    """The fastest of the schedules, each timed as the harness times."""
    import vm

    form = form_of(point)
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    candidates, tried = [], []
    packed: dict[tuple[int, int, int], list[torch.Tensor]] = {}
    for schedule in tuned(point, schedules(point)):
        made = module(form, schedule)
        key = schedule.rows, schedule.span, schedule.depth
        if key not in packed:
            packed[key] = _packed_copies(
                made, form, problem, point, schedule, len(outputs)
            )
        kernel = vm.compile(made["gemm"])
        launches = tuple(
            partial(kernel, problem.activations, copy, output)
            for copy, output in zip(packed[key], outputs, strict=True)
        )
        candidates.append(Prepared(launches, outputs, str(schedule)))
        tried.append(schedule)
    calls = calls_per_graph(len(outputs), max(1.0, 1e6 * point.bytes / 3e12))
    graphs = [capture(candidate, calls) for candidate in candidates]
    medians = [statistics.median(each) for each in interleaved_samples(graphs, TUNING_ROUNDS)]
    record(point, zip(tried, medians, strict=True))
    return candidates[medians.index(min(medians))]


def record(point: Point, times: Iterable[tuple[Schedule, float]]) -> None:
    if TIMES:
        with open(TIMES, "a", encoding="utf-8") as file:
            for schedule, us in times:
                row = {"weight": point.weight.name, "shape": point.shape, "m": point.m}
                row |= {**asdict(schedule), "us": round(us, 3)}
                file.write(json.dumps(row) + "\n")


def _packed_copies(
    made: Module, form: Form, problem: Problem, point: Point, schedule: Schedule, count: int
) -> list[torch.Tensor]:
    """Weights with their scales as `pack` stores them."""
    import torch

    import vm

    words = torch.stack(pack_words(problem.codes.to(torch.int64), point.weight.bits), dim=-1)
    stored = (words - ((words >> 31) << 32)).to(torch.int32).reshape(point.n, -1)
    blocks = -(-point.n // schedule.rows)
    steps = -(-point.k // (GROUP * schedule.span))
    shape = (blocks, steps, stage_bytes(form, schedule))
    packed = torch.empty(shape, dtype=torch.uint8, device="cuda")
    vm.compile(made["pack"])(stored.view(torch.uint8), problem.scales, packed)
    return [packed.clone() for _ in range(count)]


VM_GEMM = Peer("vm_gemm", "vm (this project)", vm_version, supports, prepare, compile_ahead)
