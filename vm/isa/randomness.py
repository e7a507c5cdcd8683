"""Random bits in programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.dtypes import dtype
from vm.isa.instruction import Instruction, Operand, describe, layout_of
from vm.isa.layout_constraints import SAME, LayoutConstraint
from vm.isa.philox import words_at
from vm.isa.types import RegisterType, ScalarType, Type

U32, U64 = dtype("u32"), dtype("u64")


class Philox(Instruction, opcode="philox"):
    """Random words of 32 bits: the word of a stream at each position.

    Philox4x32-10 (Salmon et al., 2011): word w of stream s of a seed is word w mod 4 of the block
    with key (seed low, seed high) and counter (b low, b high, s low, s high), b = w div 4. The same
    words come out on every executor, in any order, from any thread. Seed, counter and stream are
    integers of any dtype, taken modulo 2^64.
    """

    seed = Operand("scalar")
    counter = Operand("register", "scalar")
    stream = Operand("scalar", optional=True)

    def check(self) -> Type:
        for field in ("seed", "counter", "stream"):
            operand = getattr(self, field)
            if operand is None:
                continue
            self.give_dtype(field, U64)
            operand = getattr(self, field)
            if not self.dtype_of(operand).is_integer:
                raise self.refuse(
                    "E0205", f"the {field} is an integer", field, f"this is {describe(operand)}",
                    fix="cast it: cast(x, u32)",
                )  # fmt: skip
        if isinstance(self.counter.type, ScalarType):
            return ScalarType(U32)
        return RegisterType(U32, self.counter.type.shape, layout_of(self.counter))

    def constrain(self) -> LayoutConstraint | None:
        """Each word is where its position is."""
        if not isinstance(self.counter.type, RegisterType):
            return None
        return LayoutConstraint(self.counter.type.shape, {"counter": SAME})

    def run(self, machine: Any) -> Any:
        positions = machine.value(self.counter)
        stream = 0 if self.stream is None else machine.value(self.stream)
        if not isinstance(positions, np.ndarray):
            modulo = np.array([positions % 2**64], np.uint64)
            return int(words_at(machine.value(self.seed), modulo, stream)[0])
        return words_at(machine.value(self.seed), positions.astype(np.uint64), stream)
