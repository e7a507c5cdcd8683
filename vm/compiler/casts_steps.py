"""Straight-line programs on 32-bit words: what a fast cast is made of.

A program begins with the words of the source as values 0, 1, ..; each step makes one more value
from earlier ones and constants, and stands for one machine instruction (vm/isa/nvidia_words.py),
whose meaning it has. Some values are results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vm.isa import nvidia_halves, nvidia_words
from vm.isa.dtypes import DType, dtype
from vm.isa.nvidia_words import WordInstruction

AND_OR = 0xEA  # (a & b) | c
AND_XOR = 0x6A  # (a & b) ^ c
AND = 0xC0  # a & b
OR = 0xFC  # a | b
XOR = 0x3C  # a ^ b
SELECT = 0xE4  # c ? a : b, bit by bit


@dataclass(frozen=True)
class Constant:
    """A word that is known: an operand of a step."""

    word: int


Operand = int | Constant


@dataclass(frozen=True)
class Step:
    """One instruction. `name` says which; `number` is what it needs besides operands.

    - `logic`: bits of three operands by the truth table `number` (bit 4a + 2b + c of it);
    - `shift`: right by `number`, left where that is negative; `arithmetic` keeps the sign;
    - `funnel`: 32 bits of the second operand above the first, from bit `number` on;
    - `permute`: byte i is the byte of (second : first operand) that digit i of the third names,
      and where the digit is 8 or more, its highest bit in all places;
    - `f16.add`, `f16.mul`, `f16.fma` and those of `bf16`: on pairs of floats, each rounded once;
      `f16.fms` takes the third operand away;
    - `look_up`: the entry of the table whose number is in the bits from ENTRY_BYTES up;
    - `f16.exceeds`: all ones in the halves where the magnitude is greater than the second operand.
    """

    name: str
    operands: tuple[Operand, ...]
    number: int = 0


@dataclass(frozen=True)
class Table:
    """Words to be looked up in shared memory: of each two codes of the source, the numbers of the
    target; the code of the lower half counts ones."""

    source: DType
    target: DType
    entries: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return nvidia_words.ENTRY_BYTES * len(self.entries)


@dataclass(frozen=True)
class Steps:
    """A program for `words` words; `results` are values, one for each pair of the target. `table`
    is what steps look up."""

    words: int
    steps: tuple[Step, ...]
    results: tuple[int, ...]
    table: Table | None = None

    @property
    def cost(self) -> int:
        """Machine instructions, constants not counted: a look-up is one of logic and a load."""
        return len(self.steps) + sum(step.name == "look_up" for step in self.steps)

    @property
    def expected(self) -> float:
        """Machine instructions, about: an instruction takes one constant at no cost; another has to
        be in a register, and every second time, as counted, it is copied there anew."""
        constants = [sum(isinstance(o, Constant) for o in step.operands) for step in self.steps]
        return self.cost + sum(count - 1 for count in constants if count > 1) / 2

    def run(self, words: np.ndarray) -> np.ndarray:
        """The results of each row of words: uint32[n, words] to uint32[n, results]."""
        values = [np.ascontiguousarray(words[:, i], np.uint32) for i in range(self.words)]
        for step in self.steps:
            operands = (
                np.full(len(words), o.word, np.uint32) if isinstance(o, Constant) else values[o]
                for o in step.operands
            )
            if step.name == "look_up":
                (word,) = operands
                entries = np.array(self.table.entries, np.uint32)
                values.append(entries[word // nvidia_words.ENTRY_BYTES % len(entries)])
                continue
            kind, attributes = instruction_of(step)
            values.append(kind.compute(*operands, *attributes))
        return np.stack([values[i] for i in self.results], axis=1)


@dataclass
class Writer:
    """Collects steps; the same step twice is one."""

    words: int
    steps: list[Step] = field(default_factory=list)
    known: dict[Step, int] = field(default_factory=dict)
    table: Table | None = None

    def __call__(self, name: str, *operands: Operand, number: int = 0) -> int:
        step = Step(name, operands, number)
        if step not in self.known:
            self.known[step] = self.words + len(self.steps)
            self.steps.append(step)
        return self.known[step]

    def done(self, results: Sequence[int]) -> Steps:
        return Steps(self.words, tuple(self.steps), tuple(results), self.table)


def instruction_of(step: Step, *table: int) -> tuple[type[WordInstruction], tuple[Any, ...]]:
    """The machine instruction that a step stands for, and its attributes; `table` is the address
    and the number of entries of what it looks up."""
    kind, _, name = step.name.rpartition(".")
    match name:
        case "logic":
            return nvidia_words.Logic, (step.number,)
        case "shift" if step.number < 0:
            return nvidia_words.ShiftLeft, (-step.number,)
        case "shift" | "arithmetic":
            return nvidia_words.ShiftRight, (step.number, name == "arithmetic")
        case "funnel":
            return nvidia_words.FunnelShift, (step.number,)
        case "permute":
            return nvidia_words.Permute, ()
        case "look_up":
            return nvidia_words.LookUp, table
    made, *more = _OF_HALVES[name]
    return made, (dtype(kind), *more)


_OF_HALVES = {
    "add": (nvidia_halves.HalfAdd,), "mul": (nvidia_halves.HalfMultiply,),
    "fma": (nvidia_halves.HalfMultiplyAdd, False), "fms": (nvidia_halves.HalfMultiplyAdd, True),
    "exceeds": (nvidia_halves.HalfExceeds,),
}  # fmt: skip


def pair_of(target: str, low: float, high: float | None = None) -> Constant:
    """Two numbers as a pair of the target; both must be values of it."""
    numbers = np.array([low, low if high is None else high])
    codes = dtype(target).encode(numbers)
    assert (dtype(target).decode(codes) == numbers).all(), (target, low, high)
    return Constant(int(codes[0]) | int(codes[1]) << 16)
