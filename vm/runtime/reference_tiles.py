"""Tiles of tensors: where they lie, and the instructions' reads and writes of them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from vm.errors import VmError
from vm.isa.elementwise import round_result
from vm.isa.instruction import Instruction
from vm.isa.memory import combine
from vm.isa.types import Tile
from vm.runtime.reference_access import Checks, Reach
from vm.runtime.reference_memory import (
    MemoryTensor,
    Region,
    outside_value,
    row_major_strides,
)

if TYPE_CHECKING:
    from vm.runtime.reference_actor import Actor


class TileAccesses:
    """What the instructions of an actor ask of memory, by tiles."""

    def __init__(self, actor: Actor, checks: Checks):
        self.actor = actor
        self.checks = checks

    def reach(
        self, tile: Tile, instruction: Instruction, field: str, inside: bool = False,
        axis: int | None = None, indices: np.ndarray | None = None,
    ) -> Reach:  # fmt: skip
        """Where a tile lies; `indices` take the place of the tile's own positions along `axis`."""
        tensor: MemoryTensor = self.actor.registers[tile.base]
        region, inner, extents, clipped, moving = [], [], [], False, -1
        for dimension, (offset, extent, size) in enumerate(
            zip(tile.offsets, tile.extents, tensor.shape, strict=True)
        ):
            start = self.actor.value(offset)
            if extent is None:
                length = 1
            else:
                length = extent if isinstance(extent, int) else size
                moving += 1
                if moving == axis:
                    part, kept = self._indexed(tensor, indices, start, length, size, instruction)
                    if len(part) < len(indices):
                        clipped = True
                        if inside or tensor.buffer.space == "shared":
                            raise self._outside(tile, tensor, dimension, start, length,
                                                instruction, field)  # fmt: skip
                    region.append(part)
                    inner.append(kept)
                    extents.append(len(indices))
                    axis = None
                    continue
            stop = start + length
            if start < 0 or stop > size:
                if inside or tensor.buffer.space == "shared":
                    raise self._outside(
                        tile, tensor, dimension, start, length, instruction, field
                    )
                clipped = True
                low = min(max(start, 0), size)
                high = max(min(stop, size), low)
                region.append(slice(low, high))
                inner.append(slice(low - start, high - start))
            else:
                region.append(slice(start, stop))
                inner.append(slice(0, length))
            extents.append(length)
        return Reach(
            tile.base.name or "memory", tensor, tuple(region), tuple(extents),
            tuple(inner) if clipped else None,
        )  # fmt: skip

    def _indexed(self, tensor, indices, start, length, size, instruction) -> tuple[Any, Any]:
        """The positions that indices name in a tensor, and which of the indices lie inside it."""
        wrong = (indices < 0) | (indices >= length)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise self.actor.trap(
                "E0508", f"index {at} is {int(indices[at])}, of a tile of {length}", instruction,
                "indices", "these indices", fix=f"keep every index from 0 to {length - 1}",
            )  # fmt: skip
        positions = indices.astype(np.int64) + start
        kept = np.flatnonzero((positions >= 0) & (positions < size))
        return positions[kept], kept

    def _outside(self, tile, tensor, dimension, start, length, instruction, field) -> VmError:
        size = tensor.shape[dimension]
        shown = f"element {start}" if length == 1 else f"elements {start} to {start + length - 1}"
        return self.actor.trap(
            "E0501", f"{shown} of dimension {dimension} of `{tile.base.name}`, which has {size}",
            instruction, field, "reaches outside",
            others=((tile.base.origin, f"its shape is {list(tensor.shape)}"),),
            fix=f"stay within 0 and {size - 1}"
            + (", or leave out `inside` to clip" if getattr(instruction, "inside", False) else ""),
        )  # fmt: skip

    def read(self, tile: Tile, instruction: Instruction, field: str, inside: bool) -> np.ndarray:
        """The elements of a tile, those outside the tensor as 0."""
        reach = self.reach(tile, instruction, field, inside)
        self.checks.read(reach, instruction, field)
        return read_reach(reach).reshape(_shape(tile, reach))

    def write(
        self, tile: Tile, values: Any, instruction: Instruction, field: str, inside: bool
    ) -> None:
        """Writes an array of the tile's shape, or one number everywhere, where it lies inside."""
        reach = self.reach(tile, instruction, field, inside)
        self.checks.write(reach, instruction, field)
        _write(reach, values)

    def gather(
        self, tile: Tile, indices: np.ndarray, axis: int, instruction: Instruction
    ) -> np.ndarray:
        """The slices of a tile that `indices` name along `axis`."""
        reach = self.reach(tile, instruction, "source", axis=axis, indices=indices)
        self.checks.read(reach, instruction, "source")
        return read_reach(reach).reshape(_shape(tile, reach))

    def scatter(
        self, tile: Tile, indices: np.ndarray, value: np.ndarray, axis: int, op: str,
        instruction: Instruction,
    ) -> None:  # fmt: skip
        """Writes or combines slices of a tile that `indices` name along `axis`."""
        reach = self.reach(tile, instruction, "target", axis=axis, indices=indices)
        if op == "store":
            self.checks.write(reach, instruction, "target")
            _write(reach, value)
            return
        self.checks.atomic(reach, instruction, "device")
        # One index after the other: equal ones combine with what the earlier left behind.
        at = next(a for a, part in enumerate(reach.region) if not isinstance(part, slice))
        values = value.reshape(reach.extents)
        kept = range(len(indices)) if reach.inner is None else reach.inner[at]
        for number, position in zip(kept, reach.region[at], strict=True):
            one = slice(int(position), int(position) + 1)
            inner = list(reach.inner or (slice(0, extent) for extent in reach.extents))
            inner[at] = slice(int(number), int(number) + 1)
            region = (*reach.region[:at], one, *reach.region[at + 1 :])
            _combine(reach.tensor, region, op, values[tuple(inner)])

    def atomic(self, tile: Tile, values: Any, op: str, instruction: Any) -> np.ndarray:
        """Combines values with the elements of a tile; returns what was there before."""
        reach = self.reach(tile, instruction, "target")
        self.checks.atomic(reach, instruction, instruction.scope_of)
        before = read_reach(reach)
        if not reach.is_empty:
            array = np.asarray(values, reach.tensor.dtype.array)
            if array.ndim:
                array = array.reshape(reach.extents)
                array = array if reach.inner is None else array[reach.inner]
            _combine(reach.tensor, reach.region, op, array)
        return before.reshape(_shape(tile, reach))

    def global_view(self, instruction: Any) -> MemoryTensor:
        """Part of a global tensor's memory as another dtype and shape."""
        tile: Tile = instruction.base
        base: MemoryTensor = self.actor.registers[tile.base]
        dtype = instruction.dtype
        shape = tuple(self.actor.value(extent) for extent in instruction.extents)
        offset = 0 if instruction.offset is None else self.actor.value(instruction.offset)
        start = base.start + offset * dtype.bits
        if instruction.byte_offset is not None:
            start += 8 * self.actor.value(instruction.byte_offset)
        for position, stride in zip(tile.offsets, base.strides, strict=True):
            start += self.actor.value(position) * stride
        strides = row_major_strides(shape, dtype)
        if instruction.strides is not None:
            strides = tuple(stride * dtype.bits for stride in instruction.strides)
        negative = min((*shape, *strides, start), default=0) < 0
        reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + dtype.bits
        bits = 8 * len(base.buffer.data)
        if negative or (prod(shape) and start + reach > bits):
            shown = f"bits {start} to {start + reach - 1}" if start % 8 or reach % 8 else (
                f"bytes {start // 8} to {(start + reach) // 8 - 1}"
            )  # fmt: skip
            raise self.actor.trap(
                "E0506", f"a view of {dtype.name}{list(shape)} is {shown} of `{tile.base.name}`, "
                f"which has {bits // 8} bytes", instruction, None, "reaches outside",
                others=((base.buffer.origin, f"`{base.buffer.name}` is {bits // 8} bytes"),),
                fix="give a smaller shape or offset",
            )  # fmt: skip
        return MemoryTensor(base.buffer, dtype, shape, strides, start)


def _shape(tile: Tile, reach: Reach) -> tuple[int, ...]:
    """The extents without the dimensions that a single position takes away."""
    return tuple(
        length
        for extent, length in zip(tile.extents, reach.extents, strict=True)
        if extent is not None
    )


def read_reach(reach: Reach) -> np.ndarray:
    """All elements of a tile, with its extents."""
    if reach.inner is None:
        return reach.tensor.read(reach.region)
    dtype = reach.tensor.dtype
    result = np.full(reach.extents, outside_value(dtype), dtype.array)
    if not reach.is_empty:
        result[reach.inner] = reach.tensor.read(reach.region)
    return result


def _write(reach: Reach, values: Any) -> None:
    if reach.is_empty:
        return
    if np.ndim(values):
        values = values.reshape(reach.extents)
        if reach.inner is not None:
            values = values[reach.inner]
    reach.tensor.write(reach.region, values)


def _combine(tensor: MemoryTensor, region: Region, op: str, values: np.ndarray) -> None:
    """What an atomic access leaves behind, rounded to the tensor's dtype."""
    result = combine(op, tensor.read(region), values)
    tensor.write(region, round_result(result, tensor.dtype))
