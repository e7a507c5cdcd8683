"""How GPUs reach shared memory, by ordinary loads and stores."""

from __future__ import annotations

from vm.compiler.addresses import GlobalAccess, SharedAccess
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection
from vm.compiler.targets.common import COMMON
from vm.compiler.targets.gpu_global import as_tensor, global_loads
from vm.isa import asynchronous
from vm.isa.memory import Load, Store
from vm.isa.types import RegisterType, Value
from vm.layouts import default_layout

rule = COMMON.rule


@rule(Load)
def load_shared_vectors(s: Selection, i: Load) -> Value:
    """One load of up to 16 bytes for each run of neighbouring elements."""
    if i.source.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    access = SharedAccess(s, s.operand(i.source), i.result.type.layout)
    if access.bytes == 0:
        raise Refused("the elements do not fill bytes")
    variable = s.target_variable(i)
    s.make_undefined(variable)
    found = access.vectors()
    for vector, (address, plus) in zip(found, access.addresses([v.slot for v in found]),
                                       strict=True):  # fmt: skip
        s.emit(s.machine.load_shared, into=variable, x=variable, address=address, plus=plus,
               bytes=access.bytes, at=vector.slot * access.bits // 8)  # fmt: skip
    return variable


@rule(Load, rank=2)
def load_shared_bits(s: Selection, i: Load) -> Value:
    """One element at a time, wherever in a byte it begins."""
    if i.source.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    access = SharedAccess(s, s.operand(i.source), i.result.type.layout)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    slots = list(range(i.result.type.layout.slots))
    for slot, bit in zip(slots, access.bit_addresses(slots), strict=True):
        s.emit(s.machine.load_shared_bits, into=variable, x=variable, bit=bit, slot=slot)
    return variable


@rule(Store)
def store_shared_vectors(s: Selection, i: Store) -> None:
    """One store of up to 16 bytes for each run of neighbouring elements."""
    if i.target.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    value = as_tensor(s, i)
    access = SharedAccess(s, s.operand(i.target), value.type.layout)
    if access.bytes == 0:
        raise Refused("the elements do not fill bytes")
    shared_stores(s, access, value)


def shared_stores(s: Selection, access: SharedAccess, value: Value) -> None:
    """Stores of all slots of a value: of bytes, or of one element wherever it begins."""
    first = s.first_copy(value.type.layout, s.thread())
    if not access.bytes:
        slots = list(range(value.type.layout.slots))
        for slot, bit in zip(slots, access.bit_addresses(slots), strict=True):
            s.emit(s.machine.store_shared_bits, bit=bit, x=value, predicate=first, slot=slot)
        return
    found = access.vectors()
    for vector, (address, plus) in zip(found, access.addresses([v.slot for v in found]),
                                       strict=True):  # fmt: skip
        s.emit(s.machine.store_shared, address=address, x=value, predicate=first, plus=plus,
               bytes=access.bytes, at=vector.slot * access.bits // 8)  # fmt: skip


@rule(Store, rank=2)
def store_shared_bits(s: Selection, i: Store) -> None:
    """One element at a time, leaving the other bits of its bytes alone."""
    if i.target.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    value = as_tensor(s, i)
    shared_stores(s, SharedAccess(s, s.operand(i.target), value.type.layout), value)


@rule(asynchronous.CopyAsync, rank=2)
def copy_through_registers(s: Selection, i: asynchronous.CopyAsync) -> None:
    """An ordinary load and store, at once."""
    source, target = s.operand(i.source), s.operand(i.target)
    kind = source.dtype
    layout = default_layout(source.shape, i.scope.threads, max(1, 128 // kind.bits))
    here, there = GlobalAccess(s, source, layout, i.inside), SharedAccess(s, target, layout)
    value = s.undefined(RegisterType(kind, source.shape, layout))
    global_loads(s, here, value)
    shared_stores(s, there, value)
