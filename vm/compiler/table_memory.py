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
from vm.compiler.facts import resident_blocks
from vm.compiler.targets.target import Target
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.nvidia_packed import Dequantize, slots_held
from vm.isa.nvidia_words import ENTRY_BYTES, LANES

LEAST_THREADS = 128
"""Fewer threads would take longer to fill a table than casts gain."""
BLOCKS_LEFT = 4
"""As many blocks as these on a multiprocessor are enough, where a program does not say."""


def in_loops(statements: list[Instruction], inside: bool = False) -> Iterator[Dequantize]:
    """The casts that stand in loops."""
    for instruction in statements:
        if inside and isinstance(instruction, Dequantize):
            yield instruction
        loops = inside or isinstance(instruction, control.For | control.While)
        for block in instruction.blocks():
            yield from in_loops(block, loops)


def cast_plan(cast: Dequantize, tables: bool) -> Plan | None:
    """The steps of a cast, with look-ups in tables or without; None where no rule is suited."""
    kind = cast.source or cast.x.type.dtype
    return casts.plan(kind, cast.dtype, cast.slots, slots_held(cast), cast.offset, cast.bits,
                      tables=tables)  # fmt: skip


def tables_of(kernel: Kernel, target: Target, shared_bytes: int) -> dict[Table, int]:
    """The tables of a kernel, and at which byte of shared memory each begins; `shared_bytes` are
    taken without them."""
    found: dict[Table, int] = {}
    if kernel.threads < LEAST_THREADS or kernel.threads % LANES:
        return found
    for cast in in_loops(kernel.body):
        plan = cast_plan(cast, tables=True)
        table = plan.choice.steps.table if plan else None
        if table is None or table in found:
            continue
        address = -(-shared_bytes // ENTRY_BYTES) * ENTRY_BYTES
        least = resident_blocks(kernel) or min(target.blocks(shared_bytes), BLOCKS_LEFT)
        if target.blocks(address + table.bytes) >= least:
            found[table] = address
            shared_bytes = address + table.bytes
    return found
