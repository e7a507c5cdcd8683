"""Extents that are known when a program is launched: of the memory that the launch owns."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from vm.errors import Origin, VmError, fail
from vm.isa import syntax
from vm.isa.elementwise import Elementwise
from vm.isa.static import NotStatic, close_over, evaluate
from vm.isa.synchronization import GridSize
from vm.isa.types import MAXIMUM_ELEMENTS, Immediate, Value

if TYPE_CHECKING:
    from vm.isa.instantiate_expressions import Expressions

OPERATORS = ("+", "-", "*", "/", "%")
FUNCTIONS = ("ceil_div", "min", "max")


def extents(expressions: Expressions, node: syntax.Expression, what: str) -> tuple[Any, ...]:
    """A list of extents, each a number or an expression over sizes, scalar parameters and the grid.

    Raises E0205 where it is no such list, E0303 for what only a run knows, a negative extent, or
    over 2^31 elements.
    """
    if isinstance(node, syntax.Sequence):
        found = tuple(_extent(expressions, item, what) for item in node.items)
    else:
        found = _constant(expressions, node, what)
    numbers = [extent for extent in found if isinstance(extent, int)]
    if any(number < 0 for number in numbers) or prod(numbers) > MAXIMUM_ELEMENTS:
        shown = ", ".join(str(e) if isinstance(e, int) else "..." for e in found)
        raise fail(
            "E0303", f"the shape [{shown}] is negative or has over 2^31 elements", node.origin,
            "here", fix="use smaller extents",
        )  # fmt: skip
    return found


def _constant(expressions: Expressions, node: syntax.Expression, what: str) -> tuple[int, ...]:
    """A list that a constant names."""
    try:
        value = evaluate(node, expressions.here())
    except NotStatic:
        raise _unknown(node.origin, what) from None
    if not isinstance(value, tuple) or not all(map(_is_whole, value)):
        raise _no_extent(node.origin, what)
    return value


def _extent(expressions: Expressions, item: syntax.Expression, what: str) -> Any:
    closed = close_over(item, expressions.here())
    if isinstance(closed, syntax.Expression):
        return _of_sizes(expressions, closed, item.origin, what)
    if not _is_whole(closed):
        raise _no_extent(item.origin, what)
    return closed


def _of_sizes(
    expressions: Expressions, node: syntax.Expression, origin: Origin, what: str
) -> syntax.Expression:
    """The expression with names of the program replaced by what they were computed from."""

    def inner(nodes: tuple[syntax.Expression, ...]) -> tuple[syntax.Expression, ...]:
        return tuple(_of_sizes(expressions, each, origin, what) for each in nodes)

    match node:
        case syntax.Name(text):
            found = expressions.names.find(text)
            known = _at_launch(expressions, found) if isinstance(found, Value) else None
            if known is None:
                raise _unknown(node.origin, what)
            _require_integer(found, node)
            return known
        case syntax.Operation(operator, (_, _) as operands) if operator in OPERATORS:
            return syntax.Operation(operator, inner(operands), node.origin)
        case syntax.Call(function, (_, _) as arguments, ()) if function in FUNCTIONS:
            return syntax.Call(function, inner(arguments), (), node.origin)
        case syntax.Literal(value) if _is_whole(value):
            return node
    raise _no_extent(origin, what)


def _at_launch(expressions: Expressions, operand: Value | Immediate) -> syntax.Expression | None:
    """What a scalar is computed from, if that is known when the program is launched: numbers,
    sizes, parameters and the grid, by arithmetic alone."""
    if isinstance(operand, Immediate):
        return syntax.Literal(operand.value) if _is_whole(operand.value) else None
    if operand in expressions.given_at_launch:
        return syntax.Name(operand.name, operand.origin)
    made = next((i for i in expressions.statements if operand in i.results), None)
    if made is None or operand.mutable:
        return None
    if isinstance(made, GridSize):
        extent = expressions.grid[made.results.index(operand)]
        return extent if isinstance(extent, syntax.Expression) else syntax.Literal(extent)
    if not isinstance(made, Elementwise) or len(made.fields) != 2:
        return None
    parts = tuple(_at_launch(expressions, each) for each in made.operands())
    if None in parts:
        return None
    if made.operator in OPERATORS:
        return syntax.Operation(made.operator, parts, made.origin)
    return syntax.Call(made.opcode, parts, (), made.origin) if made.opcode in FUNCTIONS else None


def _require_integer(found: Value, node: syntax.Name) -> None:
    if not found.type.dtype.is_integer:
        raise fail(
            "E0205", "an extent is a whole number", node.origin, f"this is {found.type}",
            others=((found.origin, "defined here"),), fix="use sizes and integer parameters",
        )  # fmt: skip


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unknown(origin: Origin, what: str) -> VmError:
    return fail(
        "E0303", f"the {what} must be known when the program is launched", origin,
        "depends on a value of the run",
        fix="use constants, sizes, scalar parameters and the grid: [ceil_div(M, 64), 128]",
    )  # fmt: skip


def _no_extent(origin: Origin, what: str) -> VmError:
    return fail(
        "E0205", f"the {what} must be a list of extents", origin, "this is not",
        fix=f"use whole numbers, sizes, {' '.join(OPERATORS)} and {', '.join(FUNCTIONS)}: "
        "[ceil_div(M, 64), 128]",
    )  # fmt: skip
