"""How many registers a thread of a kernel of the machine level needs: an estimate before compiling.

A value is alive from the instruction that makes it to the last that reads it; variables that are
alive anywhere in a loop and are carried around it are alive in all of it. The estimate is the most
words alive at one place, and an allowance for what the machine code adds.
"""

from __future__ import annotations

from dataclasses import dataclass

from vm.errors import Origin, fail
from vm.isa import control
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.lanes import words_of
from vm.isa.types import GlobalType, RegisterType, ScalarType, SemaphoreType, Value

WORD_BITS = 32


@dataclass(frozen=True)
class Pressure:
    """The words alive at the place where they are most, and that place."""

    words: int
    origin: Origin


def words(value: Value) -> int:
    """The registers of a thread that hold a value; those of predicates are not counted."""
    type_ = value.type
    if type_.space == "shared" or type_.dtype.name == "bool":
        return 0
    if isinstance(type_, (GlobalType, SemaphoreType)):  # an address
        return 2
    if isinstance(type_, RegisterType):
        return words_of(type_)
    assert isinstance(type_, ScalarType)
    return -(-type_.dtype.bits // WORD_BITS)


def pressure(kernel: Kernel) -> Pressure:
    """Where most words are alive."""
    walk = _Liveness(kernel)
    walk.block(kernel.body, set())
    return walk.most


class _Liveness:
    """A walk from the end of the kernel to its beginning, with what is alive behind each place."""

    def __init__(self, kernel: Kernel):
        # Parameters lie in constant memory and need no registers.
        self.free = {*kernel.parameters, *kernel.sizes}
        self.most = Pressure(0, kernel.origin)

    def block(self, statements: list[Instruction], alive: set[Value]) -> set[Value]:
        """What is alive before the statements, given what is alive behind them."""
        for instruction in reversed(statements):
            alive = self._before(instruction, alive)
        return alive

    def _before(self, instruction: Instruction, alive: set[Value]) -> set[Value]:
        made = set(instruction.results)
        read = {v for v in instruction.used_values() if v not in self.free}
        match instruction:
            case control.If():
                inside = self.block(instruction.then, alive)
                inside |= self.block(instruction.otherwise, alive)
                return self._note(instruction, inside | read)
            case control.For() | control.While():
                return self._loop(instruction, alive) | read
            case control.Group():
                return self._note(instruction, self.block(instruction.body, alive) | alive)
            case control.Declare():
                return alive - {instruction.variable}
        # A variable that is assigned as a whole is not alive before, unless it is read as well.
        self._note(instruction, alive | made | read)
        return (alive - made) | read

    def _loop(self, loop: control.For | control.While, alive: set[Value]) -> set[Value]:
        """What is alive at the head of a loop is alive at the end of its body."""
        head = set(alive)
        if isinstance(loop, control.For):
            head |= {loop.variable, *(v for v in loop.used_values() if v not in self.free)}
        while True:
            again = head | self.block(loop.body, head)
            if again == head:
                break
            head = again
        if isinstance(loop, control.For):
            head -= {loop.variable}
        return self._note(loop, head)

    def _note(self, instruction: Instruction, alive: set[Value]) -> set[Value]:
        total = sum(words(value) for value in alive)
        if total > self.most.words:
            self.most = Pressure(total, instruction.origin)
        return alive


ALLOWANCE = 32
"""Registers that machine code takes beside the values of a kernel: the stack pointer, bases of
tensors, operands of matrix instructions that must be neighbours, results of loads moved up.
Measured (NVRTC 13, five targets, all programs, both variants): at most 26 above what is alive."""


def estimate(kernel: Kernel, most: int = 255) -> int:
    """The registers of a thread that a kernel of the machine level should need at most.

    Loads of a block that do not depend on each other may all be on their way at once: each then
    holds its address.
    """
    return min(most, pressure(kernel).words + _addresses(kernel.body) + ALLOWANCE)


def _addresses(statements: list[Instruction]) -> int:
    """The words of all addresses that loads of one block have, in the block that has most."""
    found: set[Value] = set()
    nested = 0
    for instruction in statements:
        if instruction.results and not instruction.pure:
            operands = (getattr(instruction, name, None) for name in ("offset", "address", "bit"))
            found.update(each for each in operands if isinstance(each, Value))
        nested = max([nested, *map(_addresses, instruction.blocks())])
    return max(nested, sum(words(value) for value in found))


def check_registers(kernel: Kernel, registers: int, spill_bytes: int) -> None:
    """Holds what the toolchain reports of a compiled kernel to what it should need.

    A kernel without loops, such as one that packs weights, spills once in its life: it is let
    through. Raises E0904 for spills in any other, E0905 for more registers than the estimate.
    """
    if not any(isinstance(i, (control.For, control.While)) for i in control.walk(kernel.body)):
        return
    alive, expected = pressure(kernel), estimate(kernel)
    note = f"{alive.words} registers are alive at {alive.origin.line}:{alive.origin.column}"
    if spill_bytes:
        raise fail(
            "E0904", f"`{kernel.name}` does not fit in registers: {spill_bytes} bytes of spills",
            alive.origin, "most is alive here", notes=(note,),
            fix="use smaller tiles, or more threads for the same tile",
        )  # fmt: skip
    if registers > expected:
        raise fail(
            "E0905", f"`{kernel.name}` takes {registers} registers, expected were {expected}",
            alive.origin, "most is alive here", notes=(note,),
            fix="this is a mistake of the compiler or of its estimate: please report it",
        )  # fmt: skip
