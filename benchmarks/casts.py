"""Instructions for each element of fast casts, counted in machine code; no GPU is needed.

    python -m benchmarks.casts                  # into benchmarks/results/casts.json
    python -m benchmarks.casts u4 f6e3m2        # some sources, only printed
    python -m benchmarks.casts --gpu            # every code in every place, on the first GPU

A thread loads a run of packed elements, casts them and stores the result. Of two such kernels, one
with twice the elements of the other, the difference in instructions that neither load from global
memory nor store there is what the elements cost. Addresses, constants and what fills tables, which
both have, are not in it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

if not __package__:  # run as a file: make the `benchmarks` package importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.insert import BLOCK
from benchmarks.report import markdown_table
from vm.compiler import casts, pipeline
from vm.isa.dtypes import DType, dtype, known_names
from vm.isa.kernel import Kernel
from vm.isa.packing import pack
from vm.isa.program import parse
from vm.isa.static import codebook_type
from vm.isa.tensor import Tensor
from vm.runtime import cuda, nvrtc, reference
from vm.runtime.compiled import compile_together, emitted, run_on_cuda
from vm.runtime.emulator import PRELUDE
from vm.runtime.sass import disassemble, instructions

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "benchmarks" / "results" / "casts.json"
DOCUMENT = ROOT / "docs" / "casts.md"
TARGETS = ("sm_80", "sm_90a")
ELEMENTS = 32
"""Elements of a thread in the smaller kernel."""
THREADS = 128
"""Of a block: as many as fill tables."""
COUNTED = (
    *(f"u{bits}" for bits in range(1, 9)), *(f"i{bits}" for bits in range(2, 9)),
    "f3e1m1", "f4e2m1", "f5e2m2", "f6e2m3", "f6e3m2", "f7e3m3", "f7e4m2", "f8e3m4", "f8e4m3",
    "f8e5m2", "nf4", "codebook2", "codebook4", "codebook8", "codebook16",
)  # fmt: skip
"""What the table has: integers, the floats of OCP, one of every other width (the steps of the
others differ in constants alone) and another of 7 bits whose exponent f8e4m3 has, codebooks."""
TABLES = {
    f"codebook{count}": tuple(float(np.float16(np.tan((2 * i + 1 - count) / count) + 0.01))
                              for i in range(count))
    for count in (2, 4, 8, 16)
}  # fmt: skip
"""Codebooks that a program gives, of numbers without a pattern."""
SECTION = re.compile(r"^\s*\.section\s+\.text\.(\S+?),", re.MULTILINE)
MOVES = ("LDG", "STG", "BRA", "NOP", "EXIT")


@dataclass(frozen=True)
class Count:
    """One cast on one target. `order` is "memory" or "free", `arranged` what is in another place
    than in memory, `steps` what the generator counts and `machine` what the machine code has, each
    for one element; `rule` is None for the general path."""

    source: str
    target: str
    order: str
    architecture: str
    arranged: str
    rule: str | None
    steps: float | None
    machine: float


def dtype_of(source: str) -> DType:
    """The dtype of a name, or of a codebook in TABLES."""
    return codebook_type(TABLES[source], dtype("f16")) if source in TABLES else dtype(source)


def kernel(source: str, target: str, order: str, elements: int, in_loop: bool) -> Kernel:
    """A kernel in which each thread casts `elements` packed ones, in the order of memory or of
    `bit_order`, once, or in a loop of as many turns as arguments say: other casts look up no
    tables."""
    free = f"bit_order(natural, SOURCE, {target})"
    size = THREADS * elements * dtype_of(source).bits // 8
    written = f"codebook({list(TABLES[source])}, f16)" if source in TABLES else source
    return parse(f"""vm 1
const SOURCE = {written}
layout natural = spatial({THREADS}, 1) * local(1, {elements})
layout by_bit = natural.concat(local(bits(SOURCE)))
layout held = {free if order == "free" else "by_bit"}
layout bytes = packed(held, u1)
program casts(turns: i32, step: i32, X: global(u8)[{size}],
              Y: out(global({target}))[{THREADS}, {elements}])
  grid (1) threads {THREADS}
{{
  var turn = 0
  {"while" if in_loop else "if"} turn < turns {{
    held_bits = view(load(X[0 +: {size}], layout=bytes), u1, layout=held)
    x = view(relayout(held_bits, by_bit), SOURCE, layout=natural)
    store(Y[0 +: {THREADS}, 0 +: {elements}], cast(x, {target}))
    turn := turn + step
  }}
}}
""").programs["casts"].instantiate()


@dataclass(frozen=True)
class Case:
    """A cast in one order."""

    source: str
    target: str
    order: str

    @property
    def bits(self) -> tuple[int, ...]:
        """Where the bits of the elements lie; bit b at b in the order of memory."""
        kind = dtype_of(self.source)
        if self.order == "memory":
            return tuple(range(casts.block_size(kind) * kind.bits))
        return casts.best_order(kind, dtype(self.target), ELEMENTS).bits

    @property
    def slots(self) -> tuple[int, ...] | None:
        """The slots of the elements, if these are whole."""
        bits, size = self.bits, dtype_of(self.source).bits
        slots = tuple(first // size for first in bits[::size])
        whole = tuple(slot * size + bit for slot in slots for bit in range(size))
        return slots if whole == bits else None

    @property
    def arranged(self) -> str:
        """What is in another place than in memory: nothing, elements or bits."""
        slots = self.slots
        if slots is None:
            return "bits"
        return "memory" if slots == tuple(range(len(slots))) else f"{slots[1]} apart"

    def plan(self) -> casts.Plan | None:
        """How the elements of a thread are cast."""
        given, to = dtype_of(self.source), dtype(self.target)
        if self.slots is None:
            return casts.plan(given, to, tuple(range(ELEMENTS)), ELEMENTS, bits=self.bits,
                              tables=True)  # fmt: skip
        slots = tuple(
            block + slot for block in range(0, ELEMENTS, len(self.slots)) for slot in self.slots
        )
        return casts.plan(given, to, slots, ELEMENTS, tables=True)

    def kernel(self, elements: int = ELEMENTS) -> Kernel:
        plan = self.plan()
        looks_up = plan is not None and plan.choice.steps.table is not None
        return kernel(self.source, self.target, self.order, elements, looks_up)


def machine_instructions(made: Sequence[Kernel], architecture: str) -> list[int]:
    """How many instructions of each kernel neither load from global memory nor store there. All are
    compiled at once."""
    texts = [emitted(each, architecture, "aligned").source for each in made]
    names = [f"kernel_{number}" for number in range(len(texts))]
    source = "\n".join(
        re.sub(r"(?<=VM_KERNEL\()\w+", name, text)
        for name, text in zip(names, texts, strict=True)
    )
    compiled = nvrtc.compile_cubin(source, architecture, names[0], (f"-I{PRELUDE}",))
    sections = SECTION.split(disassemble(compiled.cubin))
    code = dict(zip(sections[1::2], sections[2::2], strict=True))
    return [
        sum(not each.opcode.startswith(MOVES) for each in instructions(code[name]))
        for name in names
    ]


def rule_taken(case: Case, architecture: str) -> str | None:
    """The rule of the target that takes a cast for which there are no steps."""
    chosen = pipeline.lower(case.kernel(), pipeline.target(architecture)).choices
    return next((each.rule for each in chosen if each.opcode == "cast"), None)


def counts(cases: Sequence[Case]) -> list[Count]:
    found = []
    for architecture in TARGETS:
        made = [case.kernel(n) for case in cases for n in (ELEMENTS, 2 * ELEMENTS)]
        totals = machine_instructions(made, architecture)
        for case, few, many in zip(cases, totals[::2], totals[1::2], strict=True):
            plan = case.plan()
            rule = plan.choice.rule if plan else rule_taken(case, architecture)
            found.append(Count(
                case.source, case.target, case.order, architecture, case.arranged,
                rule, plan.cost / ELEMENTS if plan else None,
                round((many - few) / ELEMENTS, 3),
            ))  # fmt: skip
    return found


def cases(sources: Sequence[str]) -> list[Case]:
    """Both orders of every source and target, of targets of 8 bits those that some rule casts to;
    where the best order is that of memory, it alone."""
    both = [
        Case(s, t, o)
        for s, t, o in product(sources, casts.TARGETS, ("memory", "free"))
        if dtype(t).bits == 16 or casts.is_fast(dtype_of(s), dtype(t))
    ]
    return [case for case in both if case.order == "memory" or case.arranged != "memory"]


def all_sources() -> list[str]:
    """Integers of at most 8 bits, small floats, and codebooks."""
    kinds = ("unsigned", "signed", "float", "codebook")
    named = [n for n in known_names() if dtype(n).bits <= 8 and dtype(n).kind in kinds]
    return [*named, *TABLES]


def table(found: Sequence[Count]) -> str:
    """A row for each pair of dtypes, in the order of the file."""
    by_case = {(c.source, c.target, c.order, c.architecture): c for c in found}
    rows = []
    for source, target in dict.fromkeys((c.source, c.target) for c in found):
        order = "free" if (source, target, "free", TARGETS[0]) in by_case else "memory"
        best = by_case[source, target, order, TARGETS[0]]
        cells = [source, target, (best.rule or "general path").replace("_", " "),
                 best.arranged]  # fmt: skip
        for column in (order, "memory"):
            for architecture in TARGETS:
                cells.append(f"{by_case[source, target, column, architecture].machine:.2f}")
        rows.append(cells)
    head = ["from", "to", "rule", "order"]
    head += [f"{order}, {name}" for order in ("free", "memory") for name in TARGETS]
    return markdown_table(head, rows)


def read(path: Path = FILE) -> list[Count]:
    """The counts of a result file."""
    return [Count(**each) for each in json.loads(path.read_text())["counts"]]


def refreshed(text: str, found: Sequence[Count]) -> str:
    """The document with its table made anew."""
    return BLOCK.sub(lambda block: f"{block[1]}{table(found)}\n{block[3]}", text)


def differences_on_gpu(case: Case) -> int:
    """How many results of a GPU differ from the reference machine's, of every code in every place
    of a run beside various neighbours, and of random words."""
    given, to = dtype_of(case.source), dtype(case.target)
    made = case.kernel()
    generator = np.random.default_rng(0)
    size = THREADS * ELEMENTS * given.bits // 8
    thread, place = np.meshgrid(np.arange(THREADS), np.arange(ELEMENTS), indexing="ij")
    different = 0
    for step in range(8):
        codes = (thread + THREADS * step + 7 * place * (step // 2)) % (1 << given.bits)
        held = pack(codes.astype(given.storage), given)
        if step >= 4:
            held = generator.integers(0, 256, size).astype(np.uint8)
        results = []
        for run in (reference.run, run_on_cuda):
            output = np.zeros((THREADS, ELEMENTS), to.memory)
            arguments = {"turns": 1, "step": 1, "X": Tensor(dtype("u8"), (size,), held.copy()),
                         "Y": Tensor(to, output.shape, output)}  # fmt: skip
            results.append(to.decode(run(made, arguments).outputs["Y"].storage.view(to.storage)))
        first, second = results
        same = (first == second) & (np.signbit(first) == np.signbit(second))
        different += int((~same & ~(np.isnan(first) & np.isnan(second))).sum())
    return different


def check_on_gpu() -> int:
    """Prints the casts that differ from the reference machine's; returns how many there are."""
    checked = cases(all_sources())
    compile_together([case.kernel() for case in checked], cuda.device(0).target)
    wrong = 0
    for case in checked:
        different = differences_on_gpu(case)
        wrong += different > 0
        if different:
            print(f"{case}: {different} differ")
    print(f"{len(checked) - wrong} of {len(checked)} casts equal the reference machine's")
    return wrong


if __name__ == "__main__":
    if sys.argv[1:] == ["--gpu"]:
        sys.exit(check_on_gpu() > 0)
    elif sys.argv[1:]:
        print(table(counts(cases(sys.argv[1:]))))
    else:
        measured = counts(cases(COUNTED))
        document = {"toolchain": nvrtc.toolchain(), "counts": [asdict(c) for c in measured]}
        FILE.write_text(json.dumps(document, indent=1) + "\n")
        DOCUMENT.write_text(refreshed(DOCUMENT.read_text(), measured))
