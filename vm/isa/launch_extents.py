"""Extents that are known when a program is launched: of the memory that the launch owns."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from vm.errors import Origin, VmError, fail
from vm.isa import syntax
from vm.isa.static import NotStatic, close_over, evaluate
from vm.isa.types import MAXIMUM_ELEMENTS, Value

if TYPE_CHECKING:
    from vm.isa.instantiate_expressions import Expressions

OPERATORS = ("+", "-", "*", "/", "%")
FUNCTIONS = ("ceil_div", "min", "max")


def extents(expressions: Expressions, node: syntax.Expression, what: str) -> tuple[Any, ...]:
    """A list of extents, each a number or an expression over sizes and scalar parameters.

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
    if not isinstance(closed, syntax.Expression):
        if not _is_whole(closed):
            raise _no_extent(item.origin, what)
        return closed
    for part in syntax.walk(closed):
        match part:
            case syntax.Name(text):
                found = expressions.names.find(text)
                if found not in expressions.given_at_launch:
                    raise _unknown(part.origin, what)
                _require_integer(found, part)
            case syntax.Operation(operator, (_, _)) if operator in OPERATORS:
                pass
            case syntax.Call(function, (_, _), ()) if function in FUNCTIONS:
                pass
            case syntax.Literal(value) if _is_whole(value):
                pass
            case _ if isinstance(part, syntax.Expression):
                raise _no_extent(item.origin, what)
    return closed


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
        fix="use constants, sizes and scalar parameters: [ceil_div(M, 64), 128]",
    )  # fmt: skip


def _no_extent(origin: Origin, what: str) -> VmError:
    return fail(
        "E0205", f"the {what} must be a list of extents", origin, "this is not",
        fix=f"use whole numbers, sizes, {' '.join(OPERATORS)} and {', '.join(FUNCTIONS)}: "
        "[ceil_div(M, 64), 128]",
    )  # fmt: skip
