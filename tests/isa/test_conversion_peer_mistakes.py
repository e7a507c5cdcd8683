"""Each mistake seen in a peer's types and casts (facts: tilus, 3.4) as a test of ours."""

import numpy as np
import pytest

from tests.isa import exact_types
from vm.isa.conversion import convert
from vm.isa.dtypes import dtype
from vm.isa.packing import pack, unpack


def from_f32(values, target: str, **modes) -> list[float]:
    return convert(np.array(values, np.float32), dtype("f32"), dtype(target), **modes).tolist()


def test_a_the_largest_value_of_a_sub_byte_integer_is_not_a_power_of_two():
    assert [dtype(name).max for name in ("u4", "u3", "u2")] == [15, 7, 3]
    assert from_f32([16, 8, 100], "u3") == [7, 7, 7]


def test_b_subnormals_are_rounded_to_nearest_even_not_truncated():
    assert from_f32([0.4, 0.25, 0.26, -0.4, 0.74, 0.75], "f4e2m1") == [0.5, 0, 0.5, -0.5, 0.5, 1.0]


@pytest.mark.parametrize("name", exact_types.SMALL_FLOATS)
def test_b_no_value_above_half_the_smallest_subnormal_becomes_zero(name):
    smallest = dtype(name).smallest_subnormal
    half = np.float32(smallest / 2)
    just_above_half = np.nextafter(half, np.float32(np.inf))
    assert from_f32([half, just_above_half], name) == [0, smallest]


@pytest.mark.parametrize(
    "name", [name for name in exact_types.SMALL_FLOATS if name not in ("f8e4m3", "f8e5m2")]
)
@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
def test_c_nan_and_infinity_become_the_positive_maximum(name, overflow):
    largest = dtype(name).max
    nan_with_sign = np.uint32(0xFFC00001).view(np.float32)
    numbers = [np.nan, np.inf, nan_with_sign, -np.inf]
    assert from_f32(numbers, name, overflow=overflow) == [largest, largest, largest, -largest]


def test_d_exponent_31_of_f7e5m1_is_a_number():
    element = dtype("f7e5m1")
    assert element.max == 98304 and element.decode([0b0111111]).tolist() == [98304]
    assert from_f32([98304, 70000, 1e9], "f7e5m1") == [98304, 65536, 98304]


@pytest.mark.parametrize("count", range(1, 18))
@pytest.mark.parametrize("target", ["f16", "bf16", "f32"])
def test_e_nan_of_f8e4m3_stays_nan_however_many_elements_there_are(count, target):
    values = dtype("f8e4m3").decode(np.full(count, 0x7F, np.uint8))
    for given in (values, -values):
        assert np.isnan(convert(given, dtype("f8e4m3"), dtype(target))).all()
    every = dtype("f8e4m3").decode(np.arange(256))
    assert 480 not in np.abs(convert(every, dtype("f8e4m3"), dtype(target)))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 11, 16, 21, 64])
@pytest.mark.parametrize("first", range(0, 64, 5))
def test_f_fields_that_straddle_words_arrive_whole(first, count):
    """f6e3m2 into bf16, through memory: every sixth element crosses a 32-bit word."""
    element = dtype("f6e3m2")
    codes = (np.arange(first, first + count) % 64).astype(np.uint8)
    values = element.decode(unpack(pack(codes, element), element, count))
    expected = exact_types.decoded("f6e3m2")[codes]
    assert convert(values, element, dtype("bf16")).tolist() == expected.tolist()


@pytest.mark.parametrize("count", range(1, 33))
def test_g_a_part_of_a_byte_is_a_byte_of_storage(count):
    element = dtype("f6e3m2")
    packed = pack(np.full(count, 63, np.uint8), element)
    assert packed.size == (count * 6 + 7) // 8
    assert (unpack(packed, element, count) == 63).all()
