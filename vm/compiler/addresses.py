"""Where each thread's part of a tile lies: index arithmetic for global and shared memory.

An index of a register layout is the sum of a part that depends on the thread and a part that
depends on the slot. The first becomes per-thread arithmetic, computed once; the second constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod
from typing import Any

import numpy as np

from vm.compiler.facts import Facts
from vm.compiler.rewrite import Rewriter
from vm.isa import syntax
from vm.isa.dtypes import DType, dtype
from vm.isa.elementwise import (
    Add,
    And,
    BitAnd,
    BitXor,
    CeilDivide,
    Divide,
    Equal,
    GreaterEqual,
    Less,
    Maximum,
    Minimum,
    Modulo,
    Multiply,
    ShiftRight,
    Subtract,
)
from vm.isa.lanes import Spread, ThreadIndex
from vm.isa.types import INDEX, GlobalType, Immediate, Tile, Value, whole_tile
from vm.layouts import RegisterLayout
from vm.layouts.memory import MemoryLayout

I64 = dtype("i64")
WIDEST_BYTES = 16

_OPERATORS = {"+": Add, "-": Subtract, "*": Multiply, "/": Divide, "%": Modulo}
_FUNCTIONS = {"ceil_div": CeilDivide, "min": Minimum, "max": Maximum}


@dataclass(frozen=True)
class Digit:
    """One digit of a thread number: (thread / divisor) % size; it adds digit * stride to `axis`."""

    axis: int | None
    divisor: int
    size: int
    stride: int


def thread_digits(layout: RegisterLayout) -> list[Digit]:
    """The digits of the thread number in a layout; copies have no axis."""
    digits, divisor = [], layout.threads
    for mode, size in zip(layout.spatial_modes, layout.spatial_sizes, strict=True):
        divisor //= size
        axis = layout.mode_axes[mode] if mode >= 0 else None
        stride = layout.mode_strides[mode] if mode >= 0 else 0
        digits.append(Digit(axis, divisor, size, stride))
    return digits


class AddressWriter(Rewriter):
    """A rewriter that can compute indices and addresses."""

    facts: Facts

    # --- arithmetic ---
    def add(self, *terms: Any) -> Any:
        """The sum, those terms first that are known in outer blocks, so that they are hoisted;
        constants last, so that sums which differ in them share the rest."""
        ordered = sorted(terms, key=self._depth_of)
        total = ordered[0]
        for term in ordered[1:]:
            total = self.compute(Add, total, term)
        return total

    def _depth_of(self, operand: Any) -> int:
        return self._depth.get(operand, 0) if isinstance(operand, Value) else 1 << 30

    def multiply(self, x: Any, y: Any) -> Any:
        return self.compute(Multiply, x, y)

    def both(self, x: Any, y: Any) -> Any:
        """The conjunction of two predicates, either of which may be None for true."""
        if x is None or y is None:
            return y if x is None else x
        return self.compute(And, x, y)

    def expression(self, node: Any, kind: DType = INDEX) -> Any:
        """An extent (a number, a value, or an expression over sizes) as an operand."""
        if isinstance(node, int):
            return Immediate(node, kind)
        if isinstance(node, Value):
            return self.convert(self.values.get(node, node), kind)
        match node:
            case syntax.Literal(value):
                return Immediate(value, kind)
            case syntax.Name(text):
                return self.convert(self.named[text], kind)
            case syntax.Operation(operator, (x, y)):
                parts = self.expression(x, kind), self.expression(y, kind)
                return self.compute(_OPERATORS[operator], *parts)
            case syntax.Call(function, (x, y)):
                parts = self.expression(x, kind), self.expression(y, kind)
                return self.compute(_FUNCTIONS[function], *parts)
        raise AssertionError(f"an extent that is no integer expression: {node}")

    @cached_property
    def named(self) -> dict[str, Value]:
        kernel = self.kernel
        return {value.name: value for value in (*kernel.sizes, *kernel.parameters)}

    def spread(self, operand: Any) -> Any:
        """The operand as a per-thread value, also where it is the same for all threads."""
        if isinstance(operand, Value) and operand.type.space == "register":
            return operand
        made = self._make(Spread, {"x": operand})
        return self._place(made, Value(None, made.check(), self.origin))

    def shared_address(self, memory: Value) -> Any:
        """The byte at which a shared tensor begins, as it was planned."""
        return Immediate(self.facts.definitions[memory].address, INDEX)

    # --- threads ---
    def thread(self) -> Value:
        """The index of the thread in its group: i32, one in each thread."""
        made = self._make(ThreadIndex, {})
        level = 0 if self.scope.group is None else len(self._blocks) - 1
        key = (ThreadIndex, self.scope.group)
        for known in self._known[: level + 1]:
            if key in known:
                return known[key]
        value = Value(None, made.check(), self.origin)
        made.results = (value,)
        self._depth[value] = level
        self._blocks[level].insert(0, made)
        self.defined(made)
        self._known[level][key] = value
        return value

    def digit(self, thread: Any, digit: Digit, threads: int) -> Any:
        """The digit of a thread number, i32."""
        quotient = self.compute(Divide, thread, digit.divisor)
        if digit.divisor * digit.size == threads:
            return quotient
        return self.compute(Modulo, quotient, digit.size)

    def thread_index(self, layout: RegisterLayout, thread: Any) -> list[Any]:
        """For each axis the part of the index that depends on the thread: i32 or a constant."""
        parts: list[Any] = [Immediate(0, INDEX)] * layout.rank
        for digit in thread_digits(layout):
            if digit.axis is not None:
                value = self.digit(thread, digit, layout.threads)
                scaled = self.multiply(value, digit.stride)
                parts[digit.axis] = self.add(parts[digit.axis], scaled)
        return parts

    def first_copy(self, layout: RegisterLayout, thread: Any) -> Any:
        """Whether a thread holds the first of several copies; None where there are none."""
        result = None
        for digit in thread_digits(layout):
            if digit.axis is None:
                value = self.digit(thread, digit, layout.threads)
                result = self.both(result, self.compute(Equal, value, 0))
        return result


def slot_index(layout: RegisterLayout) -> np.ndarray:
    """The part of the index that depends on the slot: [slots, rank]."""
    return layout.table()[0]


@dataclass(frozen=True)
class Vector:
    """Neighbouring slots that are neighbours in memory: one access."""

    slot: int
    count: int
    index: tuple[int, ...]


def vectors(layout: RegisterLayout, count: int) -> list[Vector]:
    """The slots in runs of `count`."""
    index = slot_index(layout)
    return [
        Vector(slot, count, tuple(int(i) for i in index[slot]))
        for slot in range(0, layout.slots, count)
    ]


def longest_run(layout: RegisterLayout) -> int:
    """How many slots from each multiple of it on are neighbours along the last axis, at a multiple
    of their number, in every thread."""
    if not layout.rank:
        return 1
    index = slot_index(layout)
    strides = [d.stride for d in thread_digits(layout) if d.axis == layout.rank - 1]
    run = layout.slots
    while run > 1:
        pieces = index.reshape(-1, run, layout.rank) if layout.slots % run == 0 else None
        if pieces is not None and all(stride % run == 0 for stride in strides):
            first = pieces[:, :1]
            step = np.zeros_like(pieces)
            step[..., -1] = np.arange(run)
            if np.array_equal(pieces, first + step) and not (first[..., -1] % run).any():
                return run
        run -= 1
    return 1


@dataclass
class GlobalAccess:
    """How a tile of global memory is reached by a layout: per vector an address and a predicate."""

    writer: AddressWriter
    tile: Tile
    layout: RegisterLayout
    inside: bool

    def __post_init__(self) -> None:
        writer, tile = self.writer, self.tile
        self.type: GlobalType = tile.base.type
        self.bits = self.type.dtype.bits
        self.extents = [writer.expression(extent) for extent in self.type.shape]
        # The axes of the tensor that axes of the tile are.
        self.axes = [a for a, extent in enumerate(tile.extents) if extent is not None]
        self.thread_parts = writer.thread_index(self.layout, writer.thread())
        self.pitches = self._pitches()
        self.whole = whole_tile(tile.base, tile.origin)

    def _pitches(self) -> list[Any]:
        """Bytes (i64) from one index to the next along each axis; None along packed elements."""
        writer, rank = self.writer, len(self.extents)
        if self.type.strides is not None:
            return [
                writer.multiply(writer.convert(writer.expression(s), I64), self.bits // 8)
                for s in self.type.strides
            ]
        pitches: list[Any] = [None] * rank
        if not rank:
            return pitches
        last = self.extents[-1]
        if self.bits % 8:
            bits = writer.compute(Multiply, writer.convert(last, I64), self.bits)
            row = writer.compute(CeilDivide, bits, 8)
        else:
            row = writer.compute(Multiply, writer.convert(last, I64), self.bits // 8)
            pitches[-1] = Immediate(self.bits // 8, I64)
        for axis in range(rank - 2, -1, -1):
            pitches[axis] = row
            row = writer.compute(Multiply, row, writer.convert(self.extents[axis], I64))
        return pitches

    @cached_property
    def vector(self) -> int:
        """Elements in one access: the most that alignment and clipping are known to allow."""
        run = longest_run(self.layout)
        last = len(self.extents) - 1
        if not self.axes or self.axes[-1] != last or self.type.strides is not None:
            run = 1
        count = gcd(run, max(1, WIDEST_BYTES * 8 // self.bits))
        while count > 1 and not self._allows(count):
            count = max(n for n in range(1, count) if count % n == 0)
        return count

    def _allows(self, count: int) -> bool:
        facts, bits = self.writer.facts, count * self.bits
        if bits % 8 or (bits // 8) & (bits // 8 - 1):
            return False
        size = bits // 8
        return (
            facts.alignment(self.tile.base) % size == 0
            and facts.divides(count, self.tile.offsets[-1])
            and facts.divides(count, self.extents[-1])
        )

    @property
    def bytes(self) -> int:
        """Bytes of one access; 0 where elements do not fill such as memory is accessed by."""
        return whole_bytes(self.vector * self.bits)

    def vectors(self) -> list[Vector]:
        return vectors(self.layout, self.vector)

    def index(self, axis: int, vector: Vector) -> Any:
        """The index of the vector's first element along an axis of the tensor."""
        writer, offset = self.writer, self.tile.offsets[axis]
        if axis not in self.axes:
            return offset
        position = self.axes.index(axis)
        return writer.add(offset, self.thread_parts[position], vector.index[position])

    def offset(self, vector: Vector) -> tuple[Any, int]:
        """(bytes from the beginning of the tensor, i64 per thread; constant bytes to add)."""
        writer = self.writer
        terms: list[Any] = []
        plus = 0
        for axis, pitch in enumerate(self.pitches):
            position = self.axes.index(axis) if axis in self.axes else None
            parts = [self.tile.offsets[axis]]
            if position is not None:
                parts.append(self.thread_parts[position])
            constant = vector.index[position] if position is not None else 0
            if pitch is None:  # packed elements: whole bytes, since vectors are
                parts = [writer.compute(Multiply, p, self.bits) for p in map(self._wide, parts)]
                terms += [writer.compute(ShiftRight, part, 3) for part in parts]
                plus += constant * self.bits // 8
                continue
            terms += [writer.compute(Multiply, self._wide(part), pitch) for part in parts]
            if isinstance(pitch, Immediate):
                plus += constant * pitch.value
            elif constant:
                terms.append(writer.compute(Multiply, pitch, constant))
        return writer.spread(writer.add(*terms)), plus

    def place(self) -> Any:
        """Bytes (i64, a scalar) from the beginning of the tensor to a tile of one element, which
        begins at a whole byte."""
        writer = self.writer
        terms: list[Any] = [Immediate(0, I64)]
        for offset, pitch in zip(self.tile.offsets, self.pitches, strict=True):
            if pitch is None:
                bits = writer.compute(Multiply, self._wide(offset), self.bits)
                terms.append(writer.compute(ShiftRight, bits, 3))
            else:
                terms.append(writer.compute(Multiply, self._wide(offset), pitch))
        return writer.add(*terms)

    def bit_offset(self, vector: Vector) -> Any:
        """Bits (i64 per thread) from the beginning of the tensor, for packed elements."""
        writer = self.writer
        terms: list[Any] = []
        for axis, pitch in enumerate(self.pitches):
            wide = self._wide(self.index(axis, vector))
            factor = self.bits if pitch is None else writer.compute(Multiply, pitch, 8)
            terms.append(writer.compute(Multiply, wide, factor))
        return writer.spread(writer.add(*terms))

    def _wide(self, operand: Any) -> Any:
        return self.writer.convert(operand, I64)

    def predicate(self, vector: Vector) -> Any:
        """Whether the vector lies inside the tensor; None where it is known to."""
        if self.inside:
            return None
        writer, result = self.writer, None
        for axis, extent in enumerate(self.extents):
            whole = self.tile.extents[axis]
            if writer.facts.fits(self.tile.offsets[axis], whole or 1, extent):
                continue
            index = self.index(axis, vector)
            if not writer.facts.is_natural(index):
                result = writer.both(result, writer.compute(GreaterEqual, index, 0))
            result = writer.both(result, writer.compute(Less, index, extent))
        if isinstance(result, Immediate) and result.value is True:
            return None
        return None if result is None else writer.spread(result)


@dataclass
class SharedAccess:
    """How a layout reaches a tile of shared memory, whose memory layout is known."""

    writer: AddressWriter
    tile: Tile
    layout: RegisterLayout
    base_address: Any = None  # where the tensor begins; as it was planned where none is given

    def __post_init__(self) -> None:
        type_ = self.tile.base.type
        self.bits = type_.dtype.bits
        memory: MemoryLayout = type_.layout
        terms: list[Any] = []
        for axis in reversed(range(memory.rank)):
            offset, extent = self.tile.offsets[axis], self.tile.extents[axis]
            if extent is None:
                stride = _stride(memory, axis)
                terms.append(self.writer.multiply(offset, stride))
                memory = memory.select(axis, 0)
            elif extent != memory.shape[axis] or not _is_zero(offset):
                stride = _stride(memory, axis)
                terms.append(self.writer.multiply(offset, stride))
                memory = memory.slice(axis, 0, extent)
        self.memory = memory
        if self.base_address is None:
            self.base_address = self.writer.shared_address(self.tile.base)
        self.moved = self.writer.add(Immediate(0, INDEX), *terms)
        swizzle = memory.swizzling
        self.period = swizzle.period if swizzle is not None else 1

    @cached_property
    def table(self) -> np.ndarray:
        """Element offsets in the tile: [threads, slots]."""
        return self.memory.addresses(self.layout)

    @cached_property
    def movable(self) -> bool:
        """Whether the tile's place does not change how its elements are swizzled."""
        return self.writer.facts.divides(self.period, self.moved)

    @cached_property
    def vector(self) -> int:
        """Elements in one access of at most 16 bytes, contiguous and aligned in every thread."""
        count = gcd(self.layout.slots, max(1, WIDEST_BYTES * 8 // self.bits))
        while count > 1 and not self._allows(count):
            count = max(n for n in range(1, count) if count % n == 0)
        return count

    def _allows(self, count: int) -> bool:
        size = count * self.bits // 8
        if count * self.bits % 8 or size & (size - 1):
            return False
        if not self.movable or not self.writer.facts.divides(count, self.moved):
            return False
        pieces = self.table.reshape(self.layout.threads, -1, count)
        first = pieces[..., :1]
        return not (first % count).any() and np.array_equal(pieces, first + np.arange(count))

    @property
    def bytes(self) -> int:
        """Bytes of one access; 0 where elements do not fill such as memory is accessed by."""
        return whole_bytes(self.vector * self.bits)

    def vectors(self) -> list[Vector]:
        return vectors(self.layout, self.vector)

    def addresses(self, slots: list[int]) -> list[tuple[Any, int]]:
        """For each of the slots (a byte address, i32 per thread; constant bytes to add)."""
        writer = self.writer
        parts = writer.thread_index(self.layout, writer.thread())
        index = slot_index(self.layout)
        return self.place(parts, [tuple(int(i) for i in index[s]) for s in slots],
                          self.table[:, slots])  # fmt: skip

    def place(
        self, parts: list[Any], constants: list[tuple[int, ...]], table: np.ndarray
    ) -> list[tuple[Any, int]]:
        """Addresses of elements at `parts` + a constant index each; `table[:, k]` (element offsets
        for every thread) says what they come to, from which the split is found and proved."""
        writer = self.writer
        if not self.movable:
            return [self.general(parts, constant) for constant in constants]
        origin = tuple(0 for _ in parts)
        first = table[:, :1] ^ 0
        zero = constants[0] if constants[0] == origin else None
        if zero is None:
            return [self.general(parts, constant) for constant in constants]
        varying = int(np.bitwise_or.reduce(first[:, 0]))
        base = self._swizzled(parts, origin)
        result: list[tuple[Any, int]] = []
        for k, constant in enumerate(constants):
            difference = table[:, k] ^ first[:, 0]
            step = table[:, k] - first[:, 0]
            if (step == step[0]).all() and step[0] >= 0:
                result.append((self._bytes(base), int(step[0]) * self.bits // 8))
            elif (difference == difference[0]).all():
                turned, added = int(difference[0]) & varying, int(difference[0]) & ~varying
                mixed = writer.compute(BitXor, base, turned)
                result.append((self._bytes(mixed), added * self.bits // 8))
            else:
                result.append(self.general(parts, constant))
        return result

    def general(self, parts: list[Any], constant: tuple[int, ...]) -> tuple[Any, int]:
        """The address computed from the whole index."""
        if self.movable:
            return self._bytes(self._swizzled(parts, constant)), 0
        writer = self.writer
        offset = writer.add(self._linear(parts, constant), self.moved)
        return self._final(self._swizzle(offset)), 0

    def _linear(self, parts: list[Any], constant: tuple[int, ...]) -> Any:
        writer, memory = self.writer, self.memory
        terms: list[Any] = [Immediate(memory.start, INDEX)]
        for axis in range(memory.rank):
            index = writer.add(parts[axis], constant[axis])
            modes = [m for m in range(len(memory.modes)) if memory.mode_axes[m] == axis]
            inner = prod(memory.modes[m] for m in modes)
            for position, mode in enumerate(modes):
                inner //= memory.modes[mode]
                digit = writer.compute(Divide, index, inner)
                if position:
                    digit = writer.compute(Modulo, digit, memory.modes[mode])
                terms.append(writer.multiply(digit, memory.strides[mode]))
        return writer.add(*terms)

    def _swizzle(self, offset: Any) -> Any:
        swizzle, writer = self.memory.swizzling, self.writer
        if swizzle is None:
            return offset
        mask = ((1 << swizzle.bits) - 1) << swizzle.base
        moved = writer.compute(BitAnd, writer.compute(ShiftRight, offset, swizzle.shift), mask)
        return writer.compute(BitXor, offset, moved)

    def _swizzled(self, parts: list[Any], constant: tuple[int, ...]) -> Any:
        return self._swizzle(self._linear(parts, constant))

    def _bytes(self, elements: Any) -> Any:
        """The byte address of an element offset inside the unmoved tile."""
        moved = self.writer.multiply(self.moved, self.bits // 8) if self.bits % 8 == 0 else None
        if moved is None:
            bits = self.writer.multiply(self.moved, self.bits)
            moved = self.writer.compute(ShiftRight, bits, 3)
        writer = self.writer
        return writer.spread(writer.add(self._scaled(elements), moved, self.base_address))

    def _scaled(self, elements: Any) -> Any:
        if self.bits % 8 == 0:
            return self.writer.multiply(elements, self.bits // 8)
        return self.writer.compute(ShiftRight, self.writer.multiply(elements, self.bits), 3)

    def _final(self, elements: Any) -> Any:
        return self.writer.spread(self.writer.add(self._scaled(elements), self.base_address))

    def bit_addresses(self, slots: list[int]) -> list[Any]:
        """For each slot the bit (i64 per thread) at which an element that fills no bytes begins."""
        parts = self.writer.thread_index(self.layout, self.writer.thread())
        index = slot_index(self.layout)
        return [self.bit_address(parts, tuple(int(i) for i in index[slot])) for slot in slots]

    def bit_address(self, parts: list[Any], constant: tuple[int, ...]) -> Any:
        """The bit (i64 per thread) at which the element at `parts` + a constant index begins."""
        writer = self.writer
        offset = writer.add(self._linear(parts, constant), self.moved)
        wide = writer.multiply(writer.convert(self._swizzle(offset), I64), self.bits)
        start = writer.convert(writer.multiply(self.base_address, 8), I64)
        return writer.spread(writer.add(wide, start))


def whole_bytes(bits: int) -> int:
    """1, 2, 4, 8 or 16 bytes; 0 for other numbers of bits."""
    count = bits // 8
    return count if bits % 8 == 0 and count & (count - 1) == 0 and count <= WIDEST_BYTES else 0


def _stride(memory: MemoryLayout, axis: int) -> int:
    """Elements from one index to the next along an axis of one mode."""
    modes = [m for m in range(len(memory.modes)) if memory.mode_axes[m] == axis]
    if not modes:
        return 0
    assert len(modes) == 1, "tiles may be cut only along axes that are not tiled in memory"
    return memory.strides[modes[0]]


def _is_zero(offset: Any) -> bool:
    return isinstance(offset, Immediate) and offset.value == 0
