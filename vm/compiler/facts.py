"""What is known about integers of a kernel before it runs: divisors, signs and upper bounds.

Sources: the program's `where` facts, the grid, loop bounds, conditions of enclosing branches, and
the variant that is compiled ("aligned": every array begins at 16 bytes and so does every row of it;
"none": nothing beyond the program's own facts).
"""

from __future__ import annotations

from math import gcd
from typing import Any

from vm.compiler.launch_memory import ALIGNMENT
from vm.isa import syntax
from vm.isa.elementwise import Add, CeilDivide, Divide, Maximum, Minimum, Modulo, Multiply, Subtract
from vm.isa.instruction import Instruction
from vm.isa.kernel import Kernel
from vm.isa.lanes import ThreadIndex
from vm.isa.launch_memory import GlobalAllocate
from vm.isa.registers import Cast
from vm.isa.synchronization import BlockIndex, GroupIndex
from vm.isa.types import GlobalType, Immediate, Value

ALIGNED, NONE = "aligned", "none"
VARIANTS = (ALIGNED, NONE)
VARIANT_BYTES = 16


class Facts:
    """Answers about operands of the kernel that is being made; definitions are told to `define`."""

    def __init__(self, kernel: Kernel, variant: str):
        self.variant = variant
        self.definitions: dict[Value, Instruction] = {}
        self.bounds: list[tuple[Any, Any]] = []  # (x, y): x < y holds here
        self.grid: tuple[Any, ...] = ()  # operands, once they are computed
        # Values that are a sum of products times a power of two for each slot: the sum, the powers.
        self.scaled: dict[Value, tuple[Value, tuple[float, ...]]] = {}
        self._divisors: dict[str, int] = {}
        self._alignments: dict[str, int] = {}
        for fact in kernel.where:
            self._read(fact)
        if variant == ALIGNED:
            for parameter in kernel.parameters:
                self._read_aligned(parameter)

    def _read(self, fact: Any) -> None:
        """`A % 16 == 0` and `aligned(A, 16)`."""
        match fact:
            case syntax.Call("aligned", (syntax.Name(name), syntax.Literal(number))):
                self._alignments[name] = max(number, self._alignments.get(name, 1))
            case syntax.Operation(
                "==",
                (syntax.Operation("%", (syntax.Name(name), syntax.Literal(number))),
                 syntax.Literal(0)),
            ):  # fmt: skip
                self._know_divisor(name, number)

    def _read_aligned(self, parameter: Value) -> None:
        type_ = parameter.type
        if not isinstance(type_, GlobalType):
            return
        name = parameter.name
        self._alignments[name] = max(VARIANT_BYTES, self._alignments.get(name, 1))
        if len(type_.shape) > 1 and isinstance(type_.shape[-1], syntax.Name):
            per_row = VARIANT_BYTES * 8 // gcd(VARIANT_BYTES * 8, type_.dtype.bits)
            self._know_divisor(type_.shape[-1].text, per_row)

    def _know_divisor(self, name: str, number: int) -> None:
        known = self._divisors.get(name, 1)
        self._divisors[name] = known * number // gcd(known, number)

    def alignment(self, base: Value) -> int:
        """Bytes that divide the address of a global tensor, a power of two: those of an element as
        far as they are one, or what the program says."""
        if isinstance(self.definitions.get(base), GlobalAllocate):
            return ALIGNMENT
        bits = base.type.dtype.bits
        natural = bits & -bits if bits % 8 == 0 else 8
        return max(natural // 8, self._alignments.get(base.name, 1))

    def define(self, instruction: Instruction) -> None:
        for value in instruction.results:
            if not value.mutable:
                self.definitions[value] = instruction

    def divisor(self, operand: Any) -> int:
        """A number that divides the operand (0 for the constant 0, which all numbers divide)."""
        if isinstance(operand, int):
            return abs(operand)
        if isinstance(operand, Immediate):
            return abs(int(operand.value))
        if operand.name in self._divisors and operand not in self.definitions:
            return self._divisors[operand.name]
        made = self.definitions.get(operand)
        match made:
            case Multiply():
                return self.divisor(made.x) * self.divisor(made.y)
            case Add() | Subtract() | Minimum() | Maximum() | Modulo():
                return gcd(self.divisor(made.x), self.divisor(made.y))
            case Divide():
                divisor = made.y.value if isinstance(made.y, Immediate) else 0
                whole = self.divisor(made.x)
                return whole // divisor if divisor > 0 and whole % divisor == 0 else 1
            case Cast():
                return self.divisor(made.x)
        return 1

    def divides(self, number: int, operand: Any) -> bool:
        return self.divisor(operand) % number == 0

    def is_natural(self, operand: Any) -> bool:
        """Whether the operand is known to be 0 or more."""
        if isinstance(operand, (int, Immediate)):
            return (operand if isinstance(operand, int) else operand.value) >= 0
        made = self.definitions.get(operand)
        match made:
            case None:
                # Sizes are extents; loop variables are told as bounds with a natural start.
                return operand in self._naturals
            case Multiply() | Add() | Divide() | Minimum() | CeilDivide():
                return self.is_natural(made.x) and self.is_natural(made.y)
            case Maximum():
                return self.is_natural(made.x) or self.is_natural(made.y)
            case Modulo():
                return isinstance(made.y, Immediate) and made.y.value > 0
            case BlockIndex() | ThreadIndex() | GroupIndex():
                return True
            case Cast():
                return made.x.type.dtype.kind == "unsigned" or self.is_natural(made.x)
        return False

    @property
    def _naturals(self) -> set[Value]:
        return self.__dict__.setdefault("naturals", set())

    def know_natural(self, value: Value) -> None:
        self._naturals.add(value)

    def upper_bounds(self, operand: Any) -> list[Any]:
        """Operands y with operand < y."""
        bounds = [y for x, y in self.bounds if x == operand]
        made = self.definitions.get(operand) if isinstance(operand, Value) else None
        if isinstance(made, BlockIndex):
            bounds.append(self.grid[made.results.index(operand)])
        return bounds

    def fits(self, offset: Any, extent: int, whole: Any) -> bool:
        """Whether offset + extent <= whole and offset >= 0 are known."""
        if isinstance(offset, Immediate):
            return isinstance(whole, Immediate) and 0 <= offset.value <= whole.value - extent
        if not self.is_natural(offset):
            return False
        factor, variable = self._product(offset)
        if extent > factor:
            return False
        return any(self._at_most(y, factor, whole) for y in self.upper_bounds(variable))

    def _product(self, operand: Value) -> tuple[int, Any]:
        """The operand as constant * variable."""
        made = self.definitions.get(operand)
        if isinstance(made, Multiply) and isinstance(made.y, Immediate):
            factor, variable = self._product(made.x)
            return factor * made.y.value, variable
        return 1, operand

    def _at_most(self, bound: Any, factor: int, whole: Any) -> bool:
        """Whether bound * factor <= whole is known."""
        if isinstance(bound, Immediate):
            return isinstance(whole, Immediate) and bound.value * factor <= whole.value
        if bound == whole and factor == 1:
            return True
        made = self.definitions.get(bound)
        by_factor = (
            isinstance(made, (Divide, CeilDivide))
            and isinstance(made.y, Immediate)
            and made.y.value == factor
            and made.x == whole
        )
        if not by_factor:
            return False
        return isinstance(made, Divide) or self.divides(factor, whole)
