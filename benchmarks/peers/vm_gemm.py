"""The project's own kernels for few rows: compiled from what programs/gemm.py builds.

Of the schedules that fit, the model's best few are timed and the fastest is taken. Where these were
tuned before (`python -m programs.gemm_schedules --tune`) it is the fastest of then, and none is
timed.

`vm_gemm_sm80` is the same without anything that came after sm_80: PTX of that target, which the
driver translates for the GPU at hand, and launches that wait for each other as they did then.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING

from benchmarks.peers.peer import Peer, Prepared
from benchmarks.peers.vm_w4a16 import vm_version
from benchmarks.problem import GROUP, Point, pack_words
from benchmarks.timing import calls_per_graph, capture, interleaved_samples, rotation
from programs.gemm import gemm
from programs.gemm_schedules import DEVICES, H100, Device, best, configurations, fitting, work
from programs.gemm_tiling import Schedule, stage_bytes
from programs.quantized_matmul import Form
from vm.compiler.registers import check_registers

if TYPE_CHECKING:
    import torch

    from benchmarks.laboratory import Problem
    from vm.isa.kernel import Kernel
    from vm.isa.program import Module, Program
    from vm.runtime.cache import Entry

TARGET = "sm_90a"
MOST_ROWS = 16
TUNING_ROUNDS = 3
COUNT = int(os.environ.get("VM_GEMM_COUNT", "8"))
"""Schedules of a point that are timed; 0 stands for all that fit, for the data of the model."""
TIMES = os.environ.get("VM_GEMM_TIMES")
"""A file for the time of every schedule that was tried, a JSON object a line."""

@dataclass(frozen=True)
class Build:
    """One way to compile the kernels. `failed` are schedules that take too many registers."""

    name: str
    label: str
    has_bulk_copies: bool
    compile_ahead: Callable[[Kernel], object]
    """Puts a kernel's code into the cache of the machine."""
    load: Callable[[Program], Callable[..., None]]
    failed: set[tuple[Form, Schedule]] = field(default_factory=set)

    def device(self) -> Device:
        return replace(device(), has_bulk_copies=self.has_bulk_copies)

    def peer(self) -> Peer:
        return Peer(self.name, self.label, vm_version, supports, partial(prepare, self),
                    partial(compile_ahead, self))  # fmt: skip


def supports(point: Point) -> bool:
    return point.m <= MOST_ROWS and point.k % GROUP == 0


def form_of(point: Point) -> Form:
    weight = point.weight
    offset = 1 << (weight.bits - 1) if weight.is_integer else 0
    kind = point.activation
    return Form(weight.name, GROUP, scale=kind, activation=kind, offset=offset)


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


def schedules(build: Build, point: Point) -> list[Schedule]:
    """The best few of those that compile, as far as that is known."""
    form, sizes = form_of(point), (point.m, point.n, point.k)
    found = (best if COUNT else fitting)(form, *sizes, build.device())
    return list(islice((s for s in found if (form, s) not in build.failed), COUNT or None))


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


def _own_code(kernel: Kernel) -> Entry:
    from vm.runtime.compiled import cubin_of

    return cubin_of(kernel, TARGET, "aligned")


def _ptx_of_sm80(kernel: Kernel) -> Entry:
    """PTX as the driver takes it, with the manifest of a kernel whose grids follow each other."""
    from vm.runtime import compiled, nvrtc
    from vm.runtime.cache import Cache, Entry, entry_key

    def compile_it() -> Entry:
        made = compiled.emitted(kernel, "sm_80", "aligned")
        options = (f"-I{compiled.PRELUDE}",)
        built = nvrtc.compile_cubin(made.source, "sm_80", made.manifest.kernel, options)
        check_registers(made.lowered.kernel, built.registers, built.spill_bytes)
        manifest = replace(made.manifest, pdl=False)
        return Entry(built.ptx.encode() + b"\0", {"manifest": manifest.as_json()})

    versions = {"vm": compiled.package_version(), "nvrtc": nvrtc.toolchain()}
    key = entry_key(kernel.text, "ptx of sm_80", ("aligned",), versions)
    return Cache().get_or_compile(key, compile_it)


def _load_own(program: Program) -> Callable[..., None]:
    import vm

    return vm.compile(program)


def _load_sm80(program: Program) -> Callable[..., None]:
    from vm.runtime import compiled, launch
    from vm.runtime.manifest import Manifest

    kernel = program.instantiate()
    entry = _ptx_of_sm80(kernel)
    manifest = Manifest.from_json(entry.metadata["manifest"])
    return launch.Kernel(manifest, entry.payload, compiled.grid_of(kernel))


BUILD = Build("vm_gemm", "vm (this project)", True, _own_code, _load_own)
BUILD_SM80 = Build("vm_gemm_sm80", "vm, sm_80", False, _ptx_of_sm80, _load_sm80)


def _compiles(job: tuple[str, Form, Schedule]) -> bool:
    """Compiles the programs of a schedule into the cache of the machine; named, because functions
    do not travel to another process."""
    from vm.errors import VmError

    name, form, schedule = job
    build = next(each for each in (BUILD, BUILD_SM80) if each.name == name)
    try:
        _own_code(module(form, schedule)["pack"].instantiate())
        build.compile_ahead(module(form, schedule)["gemm"].instantiate())
    except VmError as error:
        print(job, str(error).splitlines()[0], flush=True)
        return False
    return True


def compile_ahead(build: Build, points: Sequence[Point]) -> None:
    """In place of those that do not compile the next best come."""
    tried: dict[tuple[Form, Schedule], None] = {}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        while True:
            jobs = dict.fromkeys((form_of(p), s) for p in points for s in schedules(build, p))
            new = [job for job in jobs if job not in tried]
            if not new:
                break
            compiled = list(pool.map(_compiles, [(build.name, *job) for job in new], chunksize=2))
            build.failed.update(job for job, good in zip(new, compiled, strict=True) if not good)
            tried.update(dict.fromkeys(new))
    print(f"{len(tried)} schedules, {len(build.failed)} do not compile", flush=True)


def prepare(build: Build, point: Point, problem: Problem) -> Prepared:
    """The fastest of the schedules, each timed as the harness times."""
    form = form_of(point)
    outputs = problem.new_outputs(rotation(point.weight_bytes))
    candidates, tried = [], []
    packed: dict[tuple[int, int, int], list[torch.Tensor]] = {}
    for schedule in tuned(point, schedules(build, point)):
        made = module(form, schedule)
        key = schedule.rows, schedule.span, schedule.depth
        if key not in packed:
            packed[key] = _packed_copies(
                made, form, problem, point, schedule, len(outputs)
            )
        kernel = build.load(made["gemm"])
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


VM_GEMM, VM_GEMM_SM80 = BUILD.peer(), BUILD_SM80.peer()
