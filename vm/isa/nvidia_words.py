"""Machine instructions of NVIDIA GPUs on 32-bit words: logic, bytes and shifts.

Each works word by word on u32 tensors that the same threads hold in the same slots, most often
files (see lanes.py); a constant or a scalar stands for that word everywhere. Source: PTX ISA 9.0,
sections on lop3, shf, shl, shr, prmt and ld. Those on pairs of numbers are in nvidia_halves.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from vm.isa.dtypes import DType
from vm.isa.instruction import Attribute, Instruction, Operand, describe
from vm.isa.lanes import WORD, from_words, require_layout, to_words
from vm.isa.types import RegisterType, Type


class WordInstruction(Instruction):
    """What they share. `compute` is the meaning: of the operands, arrays of one shape, and the
    attributes in their order."""

    takes: ClassVar[DType] = WORD
    compute: ClassVar[Callable[..., np.ndarray]]

    def check(self) -> Type:
        held: RegisterType | None = None
        for name in self.operand_names():
            self.give_dtype(name, self.takes)
            operand = getattr(self, name)
            if self.dtype_of(operand) != self.takes:
                raise self.refuse(
                    "E0205", f"`{self.opcode}` takes {self.takes.name}", name,
                    f"this is {describe(operand)}", fix=f"view it as {self.takes.name}",
                )  # fmt: skip
            if not isinstance(operand.type, RegisterType):
                continue
            layout = require_layout(self, name)
            if held is not None and layout != held.layout:
                raise self.refuse(
                    "E0304", f"`{self.opcode}` works slot by slot, and these are held differently",
                    name, f"{layout}", notes=(f"the operands before have {held.layout}",),
                    fix="give all operands one layout",
                )  # fmt: skip
            held = operand.type
        if held is None:
            raise self.refuse(
                "E0203", f"`{self.opcode}` works on what threads hold", None, "only scalars here",
                fix="spread one of them: spread(x)",
            )  # fmt: skip
        return RegisterType(WORD, held.shape, held.layout)

    def operand_names(self) -> list[str]:
        return [name for name, item in self.fields.items() if isinstance(item, Operand)]

    def run(self, machine: Any) -> np.ndarray:
        held = [np.asarray(machine.value(o), self.takes.array) for o in self.operands()]
        attributes = (getattr(self, name) for name, item in self.fields.items()
                      if isinstance(item, Attribute))  # fmt: skip
        return type(self).compute(*np.broadcast_arrays(*held), *attributes)

    def refuse_amount(self) -> None:
        """Refuses a shift by `bits` of a word or more."""
        if not 0 <= self.bits < WORD.bits:
            raise self.refuse("E0209", f"a shift of a word by {self.bits} bits", "bits", "here",
                              fix=f"from 0 to {WORD.bits - 1}")  # fmt: skip


class Logic(WordInstruction, opcode="nv.lop3"):
    """Any function of three bits, bit by bit (lop3): bit 4 a + 2 b + c of `table` is what bits a of
    x, b of y and c of z give. So 0xC0 is x & y, 0xEA is (x & y) | z, 0x6A is (x & y) ^ z."""

    x = Operand("register", "scalar", hexadecimal=True)
    y = Operand("register", "scalar", hexadecimal=True)
    z = Operand("register", "scalar", hexadecimal=True)
    table = Attribute("integer", hexadecimal=True)

    def check(self) -> Type:
        if not 0 <= self.table < 256:
            raise self.refuse("E0209", f"{self.table} is no table of 8 bits", "table", "here",
                              fix="from 0 to 255")  # fmt: skip
        return super().check()

    @staticmethod
    def compute(x: np.ndarray, y: np.ndarray, z: np.ndarray, table: int) -> np.ndarray:
        result = np.zeros_like(x)
        for case in (case for case in range(8) if table >> case & 1):
            result |= (
                (x if case & 4 else ~x) & (y if case & 2 else ~y) & (z if case & 1 else ~z)
            )
        return result


class Permute(WordInstruction, opcode="nv.prmt"):
    """Any four bytes of two words (prmt). The 8 bytes of x and y are numbered from the lowest of x
    up; byte i is the one that the lowest 3 bits of hexadecimal digit i of `selector` name, or where
    bit 3 of the digit is set, that one's highest bit in all places. Digits 4 to 7 are unused."""

    x = Operand("register", "scalar", hexadecimal=True)
    y = Operand("register", "scalar", hexadecimal=True)
    selector = Operand("register", "scalar", hexadecimal=True)

    @staticmethod
    def compute(x: np.ndarray, y: np.ndarray, selector: np.ndarray) -> np.ndarray:
        both = y.astype(np.uint64) << np.uint64(32) | x
        result = np.zeros_like(x)
        for place in range(4):
            digit = selector >> np.uint32(4 * place) & np.uint32(15)
            named = np.uint64(8) * (digit & np.uint32(7))
            byte = (both >> named).astype(np.uint32) & np.uint32(255)
            signs = np.where(byte >= 128, np.uint32(255), np.uint32(0))
            result |= np.where(digit >= 8, signs, byte) << np.uint32(8 * place)
        return result


class ShiftLeft(WordInstruction, opcode="nv.shift_left"):
    """x moved up by `bits`, 0 to 31, with zeros below (shl)."""

    x = Operand("register", "scalar", hexadecimal=True)
    bits = Attribute("integer")

    def check(self) -> Type:
        self.refuse_amount()
        return super().check()

    @staticmethod
    def compute(x: np.ndarray, bits: int) -> np.ndarray:
        return x << np.uint32(bits)


class ShiftRight(WordInstruction, opcode="nv.shift_right"):
    """x moved down by `bits`, 0 to 31 (shr); above come zeros, with `signed` copies of bit 31."""

    x = Operand("register", "scalar", hexadecimal=True)
    bits = Attribute("integer")
    signed = Attribute("boolean", False)

    def check(self) -> Type:
        self.refuse_amount()
        return super().check()

    @staticmethod
    def compute(x: np.ndarray, bits: int, signed: bool) -> np.ndarray:
        return (x.astype(np.int32) >> bits).astype(np.uint32) if signed else x >> np.uint32(bits)


class FunnelShift(WordInstruction, opcode="nv.funnel_shift"):
    """32 of the 64 bits of low and, above it, high: those from bit `bits` on, 0 to 31 (shf.r)."""

    low = Operand("register", "scalar", hexadecimal=True)
    high = Operand("register", "scalar", hexadecimal=True)
    bits = Attribute("integer")

    def check(self) -> Type:
        self.refuse_amount()
        return super().check()

    @staticmethod
    def compute(low: np.ndarray, high: np.ndarray, bits: int) -> np.ndarray:
        both = high.astype(np.uint64) << np.uint64(32) | low
        return (both >> np.uint64(bits)).astype(np.uint32)


LANES = 32
ENTRY_BYTES = 4 * LANES
"""From one entry of a table to the next: a word for each lane."""
MOST_BYTES = 1 << 20
"""More than any device has of shared memory."""


class LookUp(WordInstruction, opcode="nv.look_up"):
    """An entry of a table in shared memory for each word (ld.shared.u32), of which each lane of a
    warp has a copy in a bank of its own, so that lanes may look up what they like at once.

    Entry e of a lane is the word at byte `address` + 128 * e + 4 * lane. Which entry is in the bits
    of x from 7 up, as many as count `entries`, a power of two; the other bits are anything.
    `address` is a multiple of 128."""

    pure = False

    x = Operand("register", hexadecimal=True)
    address = Attribute("integer")
    entries = Attribute("integer")

    def check(self) -> Type:
        if not 0 <= self.address <= MOST_BYTES or self.address % ENTRY_BYTES:
            raise self.refuse("E0209", f"a table from byte {self.address} on", "address", "here",
                              fix=f"a multiple of {ENTRY_BYTES}, at most {MOST_BYTES}")  # fmt: skip
        most = MOST_BYTES // ENTRY_BYTES
        if not 1 <= self.entries <= most or self.entries & self.entries - 1:
            raise self.refuse("E0209", f"a table of {self.entries} entries", "entries", "here",
                              fix=f"a power of two, at most {most}")  # fmt: skip
        return super().check()

    def run(self, machine: Any) -> np.ndarray:
        held = to_words(machine.value(self.x), self.x.type).astype(np.int64)
        lanes = np.arange(len(held)) % LANES
        active = np.ones(len(held), np.bool_)
        found = [
            machine.load_bytes(None, self.address + (bits & ENTRY_BYTES * (self.entries - 1))
                               + 4 * lanes, 4, active, self)
            for bits in held.T
        ]  # fmt: skip
        words = np.concatenate(found, axis=1).view(np.uint32)
        return from_words(words, self.x.type)
