"""The result file: its schema, reading, writing, and the tables drawn from it.

The schema is in README.md beside this file. Numbers in README and docs come from such files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.problem import Point
from benchmarks.timing import Summary

SCHEMA = 1


@dataclass(frozen=True)
class Device:
    name: str
    driver: str
    cuda: str
    multiprocessors: int
    l2_bytes: int
    memory_bytes: int


@dataclass(frozen=True)
class Timing:
    """What the laboratory gives for one peer at one point."""

    summary: Summary
    samples: int
    calls: int
    copies: int
    configuration: str


@dataclass(frozen=True)
class Row:
    """One peer at one point: a line of the result file. Times in us per call."""

    shape: str
    n: int
    k: int
    weight: str
    bits: int
    m: int
    peer: str
    us: float
    us_low: float
    us_high: float
    us_first_half: float
    us_second_half: float
    floor_us: float
    bytes: int
    flops: int
    relative_error: float
    samples: int
    calls: int
    copies: int
    state: str
    configuration: str

    @property
    def ratio(self) -> float:
        """Time over floor: 1 is perfect."""
        return self.us / self.floor_us


@dataclass(frozen=True)
class Failure:
    """A peer that could not be timed at a point, and why."""

    shape: str
    weight: str
    m: int
    peer: str
    reason: str


@dataclass
class Result:
    """One run of the harness."""

    date: str
    command: str
    device: Device
    versions: dict[str, str]
    missing: dict[str, str]
    """Peer -> why it could not be imported."""
    seed: int
    activation: str = "f16"
    """The type of A, C and scales."""
    read_bytes_per_second: float = 0.0
    read_variants: dict[str, float] = field(default_factory=dict)
    f16_flops_per_second: float = 0.0
    f16_variants: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    schema: int = SCHEMA

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, sort_keys=False, allow_nan=False)
        path.write_text(text + "\n")

    @classmethod
    def read(cls, path: Path) -> Result:
        """ValueError if the file is of another schema or lacks or adds a field."""
        data = json.loads(path.read_text())
        if data.get("schema") != SCHEMA:
            raise ValueError(f"{path} has schema {data.get('schema')}, this reads {SCHEMA}")
        result = build(cls, data)
        result.device = build(Device, data["device"])
        result.rows = [build(Row, row) for row in data["rows"]]
        result.failures = [build(Failure, failure) for failure in data["failures"]]
        return result


def build(kind: type, data: dict[str, Any]) -> Any:
    """A dataclass from a dictionary with exactly its fields."""
    expected = {each.name for each in fields(kind)}
    if set(data) != expected:
        raise ValueError(f"{kind.__name__}: fields differ by {sorted(set(data) ^ expected)}")
    return kind(**data)


def make_row(
    point: Point, peer: str, timing: Timing, floor_us: float, relative_error: float, state: str
) -> Row:
    summary = timing.summary
    return Row(
        shape=point.shape,
        n=point.n,
        k=point.k,
        weight=point.weight.name,
        bits=point.weight.bits,
        m=point.m,
        peer=peer,
        us=summary.median,
        us_low=summary.low,
        us_high=summary.high,
        us_first_half=summary.first_half,
        us_second_half=summary.second_half,
        floor_us=floor_us,
        bytes=point.bytes,
        flops=point.flops,
        relative_error=relative_error,
        samples=timing.samples,
        calls=timing.calls,
        copies=timing.copies,
        state=state,
        configuration=timing.configuration,
    )


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms))


def distinct(values: Iterable[Any]) -> list[Any]:
    """In order of first appearance."""
    return list(dict.fromkeys(values))


def markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    every = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in every)


def time_table(rows: Sequence[Row]) -> str:
    """One line per point, one column per peer: us, and in parentheses time over floor."""
    peers = distinct(row.peer for row in rows)
    cells = {(row.shape, row.weight, row.m, row.peer): row for row in rows}
    lines = []
    for shape, weight, m in distinct((row.shape, row.weight, row.m) for row in rows):
        found = [cells.get((shape, weight, m, peer)) for peer in peers]
        floor = next(row.floor_us for row in found if row)
        times = [f"{row.us:.2f} ({row.ratio:.2f})" if row else "" for row in found]
        lines.append([shape, weight, str(m), f"{floor:.2f}", *times])
    return markdown_table(["shape", "weight", "M", "floor us", *peers], lines)


def spread_table(rows: Sequence[Row]) -> str:
    """Per peer: how far samples and half-runs are apart, as worst and median percentages."""
    lines = []
    for peer in distinct(row.peer for row in rows):
        mine = [row for row in rows if row.peer == peer]
        widths = sorted(100 * (row.us_high - row.us_low) / row.us for row in mine)
        repeats = sorted(100 * abs(row.us_first_half - row.us_second_half) / row.us for row in mine)
        middle = len(mine) // 2
        numbers = (widths[middle], widths[-1], repeats[middle], repeats[-1])
        worst_error = max(row.relative_error for row in mine)
        lines.append([peer, *(f"{number:.1f}" for number in numbers), f"{worst_error:.1e}"])
    header = ["peer", "p10-p90 %", "worst", "halves %", "worst", "largest error"]
    return markdown_table(header, lines)


def mean_table(rows: Sequence[Row], shapes: Sequence[str]) -> str:
    """Geometric mean of time over floor, for (weight, M, peer) measured on all of `shapes`."""
    lines = []
    peers = distinct(row.peer for row in rows)
    for weight, m in distinct((row.weight, row.m) for row in rows):
        cells = []
        for peer in peers:
            ratios = {
                row.shape: row.ratio
                for row in rows
                if (row.weight, row.m, row.peer) == (weight, m, peer)
            }
            complete = all(shape in ratios for shape in shapes)
            cells.append(f"{geometric_mean(ratios[s] for s in shapes):.2f}" if complete else "")
        if any(cells):
            lines.append([weight, str(m), *cells])
    return markdown_table(["weight", "M", *peers], lines)


def summary_text(result: Result, shapes: Sequence[str]) -> str:
    """Everything that the harness prints at the end, in Markdown."""
    device = result.device
    parts = [
        f"{device.name}, driver {device.driver}, CUDA {device.cuda}, {result.date}",
        f"activations: {result.activation}",
        "versions: " + ", ".join(f"{name} {text}" for name, text in result.versions.items()),
        f"ceilings: {result.read_bytes_per_second / 1e12:.3f} TB/s read, "
        f"{result.f16_flops_per_second / 1e12:.0f} TFLOP/s f16",
    ]
    parts += [f"missing: {peer}: {reason}" for peer, reason in result.missing.items()]
    parts += [
        f"failed: {each.peer} {each.shape} {each.weight} M={each.m}: {each.reason[:200]}"
        for each in result.failures
    ]
    if result.rows:
        parts += ["", time_table(result.rows), "", spread_table(result.rows)]
        means = mean_table(result.rows, shapes)
        if means.count("\n") > 1:
            parts += ["", f"geometric mean of time / floor over {', '.join(shapes)}:", "", means]
    return "\n".join(parts)
