"""Machine instructions of NVIDIA GPUs on several packed elements of a word at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.conversion import convert
from vm.isa.dtypes import DType, dtype
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.lanes import file_layout, require_layout
from vm.isa.registers import given_layout
from vm.isa.types import RegisterType, Type


class Dequantize(Instruction, opcode="nv.dequantize"):
    """Slot k of the result is slot `slots[k]` of x, cast as `cast` does, less `offset`.

    Numbers of few bits become floats, or integers of 8 bits, by logic on words that hold several of
    them; in which order costs least is that of the words, so that a packing may choose it. `layout`
    says what the slots of the result stand for. Integers must be exact in the result, and so must
    their differences from the offset; an offset other than 0 is for them alone.
    """

    x = Operand("register")
    dtype = Attribute("dtype")
    slots = Attribute("shape")
    layout = Attribute("layout")
    offset = Attribute("integer", 0)

    def check(self) -> Type:
        source = require_layout(self, "x")
        kind = self.x.type.dtype
        fits = self.dtype.is_float or (kind.is_integer and self.dtype.bits == 8)
        if kind.bits > 8 or kind.kind == "bool" or not fits:
            raise self.refuse(
                "E0205", f"from {kind.name} to {self.dtype.name}", "x", "here",
                fix="from at most 8 bits to a float, or from integers to i8 or u8",
            )  # fmt: skip
        if kind.is_integer:
            numbers = (kind.min, kind.max, kind.min - self.offset, kind.max - self.offset)
            low, high = _exact_integers(self.dtype)
            exact = low <= min(numbers) and max(numbers) <= high
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


def _exact_integers(target: DType) -> tuple[int, int]:
    """From where to where a dtype has every integer."""
    if target.is_integer:
        return target.min, target.max
    largest = 2 ** (target.mantissa_bits + 1)
    return -largest, largest


F16 = dtype("f16")
# A number in the lowest bit of an f16 is 2**-FIELD_UNITS; below FIELD_TOP bits have no gaps.
FIELD_UNITS = F16.bias - 1 + F16.mantissa_bits
FIELD_TOP = F16.mantissa_bits + 1


class Fields(Instruction, opcode="nv.fields"):
    """Slots 2 k and 2 k + 1 of the result, a file of f16, are slots `slots[2 k]` and
    `slots[2 k + 1]` of x, times 2**(`at[k]` - 24).

    An unsigned integer of few bits that lies at bit p of a half, all other bits 0, is as f16
    exactly so much, if no bit of it is above bit 10. Logic on words does it: nothing is added.
    """

    x = Operand("register")
    slots = Attribute("shape")
    at = Attribute("shape")

    def check(self) -> Type:
        source = require_layout(self, "x")
        kind = self.x.type.dtype
        if kind.kind != "unsigned" or kind.bits > 8:
            raise self.refuse("E0205", f"{kind.name} is no field of a half", "x", "here",
                              fix="unsigned integers of at most 8 bits")  # fmt: skip
        fits = len(self.slots) == 2 * len(self.at)
        if not fits or any(not 0 <= slot < source.slots for slot in self.slots):
            raise self.refuse("E0304", f"{len(self.slots)} slots, {len(self.at)} places for pairs",
                              "slots", "here", fix="slots of x, and a place for two")  # fmt: skip
        if any(not 0 <= place <= FIELD_TOP - kind.bits for place in self.at):
            raise self.refuse(
                "E0305", f"{kind.name} at {max(self.at)}", "at", "here",
                fix=f"bits from 0 on that end below {FIELD_TOP}",
            )  # fmt: skip
        layout = file_layout(source.threads, len(self.slots))
        return RegisterType(F16, layout.shape, layout)

    def run(self, machine: Any) -> np.ndarray:
        held = machine.value(self.x).reshape(-1)[self.x.type.layout.flat()][:, list(self.slots)]
        units = np.repeat(np.asarray(self.at), 2) - FIELD_UNITS
        return np.ldexp(held.astype(np.float64), units).astype(np.float16).reshape(-1)
