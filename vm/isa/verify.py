"""What a kernel as a whole may not do, known before it runs.

`check` of an instruction sees its own operands; the checks here see what comes before and beside.
Each refuses only what is wrong on every way through the program. All faults found are reported
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vm.errors import Diagnostic, Label, VmError
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.types import MbarrierType, SharedType
from vm.isa.verify_barriers import check_barriers
from vm.isa.verify_copies import check_copies
from vm.isa.verify_made_once import check_made_once

# The shared memory that one block can have on Hopper and Blackwell (228 KiB, 1 KiB of it reserved):
# CUDA C++ Programming Guide, table of technical specifications.
SHARED_LIMIT = 232_448

Check = Callable[[Kernel], Iterator[Diagnostic]]


def verify(kernel: Kernel, *, shared_limit: int = SHARED_LIMIT) -> None:
    """Raises a `VmError` with a diagnostic for every fault found in the kernel.

    `shared_limit` is the bytes of shared memory that the tensors alive at once may have.
    """
    checks: tuple[Check, ...] = (check_copies, check_barriers, check_made_once, check_returns)
    found = [*check_shared_memory(kernel, shared_limit)]
    found += [diagnostic for check in checks for diagnostic in check(kernel)]
    if found:
        raise VmError(*found)


def check_shared_memory(kernel: Kernel, limit: int) -> Iterator[Diagnostic]:
    """E0405: a tensor is alive from its allocation to the end of the block it stands in."""
    alive: list[Instruction] = []

    def visit(statements: list[Instruction]) -> tuple[int, list[Instruction]]:
        """The most bytes alive at once in these statements, and the tensors that are."""
        before = len(alive)
        worst = (_bytes(alive), list(alive))
        beside: tuple[int, list[Instruction]] = (0, [])  # in the groups that run side by side
        for instruction in statements:
            if any(isinstance(r.type, (SharedType, MbarrierType)) for r in instruction.results):
                alive.append(instruction)
                worst = max(worst, (_bytes(alive), list(alive)), key=lambda peak: peak[0])
            base = _bytes(alive)
            grouped = isinstance(instruction, control.Group)
            if not grouped:
                beside = (0, [])
            for block in instruction.blocks():
                total, tensors = visit(block)
                if grouped:
                    own = [tensor for tensor in tensors if tensor not in alive]
                    beside = (beside[0] + total - base, [*beside[1], *own])
                    total, tensors = base + beside[0], [*alive, *beside[1]]
                worst = max(worst, (total, tensors), key=lambda peak: peak[0])
        del alive[before:]
        return worst

    total, tensors = visit(kernel.body)
    if total > limit:
        *others, last = tensors
        yield Diagnostic(
            "E0405",
            f"{total} bytes of shared memory are alive at once, {limit} are available",
            (
                Label(last.origin, f"{_bytes([last])} bytes"),
                *(Label(other.origin, f"{_bytes([other])} bytes") for other in others),
            ),
            ("a tensor is alive until the end of the block of statements it is allocated in",),
            "use smaller tiles or fewer stages, or allocate in an inner block",
        )


def _bytes(allocations: list[Instruction]) -> int:
    return sum(result.type.bytes for each in allocations for result in each.results)


def check_returns(kernel: Kernel) -> Iterator[Diagnostic]:
    """E0211: a reference ends in its result, on every way; a program has none."""
    if kernel.kind == "reference" and not _returns(kernel.body):
        last = kernel.body[-1].origin if kernel.body else kernel.origin
        yield Diagnostic(
            "E0211", f"the reference `{kernel.name}` may end without a result",
            (Label(last, "the last statement"),), (), "end it with `return value`",
        )  # fmt: skip
    for instruction in control.walk(kernel.body):
        if isinstance(instruction, control.Return) and kernel.kind == "program":
            yield Diagnostic(
                "E0211", "a program has no result", (Label(instruction.origin, "returned here"),),
                (), "store it in a parameter that is marked out",
            )  # fmt: skip


def _returns(statements: list[Instruction]) -> bool:
    return any(
        isinstance(instruction, control.Return)
        or (isinstance(instruction, control.If) and all(map(_returns, instruction.blocks())))
        for instruction in statements
    )
