"""Machine instructions of NVIDIA GPUs on several packed elements of a word at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.conversion import convert
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.lanes import require_layout
from vm.isa.registers import given_layout
from vm.isa.types import RegisterType, Type


class Dequantize(Instruction, opcode="nv.dequantize"):
    """Slot k of the result is slot `slots[k]` of x, cast as `cast` does, less `offset`.

    Numbers of few bits become floats by logic on words that hold several of them; in which order
    costs least is that of the words, so that a packing may choose it. `layout` says what the slots
    of the result stand for. An offset other than 0 is for integers, and the differences must be
    exact.
    """

    x = Operand("register")
    dtype = Attribute("dtype")
    slots = Attribute("shape")
    layout = Attribute("layout")
    offset = Attribute("integer", 0)

    def check(self) -> Type:
        source = require_layout(self, "x")
        kind = self.x.type.dtype
        if kind.bits > 8 or kind.kind == "bool" or not self.dtype.is_float:
            raise self.refuse(
                "E0205", f"from {kind.name} to {self.dtype.name}", "x", "here",
                fix="from at most 8 bits to a float",
            )  # fmt: skip
        if kind.is_integer:
            largest = max(abs(kind.min - self.offset), abs(kind.max - self.offset))
            exact = largest <= 2 ** (self.dtype.mantissa_bits + 1)
        else:
            exact = self.offset == 0
        if not exact:
            raise self.refuse(
                "E0205", f"{kind.name} less {self.offset} is not exact in {self.dtype.name}", "x",
                "here", fix="integers of at most 8 bits, and a small offset",
            )  # fmt: skip
        layout = given_layout(self, self.layout.shape)
        fits = len(self.slots) == layout.slots and source.threads == layout.threads
        if not fits or any(not 0 <= slot < source.slots for slot in self.slots):
            raise self.refuse("E0304", f"{len(self.slots)} slots for {layout}", "slots", "here",
                              fix="one slot of x for each slot of the result")  # fmt: skip
        return RegisterType(self.dtype, layout.shape, layout)

    def run(self, machine: Any) -> np.ndarray:
        kind = self.x.type.dtype
        held = machine.value(self.x).reshape(-1)[self.x.type.layout.flat()][:, list(self.slots)]
        floats = convert(held, kind, self.dtype)
        result = np.zeros(self.layout.size, self.dtype.array)
        if self.offset:
            floats = floats - self.dtype.array.type(self.offset)
        result[self.layout.flat().reshape(-1)] = floats.reshape(-1)
        return result.reshape(self.layout.shape)
