"""Values taken from a table: codebooks whose entries the program, or its caller, gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.instruction import Instruction, Operand, describe, layout_of
from vm.isa.layout_constraints import SAME, Given, LayoutConstraint
from vm.isa.memory import require_constant_extents
from vm.isa.types import RegisterType, Tile, Type
from vm.layouts import local, replicated

MAXIMUM_ENTRIES = 256


class Lookup(Instruction, opcode="lookup"):
    """The entry of `table` that each code names: result[i, ..] is table[codes[i, ..]].

    Codes are unsigned integers; the table is a vector of 2 to 256 entries of any dtype, in
    registers or in memory, where it is read as a whole. A code past its end is a fault.
    """

    # An entry's own absolute value bounds what rounding made of it: codes have no magnitude.
    magnitude = None
    codes = Operand("register")
    table = Operand("register", "shared", "global")

    def check(self) -> Type:
        type_ = self.codes.type
        if type_.dtype.kind != "unsigned":
            raise self.refuse(
                "E0205", "codes are unsigned integers", "codes", f"this is {type_}",
                fix=f"cast them, cast(x, u8), or see them as codes: view(x, u{type_.dtype.bits}, "
                "layout=...)",
            )  # fmt: skip
        if isinstance(self.table, Tile):
            require_constant_extents(self, "table")
            shape, entry = self.table.shape, self.table.dtype
        else:
            shape, entry = self.table.type.shape, self.table.type.dtype
        if len(shape) != 1 or not 2 <= shape[0] <= MAXIMUM_ENTRIES:
            raise self.refuse(
                "E0302", f"a table is a vector of 2 to {MAXIMUM_ENTRIES} entries", "table",
                f"this is {describe(self.table)}",
                fix="take a part of it: T[0 +: 16]; larger tables are read with gather",
            )  # fmt: skip
        self.entries = shape[0]
        return RegisterType(entry, type_.shape, layout_of(self.codes))

    def constrain(self) -> LayoutConstraint:
        """Codes stay where they are; every thread has all of a table in registers."""
        operands = {"codes": SAME}
        if not isinstance(self.table, Tile):
            operands["table"] = Given(replicated(self.scope.threads) * local(self.entries))
        return LayoutConstraint(self.codes.type.shape, operands)

    def run(self, machine: Any) -> np.ndarray:
        codes = machine.value(self.codes)
        if isinstance(self.table, Tile):
            table = machine.read(self.table, self, "table", False)
        else:
            table = machine.value(self.table)
        wrong = codes >= len(table)
        if wrong.any():
            at = np.unravel_index(int(np.argmax(wrong)), codes.shape)
            raise machine.trap(
                "E0508", f"code {int(codes[at])} at {[int(i) for i in at]} names no entry of a "
                f"table of {len(table)}", self, "codes", "these codes",
                fix=f"keep every code from 0 to {len(table) - 1}, or give a longer table",
            )  # fmt: skip
        return table[codes]
