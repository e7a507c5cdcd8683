"""Times quantized GEMM kernels side by side and writes the result as JSON.

    python benchmarks/gemm.py --date 2026-11-21 --points 8192x8192,ll8_dn:u4:1,8,16 --out r.json
    python benchmarks/gemm.py --show benchmarks/results/r.json
    python benchmarks/gemm.py --dry-run --points 8192x8192:u4:1 --date today --out r.json

Needs a CUDA device and torch, except with --show or --dry-run. Order of a run: read bandwidth,
f16 peak, a pause, light points, heavy points; so no light point follows full power closely.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

if not __package__:  # run as a file: make the `benchmarks` package importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ceilings import Ceiling
from benchmarks.machine import command_of
from benchmarks.peers import PEERS, Peer
from benchmarks.problem import SIX_SHAPES, UNITS, Point, order_points, parse_points
from benchmarks.report import Device, Failure, Result, Timing, make_row, summary_text

PEER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What other people's libraries raise where they do not support something.

Recorded as a failure of that peer at that point, so that one peer cannot end a run.
"""


class Laboratory(Protocol):
    """What measures: the GPU, or numbers made up for a dry run."""

    def device(self) -> Device: ...
    def read_bandwidth(self) -> Ceiling: ...
    def f16_peak(self) -> Ceiling: ...
    def settle(self) -> None: ...
    def state(self) -> str: ...
    def problem(self, point: Point, seed: int) -> Any: ...
    def check(self, point: Point, peer: Peer, problem: Any) -> tuple[Any, float]: ...
    def poisoned_replay(self, timed: Any, problem: Any) -> float: ...
    def times(self, graphs: list[Any], rounds: int) -> list[Timing]: ...


def available(peers: Sequence[Peer]) -> tuple[list[Peer], dict[str, str], dict[str, str]]:
    """The peers that import, name -> version of those, and name -> reason of the others."""
    found, versions, missing = [], {}, {}
    for peer in peers:
        try:
            versions[peer.name] = peer.version()
            found.append(peer)
        except (ImportError, OSError) as error:
            missing[peer.name] = f"{type(error).__name__}: {error}"
    return found, versions, missing


def compile_all(result: Result, peers: Sequence[Peer], points: Sequence[Point]) -> None:
    for peer in peers:
        started = time.perf_counter()
        try:
            peer.compile_ahead([point for point in points if peer.supports(point)])
        except PEER_ERRORS as error:
            result.failures.append(Failure("", "", 0, peer.name, describe(error)))
        progress(f"compiled {peer.name} in {time.perf_counter() - started:.1f} s")


def measure_point(
    laboratory: Laboratory, result: Result, peers: Sequence[Peer], point: Point, rounds: int
) -> None:
    """Checks every peer that supports the point, times all of them together, checks again."""
    floor_us = point.floor_us(result.read_bytes_per_second, result.f16_flops_per_second)
    started = time.perf_counter()
    problem = laboratory.problem(point, result.seed)
    checked: list[tuple[Peer, Any, float]] = []

    def fail(peer: Peer, error: Exception) -> None:
        result.failures.append(
            Failure(point.shape, point.weight.name, point.m, peer.name, describe(error))
        )

    for peer in peers:
        if peer.supports(point):
            try:
                checked.append((peer, *laboratory.check(point, peer, problem)))
            except PEER_ERRORS as error:
                fail(peer, error)
    if not checked:
        return
    timings = laboratory.times([timed for _, timed, _ in checked], rounds)
    state = laboratory.state()
    for (peer, timed, error_before), timing in zip(checked, timings, strict=True):
        try:
            error = max(error_before, laboratory.poisoned_replay(timed, problem))
        except PEER_ERRORS as wrong:
            fail(peer, wrong)
            continue
        result.rows.append(make_row(point, peer.name, timing, floor_us, error, state))
    times = ", ".join(
        f"{peer.name} {timing.summary.median:.2f}"
        for (peer, _, _), timing in zip(checked, timings, strict=True)
    )
    spent = time.perf_counter() - started
    progress(f"{point.shape} {point.weight.name} M={point.m}: {times} us ({spent:.1f} s)")


def run(
    laboratory: Laboratory,
    result: Result,
    peers: Sequence[Peer],
    points: Sequence[Point],
    rounds: int,
    path: Path,
) -> None:
    """Fills `result`, and writes it after every point so that a cut-off run leaves its numbers."""
    ordered = order_points(points)
    compile_all(result, peers, ordered)
    reading, peak = laboratory.read_bandwidth(), laboratory.f16_peak()
    result.read_bytes_per_second, result.read_variants = reading.best, reading.variants
    result.f16_flops_per_second, result.f16_variants = peak.best, peak.variants
    progress(f"{reading.best / 1e12:.3f} TB/s read, {peak.best / 1e12:.0f} TFLOP/s f16")
    laboratory.settle()
    for point in ordered:
        measure_point(laboratory, result, peers, point, rounds)
        result.write(path)


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments(command_line: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--points",
        action="append",
        default=[],
        metavar="SHAPES:WEIGHTS:MS",
        help="comma-separated lists, their product is measured; repeatable "
        "(default: the six shapes, u4, M = 1, 8, 16)",
    )
    parser.add_argument("--activation", choices=UNITS, default="f16", help="of A and C (f16)")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated; default all")
    parser.add_argument("--rounds", type=int, default=20, help="samples per peer and point")
    parser.add_argument("--seed", type=int, default=1, help="of the random data")
    parser.add_argument("--date", help="recorded in the file; required to measure")
    parser.add_argument("--out", type=Path, help="where the JSON goes; required to measure")
    parser.add_argument("--dry-run", action="store_true", help="made-up times, no GPU")
    parser.add_argument("--show", type=Path, metavar="JSON", help="print the tables of a file")
    options = parser.parse_args(command_line)
    if not options.show and not (options.date and options.out):
        parser.error("--date and --out are required to measure")
    texts = options.points or [",".join(SIX_SHAPES) + ":u4:1,8,16"]
    try:
        options.points = [p for text in texts for p in parse_points(text, options.activation)]
    except ValueError as error:
        parser.error(f"--points: {error}")
    return options


def main(command_line: Sequence[str]) -> int:
    options = arguments(command_line)
    if options.show:
        print(summary_text(Result.read(options.show), SIX_SHAPES))
        return 0
    chosen = [PEERS[name] for name in options.peers.split(",")]
    if options.dry_run:
        from benchmarks.dry import DryLaboratory, dry_peers

        laboratory: Laboratory = DryLaboratory()
        chosen = dry_peers(chosen)
    else:
        from benchmarks.laboratory import GpuLaboratory

        laboratory = GpuLaboratory()
    peers, versions, missing = available(chosen)
    result = Result(
        date=options.date,
        command=command_of("benchmarks/gemm.py", command_line),
        device=laboratory.device(),
        versions={"python": platform.python_version()} | versions,
        missing=missing,
        seed=options.seed,
        activation=options.activation,
    )
    run(laboratory, result, peers, options.points, options.rounds, options.out)
    print(summary_text(result, SIX_SHAPES))
    return 0 if result.rows and not result.failures else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
