"""Exact rounding of arrays of numbers to the codes of a type, by integer arithmetic alone.

A number is taken apart into a sign, a magnitude (at most 64 bits) and an exponent, so that every
decision is made on exact integers. This is the definition; `vm.isa.conversion` has faster ways for
common pairs, which give the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vm.isa.dtypes import DType


@dataclass(frozen=True)
class Numbers:
    """An array of numbers: (-1)**negative * magnitude * 2**exponent, or infinite, or NaN.

    `magnitude` is uint64 (less than 2**53 where `exponent` is not 0), `exponent` int64.
    """

    negative: NDArray[np.bool_]
    magnitude: NDArray[np.uint64]
    exponent: NDArray[np.int64]
    infinite: NDArray[np.bool_]
    nan: NDArray[np.bool_]


def take_apart(values: NDArray[Any]) -> Numbers:
    """The exact numbers in an array of bool, integers or floats of up to 64 bits."""
    none = np.zeros(values.shape, dtype=bool)
    if values.dtype.kind in "bu":
        zero = np.zeros(values.shape, dtype=np.int64)
        return Numbers(none, values.astype(np.uint64), zero, none, none)
    if values.dtype.kind == "i":
        wide = values.astype(np.int64)
        bits = wide.view(np.uint64)
        magnitude = np.where(wide < 0, ~bits + np.uint64(1), bits)
        return Numbers(wide < 0, magnitude, np.zeros(values.shape, dtype=np.int64), none, none)
    # A signaling NaN is a NaN like any other here; the hardware would report it when widening it.
    with np.errstate(invalid="ignore"):
        bits = values.astype(np.float64).view(np.uint64)
    field = (bits >> np.uint64(52)).astype(np.int64) & 0x7FF
    fraction = bits & np.uint64((1 << 52) - 1)
    magnitude = np.where(field > 0, fraction | np.uint64(1 << 52), fraction)
    return Numbers(
        negative=(bits >> np.uint64(63)) != 0,
        magnitude=magnitude,
        exponent=np.maximum(field, 1) - 1075,
        infinite=(field == 0x7FF) & (fraction == 0),
        nan=(field == 0x7FF) & (fraction != 0),
    )


def bit_length(magnitude: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The number of bits of each integer: 0 for 0."""
    length = np.minimum(np.frexp(magnitude.astype(np.float64))[1].astype(np.int64), 64)
    # The conversion to f64 may have rounded up to the next power of two.
    below = np.uint64(1) << np.maximum(length - 1, 0).astype(np.uint64)
    return length - ((magnitude < below) & (length > 0))


def shift_right(
    magnitude: NDArray[np.uint64],
    shift: NDArray[np.int64],
    rounding: str,
    random_bits: NDArray[np.uint32] | None,
) -> NDArray[np.uint64]:
    """magnitude / 2**shift, rounded to an integer; a negative shift is to the left.

    `stochastic` adds 1 to the integer part with the probability of the fraction: where
    random_bits / 2**32 < fraction, exactly.
    """
    left = np.minimum(np.maximum(-shift, 0), 63).astype(np.uint64)
    right = np.minimum(np.maximum(shift, 0), 63).astype(np.uint64)
    whole = (magnitude << left) >> right
    remainder = np.where(shift > 0, magnitude & ((np.uint64(1) << right) - np.uint64(1)), 0)
    remainder = remainder.astype(np.uint64)
    if rounding == "toward_zero":
        return whole
    if rounding == "nearest_even":
        half = (np.uint64(1) << right) >> np.uint64(1)
        tie_up = (remainder == half) & (whole & np.uint64(1) == 1)
        # A shift of more than 63 leaves a magnitude below 2**53, always less than half.
        up = (shift > 0) & ((remainder > half) | tie_up)
        return whole + up.astype(np.uint64)
    assert random_bits is not None
    # The least integer that is not below fraction * 2**32.
    grow = np.minimum(np.maximum(32 - shift, 0), 63).astype(np.uint64)
    drop = np.minimum(np.maximum(shift - 32, 0), 63).astype(np.uint64)
    lost = (remainder & ((np.uint64(1) << drop) - np.uint64(1))) != 0
    threshold = ((remainder << grow) >> drop) + lost.astype(np.uint64)
    return whole + (random_bits.astype(np.uint64) < threshold).astype(np.uint64)


def round_to_float(
    numbers: Numbers,
    target: DType,
    overflow: str,
    rounding: str,
    random_bits: NDArray[np.uint32] | None,
    keep_infinity: bool,
) -> NDArray[np.uint64]:
    """The codes of `numbers` in a float type or `f8e8m0`."""
    mantissa_bits = target.mantissa_bits
    scale = target.kind == "scale"
    lowest = -target.bias if scale else 1 - target.bias
    top = numbers.exponent + bit_length(numbers.magnitude) - 1
    top = np.where(numbers.magnitude == 0, lowest, np.maximum(top, lowest))
    quantum = top - mantissa_bits
    # The codes of one exponent follow those of the one below; the mantissa's leading 1 adds the
    # last step of the exponent field, and so does a mantissa that rounds up to the next power.
    base = (top - lowest).astype(np.uint64) << np.uint64(mantissa_bits)
    # A type with one significant bit breaks ties away from zero, as IEEE 754-2019 (4.3.1) says for
    # two neighbours that are both odd.
    rounded = shift_right(numbers.magnitude, quantum - numbers.exponent, rounding, random_bits)
    if scale:
        # Each code is a power of two with nothing below the first: the leading 1 does not count,
        # and what rounds to 0 becomes the smallest.
        code = np.maximum(base + rounded, np.uint64(1)) - np.uint64(1)
    else:
        code = base + rounded
    largest = np.uint64(target.largest_code >> target.unused_bits)
    too_large = code > largest
    if overflow == "ieee" and (target.has_infinity or target.has_nan):
        special = target.infinity_code if target.has_infinity else target.nan_code
        beyond = np.uint64(special >> target.unused_bits)
        # Rounding toward zero never leaves the finite numbers, except from infinity itself.
        finite = largest if rounding == "toward_zero" else beyond
        code = np.where(too_large, finite, code)
        code = np.where(numbers.infinite, beyond, code)
    else:
        code = np.where(too_large | numbers.infinite, largest, code)
        if keep_infinity:
            infinity = np.uint64(target.infinity_code >> target.unused_bits)
            code = np.where(numbers.infinite, infinity, code)
    if scale:
        below = np.uint64(target.nan_code if overflow == "ieee" else 0)
        code = np.where(numbers.negative | (numbers.magnitude == 0), below, code)
    else:
        sign = np.uint64(1 << (target.exponent_bits + mantissa_bits))
        code = np.where(numbers.negative, code | sign, code)
    of_nan = target.nan_code if target.has_nan else target.largest_code
    code = np.where(numbers.nan, np.uint64(of_nan >> target.unused_bits), code)
    return code << np.uint64(target.unused_bits)


def round_to_integer(
    numbers: Numbers, target: DType, rounding: str, random_bits: NDArray[np.uint32] | None
) -> NDArray[np.uint64]:
    """The codes of `numbers` in an integer type: saturating, NaN gives 0."""
    huge = numbers.infinite | (numbers.exponent + bit_length(numbers.magnitude) > 64)
    magnitude = np.where(huge, np.uint64(0), numbers.magnitude)
    rounded = shift_right(magnitude, -numbers.exponent, rounding, random_bits)
    largest = np.where(numbers.negative, np.uint64(-target.min), np.uint64(target.max))
    rounded = np.where(huge | (rounded > largest), largest, rounded)
    rounded = np.where(numbers.nan, np.uint64(0), rounded)
    codes = np.where(numbers.negative, ~rounded + np.uint64(1), rounded)
    return codes & np.uint64((1 << target.bits) - 1)
