"""Layouts of power-of-two sizes as matrices over F2, the field of two elements.

Numbers are vectors of their bits, lowest first. A register layout maps the bits of slot and
thread to the bits of the row-major linear index; a memory layout maps the bits of the linear
index to those of the offset. Both are linear, so composition, inverses and swizzles are matrix
algebra. Source of the view: "Linear Layouts" (arXiv 2505.23819)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from math import prod
from operator import or_

import numpy as np

from vm.layouts.errors import LayoutError
from vm.layouts.memory import MemoryLayout, Swizzle
from vm.layouts.register import RegisterLayout


@dataclass(frozen=True)
class BinaryMatrix:
    """A matrix over F2. columns: each column as an integer whose bit r is row r. rows: their
    number."""

    columns: tuple[int, ...]
    rows: int

    def __post_init__(self) -> None:
        if any(not 0 <= c < 1 << self.rows for c in self.columns):
            raise LayoutError(f"columns {list(self.columns)} do not fit {self.rows} rows")

    @staticmethod
    def identity(size: int) -> BinaryMatrix:
        """The identity."""
        return BinaryMatrix(tuple(1 << i for i in range(size)), size)

    def apply(self, vector: int) -> int:
        """Matrix times vector."""
        result = 0
        for i, column in enumerate(self.columns):
            if vector >> i & 1:
                result ^= column
        return result

    def __matmul__(self, other: BinaryMatrix) -> BinaryMatrix:
        """The product: first `other`, then self."""
        if other.rows != len(self.columns):
            raise LayoutError(f"{len(self.columns)} columns against {other.rows} rows")
        return BinaryMatrix(tuple(self.apply(c) for c in other.columns), self.rows)

    def __add__(self, other: BinaryMatrix) -> BinaryMatrix:
        """Entry by entry, that is XOR."""
        if (other.rows, len(other.columns)) != (self.rows, len(self.columns)):
            raise LayoutError(f"{self} and {other} have different sizes")
        pairs = zip(self.columns, other.columns, strict=True)
        return BinaryMatrix(tuple(a ^ b for a, b in pairs), self.rows)

    def table(self) -> np.ndarray:
        """Its value for every vector 0 .. 2^columns - 1: int64."""
        values = np.zeros(1, np.int64)
        for column in self.columns:
            values = np.concatenate([values, values ^ column])
        return values

    def rank(self) -> int:
        """Dimension of the image."""
        return len(_reduced(self.columns))

    def kernel(self) -> tuple[int, ...]:
        """A basis of the vectors it maps to 0; each has a bit, its highest, that no other has."""
        pivots: dict[int, tuple[int, int]] = {}
        basis: list[int] = []
        for i, column in enumerate(self.columns):
            value, combination = column, 1 << i
            while value:
                pivot = value.bit_length() - 1
                if pivot not in pivots:
                    pivots[pivot] = (value, combination)
                    break
                value ^= pivots[pivot][0]
                combination ^= pivots[pivot][1]
            else:
                basis.append(combination)
        return tuple(basis)

    def inverse(self) -> BinaryMatrix:
        """The inverse; LayoutError if there is none."""
        size = len(self.columns)
        if size != self.rows or self.rank() != size:
            raise LayoutError(f"a {self.rows} x {size} matrix of rank {self.rank()} has no inverse")
        left, right = list(self.columns), [1 << i for i in range(size)]
        for row in range(size):
            pivot = next(i for i in range(row, size) if left[i] >> row & 1)
            left[row], left[pivot] = left[pivot], left[row]
            right[row], right[pivot] = right[pivot], right[row]
            for i in range(size):
                if i != row and left[i] >> row & 1:
                    left[i] ^= left[row]
                    right[i] ^= right[row]
        return BinaryMatrix(tuple(right), size)


def _reduced(vectors: Iterable[int]) -> list[int]:
    basis: list[int] = []
    for vector in vectors:
        for b in basis:
            vector = min(vector, vector ^ b)
        if vector:
            basis.append(vector)
    return basis


def exponent(number: int, what: str = "size") -> int:
    """The e with number == 2^e; LayoutError otherwise."""
    if number < 1 or number & (number - 1):
        raise LayoutError(f"{what} {number} is not a power of two, which the F2 view needs")
    return number.bit_length() - 1


def is_binary(layout: RegisterLayout | MemoryLayout) -> bool:
    """Whether the F2 view exists as far as sizes go: all extents, threads and slots powers of
    two, and digits write the order of slots."""
    extents = [*layout.shape, *layout.modes]
    if isinstance(layout, RegisterLayout):
        if layout.slot_order:
            return False
        extents.append(layout.threads)
    return all(n & (n - 1) == 0 for n in extents)


def register_to_binary(layout: RegisterLayout) -> BinaryMatrix:
    """Columns: the bits of the slot, then of the thread; rows: bits of the linear index."""
    slot_bits, thread_bits = exponent(layout.slots, "slots"), exponent(layout.threads, "threads")
    rows = exponent(layout.size)
    flat = layout.flat()
    columns = [int(flat[0, 1 << i]) for i in range(slot_bits)]
    columns += [int(flat[1 << i, 0]) for i in range(thread_bits)]
    return BinaryMatrix(tuple(columns), rows)


def register_from_binary(matrix: BinaryMatrix, shape: Sequence[int], slots: int) -> RegisterLayout:
    """The layout whose matrix this is, given its shape and how many of the columns are slot bits.

    LayoutError if the columns are not bits of the index, each once, or 0 for thread bits.
    """
    extents = tuple(shape)
    if 1 << matrix.rows != prod(extents):
        raise LayoutError(f"{matrix.rows} rows against shape {list(extents)}")
    slot_bits = exponent(slots, "slots")
    place: dict[int, int] = {}
    for i, column in enumerate(matrix.columns):
        if column & (column - 1) or (column == 0 and i < slot_bits):
            raise LayoutError(
                f"column {i} is {column:#b}: a register layout has one bit of the index there"
                + (" or none" if i >= slot_bits else "")
            )
        if column:
            bit = column.bit_length() - 1
            if bit in place:
                raise LayoutError(f"columns {place[bit]} and {i} are the same bit of the index")
            place[bit] = i
    if len(place) != matrix.rows:
        raise LayoutError(f"only {len(place)} of {matrix.rows} bits of the index have a column")
    mode = {place[matrix.rows - 1 - m]: m for m in range(matrix.rows)}
    order = [mode.get(i, -2) for i in range(len(matrix.columns))]
    return RegisterLayout(
        extents,
        (2,) * matrix.rows,
        tuple(reversed(order[slot_bits:])),
        tuple(reversed(order[:slot_bits])),
    )


def memory_to_binary(layout: MemoryLayout) -> BinaryMatrix:
    """Columns: bits of the linear index; rows: bits of the offset. LayoutError where offsets
    are not linear over F2 (sums of strides that carry, as padding makes them)."""
    bits = exponent(layout.elements)
    for extent in layout.shape:
        exponent(extent, "extent")
    offsets = layout.offsets().reshape(-1)
    if layout.start:
        raise LayoutError(f"{layout} does not start at 0, so it is not linear")
    rows = max(1, int(offsets.max()).bit_length()) if bits else 0
    matrix = BinaryMatrix(tuple(int(offsets[1 << i]) for i in range(bits)), rows)
    if not np.array_equal(matrix.table(), offsets):
        wrong = int(np.flatnonzero(matrix.table() != offsets)[0])
        raise LayoutError(
            f"{layout} is not linear over F2: element {wrong} lies at {int(offsets[wrong])}, its "
            "bits "
            f"at {int(matrix.table()[wrong])}"
        )
    return matrix


def memory_from_binary(matrix: BinaryMatrix, shape: Sequence[int]) -> MemoryLayout:
    """Strides and a swizzle that have this matrix, powers of two if that can be; LayoutError if no
    single swizzle does."""
    bits = len(matrix.columns)
    if 1 << bits != prod(shape):
        raise LayoutError(f"{bits} columns against shape {list(shape)}")
    for swizzle in _swizzles(matrix):
        # It undoes itself: what the columns are without it. Strides that share a bit would carry.
        strides = [int(swizzle.apply(c)) if swizzle else c for c in reversed(matrix.columns)]
        if sum(strides) == reduce(or_, strides, 0):
            return MemoryLayout(tuple(shape), (2,) * bits, tuple(strides), swizzle)
    raise LayoutError(f"columns {list(matrix.columns)} are not strides followed by one XOR swizzle")


def _swizzles(matrix: BinaryMatrix) -> Iterator[Swizzle | None]:
    """Those that may be in a matrix: first the one that leaves the highest bit of each column, then
    none, then all."""
    moved = [c for c in matrix.columns if c & c - 1]
    if moved:
        highs = [c.bit_length() - 1 for c in moved]
        lows = [(c ^ 1 << high).bit_length() - 1 for c, high in zip(moved, highs, strict=True)]
        base, bits = min(lows), max(lows) - min(lows) + 1
        shift = min(high - low for high, low in zip(highs, lows, strict=True))
        if shift >= bits:
            yield Swizzle(base, bits, shift)
    yield None
    for base, end in combinations(range(matrix.rows), 2):
        for shift in range(end - base, matrix.rows - end + 1):
            yield Swizzle(base, end - base, shift)


def address_matrix(memory: MemoryLayout, register: RegisterLayout) -> BinaryMatrix:
    """Bits of slot, then of thread -> bits of the offset."""
    return memory_to_binary(memory) @ register_to_binary(register)
