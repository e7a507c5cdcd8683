"""Straight-line programs on 32-bit words: what a fast cast is made of, and its meaning in NumPy.

A program begins with the words of the source as values 0, 1, ..; each step makes one more value
from earlier ones and constants, and stands for one machine instruction. Some values are results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vm.isa.dtypes import DType, dtype

AND_OR = 0xEA  # (a & b) | c
AND_XOR = 0x6A  # (a & b) ^ c
AND = 0xC0  # a & b
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
    - `f16.add`, `f16.mul`, `f16.fma` and those of `bf16`: on pairs of floats, each rounded once.
    """

    name: str
    operands: tuple[Operand, ...]
    number: int = 0


@dataclass(frozen=True)
class Steps:
    """A program for `words` words; `results` are values, one for each pair of the target."""

    words: int
    steps: tuple[Step, ...]
    results: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Machine instructions, constants not counted."""
        return len(self.steps)

    def run(self, words: np.ndarray) -> np.ndarray:
        """The results of each row of words: uint32[n, words] to uint32[n, results]."""
        values = [np.ascontiguousarray(words[:, i], np.uint32) for i in range(self.words)]
        for step in self.steps:
            values.append(_run(step, values))
        return np.stack([values[i] for i in self.results], axis=1)


@dataclass
class Writer:
    """Collects steps; the same step twice is one."""

    words: int
    steps: list[Step] = field(default_factory=list)
    known: dict[Step, int] = field(default_factory=dict)

    def __call__(self, name: str, *operands: Operand, number: int = 0) -> int:
        step = Step(name, operands, number)
        if step not in self.known:
            self.known[step] = self.words + len(self.steps)
            self.steps.append(step)
        return self.known[step]

    def done(self, results: Sequence[int]) -> Steps:
        return Steps(self.words, tuple(self.steps), tuple(results))


def _run(step: Step, values: list[np.ndarray]) -> np.ndarray:
    size = len(values[0])
    a, b, c = (
        np.full(size, o.word, np.uint32) if isinstance(o, Constant) else values[o]
        for o in (*step.operands, Constant(0), Constant(0))[:3]
    )
    number = step.number
    match step.name:
        case "logic":
            terms = (
                (a if case & 4 else ~a) & (b if case & 2 else ~b) & (c if case & 1 else ~c)
                for case in range(8)
                if number >> case & 1
            )
            return np.bitwise_or.reduce(list(terms))
        case "shift":
            return a >> np.uint32(number) if number >= 0 else a << np.uint32(-number)
        case "arithmetic":
            return (a.view(np.int32) >> number).view(np.uint32)
        case "funnel":
            both = b.astype(np.uint64) << np.uint64(32) | a
            return (both >> np.uint64(number)).astype(np.uint32)
        case "permute":
            return _permute(a, b, c)
    kind, _, name = step.name.partition(".")
    return _halves(name, a, b, c, dtype(kind))


def _permute(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    both = b.astype(np.uint64) << np.uint64(32) | a
    result = np.zeros_like(a)
    for place in range(4):
        digit = selector >> np.uint32(4 * place) & np.uint32(15)
        byte = (both >> (np.uint64(8) * (digit & np.uint32(7)))).astype(np.uint32) & np.uint32(255)
        signs = np.where(byte >= 128, np.uint32(255), np.uint32(0))
        result |= np.where(digit >= 8, signs, byte) << np.uint32(8 * place)
    return result


def _halves(name: str, a: np.ndarray, b: np.ndarray, c: np.ndarray, target: DType) -> np.ndarray:
    x, y, z = (_values(operand, target) for operand in (a, b, c))
    # float64 holds the exact result of every use here: fields of few bits, powers of two.
    with np.errstate(invalid="ignore"):  # infinity times 0
        exact = x + y if name == "add" else x * y if name == "mul" else x * y + z
    codes = target.encode(exact, "ieee").astype(np.uint32)
    return codes[0] | codes[1] << np.uint32(16)


def _values(words: np.ndarray, target: DType) -> np.ndarray:
    return target.decode(np.stack([words & np.uint32(0xFFFF), words >> np.uint32(16)]).astype(
        np.uint16)).astype(np.float64)  # fmt: skip


def pair_of(target: str, low: float, high: float | None = None) -> Constant:
    """Two numbers as a pair of the target; both must be values of it."""
    numbers = np.array([low, low if high is None else high])
    codes = dtype(target).encode(numbers)
    assert (dtype(target).decode(codes) == numbers).all(), (target, low, high)
    return Constant(int(codes[0]) | int(codes[1]) << 16)
