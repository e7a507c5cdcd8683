"""Mbarriers that would be made more than once."""

from __future__ import annotations

from collections.abc import Iterator

from vm.errors import Diagnostic, Label
from vm.isa import control
from vm.isa.kernel import Kernel
from vm.isa.mbarriers import MbarrierAllocate


def check_mbarriers(kernel: Kernel) -> Iterator[Diagnostic]:
    """E0408: mbarriers are made once, by all threads of the block."""
    for outer in kernel.body:
        for block in outer.blocks():
            for instruction in control.walk(block):
                if isinstance(instruction, MbarrierAllocate):
                    yield Diagnostic(
                        "E0408",
                        "mbarriers are made once, by all threads of the block",
                        (Label(instruction.origin, "may run more than once, or not by all"),
                         Label(outer.origin, "inside this")),
                        (), "move it before this statement, out of all groups, branches and loops",
                    )  # fmt: skip
