"""Memory that is made once, in a place where it would be made more than once."""

from __future__ import annotations

from collections.abc import Iterator

from vm.errors import Diagnostic, Label
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.launch_memory import GlobalAllocate, SemaphoreAllocate
from vm.isa.mbarriers import MbarrierAllocate

MADE_ONCE = {
    MbarrierAllocate: "mbarriers are made once, by all threads of the block",
    GlobalAllocate: "memory of the launch is made once, for all its blocks",
    SemaphoreAllocate: "semaphores are made once, for all blocks of the launch",
}


def check_made_once(kernel: Kernel) -> Iterator[Diagnostic]:
    """E0408: what is made once stands in the program's own block of statements."""
    for outer in kernel.body:
        for block in outer.blocks():
            for instruction in control.walk(block):
                if type(instruction) in MADE_ONCE:
                    yield Diagnostic(
                        "E0408",
                        MADE_ONCE[type(instruction)],
                        (Label(instruction.origin, "may run more than once, or not by all"),
                         Label(outer.origin, "inside this")),
                        (), "move it before this statement, out of all groups, branches and loops",
                    )  # fmt: skip
