"""How a pass is written: it copies a kernel and says what becomes of each instruction.

Pure arithmetic on scalars and on per-thread integers goes through `compute`, which folds constants,
reuses what is already computed and places each instruction in the outermost block that knows its
operands: folding, common subexpressions and loop-invariant motion happen as a kernel is copied.
"""

from __future__ import annotations

import copy as shallow
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from typing import Any

from vm.errors import Origin
from vm.isa import control
from vm.isa.dtypes import DType
from vm.isa.elementwise import Elementwise, wrap
from vm.isa.instruction import INSTRUCTIONS, Instruction, Operand, Scope
from vm.isa.kernel import Kernel
from vm.isa.registers import Cast
from vm.isa.types import GlobalType, Immediate, RegisterType, ScalarType, Tile, Type, Value
from vm.layouts import RegisterLayout, spatial


class Rewriter:
    """Copies a kernel; subclasses override `rewrite` for the instructions they change."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.values: dict[Value, Any] = {}
        self.origin: Origin = kernel.origin
        self.scope = kernel_scope(kernel)
        # One list of statements, one table of known computations for each open block.
        self._blocks: list[list[Instruction]] = []
        self._known: list[dict[Any, Value]] = []
        self._depth: dict[Value, int] = {}
        self._made_by: dict[Value, Instruction] = {}

    def run(self) -> Kernel:
        """The rewritten kernel."""
        kernel = self.kernel
        for value in (*kernel.parameters, *kernel.sizes):
            self.values[value] = value
            self._depth[value] = 0
        body = self.block(kernel.body)
        return replace(kernel, body=body)

    # --- what a pass overrides ---
    def rewrite(self, instruction: Instruction) -> None:
        """Appends what becomes of `instruction`; by default a copy of it."""
        self.copy(instruction)

    def result_type(self, value: Value) -> Type:
        """The type of the copy of a value; by default the same."""
        return value.type

    def where_true(self, condition: Any) -> AbstractContextManager:
        """Around the statements that run only where the condition holds."""
        return nullcontext()

    def inside_loop(self, loop: control.For) -> AbstractContextManager:
        """Around the statements of a loop whose variable is defined already."""
        return nullcontext()

    def defined(self, instruction: Instruction) -> None:
        """Told of every instruction that has been put into the new kernel."""

    # --- walking ---
    def block(self, statements: list[Instruction]) -> list[Instruction]:
        """The rewritten statements of a block."""
        with self.open_block() as made:
            self.statements(statements)
        return made

    def statements(self, statements: list[Instruction]) -> None:
        for instruction in statements:
            self.origin = instruction.origin
            self.scope = instruction.scope
            self.rewrite(instruction)

    @contextmanager
    def open_block(self) -> Iterator[list[Instruction]]:
        """A new innermost block: what is emitted goes into the list that this yields."""
        self._blocks.append([])
        self._known.append({})
        yield self._blocks[-1]
        self._known.pop()
        self._blocks.pop()

    # --- copying ---
    def operand(self, operand: Any) -> Any:
        """The operand, with every value replaced by its copy."""
        if isinstance(operand, Value):
            return self.values[operand]
        if isinstance(operand, Tile):
            return Tile(
                self.values[operand.base],
                tuple(self.operand(offset) for offset in operand.offsets),
                tuple(self.operand(e) if isinstance(e, Value) else e for e in operand.extents),
                operand.origin,
            )
        if isinstance(operand, tuple):
            return tuple(self.operand(part) for part in operand)
        return operand

    def define(self, value: Value) -> Value:
        """The copy of a value that is bound here: the variable itself where it is one already."""
        if value.mutable and value in self.values:
            return self.values[value]
        type_ = self.result_type(value)
        if isinstance(type_, GlobalType):
            # The extents of a view may be scalars of the program, which have copies of their own.
            type_ = replace(type_, shape=tuple(self._extent(e) for e in type_.shape))
        made = Value(value.name, type_, value.origin, value.mutable)
        self.values[value] = made
        self._depth[made] = len(self._blocks) - 1
        return made

    def _extent(self, extent: Any) -> Any:
        copied = self.operand(extent) if isinstance(extent, Value) else extent
        return copied.value if isinstance(copied, Immediate) else copied

    def copy(self, instruction: Instruction) -> Instruction:
        """Appends a copy of the instruction with the copied operands, blocks included."""
        made = shallow.copy(instruction)
        for name, item in instruction.fields.items():
            if isinstance(item, Operand):
                setattr(made, name, self.operand(getattr(instruction, name)))
        match made:
            case control.If():
                with self.where_true(made.condition):
                    made.then = self.block(instruction.then)
                made.otherwise = self.block(instruction.otherwise)
            case control.For():
                with self.open_block() as body:
                    made.variable = self.define(instruction.variable)
                    with self.inside_loop(made):
                        self.statements(instruction.body)
                made.body = body
            case control.While() | control.Group():
                made.body = self.block(instruction.body)
            case control.Declare():
                made.variable = self.define(instruction.variable)
        if isinstance(instruction, (Elementwise, Cast)) and self._is_index(made):
            simpler = self._simpler(type(made), tuple(made.operands()))
            self.values[instruction.result] = (
                self._place(made, instruction.result) if simpler is None else simpler
            )
            return made
        made.results = tuple(self.define(value) for value in instruction.results)
        self.append(made)
        return made

    def append(self, instruction: Instruction) -> None:
        """Puts an instruction at the end of the innermost block."""
        self._blocks[-1].append(instruction)
        self.defined(instruction)

    # --- emitting ---
    def emit(
        self, kind: type[Instruction], into: Value | None = None, name: str | None = None,
        **fields: Any,
    ) -> Any:  # fmt: skip
        """Appends a new instruction; returns its result (a tuple of several, None for none).

        `into` is a variable that the result is assigned to.
        """
        made = self._make(kind, fields)
        types = made.check()
        types = () if types is None else types if isinstance(types, tuple) else (types,)
        if into is not None:
            made.results = (into,)
        else:
            made.results = tuple(Value(name, type_, self.origin) for type_ in types)
            for value in made.results:
                self._depth[value] = len(self._blocks) - 1
        self.append(made)
        return made.results[0] if len(made.results) == 1 else made.results or None

    def declare(self, type_: Type, name: str | None = None) -> Value:
        """A new variable."""
        variable = Value(name, type_, self.origin, mutable=True)
        self._depth[variable] = len(self._blocks) - 1
        declaration = control.make(control.Declare, self.origin, self.scope, {})
        declaration.variable = variable
        self.append(declaration)
        return variable

    def _make(self, kind: type[Instruction], fields: dict[str, Any]) -> Instruction:
        values = {
            name: fields.get(name, getattr(item, "default", () if _repeated(item) else None))
            for name, item in kind.fields.items()
        }
        unknown = set(fields) - set(kind.fields)
        assert not unknown, f"{kind.opcode} has no {unknown}"
        return kind(values, self.origin, self.scope)

    # --- index arithmetic ---
    def compute(self, kind: type[Elementwise], *operands: Any) -> Any:
        """The result of pure arithmetic on immediates, scalars and per-thread values."""
        operands = tuple(_immediate(operand) for operand in operands)
        operands = self._typed(operands)
        simpler = self._simpler(kind, operands)
        if simpler is not None:
            return simpler
        made = self._make(kind, dict(zip(kind.fields, operands, strict=True)))
        type_ = made.check()
        return self._place(made, Value(None, type_, self.origin))

    def _simpler(self, kind: type[Instruction], operands: tuple[Any, ...]) -> Any:
        """What the arithmetic comes to where that needs no instruction, or a simpler one."""
        simpler = _simplify(kind, operands)
        if simpler is not None or len(operands) != 2:
            return simpler
        # Two constants in a row become one: both sides wrap alike.
        x, constant = operands
        inner = self._made_by.get(x) if isinstance(x, Value) else None
        known = getattr(inner, "y", None)
        if not isinstance(constant, Immediate) or not isinstance(known, Immediate):
            return None
        dtype, signs = constant.dtype, {"add": 1, "sub": -1}
        if dtype is None or not dtype.is_integer:
            return None
        if kind.opcode in signs and inner.opcode in signs:
            total = signs[kind.opcode] * constant.value + signs[inner.opcode] * inner.y.value
            return self.compute(INSTRUCTIONS["add"], inner.x, Immediate(wrap(total, dtype), dtype))
        if kind.opcode == inner.opcode == "mul":
            product = wrap(constant.value * inner.y.value, dtype)
            return self.compute(kind, inner.x, Immediate(product, dtype))
        return None

    def convert(self, operand: Any, dtype: DType) -> Any:
        """The integer operand as another integer dtype."""
        if isinstance(operand, Immediate):
            return Immediate(wrap(operand.value, dtype), dtype, operand.origin)
        if isinstance(operand, int):
            return Immediate(wrap(operand, dtype), dtype)
        if operand.type.dtype == dtype:
            return operand
        made = self._make(Cast, {"x": operand, "dtype": dtype})
        return self._place(made, Value(None, made.check(), self.origin))

    def _typed(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        kind = next((o.type.dtype for o in operands if o.type is not None), None)
        return tuple(
            Immediate(o.value, kind, o.origin)
            if isinstance(o, Immediate) and o.dtype is None
            else o
            for o in operands
        )

    def _is_index(self, made: Instruction) -> bool:
        """Whether an instruction is arithmetic that `_place` may move and share."""
        types = [o.type for o in made.operands() if not isinstance(o, Immediate)]
        scalar = all(isinstance(type_, ScalarType) or is_per_thread(type_) for type_ in types)
        divides = made.opcode in ("div", "mod", "ceil_div")
        safe = not divides or (isinstance(made.y, Immediate) and made.y.value != 0)
        # Of constants alone only whole numbers, where other values became known: these fold.
        folds = bool(types) or (
            hasattr(type(made), "fold") and all(isinstance(o.value, int) for o in made.operands())
        )
        return folds and scalar and safe and not any(v.mutable for v in made.used_values())

    def _place(self, made: Instruction, result: Value) -> Any:
        """Puts pure arithmetic into the outermost block that knows its operands, once."""
        movable = self._is_index(made)
        level = max((self._depth[v] for v in made.used_values()), default=0)
        level = level if movable else len(self._blocks) - 1
        attributes = tuple(
            getattr(made, name) for name, i in made.fields.items() if not isinstance(i, Operand)
        )
        key = (type(made), tuple(made.operands()), attributes)
        if movable and key in self._known[level]:
            return self._known[level][key]
        value = Value(result.name, result.type, result.origin)
        made.results = (value,)
        self._depth[value] = level
        block = self._blocks[level]
        place = len(block)
        if level < len(self._blocks) - 1:
            # What a group needs comes before those that run beside it, not between them.
            while place and isinstance(block[place - 1], control.Group):
                place -= 1
        block.insert(place, made)
        self._made_by[value] = made
        self.defined(made)
        if movable:
            self._known[level][key] = value
        return value


def kernel_scope(kernel: Kernel) -> Scope:
    """What surrounds the statements of a kernel outside groups."""
    reference = kernel.kind == "reference"
    return Scope(kernel.threads, kernel.warp_width, len(kernel.grid), None, reference)


def is_per_thread(type_: Any) -> bool:
    """Whether each thread has its own one element: a register tensor with layout spatial(T)."""
    return (
        isinstance(type_, RegisterType)
        and type_.layout is not None
        and type_.layout == _one_each(type_.layout.threads)
    )


@lru_cache(maxsize=64)
def _one_each(threads: int) -> RegisterLayout:
    return spatial(threads)


def _repeated(item: Any) -> bool:
    return isinstance(item, Operand) and item.repeated


def _immediate(operand: Any) -> Any:
    return Immediate(operand) if isinstance(operand, (int, float)) else operand


def _simplify(kind: type[Elementwise], operands: tuple[Any, ...]) -> Any:
    """The result where it needs no instruction: constants, and what a neutral operand leaves."""
    fold = getattr(kind, "fold", None)
    if fold is not None and all(isinstance(o, Immediate) for o in operands):
        dtype = operands[0].dtype
        value = fold(*(o.value for o in operands))
        if isinstance(value, bool):
            return Immediate(value)
        return Immediate(wrap(value, dtype) if dtype is not None and dtype.is_integer else value,
                         dtype)  # fmt: skip
    if len(operands) != 2:
        return None
    left, right = operands
    if kind.operator in ("+", "*", "^", "|", "&", "and", "or") and isinstance(left, Immediate):
        left, right = right, left
    if not isinstance(right, Immediate):
        return None
    value, opcode = right.value, kind.opcode
    if (opcode, value) in _NEUTRAL:
        return left
    if (opcode, value) in _ABSORBING:
        return Immediate(0, right.dtype)
    if opcode == "and":
        return left if value else Immediate(False)
    if opcode == "or":
        return Immediate(True) if value else left
    return None


_NEUTRAL = {
    ("add", 0), ("sub", 0), ("mul", 1), ("div", 1), ("bit_xor", 0), ("bit_or", 0), ("shl", 0),
    ("shr", 0),
}  # fmt: skip
_ABSORBING = {("mul", 0), ("mod", 1), ("bit_and", 0)}
