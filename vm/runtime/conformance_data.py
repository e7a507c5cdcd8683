"""What a test of a conformance file can call to make tensors, and the bounds it can name.

spec/08-text-format.md defines all of them, so that another implementation makes the same data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vm.isa.dtypes import DType, DTypeError
from vm.isa.tensor import Tensor
from vm.runtime import case_functions
from vm.runtime.bounds import Bound, dot_error, elementwise_error


def _array(items: Any, kind: Any = object) -> np.ndarray:
    """A nested list as an array; all lists of one depth must be of one length."""
    try:
        return np.array(items, dtype=kind)
    except ValueError:
        raise DTypeError("the lists are not of one length; write a full table") from None


def tensor(dtype: DType, values: Any) -> Tensor:
    """The numbers of a list, each of which must be a value of `dtype`."""
    given = _array(values)
    kind = np.dtype(np.float64) if dtype.is_float else dtype.array
    rounding = "nearest_entry" if dtype.kind == "codebook" else "nearest_even"
    flat = given.reshape(-1)
    if dtype.is_integer:
        outside = [v for v in flat if isinstance(v, float) or not dtype.min <= v <= dtype.max]
        if outside:
            raise DTypeError(f"{outside[0]} is not a value of {dtype.name}")
    numbers = np.array([kind.type(value) for value in flat], kind).reshape(given.shape)
    made = Tensor.from_codes(dtype, dtype.encode(numbers, rounding=rounding))
    back = made.values().astype(kind)
    same = (back == numbers) | ((back != back) & (numbers != numbers))
    if not same.all():
        raise DTypeError(f"{numbers[~same].reshape(-1)[0]!r} is not a value of {dtype.name}")
    return made


def codes(dtype: DType, values: Any) -> Tensor:
    """The elements with these bit patterns."""
    given = _array(values)
    wide = [int(code) for code in given.reshape(-1)]
    if any(not 0 <= code < 1 << dtype.bits for code in wide):
        raise DTypeError(f"a code of {dtype.name} has {dtype.bits} bits")
    return Tensor.from_codes(dtype, np.array(wide, dtype.storage).reshape(given.shape))


def bytes_(dtype: DType, shape: tuple[int, ...], values: Any) -> Tensor:
    """The tensor that has these bytes in memory."""
    empty = case_functions.blank(dtype, shape)
    given = np.array(values, np.uint8)
    if given.size != empty.storage.nbytes:
        raise DTypeError(f"{dtype.name}{list(shape)} takes {empty.storage.nbytes} bytes")
    stored = given.view(empty.storage.dtype).reshape(empty.storage.shape)
    return Tensor(dtype, shape, stored.copy())


def special(dtype: DType) -> Tensor:
    """The values at which operations go wrong: zeros, ones, limits, subnormals, infinities, NaN."""
    return Tensor.from_codes(dtype, np.array(special_codes(dtype), dtype.storage))


def special_codes(dtype: DType) -> list[int]:
    """The codes of `special(dtype)`, each once, in the order of the specification."""
    bits = dtype.bits
    if dtype.kind == "bool":
        return [0, 1]
    if dtype.kind == "codebook":
        return list(range(len(dtype.table)))
    if dtype.kind == "scale":
        return [0, 1, 126, 127, 128, 254, 255]
    if dtype.is_integer:
        top = 1 << (bits - 1)
        found = [0, 1, 2, top - 1, top, top + 1, 2 * top - 2, 2 * top - 1]
        return list(dict.fromkeys(code % (1 << bits) for code in found))
    unused, mantissa = dtype.unused_bits, dtype.mantissa_bits
    sign = 1 << (bits - 1)
    one = (dtype.bias << mantissa) << unused
    step = 1 << unused
    positive = [0, step, ((1 << mantissa) - 1) << unused, (1 << mantissa) << unused, one,
                one + step, dtype.largest_code]  # fmt: skip
    if dtype.has_infinity:
        positive.append(dtype.infinity_code)
    both = [code for each in positive for code in (each, each | sign)]
    nan = [dtype.nan_code] if dtype.has_nan else []
    return list(dict.fromkeys([*both, *nan]))


def each(x: Tensor, count: int) -> Tensor:
    """Every element of a vector `count` times in a row."""
    return Tensor.from_codes(x.dtype, np.repeat(x.codes(), count))


def cycle(x: Tensor, count: int) -> Tensor:
    """The whole vector `count` times."""
    return Tensor.from_codes(x.dtype, np.tile(x.codes(), count))


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same elements in row-major order with another shape."""
    return Tensor.from_codes(x.dtype, x.codes().reshape(shape))


def ulp(count: int) -> Bound:
    """At most `count` units in the last place of the result's dtype at the wanted value."""

    def bound(values: np.ndarray, magnitude: np.ndarray, result: DType) -> np.ndarray:
        exponent = np.frexp(np.abs(np.asarray(values, np.float64)))[1] - 1
        lowest = int(np.log2(result.smallest_normal))
        return np.ldexp(float(count), np.maximum(exponent, lowest) - result.mantissa_bits)

    return bound


DATA: Mapping[str, Callable[..., Any]] = {
    **case_functions.FUNCTIONS,
    "tensor": tensor,
    "codes": codes,
    "bytes": bytes_,
    "special": special,
    "each": each,
    "cycle": cycle,
    "reshape": reshape,
}
"""Makers of tensors, by the name that a test calls them by."""

BOUNDS: Mapping[str, Callable[..., Bound]] = {
    "ulp": ulp,
    "dot_error": dot_error,
    "elementwise_error": elementwise_error,
}
"""The bounds that `bound=` may call; spec/07-numerics.md says where they come from."""
