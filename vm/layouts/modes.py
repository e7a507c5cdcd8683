"""Arithmetic on modes, the factors that the axes of a layout are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import gcd, prod
from operator import index

import numpy as np

from vm.layouts.errors import LayoutError


def whole_numbers(values: Iterable[int], what: str) -> tuple[int, ...]:
    """The values as a tuple of Python integers >= 1; LayoutError otherwise."""
    result = []
    for value in values:
        try:
            number = index(value)
        except TypeError:
            raise LayoutError(f"{what} takes whole numbers, not {value!r}") from None
        if isinstance(value, bool) or number < 1:
            raise LayoutError(f"{what} takes whole numbers of at least 1, not {value!r}")
        result.append(number)
    return tuple(result)


def factor_axes(shape: Sequence[int], modes: Sequence[int]) -> tuple[int, ...]:
    """The axis that each mode belongs to. Modes of size 1 belong to the axis before them that is
    complete. LayoutError if the modes do not factor the shape in order."""
    axes: list[int] = []
    axis, left = -1, 1
    for size in modes:
        while left == 1 and size != 1:
            axis += 1
            if axis == len(shape):
                raise LayoutError(
                    f"modes {list(modes)} have more elements than shape {list(shape)}"
                )
            left = shape[axis]
        if left % size:
            raise LayoutError(
                f"modes {list(modes)} do not factor shape {list(shape)}: a mode of size {size} "
                "does "
                f"not divide what is left of axis {axis} ({left})"
            )
        left //= size
        axes.append(max(axis, 0))
    if left != 1 or prod(modes) != prod(shape):
        raise LayoutError(
            f"modes {list(modes)} have {prod(modes)} elements, shape {list(shape)} has "
            f"{prod(shape)}"
        )
    return tuple(axes)


def split_for_shape(modes: Sequence[int], shape: Sequence[int], what: str) -> list[list[int]]:
    """Each mode split into pieces (outer first) so that every axis of `shape`, taken in row-major
    order, is a product of whole pieces. LayoutError if a boundary falls inside a mode."""
    boundaries = {prod(shape[a:]) for a in range(len(shape) + 1)}
    pieces: list[list[int]] = []
    inner = 1
    for size in reversed(modes):
        parts: list[int] = []
        low = 1
        for boundary in sorted(b for b in boundaries if inner < b < inner * size):
            if boundary % inner or size % (boundary // inner) or boundary // inner % low:
                raise LayoutError(
                    f"{what} cannot be read as {list(shape)}: a run of {boundary} elements ends "
                    "inside "
                    f"a digit of size {size} that steps by {inner}; there a run of "
                    f"{inner * gcd(size, max(1, boundary // inner))} would end well"
                )
            parts.insert(0, boundary // inner // low)
            low = boundary // inner
        parts.insert(0, size // low)
        pieces.insert(0, parts)
        inner *= size
    return pieces


def ramp(sizes: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """Sum of digit x stride for every combination of digits, last digit fastest: int64
    (prod,)."""
    total = np.zeros(1, np.int64)
    for size, stride in zip(sizes, strides, strict=True):
        total = (total[:, None] + np.arange(size, dtype=np.int64) * stride).reshape(-1)
    return total


def prime_factors(number: int) -> tuple[int, ...]:
    """The primes whose product is `number`, ascending."""
    result, prime = [], 2
    while prime * prime <= number:
        while number % prime == 0:
            result.append(prime)
            number //= prime
        prime += 1
    return (*result, number) if number > 1 else tuple(result)


def divisors(number: int) -> tuple[int, ...]:
    """All divisors, ascending."""
    result = {1}
    for prime in prime_factors(number):
        result |= {d * prime for d in result}
    return tuple(sorted(result))
