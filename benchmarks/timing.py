"""Timing with CUDA graphs, cold rotating weights and interleaved peers.

One sample is one replay of a graph of back-to-back calls, divided by the number of calls, between
two events. The calls rotate through copies of the weights whose sizes add up to more than
ROTATE_BYTES, six times the L2 cache of an H100, so weights come from HBM; activations stay in L2,
as they do in a layer of a model. The time of a call includes the gap to the next one.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from benchmarks.peers.peer import Prepared

ROTATE_BYTES = 300_000_000
REPLAY_US = 1000.0
"""A replay lasts at least about this long, so that the few us of its own start are under 1 %."""
LEAST_CALLS = 16
WARM_UP_SECONDS = 0.1
"""Of replays before the first sample: an idle chip takes milliseconds to raise its clock."""


def rotation(bytes_per_copy: int) -> int:
    """Copies of the weights to rotate through; two even if one alone exceeds ROTATE_BYTES."""
    return max(2, math.ceil(ROTATE_BYTES / bytes_per_copy))


def calls_per_graph(copies: int, call_us: float) -> int:
    """A multiple of `copies`, so that a replay ends where the next begins."""
    calls = max(LEAST_CALLS, math.ceil(REPLAY_US / call_us))
    return math.ceil(calls / copies) * copies


def visiting_order(count: int, round_index: int) -> list[int]:
    """Each pair of rounds starts one peer later, and every second round runs backwards.

    So none is always measured after the same neighbour.
    """
    first = round_index // 2
    order = [(first + index) % count for index in range(count)]
    return order if round_index % 2 == 0 else order[::-1]


@dataclass(frozen=True)
class Summary:
    """Of samples in us: the median, the 10th and 90th percentile, and the two half-run medians."""

    median: float
    low: float
    high: float
    first_half: float
    second_half: float


def summarize(samples: Sequence[float]) -> Summary:
    """At least two samples, in the order they were taken."""
    if len(samples) < 2:
        raise ValueError("a spread needs at least two samples")
    middle = len(samples) // 2
    deciles = statistics.quantiles(samples, n=10, method="inclusive")
    return Summary(
        statistics.median(samples),
        deciles[0],
        deciles[-1],
        statistics.median(samples[:middle]),
        statistics.median(samples[middle:]),
    )


@dataclass(frozen=True)
class TimedGraph:
    """A captured graph of `calls` back-to-back launches of one peer."""

    prepared: Prepared
    calls: int
    graph: torch.cuda.CUDAGraph


def capture(prepared: Prepared, calls: int) -> TimedGraph:
    """Captures launches in rotation. Each has run once before, so nothing compiles inside."""
    import torch

    for launch in prepared.launches:
        launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in range(calls):
            prepared.launches[call % len(prepared.launches)]()
    return TimedGraph(prepared, calls, graph)


def interleaved_samples(
    graphs: Sequence[TimedGraph], rounds: int, warm_up_seconds: float = WARM_UP_SECONDS
) -> list[list[float]]:
    """For each graph `rounds` samples in us per call, one graph after the other in every round."""
    import torch

    deadline = time.perf_counter() + warm_up_seconds
    while time.perf_counter() < deadline:
        for timed in graphs:
            timed.graph.replay()
        torch.cuda.synchronize()
    samples: list[list[float]] = [[] for _ in graphs]
    for round_index in range(rounds):
        events = []
        for index in visiting_order(len(graphs), round_index):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graphs[index].graph.replay()
            end.record()
            events.append((index, start, end))
        torch.cuda.synchronize()
        for index, start, end in events:
            samples[index].append(1000.0 * start.elapsed_time(end) / graphs[index].calls)
    return samples
