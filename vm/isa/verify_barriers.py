"""Named barriers at which the warps that they wait for can never all arrive."""

from __future__ import annotations

from collections.abc import Iterator

from vm.errors import Diagnostic, Label
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.synchronization import Barrier


def check_barriers(kernel: Kernel) -> Iterator[Diagnostic]:
    """E0404: a barrier waits for more warps than there are that ever come to one of its id."""
    found = list(_barriers(kernel.body, set(range(kernel.threads // kernel.warp_width))))
    coming: dict[int, set[int]] = {}
    for barrier, warps in found:
        coming.setdefault(barrier.id, set()).update(warps)
    for barrier, _ in found:
        number = len(coming[barrier.id])
        if number < barrier.warps:
            yield Diagnostic(
                "E0404",
                f"barrier {barrier.id} waits for {barrier.warps} warps, but only {number} ever "
                "come to it",
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
