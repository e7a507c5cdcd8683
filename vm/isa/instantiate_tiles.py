"""Tiles of tensors in memory: `t[offset +: extent, ...]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vm.errors import fail
from vm.isa import syntax
from vm.isa.instruction import describe, typed_immediate
from vm.isa.types import INDEX, MEMORY_SPACES, Immediate, ScalarType, Tile, Value

if TYPE_CHECKING:
    from vm.isa.instantiate_expressions import Expressions


def tile(expressions: Expressions, node: syntax.Subscript) -> Tile:
    """The tile that a subscript names; dimensions left out are taken whole."""
    base = expressions.expression(node.base)
    if not isinstance(base, Value) or base.type.space not in MEMORY_SPACES:
        shown = "several values" if isinstance(base, tuple) else describe(base)
        raise fail(
            "E0203", "only global and shared tensors have tiles", node.base.origin,
            f"this is {shown}", fix="load from memory, or use a layout change",
        )  # fmt: skip
    shape = base.type.shape
    if len(node.indices) > len(shape):
        raise fail(
            "E0302", f"{len(node.indices)} indices for {len(shape)} dimensions", node.origin,
            f"`{base.name}` is {base.type}", others=((base.origin, "defined here"),),
            fix=f"give at most {len(shape)}",
        )  # fmt: skip
    indices = node.indices + (syntax.Index(None, None, node.origin),) * (
        len(shape) - len(node.indices)
    )
    offsets, extents = [], []
    for dimension, (index, whole) in enumerate(zip(indices, shape, strict=True)):
        offset, extent = _index(expressions, index, whole, base, dimension)
        offsets.append(offset)
        extents.append(extent)
    return Tile(base, tuple(offsets), tuple(extents), node.origin)


def _index(
    expressions: Expressions, index: syntax.Index, whole: Any, base: Value, dimension: int
) -> tuple:
    if index.offset is None:
        return Immediate(0, INDEX, index.origin), whole
    offset = expressions.value(index.offset)
    if isinstance(offset, Immediate):
        offset = typed_immediate(offset, INDEX, index.offset.origin)
    if not isinstance(offset.type, ScalarType) or not offset.type.dtype.is_integer:
        raise fail(
            "E0206", "an index is one integer for the whole group", index.offset.origin,
            f"this is {describe(offset)}", fix="use gather or scatter for an index by element",
        )  # fmt: skip
    extent = None
    if index.extent is not None:
        extent = expressions.static(index.extent, "integer", "extent of a tile")
        if extent < 1:
            raise fail(
                "E0303", f"a tile of extent {extent}", index.extent.origin, "here",
                fix="at least 1",
            )  # fmt: skip
    _check_inside(index, offset, extent, whole, base, dimension)
    return offset, extent


def _check_inside(
    index: syntax.Index, offset: Any, extent: int | None, whole: Any, base: Value, dimension: int
) -> None:
    """A tile at a constant place must lie inside; a global one clips."""
    known = isinstance(offset, Immediate) and isinstance(whole, int)
    if base.type.space == "global" or not known:
        return
    if offset.value < 0 or offset.value + (extent or 1) > whole:
        last = offset.value + (extent or 1) - 1
        raise fail(
            "E0305", f"elements {offset.value} to {last} of a dimension of {whole}",
            index.origin, f"outside dimension {dimension} of `{base.name}`",
            others=((base.origin, f"`{base.name}` is {base.type}"),),
            fix=f"stay within 0 and {whole - 1}",
        )  # fmt: skip
