"""The oracle of casts: each type's values as a table of exact rationals, rounding by bisection.

Written from the definition of the types (design.md 8), and sharing nothing with vm: codes are read
as strings of binary digits, values are `Fraction`s, the boundaries between neighbours are exact
middles. Where a middle is a float64 exactly (always, up to 19 significant bits; asserted) arrays of
float64 are rounded by `searchsorted`. Types too large to enumerate are rounded by `round_exactly`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

NAN, INFINITY, MINUS_INFINITY = "nan", "infinity", "-infinity"

# exponent bits, mantissa bits, what the all-ones exponent means
IEEE = {"f16": (5, 10), "bf16": (8, 7), "tf32": (8, 10), "f32": (8, 23), "f64": (11, 52)}
SMALL_FLOATS = [f"f{b}e{e}m{b - 1 - e}" for b in range(3, 9) for e in range(1, b)]
INTEGERS = [f"{sign}{bits}" for sign in "ui" for bits in range(1, 17)]


def is_integer(name: str) -> bool:
    return name[0] in "ui" and name[1:].isdigit()


def integer_range(name: str) -> tuple[int, int]:
    bits = int(name[1:])
    return (0, 2**bits - 1) if name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@cache
def float_parameters(name: str) -> tuple[int, int, str]:
    """Exponent bits, mantissa bits, and whether codes are special: "ieee", "one nan" or "none"."""
    if name in IEEE:
        return (*IEEE[name], "ieee")
    exponent, mantissa = (int(part) for part in name.split("e")[1].split("m"))
    return exponent, mantissa, {"f8e5m2": "ieee", "f8e4m3": "one nan"}.get(name, "none")


def value_of_digits(name: str, digits: str) -> Fraction | str:
    """The meaning of a code's binary digits below the sign, most significant first, in a float."""
    e, m, special = float_parameters(name)
    exponent, mantissa = digits[:e], digits[e:]
    if special == "ieee" and "0" not in exponent:
        return NAN if "1" in mantissa else INFINITY
    if special == "one nan" and "0" not in digits:
        return NAN
    bias = 2 ** (e - 1) - 1
    significand = int("0" + mantissa, 2) + ("1" in exponent) * 2**m
    power = max(int(exponent, 2), 1) - bias - m
    return Fraction(significand * 2 ** max(power, 0), 2 ** max(-power, 0))


def negative(value: Fraction | str) -> Fraction | str:
    return {NAN: NAN, INFINITY: MINUS_INFINITY}[value] if isinstance(value, str) else -value


@cache
def values_of_codes(name: str) -> list[Fraction | str]:
    """The value of every code of a type of up to 19 significant bits, in the order of codes."""
    if is_integer(name):
        low, high = integer_range(name)
        return [Fraction(value) for value in [*range(high + 1), *range(low, 0)]]
    if name == "bool":
        return [Fraction(0), Fraction(1)]
    if name == "f8e8m0":
        return [Fraction(2) ** (c - 127) for c in range(255)] + [NAN]
    e, m, _ = float_parameters(name)
    positive = [value_of_digits(name, f"{code:0{e + m}b}") for code in range(2 ** (e + m))]
    return positive + [negative(value) for value in positive]


def power_below(x: Fraction) -> int:
    """The exponent of the largest power of two that is not above the positive x."""
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    power, number = x.denominator << max(exponent, 0), x.numerator << max(-exponent, 0)
    return exponent if power <= number else exponent - 1


def as_float64(value: Fraction | str) -> float:
    if isinstance(value, str):
        return {NAN: np.nan, INFINITY: np.inf, MINUS_INFINITY: -np.inf}[value]
    numerator, denominator = value.as_integer_ratio()
    number = numerator / denominator
    assert number.as_integer_ratio() == (numerator, denominator)  # both are in lowest terms
    return number


@cache
def decoded(name: str) -> np.ndarray:
    """float64 of every code; where a code is negative zero, so is the number."""
    numbers = np.array([as_float64(value) for value in values_of_codes(name)])
    if not is_integer(name) and name not in ("bool", "f8e8m0"):
        half = numbers.size // 2
        numbers[half] = -0.0
    return numbers


@dataclass(frozen=True)
class Table:
    """A type's finite values in order, and where rounding passes from one to the next.

    `middles[i]` lies between `values[i - 1]` and `values[i]`; the first and the last separate the
    finite values from overflow. `tie_up[i]` tells whether the middle itself goes up.
    """

    values: np.ndarray
    middles: np.ndarray
    tie_up: np.ndarray
    has_infinity: bool
    has_nan: bool


def _significands(name: str, values: np.ndarray) -> np.ndarray:
    """Each value's magnitude in units of its own last place, an integer (f8e8m0 aside)."""
    e, m, _ = float_parameters(name)
    exponents = np.maximum(np.frexp(values)[1] - 1, 1 - (2 ** (e - 1) - 1))
    significands = np.ldexp(np.abs(values), m - exponents)
    assert (significands == np.rint(significands)).all() and significands.max() < 2 ** (m + 1)
    return significands


def _ties_go_up(name: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether the middle of two neighbours is rounded to the higher: to the even significand."""
    if is_integer(name):
        return high % 2 == 0
    if name == "f8e8m0":
        return np.ones(low.size, dtype=bool)
    inner, outer = np.where(low >= 0, low, -high), low >= 0
    odd = _significands(name, inner) % 2 == 1
    # Significands of types without mantissa bits are 1 or 0; of two odd ones the larger magnitude
    # wins, which leaves the rule as it is: away from zero where the inner one is odd.
    return odd == outer


@cache
def table(name: str) -> Table:
    every = decoded(name)
    finite = np.unique(every[np.isfinite(every)])
    if is_integer(name):
        gap = 1.0
    elif name == "f8e8m0":
        gap = finite[-1]
    else:
        # What follows the largest value if exponents had no limit; it lies in the same power of
        # two or begins the next, so that the step is that of the largest value's own power.
        gap = float(np.spacing(finite[-1])) * 2.0 ** (52 - float_parameters(name)[1])
    before = 0.0 if name == "f8e8m0" else finite[0] - gap
    low = np.append(before, finite)
    high = np.append(finite, finite[-1] + gap)
    total = low + high
    assert (total - low == high).all() and (total - high == low).all()
    return Table(
        values=finite,
        middles=total / 2,
        tie_up=_ties_go_up(name, low, high),
        has_infinity=bool(np.isinf(every).any()),
        has_nan=bool(np.isnan(every).any()),
    )


@cache
def survives(source: str, target: str) -> bool:
    """Every value of the float `source`, the infinities too, is a value of `target`."""
    if target not in IEEE or source not in [*IEEE, "f8e5m2"]:
        return target == source == "f8e5m2"
    if "f64" in (source, target) or "f32" in (source, target):
        return target == "f64" or (target == "f32" and source != "f64")
    return set(decoded(source)[np.isfinite(decoded(source))]) <= set(decoded(target))


def cast_exactly(
    numbers: np.ndarray, source: str, target: str, overflow: str, rounding: str
) -> np.ndarray:
    """The cast of float64 numbers (exact values of `source`) to an enumerable type: float64."""
    if target == "bool":
        return (numbers != 0).astype(np.float64)
    of = table(target)
    nan, last = np.isnan(numbers), of.values.size - 1
    x = np.where(nan, 0.0, numbers)
    if rounding == "nearest_even":
        place = np.searchsorted(of.middles, x, side="left")
        inside = np.minimum(place, last + 1)
        place += (x == of.middles[inside]) & of.tie_up[inside]
        place -= 1
    else:
        towards_minus = np.searchsorted(of.values, x, side="right") - 1
        towards_plus = np.searchsorted(of.values, x, side="left")
        place = np.clip(np.where(x < 0, towards_plus, towards_minus), 0, last)
    result = of.values[np.clip(place, 0, last)]
    above, below = (place > last) | (x == np.inf), (place < 0) | (x == -np.inf)
    if is_integer(target):
        return np.where(nan, 0.0, result)
    if target == "f8e8m0":
        # Only what is above has overflowed; 0 and negative numbers have no value of this type.
        result = np.where(below & (x > 0), of.values[0], result)
        if overflow == "ieee":
            result[above | (x <= 0)] = np.nan
        return np.where(nan, np.nan, result)
    result = np.where(result == 0, np.copysign(0.0, x), result)
    if overflow == "ieee" and (of.has_infinity or of.has_nan):
        result[above] = np.inf if of.has_infinity else np.nan
        result[below] = -np.inf if of.has_infinity else np.nan
    elif survives(source, target):
        result = np.where(np.isinf(x), x, result)
    return np.where(nan, np.nan if of.has_nan else of.values[-1], result)


def whole_numbers(numbers: np.ndarray, rounding: str) -> np.ndarray:
    """float64 numbers rounded to integers, by Python's exact `round` and `int`."""
    to_whole = round if rounding == "nearest_even" else int
    whole = [float(to_whole(x)) if abs(x) < np.inf else x for x in numbers.tolist()]
    return np.array(whole)


def saturated(whole: np.ndarray, target: str) -> np.ndarray:
    """The whole float64 numbers as an integer type of any width; NaN gives 0.

    One more than the largest integer is a power of two, a float64; the largest itself need not be.
    """
    low, high = integer_range(target)
    array = np.dtype("u8" if low == 0 else "i8")
    above, below = whole >= float(high + 1), whole < float(low)
    inside = np.where(np.isnan(whole) | above | below, 0.0, whole).astype(array)
    return np.where(above, array.type(high), np.where(below, array.type(low), inside))


@cache
def largest_value(name: str) -> Fraction:
    """The largest finite value of a float type of any size."""
    e, m, special = float_parameters(name)
    top = 2**e - 1 - (special == "ieee")
    bias = 2 ** (e - 1) - 1
    return (2 - Fraction(1 + (special == "one nan"), 2**m)) * Fraction(2) ** (top - bias)


def round_exactly(
    x: Fraction,
    target: str,
    overflow: str = "saturate",
    rounding: str = "nearest_even",
    random: int | None = None,
) -> Fraction | str:
    """The cast of one finite number to a float type of any size; zeros have no sign here.

    `random` is the 32-bit integer of stochastic rounding.
    """
    e, m, special = float_parameters(target)
    bias = 2 ** (e - 1) - 1
    exponent = max(power_below(abs(x)), 1 - bias) if x else 1 - bias
    up, down = max(exponent - m, 0), max(m - exponent, 0)  # the last place is 2**up / 2**down
    place = x.denominator << up
    whole, rest = divmod(abs(x.numerator) << down, place)  # whole + rest / place last places
    if rounding == "nearest_even" and m == 0 and 2 * rest == place:
        whole = 2 * whole  # 0 stays, 1 becomes 2: the rule for one significant bit
    elif rounding == "nearest_even":
        whole += 2 * rest > place or (2 * rest == place and whole % 2 == 1)
    elif rounding == "stochastic":
        whole += random * place < rest * 2**32
    result = Fraction(whole << up, 1 << down)
    largest = largest_value(target)
    negative = x < 0
    if result > largest:
        if overflow == "saturate" or special == "none" or rounding == "toward_zero":
            result = largest
        elif special == "ieee":
            return MINUS_INFINITY if negative else INFINITY
        else:
            return NAN
    return -result if negative else result
