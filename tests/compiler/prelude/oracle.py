"""What casts must give, from tables of exact values: written apart from the prelude and from vm.

A float type's positive values ascend with their codes, so its table is the list of values by code,
and rounding is finding the middle of two neighbours that a number lies below. All is in float64,
where the values and the middles of every type here are exact (f32 to f64 pairs go through NumPy's
own casts).
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np

NAMED_FLOATS = {"f16": (16, 5, 10), "bf16": (16, 8, 7), "tf32": (32, 8, 10), "f32": (32, 8, 23)}
SMALL_FLOATS = tuple(f"f{b}e{e}m{b - 1 - e}" for b in range(3, 9) for e in range(1, b))
SMALL_INTEGERS = tuple(f"{sign}{bits}" for bits in range(1, 9) for sign in "ui")


def bits_of(name: str) -> int:
    if name in ("bool", "f8e8m0"):
        return 8
    if name == "f64":
        return 64
    return NAMED_FLOATS[name][0] if name in NAMED_FLOATS else int(re.match(r".(\d+)", name)[1])


def is_integer(name: str) -> bool:
    return re.fullmatch(r"[ui]\d+", name) is not None


def format_of(name: str) -> tuple[int, int, str, int]:
    """Exponent bits, mantissa bits, special codes, unused low bits."""
    if name in NAMED_FLOATS:
        bits, exponent, mantissa = NAMED_FLOATS[name]
        return exponent, mantissa, "ieee", bits - 1 - exponent - mantissa
    exponent, mantissa = map(int, re.fullmatch(r"f\de(\d)m(\d)", name).groups())
    return exponent, mantissa, {"f8e4m3": "nan", "f8e5m2": "ieee"}.get(name, "finite"), 0


def code_type(name: str) -> np.dtype:
    return np.dtype(np.uint64 if bits_of(name) > 32 else np.uint32)


@cache
def positive_values(name: str) -> np.ndarray:
    """The finite values from 0 up, by code (without sign and unused bits)."""
    exponent, mantissa, special, _ = format_of(name)
    bias = 2 ** (exponent - 1) - 1
    result = []
    for field in range(2**exponent - (special == "ieee")):
        for part in range(2**mantissa):
            if field == 0:
                result.append(np.ldexp(float(part), 1 - bias - mantissa))
            else:
                result.append(np.ldexp(float(part + 2**mantissa), field - bias - mantissa))
    return np.array(result[:-1] if special == "nan" else result)


def decode(name: str, codes: np.ndarray) -> np.ndarray:
    """Float values as float64, integers as int64 or uint64."""
    codes = np.asarray(codes).astype(np.uint64)
    if name == "bool":
        return (codes != 0).astype(np.int64)
    if is_integer(name):
        bits = bits_of(name)
        if name[0] == "u":
            return codes
        spare = np.uint64(64 - bits)
        return (codes << spare).view(np.int64) >> spare.astype(np.int64)
    if name == "f8e8m0":
        values = np.ldexp(1.0, codes.astype(np.int64) - 127)
        return np.where(codes == 255, np.nan, values)
    if name in ("f32", "f64"):
        kind = np.uint32 if name == "f32" else np.uint64
        with np.errstate(invalid="ignore"):
            return codes.astype(kind).view(f"f{np.dtype(kind).itemsize}").astype(np.float64)
    exponent, mantissa, special, unused = format_of(name)
    table = positive_values(name)
    magnitude = (codes >> np.uint64(unused)) & np.uint64(2 ** (exponent + mantissa) - 1)
    negative = (codes >> np.uint64(unused + exponent + mantissa)) & np.uint64(1)
    values = table[np.minimum(magnitude, len(table) - 1).astype(np.int64)]
    beyond = magnitude >= len(table)
    infinite = beyond & (magnitude == len(table)) & (special == "ieee")
    values = np.where(beyond, np.where(infinite, np.inf, np.nan), values)
    return np.where(negative != 0, -values, values)


def survives(source: str, target: str) -> bool:
    """Infinities of `source` are kept by every cast to `target`."""
    if source == "f64" or target == "f64":
        return target == "f64" and not is_integer(source) and source not in ("bool", "f8e8m0")
    if not all(name in NAMED_FLOATS or name == "f8e5m2" for name in (source, target)):
        return False
    (e, m, *_), (to_e, to_m, *_) = format_of(source), format_of(target)
    return e <= to_e and m <= to_m


def encode_float(name: str, x: np.ndarray, mode: str, keep: bool) -> np.ndarray:
    """The codes of float64 numbers in a float type of at most 19 significant bits."""
    exponent, mantissa, special, unused = format_of(name)
    table = positive_values(name)
    magnitude = np.abs(np.where(np.isnan(x), 0, x))
    step = table[-1] - table[-2] if mantissa else table[-1]
    middles = np.append((table[1:] + table[:-1]) / 2, table[-1] + step / 2)
    code = np.searchsorted(middles, magnitude, side="left")
    tie = middles[np.minimum(code, len(middles) - 1)] == magnitude
    code = np.where(tie & ((code > 0) if mantissa == 0 else (code % 2 == 1)), code + 1, code)
    infinite = np.isinf(x)
    too_large = (code >= len(table)) | infinite
    saturated = len(table) - 1
    beyond = saturated if special == "finite" else len(table)
    code = np.where(too_large, beyond if mode == "ieee" else saturated, code)
    code = np.where(infinite & keep, len(table), code)
    code = code | np.where(np.signbit(x), 1 << (exponent + mantissa), 0)
    nan = saturated if special == "finite" else 2 ** (exponent + mantissa) - 1
    return (np.where(np.isnan(x), nan, code).astype(np.uint64) << np.uint64(unused)).astype(
        code_type(name)
    )


def encode_scale(x: np.ndarray, mode: str) -> np.ndarray:
    values = np.ldexp(1.0, np.arange(255) - 127)
    middles = np.append(values * 1.5, np.inf)
    code = np.searchsorted(middles, x, side="right")
    code = np.where(x >= values[-1] * 1.5, 255 if mode == "ieee" else 254, np.minimum(code, 254))
    code = np.where(~(x > 0), 255 if mode == "ieee" else 0, code)
    return np.where(np.isnan(x), 255, code).astype(np.uint32)


def encode_integer(name: str, x: np.ndarray, mode: str) -> np.ndarray:
    """Integers (of int64 or uint64) or float64 numbers as an integer type's codes."""
    bits = bits_of(name)
    low, high = (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    result = []
    for each in x.tolist():
        if isinstance(each, float):
            if each != each:
                each = 0
            elif abs(each) == np.inf:
                each = high if each > 0 else low
            else:
                each = round(each)
        if mode == "wrap":
            result.append(each % 2**bits)
        else:
            result.append(min(max(each, low), high) % 2**bits)
    return np.array(result, np.uint64).astype(code_type(name))


def cast(source: str, target: str, codes: np.ndarray, mode: str = "saturate") -> np.ndarray:
    """The codes of `target` that codes of `source` become."""
    if source == target:
        return codes.astype(code_type(target))
    x = decode(source, codes)
    if target == "bool":
        return (x != 0).astype(np.uint32)
    if is_integer(target):
        return encode_integer(target, x, mode)
    if target == "f64":
        return x.astype(np.float64).view(np.uint64)
    if target == "f32":
        with np.errstate(over="ignore"):
            near = x.astype(np.float32)
        clip = np.isinf(near) & (mode != "ieee") & (not survives(source, target))
        largest = np.copysign(np.finfo(np.float32).max, near)
        return np.where(clip, largest, near).astype(np.float32).view(np.uint32)
    if x.dtype != np.float64:
        # Too wide for a float64: what does not fit is joined into its last bit.
        wide = x.astype(object)
        exact = np.array([_to_odd(int(each)) for each in wide.tolist()])
    else:
        exact = x
    if target == "f8e8m0":
        return encode_scale(exact, mode)
    return encode_float(target, exact, mode, survives(source, target))


def _to_odd(value: int) -> float:
    magnitude = abs(value)
    drop = max(magnitude.bit_length() - 53, 0)
    kept = magnitude >> drop
    if kept << drop != magnitude:
        kept |= 1
    return float(np.ldexp(float(kept), drop)) * (-1 if value < 0 else 1)


def same(name: str, codes: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Whether codes agree: bit for bit, but any NaN is as good as another."""
    if is_integer(name) or name == "bool":
        return codes == expected
    nan = np.isnan(decode(name, codes)) & np.isnan(decode(name, expected))
    return (codes == expected) | nan


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Rows of codes as rows of 32-bit words, little-endian at bit k * bits; unused bits are 0."""
    rows, count = codes.shape
    wide = codes.astype(np.uint64)
    digits = (wide[:, :, None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)
    flat = digits.reshape(rows, count * bits).astype(np.uint8)
    flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 32)))
    return np.packbits(flat, axis=1, bitorder="little").view(np.uint32)


def unpack(words: np.ndarray, bits: int, count: int) -> np.ndarray:
    flat = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    digits = flat[:, : bits * count].reshape(len(words), count, bits).astype(np.uint64)
    codes = (digits << np.arange(bits, dtype=np.uint64)).sum(axis=2, dtype=np.uint64)
    return codes if bits > 32 else codes.astype(np.uint32)
