"""The values that an author's Python computes with: each stands for an expression of the program.

Operators build expressions. `/` and `//` both mean the language's division, which floors for
integers. A tile of memory is `A[offset : +extent]`, or `A[b.tile(offset, extent)]`; `A[i]` is one
position and `A[:]` a whole dimension.
"""

from __future__ import annotations

import operator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vm.errors import Origin, Source, VmError, fail
from vm.isa import syntax
from vm.isa.builder_frames import author_frame, origin_of
from vm.isa.builder_recording import Computation, Recording
from vm.isa.dtypes import DType
from vm.isa.parse import MAXIMUM_NESTING, parse_expression
from vm.isa.type_expressions import dtype_syntax
from vm.layouts import METHODS, RegisterLayout

if TYPE_CHECKING:
    from vm.isa.builder_writer import Writer


@dataclass(frozen=True)
class TileIndex:
    """`offset +: extent` in a subscript."""

    offset: Any
    extent: Any


class Expression:
    """A constant, type, layout, tensor or value of the program under construction."""

    __slots__ = ("_depth", "_home", "_node", "_runtime", "_writer")

    def __init__(
        self,
        writer: Writer,
        node: syntax.Expression,
        *,
        runtime: bool,
        home: Computation | Recording | None = None,
        depth: int = 1,
    ):
        self._writer = writer
        self._node = node
        # Whether it has a value only when the program runs.
        self._runtime = runtime
        # What it is made by, and so the block it can be used in; None for everywhere.
        self._home = home
        self._depth = depth

    def _block(self) -> Recording | None:
        """The block it can be used in; a computation's own may change until it is complete."""
        return self._home.recording if isinstance(self._home, Computation) else self._home

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._node.origin}>"

    # --- what Python would do on its own, and wrongly ---
    def __bool__(self) -> bool:
        raise fail(
            "E0303", "the truth of this is known only when the program runs",
            origin_of(author_frame()), "Python decides here",
            others=((self._node.origin, "made here"),),
            fix="with b.if_(condition): ..., b.where(condition, x, y), or b.and_, b.or_, b.not_",
        )  # fmt: skip

    def __iter__(self) -> Any:
        raise fail(
            "E0209", "the number of results is not known here", origin_of(author_frame()),
            "taken apart here", fix="name each result where it is made: x, y = b.block_index()",
        )  # fmt: skip

    __hash__ = object.__hash__

    # --- members: layouts only ---
    def __getattr__(self, name: str) -> Expression:
        if name.startswith("_"):
            raise AttributeError(name)
        origin = origin_of(author_frame())
        if name not in METHODS:
            raise fail(
                "E0201", f"nothing here has a `{name}`", origin, "unknown member",
                fix=f"layouts have: {', '.join(sorted(METHODS))}",
            )  # fmt: skip
        return self._writer.compute(syntax.Member(self._node, name, None, (), origin), (self,))

    def __dir__(self) -> list[str]:
        return sorted([*object.__dir__(self), *METHODS])

    def __call__(self, *arguments: Any, **keywords: Any) -> Expression:
        member, origin = self._node, origin_of(author_frame())
        if not isinstance(member, syntax.Member) or member.arguments is not None:
            raise fail("E0203", "this is not a function", origin, "called here",
                       fix="leave the parentheses out")  # fmt: skip
        positional, named = self._writer.arguments(arguments, keywords, origin)
        node = syntax.Member(member.base, member.name, positional, named, origin)
        return self._writer.compute(node, (self, *arguments, *keywords.values()))

    def __getitem__(self, indices: Any) -> Expression:
        origin = origin_of(author_frame())
        parts = indices if isinstance(indices, tuple) else (indices,)
        node = syntax.Subscript(
            node_of(self._writer, self, origin),
            tuple(_index(self._writer, part, origin) for part in parts),
            origin,
        )
        # A tile is no value: it takes effect where it is used, so it is never bound to a name.
        return self._writer.expression(node, (self, *_inside(parts)))


def _inside(parts: tuple[Any, ...]) -> list[Any]:
    found: list[Any] = []
    for part in parts:
        if isinstance(part, slice):
            found += [part.start, part.stop]
        elif isinstance(part, TileIndex):
            found += [part.offset, part.extent]
        else:
            found.append(part)
    return found


def _index(writer: Writer, part: Any, origin: Origin) -> syntax.Index:
    if isinstance(part, slice):
        if part.start is None and part.stop is None and part.step is None:
            return syntax.Index(None, None, origin)
        part = _tile_of_slice(part, origin)
    if isinstance(part, TileIndex):
        extent = node_of(writer, part.extent, origin)
        return syntax.Index(node_of(writer, part.offset, origin), extent, origin)
    return syntax.Index(node_of(writer, part, origin), None, origin)


def _tile_of_slice(part: slice, origin: Origin) -> TileIndex:
    """`offset : +extent`. Python's own reading, offset : end, is refused where it can be told."""
    start, stop = 0 if part.start is None else part.start, part.stop
    if isinstance(stop, Expression) and part.step is None:
        node = stop._node
        extent = isinstance(node, syntax.Operation) and node.operator == "+"
        if extent and len(node.operands) == 1:
            stripped = Expression(
                stop._writer, node.operands[0], runtime=stop._runtime, home=stop._home
            )
            return TileIndex(start, stripped)
    # With two numbers `16 : +16` and `16 : 16` are the same to Python.
    unmistakable = isinstance(start, Expression) or start == 0
    if isinstance(stop, int) and part.step is None and unmistakable:
        return TileIndex(start, stop)
    raise fail(
        "E0209", "a tile is written with its extent", origin, "this slice has an end",
        fix="write A[offset : +extent], or A[b.tile(offset, extent)] for two numbers",
    )  # fmt: skip


class Variable(Expression):
    """Storage: `assign` it, or use `+=` and the like; both give it a new value from here on."""

    __slots__ = ()

    def assign(self, value: Any) -> None:
        """The variable holds `value` from here on (`name := value`)."""
        _assign(self, value, origin_of(author_frame()))


def _assign(variable: Variable, value: Any, origin: Origin) -> None:
    writer = variable._writer
    writer.require_inside("an assignment", origin)
    target, assigned = node_of(writer, variable, origin), node_of(writer, value, origin)
    writer.add(syntax.Assign(target.text, assigned, origin))


def node_of(writer: Writer, value: Any, origin: Origin) -> syntax.Expression:
    """The expression for anything an author may pass; raises E0209 for what has none."""
    if isinstance(value, Expression):
        if value._writer is not writer:
            raise fail("E0201", "this belongs to another builder", origin, "used here",
                       others=((value._node.origin, "made here"),),
                       fix="make a module with one builder")  # fmt: skip
        writer.require_visible(value, origin)
        # A name is used here; anything longer was written where it was made.
        node = value._node
        return syntax.Name(node.text, origin) if isinstance(node, syntax.Name) else node
    if isinstance(value, (bool, int, float, str)):
        return syntax.Literal(value, origin)
    if isinstance(value, (tuple, list)):
        return syntax.Sequence(tuple(node_of(writer, item, origin) for item in value), origin)
    if isinstance(value, DType):
        return replace(dtype_syntax(value), origin=origin)
    if isinstance(value, RegisterLayout):
        return parse_expression(Source("<layout>", str(value)))
    for convert in (operator.index, float):  # numbers of other packages, such as NumPy's
        with suppress(TypeError, ValueError):
            return syntax.Literal(convert(value), origin)
    shown = f"the type {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    raise fail(
        "E0209", f"{shown} cannot stand in a program", origin, "used here",
        fix="use numbers, strings, lists, dtypes, layouts and what the builder gives",
    )  # fmt: skip


def too_deep(origin: Origin) -> VmError:
    return fail(
        "E0105", f"nested more than {MAXIMUM_NESTING} deep", origin, "here",
        fix="give the inner parts names, or use a loop of the program",
    )  # fmt: skip


# What Python calls an operator, and what the language writes for it.
_INFIX = {
    "__add__": "+", "__sub__": "-", "__mul__": "*", "__truediv__": "/", "__floordiv__": "/",
    "__mod__": "%", "__and__": "&", "__or__": "|", "__xor__": "^", "__lshift__": "<<",
    "__rshift__": ">>",
}  # fmt: skip
_COMPARE = {
    "__eq__": "==", "__ne__": "!=", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">=",
}  # fmt: skip
_PREFIX = {"__neg__": "-", "__pos__": "+", "__invert__": "~"}


def _infix(symbol: str, reflected: bool = False) -> Any:
    def method(self: Expression, other: Any) -> Expression:
        pair = (other, self) if reflected else (self, other)
        return self._writer.operation(symbol, pair, origin_of(author_frame()))

    return method


def _prefix(symbol: str) -> Any:
    def method(self: Expression) -> Expression:
        return self._writer.operation(symbol, (self,), origin_of(author_frame()))

    return method


def _in_place(symbol: str) -> Any:
    def method(self: Variable, other: Any) -> Variable:
        origin = origin_of(author_frame())
        value = self._writer.operation(symbol, (self, other), origin, named=False)
        _assign(self, value, origin)
        return self

    return method


for _name, _symbol in _INFIX.items():
    setattr(Expression, _name, _infix(_symbol))
    setattr(Expression, _name.replace("__", "__r", 1), _infix(_symbol, reflected=True))
    setattr(Variable, _name.replace("__", "__i", 1), _in_place(_symbol))
for _name, _symbol in _COMPARE.items():
    setattr(Expression, _name, _infix(_symbol))
for _name, _symbol in _PREFIX.items():
    setattr(Expression, _name, _prefix(_symbol))
