"""Memory that a launch owns, one for all its blocks: scratch, and semaphores.

A semaphore is an i32 that is 0 when the grid begins and must be 0 when it ends. A group that waits
goes on when the semaphore has a value; whoever releases it gives it one, and all that he did before
is seen by those who go on. So blocks hand work on from one to the next: split-K adds partial sums
in the order of the blocks, whatever order they run in.

The names are those of CUTLASS (cutlass/semaphore.h: `wait`, `release`), whose serial split-K does
this.
"""

from __future__ import annotations

from typing import Any

from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.lanes import Predicated, require_per_thread
from vm.isa.mbarriers import require_index, require_one
from vm.isa.types import GlobalType, SemaphoreType, Type


class _LaunchAllocate(Instruction):
    """What declarations of such memory share. `offset` is where it begins in what the runtime gives
    the launch, in bytes, once the compiler has planned it."""

    pure = False
    offset = Operand("scalar", optional=True)

    def check_extents(self) -> None:
        for extent in self.shape:
            if isinstance(extent, int) and extent < 1:
                raise self.refuse(
                    "E0303", f"memory with an extent of {extent}", "shape", "here",
                    fix="give extents of at least 1, such as [4] or [ceil_div(M, 64)]",
                )  # fmt: skip


class GlobalAllocate(_LaunchAllocate, opcode="global_alloc"):
    """A tensor in global memory that belongs to the launch, one for all its blocks.

    Its contents are undefined until written, and lost when the grid has ended. Extents are whole
    numbers, and integers that follow from sizes, scalar parameters and the grid by arithmetic. It
    stands in the program's own block of statements.
    """

    dtype = Attribute("dtype")
    shape = Attribute("extents")

    def check(self) -> Type:
        self.check_extents()
        return GlobalType(self.dtype, self.shape, "launch")

    def run(self, machine: Any) -> Any:
        return machine.launch_memory(self)


class SemaphoreAllocate(_LaunchAllocate, opcode="semaphore_alloc"):
    """An array of semaphores that belongs to the launch, one for all its blocks.

    Each is 0 when the grid begins and must be 0 again when it ends. Extents are whole numbers, and
    integers that follow from sizes, scalar parameters and the grid by arithmetic. It stands in the
    program's own block of statements.
    """

    shape = Attribute("extents")

    def check(self) -> Type:
        self.check_extents()
        return SemaphoreType(self.shape)

    def run(self, machine: Any) -> Any:
        return machine.launch_memory(self)


class _SemaphoreAccess(Instruction):
    """What both accesses of a semaphore share."""

    pure = False
    semaphore = Operand("semaphore")
    value = Operand("scalar")

    def check(self) -> None:
        require_one(self, "semaphore")
        require_index(self, "value")


class SemaphoreWait(_SemaphoreAccess, opcode="semaphore_wait"):
    """Waits until a semaphore has a value.

    What the group that released it with this value did before, and what came before that, is then
    seen by all threads of this group, without a `synchronize()`. A block may wait for what blocks
    before it release, not for those behind it.
    """

    def run(self, machine: Any):
        yield from machine.semaphores.wait(self)


class SemaphoreRelease(_SemaphoreAccess, opcode="semaphore_release"):
    """Gives a semaphore a value, once for this group, when all its threads have come here.

    What this group did before is seen by everyone who waits for the value. It comes behind the
    release before it and behind the waits for the value that was there.
    """

    def run(self, machine: Any) -> None:
        machine.semaphores.release(self)


class _Signalling(Predicated):
    """What the machine's accesses of a semaphore share: `offset` is in bytes from the beginning of
    the array."""

    base = Operand("semaphore")
    offset = Operand("register")
    value = Operand("register")

    def check(self) -> None:
        require_per_thread(self, "offset", ("i64",))
        require_per_thread(self, "value", ("i32",))
        self.check_predicate()


class WaitFor(_Signalling):
    """A wait for a word in global memory to be a value (acquire)."""

    def run(self, machine: Any):
        yield from machine.semaphores.wait_for(self)


class Signal(_Signalling):
    """A store of a word in global memory, behind what the thread has seen (release)."""

    def run(self, machine: Any) -> None:
        machine.semaphores.signal(self)
