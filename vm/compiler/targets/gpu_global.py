"""How GPUs reach global memory."""

from __future__ import annotations

from vm.compiler.addresses import GlobalAccess, SharedAccess, Vector
from vm.compiler.rules import Refused
from vm.compiler.selection import Selection
from vm.compiler.targets.common import COMMON
from vm.isa.lanes import Uniform
from vm.isa.memory import GlobalView, Load, LoadScalar, Store
from vm.isa.registers import Fill
from vm.isa.types import Immediate, RegisterType, Tile, Value, whole_tile
from vm.layouts import RegisterLayout, default_layout, spatial

rule = COMMON.rule


@rule(GlobalView)
def view_from_a_tile(s: Selection, i: GlobalView) -> Value:
    """The place of the tile within its tensor becomes a number of bytes."""
    tile = s.operand(i.base)
    placed = [o for o in tile.offsets if not isinstance(o, Immediate) or o.value]
    if not placed:
        raise Refused("the view begins with its tensor")
    scalar = RegisterLayout((), (), (-i.scope.threads,), ())
    corner = Tile(tile.base, tile.offsets, (None,) * len(tile.offsets), tile.origin)
    begin = GlobalAccess(s, corner, scalar, True).place()
    if i.byte_offset is not None:
        begin = s.add(begin, s.operand(i.byte_offset))
    return s.emit(
        GlobalView, None, i.result.name, base=whole_tile(tile.base, tile.origin), dtype=i.dtype,
        offset=s.operand(i.offset), byte_offset=begin, strides=i.strides,
        extents=s.operand(i.extents),
    )  # fmt: skip


@rule(Load)
def load_global_vectors(s: Selection, i: Load) -> Value:
    """One load of up to 16 bytes for each run of neighbouring elements."""
    if i.source.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    access = GlobalAccess(s, s.operand(i.source), i.result.type.layout, i.inside)
    if access.bytes == 0:
        raise Refused("the elements do not fill bytes")
    variable = s.target_variable(i)
    s.make_undefined(variable)
    global_loads(s, access, variable)
    return variable


def global_loads(s: Selection, access: GlobalAccess, variable: Value) -> None:
    """Loads into all slots of a variable: of bytes, or of one element wherever it begins."""
    for vector in access.vectors():
        predicate = access.predicate(vector)
        if access.bytes:
            offset, plus = access.offset(vector)
            s.emit(
                s.machine.load_global, into=variable, x=variable, base=access.whole,
                offset=offset, predicate=predicate, plus=plus, bytes=access.bytes,
                at=vector.slot * access.bits // 8,
            )  # fmt: skip
        else:
            s.emit(
                s.machine.load_global_bits, into=variable, x=variable, base=access.whole,
                bit=access.bit_offset(vector), predicate=predicate, slot=vector.slot,
            )  # fmt: skip


@rule(Load, rank=2)
def load_global_bits(s: Selection, i: Load) -> Value:
    """One element at a time, wherever in a byte it begins."""
    if i.source.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    access = GlobalAccess(s, s.operand(i.source), i.result.type.layout, i.inside)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    global_loads(s, access, variable)
    return variable


@rule(Store)
def store_global_vectors(s: Selection, i: Store) -> None:
    """One store of up to 16 bytes for each run of neighbouring elements."""
    if i.target.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    value = as_tensor(s, i)
    access = GlobalAccess(s, s.operand(i.target), value.type.layout, i.inside)
    if access.bytes == 0:
        raise Refused("the elements do not fill bytes")
    first = s.first_copy(value.type.layout, s.thread())
    for vector in access.vectors():
        offset, plus = access.offset(vector)
        s.emit(
            s.machine.store_global, base=access.whole, offset=offset, x=value,
            predicate=s.both(first, access.predicate(vector)), plus=plus, bytes=access.bytes,
            at=vector.slot * access.bits // 8,
        )  # fmt: skip


@rule(Store, rank=2)
def store_global_bits(s: Selection, i: Store) -> None:
    """One element at a time, leaving the other bits of its bytes alone."""
    if i.target.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    value = as_tensor(s, i)
    access = GlobalAccess(s, s.operand(i.target), value.type.layout, i.inside)
    first = s.first_copy(value.type.layout, s.thread())
    for vector in access.vectors():
        s.emit(
            s.machine.store_global_bits, base=access.whole, bit=access.bit_offset(vector),
            x=value, predicate=s.both(first, access.predicate(vector)), slot=vector.slot,
        )  # fmt: skip


def as_tensor(s: Selection, i: Store) -> Value:
    """The stored value as a register tensor: a scalar fills one of the tile's shape."""
    value = s.operand(i.value)
    if isinstance(value, Value) and isinstance(value.type, RegisterType):
        return value
    shape, kind = i.target.shape, i.target.dtype
    layout = default_layout(shape, i.scope.threads, max(1, 128 // kind.bits))
    return s.emit(Fill, value=value, dtype=kind, shape=shape, layout=layout)


@rule(LoadScalar)
def load_scalar_by_every_thread(s: Selection, i: LoadScalar) -> Value:
    """Every thread loads the same element."""
    tile = s.operand(i.source)
    kind = tile.dtype
    layout = spatial(i.scope.threads)
    variable = s.undefined(RegisterType(kind, (i.scope.threads,), layout), i.result.name)
    scalar = RegisterLayout((), (), (-i.scope.threads,), ())
    if tile.base.type.space == "global":
        access = GlobalAccess(s, tile, scalar, True)
        vector = Vector(0, 1, ())
        if access.bytes:
            offset, plus = access.offset(vector)
            s.emit(s.machine.load_global, into=variable, x=variable, base=access.whole,
                   offset=offset, plus=plus, bytes=access.bytes)  # fmt: skip
        else:
            s.emit(s.machine.load_global_bits, into=variable, x=variable, base=access.whole,
                   bit=access.bit_offset(vector), slot=0)  # fmt: skip
    else:
        shared = SharedAccess(s, tile, scalar)
        if shared.bytes:
            ((address, plus),) = shared.addresses([0])
            s.emit(s.machine.load_shared, into=variable, x=variable, address=address, plus=plus,
                   bytes=shared.bytes)  # fmt: skip
        else:
            (bit,) = shared.bit_addresses([0])
            s.emit(s.machine.load_shared_bits, into=variable, x=variable, bit=bit, slot=0)
    return s.emit(Uniform, x=variable)
