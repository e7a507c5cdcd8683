"""Rules that every GPU shares: they need nothing but slots, threads and other core instructions."""

from __future__ import annotations

import numpy as np

from vm.compiler.addresses import slot_index
from vm.compiler.rules import Refused, RuleSet
from vm.compiler.selection import Selection
from vm.isa import control
from vm.isa.elementwise import ARITHMETIC, Add
from vm.isa.lanes import Pick, SlotConstants, Uniform
from vm.isa.registers import Broadcast, Cast, Fill, Iota, Item, Relayout, Repeat, Reshape, Transpose
from vm.isa.types import INDEX, Value
from vm.layouts import spatial

COMMON = RuleSet("common")
rule = COMMON.rule


@rule(Iota)
def positions_of_threads_and_slots(s: Selection, i: Iota) -> Value:
    """The thread's part of the position, the same in all slots, plus the slot's part."""
    type_ = s.result_type(i.result)
    layout = type_.layout
    # Types that only store are counted in i32 and cast.
    kind = type_.dtype if type_.dtype.name in ARITHMETIC else INDEX
    part = s.convert(s.thread_index(layout, s.thread())[i.axis], kind)
    base = s.emit(Pick, x=s.spread(part), slots=(0,) * layout.slots, layout=layout)
    constants = s.emit(SlotConstants, values=tuple(int(v) for v in slot_index(layout)[:, i.axis]),
                       dtype=kind, layout=layout)  # fmt: skip
    counted = s.emit(Add, None, i.result.name, x=base, y=constants)
    return counted if kind == type_.dtype else s.emit(Cast, x=counted, dtype=type_.dtype)


@rule(Transpose)
def axes_renamed(s: Selection, i: Transpose) -> Value:
    """The slots stay where they are."""
    index = i.result.type.layout.table()
    source = np.empty_like(index)
    source[..., list(i.order)] = index
    return _moved(s, i, source)


@rule(Reshape)
def extents_renamed(s: Selection, i: Reshape) -> Value:
    """The slots stay where they are."""
    flat = i.result.type.layout.flat()
    return _moved(s, i, np.stack(np.unravel_index(flat, i.x.type.shape), axis=-1))


@rule(Broadcast)
def slots_repeated(s: Selection, i: Broadcast) -> Value:
    """Each slot of the result takes the slot that holds its element."""
    shape = i.x.type.shape
    index = i.result.type.layout.table()[..., len(i.shape) - len(shape) :]
    return _moved(s, i, np.where(np.array(shape) == 1, 0, index))


@rule(Repeat)
def slots_repeated_in_a_row(s: Selection, i: Repeat) -> Value:
    """Each slot of the result takes the slot that holds its element."""
    index = i.result.type.layout.table().copy()
    index[..., i.axis] //= i.count
    return _moved(s, i, index)


def _moved(s: Selection, i, index: np.ndarray) -> Value:
    layout = i.result.type.layout
    x = s.operand(i.x)
    source = x.type.layout
    if layout is None or source is None:
        raise Refused("the layouts are not known")
    value = s.picked(x, index, layout, source)
    if value is x:
        value = s.emit(control.Copy, x=x)
    return value


@rule(Relayout)
def slots_renamed(s: Selection, i: Relayout) -> Value:
    """Every thread holds what it needs already, in other slots."""
    return _moved(s, i, i.layout.table())


@rule(Item)
def held_by_every_thread(s: Selection, i: Item) -> Value:
    """Every thread holds the element."""
    x = s.operand(i.x)
    layout = x.type.layout
    if layout.replication != layout.threads:
        raise Refused(f"only {layout.replication} of {layout.threads} threads hold it")
    mine = s.emit(Pick, x=x, slots=(0,), layout=spatial(layout.threads))
    return s.emit(Uniform, x=mine)


@rule(Fill)
def filled_where_declared(s: Selection, i: Fill) -> Value:
    """Every slot gets the value; its layout is that of the variable it goes to."""
    variable = s.target_variable(i)
    type_ = variable.type
    s.emit(Fill, into=variable, value=s.operand(i.value), dtype=type_.dtype, shape=type_.shape,
           layout=type_.layout)  # fmt: skip
    return variable


