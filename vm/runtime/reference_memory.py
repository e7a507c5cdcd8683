"""Memory of the reference machine: bytes, and tensors that see them as elements.

Global buffers are the bytes of the caller's arrays, not copied; shared allocations are bytes of
their own. A `MemoryTensor` gives them a dtype, a shape and strides in bits. Types of whole bytes
are read and written through strided NumPy views; packed types row by row where rows begin at whole
bytes, and bit by bit where they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from vm.errors import NOWHERE, Origin
from vm.isa.dtypes import DType
from vm.isa.packing import pack_rows, packed_size, unpack_rows
from vm.isa.registers import exact_codes
from vm.runtime.races import Cells, Shadow

Region = tuple[Any, ...]
"""One slice for each dimension of a tensor; at most one of them is an array of positions instead.
"""


class Buffer:
    """A piece of memory: uint8[bytes]. `space` is global (a parameter's), launch (scratch in global
    memory) or shared. `shadow` remembers who touched it; None for memory that no one may write and
    that holds data from the beginning."""

    def __init__(
        self, name: str, space: str, data: np.ndarray, origin: Origin = NOWHERE,
        shadow: Shadow | None = None,
    ):  # fmt: skip
        self.name = name
        self.space = space
        self.data = data
        self.origin = origin
        self.shadow = shadow


def row_major_strides(shape: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    """Strides in bits of a row-major tensor whose rows begin at whole bytes."""
    if not shape:
        return ()
    strides = [dtype.bits]
    step = 8 * packed_size(shape[-1], dtype)
    for extent in reversed(shape[1:-1]):
        strides.append(step)
        step *= extent
    if len(shape) > 1:
        strides.append(step)
    return tuple(reversed(strides))


def contiguous_strides(shape: tuple[int, ...], dtype: DType) -> tuple[int, ...]:
    """Strides in bits of a row-major tensor without gaps: shared memory without a layout."""
    strides, step = [], dtype.bits
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


@dataclass(eq=False)
class MemoryTensor:
    """`shape` elements of `dtype` in a buffer, from bit `start`, `strides` bits apart."""

    buffer: Buffer
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int = 0

    def __post_init__(self) -> None:
        dtype = self.dtype
        self.is_native = is_native(dtype)
        self.cells: Cells | None = None
        self._array: np.ndarray | None = None
        self._rows: np.ndarray | None = None
        whole = all(stride % 8 == 0 for stride in (*self.strides, self.start))
        if not dtype.is_packed and whole:
            element = dtype.array if self.is_native else dtype.storage
            self._array = self._ndarray(self.shape, element, self.strides)
        elif dtype.is_packed and self.shape and self.start % 8 == 0:
            *outer, inner = self.strides
            if inner == dtype.bits and all(stride % 8 == 0 for stride in outer):
                shape = (*self.shape[:-1], packed_size(self.shape[-1], dtype))
                self._rows = self._ndarray(shape, np.uint8, (*outer, 8))

    def _ndarray(self, shape: tuple[int, ...], element: Any, strides: tuple[int, ...]):
        if not prod(shape):
            return np.zeros(shape, element)
        return np.ndarray(
            shape, element, self.buffer.data, self.start // 8, tuple(s // 8 for s in strides)
        )

    @property
    def end(self) -> int:
        """The bit behind the last element."""
        if not prod(self.shape):
            return self.start
        steps = zip(self.shape, self.strides, strict=True)
        return self.start + sum((n - 1) * s for n, s in steps) + self.dtype.bits

    def read(self, region: Region) -> np.ndarray:
        """The values of a region, in an array of their own."""
        if self.is_native and self._array is not None:
            return np.array(self._array[region])
        return self.dtype.decode(self.codes(region))

    def codes(self, region: Region) -> np.ndarray:
        """The codes of a region, in an array of their own."""
        if self._array is not None:
            return np.array(self._array[region]).view(self.dtype.storage)
        if self._rows is not None and isinstance(region[-1], slice):
            aligned, first, count = self._octets(region)
            codes = unpack_rows(self._rows[aligned], self.dtype, count)
            inside = region[-1].stop - region[-1].start
            return codes[..., first : first + inside]
        return self._codes_by_bit(region)

    def write(self, region: Region, values: Any) -> None:
        """Replaces a region by values of `dtype` (an array of its shape, or a number)."""
        if self.is_native and self._array is not None:
            self._array[region] = values
            return
        self.write_codes(region, exact_codes(np.asarray(values, self.dtype.array), self.dtype))

    def write_codes(self, region: Region, codes: np.ndarray) -> None:
        if self._array is not None:
            element = self._array.dtype
            self._array[region] = codes.view(element) if codes.dtype != element else codes
        elif self._rows is not None and isinstance(region[-1], slice):
            aligned, first, count = self._octets(region)
            held = unpack_rows(self._rows[aligned], self.dtype, count)
            held[..., first : first + region[-1].stop - region[-1].start] = codes
            packed = pack_rows(held, self.dtype)
            # Bits behind the last element of a row may be elements of other views.
            behind = np.uint8(0xFF << count * self.dtype.bits % 8 & 0xFF)
            if count * self.dtype.bits % 8 and packed.size:
                packed[..., -1] |= self._rows[aligned][..., -1] & behind
            self._rows[aligned] = packed
        else:
            self._write_codes_by_bit(region, codes)

    def _octets(self, region: Region) -> tuple[Region, int, int]:
        """The bytes that hold a region of rows, where it begins in them, and their elements.

        Eight elements fill whole bytes, so they begin at a multiple of 8 elements."""
        columns, bits = region[-1], self.dtype.bits
        first = columns.start % 8
        start = columns.start - first
        stop = min(-(-columns.stop // 8) * 8, self.shape[-1])
        octets = slice(start * bits // 8, packed_size(stop, self.dtype))
        return (*region[:-1], octets), first, stop - start

    def addresses(self, region: Region) -> np.ndarray:
        """The first bit of each element of a region."""
        total = np.full((), self.start, np.int64)
        rank = len(self.shape)
        for axis, (part, stride) in enumerate(zip(region, self.strides, strict=True)):
            line = np.arange(part.start, part.stop) if isinstance(part, slice) else part
            line = np.asarray(line, np.int64) * stride
            total = total + line.reshape([-1 if a == axis else 1 for a in range(rank)])
        return total

    def _bit_positions(self, region: Region) -> tuple[int, int, np.ndarray]:
        addresses = self.addresses(region)
        first = int(addresses.min()) // 8
        last = -(-(int(addresses.max()) + self.dtype.bits) // 8)
        return first, last, addresses[..., None] - 8 * first + np.arange(self.dtype.bits)

    def _codes_by_bit(self, region: Region) -> np.ndarray:
        first, last, positions = self._bit_positions(region)
        bits = np.unpackbits(self.buffer.data[first:last], bitorder="little")[positions]
        storage = self.dtype.storage
        shifts = np.arange(self.dtype.bits).astype(storage)
        return np.bitwise_or.reduce(bits.astype(storage) << shifts, axis=-1)

    def _write_codes_by_bit(self, region: Region, codes: np.ndarray) -> None:
        first, last, positions = self._bit_positions(region)
        bits = np.unpackbits(self.buffer.data[first:last], bitorder="little")
        shifts = np.arange(self.dtype.bits).astype(self.dtype.storage)
        codes = np.broadcast_to(codes, positions.shape[:-1])
        bits[positions] = (codes[..., None] >> shifts) & codes.dtype.type(1)
        self.buffer.data[first:last] = np.packbits(bits, bitorder="little")

    def shape_of(self, region: Region) -> tuple[int, ...]:
        return tuple(
            part.stop - part.start if isinstance(part, slice) else len(part) for part in region
        )

    def has_twins(self, region: Region) -> bool:
        """Whether two positions of a region are one element (or share bits of one)."""
        shape = self.shape_of(region)
        moving = sorted(
            (abs(stride), extent)
            for stride, extent in zip(self.strides, shape, strict=True)
            if extent > 1
        )
        reach = self.dtype.bits
        for stride, extent in moving:
            if stride < reach:
                break
            reach += (extent - 1) * stride
        else:
            if all(isinstance(part, slice) for part in region):
                return False
        ordered = np.sort(self.addresses(region).reshape(-1))
        return bool((np.diff(ordered) < self.dtype.bits).any())


def is_native(dtype: DType) -> bool:
    """Whether NumPy's elements are the type's codes and every code is a value as it stands."""
    whole = dtype.is_integer and not dtype.is_packed
    return whole or dtype.name in ("f16", "f32", "f64")


@lru_cache(maxsize=256)
def outside_value(dtype: DType) -> Any:
    """What lies outside a tensor: the value of code 0, a NumPy number."""
    return dtype.decode(np.zeros((), dtype.storage))[()]
