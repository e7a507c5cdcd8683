"""Instructions for each element of fast casts, counted in machine code; no GPU is needed.

    python -m benchmarks.casts                  # all pairs, into benchmarks/results/casts.json
    python -m benchmarks.casts u4 f6e3m2 nf4    # some sources, only printed

A thread loads a run of packed elements, casts them and stores the result. Of two such kernels, one
with twice the elements of the other, the difference in instructions that neither load nor store is
what the elements cost: addresses and constants, which both have, are not in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

if not __package__:  # run as a file: make the `benchmarks` package importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.insert import BLOCK
from benchmarks.report import markdown_table
from vm.compiler import casts
from vm.isa.dtypes import dtype, known_names
from vm.isa.kernel import Kernel
from vm.isa.program import parse
from vm.runtime import nvrtc
from vm.runtime.compiled import cubin_of
from vm.runtime.sass import disassemble, instructions

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "benchmarks" / "results" / "casts.json"
DOCUMENT = ROOT / "docs" / "casts.md"
TARGETS = ("sm_80", "sm_90a")
ELEMENTS = 64
"""Elements of a thread in the smaller kernel: two runs of every width."""
RUN = 32
"""Elements whose order is chosen together."""
MOVES = ("LDG", "STG", "BRA", "NOP", "EXIT")


@dataclass(frozen=True)
class Count:
    """One cast on one target. `order` is "memory" or "free", `distance` that of a pair's slots,
    `steps` what the generator counts and `machine` what the machine code has, each for one element;
    `rule` is None for the general path."""

    source: str
    target: str
    order: str
    architecture: str
    distance: int
    rule: str | None
    steps: float | None
    machine: float


def kernel(source: str, target: str, distance: int, elements: int) -> Kernel:
    """A kernel in which each thread casts `elements` packed ones, pairs `distance` slots apart."""
    order = f"local(1, {RUN // (2 * distance)})"
    order += f" * column_local({distance}, 2).reshape(1, {2 * distance})"
    size = 32 * elements * dtype(source).bits // 8
    return parse(f"""vm 1
layout natural = spatial(32, 1) * local(1, {elements})
layout held = natural / local(1, {RUN}) * {order}
layout bytes = packed(held, {source})
program casts(X: global(u8)[{size}], Y: out(global({target}))[32, {elements}])
  grid (1) threads 32
{{
  x = view(load(X[0 +: {size}], layout=bytes), {source}, layout=held)
  y = relayout(cast(x, {target}), layout=natural)
  store(Y[0 +: 32, 0 +: {elements}], y)
}}
""").programs["casts"].instantiate()


def machine_instructions(made: Kernel, architecture: str) -> int:
    """How many instructions of a kernel neither load nor store."""
    code = disassemble(cubin_of(made, architecture, "aligned").payload)
    return sum(not each.opcode.startswith(MOVES) for each in instructions(code))


def count(source: str, target: str, order: str, architecture: str) -> Count:
    given, to = dtype(source), dtype(target)
    distance = 1 if order == "memory" else casts.best_distance(given, to, RUN)
    found = casts.plan(given, to, casts.ordered(RUN, distance), RUN)
    few, many = (
        machine_instructions(kernel(source, target, distance, n), architecture)
        for n in (ELEMENTS, 2 * ELEMENTS)
    )
    return Count(
        source, target, order, architecture, distance,
        found.choice.rule if found else None,
        found.cost / RUN if found else None,
        round((many - few) / ELEMENTS, 3),
    )  # fmt: skip


def all_sources() -> list[str]:
    """Integers of at most 8 bits and small floats."""
    kinds = ("unsigned", "signed", "float")
    return [n for n in known_names() if dtype(n).bits <= 8 and dtype(n).kind in kinds]


def counts(sources: Sequence[str], show: bool = False) -> list[Count]:
    found = []
    for source, target, architecture in product(sources, casts.TARGETS, TARGETS):
        memory = free = count(source, target, "memory", architecture)
        if casts.best_distance(dtype(source), dtype(target), RUN) > 1:
            free = count(source, target, "free", architecture)
        found += [memory, replace(free, order="free")]
        if show:
            print(memory, free, sep="\n", flush=True)
    return found


def table(found: Sequence[Count]) -> str:
    """A row for each pair of dtypes, in the order of the file."""
    by_case = {(c.source, c.target, c.order, c.architecture): c for c in found}
    rows = []
    for source, target in dict.fromkeys((c.source, c.target) for c in found):
        best = by_case[source, target, "free", TARGETS[0]]
        cells = [source, target, (best.rule or "general path").replace("_", " "),
                 str(best.distance)]  # fmt: skip
        for order in ("free", "memory"):
            for architecture in TARGETS:
                cells.append(f"{by_case[source, target, order, architecture].machine:.2f}")
        rows.append(cells)
    head = ["from", "to", "rule", "distance"]
    head += [f"{order}, {name}" for order in ("free", "memory") for name in TARGETS]
    return markdown_table(head, rows)


def read(path: Path = FILE) -> list[Count]:
    """The counts of a result file."""
    return [Count(**each) for each in json.loads(path.read_text())["counts"]]


def refreshed(text: str, found: Sequence[Count]) -> str:
    """The document with its table made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{table(found)}\n{block[3]}", text)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(table(counts(sys.argv[1:])))
    else:
        measured = counts(all_sources(), show=True)
        document = {"toolchain": nvrtc.toolchain(), "counts": [asdict(c) for c in measured]}
        FILE.write_text(json.dumps(document, indent=1) + "\n")
        DOCUMENT.write_text(refreshed(DOCUMENT.read_text(), measured))
