"""Types and numbers of the second machine, from chapters 2 and 7 of spec/ alone.

A value is a Python int (integers), bool, or float (an f64 holds every float type's values).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip
IEEE = {"f16": (16, 5, 10), "bf16": (16, 8, 7), "tf32": (32, 8, 10), "f32": (32, 8, 23),
        "f64": (64, 11, 52)}  # fmt: skip


class Type:
    """A dtype: its bits, its kind, and for floats exponent and mantissa bits and special codes."""

    def __init__(self, name: str):
        self.name, self.e, self.m, self.infinite, self.nan = name, 0, 0, False, False
        if name == "bool":
            self.kind, self.bits = "bool", 8
        elif name == "nf4":
            self.kind, self.bits, self.table = "codebook", 4, NF4
        elif name == "f8e8m0":
            self.kind, self.bits, self.nan, self.bias = "scale", 8, True, 128
            self.table, self.largest = [2.0 ** (n - 127) for n in range(255)] + [math.nan], 2.0**127
        elif found := re.fullmatch(r"([ui])(\d+)", name):
            self.kind, self.bits = {"u": "unsigned", "i": "signed"}[found[1]], int(found[2])
        else:
            self.kind, self.nan, self.infinite = "float", name in IEEE, name in IEEE
            found = re.findall(r"\d+", name)
            self.bits, self.e, self.m = IEEE[name] if self.nan else map(int, found)
            self.nan |= name in ("f8e5m2", "f8e4m3")
            self.infinite |= name == "f8e5m2"
            self.bias = (1 << (self.e - 1)) - 1
            self.unused = self.bits - 1 - self.e - self.m
            above = 1 << self.m if self.infinite else int(self.nan)
            self.largest_code = (1 << (self.e + self.m)) - 1 - above
            self.largest = self.magnitude(self.largest_code)
        self.integer = self.kind in ("unsigned", "signed")
        self.low = -(1 << (self.bits - 1)) if self.kind == "signed" else 0
        self.high = self.low + (1 << self.bits) - 1

    def magnitude(self, code: int) -> float:
        """The value of a float's exponent and mantissa fields."""
        x, y = code >> self.m, code & ((1 << self.m) - 1)
        significand = y + (1 << self.m if x else 0)
        return math.ldexp(significand, max(x, 1) - self.bias - self.m)

    def value(self, code: int):
        """What a code stands for."""
        if self.kind == "bool":
            return code != 0
        if self.integer:
            return code - (1 << self.bits) if code > self.high else code
        if self.kind in ("codebook", "scale"):
            return self.table[code]
        code >>= self.unused
        below = code & ((1 << (self.e + self.m)) - 1)
        if below > self.largest_code:
            infinite = self.infinite and below == self.largest_code + 1
            found = math.inf if infinite else math.nan
        else:
            found = self.magnitude(below)
        return -found if code >> (self.e + self.m) else found

    def code(self, value) -> int:
        """The code of a value of this type."""
        if self.kind == "bool":
            return int(value)
        if self.integer:
            return value & ((1 << self.bits) - 1)
        if self.kind in ("codebook", "scale"):
            return self.table.index(value) if value == value else 255
        if math.isnan(value):
            quiet = 1 << (self.m - 1) if self.infinite else 0
            return (self.largest_code + 1 + quiet) << self.unused
        size, sign = abs(value), int(math.copysign(1.0, value) < 0) << (self.e + self.m)
        if size == math.inf:
            return (self.largest_code + 1 | sign) << self.unused
        exponent = max(math.frexp(size)[1] - 1, 1 - self.bias) if size else 1 - self.bias
        steps = int(math.ldexp(size, self.m - exponent))
        return ((((exponent + self.bias - 1) << self.m) + steps) | sign) << self.unused


type_of = lru_cache(maxsize=None)(Type)


def whole_steps(steps: Fraction, rounding: str, random: int, even: bool = True) -> int:
    """A number of steps, not negative, as a whole one; of two equally near the even or larger."""
    whole = math.floor(steps)
    rest = steps - whole
    if rounding == "stochastic":
        return whole + (Fraction(random, 1 << 32) < rest)
    if rounding == "toward_zero":
        return whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and (
        whole % 2 == 1 if even else whole > 0)))  # fmt: skip


def to_float(x, kind: Type, overflow="ieee", rounding="nearest_even", random=0) -> float:
    """A number (int, Fraction or float) as a value of a float type or scale."""
    beyond = kind.largest
    if overflow == "ieee" and (kind.infinite or kind.nan):
        beyond = math.inf if kind.infinite else math.nan
    if isinstance(x, float) and math.isnan(x):
        return x if kind.nan else kind.largest
    negative = math.copysign(1.0, x) < 0 if isinstance(x, float) else x < 0
    if isinstance(x, float) and math.isinf(x):
        return -beyond if negative else beyond
    size = abs(Fraction(x))
    if size:
        exponent = size.numerator.bit_length() - size.denominator.bit_length()
        exponent -= Fraction(2) ** exponent > size  # now 2^exponent <= size < 2^(exponent + 1)
        place = Fraction(2) ** (max(exponent, 1 - kind.bias) - kind.m)
        size = place * whole_steps(size / place, rounding, random, kind.m > 0)
    if size > kind.largest:
        size = kind.largest if rounding == "toward_zero" else beyond
    return -float(size) if negative else float(size)


def arithmetic(x, kind: Type):
    """A result of arithmetic: integers wrap, floats are rounded once with IEEE overflow."""
    if kind.kind == "bool":
        return bool(x)
    if kind.integer:
        return (int(x) - kind.low) % (1 << kind.bits) + kind.low
    return x if kind.name == "f64" and isinstance(x, float) else to_float(x, kind)


def cast(x, source: Type, target: Type, overflow="ieee", rounding="nearest_even", random=0):
    """Rules Num/cast-*."""
    if source.name == target.name:
        return x
    if target.kind == "bool":
        return x != 0
    special = isinstance(x, float) and not math.isfinite(x)
    if target.integer:
        if special:
            return 0 if math.isnan(x) else target.high if x > 0 else target.low
        whole = whole_steps(abs(Fraction(x)), rounding, random)
        return min(max(whole if x > 0 else -whole, target.low), target.high)
    if target.kind == "codebook":
        if special:
            return NF4[0] if x < 0 else NF4[-1]
        return min(NF4, key=lambda entry: (abs(Fraction(entry) - Fraction(x)), NF4.index(entry)))
    if target.kind == "scale" and x <= 0:
        return math.nan if overflow == "ieee" else 2.0**-127
    holds = source.infinite and target.infinite and source.e <= target.e and source.m <= target.m
    if special and holds:
        return x
    found = to_float(x, target, overflow, rounding, random)
    return max(found, 2.0**-127) if target.kind == "scale" and found == found else found


def philox_word(seed: int, stream: int, word: int) -> int:
    """Word `word` of a stream (rule Num/philox); all three are taken modulo 2^64."""
    seed, stream, word = (x & ((1 << 64) - 1) for x in (seed, stream, word))
    block, mask = word // 4, 0xFFFFFFFF
    c = [block & mask, block >> 32, stream & mask, stream >> 32]
    k0, k1 = seed & mask, seed >> 32
    for _ in range(10):
        low, high = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(high >> 32) ^ c[1] ^ k0, high & mask, (low >> 32) ^ c[3] ^ k1, low & mask]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c[word % 4]
