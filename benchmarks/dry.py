"""A laboratory that makes its numbers up, to try the harness and its pictures without a GPU."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.ceilings import Ceiling
from benchmarks.peers.peer import Peer, compile_nothing
from benchmarks.problem import Point
from benchmarks.report import Device, Timing
from benchmarks.timing import calls_per_graph, rotation, summarize

READ_BYTES_PER_SECOND = 3.2e12
FLOPS_PER_SECOND = 8e14


class DryLaboratory:
    """Times are the floor plus 2 us, times a factor from 1.0 to 1.9 that depends on the peer."""

    def device(self) -> Device:
        return Device("made up", "0", "0", 132, 50 << 20, 80 << 30)

    def read_bandwidth(self) -> Ceiling:
        return Ceiling(READ_BYTES_PER_SECOND, {"made up": READ_BYTES_PER_SECOND})

    def f16_peak(self) -> Ceiling:
        return Ceiling(FLOPS_PER_SECOND, {"made up": FLOPS_PER_SECOND})

    def settle(self) -> None:
        pass

    def state(self) -> str:
        return "dry run"

    def problem(self, point: Point, seed: int) -> None:
        return None

    def check(self, point: Point, peer: Peer, problem: None) -> tuple[tuple[Point, Peer], float]:
        return (point, peer), 0.0

    def poisoned_replay(self, timed: tuple[Point, Peer], problem: None) -> float:
        return 0.0

    def times(self, graphs: list[tuple[Point, Peer]], rounds: int) -> list[Timing]:
        return [dry_timing(point, peer, rounds) for point, peer in graphs]


def dry_timing(point: Point, peer: Peer, rounds: int) -> Timing:
    factor = 1.0 + zlib.crc32(peer.name.encode()) % 10 / 10
    middle = factor * (2.0 + point.floor_us(READ_BYTES_PER_SECOND, FLOPS_PER_SECOND))
    samples = [middle * (1 + 0.001 * (index % 5 - 2)) for index in range(rounds)]
    copies = rotation(point.weight_bytes)
    return Timing(summarize(samples), rounds, calls_per_graph(copies, middle), copies, "made up")


def dry_peers(peers: Sequence[Peer]) -> list[Peer]:
    """The same names, importable anywhere."""
    return [
        replace(peer, version=lambda: "dry run", compile_ahead=compile_nothing) for peer in peers
    ]
