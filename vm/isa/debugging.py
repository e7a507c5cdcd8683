"""Looking inside: print and assert."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.elementwise import BOOL
from vm.isa.instruction import Attribute, Instruction, Operand, describe
from vm.isa.layout_constraints import LayoutConstraint, used_as_it_is
from vm.isa.types import Immediate


class Print(Instruction, opcode="print"):
    """Shows a scalar or tensor, with the block it comes from."""

    pure = False
    x = Operand("register", "scalar")
    label = Attribute("string", "")

    def check(self) -> None:
        if isinstance(self.x, Immediate) and self.x.dtype is None:
            self.give_dtype("x", _dtype_of_constant(self.x.value))

    def constrain(self) -> LayoutConstraint | None:
        """Any layout will do."""
        return used_as_it_is("x", self.x)

    def run(self, machine: Any) -> None:
        value = machine.value(self.x)
        shown = np.array2string(value, threshold=64, precision=6) if isinstance(
            value, np.ndarray
        ) else str(value)  # fmt: skip
        label = f"{self.label}: " if self.label else ""
        machine.print(f"block {machine.block_index}: {label}{shown}")


class Assert(Instruction, opcode="assert"):
    """A fault where the condition does not hold (for a tensor: everywhere)."""

    pure = False
    condition = Operand("register", "scalar")
    message = Attribute("string", "")

    def check(self) -> None:
        self.give_dtype("condition", BOOL)
        if self.dtype_of(self.condition) != BOOL:
            raise self.refuse(
                "E0205", "a condition is bool", "condition", f"this is {describe(self.condition)}",
                fix="compare it: x != 0",
            )  # fmt: skip

    def constrain(self) -> LayoutConstraint | None:
        """Any layout will do."""
        return used_as_it_is("condition", self.condition)

    def run(self, machine: Any) -> None:
        value = np.asarray(machine.value(self.condition))
        if not value.all():
            where = ""
            if value.ndim:
                first = tuple(int(i) for i in np.argwhere(~value)[0])
                where = f" at {first}"
            message = self.message or "the asserted condition does not hold"
            raise machine.trap("E0505", message + where, self, "condition")


def _dtype_of_constant(value: Any):
    from vm.isa.dtypes import dtype

    return BOOL if isinstance(value, bool) else dtype("i32" if isinstance(value, int) else "f32")
