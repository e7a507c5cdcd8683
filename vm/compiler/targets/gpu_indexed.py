"""Gather, scatter, table and atomic accesses on GPUs: one element at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vm.compiler.addresses import (
    GlobalAccess,
    SharedAccess,
    Vector,
    slot_index,
    whole_bytes,
)
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection, slots_of
from vm.compiler.targets.common import COMMON
from vm.compiler.targets.gpu_global import as_tensor
from vm.compiler.targets.gpu_threads import exchange
from vm.isa.elementwise import GreaterEqual, Less, ShiftRight
from vm.isa.lanes import Pick, Uniform
from vm.isa.memory import Atomic, Gather, Scatter
from vm.isa.registers import Fill
from vm.isa.tables import Lookup
from vm.isa.types import INDEX, Immediate, Tile, Value
from vm.layouts import RegisterLayout, spatial

rule = COMMON.rule

# The index (i32, one in each thread) at which a slot finds its element along the indexed axis.
Index = Callable[[int], Value]


def _of_vector(s: Selection, indices: Value, axis: int, layout: RegisterLayout) -> Index:
    """Indices along an axis of a tile from a vector of them."""
    index = layout.table()[..., axis : axis + 1]
    slots = slots_of(indices.type.layout, index)
    if slots is None:
        raise Refused("threads do not hold the indices of their elements")
    threads = layout.threads
    return lambda slot: s.emit(Pick, x=indices, slots=(slots[slot],), layout=spatial(threads))


def _within(s: Selection, index: Value, extent: Any) -> Any:
    """Whether an index lies in a tile."""
    low = None if s.facts.is_natural(index) else s.compute(GreaterEqual, index, 0)
    return s.both(low, s.compute(Less, index, extent))


class _GlobalElements(GlobalAccess):
    """A tile of global memory, one of whose axes is indexed."""

    def __init__(self, s: Selection, tile: Tile, layout: RegisterLayout, axis: int, index: Index):
        super().__init__(s, tile, layout, False)
        self.axis, self.found_at = axis, index

    @property
    def vector(self) -> int:
        return 1

    def index(self, axis: int, vector: Vector) -> Any:
        position = self.axes.index(axis) if axis in self.axes else None
        if position != self.axis:
            return super().index(axis, vector)
        return self.writer.add(self.tile.offsets[axis], self.found)

    def at(self, slot: int, constant: tuple[int, ...]) -> tuple[Any, Any]:
        """(the bit at which a slot's element begins, i64 per thread; whether it is there)."""
        writer = self.writer
        vector = Vector(slot, 1, constant)
        self.found = self.found_at(slot)
        whole = writer.expression(self.tile.extents[self.axes[self.axis]])
        predicate = _within(writer, self.found, whole)
        for axis, extent in enumerate(self.extents):
            predicate = writer.both(predicate, _within(writer, self.index(axis, vector), extent))
        return self.bit_offset(vector), writer.spread(predicate)

    def load(self, variable: Value, slot: int, constant: tuple[int, ...]) -> None:
        s, size = self.writer, self.bytes
        bit, predicate = self.at(slot, constant)
        if size:
            s.emit(s.machine.load_global, into=variable, x=variable, base=self.whole,
                   offset=s.compute(ShiftRight, bit, 3), predicate=predicate, bytes=size,
                   at=slot * size)  # fmt: skip
        else:
            s.emit(s.machine.load_global_bits, into=variable, x=variable, base=self.whole,
                   bit=bit, predicate=predicate, slot=slot)  # fmt: skip

    def store(
        self, value: Value, slot: int, constant: tuple[int, ...], op: str, first: Any
    ) -> None:
        s, size = self.writer, self.bytes
        bit, there = self.at(slot, constant)
        predicate = s.both(first, there)
        if op == "store" and not size:
            s.emit(s.machine.store_global_bits, base=self.whole, bit=bit, x=value,
                   predicate=predicate, slot=slot)  # fmt: skip
            return
        offset = s.compute(ShiftRight, bit, 3)
        if op == "store":
            s.emit(s.machine.store_global, base=self.whole, offset=offset, x=value, bytes=size,
                   predicate=predicate, at=slot * size)  # fmt: skip
        else:
            s.emit(s.machine.reduce_global, base=self.whole, offset=offset, x=value, slot=slot,
                   op=op, predicate=predicate)  # fmt: skip


class _SharedElements:
    """A tile of shared memory, one of whose axes is indexed."""

    def __init__(self, s: Selection, tile: Tile, layout: RegisterLayout, axis: int, index: Index):
        self.s, self.axis, self.found_at = s, axis, index
        self.access = SharedAccess(s, tile, layout)
        # Of one element, whatever neighbours fill together.
        self.bytes = whole_bytes(self.access.bits)
        self.extent = tile.shape[axis]
        self.parts = s.thread_index(layout, s.thread())

    def at(self, slot: int, constant: tuple[int, ...]) -> tuple[list[Any], tuple[int, ...], Any]:
        """(index of a slot's element as parts and constants, whether it is there)."""
        found = self.found_at(slot)
        parts, rest = list(self.parts), list(constant)
        parts[self.axis], rest[self.axis] = found, 0
        return parts, tuple(rest), _within(self.s, found, self.extent)

    def load(self, variable: Value, slot: int, constant: tuple[int, ...]) -> None:
        s, size = self.s, self.bytes
        parts, rest, predicate = self.at(slot, constant)
        predicate = s.spread(predicate)
        if size:
            address, plus = self.access.general(parts, rest)
            s.emit(s.machine.load_shared, into=variable, x=variable, address=address, plus=plus,
                   predicate=predicate, bytes=size, at=slot * size)  # fmt: skip
        else:
            s.emit(s.machine.load_shared_bits, into=variable, x=variable, predicate=predicate,
                   bit=self.access.bit_address(parts, rest), slot=slot)  # fmt: skip

    def store(
        self, value: Value, slot: int, constant: tuple[int, ...], op: str, first: Any
    ) -> None:
        s, size = self.s, self.bytes
        parts, rest, there = self.at(slot, constant)
        predicate = s.spread(s.both(first, there))
        if op == "store" and not size:
            s.emit(s.machine.store_shared_bits, x=value, predicate=predicate,
                   bit=self.access.bit_address(parts, rest), slot=slot)  # fmt: skip
            return
        address, plus = self.access.general(parts, rest)
        if op == "store":
            s.emit(s.machine.store_shared, address=address, x=value, plus=plus, bytes=size,
                   predicate=predicate, at=slot * size)  # fmt: skip
        else:
            s.emit(s.machine.reduce_shared, address=address, x=value, plus=plus, slot=slot,
                   op=op, predicate=predicate)  # fmt: skip


def _elements(
    s: Selection, tile: Tile, layout: RegisterLayout, axis: int, index: Index
) -> _GlobalElements | _SharedElements:
    kind = _GlobalElements if tile.base.type.space == "global" else _SharedElements
    return kind(s, tile, layout, axis, index)


def _constants(layout: RegisterLayout) -> list[tuple[int, ...]]:
    """The constant part of each slot's index."""
    return [tuple(int(v) for v in constant) for constant in slot_index(layout)]


@rule(Gather)
def gather_elements(s: Selection, i: Gather) -> Value:
    """One load for each element, at the index that the thread holds for it."""
    layout = i.result.type.layout
    index = _of_vector(s, s.operand(i.indices), i.axis, layout)
    elements = _elements(s, s.operand(i.source), layout, i.axis, index)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    for slot, constant in enumerate(_constants(layout)):
        elements.load(variable, slot, constant)
    return variable


@rule(Scatter)
def scatter_elements(s: Selection, i: Scatter) -> None:
    """One store, or atomic access, for each element at the index that the thread holds for it."""
    value = s.operand(i.value)
    layout = value.type.layout
    index = _of_vector(s, s.operand(i.indices), i.axis, layout)
    elements = _elements(s, s.operand(i.target), layout, i.axis, index)
    first = s.first_copy(layout, s.thread())
    for slot, constant in enumerate(_constants(layout)):
        elements.store(value, slot, constant, i.op, first)


@rule(Lookup)
def look_up_in_registers(s: Selection, i: Lookup) -> Value:
    """Every thread holds the whole table, and chooses from it by the bits of each code."""
    if isinstance(i.table, Tile):
        raise Refused("the table is in memory")
    codes, table = s.operand(i.codes), s.operand(i.table)
    return s.emit(Lookup, None, i.result.name, codes=codes, table=table)


@rule(Lookup)
def look_up_in_memory(s: Selection, i: Lookup) -> Value:
    """One load for each element, at its code."""
    if not isinstance(i.table, Tile):
        raise Refused("the table is in registers")
    codes = s.operand(i.codes)
    layout = i.result.type.layout

    def index(slot: int) -> Value:
        mine = s.emit(Pick, x=codes, slots=(slot,), layout=spatial(layout.threads))
        return s.convert(mine, INDEX)

    elements = _elements(s, s.operand(i.table), spatial(layout.threads), 0, index)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    for slot in range(layout.slots):
        elements.load(variable, slot, (0,))
    return variable


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
