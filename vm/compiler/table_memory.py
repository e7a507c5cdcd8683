"""Which tables the casts of a kernel look up, and where in shared memory they lie.

A table is filled once by each block and read for each pair of numbers. So a kernel has one where a
cast in a loop takes fewer steps with it, and where it leaves room for the blocks that the program
asks for, or, if it does not say, for as many as before.
"""

from __future__ import annotations

from collections.abc import Iterator

from vm.compiler import casts
from vm.compiler.casts import Plan
from vm.compiler.casts_steps import Table
from vm.compiler.targets.target import Target
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.lanes import holds_copies
from vm.isa.nvidia_packed import Dequantize, slots_held
from vm.isa.nvidia_words import ENTRY_BYTES, LANES
from vm.isa.types import Immediate

LEAST_THREADS = 128
"""Fewer threads would take longer to fill a table than casts gain."""
LEAST_NUMBERS = 128
"""Of a thread, in a loop whose turns are known: to fill a table of 256 entries takes some 130
instructions, to look up a number instead of making it saves one or two."""
WARPS_LEFT = 16
"""As many warps as these on a multiprocessor are enough, where a program does not say."""


def in_loops(statements: list[Instruction], turns: float = 0) -> Iterator[tuple[Dequantize, float]]:
    """The casts that stand in loops, and how often each is performed, infinitely often where that
    is not known."""
    for instruction in statements:
        if turns and isinstance(instruction, Dequantize):
            yield instruction, turns
        more = turns
        if isinstance(instruction, control.For | control.While):
            more = max(turns, 1) * _turns(instruction)
        for block in instruction.blocks():
            yield from in_loops(block, more)


def _turns(loop: control.For | control.While) -> float:
    if isinstance(loop, control.While):
        return float("inf")
    bounds = (loop.start, loop.stop, loop.step)
    if not all(isinstance(bound, Immediate) for bound in bounds) or not loop.step.value:
        return float("inf")
    return max(1, len(range(*(int(bound.value) for bound in bounds))))


def cast_plan(cast: Dequantize, tables: bool) -> Plan | None:
    """The steps of a cast, with look-ups in tables or without; None where no rule is suited, or
    lanes hold what views do not know."""
    if not holds_copies(cast.x.type.layout, cast.result.type.layout):
        return None
    kind = cast.source or cast.x.type.dtype
    return casts.plan(kind, cast.dtype, cast.slots, slots_held(cast), cast.offset, cast.bits,
                      tables=tables)  # fmt: skip


def tables_of(kernel: Kernel, target: Target, shared_bytes: int) -> dict[Table, int]:
    """The tables of a kernel, and at which byte of shared memory each begins; `shared_bytes` are
    taken without them."""
    found: dict[Table, int] = {}
    if kernel.threads < LEAST_THREADS:
        return found
    enough = -(-WARPS_LEFT * LANES // kernel.threads)  # blocks
    for cast, turns in in_loops(kernel.body):
        plan = cast_plan(cast, tables=True)
        table = plan.choice.steps.table if plan else None
        if table is None or table in found or turns * len(cast.slots) < LEAST_NUMBERS:
            continue
        address = -(-shared_bytes // ENTRY_BYTES) * ENTRY_BYTES
        least = kernel.resident_blocks or min(target.blocks(shared_bytes), enough)
        if target.blocks(address + table.bytes) >= least:
            found[table] = address
            shared_bytes = address + table.bytes
    return found
