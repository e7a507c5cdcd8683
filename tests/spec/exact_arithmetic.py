"""Arithmetic on codes by exact rationals, for the tables of the conformance suite.

Shares nothing with vm: codes are taken apart as strings of digits (tests/isa/exact_types.py), IEEE
754's rules for zeros, infinities and NaN are written out here, and results are rounded once.
"""

from __future__ import annotations

import math
from decimal import Decimal, getcontext
from fractions import Fraction

from tests.isa.exact_types import (
    IEEE,
    INFINITY,
    NAN,
    float_parameters,
    round_exactly,
    value_of_digits,
)

getcontext().prec = 120
FLOATS = ("f16", "bf16", "f32", "f64")
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")

# A number is (sign, magnitude): the magnitude a Fraction, INFINITY or NAN; zeros have a sign.
Number = tuple[bool, Fraction | str]


def bits_of(name: str) -> int:
    return {"bf16": 16}.get(name) or int(name[1:].split("e")[0])


def number_of(name: str, code: int) -> Number:
    """What a code of a float type stands for."""
    bits = bits_of(name)
    digits = f"{code:0{bits}b}"
    value = value_of_digits(name, digits[1:])
    return digits[0] == "1", value


def code_of(name: str, number: Number) -> int:
    """The code of a number, rounded once to nearest even, with infinities beyond the range."""
    sign, magnitude = number
    e, m, _ = float_parameters(name)
    top = (2**e - 1) << m
    if magnitude == NAN:
        return top | 1 << (m - 1)
    if magnitude != INFINITY:
        magnitude = round_exactly(magnitude, name, "ieee")
    if magnitude == INFINITY:
        code = top
    else:
        bias = 2 ** (e - 1) - 1
        exponent = 1 - bias
        while magnitude >= Fraction(2) ** (exponent + 1):
            exponent += 1
        steps = magnitude / Fraction(2) ** (exponent - m)
        assert steps.denominator == 1
        code = ((exponent + bias - 1) << m) + int(steps)
    return code | (sign << (e + m))


def special_codes(name: str) -> list[int]:
    """Zeros, limits, ones, infinities, NaN and a few plain numbers, of a float type."""
    e, m, _ = float_parameters(name)
    bias = 2 ** (e - 1) - 1
    top = (2**e - 1) << m
    positive = [0, 1, (1 << m) - 1, 1 << m, bias << m, (bias << m) + 1, top - 1, top]
    third = code_of(name, (False, Fraction(1, 3)))
    large = code_of(name, (False, Fraction(1000001, 7)))
    both = [code for c in positive for code in (c, c | 1 << (e + m))]
    return [*both, top | 1 << (m - 1), third, large]


# --- operations on floats ---
def add(x: Number, y: Number) -> Number:
    (s, a), (t, b) = x, y
    if NAN in (a, b) or (a == b == INFINITY and s != t):
        return False, NAN
    if INFINITY in (a, b):
        return (s, a) if a == INFINITY else (t, b)
    total = (-a if s else a) + (-b if t else b)
    if total == 0:  # x + y of opposite signs is +0; -0 + -0 is -0
        return s and t, Fraction(0)
    return total < 0, abs(total)


def subtract(x: Number, y: Number) -> Number:
    return add(x, (not y[0], y[1]))


def multiply(x: Number, y: Number) -> Number:
    (s, a), (t, b) = x, y
    if NAN in (a, b) or {a, b} == {INFINITY, Fraction(0)}:
        return False, NAN
    return s != t, INFINITY if INFINITY in (a, b) else a * b


def divide(x: Number, y: Number) -> Number:
    (s, a), (t, b) = x, y
    if NAN in (a, b) or a == b == INFINITY or a == b == 0:
        return False, NAN
    if a == INFINITY or b == 0:
        return s != t, INFINITY
    return s != t, Fraction(0) if b == INFINITY else a / b


def ordered(number: Number) -> Fraction | float:
    """A number as one that Python compares: exact, infinities as floats."""
    sign, magnitude = number
    value = math.inf if magnitude == INFINITY else magnitude
    return -value if sign else value


def smaller(x: Number, y: Number) -> Number:
    if NAN in (x[1], y[1]):
        return y if x[1] == NAN else x
    return x if ordered(x) <= ordered(y) else y


def larger(x: Number, y: Number) -> Number:
    if NAN in (x[1], y[1]):
        return y if x[1] == NAN else x
    return x if ordered(x) >= ordered(y) else y


def multiply_add(x: Number, y: Number, z: Number) -> Number:
    return add(multiply(x, y), z)


def square_root(name: str, code: int) -> int:
    """The code of the square root, rounded once."""
    sign, magnitude = number_of(name, code)
    if magnitude == NAN or (sign and magnitude != 0):
        return code_of(name, (False, NAN))
    if magnitude in (INFINITY, 0):
        return code
    # Sixty bits behind the point of a scaled root decide every rounding: a square root is no
    # middle of two neighbours unless it is exact.
    shift = 2 * (80 + IEEE[name][1] + 2 ** IEEE[name][0])
    scaled = (magnitude.numerator << shift) // magnitude.denominator
    root = math.isqrt(scaled)
    exact = root * root == scaled and (magnitude.numerator << shift) % magnitude.denominator == 0
    value = Fraction(2 * root + (not exact), 2) / Fraction(2) ** (shift // 2)
    return code_of(name, (False, value))


COMPARISONS = {
    "eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y,
}  # fmt: skip


def compare(op: str, x: Number, y: Number) -> bool:
    if NAN in (x[1], y[1]):
        return op == "ne"
    return COMPARISONS[op](ordered(x), ordered(y))


# --- operations on integers ---
def range_of(name: str) -> tuple[int, int]:
    bits = int(name[1:])
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def wrapped(name: str, value: int) -> int:
    low, high = range_of(name)
    return (value - low) % (high - low + 1) + low


def special_integers(name: str) -> list[int]:
    low, high = range_of(name)
    below = [-1, -3] if low else []
    return list(dict.fromkeys([0, 1, 2, 7, high - 1, high, low, low + 1, *below]))


def shift_left(name: str, x: int, y: int) -> int:
    return wrapped(name, x * 2**y) if y < int(name[1:]) else 0


def shift_right(name: str, x: int, y: int) -> int:
    return math.floor(Fraction(x, 2 ** min(y, 64)))


WHOLE = {
    "add": lambda n, x, y: wrapped(n, x + y),
    "sub": lambda n, x, y: wrapped(n, x - y),
    "mul": lambda n, x, y: wrapped(n, x * y),
    "div": lambda n, x, y: wrapped(n, math.floor(Fraction(x, y))),
    "mod": lambda n, x, y: wrapped(n, x - y * math.floor(Fraction(x, y))),
    "ceil_div": lambda n, x, y: wrapped(n, math.ceil(Fraction(x, y))),
    "min": lambda n, x, y: sorted((x, y))[0],
    "max": lambda n, x, y: sorted((x, y))[1],
    "bit_and": lambda n, x, y: bitwise(n, x, y, lambda a, b: a == b == "1"),
    "bit_or": lambda n, x, y: bitwise(n, x, y, lambda a, b: "1" in (a, b)),
    "bit_xor": lambda n, x, y: bitwise(n, x, y, lambda a, b: a != b),
    "shl": shift_left,
    "shr": shift_right,
}


def digits(name: str, x: int) -> str:
    bits = int(name[1:])
    return f"{x % 2**bits:0{bits}b}"


def bitwise(name: str, x: int, y: int, rule) -> int:
    """An operation on binary digits, one by one."""
    text = "".join(
        "1" if rule(a, b) else "0"
        for a, b in zip(digits(name, x), digits(name, y), strict=True)
    )
    return wrapped(name, int(text, 2))


# --- functions, to a hundred digits ---
def pi() -> Decimal:
    """By Machin's formula."""
    def inverse_tangent(n: int) -> Decimal:
        total, term, k = Decimal(0), Decimal(1) / n, 0
        while abs(term) > Decimal(10) ** -118:
            total += term / (2 * k + 1) if k % 2 == 0 else -term / (2 * k + 1)
            term /= n * n
            k += 1
        return total

    return 4 * (4 * inverse_tangent(5) - inverse_tangent(239))


PI = pi()


def sine(x: Decimal) -> Decimal:
    x = x % (2 * PI)
    total, term, k = Decimal(0), x, 1
    while abs(term) > Decimal(10) ** -110:
        total += term
        term *= -x * x / ((k + 1) * (k + 2))
        k += 2
    return total


def tangent(x: Decimal) -> Decimal:
    grown = (2 * x).exp()
    return (grown - 1) / (grown + 1)


FUNCTIONS = {
    "exp": lambda x: x.exp(),
    "exp2": lambda x: (x * Decimal(2).ln()).exp(),
    "log": lambda x: x.ln(),
    "log2": lambda x: x.ln() / Decimal(2).ln(),
    "rsqrt": lambda x: 1 / x.sqrt(),
    "tanh": tangent,
    "sin": sine,
    "cos": lambda x: sine(x + PI / 2),
}
