"""How far a result may be from its reference: absolute bounds derived from rounding, none measured.

A bound is a function of the reference's values and magnitudes (`run_reference`) and of the dtype of
the result; it gives the largest allowed |result - reference| for each element.

**Derivation.** One operation in a dtype with machine epsilon `eps` (the distance from 1 to the next
number) gives x (1 + d) with |d| <= eps / 2 if it rounds to nearest and |d| <= eps if it truncates,
as adders of tensor cores do, or is off by one unit in the last place: eps is used throughout. After
k operations in a row the factors multiply to 1 + t with |t| <= gamma(k) = k eps / (1 - k eps), and
the error of a sum is at most gamma(k) times the sum of absolute values of its terms: the magnitude
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, lemma 3.1 and section
3.1). Where an operation underflows it may be off by the smallest subnormal as well. At last the
result is rounded to the dtype it is stored in: half a unit in the last place, and as much as it
lies past the largest value where it saturates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vm.isa.dtypes import DType, DTypeError

Bound = Callable[[np.ndarray, np.ndarray, DType], np.ndarray]
"""(values, magnitude, dtype of the result) to the largest allowed absolute error."""

# Hopper's tensor cores align the products of 8-bit floats to the largest and keep 13 bits behind
# the point: DeepSeek-AI, "DeepSeek-V3 Technical Report" (2024), section 3.3.2.
_EIGHT_BIT_PRODUCT_EPSILON = 2.0**-13


def row_epsilon(operand: DType, accumulator: DType) -> float:
    """`eps` of rule Num/dot: by what one addition of a product of `operand`s may be off, relative
    to the magnitude; 0 where sums are exact."""
    if not accumulator.is_float:
        return 0.0
    if operand.kind == "float" and operand.bits == 8:
        return max(accumulator.epsilon, _EIGHT_BIT_PRODUCT_EPSILON)
    return accumulator.epsilon


def gamma(operations: int, epsilon: float) -> float:
    """The relative error that `operations` roundings in a row can add up to; infinite where they
    may leave no digit."""
    reach = operations * epsilon
    return reach / (1.0 - reach) if reach < 1.0 else float("inf")


def dot_error(
    operand: DType,
    accumulator: DType,
    terms: int,
    operand_roundings: int = 0,
    largest_factor: float = 0.0,
) -> Bound:
    """The bound for products of matrices: `terms` products of `operand`s, exact, are added in
    `accumulator` in any order.

    `operand_roundings` says how many roundings to the operand's dtype the kernel makes beyond those
    of the reference, in one product (2 where both matrices are computed and the reference leaves
    them unrounded). Where what is rounded may be subnormal, a rounding is off by up to half the
    smallest subnormal, and `largest_factor`, the largest absolute value in the other matrix, is
    what that is multiplied by. For integer accumulators sums are exact.
    """
    relative = floor = 0.0
    if accumulator.is_float:
        relative = gamma(terms, row_epsilon(operand, accumulator))
        floor = terms * accumulator.smallest_subnormal
    if operand_roundings:
        rounded = gamma(operand_roundings, operand.epsilon / 2)
        relative = relative + rounded + relative * rounded
        floor += terms * operand_roundings * largest_factor * operand.smallest_subnormal
    return _bound(relative, floor)


def elementwise_error(dtype: DType, operations: int = 1) -> Bound:
    """The bound for `operations` operations in a row in a float dtype.

    Count on the longest way from an argument to the result: 1 for each +, -, *, /, sqrt and cast
    (one rounding each), 2 for each function that may be off by 2 units in the last place (exp, log,
    tanh, ...), and one less than its length for a sum. What an error of its argument does to a
    function is for the caller to add: exp(x) grows by the absolute error of x.
    """
    if dtype.kind != "float":
        raise DTypeError(f"{dtype.name} is no float and rounds nothing; leave the bound out")
    return _bound(gamma(operations, dtype.epsilon), operations * dtype.smallest_subnormal)


def exact() -> Bound:
    """The bound for results that are the reference's values exactly."""
    return lambda values, magnitude, result: np.zeros(np.shape(values))


def _bound(relative: float, floor: float) -> Bound:
    def bound(values: np.ndarray, magnitude: np.ndarray, result: DType) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            error = relative * np.asarray(magnitude, np.float64) + floor
            largest = np.abs(np.asarray(values, np.float64)) + error
            return error + rounding_error(largest, result)

    return bound


def rounding_error(values: np.ndarray, result: DType) -> np.ndarray:
    """How far storing a number of at most this absolute value in a dtype can move it."""
    values = np.abs(np.asarray(values, np.float64))
    if result.is_integer or result.kind == "bool":
        half = np.full(values.shape, 0.5)
    elif result.kind == "codebook":
        entries = np.unique(np.asarray(result.table))
        half = np.full(values.shape, float(np.diff(entries).max(initial=0.0)) / 2)
    elif result.kind == "scale":
        half = np.maximum(values / 2, result.smallest_subnormal)
    else:
        # frexp gives the exponent of a fraction from 1/2 up, one more than that from 1 up.
        exponent = np.frexp(values)[1] - 1
        lowest = int(np.log2(result.smallest_normal))
        half = np.ldexp(0.5, np.maximum(exponent, lowest) - result.mantissa_bits)
    # Adding 0.0 turns False and True of `bool` into numbers.
    return np.maximum(half, values - (result.max + 0.0))
