"""Where the memory that a launch owns begins in what the runtime gives it, and how much it is.

Everything here is an expression over what a launch knows: the same text goes to the manifest, which
evaluates it in the host, and to the kernel, which computes it in 64 bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vm.isa import syntax
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.launch_memory import GlobalAllocate, SemaphoreAllocate

ALIGNMENT = 256
"""Bytes at whose multiples each tensor begins: what every driver's allocations keep."""

SEMAPHORE_BYTES = 4


@dataclass(frozen=True)
class LaunchMemory:
    """The bytes of scratch, the number of semaphores, and for each instruction that declares some
    where it begins, in bytes; numbers, or expressions over sizes and scalar parameters."""

    workspace_bytes: Any = 0
    semaphores: Any = 0
    offsets: dict[Instruction, Any] = field(default_factory=dict)

    @property
    def owns_workspace(self) -> bool:
        return any(isinstance(each, GlobalAllocate) for each in self.offsets)

    @property
    def owns_semaphores(self) -> bool:
        return any(isinstance(each, SemaphoreAllocate) for each in self.offsets)


def launch_memory(kernel: Kernel) -> LaunchMemory:
    """What a kernel declares, in the order of its text."""
    offsets: dict[Instruction, Any] = {}
    workspace = semaphores = 0
    for instruction in kernel.body:
        if isinstance(instruction, GlobalAllocate):
            offsets[instruction] = workspace
            workspace = _add(workspace, _bytes(instruction))
        elif isinstance(instruction, SemaphoreAllocate):
            offsets[instruction] = _multiply(semaphores, SEMAPHORE_BYTES)
            semaphores = _add(semaphores, _product(instruction.shape))
    return LaunchMemory(workspace, semaphores, offsets)


def extent_facts(kernel: Kernel) -> list[syntax.Expression]:
    """What must hold at launch: extents that may be negative, as differences and parameters, are
    not."""
    sizes = {size.name for size in kernel.sizes}
    facts = {
        syntax.Operation(">=", (extent, syntax.Literal(0))): None
        for instruction in kernel.body
        if isinstance(instruction, (GlobalAllocate, SemaphoreAllocate))
        for extent in instruction.shape
        if isinstance(extent, syntax.Expression) and _may_be_negative(extent, sizes)
    }
    return list(facts)


def _may_be_negative(extent: syntax.Expression, sizes: set[str]) -> bool:
    return any(
        (isinstance(node, syntax.Operation) and node.operator == "-")
        or (isinstance(node, syntax.Name) and node.text not in sizes)
        or (isinstance(node, syntax.Literal) and node.value < 0)
        for node in syntax.walk(extent)
    )


def _bytes(instruction: GlobalAllocate) -> Any:
    """The bytes of a row-major tensor, whose rows begin at whole bytes, up to the next tensor."""
    *outer, last = instruction.shape or (1,)
    bits = instruction.dtype.bits
    row = _multiply(last, bits // 8) if bits % 8 == 0 else _ceil_div(_multiply(last, bits), 8)
    whole = _multiply(_product(outer), row)
    return _multiply(_ceil_div(whole, ALIGNMENT), ALIGNMENT)


def _product(extents: Iterable[Any]) -> Any:
    total: Any = 1
    for extent in extents:
        total = _multiply(total, extent)
    return total


def _add(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    return y if x == 0 else syntax.Operation("+", (_node(x), _node(y)))


def _multiply(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    if x == 1 or y == 1:
        return y if x == 1 else x
    return 0 if x == 0 else syntax.Operation("*", (_node(x), _node(y)))


def _ceil_div(x: Any, divisor: int) -> Any:
    if isinstance(x, int):
        return -(-x // divisor)
    return syntax.Call("ceil_div", (_node(x), syntax.Literal(divisor)))


def _node(extent: Any) -> syntax.Expression:
    return syntax.Literal(extent) if isinstance(extent, int) else extent
