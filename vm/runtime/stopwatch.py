"""How long a kernel takes on an NVIDIA GPU: graphs of back-to-back launches between two events.

The launches rotate through copies of the arguments, so that what a program calls `constant`, its
weights, comes from memory and not from a cache; its other inputs stay where they are, as what the
program before has just written does. A program without constants reads all inputs from memory.
Every launch uses memory of the stopwatch's own: nothing of the caller's is written.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vm.isa.kernel import Kernel
from vm.isa.types import GlobalType
from vm.runtime import cuda, launch, nvrtc
from vm.runtime.arrays import Array, describe
from vm.runtime.compiled import (
    compile_together,
    cubin_of,
    grid_of,
    package_version,
    run_on_cuda,
    variant_for,
)
from vm.runtime.manifest import Manifest, bind_sizes
from vm.runtime.reference import Report
from vm.runtime.reference_arguments import bind

ROTATE_BYTES = 300_000_000
"""What the copies of the rotating arguments add up to: six times the L2 cache of an H100."""
SAMPLE_US = 1000.0
"""A replay lasts about this long at least, so that the few us of its own start are under 1 %."""
LEAST_CALLS, MOST_CALLS = 16, 1024
"""Launches of a graph."""
SAMPLES = 7
WARM_UP_US = 20_000.0
"""Of replays before the first sample: an idle chip takes milliseconds to raise its clock."""

_ALIGNMENT = 256
"""Of memory that the driver gives; copies begin as far behind it as what they are copies of."""


@dataclass(frozen=True)
class Measurement:
    """Microseconds of a launch among others like it: the median, the least and the most of the
    samples, each a replay of `calls` launches."""

    us: float
    low: float
    high: float
    calls: int


class CudaStopwatch:
    """Measures kernels on one GPU, and runs what else a case needs there.

    `device_name` and `versions` say what a measurement depends on beside the kernel.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self.device = cuda.device(ordinal)
        self.device_name = f"{self.device.name}, {self.device.multiprocessors} multiprocessors"
        self.versions = {"vm": package_version(), "nvrtc": nvrtc.toolchain()}

    def run(
        self, kernel: Kernel, arguments: Mapping[str, Any], *, output: Callable[[str], None]
    ) -> Report:
        """Runs a kernel on arguments of the host, as `run_on_cuda`."""
        return run_on_cuda(kernel, arguments, output=output)

    def compile_ahead(self, kernels: Iterable[Kernel]) -> None:
        """Compiles kernels that will be run or measured, side by side in processes of their own: a
        script that calls this needs `if __name__ == "__main__"`."""
        compile_together(kernels, self.device.target)

    def measure(self, kernel: Kernel, arguments: Mapping[str, Any]) -> Measurement:
        """Compiles a kernel and measures it on copies of these arguments, those of
        `reference.run`: arrays of the host.

        Raises what compiling and launching raise: E0405 before any compiler runs where a block
        needs more shared memory than the target has, E0904 where values spill.
        """
        bound = bind(kernel, arguments, checks=False)
        variant = variant_for(kernel, bound.tensors)
        entry = cubin_of(kernel, self.device.target, variant)
        manifest = Manifest.from_json(entry.metadata["manifest"])
        program = launch.Kernel(manifest, entry.payload, grid_of(kernel))
        arrays = [describe(bound.tensors[p.name]) for p in manifest.pointers]
        scalars = [bound.sizes[s.name] for s in manifest.scalars]
        rotating = rotating_arguments(kernel, manifest)
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(self._stream())
            launches = self._prepare(stack, stream, program, arrays, scalars, rotating)
            return self._time(stream, launches)

    def _prepare(
        self,
        stack: contextlib.ExitStack,
        stream: int,
        program: launch.Kernel,
        arrays: Sequence[Array],
        scalars: Sequence[Any],
        rotating: Sequence[bool],
    ) -> list[launch.PreparedLaunch]:
        """Launches on copies of the arguments, as many as it takes for the caches to be cold."""
        sizes = bind_sizes(program.manifest, arrays)
        spans = [last - first for first, last in (array.span for array in arrays)]
        bytes_of_copy = sum(s for s, rotates in zip(spans, rotating, strict=True) if rotates)
        free, _ = self.device.call("cuMemGetInfo")
        most = min(MOST_CALLS, int(free) // 2 // max(1, bytes_of_copy))
        copies = max(2, min(most, math.ceil(ROTATE_BYTES / max(1, bytes_of_copy))))
        fixed = {
            index: self._copy(stack, stream, array)
            for index, array in enumerate(arrays) if not rotating[index]
        }  # fmt: skip
        launches = []
        for _ in range(copies):
            own = [
                fixed[index] if index in fixed else self._copy(stack, stream, array)
                for index, array in enumerate(arrays)
            ]
            prepared = launch.PreparedLaunch(program, self.device, sizes, stream)
            prepared.set_arrays(own)
            prepared.parameters.set_scalars(scalars)
            launches.append(prepared)
        return launches

    def _copy(self, stack: contextlib.ExitStack, stream: int, array: Array) -> Array:
        """The array in memory of its own on the device."""
        first, last = array.span
        offset = first % _ALIGNMENT
        memory = self.device.allocate(offset + last - first)
        stack.callback(self.device.free, memory)
        self.device.copy_in(memory + offset, first, last - first, stream)
        moved = memory + offset + array.pointer - first
        return replace(array, pointer=moved, device=f"cuda:{self.device.ordinal}", owner=None)

    def _time(self, stream: int, launches: Sequence[launch.PreparedLaunch]) -> Measurement:
        for each in launches:  # once outside a graph, so that a fault is seen here
            each.launch()
        self.device.synchronize(stream=stream)
        calls = _whole_turns(LEAST_CALLS, len(launches))
        with self._graph(stream, launches, calls) as graph:
            self._replay(stream, graph)
            once = max(0.01, self._replay(stream, graph) / calls)
        calls = _whole_turns(min(MOST_CALLS, math.ceil(SAMPLE_US / once)), len(launches))
        with self._graph(stream, launches, calls) as graph:
            for _ in range(max(1, math.ceil(WARM_UP_US / (once * calls)))):
                self._replay(stream, graph)
            samples = [self._replay(stream, graph) / calls for _ in range(SAMPLES)]
        return Measurement(statistics.median(samples), min(samples), max(samples), calls)

    @contextlib.contextmanager
    def _stream(self) -> Iterator[int]:
        with self.device.current():
            stream = int(self.device.call("cuStreamCreate", 1))
            try:
                yield stream
            finally:
                self.device.call("cuStreamDestroy", stream)

    @contextlib.contextmanager
    def _graph(
        self, stream: int, launches: Sequence[launch.PreparedLaunch], calls: int
    ) -> Iterator[Any]:
        """A graph of so many launches, in turn."""
        call, kinds = self.device.call, self.device.driver.CUstreamCaptureMode
        call("cuStreamBeginCapture", stream, kinds.CU_STREAM_CAPTURE_MODE_RELAXED)
        for index in range(calls):
            launches[index % len(launches)].launch()
        recorded = call("cuStreamEndCapture", stream)
        graph = call("cuGraphInstantiate", recorded, 0)
        call("cuGraphDestroy", recorded)
        try:
            yield graph
        finally:
            call("cuGraphExecDestroy", graph)

    def _replay(self, stream: int, graph: Any) -> float:
        """Microseconds of one replay."""
        call = self.device.call
        begin, end = (call("cuEventCreate", 0) for _ in range(2))
        call("cuEventRecord", begin, stream)
        call("cuGraphLaunch", graph, stream)
        call("cuEventRecord", end, stream)
        self.device.synchronize(stream=stream)
        milliseconds = call("cuEventElapsedTime", begin, end)
        for event in (begin, end):
            call("cuEventDestroy", event)
        return 1000.0 * milliseconds


def rotating_arguments(kernel: Kernel, manifest: Manifest) -> list[bool]:
    """For each pointer whether every launch has its own copy: constants, all inputs where there
    are none, and what is written."""
    types = {p.name: p.type for p in kernel.parameters if isinstance(p.type, GlobalType)}
    accesses = [types[pointer.name].access for pointer in manifest.pointers]
    some = "constant" in accesses
    return [access == "constant" or not some or types[p.name].is_written
            for p, access in zip(manifest.pointers, accesses, strict=True)]  # fmt: skip


def _whole_turns(calls: int, copies: int) -> int:
    """At least so many calls, after which the next copy is the first one again."""
    return math.ceil(calls / copies) * copies
