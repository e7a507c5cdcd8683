"""Types and numbers of the second machine, from chapters 2 and 7 of spec/ alone.

A value is a Python int (integers), bool, or float (an f64 holds every float type's values).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

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
            self.kind, self.bits = "codebook", 4
        elif name == "f8e8m0":
            self.kind, self.bits, self.nan = "scale", 8, True
        elif name in IEEE:
            self.kind, (self.bits, self.e, self.m) = "float", IEEE[name]
            self.infinite = self.nan = True
        elif found := re.fullmatch(r"([ui])(\d+)", name):
            self.kind, self.bits = {"u": "unsigned", "i": "signed"}[found[1]], int(found[2])
        else:
            found = re.fullmatch(r"f(\d+)e(\d+)m(\d+)", name)
            self.kind, self.bits, self.e, self.m = "float", *(int(found[n]) for n in (1, 2, 3))
            self.infinite, self.nan = name == "f8e5m2", name in ("f8e5m2", "f8e4m3")
        self.integer = self.kind in ("unsigned", "signed")
        self.low = -(1 << (self.bits - 1)) if self.kind == "signed" else 0
        self.high = self.low + (1 << self.bits) - 1
        self.bias = (1 << (self.e - 1)) - 1 if self.e else 0
        self.unused = self.bits - 1 - self.e - self.m if self.kind == "float" else 0
        top = (1 << (self.e + self.m)) - 1
        self.largest_code = top - (1 << self.m if self.infinite else 1 if self.nan else 0)
        if self.kind == "float":
            self.largest = self.magnitude(self.largest_code)

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
        if self.kind == "codebook":
            return NF4[code]
        if self.kind == "scale":
            return math.nan if code == 255 else math.ldexp(1.0, code - 127)
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
        if self.kind == "codebook":
            return NF4.index(value)
        if self.kind == "scale":
            return 255 if math.isnan(value) else math.frexp(value)[1] - 1 + 127
        sign = int(math.copysign(1.0, value) < 0) << (self.e + self.m)
        if math.isnan(value):
            quiet = 1 << (self.m - 1) if self.infinite else 0
            return (self.largest_code + 1 + quiet) << self.unused
        size = abs(value)
        if size == math.inf:
            code = self.largest_code + 1
        else:
            exponent = max(math.frexp(size)[1] - 1, 1 - self.bias) if size else 1 - self.bias
            steps = int(math.ldexp(size, self.m - exponent))
            code = ((exponent + self.bias - 1) << self.m) + steps
        return (code | sign) << self.unused


TYPES: dict[str, Type] = {}


def type_of(name: str) -> Type:
    if name not in TYPES:
        TYPES[name] = Type(name)
    return TYPES[name]


def rounded(x: Fraction, kind: Type, to_zero: bool) -> Fraction:
    """The nearest multiple of the last place at x (not negative), without a largest exponent."""
    if x == 0:
        return x
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    if Fraction(2) ** exponent > x:
        exponent -= 1
    place = Fraction(2) ** (max(exponent, 1 - kind.bias) - kind.m)
    steps = x / place
    whole = math.floor(steps)
    if not to_zero:
        rest = steps - whole
        odd = whole % 2 == 1
        if kind.m == 0:  # of two odd significands the larger magnitude
            odd = whole != 0
        whole += rest > Fraction(1, 2) or (rest == Fraction(1, 2) and odd)
    return whole * place


def to_float(x, kind: Type, ieee: bool = True, to_zero: bool = False) -> float:
    """A number (int, Fraction or float) as a value of a float type."""
    if isinstance(x, float) and not math.isfinite(x):
        if math.isnan(x):
            return x if kind.nan else kind.largest
        beyond = kind.infinite if ieee else False
        if ieee and not kind.infinite and kind.nan:
            return math.nan
        return x if beyond else math.copysign(kind.largest, x)
    negative = math.copysign(1.0, x) < 0 if isinstance(x, float) else x < 0
    size = rounded(abs(Fraction(x)), kind, to_zero)
    if size > kind.largest:
        over = kind.largest
        if ieee and not to_zero and (kind.infinite or kind.nan):
            over = math.inf if kind.infinite else math.nan
        size = over
    return -float(size) if negative else float(size)


def arithmetic(x, kind: Type):
    """A result of arithmetic: integers wrap, floats are rounded once with IEEE overflow."""
    if kind.kind == "bool":
        return bool(x)
    if kind.integer:
        return (x - kind.low) % (1 << kind.bits) + kind.low
    return x if kind.name == "f64" and isinstance(x, float) else to_float(x, kind)


def holds_all(source: Type, target: Type) -> bool:
    return (source.kind == target.kind == "float" and source.infinite and target.infinite
            and source.e <= target.e and source.m <= target.m)  # fmt: skip


def cast(x, source: Type, target: Type, overflow: str, rounding: str):
    """Rules Num/cast-*."""
    if source.name == target.name:
        return x
    to_zero = rounding == "toward_zero"
    if target.kind == "bool":
        return x != 0
    if isinstance(x, bool):
        x = int(x)
    nan = isinstance(x, float) and math.isnan(x)
    infinite = isinstance(x, float) and math.isinf(x)
    if target.integer:
        if nan:
            return 0
        if infinite:
            return target.high if x > 0 else target.low
        whole = x if isinstance(x, int) else math.trunc(x) if to_zero else round(x)
        return min(max(whole, target.low), target.high)
    if target.kind == "codebook":
        if nan:
            return NF4[-1]
        if infinite:
            return NF4[-1] if x > 0 else NF4[0]
        return min(NF4, key=lambda entry: (abs(Fraction(entry) - Fraction(x)), NF4.index(entry)))
    if target.kind == "scale":
        if nan or (x <= 0 and overflow == "ieee"):
            return math.nan
        if x <= 0:
            return math.ldexp(1.0, -127)
        exponent = 200 if infinite else scale_exponent(Fraction(x), to_zero)
        if exponent > 127 and overflow == "ieee" and (infinite or not to_zero):
            return math.nan
        return math.ldexp(1.0, min(max(exponent, -127), 127))
    if nan:
        return math.nan if target.nan else target.largest
    if infinite and holds_all(source, target):
        return x
    return to_float(x, target, overflow == "ieee", to_zero)


def scale_exponent(x: Fraction, to_zero: bool) -> int:
    """The exponent of the nearest power of two, of two equally near the larger."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    if Fraction(2) ** exponent > x:
        exponent -= 1
    return exponent + (not to_zero and x >= Fraction(2) ** exponent * Fraction(3, 2))


# --- Philox4x32-10 ---
def philox_word(seed: int, stream: int, word: int) -> int:
    block, mask = word // 4, 0xFFFFFFFF
    c = [block & mask, block >> 32, stream & mask, stream >> 32]
    k0, k1 = seed & mask, seed >> 32
    for _ in range(10):
        low, high = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(high >> 32) ^ c[1] ^ k0, high & mask, (low >> 32) ^ c[3] ^ k1, low & mask]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c[word % 4]
