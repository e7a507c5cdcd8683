"""Arrays of any element type in memory, as programs and other libraries see them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm.isa.conversion import checked_codes
from vm.isa.dtypes import DType, DTypeError, Overflow, Rounding
from vm.isa.dtypes import dtype as named_dtype
from vm.isa.packing import pack_rows, packed_size, unpack_rows


@dataclass(frozen=True, eq=False)
class Tensor:
    """`shape` elements of `dtype` in the NumPy array `storage`, which is not copied.

    For types of 8, 16, 32 or 64 bits `storage` has the tensor's shape and one element for each: of
    `dtype.memory` (a view is taken of codes in `dtype.storage`, and of ml_dtypes arrays of the same
    type). For all others it is uint8 with the last axis packed and every row beginning at a byte.
    """

    dtype: DType
    shape: tuple[int, ...]
    storage: NDArray[Any]

    def __post_init__(self) -> None:
        element = named_dtype(self.dtype)
        shape = tuple(int(extent) for extent in self.shape)
        given = np.asarray(self.storage)
        if element.is_packed and not shape:
            raise DTypeError(f"one {element.name} fills no byte; give a tensor of rank 1 or more")
        expected = shape
        if element.is_packed:
            expected = (*shape[:-1], packed_size(shape[-1], element))
        if given.shape != expected:
            raise DTypeError(
                f"{element.name}{list(shape)} is stored as {element.memory}{list(expected)}; "
                f"the array is {given.dtype}{list(given.shape)}"
            )
        if given.dtype != element.memory:
            if not _holds(given.dtype, element):
                raise DTypeError(
                    f"{element.name} is stored as {element.memory}, not {given.dtype}; "
                    "for an array of values write Tensor.from_values"
                )
            given = given.view(element.memory)
        object.__setattr__(self, "dtype", element)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "storage", given)

    def __repr__(self) -> str:
        return f"Tensor({self.dtype.name}{list(self.shape)})"

    @classmethod
    def from_codes(cls, dtype: DType | str, codes: ArrayLike) -> Tensor:
        """The tensor of these codes, in new storage."""
        element = named_dtype(dtype)
        given = np.asarray(codes)
        if element.is_packed:
            return cls(element, given.shape, pack_rows(given, element))
        return cls(element, given.shape, checked_codes(given, element).copy())

    @classmethod
    def from_values(
        cls,
        dtype: DType | str,
        values: ArrayLike,
        overflow: Overflow = "saturate",
        rounding: Rounding = "nearest_even",
        random_bits: ArrayLike | None = None,
    ) -> Tensor:
        """The tensor of these numbers, cast to `dtype` as `DType.encode` does."""
        element = named_dtype(dtype)
        return cls.from_codes(element, element.encode(values, overflow, rounding, random_bits))

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the storage."""
        return self.storage.nbytes

    def codes(self) -> NDArray[Any]:
        """The elements' codes: `dtype.storage` of the tensor's shape."""
        if self.dtype.is_packed:
            return unpack_rows(self.storage, self.dtype, self.shape[-1])
        return np.ascontiguousarray(self.storage).view(self.dtype.storage).reshape(self.shape)

    def values(self) -> NDArray[Any]:
        """The elements' values: `dtype.array` of the tensor's shape."""
        return self.dtype.decode(self.codes())


def _holds(array: np.dtype[Any], element: DType) -> bool:
    """Whether NumPy elements of `array` are elements of the type, under another name."""
    if array == element.storage:
        return True
    try:
        return array.itemsize == element.memory.itemsize and named_dtype(array) == element
    except DTypeError:
        return False
