"""The GPU side of the harness: random problems, the float64 reference, checked timing."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.ceilings import Ceiling, f16_peak, read_bandwidth
from benchmarks.peers import Peer, Prepared
from benchmarks.problem import GROUP, Error, Point, output_error
from benchmarks.report import Device, Timing
from benchmarks.timing import TimedGraph, calls_per_graph, capture, interleaved_samples, summarize

SETTLE_SECONDS = 2.0
"""0.4 s were enough on an H100 for light points to come out the same after a heavy one."""

ROWS_AT_ONCE = 4096
"""Rows of W that are dequantized to float64 at a time."""


TORCH_TYPES = {"f16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Problem:
    """Random data of one point, and what the answer is."""

    point: Point
    activations: torch.Tensor
    """A: [M, K], normal(0, 1)."""
    codes: torch.Tensor
    """uint8 [N, K], uniform over all codes."""
    scales: torch.Tensor
    """In the type of A [N, K / GROUP]; weights come out with a standard deviation near 0.02."""
    values: torch.Tensor
    """float64 [2^bits]: code -> number."""
    reference: torch.Tensor
    """A W^T in float64, [M, N]."""
    magnitude: torch.Tensor
    """|A| |W|^T in float64, [M, N]: what rounding errors are relative to."""

    @classmethod
    def random(cls, point: Point, seed: int) -> Problem:
        generator = torch.Generator("cuda").manual_seed(seed)
        kind = TORCH_TYPES[point.activation]

        def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
            return low + (high - low) * torch.rand(shape, device="cuda", generator=generator)

        values = torch.tensor(point.weight.values(), dtype=torch.float64, device="cuda")
        codes = torch.empty((point.n, point.k), dtype=torch.uint8, device="cuda")
        codes.random_(0, 2**point.weight.bits, generator=generator)
        size = 0.02 / float((values**2).mean() ** 0.5)
        scales = uniform(0.5 * size, 1.5 * size, point.n, point.k // GROUP).to(kind)
        activations = torch.randn(
            (point.m, point.k), device="cuda", generator=generator, dtype=torch.float32
        ).to(kind)
        parts = [
            (activations.double() @ weight.T, activations.double().abs() @ weight.abs().T)
            for _, weight in weight_chunks(codes, scales, values)
        ]
        reference, magnitude = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return cls(point, activations, codes, scales, values, reference, magnitude)

    def dequantized(self) -> torch.Tensor:
        """W in the type of A [N, K], rounded once."""
        weight = torch.empty(self.codes.shape, dtype=self.activations.dtype, device="cuda")
        for rows, chunk in weight_chunks(self.codes, self.scales, self.values):
            weight[rows] = chunk.to(weight.dtype)
        return weight

    def new_outputs(self, count: int) -> tuple[torch.Tensor, ...]:
        """Poisoned with NaN."""
        shape = (self.activations.shape[0], self.codes.shape[0])
        return tuple(
            torch.full(shape, torch.nan, dtype=self.activations.dtype, device="cuda")
            for _ in range(count)
        )

    def error(self, output: torch.Tensor) -> Error:
        point = self.point
        return output_error(
            output.double(), self.reference, self.magnitude, point.k, point.activation
        )


def weight_chunks(
    codes: torch.Tensor, scales: torch.Tensor, values: torch.Tensor
) -> Iterator[tuple[slice, torch.Tensor]]:
    """W in float64, some rows at a time."""
    for start in range(0, codes.shape[0], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        grouped = values[codes[rows].long()].unflatten(1, (-1, GROUP))
        yield rows, (grouped * scales[rows].double().unsqueeze(2)).flatten(1)


class WrongOutput(ValueError):
    """A peer's output differs from the float64 product by more than rounding explains."""


class GpuLaboratory:
    """Measures on the current CUDA device."""

    def device(self) -> Device:
        properties = torch.cuda.get_device_properties(0)
        return Device(
            name=properties.name,
            driver=query("driver_version"),
            cuda=torch.version.cuda or "",
            multiprocessors=properties.multi_processor_count,
            l2_bytes=properties.L2_cache_size,
            memory_bytes=properties.total_memory,
        )

    def read_bandwidth(self) -> Ceiling:
        return read_bandwidth()

    def f16_peak(self) -> Ceiling:
        return f16_peak()

    def settle(self) -> None:
        """Waits until the chip has its full clock again after heavy products."""
        torch.cuda.synchronize()
        time.sleep(SETTLE_SECONDS)

    def state(self) -> str:
        """Clocks, power and throttle reasons right now, as nvidia-smi prints them."""
        return query("clocks.sm,clocks.mem,power.draw,temperature.gpu,clocks_event_reasons.active")

    def problem(self, point: Point, seed: int) -> Problem:
        return Problem.random(point, seed)

    def check(self, point: Point, peer: Peer, problem: Problem) -> tuple[TimedGraph, float]:
        """Prepares, captures, and runs the graph once on poisoned outputs.

        Gives the graph and the largest relative error of its outputs; WrongOutput if any is off.
        """
        prepared = peer.prepare(point, problem)
        call_us = max(1.0, 1e6 * point.bytes / 3e12)
        timed = capture(prepared, calls_per_graph(len(prepared.launches), call_us))
        return timed, self.poisoned_replay(timed, problem)

    def poisoned_replay(self, timed: TimedGraph, problem: Problem) -> float:
        prepared: Prepared = timed.prepared
        for output in prepared.outputs:
            output.fill_(torch.nan)
        timed.graph.replay()
        torch.cuda.synchronize()
        errors = [problem.error(output) for output in prepared.outputs]
        for copy, error in enumerate(errors):
            if not error.is_within_bound:
                raise WrongOutput(f"copy {copy}: norm {error.norm:.2e}, worst {error.worst:.2e}")
        return max(error.norm for error in errors)

    def times(self, graphs: list[TimedGraph], rounds: int) -> list[Timing]:
        return [
            Timing(
                summary=summarize(samples),
                samples=rounds,
                calls=timed.calls,
                copies=len(timed.prepared.launches),
                configuration=timed.prepared.configuration,
            )
            for timed, samples in zip(graphs, interleaved_samples(graphs, rounds), strict=True)
        ]


def query(fields: str) -> str:
    """What nvidia-smi says about GPU 0, or nothing where there is no nvidia-smi."""
    command = ["nvidia-smi", "-i", "0", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
