"""What a program may do before `grid_wait`: grids before it may still run."""

from __future__ import annotations

from vm.errors import fail
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.synchronization import GridWait
from vm.isa.types import GlobalType, SemaphoreType, Tile


def check_grid_dependence(kernel: Kernel) -> None:
    """Refuses (E0406) accesses of global memory and of semaphores that stand before the first
    `grid_wait`, unless they read memory declared `constant`. A kernel without `grid_wait` begins
    after those before."""
    if any(isinstance(i, GridWait) for i in control.walk(kernel.body)):
        _check(kernel.body)


def _check(statements: list[Instruction]) -> bool:
    """Checks statements in order; whether every way through them comes to a `grid_wait`."""
    groups: list[bool] = []  # whether each of the groups that run side by side here waits
    for instruction in statements:
        is_group = isinstance(instruction, control.Group)
        if isinstance(instruction, GridWait) or (groups and all(groups) and not is_group):
            return True
        _check_access(instruction)
        waits = [_check(block) for block in instruction.blocks()]
        if is_group:
            groups += waits
            continue
        groups = []
        # A branch has waited where both its ways have; a loop may make no turn.
        if waits and all(waits) and isinstance(instruction, control.If):
            return True
    return bool(groups) and all(groups)


def _check_access(instruction: Instruction) -> None:
    for operand in instruction.operands():
        if not isinstance(operand, Tile):
            continue
        memory = operand.base
        if not isinstance(memory.type, (GlobalType, SemaphoreType)):
            continue
        if getattr(memory.type, "access", None) == "constant":
            continue
        raise fail(
            "E0406", f"`{memory.name}` is touched before `grid_wait`, while grids before this one "
            "may still write it", operand.origin, "touched here",
            others=((memory.origin, f"is {memory.type}"),),
            fix="move grid_wait() up, or declare it constant(global(...)): weights, scales",
        )  # fmt: skip
