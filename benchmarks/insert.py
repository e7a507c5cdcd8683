"""Keeps the tables inside Markdown files equal to the result files that they come from.

    python benchmarks/insert.py README.md benchmarks/notes.md

A block looks as below; everything between its two comments is replaced. KIND is one of KINDS or
OTHERS, FILE a name in benchmarks/results/; words `weight=u4`, `m=1,8`, `peer=a,b` select the rows
of KINDS.

    <!-- table KIND FILE weight=u4 m=1,8 -->
    <!-- end table -->
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: make the `benchmarks` package importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.problem import SIX_SHAPES
from benchmarks.report import Result, Row, markdown_table, mean_table, spread_table, time_table
from vm.isa.dtypes import dtype

RESULTS = Path(__file__).resolve().parent / "results"
BLOCK = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- end table -->)", re.DOTALL)


def ceilings_table(result: Result) -> str:
    """Every variant that was tried, the ceilings in bold."""
    groups = (
        (result.read_variants, result.read_bytes_per_second, "TB/s read"),
        (result.f16_variants, result.f16_flops_per_second, "TFLOP/s f16"),
    )
    lines = []
    for variants, best, unit in groups:
        for name, rate in variants.items():
            text = f"{rate / 1e12:.4g} {unit}"
            lines.append([name, f"**{text}**" if rate == best else text])
    return markdown_table(["what", result.device.name], lines)


KINDS: dict[str, Callable[[Result], str]] = {
    "times": lambda result: time_table(result.rows),
    "means": lambda result: mean_table(result.rows, SIX_SHAPES),
    "spread": lambda result: spread_table(result.rows),
    "ceilings": ceilings_table,
}


def front_end_table(data: Mapping[str, Any]) -> str:
    """What `python -m benchmarks.front_end` measured."""
    times = data["milliseconds"]
    lines = [
        ("import the package", times["imports"]),
        (f"parse its {data['lines']} lines, first time in a process", times["first_parse"]),
        ("parse them again", times["parse"]),
        (f"instantiate (types, layouts; {data['instructions']} instructions)",
         times["instantiate"]),
        ("verify", times["verify"]),
        *((f"run {sizes} on the reference machine, all checks", t)
          for sizes, t in times["run"].items()),
    ]  # fmt: skip
    shown = [[what, f"{time:.3g}" if time < 100 else f"{time:.0f}"] for what, time in lines]
    return markdown_table(["what", f"ms ({data['machine']}, Python {data['python']})"], shown)


def matrix_table(data: Mapping[str, Any]) -> str:
    """What `python -m benchmarks.matrix_precision` measured, all forms of a fragment that add up in
    one dtype together: the fewest bits, the largest error, in epsilons of that dtype."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in data["rows"]:
        groups.setdefault((row["fragment"], row["c"]), []).append(row)

    def bits(rows: Sequence[Mapping[str, Any]], name: str) -> str:
        limited = [row[name][0] for row in rows if row[name][0] < row["reach"]]
        return f"{min(limited)}" if limited else f">= {max(row[name][0] for row in rows)}"

    lines = []
    for (fragment, accumulator), rows in groups.items():
        names = " or ".join(dict.fromkeys(row["a"] for row in rows))
        if rows[0]["reach"] is None:
            lines.append([f"`{fragment}`", names, accumulator, "all", "all", "none", "0", "0"])
            continue
        epsilon = dtype(accumulator).epsilon
        seen = dict.fromkeys(r["rounding"] for r in rows if r["rounding"] != "not seen")
        lines.append([
            f"`{fragment}`", names, accumulator, bits(rows, "products"), bits(rows, "accumulator"),
            " or ".join(seen), f"{max(row['worst'] for row in rows) / epsilon:.2f}",
            f"{rows[0]['allowed'] / epsilon:g}",
        ])  # fmt: skip
    return markdown_table([
        "row", "a and b", "c", "bits of products behind the largest term", "bits of a sum with c",
        "rounded", "worst error", "allowed",
    ], lines)  # fmt: skip


OTHERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "front_end": front_end_table,
    "matrix": matrix_table,
}
"""Tables of files that are no run of the harness."""


def select(rows: Sequence[Row], words: Sequence[str]) -> list[Row]:
    """The rows that every `field=value,value` word allows; ValueError for any other word."""
    chosen = list(rows)
    for word in words:
        name, equals, values = word.partition("=")
        if not equals or name not in ("shape", "weight", "m", "peer"):
            raise ValueError(f"expected shape=, weight=, m= or peer=, got {word!r}")
        chosen = [row for row in chosen if str(getattr(row, name)) in values.split(",")]
    return chosen


def table(description: str, results: Path = RESULTS) -> str:
    """The table that the words after `table` in a block's first comment ask for."""
    kind, file, *words = description.split()
    if kind in OTHERS and not words:
        return OTHERS[kind](json.loads((results / file).read_text()))
    if kind not in KINDS:
        raise ValueError(f"no table {kind!r}; known: {', '.join([*KINDS, *OTHERS])}")
    result = Result.read(results / file)
    result.rows = select(result.rows, words)
    return KINDS[kind](result)


def refreshed(text: str, results: Path = RESULTS) -> str:
    """The Markdown with every block's table made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{table(block[2], results)}\n{block[3]}", text)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        path = Path(argument)
        path.write_text(refreshed(path.read_text()))
