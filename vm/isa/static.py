"""The values of expressions that are known before a program runs.

Constants, dtypes, layouts and sizes form one world of names. Integers here are mathematical
integers (no width); `/` and `%` of integers floor. A name that stands for a run-time value makes
an expression not static, which `evaluate` reports with `NotStatic` for the caller to decide.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, floor
from typing import Any

from vm.errors import Origin, fail
from vm.isa import syntax
from vm.isa.dtypes import DType, DTypeError, codebook, dtype, name_here
from vm.isa.instruction import INSTRUCTIONS, instead, nearest
from vm.isa.printer import format_expression
from vm.isa.static_kinds import is_kind
from vm.layouts import METHODS, NAMES, LayoutError, RegisterLayout, column_local, local

MAXIMUM_BITS = 4096


class NotStatic(Exception):
    """The expression depends on `name`, which has a value only when the program runs."""

    def __init__(self, name: str, origin: Origin):
        super().__init__(name)
        self.name = name
        self.origin = origin


@dataclass
class Environment:
    """What names stand for: values that are known, and expressions evaluated when first used.

    `lazy` holds the constants and layouts of a module, which may use each other and, for layouts,
    the `context` of the program that uses them (its threads, warps and warp width).
    """

    values: dict[str, Any] = field(default_factory=dict)
    lazy: Mapping[str, syntax.Constant] = field(default_factory=dict)
    context: dict[str, int] = field(default_factory=dict)
    runtime: Callable[[str], bool] = field(default=lambda name: False)
    # Names of run-time values, to be offered where a name is unknown.
    visible: Callable[[], Iterable[str]] = field(default=tuple)
    _evaluating: list[str] = field(default_factory=list)

    def with_context(self, **context: int) -> Environment:
        """The same names in another context: module layouts are evaluated anew in it."""
        known = {k: v for k, v in self.values.items() if k not in self.lazy or k in self._given}
        child = Environment(known, self.lazy, context, self.runtime, self.visible)
        child._given = self._given
        return child

    def __post_init__(self) -> None:
        self._given = set(self.values)

    def lookup(self, name: str, origin: Origin) -> Any:
        """The value of a name; raises `NotStatic` for run-time names, E0201 for unknown ones."""
        if name in self.values:
            return self.values[name]
        if name in self.lazy:
            if name in self._evaluating:
                raise fail(
                    "E0202", f"{name} is defined by itself", origin, "used here",
                    others=((self.lazy[name].origin, "while this is evaluated"),),
                    fix="break the circle: " + " -> ".join([*self._evaluating, name]),
                )  # fmt: skip
            self._evaluating.append(name)
            try:
                value = evaluate(self.lazy[name].value, self)
            finally:
                self._evaluating.pop()
            self.values[name] = value
            return value
        if self.runtime(name):
            raise NotStatic(name, origin)
        known = known_dtype(name)
        if known is not None:
            return known
        if name in NAMES:
            known = NAMES[name]
            if inspect.isfunction(known):
                raise fail(
                    "E0203", f"`{name}` is a function", origin, "no value by itself",
                    fix=f"write {_form(name, known)}",
                )  # fmt: skip
            return known
        raise self.unknown(name, origin)

    def names(self) -> set[str]:
        return {*self.values, *self.lazy}

    def unknown(self, name: str, origin: Origin, also: Iterable[str] = ()) -> Exception:
        """The error for a name that stands for nothing, with the nearest that is known."""
        known = {*self.names(), *self.visible(), *NAMES, *also}
        here = name_here(name)
        return fail(
            "E0201", f"nothing is called `{name}` here", origin, "unknown name",
            fix=f"write `{here}`, if you mean that type" if here
            else instead(name, known, "bind it, or pass it as a parameter"),
        )  # fmt: skip


@lru_cache(maxsize=4096)
def known_dtype(name: str) -> DType | None:
    """The dtype of that name, None where there is none."""
    try:
        return dtype(name)
    except DTypeError:
        return None


def _divide(a, b):
    return a // b if isinstance(a, int) and isinstance(b, int) else a / b


_OPERATORS: dict[str, Callable] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _divide, "%": operator.mod,
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "|": operator.or_, "^": operator.xor,
    "&": operator.and_, "<<": operator.lshift, ">>": operator.rshift,
    "and": lambda a, b: a and b, "or": lambda a, b: a or b,
}  # fmt: skip
_PREFIXES: dict[str, Callable] = {
    "-": operator.neg, "+": operator.pos, "~": operator.invert, "not": operator.not_,
}  # fmt: skip


COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
CONNECTIVES = frozenset({"and", "or", "not"})
"""What joins truth values, as the other operators join numbers."""


def codebook_type(table: Any, entry: Any) -> DType:
    """`codebook([-1.0, 0.0, 1.0], f16)`: the dtype whose codes are positions in the list, which has
    2 to 256 numbers."""
    if not isinstance(table, tuple) or not all(isinstance(v, (int, float)) for v in table):
        raise DTypeError("a codebook is made of a list of numbers")
    if not isinstance(entry, DType):
        raise DTypeError("a codebook's entries have a dtype")
    return codebook(f"codebook{len(table)}_{entry.name}", table, entry)


def cast_order(source: Any, target: Any, run: Any) -> RegisterLayout:
    """`cast_order(u4, f16, 8)`: how a thread best holds a run of `source` that is cast to `target`.

    A register layout of shape [1, run] of one thread: elements that become one word of the target,
    2 i and 2 i + 1 of 16 bits or four of 8 bits, lie some slots apart. Any order is right; this one
    takes the fewest instructions of those that the compiler knows. A packing made with it is read
    with it.
    """
    from vm.compiler.casts import best_distance, lanes_of

    if not isinstance(source, DType) or not isinstance(target, DType) or not isinstance(run, int):
        raise DTypeError("cast_order takes two dtypes and the length of a run")
    distance, lanes = best_distance(source, target, run), lanes_of(target)
    words = column_local(distance, lanes).reshape(1, lanes * distance)
    return local(1, run // (lanes * distance)) * words


def bit_order(operand: Any, source: Any, target: Any, product: Any = False) -> RegisterLayout:
    """`bit_order(dots.a, f6e3m2, f16)`: how threads best hold the bits of a tensor of `source` that
    is cast to `target` in the layout `operand`.

    A layout with an axis more, of the bits of each element: the layout
    `operand.concat(local(bits(source)))` with each thread's slots in another order. Seen as `u1` in
    the latter and brought to this order by `relayout`, weights are packed; seen as `u1` in this
    order and brought back they are read, and a cast takes the way back into its steps. Any order is
    right; this one takes the fewest instructions of those that the compiler knows: for a cast, or
    with `product=true` for a product of f16 that floats go to as they lie.
    """
    from vm.compiler.casts import best_order

    fits = isinstance(operand, RegisterLayout) and isinstance(source, DType)
    if not fits or not isinstance(target, DType) or not isinstance(product, bool):
        raise DTypeError("bit_order takes a layout and two dtypes")
    natural = operand.concat(local(source.bits))
    scaled = not (product and source.is_float and target.name == "f16")
    positions = best_order(source, target, operand.slots, scaled).bits
    order = [positions.index(place) for place in range(len(positions))]
    return natural.reorder(*order)


def product_order(operand: Any, source: Any, axis: Any = 1) -> RegisterLayout:
    """`product_order(dots.a, u3)`: how threads best hold an operand of `dot` that is a cast of
    unsigned integers to f16.

    The layout `operand` with each thread's elements in another order: its rows lie at different
    bits, neighbours along `axis` (that of the sums: 1 of operand a, 0 of b) in the two halves of
    words. Any order is right; with this one the product takes numbers of the fields as they lie
    (vm/compiler/casts_fields.py). A packing made with it is read with it.
    """
    from vm.compiler.casts_fields import order

    fits = isinstance(operand, RegisterLayout) and isinstance(source, DType)
    if not fits or not isinstance(axis, int) or not 0 <= axis < operand.rank:
        raise DTypeError("a layout, a dtype and an axis of it: product_order(dots.a, u3, axis=1)")
    return order(operand, source, axis)


# Functions of numbers that may stand in static expressions: sizes, grids and attributes.
FUNCTIONS: dict[str, Callable] = {
    "ceil_div": lambda a, b: -(-a // b),
    "min": min,
    "max": max,
    "abs": abs,
    "floor": floor,
    "ceil": ceil,
    "bits": lambda t: t.bits,
    "codebook": codebook_type,
    "cast_order": cast_order,
    "bit_order": bit_order,
    "product_order": product_order,
}


def operate(node: syntax.Operation, values: list[Any]) -> Any:
    """The operator applied to static values; E0203 where it has no meaning for them."""
    table = _PREFIXES if len(values) == 1 else _OPERATORS
    wanted = "boolean" if node.operator in CONNECTIVES else "number"
    if node.operator in ("==", "!=") or all(is_kind(value, wanted) for value in values):
        if node.operator == "<<" and values[1] > MAXIMUM_BITS:
            raise _no_meaning(node, f"`{node.operator}`", values)
        return fold(node, table[node.operator], values)
    # Layouts multiply and divide; dtypes do neither.
    if node.operator not in ("*", "/") or not all(is_kind(value, "layout") for value in values):
        raise _no_meaning(node, f"`{node.operator}`", values)
    return fold(node, operator.mul if node.operator == "*" else operator.truediv, values)


def fold(node: syntax.Expression, function: Callable, values: list[Any]) -> Any:
    """`function` of static values; raises E0203, E0204 or E0105 where it has no result."""
    name = node.operator if isinstance(node, syntax.Operation) else node.function
    try:
        result = function(*values)
    except ZeroDivisionError:
        raise fail(
            "E0204", "division by zero", node.origin, "the divisor is 0",
            fix="give the constant another value",
        ) from None  # fmt: skip
    except LayoutError as error:  # which is a ValueError, too
        raise layout_fault(error, node.origin) from None
    except (TypeError, ValueError, OverflowError):
        raise _no_meaning(node, f"`{name}`", values) from None
    if isinstance(result, int) and result.bit_length() > MAXIMUM_BITS:
        raise fail(
            "E0105", f"a constant of {result.bit_length()} bits", node.origin, "too large",
            fix=f"constants have at most {MAXIMUM_BITS} bits",
        )  # fmt: skip
    return result


def _no_meaning(node: syntax.Expression, name: str, values: list[Any]) -> Exception:
    joins = isinstance(node, syntax.Operation) and node.operator in CONNECTIVES
    return fail(
        "E0203", f"{name} has no meaning for {' and '.join(map(_kind_of, values))}", node.origin,
        "here", fix="use it on comparisons, such as N > 0" if joins else "use it on numbers",
    )  # fmt: skip


def _kind_of(value: Any) -> str:
    if isinstance(value, DType):
        return f"the dtype {value.name}"
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, tuple):
        return f"the list {list(value)}"
    return f"the layout {value}"


def layout_fault(error: LayoutError, origin: Origin) -> Exception:
    return fail(
        "E0301", str(error), origin, "this layout",
        fix="give it other extents; `vm layout EXPRESSION` shows what a layout holds",
    )  # fmt: skip


def evaluate(node: syntax.Expression, environment: Environment) -> Any:
    """The value of a static expression; raises `NotStatic` or `VmError`."""
    match node:
        case syntax.Literal(value):
            return value
        case syntax.Name(text):
            return environment.lookup(text, node.origin)
        case syntax.Sequence(items):
            return tuple(evaluate(item, environment) for item in items)
        case syntax.Operation(_, operands):
            return operate(node, [evaluate(operand, environment) for operand in operands])
        case syntax.Call(function, arguments, keywords):
            return _call(node, function, arguments, keywords, environment)
        case syntax.Member(base, name, arguments, keywords):
            base = evaluate(base, environment)
            return _member(node, base, name, arguments, keywords, environment)
        case syntax.Subscript(base, indices):
            return _element(node, evaluate(base, environment), indices, environment)
    raise fail(
        "E0203", "this is not a constant", node.origin, "here",
        fix="write a number, dtype or layout",
    )  # fmt: skip


def _arguments(arguments, keywords, environment) -> tuple[list[Any], dict[str, Any]]:
    positional = [evaluate(argument, environment) for argument in arguments]
    return positional, {k.name: evaluate(k.value, environment) for k in keywords}


def _call(node, function, arguments, keywords, environment: Environment) -> Any:
    if function in FUNCTIONS:
        positional, named = _arguments(arguments, keywords, environment)
        return _apply(node, FUNCTIONS[function], positional, named)
    if function in NAMES and callable(NAMES[function]):
        positional, named = _arguments(arguments, keywords, environment)
        return apply_layout_function(
            node, NAMES[function], positional, named, environment.context
        )
    if function in INSTRUCTIONS:
        raise NotStatic(function, node.origin)
    if environment.runtime(function) or function in environment.names():
        raise fail(
            "E0203", f"`{function}` is not a function", node.origin, "called here",
            fix=f"write `{function}` without parentheses",
        )  # fmt: skip
    raise environment.unknown(function, node.origin, {*FUNCTIONS, *INSTRUCTIONS})


def apply_layout_function(
    node: syntax.Expression,
    function: Callable,
    positional: list[Any],
    named: dict[str, Any],
    context: Mapping[str, int],
) -> Any:
    """Calls a function of `vm.layouts`: dtypes become their bits, and what the function wants to
    know of the program (threads, warps, warp_width) is given where the author leaves it out."""
    positional = [value.bits if isinstance(value, DType) else value for value in positional]
    named = {k: v.bits if isinstance(v, DType) else v for k, v in named.items()}
    parameters = inspect.signature(function).parameters
    for position, name in enumerate(parameters):
        if name in context and name not in named and position >= len(positional):
            named[name] = context[name]
    return _apply(node, function, positional, named)


def _form(name: str, function: Callable) -> str:
    """How a call of a function is written: `wgmma_shared(extent, k, bits, swizzle=128, ...)`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # min and max
        return f"{name}(a, b)"
    shown = []
    for parameter in parameters:
        text, default = parameter.name, parameter.default
        if parameter.kind is parameter.VAR_POSITIONAL:
            text += ", ..."
        elif default is None:
            text += "=..."
        elif default is not parameter.empty:
            text += "=" + format_expression(syntax.Literal(default))
        shown.append(text)
    return f"{name}({', '.join(shown)})"


def _apply(node: syntax.Expression, function: Callable, positional, named) -> Any:
    try:
        return function(*positional, **named)
    except LayoutError as error:
        raise layout_fault(error, node.origin) from None
    except DTypeError as error:
        # The docstrings of these functions begin with a call of them.
        call = function.__doc__.partition(":")[0]
        raise fail(
            "E0205", str(error), node.origin, "no dtype", fix=f"it is called like {call}"
        ) from None
    except ZeroDivisionError:
        raise fail(
            "E0204", "division by zero", node.origin, "here", fix="give the constant another value",
        ) from None
    except (TypeError, AttributeError, ValueError, OverflowError):
        name = node.name if isinstance(node, syntax.Member) else node.function
        given = [_kind_of(v) for v in positional]
        given += [f"{key}={_kind_of(v)}" for key, v in named.items()]
        raise fail(
            "E0203", f"`{name}` takes no such arguments: {', '.join(given) or 'none at all'}",
            node.origin, "in this call", fix=f"write {_form(name, function)}",
        ) from None  # fmt: skip


def _member(node, base, name, arguments, keywords, environment: Environment) -> Any:
    if name not in METHODS or not hasattr(base, name):
        members = [method for method in METHODS if hasattr(base, method)]
        close = nearest(name, members)
        raise fail(
            "E0201", f"{_kind_of(base)} has no `{name}`", node.origin, "unknown member",
            fix=f"did you mean `.{close}`?" if close
            else f"it has: {', '.join(sorted(members))}" if members else "it has no members",
        )  # fmt: skip
    try:
        member = getattr(base, name)
    except LayoutError as error:
        raise layout_fault(error, node.origin) from None
    if arguments is None:
        return member
    positional, named = _arguments(arguments, keywords, environment)
    return apply_layout_function(node, member, positional, named, environment.context)


def _element(node, base, indices, environment: Environment) -> Any:
    """`shape[i]` of a static sequence."""
    plain = len(indices) == 1 and indices[0].extent is None and indices[0].offset is not None
    if isinstance(base, tuple) and plain:
        position = evaluate(indices[0].offset, environment)
        if isinstance(position, int) and -len(base) <= position < len(base):
            return base[position]
    raise fail(
        "E0203", "this is not an element of a constant", node.origin, "here",
        fix="write shape[0], with a constant index inside the list",
    )  # fmt: skip


def close_over(node: syntax.Expression, environment: Environment) -> syntax.Expression | int:
    """`node` with every constant in it replaced by its value: only sizes remain as names.

    Where no size remains the number itself. Used for shapes, grids and facts, which are evaluated
    again at launch when the sizes are known.
    """
    try:
        value = evaluate(node, environment)
    except NotStatic:
        pass
    else:
        return value
    match node:
        case syntax.Name():
            return node
        case syntax.Operation(symbol, operands):
            closed = tuple(_closed(operand, environment) for operand in operands)
            return syntax.Operation(symbol, closed, node.origin)
        case syntax.Call(function, arguments, ()) if function in FUNCTIONS:
            closed = tuple(_closed(argument, environment) for argument in arguments)
            return syntax.Call(function, closed, (), node.origin)
    raise _not_of_sizes(node)


def _closed(node: syntax.Expression, environment: Environment) -> syntax.Expression:
    value = close_over(node, environment)
    if isinstance(value, syntax.Expression):
        return value
    if not isinstance(value, (int, float)):
        raise _not_of_sizes(node)
    return syntax.Literal(value, node.origin)


def _not_of_sizes(node: syntax.Expression) -> Exception:
    shown = f"`{node.function}`" if isinstance(node, syntax.Call) else "this"
    return fail(
        "E0203", f"{shown} cannot stand in a shape, grid or fact", node.origin, "here",
        fix=f"use sizes, numbers, operators and {', '.join(sorted(FUNCTIONS))}",
    )  # fmt: skip
