"""Casts of several packed elements of a word at once, as the rules for NVIDIA GPUs write them.

They are machine instructions that no hardware has: the last pass writes them as those on words that
they are made of (vm/compiler/words.py). Until then they can be changed and merged as a whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.conversion import convert
from vm.isa.dtypes import DType, dtype
from vm.isa.elementwise import ARITHMETIC
from vm.isa.instruction import Attribute, Instruction, Operand
from vm.isa.lanes import file_layout, require_layout
from vm.isa.registers import given_layout
from vm.isa.types import RegisterType, Type


def check_bits(i: Dequantize | Fields) -> DType:
    """The dtype of the numbers that an instruction reads; raises E0205 where bits do not hold
    them."""
    if i.source is None:
        return i.x.type.dtype
    held = i.x.type.layout.slots
    count = len(i.bits) or held
    fits = (
        i.x.type.dtype.name == "u1"
        and sorted(i.bits or range(count)) == list(range(count))
        and count % i.source.bits == held % count == 0
    )
    if not fits:
        raise i.refuse(
            "E0205", f"{held} slots of {i.x.type.dtype.name} in an order of {count} bits are no "
            f"numbers of {i.source.name}", "bits", "here",
            fix="slots of u1, and for each bit of some numbers, which divide them, its slot",
        )  # fmt: skip
    return i.source


def slots_held(i: Dequantize | Fields) -> int:
    """How many numbers each thread holds in x."""
    held = i.x.type.layout.slots
    return held if i.source is None else held // i.source.bits


def numbers_held(i: Dequantize | Fields, machine: Any) -> np.ndarray:
    """The numbers in the slots that an instruction names, for each thread."""
    held = machine.value(i.x).reshape(-1)[i.x.type.layout.flat()]
    if i.source is not None:
        order = list(i.bits or range(held.shape[1]))
        blocks = held.reshape(len(held), -1, len(order))[:, :, order]
        bits = blocks.reshape(len(held), -1, i.source.bits).astype(i.source.storage)
        held = i.source.decode((bits << np.arange(i.source.bits, dtype=bits.dtype)).sum(
            axis=2, dtype=bits.dtype))  # fmt: skip
    return held[:, list(i.slots)]


class Dequantize(Instruction, opcode="nv.dequantize"):
    """Slot k of the result is slot `slots[k]` of x, cast as `cast` does, less `offset`.

    Numbers of few bits become floats, or integers of 8 bits, by logic on words that hold several of
    them; in which order costs least is that of the words, so that a packing may choose it. `layout`
    says what the slots of the result stand for. Integers must be exact in the result, and so must
    their differences from the offset; an offset other than 0 is for them alone.

    Where `source` is given, x holds bits of numbers of that dtype, and slots are those of the
    numbers: bit b of them all, counted from number to number, is bit `bits[b]` of x, and so on with
    as many bits more; bit b itself where `bits` is empty.
    """

    x = Operand("register")
    dtype = Attribute("dtype")
    slots = Attribute("shape")
    layout = Attribute("layout")
    offset = Attribute("integer", 0)
    source = Attribute("dtype", None)
    bits = Attribute("shape", ())

    def check(self) -> Type:
        require_layout(self, "x")
        kind = check_bits(self)
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
            exact = exact and (self.offset == 0 or self.dtype.name in ARITHMETIC)
        else:
            exact = self.offset == 0
        if not exact:
            raise self.refuse(
                "E0205", f"{kind.name} less {self.offset} is not exact in {self.dtype.name}", "x",
                "here", fix="integers of at most 8 bits, and a small offset",
            )  # fmt: skip
        layout = given_layout(self, self.layout.shape)
        held = slots_held(self)
        fits = len(self.slots) == layout.slots and self.x.type.layout.threads == layout.threads
        if not fits or any(not 0 <= slot < held for slot in self.slots):
            raise self.refuse("E0304", f"{len(self.slots)} slots for {layout}", "slots", "here",
                              fix="one slot of x for each slot of the result")  # fmt: skip
        return RegisterType(self.dtype, layout.shape, layout)

    def run(self, machine: Any) -> np.ndarray:
        kind = self.source or self.x.type.dtype
        floats = convert(numbers_held(self, machine), kind, self.dtype)
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
    `slots[2 k + 1]` of x, times a power of two: 2**(`at[k]` - 24) for integers.

    An unsigned integer of few bits that lies at bit p of a half, all other bits 0, is as f16
    exactly so much, if no bit of it is above bit 10. Logic on words does it: nothing is added.

    A float of fewer exponent and mantissa bits than f16, without infinities, is 2**(its bias - 15)
    times itself where its sign, exponent and mantissa lie at those of f16: `at` is empty.

    Where `source` is given, x holds bits of numbers of that dtype, as in `nv.dequantize`.
    """

    x = Operand("register")
    slots = Attribute("shape")
    at = Attribute("shape", ())
    source = Attribute("dtype", None)
    bits = Attribute("shape", ())

    def check(self) -> Type:
        layout = require_layout(self, "x")
        kind = check_bits(self)
        if not fits_a_half(kind):
            raise self.refuse(
                "E0205", f"{kind.name} is no field of a half", "x", "here",
                fix="unsigned integers of at most 8 bits, or smaller floats without infinities",
            )  # fmt: skip
        held, places = slots_held(self), len(self.slots) // 2 if kind.is_integer else 0
        fits = len(self.slots) % 2 == 0 and len(self.at) == places
        if not fits or any(not 0 <= slot < held for slot in self.slots):
            raise self.refuse(
                "E0304", f"{len(self.slots)} slots, {len(self.at)} places for pairs", "slots",
                "here", fix="slots of x, and for integers a place for two",
            )  # fmt: skip
        if any(not 0 <= place <= FIELD_TOP - kind.bits for place in self.at):
            raise self.refuse(
                "E0305", f"{kind.name} at {max(self.at)}", "at", "here",
                fix=f"bits from 0 on that end below {FIELD_TOP}",
            )  # fmt: skip
        layout = file_layout(layout.threads, len(self.slots))
        return RegisterType(F16, layout.shape, layout)

    def run(self, machine: Any) -> np.ndarray:
        kind = self.source or self.x.type.dtype
        units = np.repeat(np.asarray(self.at, np.int64), 2) - FIELD_UNITS
        if not kind.is_integer:
            units = kind.bias - F16.bias
        numbers = numbers_held(self, machine).astype(np.float64)
        return np.ldexp(numbers, units).astype(np.float16).reshape(-1)


def fits_a_half(kind: DType) -> bool:
    """Whether a half holds numbers of this dtype as they are, times a power of two."""
    if kind.kind == "unsigned":
        return kind.bits <= 8
    smaller = kind.exponent_bits < F16.exponent_bits and kind.mantissa_bits <= F16.mantissa_bits
    return kind.kind == "float" and kind.bits <= 8 and not kind.has_infinity and smaller
