"""Expressions of a program's text to operands; the instructions that they need are written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

from vm.errors import Origin, VmError, fail
from vm.isa import control, syntax
from vm.isa.bind_arguments import bind_arguments
from vm.isa.instantiate_tiles import tile
from vm.isa.instruction import INSTRUCTIONS, Instruction, Scope, describe, instead, typed_immediate
from vm.isa.launch_extents import extents
from vm.isa.scopes import Names
from vm.isa.static import Environment, NotStatic, evaluate, fold, operate
from vm.isa.static_kinds import KINDS, is_kind
from vm.isa.types import (
    CONSTANT_DTYPES,
    MAXIMUM_ELEMENTS,
    MEMORY_SPACES,
    Immediate,
    Tile,
    Type,
    Value,
    whole_tile,
)


@dataclass(frozen=True)
class Known:
    """What a name stands for where its value is known: the variable of an unrolled loop."""

    value: Any


class Expressions:
    """Gives expressions their operands at the place that has been reached.

    `names` are those that the place can see, `scope` is None while the header is read, and the
    instructions of nested expressions go to the end of `statements`.
    """

    def __init__(self, constants: Mapping[str, syntax.Constant], given: Mapping[str, Any]):
        self.names = Names()
        self.environment = Environment(
            dict(given), constants, {}, self._is_runtime, self.names.known
        )
        self.statements: list[Instruction] = []
        self.scope: Scope | None = None
        # The scalars that a launch gives, sizes and parameters, and the extents of its grid.
        self.given_at_launch: frozenset[Value] = frozenset()
        self.grid: tuple[Any, ...] = ()

    @contextmanager
    def within(self, scope: Scope) -> Iterator[None]:
        """Inside, instructions are of another group, and layouts are those of its threads."""
        outer, environment = self.scope, self.environment
        self.scope = scope
        self.environment = environment.with_context(
            threads=scope.threads, warps=max(1, scope.warps), warp_width=scope.warp_width
        )
        yield
        self.scope, self.environment = outer, environment

    def _is_runtime(self, name: str) -> bool:
        return self.names.find(name) is not None

    # --- what is known now ---
    def static(self, node: syntax.Expression, kind: str, what: str) -> Any:
        """The value of an expression that must be known now, checked to be of `kind`; in extents it
        may be an expression over what is known at launch."""
        if kind == "extents":
            return extents(self, node, what)
        operand = self.expression(node) if kind in ("integer", "number") else None
        if isinstance(operand, Immediate):
            value = operand.value
        elif operand is not None:
            raise self._not_static(node, what)
        else:
            try:
                value = evaluate(node, self.here())
            except NotStatic:
                raise self._not_static(node, what) from None
        if not is_kind(value, kind):
            raise fail(
                "E0205", f"the {what} must be {KINDS[kind][1]}", node.origin, "this is not",
                fix=f"write {KINDS[kind][2]}",
            )  # fmt: skip
        if kind != "shape":
            return value
        if any(extent < 0 for extent in value) or prod(value) > MAXIMUM_ELEMENTS:
            raise fail(
                "E0303", f"the shape {list(value)} is negative or has over 2^31 elements",
                node.origin, "here", fix="use smaller extents",
            )  # fmt: skip
        return tuple(value)

    def _not_static(self, node: syntax.Expression, what: str) -> VmError:
        return fail(
            "E0303", f"the {what} must be known at instantiation", node.origin,
            "depends on a value of the run", fix="use constants here",
        )  # fmt: skip

    def here(self) -> Environment:
        """The environment with the names of the blocks around whose values are known."""
        statics = {n: v.value for n, v in self.names.visible() if isinstance(v, Known)}
        if not statics:
            return self.environment
        return Environment(
            {**self.environment.values, **statics}, self.environment.lazy,
            self.environment.context, self._is_runtime, self.names.known,
        )  # fmt: skip

    def _constant(self, node: syntax.Expression) -> Immediate:
        try:
            value = evaluate(node, self.here())
        except NotStatic as error:
            raise fail(
                "E0303", f"`{error.name}` is known only when the program runs", error.origin,
                "here", fix="use constants inside layouts and dtypes",
            ) from None  # fmt: skip
        if not isinstance(value, (bool, int, float)):
            raise fail(
                "E0203", "a number is needed here", node.origin, f"this is {value}",
                fix="dtypes and layouts are given as attributes, such as layout=...",
            )  # fmt: skip
        return Immediate(value, None, node.origin)

    # --- operands ---
    def value(self, node: syntax.Expression, expected: Type | None = None) -> Any:
        """One operand that is no tile."""
        operand = self.expression(node, expected)
        if isinstance(operand, (Tile, tuple)) or (
            isinstance(operand, Value) and operand.type.space in MEMORY_SPACES
        ):
            shown = "several values" if isinstance(operand, tuple) else describe(operand)
            raise fail(
                "E0203", "a value is needed here, not memory", node.origin, f"this is {shown}",
                fix="load it: load(...)",
            )  # fmt: skip
        return operand

    def typed(self, operand: Any, node: syntax.Expression) -> Any:
        """The operand with a dtype, also where it is a constant and nothing else says one."""
        if isinstance(operand, Immediate) and operand.dtype is None:
            return typed_immediate(operand, CONSTANT_DTYPES[type(operand.value)], node.origin)
        return operand

    def expression(self, node: syntax.Expression, expected: Type | None = None) -> Any:
        """A `Value`, an `Immediate`, a `Tile`, or a tuple of values of several results."""
        match node:
            case syntax.Literal(value):
                if isinstance(value, str):
                    raise fail(
                        "E0203", "a string is not a value", node.origin, "here",
                        fix="strings are for attributes, such as op=\"max\"",
                    )  # fmt: skip
                return Immediate(value, None, node.origin)
            case syntax.Name(text):
                return self._name(node, text)
            case syntax.Operation():
                return self._operation(node, expected)
            case syntax.Call(function):
                found = self.names.find(function)
                if function in INSTRUCTIONS and found is None:
                    return self._results(self.instruction(node, expected))
                return self._constant(node)
            case syntax.Member() if (call := _dotted_call(node)) is not None:
                return self._results(self.instruction(call, expected))
            case syntax.Subscript():
                return tile(self, node)
            case syntax.Sequence():
                raise fail(
                    "E0203", "a list is not a value", node.origin, "here",
                    fix="use fill, or load the numbers from memory",
                )  # fmt: skip
        return self._constant(node)

    def _name(self, node: syntax.Name, text: str) -> Any:
        found = self.names.find(text)
        if found is None:
            return self._constant(node)
        if isinstance(found, Known):
            return Immediate(found.value, None, node.origin)
        if isinstance(found, Value) and not self.names.is_assigned(found):
            raise fail(
                "E0210", f"`{text}` may have no value yet", node.origin, "used here",
                others=((found.origin, "declared here without a value"),),
                fix="assign it on every way that leads here, or give it a first value",
            )  # fmt: skip
        return found

    def _operation(self, node: syntax.Operation, expected: Type | None) -> Any:
        operands = [self.value(operand) for operand in node.operands]
        if all(isinstance(o, Immediate) and o.dtype is None for o in operands):
            return Immediate(operate(node, [o.value for o in operands]), None, node.origin)
        key = (node.operator, len(operands))
        if node.operator == "+" and len(operands) == 1:
            return operands[0]
        kind = _operators()[key]
        names = list(kind.fields)
        values = dict(zip(names, operands, strict=True))
        places = {n: o.origin for n, o in zip(names, node.operands, strict=True)}
        return self.make(kind, values, node.origin, places, expected)

    def operand(self, node: syntax.Expression) -> Any:
        """An operand in any space; a memory tensor by its name alone is its whole tile."""
        operand = self.expression(node)
        if isinstance(operand, Value) and operand.type.space in MEMORY_SPACES:
            return whole_tile(operand, node.origin)
        return operand

    # --- instructions ---
    def instruction(self, call: syntax.Expression, expected: Type | None = None) -> Any:
        """The instruction of a call, or an `Immediate` where all operands are constants."""
        call = _dotted_call(call) or call
        kind = INSTRUCTIONS.get(call.function) if isinstance(call, syntax.Call) else None
        if kind is None or issubclass(kind, control.Control):
            if not isinstance(call, syntax.Call):
                raise fail(
                    "E0201", "this is not an instruction", call.origin, "here",
                    fix="write name(arguments)",
                )  # fmt: skip
            known = [n for n, k in INSTRUCTIONS.items() if not issubclass(k, control.Control)]
            raise fail(
                "E0201", f"there is no instruction `{call.function}`", call.origin, "unknown name",
                fix=instead(call.function, known, "see the list in spec/"),
            )  # fmt: skip
        values, places = bind_arguments(kind, call, self)
        folded = getattr(kind, "fold", None)
        operands = [values[n] for n in kind.fields]
        known = all(isinstance(o, Immediate) and o.dtype is None for o in operands)
        if folded is not None and known:
            return Immediate(fold(call, folded, [o.value for o in operands]), None, call.origin)
        return self._made(kind, values, call.origin, places, expected)

    def _made(
        self, kind: type[Instruction], values: dict[str, Any], origin: Origin,
        places: dict[str, Origin], expected: Type | None,
    ) -> Instruction:  # fmt: skip
        if self.scope is None:
            raise fail(
                "E0303", f"`{kind.opcode}` runs with the program and cannot stand in its header",
                origin, "here", fix="use constants and sizes here",
            )  # fmt: skip
        instruction = kind(values, origin, self.scope, expected, places)
        types = instruction.check()
        types = () if types is None else types if isinstance(types, tuple) else (types,)
        instruction.results = tuple(Value(None, type_, origin) for type_ in types)
        self.emit(instruction)
        return instruction

    def make(
        self, kind: type[Instruction], values: dict[str, Any], origin: Origin,
        places: dict[str, Origin], expected: Type | None = None,
    ) -> Any:  # fmt: skip
        """Writes down an instruction of `kind`; the value or values that it has as results."""
        return self._results(self._made(kind, values, origin, places, expected))

    def _results(self, instruction: Any) -> Any:
        if isinstance(instruction, Immediate):
            return instruction
        if not instruction.results:
            raise fail(
                "E0209", f"`{instruction.opcode}` has no result", instruction.origin, "used here",
                fix="write it as a statement of its own",
            )  # fmt: skip
        return instruction.results[0] if len(instruction.results) == 1 else instruction.results

    def emit(self, instruction: Instruction) -> None:
        """Writes an instruction down as the last so far."""
        self.statements.append(instruction)


def _dotted_call(node: syntax.Expression) -> syntax.Call | None:
    """The call of a machine instruction, whose name has a dot: `nv.ldmatrix(...)`."""
    if not isinstance(node, syntax.Member) or not isinstance(node.base, syntax.Name):
        return None
    name = f"{node.base.text}.{node.name}"
    if name not in INSTRUCTIONS or node.arguments is None:
        return None
    return syntax.Call(name, node.arguments, node.keywords, node.origin)


def _operators() -> dict[tuple[str, int], type[Instruction]]:
    """Infix and prefix operators: (symbol, number of operands) to the instruction."""
    return {
        (kind.operator, len(kind.fields)): kind
        for kind in INSTRUCTIONS.values()
        if kind.operator is not None
    }
