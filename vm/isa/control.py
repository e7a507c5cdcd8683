"""Control: what runs, how often, and which threads.

These are the statements with blocks. Conditions and bounds are scalars, so that every thread of
the group takes the same way. Their text forms are the grammar's; the classes here are what they
become at instantiation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vm.errors import Origin
from vm.isa.instruction import Attribute, Instruction, Operand, Scope
from vm.isa.layout_constraints import SAME, LayoutConstraint
from vm.isa.types import (
    CONSTANT_DTYPES,
    Immediate,
    RegisterType,
    ScalarType,
    Type,
    Value,
)

Statements = list[Instruction]

FULL = "full"


class Control(Instruction):
    """A statement with a form of its own in the text."""

    pure = False

    def check(self) -> None:
        for name, item in self.fields.items():
            if isinstance(item, Operand):
                self._require_scalar(name, getattr(self, name))

    def _require_scalar(self, name: str, operand: Any) -> None:
        kind = getattr(operand.type, "dtype", None) if operand.type is not None else None
        if not isinstance(operand.type, ScalarType):
            raise self.refuse(
                "E0206", f"the {name} of `{self.opcode}` must be one value for the whole group",
                name, f"this is {operand.type}",
                fix="use where(condition, a, b) to choose by element, or reduce to a scalar",
            )  # fmt: skip
        wanted = "bool" if name == "condition" else "integer"
        fits = kind.kind == "bool" if wanted == "bool" else kind.is_integer
        if not fits:
            raise self.refuse(
                "E0205", f"the {name} of `{self.opcode}` must be {wanted}, not {kind.name}", name,
                f"this is {kind.name}",
                fix="compare it: `x != 0`" if wanted == "bool" else "cast it to i32",
            )  # fmt: skip


class If(Control, opcode="if"):
    """Runs the first block where the condition holds, else the second.

    A condition that is known at instantiation leaves only the block it chooses.
    """

    condition = Operand("scalar")
    then: Statements
    otherwise: Statements

    def blocks(self) -> Iterator[Statements]:
        yield self.then
        yield self.otherwise

    def run(self, machine: Any):
        taken = self.then if machine.value(self.condition) else self.otherwise
        return (yield from machine.execute(taken))


class For(Control, opcode="for"):
    """Runs the block for each value of `start, start + step, ...` that is before `stop`.

    With `unroll full` and constant bounds the loop is written out at instantiation and the loop
    variable is a constant in each copy; any other hint only says how many copies the compiler
    should make of the body.
    """

    start = Operand("scalar")
    stop = Operand("scalar")
    step = Operand("scalar")
    unroll: int | str | None  # a number of copies, FULL where the bounds are not constant, or None
    variable: Value
    body: Statements

    def blocks(self) -> Iterator[Statements]:
        yield self.body

    def run(self, machine: Any):
        start, stop, step = (machine.value(o) for o in (self.start, self.stop, self.step))
        if step == 0:
            raise machine.trap("E0503", "the step of this loop is 0", self, "step")
        for position in range(start, stop, step):
            machine.assign(self.variable, position)
            jump = yield from machine.execute(self.body)
            if jump == "break":
                break


class While(Control, opcode="while"):
    """Runs the block again and again until a `break`.

    `while condition { ... }` becomes such a loop whose block begins by computing the condition
    and leaving where it does not hold.
    """

    body: Statements

    def blocks(self) -> Iterator[Statements]:
        yield self.body

    def run(self, machine: Any):
        while True:
            yield from machine.turn(self)
            jump = yield from machine.execute(self.body)
            if jump == "break":
                return


class Group(Control, opcode="group"):
    """Threads of the block that run statements of their own, at the same time as other groups.

    Groups that follow each other directly take the block's warps in order and run side by side;
    the statements behind them run when all have ended, which by itself orders no memory access.
    With `copies` there are that many groups of `warps` warps each, which run the same statements
    and tell themselves apart by `group_index()`.
    """

    warps = Attribute("integer")
    copies = Attribute("integer", 1)
    name: str
    first_warp: int
    body: Statements

    def blocks(self) -> Iterator[Statements]:
        yield self.body

    def run(self, machine: Any):
        raise AssertionError("the machine starts groups side by side")


class Declare(Control, opcode="var"):
    """Storage for one variable: it has no value until it is assigned."""

    variable: Value

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        machine.declare(self.variable)


class Jump(Control, opcode="jump"):
    """Leaves the innermost loop (`break`) or goes on with its next turn (`continue`)."""

    kind = Attribute("string", choices=("break", "continue"))

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        raise AssertionError("the machine performs jumps itself")


class Return(Control, opcode="return"):
    """Ends a reference with its result."""

    value = Operand("register", "scalar")

    def check(self) -> None:
        return None

    def run(self, machine: Any) -> None:
        machine.finish(self.value)


class Copy(Instruction, opcode="copy"):
    """The value that a variable holds now, which later assignments leave alone."""

    x = Operand("register", "scalar")

    def check(self) -> Type:
        if isinstance(self.x, Immediate) and self.x.dtype is None:
            kind = CONSTANT_DTYPES[type(self.x.value)]
            self.give_dtype("x", self.expected.dtype if self.expected else kind)
        return self.x.type

    def constrain(self) -> LayoutConstraint | None:
        """The copy has the layout of what is copied."""
        if not isinstance(self.x.type, RegisterType):
            return None
        return LayoutConstraint(self.x.type.shape, {"x": SAME})

    def run(self, machine: Any) -> Any:
        return machine.value(self.x)


def make(
    kind: type[Control], origin: Origin, scope: Scope, places: dict[str, Origin], /, **values: Any
) -> Control:
    """A checked control instruction."""
    instruction = kind(values, origin, scope, places=places)
    instruction.check()
    return instruction


def walk(statements: Statements) -> Iterator[Instruction]:
    """Every instruction, those in blocks included, in the order in which they are written."""
    for instruction in statements:
        yield instruction
        for block in instruction.blocks():
            yield from walk(block)
