"""Gather, scatter and atomic accesses on GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.compiler.addresses import GlobalAccess, SharedAccess, Vector, slot_index
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection, slots_of
from vm.compiler.targets.common import COMMON
from vm.compiler.targets.gpu_global import as_tensor
from vm.compiler.targets.gpu_threads import exchange
from vm.isa.elementwise import GreaterEqual, Less, ShiftRight
from vm.isa.lanes import Pick, Uniform
from vm.isa.memory import Atomic, Gather, Scatter
from vm.isa.registers import Fill
from vm.isa.types import Immediate, Value
from vm.layouts import RegisterLayout, spatial

rule = COMMON.rule


@dataclass
class _Indexed:
    """Along one axis of a tile the index of each element comes from a vector of indices."""

    s: Selection
    indices: Value
    axis: int
    layout: RegisterLayout

    def __post_init__(self) -> None:
        index = self.layout.table()[..., self.axis : self.axis + 1]
        slots = slots_of(self.indices.type.layout, index)
        if slots is None:
            raise Refused("threads do not hold the indices of their elements")
        self.slots = slots

    def of(self, slot: int) -> Value:
        """The index for a slot: i32, one in each thread."""
        threads = self.layout.threads
        return self.s.emit(Pick, x=self.indices, slots=(self.slots[slot],), layout=spatial(threads))

    def within(self, index: Value, extent: Any) -> Value:
        """Whether the index lies in the tile."""
        s = self.s
        low = s.compute(GreaterEqual, index, 0)
        return s.both(low, s.compute(Less, index, extent))


class _IndexedGlobal(GlobalAccess):
    """A tile of global memory, one of whose axes is indexed."""

    indexed: _Indexed

    @property
    def vector(self) -> int:
        return 1

    def index(self, axis: int, vector: Vector) -> Any:
        position = self.axes.index(axis) if axis in self.axes else None
        if position != self.indexed.axis:
            return super().index(axis, vector)
        return self.writer.add(self.tile.offsets[axis], self.found)

    def at(self, slot: int, constant: np.ndarray) -> tuple[Any, Any]:
        """(bytes from the beginning of the tensor, predicate) of a slot."""
        writer = self.writer
        vector = Vector(slot, 1, tuple(int(v) for v in constant))
        self.found = self.indexed.of(slot)
        position = self.axes[self.indexed.axis]
        whole = writer.expression(self.tile.extents[position])
        predicate = self.indexed.within(self.found, whole)
        for axis, extent in enumerate(self.extents):
            index = self.index(axis, vector)
            if not writer.facts.is_natural(index):
                predicate = writer.both(predicate, writer.compute(GreaterEqual, index, 0))
            predicate = writer.both(predicate, writer.compute(Less, index, extent))
        bits = self.bit_offset(vector)
        return writer.compute(ShiftRight, bits, 3), writer.spread(predicate)


def _global_access(s: Selection, tile: Any, layout: RegisterLayout, indices: Value, axis: int):
    access = _IndexedGlobal(s, tile, layout, False)
    access.indexed = _Indexed(s, indices, axis, layout)
    if access.bits % 8:
        raise Refused("elements do not fill bytes")
    return access


@rule(Gather)
def gather_from_global(s: Selection, i: Gather) -> Value:
    """One load for each element, at the index that the thread holds for it."""
    if i.source.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    layout = i.result.type.layout
    access = _global_access(s, s.operand(i.source), layout, s.operand(i.indices), i.axis)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    size = access.bits // 8
    for slot, constant in enumerate(slot_index(layout)):
        offset, predicate = access.at(slot, constant)
        s.emit(s.machine.load_global, into=variable, x=variable, base=access.whole, offset=offset,
               predicate=predicate, bytes=size, at=slot * size)  # fmt: skip
    return variable


class _IndexedShared:
    """A tile of shared memory, one of whose axes is indexed."""

    def __init__(self, s: Selection, tile: Any, layout: RegisterLayout, indices: Value, axis: int):
        self.s, self.axis = s, axis
        self.access = SharedAccess(s, tile, layout)
        self.bits = self.access.bits
        if self.bits % 8:
            raise Refused("elements do not fill bytes")
        self.indexed = _Indexed(s, indices, axis, layout)
        self.extent = tile.shape[axis]
        self.parts = s.thread_index(layout, s.thread())

    def at(self, slot: int, constant: np.ndarray) -> tuple[Any, int, Any]:
        """(byte address, constant bytes to add, predicate) of a slot."""
        found = self.indexed.of(slot)
        parts, rest = list(self.parts), [int(v) for v in constant]
        parts[self.axis], rest[self.axis] = found, 0
        address, plus = self.access.general(parts, tuple(rest))
        return address, plus, self.indexed.within(found, self.extent)


@rule(Gather)
def gather_from_shared(s: Selection, i: Gather) -> Value:
    """One load for each element, at the index that the thread holds for it."""
    if i.source.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    layout = i.result.type.layout
    access = _IndexedShared(s, s.operand(i.source), layout, s.operand(i.indices), i.axis)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    size = access.bits // 8
    for slot, constant in enumerate(slot_index(layout)):
        address, plus, predicate = access.at(slot, constant)
        s.emit(s.machine.load_shared, into=variable, x=variable, address=address, plus=plus,
               predicate=predicate, bytes=size, at=slot * size)  # fmt: skip
    return variable


@rule(Scatter)
def scatter_to_shared(s: Selection, i: Scatter) -> None:
    """One store, or atomic access, for each element at the index that the thread holds for it."""
    if i.target.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    value = s.operand(i.value)
    layout = value.type.layout
    access = _IndexedShared(s, s.operand(i.target), layout, s.operand(i.indices), i.axis)
    if i.op != "store":
        _require_atomic(value)
    first = s.first_copy(layout, s.thread())
    size = access.bits // 8
    for slot, constant in enumerate(slot_index(layout)):
        address, plus, predicate = access.at(slot, constant)
        predicate = s.both(first, predicate)
        if i.op == "store":
            s.emit(s.machine.store_shared, address=address, x=value, plus=plus, bytes=size,
                   predicate=predicate, at=slot * size)  # fmt: skip
        else:
            s.emit(s.machine.reduce_shared, address=address, x=value, plus=plus, slot=slot,
                   op=i.op, predicate=predicate)  # fmt: skip


@rule(Scatter)
def scatter_to_global(s: Selection, i: Scatter) -> None:
    """One store, or atomic access, for each element at the index that the thread holds for it."""
    if i.target.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    value = s.operand(i.value)
    layout = value.type.layout
    access = _global_access(s, s.operand(i.target), layout, s.operand(i.indices), i.axis)
    if i.op != "store":
        _require_atomic(value)
    first = s.first_copy(layout, s.thread())
    size = access.bits // 8
    for slot, constant in enumerate(slot_index(layout)):
        offset, predicate = access.at(slot, constant)
        predicate = s.both(first, predicate)
        if i.op == "store":
            s.emit(s.machine.store_global, base=access.whole, offset=offset, x=value, bytes=size,
                   predicate=predicate, at=slot * size)  # fmt: skip
        else:
            s.emit(s.machine.reduce_global, base=access.whole, offset=offset, x=value,
                   slot=slot, op=i.op, predicate=predicate)  # fmt: skip


def _require_atomic(value: Value) -> None:
    kind = value.type.dtype
    if kind.bits not in (32, 64):
        raise Refused(f"there is no atomic access to one {kind.name}")


@rule(Atomic)
def atomic_on_global(s: Selection, i: Atomic) -> Value:
    """One atomic access for each element."""
    if i.target.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    value, variable = _operands(s, i)
    layout = value.type.layout
    access = GlobalAccess(s, s.operand(i.target), layout, False)
    first = s.first_copy(layout, s.thread())
    for slot, constant in enumerate(slot_index(layout)):
        vector = Vector(slot, 1, tuple(int(v) for v in constant))
        offset, plus = access.offset(vector)
        predicate = s.both(first, access.predicate(vector))
        if variable is None:
            s.emit(s.machine.reduce_global, base=access.whole, offset=offset, x=value,
                   slot=slot, op=i.op, predicate=predicate, plus=plus)  # fmt: skip
        else:
            s.emit(s.machine.atomic_global, into=variable, old=variable, base=access.whole,
                   offset=offset, x=value, slot=slot, op=i.op, predicate=predicate,
                   plus=plus)  # fmt: skip
    return _result(s, i, variable)


@rule(Atomic)
def atomic_on_shared(s: Selection, i: Atomic) -> Value:
    """One atomic access for each element."""
    if i.target.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    value, variable = _operands(s, i)
    layout = value.type.layout
    access = SharedAccess(s, s.operand(i.target), layout)
    first = s.first_copy(layout, s.thread())
    slots = list(range(layout.slots))
    for slot, (address, plus) in zip(slots, access.addresses(slots), strict=True):
        if variable is None:
            s.emit(s.machine.reduce_shared, address=address, x=value, slot=slot, op=i.op,
                   predicate=first, plus=plus)  # fmt: skip
        else:
            s.emit(s.machine.atomic_shared, into=variable, old=variable, address=address,
                   x=value, slot=slot, op=i.op, predicate=first, plus=plus)  # fmt: skip
    return _result(s, i, variable)


def _operands(s: Selection, i: Atomic) -> tuple[Value, Value | None]:
    """The value as a tensor, and a variable for what was there before where someone reads it."""
    value = _tensor(s, i)
    _require_atomic(value)
    if not s.is_used(i.result):
        return value, None
    return value, s.undefined(value.type, i.result.name)


def _tensor(s: Selection, i: Atomic) -> Value:
    if i.target.shape:
        return as_tensor(s, i)
    # One element: held by the first thread, as a tensor of no dimensions.
    layout = RegisterLayout((), (), (-i.scope.threads,), ())
    return s.emit(Fill, value=s.operand(i.value), dtype=i.target.dtype, shape=(), layout=layout)


def _result(s: Selection, i: Atomic, variable: Value | None) -> Any:
    """What was there, in every thread that holds an element: only the first of them saw it."""
    if variable is None:
        return Immediate(0)
    layout = variable.type.layout
    if layout.replication > 1:
        variable = exchange(s, variable, layout)
    if i.target.shape:
        return variable
    mine = s.emit(Pick, x=variable, slots=(0,), layout=spatial(i.scope.threads))
    return s.emit(Uniform, x=mine)
