"""Exchange between threads on GPUs: reductions and relayouts."""

from __future__ import annotations

from math import prod

from vm.compiler.addresses import SharedAccess, thread_digits, whole_bytes
from vm.compiler.selection import Selection
from vm.compiler.targets.common import COMMON
from vm.compiler.targets.gpu_shared import shared_stores
from vm.isa.dtypes import dtype
from vm.isa.elementwise import Add, And, Divide, Maximum, Minimum, Modulo, Or, Subtract
from vm.isa.instruction import Instruction
from vm.isa.lanes import Pick, file_layout
from vm.isa.registers import Cast, Reduce, Relayout, View
from vm.isa.synchronization import Synchronize
from vm.isa.types import RegisterType, SharedType, Value, whole_tile
from vm.layouts import Access, RegisterLayout, choose_swizzle

rule = COMMON.rule


_COMBINE = {"sum": Add, "max": Maximum, "min": Minimum, "any": Or, "all": And}


@rule(Reduce)
def reduce_slots_then_lanes_then_warps(s: Selection, i: Reduce) -> Value:
    """Slots in each thread, then lanes by shuffles, or by a vote of all lanes, then warps through
    shared memory."""
    x = s.operand(i.x)
    layout, result = x.type.layout, s.result_type(i.result)
    combine, threads = _COMBINE[i.op], layout.threads
    kept = layout.reduce(i.axis, keepdims=True)
    partial = _reduce_slots(s, x, kept, i.axis, combine)
    width = s.target.warp_width
    digits = _reduced_digits(layout, i.axis, width)
    inside = [(divisor, size) for divisor, size in digits if width % (divisor * size) == 0]
    outside = [digit for digit in digits if digit not in inside]
    if i.op in ("any", "all") and prod(size for _, size in inside) == width:
        partial = s.emit(s.machine.vote, x=partial, op=i.op)
        inside = []
    for divisor, size in inside:
        mask = divisor
        while mask < divisor * size:
            other = s.emit(s.machine.shuffle_xor, x=partial, mask=mask)
            partial = s.emit(combine, x=partial, y=other)
            mask *= 2
    if outside:
        partial = _reduce_through_memory(s, partial, outside, combine, threads)
    slots = tuple(range(kept.slots))
    return s.emit(Pick, None, i.result.name, x=partial, slots=slots, layout=result.layout)


def _reduce_slots(
    s: Selection, x: Value, kept: RegisterLayout, axis: int, combine: type[Instruction]
) -> Value:
    """A file with what the slots of each thread come to, one for each slot of `kept`."""
    layout, kind = x.type.layout, x.type.dtype
    index = layout.table()[0].copy()
    index[:, axis] = 0
    # Slots of the same remaining index are combined, as a tree.
    order: dict[tuple[int, ...], list[int]] = {}
    for slot, rest in enumerate(index):
        order.setdefault(tuple(int(v) for v in rest), []).append(slot)
    rows = [order[tuple(int(v) for v in rest)] for rest in kept.table()[0]]
    threads = layout.threads
    held = s.emit(View, x=x, dtype=kind, layout=file_layout(threads, layout.slots))
    parts = [
        s.emit(Pick, x=held, slots=tuple(row[n] for row in rows),
               layout=file_layout(threads, len(rows)))
        for n in range(len(rows[0]))
    ]  # fmt: skip
    while len(parts) > 1:
        pairs = [s.emit(combine, x=a, y=b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + (parts[-1:] if len(parts) % 2 else [])
    return parts[0]


def _reduced_digits(layout: RegisterLayout, axis: int, warp: int) -> list[tuple[int, int]]:
    """(divisor, size) of the digits of the thread number that belong to the axis; a digit that
    lies partly within a warp is split there."""
    digits = []
    for digit in thread_digits(layout):
        if digit.axis != axis:
            continue
        inside = warp // digit.divisor if warp % digit.divisor == 0 else 1
        if 1 < inside < digit.size and digit.size % inside == 0:
            digits += [(digit.divisor, inside), (warp, digit.size // inside)]
        else:
            digits.append((digit.divisor, digit.size))
    return digits


def _reduce_through_memory(
    s: Selection, partial: Value, digits: list[tuple[int, int]], combine: type[Instruction],
    threads: int,
) -> Value:  # fmt: skip
    """Every thread writes its partial results and reads those of the threads that differ from it
    in the given digits only."""
    slots, kind = partial.type.layout.slots, partial.type.dtype
    size = kind.bits // 8
    address = s.scratch(threads * slots * size)
    mine = s.add(s.multiply(s.thread(), size), address)
    s.emit(Synchronize)
    for slot in range(slots):
        s.emit(s.machine.store_shared, address=mine, x=partial, bytes=size, at=slot * size,
               plus=slot * threads * size)  # fmt: skip
    s.emit(Synchronize)
    # The thread number with the reduced digits 0, plus each value of these digits.
    base = s.thread()
    for divisor, count in digits:
        digit = s.compute(Modulo, s.compute(Divide, s.thread(), divisor), count)
        base = s.compute(Subtract, base, s.multiply(digit, divisor))
    start = s.add(s.multiply(base, size), address)
    steps = [0]
    for divisor, count in digits:
        steps = [step + divisor * n for step in steps for n in range(count)]
    total = None
    for step in steps:
        part = s.undefined(partial.type)
        for slot in range(slots):
            s.emit(s.machine.load_shared, into=part, x=part, address=start, bytes=size,
                   at=slot * size, plus=(slot * threads + step) * size)  # fmt: skip
        total = part if total is None else s.emit(combine, x=total, y=part)
    return total


@rule(Relayout, rank=2)
def relayout_through_shared(s: Selection, i: Relayout) -> Value:
    """Written to shared memory by those who hold it and read by those who will."""
    x = s.operand(i.x)
    kind, layout = x.type.dtype, x.type.layout
    if whole_bytes(kind.bits):
        return exchange(s, x, i.layout)
    # Their codes travel, as numbers of the next size that memory is accessed by.
    codes = s.emit(View, x=x, dtype=dtype(f"u{kind.bits}"), layout=layout)
    wide = dtype(f"u{kind.storage.itemsize * 8}")
    moved = exchange(s, s.emit(Cast, x=codes, dtype=wide), i.layout)
    narrow = s.emit(Cast, x=moved, dtype=dtype(f"u{kind.bits}"))
    return s.emit(View, x=narrow, dtype=kind, layout=i.layout)


def exchange(s: Selection, x: Value, layout: RegisterLayout) -> Value:
    """The elements, of whole bytes, as the first of their holders has them, in another layout."""
    kind, shape = x.type.dtype, x.type.shape
    address = s.scratch(prod(shape) * kind.bits // 8)
    accesses = Access(x.type.layout, write=True), Access(layout)
    free = choose_swizzle(shape, kind.bits, accesses, s.target.banks)
    # Nothing allocates it in the program: a value of its type is all that an access needs.
    memory = Value("scratch", SharedType(kind, shape, free), s.origin)
    tile = whole_tile(memory, s.origin)
    s.emit(Synchronize)
    shared_stores(s, SharedAccess(s, tile, x.type.layout, address), x)
    s.emit(Synchronize)
    result = s.undefined(RegisterType(kind, shape, layout))
    access = SharedAccess(s, tile, layout, address)
    found = access.vectors()
    for vector, (place, plus) in zip(found, access.addresses([v.slot for v in found]),
                                     strict=True):  # fmt: skip
        s.emit(s.machine.load_shared, into=result, x=result, address=place, plus=plus,
               bytes=access.bytes, at=vector.slot * access.bits // 8)  # fmt: skip
    return result
