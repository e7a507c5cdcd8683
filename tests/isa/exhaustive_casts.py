"""Every code of every source of up to 16 bits into every target, and f32 and f64 at every boundary.

`python -m tests.isa.exhaustive_casts` runs all of it and prints pairs, casts and time. Each pair is
cast with both overflow modes and to nearest even and toward zero, and compared bit by bit (the sign
of zero and the code of NaN too) with the exact tables of `exact_types`. Codebooks are sources as
all others, and targets to the nearest entry.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tests.isa import exact_types
from vm.isa.conversion import convert
from vm.isa.dtypes import DType, codebook, dtype

SMALL = ["bool", *exact_types.INTEGERS, *exact_types.SMALL_FLOATS, "f8e8m0", "f16", "bf16"]
WIDE_INTEGERS = [f"{sign}{bits}" for sign in "ui" for bits in (17, 24, 31, 32, 33, 53, 54, 63, 64)]
TARGETS = [*SMALL, "tf32", "f32", "f64", *WIDE_INTEGERS]
BOUNDARY_TARGETS = [*SMALL[1:], "tf32", *WIDE_INTEGERS]
CODEBOOKS = {
    "nf4": dtype("nf4"),
    "two": codebook("two", [0.75, -3.0], "f16"),
    "five": codebook("five", [1.0, -0.5, 3.0, 1.0, 0.0], "bf16"),
    # Every f16 from -2 up with one digit more than it needs, out of order.
    "all": codebook("all", [(k * 91 % 256 - 128) / 64 + 2.0**-10 for k in range(256)], "f16"),
}
"""Those of 2, 5, 16 and 256 entries; one has an entry twice."""
OVERFLOWS = ("saturate", "ieee")
ROUNDINGS = ("nearest_even", "toward_zero")


@dataclass(frozen=True)
class Count:
    """Pairs of types, and casts of single elements, over all modes."""

    pairs: int = 0
    casts: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.pairs + other.pairs, self.casts + other.casts)


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view(f"u{values.itemsize}")


def _expected(numbers: np.ndarray, source: str | DType, target: str, overflow: str, rounding: str):
    """What the exact tables say; into f32 and f64, which hold all of these numbers, the same."""
    if target in ("f32", "f64"):
        assert (numbers.astype(dtype(target).array) == numbers)[~np.isnan(numbers)].all()
        return numbers
    return exact_types.cast_exactly(numbers, source, target, overflow, rounding)


def _compare(numbers: np.ndarray, source: str | DType, targets: list[str]) -> Count:
    """Casts exact numbers of `source`; raises AssertionError at the first that differs."""
    origin = dtype(source)
    with np.errstate(invalid="ignore"):
        values = numbers.astype(origin.array)
    to_integers = any(map(exact_types.is_integer, targets))
    for rounding in ROUNDINGS:
        whole = exact_types.whole_numbers(numbers, rounding) if to_integers else None
        for target, overflow in itertools.product(targets, OVERFLOWS):
            goal = dtype(target)
            result = convert(values, origin, goal, overflow, rounding)
            assert result.dtype == goal.array and result.shape == values.shape
            if exact_types.is_integer(target):
                expected = exact_types.saturated(whole, target).astype(goal.array)
            else:
                expected = _expected(numbers, source, target, overflow, rounding).astype(goal.array)
                if goal.is_float:
                    # NaN has one code, whatever the source's was.
                    expected = np.where(np.isnan(expected), goal.array.type(np.nan), expected)
            differ = np.flatnonzero(_bits(result) != _bits(expected))
            assert not differ.size, (
                f"{source} -> {target}, {overflow}, {rounding}: {numbers[differ[0]]!r} gave "
                f"{result[differ[0]]!r}, exactly {expected[differ[0]]!r}; {differ.size} differ"
            )
    return Count(len(targets), len(targets) * len(ROUNDINGS) * len(OVERFLOWS) * values.size)


def _nearest_entries(numbers: np.ndarray, entries: list[float]) -> np.ndarray:
    """The entry at the least distance, of two at the same one that of the lower code; NaN gives the
    largest. By exact middles, which are float64s."""
    values = sorted(set(entries))
    codes = [entries.index(value) for value in values]
    exact = [Fraction(value) for value in values]
    middles = [exact_types.as_float64((a + b) / 2) for a, b in itertools.pairwise(exact)]
    place = np.searchsorted(middles, numbers, side="left")  # a middle belongs to the lower value
    lower, tied = np.minimum(place, len(middles) - 1), np.isin(numbers, middles)
    place += tied & (np.array(codes)[lower + 1] < np.array(codes)[lower])
    place = np.where(np.isnan(numbers), len(middles), place)
    return np.array(values)[place]


def _compare_nearest(numbers: np.ndarray, source: str) -> Count:
    """Casts exact numbers of `source` to the nearest entry of each codebook."""
    origin = dtype(source)
    with np.errstate(invalid="ignore"):
        values = numbers.astype(origin.array)
    for book in CODEBOOKS.values():
        expected = _nearest_entries(numbers, list(book.table))
        for overflow in OVERFLOWS:
            result = convert(values, origin, book, overflow, "nearest_entry")
            assert np.array_equal(result, expected), (source, book)
    return Count(len(CODEBOOKS), len(CODEBOOKS) * len(OVERFLOWS) * values.size)


def check_source(source: str) -> Count:
    """All codes of `source` into every other type."""
    numbers = exact_types.decoded(source)
    with np.errstate(invalid="ignore"):
        decoded = dtype(source).decode(np.arange(numbers.size)).astype(np.float64)
    assert np.array_equal(decoded, numbers, equal_nan=True), source
    number = ~np.isnan(numbers)
    assert np.array_equal(np.signbit(decoded[number]), np.signbit(numbers[number])), source
    others = [target for target in TARGETS if target != source]
    return _compare(numbers, source, others) + _compare_nearest(numbers, source)


def check_codebook_source(name: str) -> Count:
    """All entries of a codebook into every other type."""
    book = CODEBOOKS[name]
    entries = np.array(book.table)
    decoded = book.decode(np.arange(entries.size)).astype(np.float64)
    assert np.array_equal(decoded, entries), name
    return _compare(entries, book, TARGETS)


def boundaries(target: str, wide: type[np.floating]) -> np.ndarray:
    """The values of `target` and the middles between them (of wide integers: around powers of two
    and the small ones), each with its neighbours among numbers of `wide`, and the special and
    extreme numbers of `wide` itself: float64."""
    if target in WIDE_INTEGERS:
        powers = 2.0 ** np.arange(66)
        points = np.concatenate([np.arange(1024) / 2, powers, powers + 0.5, powers - 0.5, -powers])
    else:
        of = exact_types.table(target)
        points = np.concatenate([of.values, of.middles])
    limit, tiny = np.finfo(wide).max, np.finfo(wide).smallest_subnormal
    with np.errstate(over="ignore"):
        near = np.concatenate([points, [limit, limit / 2, tiny, 2 * tiny]]).astype(wide)
        every = [near, np.nextafter(near, wide(np.inf)), np.nextafter(near, wide(-np.inf))]
    special = np.array([0.0, -0.0, -limit, np.inf, -np.inf, np.nan, -np.nan], dtype=wide)
    numbers = np.concatenate([*every, special])
    if -points.min() < points.max() - 1:
        numbers = np.concatenate([numbers, -numbers])
    return numbers.astype(np.float64)


def check_boundaries(target: str) -> Count:
    """f32 and f64 at every rounding boundary of `target` and one unit in the last place around."""
    return _compare(boundaries(target, np.float32), "f32", [target]) + _compare(
        boundaries(target, np.float64), "f64", [target]
    )


def main() -> None:
    start = time.perf_counter()
    codes = sum((check_source(source) for source in SMALL), Count())
    codes += sum((check_codebook_source(name) for name in CODEBOOKS), Count())
    middle = time.perf_counter()
    print(
        f"{len(SMALL) + len(CODEBOOKS)} sources of up to 16 bits, all codes: "
        f"{codes.pairs} pairs of types, {codes.casts} casts, all equal, in {middle - start:.1f} s"
    )
    edges = sum((check_boundaries(target) for target in BOUNDARY_TARGETS), Count())
    print(
        f"f32 and f64 at every boundary and around: {edges.pairs} pairs of types, "
        f"{edges.casts} casts, all equal, in {time.perf_counter() - middle:.1f} s"
    )


if __name__ == "__main__":
    main()
