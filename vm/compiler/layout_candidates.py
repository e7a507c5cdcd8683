"""Layouts that are good for one instruction: wide accesses of memory, reductions within warps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import gcd, prod

from vm.isa.instruction import Instruction, Scope
from vm.isa.layout_constraints import LayoutConstraint
from vm.isa.types import Tile
from vm.layouts import LayoutError, RegisterLayout, default_layout, local, replicated

WIDEST_BITS = 128


def contiguous(tile: Tile) -> bool:
    """Whether neighbours along the last axis of a tile are neighbours in memory."""
    return bool(tile.extents) and tile.extents[-1] is not None


def wide_layouts(
    instruction: Instruction, constraint: LayoutConstraint
) -> Iterator[tuple[RegisterLayout, str]]:
    """Layouts that an instruction proposes because they make it cheap, and why."""
    scope, shape = instruction.scope, constraint.shape
    if constraint.accesses is not None and shape:
        tile: Tile = getattr(instruction, constraint.accesses)
        if tile.base.type.space == "global":
            vector = max(1, WIDEST_BITS // tile.dtype.bits) if contiguous(tile) else 1
            yield default_layout(shape, scope.threads, vector), "a wide access of global memory"
    if constraint.reduces is not None:
        bits = instruction.x.type.dtype.bits
        layout = reduction_layout(shape, constraint.reduces, scope, max(1, WIDEST_BITS // bits))
        yield layout, "a reduction within warps"


def reduction_layout(
    shape: tuple[int, ...], axis: int, scope: Scope, vector: int
) -> RegisterLayout:
    """A layout in which the threads along `axis` are lanes of one warp.

    Runs of `vector` elements lie along the last axis, as in `default_layout`; warps are spread over
    the other axes, and copy each other where these are too short.
    """
    last = axis == len(shape) - 1
    run = gcd(vector, shape[-1]) if last else 1
    lanes = gcd(min(scope.warp_width, scope.threads), shape[axis] // run)
    others = tuple(1 if a == axis else extent for a, extent in enumerate(shape))
    outer = default_layout(others, scope.threads // lanes, 1 if last else vector)

    def along(extent: int) -> tuple[int, ...]:
        return tuple(extent if a == axis else 1 for a in range(len(shape)))

    inner = local(*along(shape[axis] // run // lanes)).spatial(*along(lanes)).local(*along(run))
    return outer * inner


def default_layouts(shape: tuple[int, ...], threads: int) -> Iterator[RegisterLayout]:
    """Layouts for a tensor that nothing else decides on.

    The first is coalesced. The second gives each thread one run of the elements in row-major order,
    which survives more changes of the shape.
    """
    yield default_layout(shape, threads)
    count = gcd(threads, prod(shape))
    runs = replicated(threads // count).spatial(count).local(prod(shape) // count)
    with suppress(LayoutError):
        yield runs.reshape(*shape)
