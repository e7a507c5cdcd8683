"""How an actor reaches memory: tiles become regions, accesses are checked, data is moved."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from vm.errors import VmError
from vm.isa.elementwise import round_result
from vm.isa.instruction import Instruction
from vm.isa.memory import combine
from vm.isa.types import Tile
from vm.runtime.races import Clock, Races
from vm.runtime.reference_memory import (
    MemoryTensor,
    Region,
    outside_value,
    row_major_strides,
)
from vm.runtime.schedule import Effects


@dataclass(eq=False)
class Reach:
    """The part of a tile that lies inside its tensor.

    `region` is that part in the tensor; `inner` is the same part within the tile, or None where all
    of the tile lies inside. `extents` are the tile's, 1 for dimensions given by a single position.
    """

    tensor: MemoryTensor
    region: Region
    extents: tuple[int, ...]
    inner: tuple[Any, ...] | None

    @property
    def is_empty(self) -> bool:
        return not prod(self.tensor.shape_of(self.region))


@dataclass(eq=False)
class Copy:
    """An asynchronous copy on its way."""

    instruction: Instruction
    to: Reach
    source: Reach
    numbers: tuple[int, ...]
    has_moved: bool = False

    @property
    def target(self) -> MemoryTensor:
        return self.to.tensor

    def move(self) -> None:
        """Moves the data; what lies outside the source arrives as 0."""
        if not self.has_moved:
            self.has_moved = True
            data = _read(self.source)
            if data.size:
                self.to.tensor.write(self.to.region, data.reshape(self.to.extents))


class Accesses:
    """The part of an actor that reaches memory."""

    def __init__(
        self, races: Races, effects: Effects, clock: Clock, registers: dict[Any, Any]
    ):
        self.races = races
        self.effects = effects
        self.clock = clock
        self.registers = registers
        self.allocated: list[MemoryTensor] = []
        self._open: list[Copy] = []
        self._committed: list[list[Copy]] = []

    # --- tiles ---
    def _reach(
        self, tile: Tile, instruction: Instruction, field: str, inside: bool = False,
        axis: int | None = None, indices: np.ndarray | None = None,
    ) -> Reach:  # fmt: skip
        """Where a tile lies; `indices` take the place of the tile's own positions along `axis`."""
        tensor: MemoryTensor = self.registers[tile.base]
        region, inner, extents, clipped, moving = [], [], [], False, -1
        for dimension, (offset, extent, size) in enumerate(
            zip(tile.offsets, tile.extents, tensor.shape, strict=True)
        ):
            start = self.value(offset)
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
        return Reach(tensor, tuple(region), tuple(extents), tuple(inner) if clipped else None)

    def _indexed(self, tensor, indices, start, length, size, instruction) -> tuple[Any, Any]:
        """The positions that indices name in a tensor, and which of the indices lie inside it."""
        wrong = (indices < 0) | (indices >= length)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise self.trap(
                "E0508", f"index {at} is {int(indices[at])}, of a tile of {length}", instruction,
                "indices", "these indices", fix=f"keep every index from 0 to {length - 1}",
            )  # fmt: skip
        positions = indices.astype(np.int64) + start
        kept = np.flatnonzero((positions >= 0) & (positions < size))
        return positions[kept], kept

    def _outside(self, tile, tensor, dimension, start, length, instruction, field) -> VmError:
        size = tensor.shape[dimension]
        shown = f"element {start}" if length == 1 else f"elements {start} to {start + length - 1}"
        return self.trap(
            "E0501", f"{shown} of dimension {dimension} of `{tile.base.name}`, which has {size}",
            instruction, field, "reaches outside",
            others=((tile.base.origin, f"its shape is {list(tensor.shape)}"),),
            fix=f"stay within 0 and {size - 1}"
            + (", or leave out `inside` to clip" if getattr(instruction, "inside", False) else ""),
        )  # fmt: skip

    # --- checked accesses ---
    def _check_read(self, reach: Reach, instruction: Instruction, field: str, **how: Any) -> None:
        tensor = reach.tensor
        if tensor.buffer.shadow is None or reach.is_empty:
            return
        found = self.races.read(
            tensor, reach.region, self.clock, instruction, field, **how
        )
        if found is not None:
            raise self._race(reach, found, instruction, field, "reads")
        self._check_filled(reach, instruction, field)

    def _check_filled(self, reach: Reach, instruction: Instruction, field: str) -> None:
        missing = self.races.unfilled(reach.tensor, reach.region)
        if missing is not None:
            buffer = reach.tensor.buffer
            what = "an `out` tensor" if buffer.space == "global" else "shared memory"
            raise self.trap(
                "E0507", f"{self._element(reach, missing, instruction, field)} is read before "
                "anything is written there", instruction, field, "read here",
                others=((buffer.origin, f"{what}: undefined until written"),),
                fix="write it first" + (
                    ", or declare it inout" if buffer.space == "global" else ""
                ),
            )  # fmt: skip

    def _check_write(self, reach: Reach, instruction: Instruction, field: str, **how: Any) -> None:
        tensor = reach.tensor
        if tensor.buffer.shadow is None or reach.is_empty:
            return
        if tensor.has_twins(reach.region):
            raise self.trap(
                "E0601", f"`{instruction.opcode}` writes an element of "
                f"`{self._name(instruction, field)}` twice, from different threads", instruction,
                field, "two positions of this are one element",
                others=((tensor.buffer.origin, f"`{tensor.buffer.name}`"),),
                fix="write every element once: distinct indices, strides that do not overlap",
            )  # fmt: skip
        found = self.races.write(
            tensor, reach.region, self.clock, instruction, field, **how
        )
        if found is not None:
            raise self._race(reach, found, instruction, field, "writes")

    def _name(self, instruction: Instruction, field: str) -> str:
        return getattr(instruction, field).base.name or "memory"

    def _element(self, reach: Reach, index: tuple[int, ...], instruction, field) -> str:
        """The name and position of an element, from its index within a region."""
        at = [
            part.start + i if isinstance(part, slice) else int(part[i])
            for part, i in zip(reach.region, index, strict=False)
        ]
        return f"`{self._name(instruction, field)}`{at}"

    def _race(self, reach: Reach, found, instruction, field: str, verb: str) -> VmError:
        """The error for an access that conflicts with an earlier one."""
        number, index = found
        element = self._element(reach, index, instruction, field)
        earlier = self.races.access(number)
        place = earlier.instruction.place(earlier.field)
        whose = self.block.describe(earlier.slot)
        if self.races.is_flying(number):
            return self.trap(
                "E0604", f"`{instruction.opcode}` {verb} {element} while a copy "
                f"{'from' if earlier.reads else 'to'} it is on its way", instruction, field,
                f"{verb} {element}",
                others=((place, f"the copy that {whose} started"),),
                fix="wait_async first, for the commit group of that copy",
            )  # fmt: skip
        done = "read" if earlier.reads else "written"
        if earlier.slot // self.races.groups != self.clock.slot // self.races.groups:
            return self.trap(
                "E0602", f"a race of two blocks: `{instruction.opcode}` {verb} {element}, and "
                f"nothing orders it behind the `{earlier.instruction.opcode}` by which {whose} "
                f"has {done} it", instruction, field, f"{verb} {element}",
                others=((place, f"{done} here by {whose}"),),
                fix="let every block have elements of its own, or use atomic(...)",
            )  # fmt: skip
        fix = "put synchronize() between the two"
        if whose != self.block.describe(self.clock.slot):
            fix = "let both come to one barrier(id, warps) in between, or synchronize() outside"
        return self.trap(
            "E0601", f"a race: `{instruction.opcode}` {verb} {element}, and nothing orders it "
            f"behind the `{earlier.instruction.opcode}` by which it was {done}", instruction,
            field, f"{verb} {element}", others=((place, f"{done} here by {whose}"),),
            notes=("threads run apart: only a barrier orders what two of them do",), fix=fix,
        )  # fmt: skip

    # --- what instructions ask for ---
    def read(self, tile: Tile, instruction: Instruction, field: str, inside: bool) -> np.ndarray:
        """The elements of a tile, those outside the tensor as 0."""
        reach = self._reach(tile, instruction, field, inside)
        self._check_read(reach, instruction, field)
        return _read(reach).reshape(_shape(tile, reach))

    def write(
        self, tile: Tile, values: Any, instruction: Instruction, field: str, inside: bool
    ) -> None:
        """Writes an array of the tile's shape, or one number everywhere, where it lies inside."""
        reach = self._reach(tile, instruction, field, inside)
        self._check_write(reach, instruction, field)
        _write(reach, values)

    def gather(
        self, tile: Tile, indices: np.ndarray, axis: int, instruction: Instruction
    ) -> np.ndarray:
        """The slices of a tile that `indices` name along `axis`."""
        reach = self._reach(tile, instruction, "source", axis=axis, indices=indices)
        self._check_read(reach, instruction, "source")
        return _read(reach).reshape(_shape(tile, reach))

    def scatter(
        self, tile: Tile, indices: np.ndarray, value: np.ndarray, axis: int, op: str,
        instruction: Instruction,
    ) -> None:  # fmt: skip
        """Writes or combines slices of a tile that `indices` name along `axis`."""
        reach = self._reach(tile, instruction, "target", axis=axis, indices=indices)
        if op == "store":
            self._check_write(reach, instruction, "target")
            _write(reach, value)
            return
        self._check_atomic(reach, instruction, "device")
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
        reach = self._reach(tile, instruction, "target")
        self._check_atomic(reach, instruction, instruction.scope_of)
        before = _read(reach)
        if not reach.is_empty:
            array = np.asarray(values, reach.tensor.dtype.array)
            if array.ndim:
                array = array.reshape(reach.extents)
                array = array if reach.inner is None else array[reach.inner]
            _combine(reach.tensor, reach.region, op, array)
        return before.reshape(_shape(tile, reach))

    def _check_atomic(self, reach: Reach, instruction: Instruction, scope: str) -> None:
        if reach.tensor.buffer.shadow is None or reach.is_empty:
            return
        self._check_filled(reach, instruction, "target")
        found = self.races.atomic(
            reach.tensor, reach.region, self.clock, instruction, "target", scope
        )
        if found is not None:
            raise self._race(reach, found, instruction, "target", "combines with")

    def global_view(self, instruction: Any) -> MemoryTensor:
        """Part of a global tensor's memory as another dtype and shape."""
        tile: Tile = instruction.base
        base: MemoryTensor = self.registers[tile.base]
        dtype = instruction.dtype
        shape = tuple(self.value(extent) for extent in instruction.extents)
        offset = 0 if instruction.offset is None else self.value(instruction.offset)
        start = base.start + offset * dtype.bits
        for position, stride in zip(tile.offsets, base.strides, strict=True):
            start += self.value(position) * stride
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
            raise self.trap(
                "E0506", f"a view of {dtype.name}{list(shape)} is {shown} of `{tile.base.name}`, "
                f"which has {bits // 8} bytes", instruction, None, "reaches outside",
                others=((base.buffer.origin, f"`{base.buffer.name}` is {bits // 8} bytes"),),
                fix="give a smaller shape or offset",
            )  # fmt: skip
        return MemoryTensor(base.buffer, dtype, shape, strides, start)

    # --- asynchronous copies ---
    def copies(self) -> list[Copy]:
        """The copies of this group that nobody has waited for."""
        return [copy for group in (*self._committed, self._open) for copy in group]

    def stir(self) -> None:
        """Gives every copy on its way a chance to move its data."""
        for copy in self.copies() if (self._open or self._committed) else ():
            if self.effects.moves_now():
                copy.move()

    def copy_async(self, target: Tile, source: Tile, instruction: Any) -> None:
        """Starts a copy from global to shared memory."""
        self.stir()
        to = self._reach(target, instruction, "target", True)
        origin = self._reach(source, instruction, "source", instruction.inside)
        numbers = []
        if origin.tensor.buffer.shadow is not None and not origin.is_empty:
            numbers.append(self.races.now)
            self._check_read(origin, instruction, "source", flying=True)
        if to.tensor.buffer.shadow is not None:
            numbers.append(self.races.now)
            self._check_write(to, instruction, "target", flying=True)
        copy = Copy(instruction, to, origin, tuple(numbers))
        if self.effects.at_issue:
            copy.move()
        self._open.append(copy)

    def commit_async(self, instruction: Instruction) -> None:
        self.stir()
        self._committed.append(self._open)
        self._open = []

    def wait_async(self, pending: int, instruction: Instruction) -> None:
        """Ends this group's commit groups but for the latest `pending`."""
        self.stir()
        ready = max(0, len(self._committed) - pending)
        landed, self._committed = self._committed[:ready], self._committed[ready:]
        for copy in (copy for group in landed for copy in group):
            copy.move()
            if copy.target.buffer.shadow is not None:
                source = copy.source
                tracked = source.tensor.buffer.shadow is not None and not source.is_empty
                self.races.land(
                    (copy.target, copy.to.region),
                    (source.tensor, source.region) if tracked else None,
                    self.clock, copy.instruction, copy.numbers,
                )  # fmt: skip


def _shape(tile: Tile, reach: Reach) -> tuple[int, ...]:
    """The extents without the dimensions that a single position takes away."""
    return tuple(
        length
        for extent, length in zip(tile.extents, reach.extents, strict=True)
        if extent is not None
    )


def _read(reach: Reach) -> np.ndarray:
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
    with np.errstate(all="ignore"):
        result = combine(op, tensor.read(region), values)
    tensor.write(region, round_result(result, tensor.dtype))
