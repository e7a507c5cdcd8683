"""Draws the two pictures of a result file as SVG.

    python benchmarks/plots.py benchmarks/results/r.json      (writes r-ratio.svg, r-roofline.svg)

Needs matplotlib, and nothing of the GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: make the `benchmarks` package importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers import PEERS
from benchmarks.report import Result, Row, distinct

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7", "#e69f00", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""
MARKERS = ("s", "o", "D", "^", "v", "P", "*")


@dataclass(frozen=True)
class Style:
    label: str
    color: str
    marker: str


def styles(rows: Sequence[Row]) -> dict[str, Style]:
    """One per peer. A peer looks the same in every picture, whoever else is in it."""
    names = distinct([*PEERS, *(row.peer for row in rows)])
    present = {row.peer for row in rows}
    return {
        name: Style(
            PEERS[name].label if name in PEERS else name,
            COLORS[index % len(COLORS)],
            MARKERS[(index + index // len(COLORS)) % len(MARKERS)],
        )
        for index, name in enumerate(names)
        if name in present
    }


def draw_ratio(result: Result) -> Figure:
    """Time over floor: one panel per M, one line per shape and weight type, a dot per peer.

    An M that was measured for fewer than half of the lines gets no panel.
    """
    from matplotlib.figure import Figure

    lines = distinct((row.shape, row.weight) for row in result.rows)
    sizes = [
        m
        for m in sorted({row.m for row in result.rows})
        if 2 * len({(row.shape, row.weight) for row in result.rows if row.m == m}) >= len(lines)
    ]
    rows = [row for row in result.rows if row.m in sizes]
    looks = styles(rows)
    height = 1.5 + 0.34 * len(lines)
    figure = Figure(figsize=(2.0 + 2.9 * len(sizes), height), layout="constrained")
    axes = figure.subplots(1, len(sizes), sharex=True, sharey=True, squeeze=False)[0]
    for axis, m in zip(axes, sizes, strict=True):
        for name, style in looks.items():
            mine = [row for row in rows if row.m == m and row.peer == name]
            axis.errorbar(
                [row.ratio for row in mine],
                [lines.index((row.shape, row.weight)) for row in mine],
                xerr=[
                    [(row.us - row.us_low) / row.floor_us for row in mine],
                    [(row.us_high - row.us) / row.floor_us for row in mine],
                ],
                fmt=style.marker,
                color=style.color,
                label=style.label,
                markersize=6,
                elinewidth=1.2,
            )
        axis.axvline(1.0, color="black", linewidth=1.2)
        axis.set_title(f"M = {m}", fontsize=11)
        axis.set_xlim(0.9, 1.08 * max(row.ratio for row in rows))
        axis.set_xscale("log")
        ratio_ticks(axis, max(row.ratio for row in rows))
        axis.grid(which="major", color="#dddddd")
        axis.set_axisbelow(True)
    axes[0].set_yticks(range(len(lines)), [f"{shape}  {weight}" for shape, weight in lines])
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    figure.supxlabel(
        f"time / floor on {result.device.name} (1 = a ceiling is reached; bars span p10 to p90)",
        fontsize=10,
    )
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(looks), frameon=False)
    return figure


def ratio_ticks(axis: Axes, largest: float) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    wide = largest > 6
    every = (1, 1.5, 2, 3, 5, 10, 20, 50) if wide else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5)
    ticks = [tick for tick in every if tick <= largest]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())


def draw_roofline(result: Result) -> Figure:
    """Achieved flops per second against compulsory flops per byte, under the two ceilings."""
    from matplotlib.figure import Figure

    rows, looks = result.rows, styles(result.rows)
    intensities = [row.flops / row.bytes for row in rows]
    ridge = result.f16_flops_per_second / result.read_bytes_per_second
    left, right = min(intensities) / 1.6, max(2.5 * ridge, 1.6 * max(intensities))
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    axis = figure.subplots()
    roof = [(left, left * result.read_bytes_per_second), (ridge, result.f16_flops_per_second)]
    roof.append((right, result.f16_flops_per_second))
    axis.plot([x for x, _ in roof], [y / 1e12 for _, y in roof], color="black", linewidth=1.4)
    axis.text(
        ridge,
        1.15 * result.f16_flops_per_second / 1e12,
        f"{result.f16_flops_per_second / 1e12:.0f} TFLOP/s f16 (measured)",
        ha="center",
    )
    middle = (left * ridge) ** 0.5
    axis.annotate(
        f"{result.read_bytes_per_second / 1e12:.2f} TB/s read (measured)",
        (middle, middle * result.read_bytes_per_second / 1e12),
        xytext=(-10, 4),
        textcoords="offset points",
        ha="right",
    )
    for name, style in looks.items():
        mine = [row for row in rows if row.peer == name]
        axis.plot(
            [row.flops / row.bytes for row in mine],
            [row.flops / row.us / 1e6 for row in mine],
            style.marker,
            color=style.color,
            label=style.label,
            markersize=5,
            alpha=0.85,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(left, right)
    axis.set_xlabel("compulsory intensity, flop / byte (packed weights + scales + A + C)")
    axis.set_ylabel("TFLOP/s")
    axis.set_ylim(top=2.2 * result.f16_flops_per_second / 1e12)
    axis.set_title(f"Quantized GEMM on {result.device.name}", fontsize=11)
    axis.grid(which="major", color="#dddddd")
    axis.set_axisbelow(True)
    axis.legend(loc="lower right", frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    """The same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "vm", "svg.fonttype": "path"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def draw_all(path: Path, suffix: str = ".svg") -> list[Path]:
    """Both pictures of one result file, beside it."""
    result = Result.read(path)
    drawn = {"ratio": draw_ratio(result), "roofline": draw_roofline(result)}
    targets = [path.with_name(f"{path.stem}-{name}{suffix}") for name in drawn]
    for target, figure in zip(targets, drawn.values(), strict=True):
        save(figure, target)
    return targets


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for picture in draw_all(Path(argument)):
            print(picture)
