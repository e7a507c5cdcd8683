"""How NVIDIA GPUs from sm_80 on do the core instructions."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from vm.compiler.addresses import GlobalAccess, SharedAccess, Vector, thread_digits
from vm.compiler.rules import Refused, RuleSet
from vm.compiler.selection import Selection
from vm.compiler.targets.common import COMMON
from vm.compiler.targets.target import Target
from vm.isa import asynchronous, control, nvidia
from vm.isa.dtypes import dtype
from vm.isa.elementwise import (
    Add,
    And,
    BitAnd,
    Divide,
    Maximum,
    Minimum,
    Modulo,
    Or,
    Subtract,
)
from vm.isa.instruction import Instruction
from vm.isa.lanes import Pick, Uniform, file_layout
from vm.isa.matrix import Dot
from vm.isa.memory import Load, LoadScalar, SharedAllocate, Store
from vm.isa.registers import Cast, Fill, Reduce, Relayout, View
from vm.isa.synchronization import Synchronize
from vm.isa.types import INDEX, Immediate, RegisterType, Value, whole_tile
from vm.layouts import FRAGMENTS, LayoutError, RegisterLayout, default_layout, dot_layout, spatial
from vm.layouts.memory import shared

NVIDIA = RuleSet("nvidia", COMMON)
rule = NVIDIA.rule

WARP = 32


# --- global memory ---
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
    _global_loads(s, access, variable)
    return variable


def _global_loads(s: Selection, access: GlobalAccess, variable: Value) -> None:
    for vector in access.vectors():
        offset, plus = access.offset(vector)
        s.emit(
            nvidia.LoadGlobal, into=variable, x=variable, base=access.whole,
            offset=offset, predicate=access.predicate(vector), plus=plus, bytes=access.bytes,
            at=vector.slot * access.bits // 8,
        )  # fmt: skip


@rule(Load)
def load_global_bits(s: Selection, i: Load) -> Value:
    """One element at a time, wherever in a byte it begins."""
    if i.source.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    access = GlobalAccess(s, s.operand(i.source), i.result.type.layout, i.inside)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    for vector in access.vectors():
        s.emit(
            nvidia.LoadGlobalBits, into=variable, x=variable, base=access.whole,
            bit=access.bit_offset(vector), predicate=access.predicate(vector), slot=vector.slot,
        )  # fmt: skip
    return variable


@rule(Store)
def store_global_vectors(s: Selection, i: Store) -> None:
    """One store of up to 16 bytes for each run of neighbouring elements."""
    if i.target.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    value = _as_tensor(s, i)
    access = GlobalAccess(s, s.operand(i.target), value.type.layout, i.inside)
    if access.bytes == 0:
        raise Refused("the elements do not fill bytes")
    first = s.first_copy(value.type.layout, s.thread())
    for vector in access.vectors():
        offset, plus = access.offset(vector)
        s.emit(
            nvidia.StoreGlobal, base=access.whole, offset=offset, x=value,
            predicate=s.both(first, access.predicate(vector)), plus=plus, bytes=access.bytes,
            at=vector.slot * access.bits // 8,
        )  # fmt: skip


@rule(Store)
def store_global_bits(s: Selection, i: Store) -> None:
    """One element at a time, leaving the other bits of its bytes alone."""
    if i.target.base.type.space != "global":
        raise Refused("the tile is in shared memory")
    value = _as_tensor(s, i)
    access = GlobalAccess(s, s.operand(i.target), value.type.layout, i.inside)
    first = s.first_copy(value.type.layout, s.thread())
    for vector in access.vectors():
        s.emit(
            nvidia.StoreGlobalBits, base=access.whole, bit=access.bit_offset(vector),
            x=value, predicate=s.both(first, access.predicate(vector)), slot=vector.slot,
        )  # fmt: skip


def _as_tensor(s: Selection, i: Store) -> Value:
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
            s.emit(nvidia.LoadGlobal, into=variable, x=variable, base=access.whole,
                   offset=offset, plus=plus, bytes=access.bytes)  # fmt: skip
        else:
            s.emit(nvidia.LoadGlobalBits, into=variable, x=variable, base=access.whole,
                   bit=access.bit_offset(vector), slot=0)  # fmt: skip
    else:
        shared = SharedAccess(s, tile, scalar)
        if shared.bytes:
            ((address, plus),) = shared.addresses([0])
            s.emit(nvidia.LoadShared, into=variable, x=variable, address=address, plus=plus,
                   bytes=shared.bytes)  # fmt: skip
        else:
            (bit,) = shared.bit_addresses([0])
            s.emit(nvidia.LoadSharedBits, into=variable, x=variable, bit=bit, slot=0)
    return s.emit(Uniform, x=variable)


# --- shared memory ---
@rule(Load)
def load_matrices(s: Selection, i: Load) -> Value:
    """ldmatrix: four 8 x 8 matrices of 16-bit elements at once, transposed where it helps."""
    if i.source.base.type.space != "shared":
        raise Refused("the tile is in global memory")
    layout, kind = i.result.type.layout, i.source.dtype
    access = SharedAccess(s, s.operand(i.source), layout)
    transposed, rows = _matrices(access, layout, kind.bits)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    count = next(n for n in (4, 2, 1) if rows.words % n == 0)
    for at, (address, plus) in rows.addresses(s, count):
        s.emit(nvidia.LoadMatrix, into=variable, x=variable, address=address, at=at, count=count,
               transposed=transposed, plus=plus)  # fmt: skip
    return variable


class _Rows:
    """The rows of the 8 x 8 matrices that a layout's words are parts of.

    `thread` and `slot` say, for row r of the matrix of word w, whose element is its first.
    """

    def __init__(self, access: SharedAccess, layout: RegisterLayout, transposed: bool):
        self.access, self.layout, self.transposed = access, layout, transposed
        self.words = layout.slots // 2

    def of(self, thread: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(thread, slot) that holds the first element of the row that `thread` addresses."""
        row, warp = thread % 8, thread // WARP * WARP
        if self.transposed:
            return warp + row // 2, 2 * word + row % 2
        return warp + 4 * row, 2 * word

    def addresses(self, s: Selection, count: int):
        """For each group of `count` words: (first word, (address per thread, plus))."""
        layout = self.layout
        threads = np.arange(layout.threads)
        matrix = threads % WARP // 8 % count
        firsts = np.arange(0, self.words, count)
        holder, slot = self.of(threads[:, None], firsts[None, :] + matrix[:, None])
        table = self.access.table[holder, slot]
        index = layout.table()[holder, slot]  # [threads, groups, rank]
        parts = self._thread_parts(s, index[:, 0] - index[0, 0], count)
        constants = [tuple(int(v) for v in index[0, g]) for g in range(len(firsts))]
        expected = index[:, :1] + (index[:1] - index[:1, :1])
        if not np.array_equal(index, expected):
            raise Refused("the rows of the matrices are not spread evenly over the threads")
        placed = self.access.place(parts, constants, table)
        return list(zip((int(f) for f in firsts), placed, strict=True))

    def _thread_parts(self, s: Selection, index: np.ndarray, count: int) -> list[Any]:
        """The index [threads, rank] as arithmetic: a sum over the bits of the thread number."""
        threads, rank = index.shape
        bits = (threads - 1).bit_length()
        steps = [index[1 << b] for b in range(bits)]
        numbers = np.arange(threads)
        total = sum(
            ((numbers >> b & 1)[:, None] * steps[b][None, :] for b in range(bits)),
            np.zeros_like(index),
        )
        if threads & (threads - 1) or not np.array_equal(total, index):
            raise Refused("the rows of the matrices are no sum over the bits of the thread")
        return [self._bit_sum(s, [int(step[axis]) for step in steps]) for axis in range(rank)]

    def _bit_sum(self, s: Selection, steps: list[int]) -> Any:
        """sum of steps[b] * bit b of the thread, runs of doubling steps taken together."""
        thread, terms, b = s.thread(), [Immediate(0, INDEX)], 0
        while b < len(steps):
            end = b + 1
            while end < len(steps) and steps[end] == 2 * steps[end - 1]:
                end += 1
            if steps[b]:
                field = s.compute(Divide, thread, 1 << b)
                if end < len(steps):
                    field = s.compute(BitAnd, field, (1 << (end - b)) - 1)
                terms.append(s.multiply(field, steps[b]))
            b = end
        return s.add(*terms)


def _matrices(access: SharedAccess, layout: RegisterLayout, bits: int) -> tuple[bool, _Rows]:
    """Whether words are parts of 8 x 8 matrices as they lie or transposed; refuses otherwise."""
    if bits != 16 or layout.slots % 2 or layout.threads % WARP:
        raise Refused("matrices have 16-bit elements, two in each word, and belong to warps")
    if not access.movable or not access.writer.facts.divides(8, access.moved):
        raise Refused("rows of matrices begin at multiples of 16 bytes")
    table = access.table
    lanes = np.arange(layout.threads)
    for transposed in (False, True):
        rows = _Rows(access, layout, transposed)
        word = np.arange(rows.words)
        fits = True
        for element in (0, 1):
            g, t = lanes % WARP // 4, lanes % WARP % 4
            row, column = (2 * t + element, g) if transposed else (g, 2 * t + element)
            asked = lanes // WARP * WARP + row
            holder, slot = rows.of(asked[:, None], word[None, :])
            start = table[holder, slot]
            here = table[:, 2 * word + element]
            fits &= bool((start % 8 == 0).all()) and np.array_equal(here, start + column[:, None])
        if fits:
            return transposed, rows
    raise Refused("no word is a part of an 8 x 8 matrix whose rows are 16 bytes of memory")


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
        s.emit(nvidia.LoadShared, into=variable, x=variable, address=address, plus=plus,
               bytes=access.bytes, at=vector.slot * access.bits // 8)  # fmt: skip
    return variable


@rule(Load)
def load_shared_bits(s: Selection, i: Load) -> Value:
    """One element at a time, wherever in a byte it begins."""
    access = SharedAccess(s, s.operand(i.source), i.result.type.layout)
    variable = s.target_variable(i)
    s.make_undefined(variable)
    slots = list(range(i.result.type.layout.slots))
    for slot, bit in zip(slots, access.bit_addresses(slots), strict=True):
        s.emit(nvidia.LoadSharedBits, into=variable, x=variable, bit=bit, slot=slot)
    return variable


@rule(Store)
def store_shared_vectors(s: Selection, i: Store) -> None:
    """One store of up to 16 bytes for each run of neighbouring elements."""
    value = _as_tensor(s, i)
    access = SharedAccess(s, s.operand(i.target), value.type.layout)
    if access.bytes == 0:
        raise Refused("the elements do not fill bytes")
    _shared_stores(s, access, value)


def _shared_stores(s: Selection, access: SharedAccess, value: Value) -> None:
    first = s.first_copy(value.type.layout, s.thread())
    found = access.vectors()
    for vector, (address, plus) in zip(found, access.addresses([v.slot for v in found]),
                                       strict=True):  # fmt: skip
        s.emit(nvidia.StoreShared, address=address, x=value, predicate=first, plus=plus,
               bytes=access.bytes, at=vector.slot * access.bits // 8)  # fmt: skip


@rule(Store)
def store_shared_bits(s: Selection, i: Store) -> None:
    """One element at a time, leaving the other bits of its bytes alone."""
    value = _as_tensor(s, i)
    access = SharedAccess(s, s.operand(i.target), value.type.layout)
    first = s.first_copy(value.type.layout, s.thread())
    slots = list(range(value.type.layout.slots))
    for slot, bit in zip(slots, access.bit_addresses(slots), strict=True):
        s.emit(nvidia.StoreSharedBits, bit=bit, x=value, predicate=first, slot=slot)


# --- asynchronous copies ---
@rule(asynchronous.CopyAsync)
def copy_with_cp_async(s: Selection, i: asynchronous.CopyAsync) -> None:
    """cp.async of 16, 8 or 4 bytes by each thread."""
    source, target = s.operand(i.source), s.operand(i.target)
    bits = source.dtype.bits
    if 128 % bits:
        raise Refused(f"16 bytes are no whole number of {source.dtype.name}")
    for size in (16, 8, 4):
        count = size * 8 // bits
        if count == 0 or source.shape[-1] % count:
            continue
        layout = default_layout(source.shape, i.scope.threads, count)
        here = GlobalAccess(s, source, layout, i.inside)
        there = SharedAccess(s, target, layout)
        if here.vector % count == 0 and there.vector % count == 0:
            break
    else:
        raise Refused("no run of 4 bytes is aligned on both sides")
    first = s.first_copy(layout, s.thread())
    vectors = [Vector(v, count, tuple(int(x) for x in layout.table()[0, v]))
               for v in range(0, layout.slots, count)]  # fmt: skip
    places = there.addresses([v.slot for v in vectors])
    for vector, (address, plus) in zip(vectors, places, strict=True):
        offset, more = here.offset(vector)
        offset = s.compute(Add, offset, more) if more else offset
        predicate = here.predicate(vector)
        if first is not None:
            # A false predicate would write zeros over what the first copy brings.
            raise Refused("several threads would copy the same elements")
        s.emit(nvidia.CopyAsync, address=address, base=here.whole, offset=offset,
               predicate=predicate, plus=plus, bytes=size)  # fmt: skip


@rule(asynchronous.CopyAsync)
def copy_through_registers(s: Selection, i: asynchronous.CopyAsync) -> None:
    """An ordinary load and store, at once: what cp.async cannot align."""
    source, target = s.operand(i.source), s.operand(i.target)
    kind = source.dtype
    layout = default_layout(source.shape, i.scope.threads, max(1, 128 // kind.bits))
    here, there = GlobalAccess(s, source, layout, i.inside), SharedAccess(s, target, layout)
    if here.bytes == 0 or there.bytes == 0:
        raise Refused("the elements do not fill bytes")
    value = s.undefined(RegisterType(kind, source.shape, layout))
    _global_loads(s, here, value)
    _shared_stores(s, there, value)


# --- matrices ---
@rule(Dot)
def multiply_with_tensor_cores(s: Selection, i: Dot) -> Value:
    """mma.sync: one instruction of each warp for each fragment."""
    a, b = s.operand(i.a), s.operand(i.b)
    c = s.operand(i.c) if i.c is not None else None
    result = s.result_type(i.result)
    found = _dot_layout(a, b, result, i)
    variable = s.target_variable(i, (a, b))
    if c is None:
        s.emit(Fill, into=variable, value=Immediate(0), dtype=result.dtype, shape=result.shape,
               layout=result.layout)  # fmt: skip
    elif c is not variable:
        s.emit(control.Copy, into=variable, x=c)
    name = _fragment_name(found.fragment, a.type.dtype.name, b.type.dtype.name)
    for slots_a, slots_b, slots_c in found.steps():
        s.emit(
            nvidia.MatrixMultiply, into=variable, c=variable, a=a, b=b, fragment=name,
            at_a=_words(slots_a, a.type.dtype.bits), at_b=_words(slots_b, b.type.dtype.bits),
            at_c=_words(slots_c, result.dtype.bits),
        )  # fmt: skip
    return variable


def _dot_layout(a: Value, b: Value, c: RegisterType, i: Dot) -> Any:
    (m, k), n = a.type.shape, b.type.shape[1]
    for run in (1, 2, 4, 8):
        try:
            found = dot_layout(m, n, k, a.type.dtype.bits, i.scope.warps,
                               accumulator_bits=c.dtype.bits, k_run=run)  # fmt: skip
        except LayoutError:
            continue
        if (found.a, found.b, found.c) == (a.type.layout, b.type.layout, c.layout):
            return found
    raise Refused(f"{a.type.layout} and {b.type.layout} are no operands of one fragment")


def _fragment_name(fragment: Any, a: str, b: str) -> str:
    """The row of the table for these dtypes with the fragment's extents."""
    for name, row in FRAGMENTS.items():
        same = (row.m, row.n, row.k, row.bits) == (
            fragment.m, fragment.n, fragment.k, fragment.bits
        )  # fmt: skip
        if same and row.operands.keys() >= {"a", "b"} and any(d[:2] == (a, b) for d in row.dtypes):
            return name
    raise Refused(f"{fragment.name} has no form for {a} and {b}")


def _words(slots: np.ndarray, bits: int) -> tuple[int, ...]:
    per_word = 32 // bits
    groups = slots.reshape(-1, per_word)
    if (groups[:, 0] % per_word).any() or (np.diff(groups, axis=1) != 1).any():
        raise Refused("elements of a fragment do not lie in words")
    return tuple(int(g) // per_word for g in groups[:, 0])


# --- between threads ---
_COMBINE = {"sum": Add, "max": Maximum, "min": Minimum, "any": Or, "all": And}


@rule(Reduce)
def reduce_slots_then_lanes_then_warps(s: Selection, i: Reduce) -> Value:
    """Slots in each thread, then lanes by shuffles, then warps through shared memory."""
    x = s.operand(i.x)
    layout, result = x.type.layout, s.result_type(i.result)
    combine, threads = _COMBINE[i.op], layout.threads
    kept = layout.reduce([i.axis])
    partial = _reduce_slots(s, x, kept, i.axis, combine)
    outside = []
    for divisor, size in _reduced_digits(layout, i.axis):
        if divisor * size <= WARP and size & (size - 1) == 0:
            mask = divisor
            while mask < divisor * size:
                other = s.emit(nvidia.ShuffleXor, x=partial, mask=mask)
                partial = s.emit(combine, x=partial, y=other)
                mask *= 2
        else:
            outside.append((divisor, size))
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


def _reduced_digits(layout: RegisterLayout, axis: int) -> list[tuple[int, int]]:
    """(divisor, size) of the digits of the thread number that belong to the axis; a digit that
    lies partly within a warp is split there."""
    digits = []
    for digit in thread_digits(layout):
        if digit.axis != axis:
            continue
        inside = WARP // digit.divisor if digit.divisor < WARP else 1
        if 1 < inside < digit.size and digit.size % inside == 0:
            digits += [(digit.divisor, inside), (WARP, digit.size // inside)]
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
        s.emit(nvidia.StoreShared, address=mine, x=partial, bytes=size, at=slot * size,
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
            s.emit(nvidia.LoadShared, into=part, x=part, address=start, bytes=size,
                   at=slot * size, plus=(slot * threads + step) * size)  # fmt: skip
        total = part if total is None else s.emit(combine, x=total, y=part)
    return total


@rule(Relayout)
def relayout_through_shared(s: Selection, i: Relayout) -> Value:
    """Written to shared memory by those who hold it and read by those who will."""
    x = s.operand(i.x)
    kind, shape = x.type.dtype, x.type.shape
    if kind.bits % 8:
        wide = "f16" if kind.is_float else "u8" if kind.kind == "unsigned" else "i8"
        widened = s.emit(Cast, x=x, dtype=dtype(wide))
        moved = _through_shared(s, widened, i.layout, shape)
        return s.emit(Cast, x=moved, dtype=kind)
    return _through_shared(s, x, i.layout, shape)


def _through_shared(s: Selection, x: Value, layout: RegisterLayout, shape: tuple) -> Value:
    kind = x.type.dtype
    memory = shared(*shape)
    address = s.scratch(prod(shape) * kind.bits // 8)
    allocated = s.emit(SharedAllocate, dtype=kind, shape=shape, layout=memory, address=address)
    tile = whole_tile(allocated, s.origin)
    s.emit(Synchronize)
    _shared_stores(s, SharedAccess(s, tile, x.type.layout), x)
    s.emit(Synchronize)
    result = s.undefined(RegisterType(kind, shape, layout))
    access = SharedAccess(s, tile, layout)
    found = access.vectors()
    for vector, (place, plus) in zip(found, access.addresses([v.slot for v in found]),
                                     strict=True):  # fmt: skip
        s.emit(nvidia.LoadShared, into=result, x=result, address=place, plus=plus,
               bytes=access.bytes, at=vector.slot * access.bits // 8)  # fmt: skip
    return result


def _target(name: str, capability: int, shared_kilobytes: int) -> Target:
    return Target(name, "nvidia", "nv.", capability, WARP, shared_kilobytes * 1024, 255, NVIDIA)


# Shared memory per block: CUDA C Programming Guide, table of technical specifications.
TARGETS = {
    target.name: target
    for target in (
        _target("sm_80", 80, 163),
        _target("sm_89", 89, 99),
        _target("sm_90a", 90, 227),
        _target("sm_100a", 100, 227),
        _target("sm_120", 120, 99),
    )
}
