"""Named barriers at which the warps that they wait for can never all arrive."""

from __future__ import annotations

from collections.abc import Iterator

from vm.errors import Diagnostic, Label
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.synchronization import Barrier


def check_barriers(kernel: Kernel) -> Iterator[Diagnostic]:
    """E0404: every use of a barrier counts the same warps, and that many come to it."""
    first: dict[int, Barrier] = {}
    coming: dict[int, set[int]] = {}
    for barrier, warps in _barriers(kernel.body, set(range(kernel.threads // kernel.warp_width))):
        earlier = first.setdefault(barrier.id, barrier)
        coming.setdefault(barrier.id, set()).update(warps)
        if barrier.warps != earlier.warps:
            yield Diagnostic(
                "E0404",
                f"barrier {barrier.id} waits for {barrier.warps} warps here and for "
                f"{earlier.warps} elsewhere",
                (Label(barrier.origin, f"{barrier.warps} warps"),
                 Label(earlier.origin, f"{earlier.warps} warps")),
                (), "give both the same number, or use another id",
            )  # fmt: skip
    for number, barrier in first.items():
        if len(coming[number]) < barrier.warps:
            yield Diagnostic(
                "E0404",
                f"barrier {number} waits for {barrier.warps} warps, but only "
                f"{len(coming[number])} ever come to it",
                (Label(barrier.origin, "waits for ever"),),
                (), "count the warps of every group that comes here",
            )  # fmt: skip


def _barriers(
    statements: list[Instruction], warps: set[int]
) -> Iterator[tuple[Barrier, set[int]]]:
    """Every use of a barrier, with the warps of the block that may come to it."""
    for instruction in statements:
        if isinstance(instruction, Barrier):
            yield instruction, warps
        inside = warps
        if isinstance(instruction, control.Group):
            first = instruction.first_warp
            inside = set(range(first, first + instruction.warps * instruction.copies))
        for block in instruction.blocks():
            yield from _barriers(block, inside)
