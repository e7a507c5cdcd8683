"""The meaning of casts between any two types, and of codes as values.

`convert` is the meaning of the `cast` instruction. Its rules, for a value x and a target type:

- **Rounding.** `nearest_even`: the nearest value of the type, subnormals included; of two equally
  near, the one with the even significand (where both are odd, in types without mantissa bits, the
  one larger in magnitude: IEEE 754-2019, 4.3.1). Floats become integers by the same rule.
  `toward_zero` drops the fraction. `stochastic` takes one of the two neighbours, the one away from
  zero where random_bits / 2**32 is less than the exact fraction of the way to it.
- **Overflow** is judged after rounding as if exponents had no limit. `saturate` (PTX `satfinite`)
  gives the largest finite value of that sign, also for infinities. `ieee` gives the infinity where
  the type has one, else NaN where it has one, else the largest value; rounding toward zero keeps
  finite values finite. `wrap` is for integers into integers: the low bits.
  A cast that every value of the source survives (f16 to f32) leaves infinities alone in all modes.
- **NaN** stays NaN where the type has one (the quiet positive code is written), becomes the largest
  positive value in floats without NaN and codebooks, 0 in integers, true in `bool`.
- **Zero** keeps its sign in floats.
- **bool**: x != 0; true is 1.
- **f8e8m0** has neither 0 nor negative values: they become the smallest value in `saturate` mode
  and NaN in `ieee` mode. Positive values below the smallest become the smallest.
- **Codebooks** as targets need `rounding="nearest_entry"`: the entry at the least distance, the
  lower code of two at the same distance (integers beyond 2**53 are first rounded to f64).

Sources of up to 16 bits are cast through tables of all their values; f32 to small floats through
the table of bf16, rounded to odd (a lost bit is joined into the last one), and f64 likewise through
f32: rounding again is right where at least two more bits were kept (Boldo and Melquiond, "Emulation
of FMA and correctly rounded sums", 2008). All other pairs without a direct NumPy way are rounded in
`vm.isa.rounding`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm.isa.dtypes import DType, DTypeError, Overflow, Rounding, dtype
from vm.isa.rounding import round_to_float, round_to_integer, take_apart


def convert(
    values: ArrayLike,
    source: DType,
    target: DType,
    overflow: Overflow = "saturate",
    rounding: Rounding = "nearest_even",
    random_bits: ArrayLike | None = None,
) -> NDArray[Any]:
    """`values` of `source`, cast to `target`: an array of `target.array` of the same shape; where
    the two types are one, the same array.

    `values` must be an array of `source.array` that holds values of `source`. `random_bits` are
    32-bit unsigned integers, one for each value, for `stochastic` rounding alone. Raises
    `DTypeError` for a cast without meaning.
    """
    given = np.asarray(values, dtype=None if isinstance(values, np.ndarray) else source.array)
    if given.dtype != source.array:
        raise DTypeError(
            f"values of {source.name} are held in {source.array} arrays, not {given.dtype}; "
            f"use {source.name}'s encode and decode"
        )
    if source == target:
        return given
    return _cast(given, source, target, overflow, rounding, random_bits, as_codes=False)


def encode(
    values: ArrayLike,
    target: DType,
    overflow: Overflow = "saturate",
    rounding: Rounding = "nearest_even",
    random_bits: ArrayLike | None = None,
) -> NDArray[Any]:
    """The codes of `values`, numbers of any NumPy or ml_dtypes dtype, cast to `target`, except that
    an infinity stays one, in all modes, where the type has it: so encoding undoes decoding."""
    given, source = _numbers(values)
    if source == target and target.array.itemsize * 8 == target.bits:
        return given.view(target.storage)
    codes = _cast(given, source, target, overflow, rounding, random_bits, as_codes=True)
    if target.has_infinity and overflow == "saturate" and given.dtype.kind == "f":
        infinite = np.isinf(given)
        if infinite.any():
            code = target.storage.type(target.infinity_code)
            sign = target.storage.type(1 << (target.bits - 1))
            codes = np.where(infinite, np.where(given < 0, code | sign, code), codes)
    return codes


def decode(codes: ArrayLike, source: DType) -> NDArray[Any]:
    """The values of `codes`: an array of `source.array` of the same shape."""
    given = checked_codes(codes, source)
    if given.ndim == 0:
        return decode(given.reshape(1), source).reshape(())
    if source.kind == "bool":
        return given != 0
    if source.is_integer:
        if source.kind == "unsigned":
            return given
        # The sign bit moves to the container's top and comes back over the bits between.
        spare = np.uint8(source.array.itemsize * 8 - source.bits)
        return (given << spare).view(source.array) >> spare.astype(source.array)
    if source.name in ("f16", "f32", "f64"):
        return given.view(source.array)
    if source.unused_bits:
        return (given >> source.unused_bits << source.unused_bits).view(np.float32)
    if source.name == "bf16":
        return (given.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return _values_by_code(source)[given]


def checked_codes(codes: ArrayLike, source: DType) -> NDArray[Any]:
    """`codes` as a contiguous array of `source.storage`; `DTypeError` where one is too wide."""
    given = np.asarray(codes)
    if given.dtype.kind not in "iub" and given.size:
        raise DTypeError(
            f"codes of {source.name} are integers, not {given.dtype}; "
            f"for values write {source.name}'s encode(values)"
        )
    exact = given.dtype == source.storage and source.bits == given.dtype.itemsize * 8
    if not exact and given.size:
        low, high = int(given.min()), int(given.max())
        if low < 0 or high >> source.bits:
            raise DTypeError(
                f"{low if low < 0 else high} is not a code of {source.name}, which are 0 to "
                f"{(1 << source.bits) - 1}; for values write {source.name}'s encode(values)"
            )
    return np.ascontiguousarray(given, dtype=source.storage).reshape(given.shape)


def _numbers(values: ArrayLike) -> tuple[NDArray[Any], DType]:
    """An array of numbers and the type of its values."""
    given = np.asarray(values)
    name = given.dtype.name
    if given.dtype.isbuiltin == 2:
        source = dtype(name)
        mask = source.storage.type((1 << source.bits) - 1)
        return decode(np.ascontiguousarray(given).view(source.storage) & mask, source), source
    if given.dtype.kind not in "biuf" or given.dtype.itemsize > 8:
        raise DTypeError(
            f"values of NumPy dtype {name} cannot be encoded; "
            "give bool, integers of at most 64 bits, or floats of at most 64 bits"
        )
    source = dtype(name)
    return np.ascontiguousarray(given, dtype=source.array).reshape(given.shape), source


def _cast(
    values: NDArray[Any],
    source: DType,
    target: DType,
    overflow: str,
    rounding: str,
    random_bits: ArrayLike | None,
    as_codes: bool,
) -> NDArray[Any]:
    """The cast, giving values or codes, by the fastest way for the pair."""
    random = _checked_modes(values, source, target, overflow, rounding, random_bits)
    if values.ndim == 0:
        # NumPy makes numbers, not arrays, of what it computes from arrays of rank 0.
        bits = None if random is None else random.reshape(1)
        one = values.reshape(1)
        return _cast(one, source, target, overflow, rounding, bits, as_codes).reshape(())
    if target.kind == "codebook":
        codes = _nearest_entry(values, target)
        return codes if as_codes else decode(codes, target)
    if target.kind == "bool":
        result = values != 0
        return result.view(np.uint8) if as_codes else result
    keep_infinity = _survives(source, target)
    if random is None:
        carrier = _carrier(source)
        if carrier is not None:
            table = _table(carrier, target, overflow, rounding, keep_infinity, as_codes)
            return table[_index(values)]
        if _fits_through_f32(source, target):
            values, source = _f32_to_odd(values.astype(np.float64)), dtype("f32")
        short = not target.is_integer and target.bits <= 8 and target.mantissa_bits <= 5
        if source.array == np.float32 and short:
            table = _table("bf16", target, overflow, rounding, keep_infinity, as_codes)
            return table[_index_to_odd(values)]
        result = _direct(values, source, target, overflow, rounding)
        if result is not None:
            return _codes_of(result, target) if as_codes else result
    codes = _by_rounding(values, target, overflow, rounding, random, keep_infinity)
    return codes if as_codes else decode(codes, target)


def _checked_modes(
    values: NDArray[Any],
    source: DType,
    target: DType,
    overflow: str,
    rounding: str,
    random_bits: ArrayLike | None,
) -> NDArray[np.uint32] | None:
    """The random bits, where needed; `DTypeError` for modes that have no meaning here."""
    for what, mode, known in (("overflow", overflow, Overflow), ("rounding", rounding, Rounding)):
        if mode not in get_args(known):
            modes = ", ".join(get_args(known))
            raise DTypeError(f"{what}={mode!r} is no mode; write one of {modes}")
    if target.kind == "codebook" and rounding != "nearest_entry":
        raise DTypeError(
            f"a cast to {target.name} has no meaning by rounding, since its values are a table; "
            'write rounding="nearest_entry" to take the entry at the least distance'
        )
    if target.kind != "codebook" and rounding == "nearest_entry":
        raise DTypeError(
            f'{target.name} is no codebook, whose entries could be nearest; '
            'write rounding="nearest_even"'
        )
    whole = source.is_integer or source.kind == "bool"
    if overflow == "wrap" and not (whole and target.is_integer):
        raise DTypeError(
            f'overflow="wrap" is for integers into integers, not {source.name} into {target.name}; '
            'write overflow="saturate"'
        )
    if rounding != "stochastic":
        if random_bits is not None:
            raise DTypeError('random_bits are given; write rounding="stochastic" to use them')
        return None
    if random_bits is None:
        raise DTypeError('rounding="stochastic" needs random_bits: one uint32 for each value')
    random = np.asarray(random_bits)
    if random.dtype != np.uint32 or random.shape != values.shape:
        raise DTypeError(
            f"random_bits are {random.dtype}{list(random.shape)}; "
            f"give uint32{list(values.shape)}, the shape of the values"
        )
    return random


def _survives(source: DType, target: DType) -> bool:
    """Whether `target` holds the infinities and every finite value of the float `source`."""
    return (
        source.has_infinity
        and target.has_infinity
        and source.exponent_bits <= target.exponent_bits
        and source.mantissa_bits <= target.mantissa_bits
    )


def _carrier(source: DType) -> str | None:
    """The type whose codes of at most 16 bits are the bits in which values of `source` are held."""
    if source.bits > 16 or source.kind == "codebook":
        return None
    if source.kind == "bool":
        return "u8"
    if source.is_integer:
        return f"{'u' if source.kind == 'unsigned' else 'i'}{source.array.itemsize * 8}"
    return "f16" if source.name == "f16" else "bf16"


def _index(values: NDArray[Any]) -> NDArray[Any]:
    """The carrier's code of each value."""
    if values.dtype == np.float32:
        return values.view(np.uint32) >> np.uint32(16)
    return values.view(f"uint{values.dtype.itemsize * 8}")


def _fits_through_f32(source: DType, target: DType) -> bool:
    """Whether values are exact in f64 and `target` has so few bits that f32 to odd is as good."""
    exact = source.name == "f64" or (source.is_integer and source.bits <= 53)
    return exact and not target.is_integer and target.name not in ("f32", "f64")


def _f32_to_odd(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """f64 values as f32, rounded to odd: toward zero, then the last bit set if that lost any."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest = values.astype(np.float32)
    bits = nearest.view(np.uint32)
    wide = nearest.astype(np.float64)
    bits -= np.abs(wide) > np.abs(values)
    bits |= wide != values
    return nearest


def _index_to_odd(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The bf16 codes of f32 values rounded to odd."""
    bits = values.view(np.uint32)
    # Adding all ones to the low half carries into bit 16 unless the half is 0.
    return ((bits & np.uint32(0xFFFF)) + np.uint32(0xFFFF) | bits) >> np.uint32(16)


@lru_cache(maxsize=512)
def _table(
    carrier: str, target: DType, overflow: str, rounding: str, keep_infinity: bool, as_codes: bool
) -> NDArray[Any]:
    """What each code of `carrier` becomes: codes or values of `target`."""
    source = dtype(carrier)
    values = decode(np.arange(1 << source.bits, dtype=source.storage), source)
    if overflow == "wrap":
        codes = _wrapped_codes(values, target)
    else:
        codes = _by_rounding(values, target, overflow, rounding, None, keep_infinity)
    table = codes if as_codes else decode(codes, target)
    table.setflags(write=False)
    return table


def _by_rounding(
    values: NDArray[Any],
    target: DType,
    overflow: str,
    rounding: str,
    random: NDArray[np.uint32] | None,
    keep_infinity: bool,
) -> NDArray[Any]:
    """The codes of any values, exactly, by integer arithmetic."""
    numbers = take_apart(values)
    if target.is_integer:
        codes = round_to_integer(numbers, target, rounding, random)
    else:
        codes = round_to_float(numbers, target, overflow, rounding, random, keep_infinity)
    return codes.astype(target.storage)


def _wrapped_codes(values: NDArray[Any], target: DType) -> NDArray[Any]:
    """The low bits of integers: their value modulo 2**bits."""
    return values.astype(target.storage) & target.storage.type((1 << target.bits) - 1)


def _direct(
    values: NDArray[Any], source: DType, target: DType, overflow: str, rounding: str
) -> NDArray[Any] | None:
    """The cast where a few NumPy operations give it exactly; None where they do not."""
    if source.is_integer:
        if target.is_integer:
            if overflow == "wrap":
                return decode(_wrapped_codes(values, target), target)
            return _clipped_integers(values, target)
        if target.name in ("f32", "f64") and rounding == "nearest_even":
            return values.astype(target.array)
        return None
    if target.is_integer:
        return _integers_of(values, target, rounding) if target.bits <= 32 else None
    if target.name in ("f16", "f32", "f64") and rounding == "nearest_even":
        return _ieee_float(values, source, target, overflow)
    shortened = values.dtype == np.float32 and target.name in ("bf16", "tf32")
    if shortened and rounding == "nearest_even":
        return _shortened(values, target, overflow)
    return None


def _clipped_integers(values: NDArray[Any], target: DType) -> NDArray[Any]:
    info = np.iinfo(values.dtype)
    low, high = max(target.min, int(info.min)), min(target.max, int(info.max))
    return np.clip(values, values.dtype.type(low), values.dtype.type(high)).astype(target.array)


def _integers_of(values: NDArray[Any], target: DType, rounding: str) -> NDArray[Any]:
    """Floats as integers of at most 32 bits; f32 holds the limits of up to 16 bits exactly."""
    wide = values if target.bits <= 16 else values.astype(np.float64, copy=False)
    whole = np.rint(wide) if rounding == "nearest_even" else np.trunc(wide)
    np.clip(whole, target.min, target.max, out=whole)
    np.nan_to_num(whole, copy=False, nan=0.0)
    return whole.astype(target.array)


def _ieee_float(
    values: NDArray[Any], source: DType, target: DType, overflow: str
) -> NDArray[Any]:
    """Floats as f16, f32 or f64, by the hardware's own rounding."""
    if overflow == "saturate" and target.array.itemsize < values.dtype.itemsize:
        limit = values.dtype.type(target.max)
        values = np.clip(values, -limit, limit)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _quiet(values.astype(target.array))


def _shortened(values: NDArray[np.float32], target: DType, overflow: str) -> NDArray[np.float32]:
    """f32 values with the low mantissa bits rounded away, for the types with f32's exponent."""
    if overflow == "saturate":
        limit = np.float32(target.max)
        values = np.clip(values, -limit, limit)
    drop = np.uint32(23 - target.mantissa_bits)
    bits = values.view(np.uint32)
    odd = (bits >> drop) & np.uint32(1)
    odd += np.uint32((1 << (int(drop) - 1)) - 1)
    with np.errstate(over="ignore"):
        odd += bits
    odd &= np.uint32((0xFFFFFFFF >> drop << drop) & 0xFFFFFFFF)
    nan = np.isnan(values)
    if nan.any():
        odd[nan] = np.uint32(0x7FC00000)
    return odd.view(np.float32)


def _quiet(values: NDArray[Any]) -> NDArray[Any]:
    """The array, with every NaN made the positive quiet one."""
    nan = np.isnan(values)
    if nan.any():
        values[nan] = np.nan
    return values


def _codes_of(values: NDArray[Any], target: DType) -> NDArray[Any]:
    """The codes of values that are values of `target` already."""
    if target.is_integer:
        return _wrapped_codes(values, target)
    if target.name == "bf16":
        return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return values.view(target.storage)


@lru_cache(maxsize=256)
def _values_by_code(source: DType) -> NDArray[np.float32]:
    """The value of each code of a small float, a scale or a codebook."""
    codes = np.arange(1 << source.bits)
    if source.kind == "codebook":
        values = np.full(codes.size, np.nan)
        values[: len(source.table)] = source.table
    elif source.kind == "scale":
        values = np.where(codes == source.nan_code, np.nan, np.ldexp(1.0, codes - source.bias))
    else:
        mantissa = codes & ((1 << source.mantissa_bits) - 1)
        field = (codes >> source.mantissa_bits) & ((1 << source.exponent_bits) - 1)
        significand = mantissa + ((field > 0) << source.mantissa_bits)
        exponent = np.maximum(field, 1) - source.bias - source.mantissa_bits
        values = np.ldexp(significand.astype(np.float64), exponent)
        beyond = codes & ((1 << (source.bits - 1)) - 1)
        if source.has_infinity:
            values[beyond == source.infinity_code] = np.inf
        values = np.where(codes >> (source.bits - 1), -values, values)
        if source.has_nan:
            last = source.infinity_code if source.has_infinity else source.largest_code
            values[beyond > last] = np.nan
    table = values.astype(np.float32)
    table.setflags(write=False)
    return table


def _nearest_entry(values: NDArray[Any], target: DType) -> NDArray[Any]:
    """The code of the table's entry nearest to each value."""
    codes, boundaries = entry_boundaries(target)
    # NaN is sorted after all numbers: to the largest entry.
    return codes[np.searchsorted(boundaries, values.astype(np.float64), side="left")]


@lru_cache(maxsize=256)
def entry_boundaries(target: DType) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The codes of a codebook's entries in the order of values, and for each two neighbours the
    largest f64 that belongs to the lower one."""
    entries, first = np.unique(np.asarray(target.table), return_index=True)
    low, high = entries[:-1], entries[1:]
    # Knuth's two-sum: twice the middle is sum + error exactly, though f64 may not hold it.
    total = low + high
    part = total - low
    error = (low - (total - part)) + (high - part)
    middle = total / 2
    upper_wins = (error < 0) | ((error == 0) & (first[1:] < first[:-1]))
    boundaries = np.where(upper_wins, np.nextafter(middle, -np.inf), middle)
    return first.astype(target.storage), boundaries
