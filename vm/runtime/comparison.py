"""Holding a result to what it should be, element by element."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.errors import Origin
from vm.isa.tensor import Tensor


@dataclass(frozen=True)
class Expectation:
    """A comparison: the element that comes nearest to its bound, or goes furthest past it.

    `error` is |got - want| there in the elements' own unit; `bound` is None for an exact
    comparison, where NaN equals NaN and -0 equals 0.
    """

    what: str
    type: str
    passed: bool
    error: float
    bound: float | None
    index: tuple[int, ...]
    got: float
    want: float
    wrong: int
    origin: Origin


def compare(what: str, got: Any, want: Any, bound: Any, origin: Origin) -> Expectation:
    """Holds `got` (a tensor) to `want` (a tensor or the outcome of a reference).

    Without `bound` every element must be equal; with it, |got - want| must be at most what it
    allows there. The element reported is the one with the largest error relative to its bound.
    """
    type_ = f"{got.dtype.name}{list(got.shape)}" if isinstance(got, Tensor) else "f64"
    given, wanted = (v.values() if isinstance(v, Tensor) else v.values for v in (got, want))
    if not given.size:
        return Expectation(what, type_, True, 0.0, None, (), 0.0, 0.0, 0, origin)
    # Equality before the cast to f64, which would make neighbours of 64-bit integers equal.
    actual, expected = given.astype(np.float64), wanted.astype(np.float64)
    equal = (given == wanted) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(all="ignore"):
        error = np.abs(actual - expected)
    error = np.where(equal, 0.0, np.where(np.isnan(error), math.inf, error))
    if bound is None:
        allowed = np.zeros_like(error)
    else:
        allowed = np.broadcast_to(bound(want.values, want.magnitude, got.dtype), error.shape)
    wrong = ~equal if bound is None else ~(error <= allowed) & ~equal
    with np.errstate(all="ignore"):
        ratio = np.where(equal, 0.0, np.where(allowed > 0, error / allowed, math.inf))
    ratio = np.where(wrong & ~(ratio > 1), math.inf, ratio)
    worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return Expectation(
        what, type_, not wrong.any(), float(error[worst]),
        None if bound is None else float(allowed[worst]), tuple(int(i) for i in worst),
        float(actual[worst]), float(expected[worst]), int(wrong.sum()), origin,
    )  # fmt: skip
