"""Bounds hold whatever order and rounding an executor chooses, and are not much wider than that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.isa.dtypes import DTypeError, dtype
from vm.runtime.bounds import dot_error, elementwise_error, exact, gamma, rounding_error

F16, F32, F64 = dtype("f16"), dtype("f32"), dtype("f64")


def truncated_sum(terms: np.ndarray) -> float:
    """The sum in f32 with every addition truncated, as tensor cores add."""
    total = np.float32(0)
    for term in terms:
        wide = float(total) + float(term)
        near = np.float32(wide)
        if abs(float(near)) > abs(wide):
            near = np.nextafter(near, np.float32(0))
        total = near
    return float(total)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_dot_error_holds_for_any_order_and_truncation(terms: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = (random.standard_normal(terms).astype(np.float16).astype(np.float64) for _ in "ab")
    products = a * b
    value, magnitude = products.sum(), np.abs(products).sum()
    bound = dot_error(F16, F32, terms)(np.array(value), np.array(magnitude), F32)
    for order in (products, products[::-1], np.sort(products)):
        assert abs(truncated_sum(order) - value) <= bound
        nearest = np.float32(0)
        for term in order:
            nearest = np.float32(float(nearest) + term)
        assert abs(float(nearest) - value) <= bound


def test_dot_error_holds_where_truncation_loses_every_term() -> None:
    """1 and terms a little below its last place: all are cut off."""
    terms = np.array([1.0] + [0.99 * 2.0**-23] * 20)
    assert truncated_sum(terms) == 1.0
    value = np.array(terms.sum())
    assert abs(1.0 - value) <= dot_error(F16, F32, len(terms))(value, value, F32)


def test_dot_error_finds_a_lost_term() -> None:
    """A bound that lets 1 of 1024 terms go would find nothing."""
    random = np.random.default_rng(1)
    products = random.standard_normal(1024) * random.standard_normal(1024)
    value, magnitude = products.sum(), np.abs(products).sum()
    bound = dot_error(F16, F32, 1024)(np.array(value), np.array(magnitude), F32)
    typical = np.median(np.abs(products))
    assert bound < typical


def test_dot_error_grows_with_what_is_less_exact() -> None:
    one = np.ones(1)
    f16 = dot_error(F16, F32, 8)(one, one, F64)
    f8 = dot_error(dtype("f8e4m3"), F32, 8)(one, one, F64)
    in_f16 = dot_error(F16, F16, 8)(one, one, F64)
    rounded = dot_error(F16, F32, 8, operand_roundings=2)(one, one, F64)
    assert f16 < f8 < in_f16
    # Two roundings of 2^-11 each.
    assert 2 * 2.0**-11 < rounded < 2 * 2.0**-11 + 2.0**-18
    assert dot_error(dtype("i8"), dtype("i32"), 8)(one, one, dtype("i32")) == 0.5


def test_gamma() -> None:
    assert gamma(0, 0.5) == 0
    assert gamma(1, 0.5) == 1
    assert gamma(2, 0.5) == np.inf


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=6))
def test_elementwise_error_holds_for_a_chain(numbers: list[float]) -> None:
    """((a + b) * a + b) * a ... in f32 against the same in f64, with its magnitude."""
    first = numbers[0]
    low, high, magnitude, count = np.float32(first), first, abs(first), 0
    for number in numbers[1:]:
        low = np.float32(np.float32(low + np.float32(number)) * np.float32(first))
        high = (high + number) * first
        magnitude = (magnitude + abs(number)) * abs(first)
        count += 2
    with np.errstate(over="ignore"):
        bound = elementwise_error(F32, count)(np.array(high), np.array(magnitude), F32)
    # Each underflow is within the floor; later factors of up to 1e3 make it larger.
    assert abs(float(low) - high) <= bound + count * F32.smallest_subnormal * 1e3 ** len(numbers)


def test_elementwise_error_is_of_floats() -> None:
    with pytest.raises(DTypeError):
        elementwise_error(dtype("i32"))


def test_exact() -> None:
    assert not exact()(np.ones(3), np.ones(3), F16).any()


@pytest.mark.parametrize("name", ["f3e1m1", "f4e2m1", "f6e3m2", "f8e4m3", "f8e5m2", "f16"])
def test_rounding_error_is_half_a_step_everywhere(name: str) -> None:
    """Between every two neighbours: no cast is off by more, and their middle by no less."""
    kind = dtype(name)
    values = np.unique(kind.decode(np.arange(1 << kind.bits).astype(kind.storage)).astype(float))
    values = values[np.isfinite(values)]
    low, high = values[:-1], values[1:]
    allowed = rounding_error((low + high) / 2, kind)
    assert np.array_equal(allowed, (high - low) / 2)
    for part in (0.1, 0.49, 0.51, 0.9):
        between = low + part * (high - low)
        cast = kind.decode(kind.encode(between)).astype(float)
        assert (np.abs(cast - between) <= rounding_error(between, kind)).all()


def test_saturation_is_allowed_for() -> None:
    assert rounding_error(np.array(70000.0), F16) == 70000 - 65504
    assert rounding_error(np.array(300.0), dtype("u8")) == 45


@pytest.mark.parametrize("name", ["nf4", "f8e8m0"])
def test_rounding_error_of_other_types(name: str) -> None:
    kind = dtype(name)
    values = np.linspace(0.01, 1, 1000)
    rounding = "nearest_entry" if name == "nf4" else "nearest_even"
    cast = kind.decode(kind.encode(values, rounding=rounding)).astype(float)
    assert (np.abs(cast - values) <= rounding_error(values, kind)).all()
