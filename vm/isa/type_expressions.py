"""Types as they are written: `f32`, `register(f32)[64, 32]`, `out(global(f16))[M, N]`."""

from __future__ import annotations

from math import prod
from typing import Any

from vm.errors import VmError, fail
from vm.isa import syntax
from vm.isa.dtypes import DType
from vm.isa.static import Environment, NotStatic, close_over, evaluate, known_dtype
from vm.isa.types import (
    MAXIMUM_ELEMENTS,
    GlobalType,
    RegisterType,
    ScalarType,
    SharedType,
    Type,
)
from vm.layouts import RegisterLayout

_SPACES = {"register": RegisterType, "shared": SharedType, "global": GlobalType}
_ACCESS = ("out", "inout", "constant")
# The words that types are written with, besides dtypes.
TYPE_WORDS = (*_SPACES, *_ACCESS)


def evaluate_type(node: syntax.Expression, environment: Environment, *, sizes: bool) -> Type:
    """The type an expression stands for; extents may be expressions over sizes if `sizes`."""
    if not isinstance(node, syntax.Subscript):
        return ScalarType(_dtype(node, environment))
    call, access = node.base, "in"
    if isinstance(call, syntax.Call) and call.function in _ACCESS:
        if len(call.arguments) != 1 or call.keywords:
            raise _malformed(node)
        access, call = call.function, call.arguments[0]
    if isinstance(call, syntax.Name):
        # `f16[M, N]`: a whole tensor, in references.
        return RegisterType(_dtype(call, environment), _shape(node, environment, sizes))
    if not isinstance(call, syntax.Call) or call.function not in _SPACES:
        raise _malformed(node)
    if len(call.arguments) != 1:
        raise _malformed(node)
    space = call.function
    if access != "in" and space != "global":
        raise fail(
            "E0203", f"`{access}` is said of global tensors", node.origin, f"this is {space}",
            fix=f"write {access}(global(...))[...]",
        )  # fmt: skip
    dtype = _dtype(call.arguments[0], environment)
    shape = _shape(node, environment, sizes and space == "global")
    keywords = {keyword.name: keyword for keyword in call.keywords}
    if space == "global":
        strides = keywords.pop("strides", None)
        _no_more(keywords)
        return GlobalType(dtype, shape, access, _strides(strides, shape, environment))
    layout = keywords.pop("layout", None)
    _no_more(keywords)
    value = None if layout is None else evaluate(layout.value, environment)
    if space == "register" and value is not None:
        check_register_layout(value, shape, layout.origin)
    return _SPACES[space](dtype, shape, value)


def check_register_layout(layout: Any, shape: tuple[int, ...], origin) -> None:
    """Raises E0304 where `layout` is no register layout of `shape`."""
    if not isinstance(layout, RegisterLayout):
        raise fail(
            "E0304", f"{layout} is not a register layout", origin, "here",
            fix="compose one from local(...) and spatial(...)",
        )  # fmt: skip
    if layout.shape != shape:
        raise fail(
            "E0304", f"a layout of {list(layout.shape)} for a tensor of {list(shape)}", origin,
            "this layout", fix="give a layout of the same shape",
        )  # fmt: skip


def dtype_syntax(dtype: DType) -> syntax.Expression:
    """The expression that evaluates to a dtype: its name, or the table of a codebook."""
    if known_dtype(dtype.name) == dtype:
        return syntax.Name(dtype.name)
    entries = tuple(syntax.Literal(entry) for entry in dtype.table)
    return syntax.Call(
        "codebook", (syntax.Sequence(entries), syntax.Name(dtype.entry.name)), ()
    )


def _malformed(node: syntax.Expression) -> VmError:
    return fail(
        "E0209", "this is not a type", node.origin, "here",
        fix="write f32, register(f32)[64, 32], global(f16)[M, N] or out(global(f16))[M, N]",
    )  # fmt: skip


def _no_more(keywords: dict[str, syntax.Keyword]) -> None:
    for keyword in keywords.values():
        raise fail(
            "E0209", f"a type has no `{keyword.name}`", keyword.origin, "here",
            fix="register and shared types take layout=, global types take strides=",
        )  # fmt: skip


def _dtype(node: syntax.Expression, environment: Environment) -> DType:
    try:
        value = evaluate(node, environment)
    except NotStatic as error:
        raise fail(
            "E0201", f"`{error.name}` is not a dtype", node.origin, "a dtype is needed here",
            fix="write a dtype such as f16, u4 or f6e3m2",
        ) from None  # fmt: skip
    if not isinstance(value, DType):
        raise fail(
            "E0203", "this is not a dtype", node.origin, "a dtype is needed here",
            fix="write a dtype such as f16, u4 or f6e3m2",
        )  # fmt: skip
    return value


def _shape(node: syntax.Subscript, environment: Environment, sizes: bool) -> tuple:
    shape = []
    for index in node.indices:
        if index.offset is None or index.extent is not None:
            raise fail(
                "E0302", "an extent is needed here", index.origin, "not an extent",
                fix="write the number of elements of this dimension",
            )  # fmt: skip
        extent = close_over(index.offset, environment)
        known = isinstance(extent, int) and not isinstance(extent, bool)
        if not known and not (sizes and isinstance(extent, syntax.Expression)):
            raise fail(
                "E0303", "this extent must be a constant whole number", index.origin, "here",
                fix="use constants; sizes may stand in the shapes of global parameters",
            )  # fmt: skip
        if known and extent < 0:
            raise fail(
                "E0303", f"an extent of {extent}", index.origin, "negative",
                fix="extents are whole numbers from 0 up: give its constants other values",
            )  # fmt: skip
        shape.append(extent)
    elements = prod(extent for extent in shape if isinstance(extent, int))
    if elements > MAXIMUM_ELEMENTS:
        raise fail(
            "E0303", f"a tensor of {elements} elements", node.origin, "too large",
            fix="the limit is 2^31 elements",
        )  # fmt: skip
    return tuple(shape)


def _strides(keyword: syntax.Keyword | None, shape: tuple, environment: Environment):
    if keyword is None:
        return None
    value = keyword.value
    if not isinstance(value, syntax.Sequence) or len(value.items) != len(shape):
        raise fail(
            "E0302", f"{len(shape)} strides are needed", keyword.origin, "here",
            fix="write one stride (in elements) for each dimension: strides=[N, 1]",
        )  # fmt: skip
    strides = tuple(close_over(item, environment) for item in value.items)
    for stride, item in zip(strides, value.items, strict=True):
        whole = isinstance(stride, int) and not isinstance(stride, bool)
        if not whole and not isinstance(stride, syntax.Expression):
            raise fail(
                "E0302", "a stride is a whole number of elements", item.origin, "this is not",
                fix="use numbers, constants and sizes",
            )  # fmt: skip
    return strides
