"""Shapes, weight types, packing, floors and the error check, against independent oracles."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.problem import (
    GROUP,
    SHAPES,
    SIX_SHAPES,
    Point,
    WeightType,
    order_points,
    output_error,
    pack_planes,
    pack_words,
    parse_points,
)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("f4e2m1", ml_dtypes.float4_e2m1fn),
        ("f6e2m3", ml_dtypes.float6_e2m3fn),
        ("f6e3m2", ml_dtypes.float6_e3m2fn),
        ("f8e4m3", ml_dtypes.float8_e4m3fn),
    ],
)
def test_float_values_are_those_of_ml_dtypes(name, oracle):
    weight = WeightType.parse(name)
    codes = np.arange(2**weight.bits, dtype=np.uint8)
    expected = codes.view(oracle).astype(np.float64)
    finite = np.isfinite(expected)
    assert finite.sum() >= 2**weight.bits - 2
    np.testing.assert_array_equal(np.array(weight.values())[finite], expected[finite])


@pytest.mark.parametrize("bits", range(1, 9))
def test_integers_have_their_zero_in_the_middle(bits):
    values = WeightType.parse(f"u{bits}").values()
    assert values == list(range(-(2 ** (bits - 1)), 2 ** (bits - 1)))


def test_nf4_is_the_codebook_of_qlora():
    """Its two outer numbers, those beside 0, and that it is no integer and no float."""
    weight = WeightType.parse("nf4")
    values = weight.values()
    assert (weight.bits, values[0], values[7], values[15]) == (4, -1.0, 0.0, 1.0)
    assert values[8] == pytest.approx(0.0795803, rel=1e-6) and values == sorted(values)
    assert not weight.is_integer and not weight.is_float


@pytest.mark.parametrize("name", ["u0", "u9", "i4", "f4e2m2", "f9e4m4", "f4e0m3", "", "nf3"])
def test_what_is_no_weight_type_is_refused(name):
    with pytest.raises(ValueError, match="no weight type"):
        WeightType.parse(name)


@settings(deadline=None, max_examples=40)
@given(bits=st.integers(1, 8), rows=st.integers(1, 3), runs=st.integers(1, 4), data=st.data())
def test_packed_words_are_one_little_endian_number(bits, rows, runs, data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, 32 * runs))
    words = np.stack(pack_words(codes.astype(np.int64), bits), axis=-1).reshape(rows, -1)
    for row in range(rows):
        number = sum(int(code) << (bits * k) for k, code in enumerate(codes[row]))
        packed = words[row].astype("<u4").tobytes()
        assert packed == number.to_bytes(4 * runs * bits, "little")


@settings(deadline=None, max_examples=20)
@given(bits=st.sampled_from([2, 4, 8]), seed=st.integers(0, 2**32 - 1))
def test_planes_give_back_every_code(bits, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (3, 2 * GROUP))
    words = pack_planes(codes, bits)
    run = GROUP * bits // 16
    assert words.shape == (3, 2, run)
    for row, k in np.ndindex(codes.shape):
        group, inside = divmod(k, GROUP)
        field, place = divmod(inside, run)
        assert (words[row, group, place] >> (bits * field)) % 2**bits == codes[row, k]


def test_compulsory_bytes_of_a_known_layer():
    point = Point("8192x8192", WeightType.parse("u4"), 1)
    weights, scales, vectors = 8192 * 8192 // 2, 2 * 8192 * 64, 2 * (8192 + 8192)
    assert point.weight_bytes == weights + scales
    assert point.bytes == weights + scales + vectors
    # 10.93 us at 3.17 TB/s: the figure that the project's facts page gives for this layer.
    assert point.floor_us(3.17e12, 790e12) == pytest.approx(10.93, abs=0.005)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.sampled_from(sorted(SHAPES)),
    bits=st.integers(1, 8),
    m=st.integers(1, 8192),
    read=st.floats(1e11, 1e13),
    flops=st.floats(1e13, 1e16),
)
def test_floor_is_the_larger_of_two_times(shape, bits, m, read, flops):
    point = Point(shape, WeightType.parse(f"u{bits}"), m)
    times = (point.bytes / read, 2.0 * m * point.n * point.k / flops)
    assert point.floor_us(read, flops) == pytest.approx(1e6 * max(times), rel=1e-12)


def test_points_are_the_product_of_three_lists():
    points = parse_points("8192x8192,ll8_dn:u4,f6e3m2:1,16")
    assert len(points) == 8
    assert points[0] == Point("8192x8192", WeightType.parse("u4"), 1)
    assert {(p.n, p.k) for p in points} == {(8192, 8192), (4096, 14336)}


@pytest.mark.parametrize("text", ["8192x8192:u4", "nowhere:u4:1", "8192x8192:u4:x", ""])
def test_what_is_no_list_of_points_is_refused(text):
    with pytest.raises(ValueError):
        parse_points(text)


def test_light_points_come_first_and_keep_their_order():
    points = [point for m in (4096, 1, 65, 64, 1) for point in parse_points(f"ll8_dn:u4:{m}")]
    assert [point.m for point in order_points(points)] == [1, 64, 4096, 65]


def test_six_shapes_are_known():
    assert len(set(SIX_SHAPES)) == 6
    assert set(SIX_SHAPES) <= set(SHAPES)


def product(seed, rows=4, columns=64, k=4096):
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((rows, k)).astype(np.float16).astype(np.float64)
    w = 0.02 * generator.standard_normal((columns, k))
    return a, w, a @ w.T, abs(a) @ abs(w).T


KINDS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(KINDS)))
def test_rounding_is_within_the_bound(seed, name):
    a, w, reference, magnitude = product(seed)
    kind = KINDS[name]
    rounded_twice = (a @ w.astype(kind).astype(np.float64).T).astype(kind).astype(np.float64)
    error = output_error(rounded_twice, reference, magnitude, a.shape[1], name)
    assert error.is_within_bound
    assert 0 < error.norm < error.bound


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_one_missing_k_is_seen(seed, data):
    """Any in f16; in bf16, whose bound is eight times as wide, those that add as much as others."""
    a, w, reference, magnitude = product(seed)
    added = np.linalg.norm(a, axis=0) * np.linalg.norm(w, axis=0)
    as_much = np.flatnonzero(added >= added.mean())
    for name, several in (("f16", np.arange(a.shape[1])), ("bf16", as_much)):
        k = several[data.draw(st.integers(0, len(several) - 1))]
        without = reference - np.outer(a[:, k], w[:, k])
        assert not output_error(without, reference, magnitude, a.shape[1], name).is_within_bound


@settings(deadline=None, max_examples=10)
@given(row=st.integers(0, 3), column=st.integers(0, 63))
def test_one_unwritten_element_is_seen(row, column):
    a, _, reference, magnitude = product(0)
    output = reference.copy()
    output[row, column] = np.nan
    assert not output_error(output, reference, magnitude, a.shape[1]).is_within_bound


def test_swapped_columns_are_seen():
    a, _, reference, magnitude = product(1)
    output = reference.copy()
    output[:, [3, 4]] = output[:, [4, 3]]
    assert not output_error(output, reference, magnitude, a.shape[1]).is_within_bound
