"""Writes docs/layouts.md and its pictures, from the layouts themselves.

    python docs/layouts_page.py

Commands are run, pictures drawn, and the accesses of shared memory of all programs counted; times
come from benchmarks/results/layout_inference.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from readme import output_of
from shared_accesses import TRIED, Cost, Place, all_accesses

from vm.layouts import FRAGMENTS, local, packed, shared, svg

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "layouts.md"
PICTURES = ROOT / "docs" / "pictures"
TIMES = ROOT / "benchmarks" / "results" / "layout_inference.json"

MMA = FRAGMENTS["mma_m16n8k16"]

# Why an access takes more transactions than its words need: (program, statement, instruction).
REASONS = {
    (program, "total = reduce(load(part), axis=0, keep=false)", "nv.load_shared, 4 bytes"):
    "a relayout of the sums, once per block: written along rows, 8 bytes a lane, and read down "
    "columns; the swizzle that would free the reads splits the writes"
    for program in ("gemm_w4a16", "gemm_w4a16_sm80")
}  # fmt: skip

TEXT = """# Layouts

Written by `python docs/layouts_page.py`.

A tile has elements, a block has threads, and each thread has slots (registers). A *register layout*
says which element thread t holds in slot i. It is a value: programs compute with it, compare it,
and print it, and every layout printed is an expression that gives the layout again.

## At the prompt

`vm layout EXPR` shows what an expression stands for, `--svg FILE` draws it.

{small}

`spatial(4, 2)` gives each element of a 4 x 2 tile to a thread of its own, in row-major order;
`local(1, 2)` gives both elements of a 1 x 2 tile to one thread. `f.g(...)` is the product `f * g`:
every element of `f` becomes a tile `g`. Threads and slots of `f` are the high digits, those of `g`
the low ones.

![A product and its factors](pictures/product.svg)

`column_spatial` and `column_local` count down the columns first; `replicated(n)` are n threads that
hold the same. Extents need not be powers of two. Layouts that are no product of these have a
general form, `register_layout(shape=..., modes=..., spatial=..., local=...)`.

The product is associative, and division undoes it: `f / g` is the `q` with `q * g == f`, and an
error that says so where there is none. This answers "is this tile made of that fragment?", for
inference as well as for choosing instructions.

## Fragments

What a matrix instruction wants of its operands is a layout like any other. This is operand A of
`mma.m16n8k16` for 16-bit elements, `vm layout mma_m16n8k16.a`:

![Operand A of mma.m16n8k16](pictures/fragment.svg)

`dot_layout(M, N, K, f16)` has the layouts `.a`, `.b` and `.c` of the product of whole tiles by all
warps of a block, for the target that is compiled for. `grid=[4, 1]` places four warps along M, so
that a warp holds whole rows of C (attention); otherwise it is the grid that needs the fewest
registers. With `k_run=4` what a thread holds of four steps along K is one run.

## Reduced layouts

`f.reduce(1)` is who holds the sums along axis 1: threads that held parts of a row all hold its sum.
For the accumulator of `mma.m16n8k16`, four threads next to each other share two rows:

![Sums of the rows of an accumulator](pictures/reduced.svg)

## Packed weights

`packed(f, u4)` are the same registers seen as bytes. Each thread's bytes are in runs of up to 16,
and the runs of a warp lie side by side, so weights stored in this layout are loaded as wide as can
be, and `view(bytes, u4, layout=f)` sees codes where the matrix instruction wants them: nothing
moves. Threads that hold copies of elements share their bytes. For operand B of `mma.m16n8k16` a
thread has two bytes:

![The bytes of operand B as u4](pictures/packed.svg)

## Shared memory

A *memory layout* says at which offset an element lies: `shared(64, 64)` is row-major, `.pad(n)`
leaves gaps behind rows, `.swizzle(base, bits, shift)` moves each offset x to x xor ((x >> shift) &
mask). Shared memory has 32 banks of 4 bytes; lanes that want different words of one bank wait for
each other. Eight rows of 64 elements of 16 bits, each box one word and its number the bank: read
down a column, rows collide without a swizzle,

![Banks without a swizzle](pictures/banks_plain.svg)

and do not with one:

![Banks with a swizzle](pictures/banks_swizzled.svg)

`--banks` counts, by simulation of the target's phases, for typical accesses or for the registers
that are given:

{plain}

{swizzled}

{given}

Shared tensors whose layout a program leaves open get the swizzle, or the padding between parts, for
which its own accesses take the fewest transactions and instructions, by the same simulation.

## Global memory

`--sectors` tells how wide the accesses of a register layout are and how many sectors of 32 bytes
each request of a warp touches:

{wide}

{narrow}

## The shared accesses of all programs

Each program is compiled for {target}, or for {newer} where it needs that, and run for one or two
blocks on the reference machine; the addresses of every machine instruction are counted. *Would do*
is what the same words take if the banks share them evenly.

{accesses}

{reasons}

## Inference

Where a program names no layout the compiler chooses one: instructions that know what is good for
them (products, wide accesses, reductions) propose layouts, these spread to what they are connected
with, and the cheapest choice of all is taken, relayouts included. Processor time in milliseconds on
one core ({machine}, Python {python}), the first time in a process and the median of
{repetitions} more:

{times}

## Laws

`python -m tests.layouts.laws` runs the laws of the algebra with random layouts and every layout of
up to 3 modes, 3 axes and 64 elements against brute force, and prints how many there are.
"""


def pictures() -> dict[str, str]:
    """The SVG of each file in docs/pictures/."""
    return {
        "product": svg(local(2, 1).spatial(4, 2).local(1, 2)),
        "fragment": svg(MMA.a),
        "reduced": svg(MMA.c.reduce(1)),
        "packed": svg(packed(MMA.b, 4)),
        "banks_plain": svg(shared(8, 64), banks=True),
        "banks_swizzled": svg(shared(8, 64).swizzle(3, 3, 3), banks=True),
    }


def console(command: str) -> str:
    """A command and what it prints."""
    return f"```console\n$ vm {command}\n{output_of(command)}```"


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A Markdown table; numbers are flush right."""
    right = [all(isinstance(row[c], (int, float)) for row in rows) for c in range(len(head))]
    lines = [head, tuple("---:" if each else "---" for each in right), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def with_reasons(found: list[tuple[str, Place, Cost]]) -> Iterator[tuple[tuple, str | None]]:
    """The rows of the table, each with the reason for its conflicts; KeyError where none is
    known."""
    for target, place, cost in found:
        row = (
            f"{place.program} ({target})", f"`{place.text}`", place.instruction, place.tensor,
            cost.accesses, cost.transactions, cost.ideal,
        )  # fmt: skip
        key = place.program, place.text, place.instruction
        yield row, REASONS[key] if cost.transactions > cost.ideal else None


def accesses(found: list[tuple[str, Place, Cost]]) -> tuple[str, str]:
    """The table of shared accesses, and what is to be said of those with conflicts."""
    rows, notes = [], []
    for row, reason in with_reasons(found):
        if reason is not None:
            if reason not in notes:
                notes.append(reason)
            row = (*row[:-2], f"{row[-2]} ({notes.index(reason) + 1})", row[-1])
        rows.append(row)
    head = ("program", "statement", "instruction", "tensor", "accesses", "transactions", "would do")
    return table(head, rows), "\n".join(f"({n}) {note}." for n, note in enumerate(notes, 1))


def times() -> dict[str, str]:
    """What was measured of layout inference."""
    measured = json.loads(TIMES.read_text(encoding="utf-8"))
    rows = [
        (name, row["instructions"], row["first"], row["again"])
        for name, row in measured["programs"].items()
    ]
    return {
        "machine": measured["machine"],
        "python": measured["python"],
        "repetitions": str(measured["repetitions"]),
        "times": table(("program", "instructions", "first", "again"), rows),
    }


def page() -> str:
    """The text of docs/layouts.md."""
    found = list(all_accesses())
    rows, reasons = accesses(found)
    return TEXT.format(
        small=console('layout "spatial(4, 2).local(1, 2)"'),
        plain=console('layout "shared(64, 64)" --banks --bytes 16'),
        swizzled=console('layout "shared(64, 64).swizzle(3, 3, 3)" --banks --bytes 16'),
        given=console(
            'layout "shared(64, 64)" --banks "local(2, 1).spatial(32, 8).local(1, 8)" '
            "--target gfx942"
        ),
        wide=console('layout "default_layout([64, 64], 128, 8)" --sectors'),
        narrow=console('layout "mma_m16n8k16.c" --sectors --dtype f32'),
        target=TRIED[0], newer=TRIED[1],
        accesses=rows, reasons=reasons, **times(),
    )  # fmt: skip


if __name__ == "__main__":
    for name, picture in pictures().items():
        (PICTURES / f"{name}.svg").write_text(picture, encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
