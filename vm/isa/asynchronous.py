"""Copies that run beside the program until they are waited for."""

from __future__ import annotations

from typing import Any

from vm.isa.instruction import Attribute, Instruction, Operand, describe
from vm.isa.memory import require_constant_extents


class CopyAsync(Instruction, opcode="copy_async"):
    """Starts to copy a tile of global memory to a tile of shared memory.

    Until a `wait_async` of this group covers it, the target may not be touched and the source not
    be written. Elements outside the source arrive as 0.
    """

    pure = False
    target = Operand("shared")
    source = Operand("global")
    inside = Attribute("boolean", False)

    def check(self) -> None:
        require_constant_extents(self, "target")
        require_constant_extents(self, "source")
        if self.target.dtype != self.source.dtype or self.target.shape != self.source.shape:
            raise self.refuse(
                "E0302", "the two sides of a copy have one dtype and one shape", "source",
                f"{self.source.dtype.name}{list(self.source.shape)}",
                others=((self.place("target"),
                         f"{self.target.dtype.name}{list(self.target.shape)}"),),
                fix="make both equal",
            )  # fmt: skip
        bits = self.target.dtype.bits
        for extent in self.target.shape:
            bits *= extent
        if bits % 8:
            raise self.refuse(
                "E0303", f"a copy of {bits} bits", None, f"this is {describe(self.target)}",
                fix="copy a whole number of bytes",
            )  # fmt: skip

    def run(self, machine: Any) -> None:
        machine.copy_async(self.target, self.source, self)


class CommitAsync(Instruction, opcode="commit_async"):
    """Closes a commit group: the copies this group of threads has started since the last one."""

    pure = False

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        machine.commit_async(self)


class WaitAsync(Instruction, opcode="wait_async"):
    """Waits until at most `pending` of this group's latest commit groups are unfinished.

    What has landed is then seen by this group's own threads; others see it after a barrier.
    """

    pure = False
    pending = Attribute("integer", 0)

    def check(self) -> None:
        if self.pending < 0:
            raise self.refuse(
                "E0209", f"{self.pending} commit groups", "pending", "negative",
                fix="0 waits for all of them",
            )  # fmt: skip

    def run(self, machine: Any) -> None:
        machine.wait_async(self.pending, self)
