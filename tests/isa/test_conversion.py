"""Casts against exact tables, exhaustively; against exact rationals where types are too large for
tables; against ml_dtypes in range; and the laws of every mode."""

import math
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa import exact_types
from tests.isa.exhaustive_casts import (
    BOUNDARY_TARGETS,
    CODEBOOKS,
    SMALL,
    check_boundaries,
    check_codebook_source,
    check_source,
)
from vm.isa.conversion import convert
from vm.isa.dtypes import DTypeError, codebook, dtype

FLOATS = [*exact_types.SMALL_FLOATS, *exact_types.IEEE]
WIDE_INTEGERS = ["i32", "u32", "i53", "u54", "i64", "u64"]


# Sources that are held in the same NumPy dtype share an implementation's tables: one test each, so
# that test processes do not all build all tables. A failure names the pair of types.
HELD_ALIKE = sorted({dtype(name).array.name for name in SMALL})


@pytest.mark.parametrize("array", HELD_ALIKE)
def test_every_code_into_every_type(array):
    sources = [name for name in SMALL if dtype(name).array.name == array]
    for source in sources:
        assert check_source(source).pairs >= len(SMALL) + len(CODEBOOKS)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_every_entry_into_every_type(name):
    assert check_codebook_source(name).pairs >= len(SMALL)


@pytest.mark.parametrize("target", BOUNDARY_TARGETS)
def test_f32_and_f64_at_every_boundary(target):
    assert check_boundaries(target).casts > 0


def cast_one(x, source, target, **modes):
    """The value that one Python number becomes."""
    origin = dtype(source)
    return convert(np.array([x], dtype=origin.array), origin, dtype(target), **modes)[0]


def as_fraction(x) -> Fraction | str:
    number = float(x)
    if math.isnan(number):
        return exact_types.NAN
    if math.isinf(number):
        return exact_types.INFINITY if number > 0 else exact_types.MINUS_INFINITY
    return Fraction(number)


@settings(deadline=None, max_examples=400)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["f32", "tf32", "f16", "bf16", "f8e4m3", "f8e5m2", "f8e1m6", "f5e4m0"]),
    st.sampled_from(["saturate", "ieee"]),
    st.sampled_from(["nearest_even", "toward_zero"]),
)
def test_f64_is_rounded_once(x, target, overflow, rounding):
    expected = exact_types.round_exactly(Fraction(x), target, overflow, rounding)
    assert as_fraction(cast_one(x, "f64", target, overflow=overflow, rounding=rounding)) == expected


def doubles_around_f32() -> np.ndarray:
    """Middles of neighbours in f32, in every power of two, and the doubles around them."""
    generator = np.random.default_rng(0)
    exponents = np.repeat(np.arange(256, dtype=np.uint32), 12) << np.uint32(23)
    mantissas = generator.integers(0, 1 << 23, exponents.size, dtype=np.uint32)
    mantissas[::4] = 0
    mantissas[1::4] = (1 << 23) - 1
    low = (exponents | mantissas).view(np.float32)
    low = low[np.isfinite(low)].astype(np.float64)
    gap = np.ldexp(1.0, np.maximum(np.frexp(low)[1] - 1, -126) - 23)
    middles = low + gap / 2
    return np.concatenate([middles, np.nextafter(middles, 0), np.nextafter(middles, np.inf), low])


@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero"])
def test_f64_to_f32_at_boundaries(overflow, rounding):
    numbers = doubles_around_f32()
    got = convert(numbers, dtype("f64"), dtype("f32"), overflow, rounding)
    for x, y in zip(numbers.tolist(), got, strict=True):
        assert as_fraction(y) == exact_types.round_exactly(Fraction(x), "f32", overflow, rounding)


def integers_around_boundaries(name: str) -> list[int]:
    """Powers of two, halves of the last places that floats keep, and their neighbours."""
    low, high = exact_types.integer_range(name)
    points = {0}
    for power in range(64):
        for kept in (0, 1, 2, 3, 7, 8, 10, 11, 23, 24, 52, 53):
            if kept <= power:
                points |= {2**power + 2 ** (power - kept), 2 ** (power + 1) - 2 ** (power - kept)}
                points |= {2**power + 3 * 2 ** (power - kept)}
    near = {sign * point + step for point in points for sign in (1, -1) for step in (-1, 0, 1)}
    return sorted(x for x in near | {low, high} if low <= x <= high)


@pytest.mark.parametrize("source", WIDE_INTEGERS)
@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero"])
def test_wide_integers_are_rounded_once_to_floats(source, rounding):
    numbers = integers_around_boundaries(source)
    values = np.array(numbers, dtype=dtype(source).array)
    for target in ("f64", "f32", "tf32", "bf16", "f16", "f8e5m2", "f8e4m3", "f6e3m2", "f8e1m6"):
        got = convert(values, dtype(source), dtype(target), "ieee", rounding)
        for x, y in zip(numbers, got, strict=True):
            expected = exact_types.round_exactly(Fraction(x), target, "ieee", rounding)
            assert as_fraction(y) == expected, (x, target)


@pytest.mark.parametrize("source", WIDE_INTEGERS)
@pytest.mark.parametrize("target", [*exact_types.INTEGERS, "i31", "u33", *WIDE_INTEGERS])
def test_wide_integers_into_integers(source, target):
    numbers = integers_around_boundaries(source)
    values = np.array(numbers, dtype=dtype(source).array)
    low, high = exact_types.integer_range(target)
    clipped = convert(values, dtype(source), dtype(target))
    assert clipped.tolist() == [min(max(x, low), high) for x in numbers]
    if source != target:
        wrapped = convert(values, dtype(source), dtype(target), overflow="wrap")
        assert wrapped.tolist() == [(x - low) % (high - low + 1) + low for x in numbers]


@pytest.mark.parametrize("target", exact_types.INTEGERS)
@pytest.mark.parametrize("source", ["bool", "u3", "i4", "u8", "i8", "u16", "i16"])
def test_wrapping_keeps_the_low_bits(source, target):
    numbers = exact_types.decoded(source).astype(int).tolist()
    low, high = exact_types.integer_range(target)
    values = np.array(numbers, dtype=dtype(source).array)
    if source != target:
        wrapped = convert(values, dtype(source), dtype(target), overflow="wrap")
        assert wrapped.tolist() == [(x - low) % (high - low + 1) + low for x in numbers]


@settings(deadline=None, max_examples=300)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["i17", "u31", "i32", "u32", "i33", "u53", "i64", "u64"]),
    st.sampled_from(["nearest_even", "toward_zero"]),
)
def test_floats_into_wide_integers(x, target, rounding):
    low, high = exact_types.integer_range(target)
    for shrunk in (x, x % 2.0**64, -(x % 2.0**33), x % 256):
        whole = round(shrunk) if rounding == "nearest_even" else int(shrunk)
        got = cast_one(shrunk, "f64", target, rounding=rounding)
        assert int(got) == min(max(whole, low), high)


@pytest.mark.parametrize("name", [*exact_types.SMALL_FLOATS, "f16", "bf16"])
def test_the_two_oracles_agree(name):
    """Tables by bisection and exact rationals are written apart; a slip in one shows here."""
    numbers = np.random.default_rng(1).normal(0, 1, 60) * 2.0 ** np.arange(-30, 30)
    for overflow in ("saturate", "ieee"):
        for rounding in ("nearest_even", "toward_zero"):
            by_table = exact_types.cast_exactly(numbers, "f64", name, overflow, rounding)
            for x, y in zip(numbers.tolist(), by_table, strict=True):
                exact = exact_types.round_exactly(Fraction(x), name, overflow, rounding)
                assert as_fraction(y) == exact


ML_NAMES = [
    "float8_e4m3fn",
    "float8_e5m2",
    "float6_e3m2fn",
    "float6_e2m3fn",
    "float4_e2m1fn",
    "bfloat16",
    "float8_e8m0fnu",
]


@pytest.mark.parametrize("name", ML_NAMES)
def test_equal_to_ml_dtypes_in_range(name):
    """In range alone: beyond it, and for numbers that f8e8m0 lacks, ml_dtypes has other rules. It
    also rounds every f32 subnormal above 2**-127 up to 2**-126 in f8e8m0, which is not nearest."""
    element, theirs = dtype(name), np.dtype(getattr(ml_dtypes, name))
    bits = np.random.default_rng(2).integers(0, 1 << 32, 1 << 20, dtype=np.uint32)
    numbers = bits.view(np.float32)
    if name == "float8_e8m0fnu":
        numbers = numbers[numbers >= element.smallest_normal * 2]
    numbers = numbers[np.abs(numbers) <= element.max]
    assert (element.encode(numbers) == numbers.astype(theirs).view(element.storage)).all()
    codes = np.arange(1 << element.bits, dtype=element.storage)
    expected = codes.view(theirs).astype(element.array)
    assert np.array_equal(element.decode(codes), expected, equal_nan=True)
    number = ~np.isnan(expected)
    assert (element.encode(codes.view(theirs)) == codes)[number].all()


@pytest.mark.parametrize("overflow", ["saturate", "ieee"])
@pytest.mark.parametrize("name", [*exact_types.INTEGERS, *exact_types.SMALL_FLOATS, "f16", "bf16"])
def test_encoding_undoes_decoding(name, overflow):
    """Infinities too, which a saturating cast would not keep."""
    element = dtype(name)
    codes = np.arange(1 << element.bits, dtype=element.storage)
    values = element.decode(codes)
    number = values == values
    again = element.encode(values, overflow)
    assert again.dtype == element.storage
    assert (again == codes)[number].all()
    assert np.isnan(element.decode(again[~number])).all()


@pytest.mark.parametrize("name", ["f64", "f32", "tf32", "bf16", "f16", "f8e5m2"])
def test_infinity_is_encoded_as_infinity(name):
    element = dtype(name)
    for numbers in (np.array([np.inf, -np.inf]), np.array([np.inf, -np.inf], np.float16)):
        assert element.decode(element.encode(numbers)).tolist() == [np.inf, -np.inf]
        assert element.encode(numbers).dtype == element.storage
    if name != "f64":
        assert element.decode(element.encode(1.7e308)) == element.max
        assert convert([np.inf], dtype("f64"), element)[0] == element.max


def test_codes_of_tf32_are_those_of_f32_without_the_low_13_bits():
    tf32 = dtype("tf32")
    one_and_a_bit = np.array([0x3F802000, 0x3F803FFF], dtype=np.uint32)
    assert (tf32.decode(one_and_a_bit) == np.float32(1 + 2**-10)).all()
    assert tf32.encode(np.float32(1 + 2**-10 + 2**-20)) == 0x3F802000


# ---- stochastic rounding


def edges_of_chance(x: int | float, target: str) -> set[int]:
    """The last random number that rounds x away from zero and the first that does not."""
    down = exact_types.round_exactly(Fraction(x), target, "ieee", "toward_zero")
    up = exact_types.round_exactly(Fraction(x), target, "ieee", "stochastic", -1)
    if isinstance(up, str) or up == down:
        return set()
    threshold = -((Fraction(x) - down) / (up - down) * 2**32 // -1)
    return {r for r in (int(threshold) - 1, int(threshold)) if 0 <= r < 2**32}


@settings(deadline=None, max_examples=400)
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from(FLOATS[:-2]),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["saturate", "ieee"]),
)
def test_stochastic_rounding_compares_with_the_exact_fraction(x, target, random, overflow):
    for r in {random} | edges_of_chance(x, target):
        bits = np.array([r], dtype=np.uint32)
        got = cast_one(
            x, "f32", target, overflow=overflow, rounding="stochastic", random_bits=bits
        )
        expected = exact_types.round_exactly(Fraction(x), target, overflow, "stochastic", r)
        assert as_fraction(got) == expected


@pytest.mark.parametrize("target", ["f64", "f32", "f16", "f8e4m3"])
def test_stochastic_rounding_of_wide_integers(target):
    u64 = dtype("u64")
    chances = [
        (x, r) for x in integers_around_boundaries("u64") for r in edges_of_chance(x, target)
    ]
    got = convert(
        np.array([x for x, _ in chances], dtype=np.uint64),
        u64,
        dtype(target),
        rounding="stochastic",
        random_bits=np.array([r for _, r in chances], dtype=np.uint32),
    )
    for (x, r), y in zip(chances, got, strict=True):
        expected = exact_types.round_exactly(Fraction(x), target, "saturate", "stochastic", r)
        assert as_fraction(y) == expected


@pytest.mark.parametrize("name", ["f4e2m1", "f8e4m3", "f3e1m1", "u4", "i3"])
def test_the_number_of_ups_is_the_fraction(name):
    """Of 256 evenly spaced random numbers exactly k take a value k/256 of the way."""
    element = dtype(name)
    values = np.unique(exact_types.decoded(name))
    values = values[np.isfinite(values) & (values >= 0)]
    randoms = np.arange(256, dtype=np.uint32) << np.uint32(24)
    for low, high in pairwise(values):
        for k in (0, 1, 77, 128, 255):
            numbers = np.full(256, low + (high - low) * k / 256)
            got = element.decode(
                element.encode(numbers, rounding="stochastic", random_bits=randoms)
            )
            assert set(got.tolist()) <= {low, high}
            assert (got == high).sum() == k


def test_infinities_of_tf32_and_f32_survive_only_what_is_wider():
    for overflow in ("saturate", "ieee"):
        assert cast_one(np.inf, "tf32", "f32", overflow=overflow) == np.inf
        assert cast_one(-np.inf, "f32", "f64", overflow=overflow) == -np.inf
    assert cast_one(np.inf, "f32", "tf32") == dtype("tf32").max
    assert cast_one(-np.inf, "tf32", "bf16") == dtype("bf16").min
    assert cast_one(-np.inf, "tf32", "f16", overflow="ieee") == -np.inf
    assert cast_one(1 + 2**-10, "tf32", "bf16") == 1


# ---- bool, scales and codebooks


def test_any_number_but_zero_is_true():
    numbers = np.array([0.0, -0.0, 1e-30, -2.0, np.nan, np.inf])
    assert dtype("bool").encode(numbers).tolist() == [0, 0, 1, 1, 1, 1]
    assert dtype("bool").decode([0, 1, 2, 255]).tolist() == [False, True, True, True]
    assert cast_one(True, "bool", "f8e4m3") == 1.0


def test_scales_have_no_zero_and_no_sign():
    scale = dtype("f8e8m0")
    numbers = np.array([0.0, -1.0, 2.0**-149, 1.5, 2.9, 3.0, np.inf, np.nan, 2.0**127 * 1.5])
    numbers = numbers.astype(np.float32)
    assert scale.encode(numbers).tolist() == [0, 0, 0, 128, 128, 129, 254, 255, 254]
    assert scale.encode(numbers, "ieee").tolist() == [255, 255, 0, 128, 128, 129, 255, 255, 255]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=20),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=10),
)
def test_the_nearest_entry_of_any_codebook(entries, numbers):
    book = codebook("book", entries, "f32")
    exact = [Fraction(entry) for entry in entries]
    middles = [float((a + b) / 2) for a in exact[:4] for b in exact[:4]]
    numbers = [*numbers, *entries, *middles, *np.nextafter(middles, np.inf).tolist()]
    numbers = [x for x in numbers if np.isfinite(x)]
    codes = book.encode(numbers, rounding="nearest_entry")
    for x, code in zip(numbers, codes.tolist(), strict=True):
        distances = [abs(Fraction(x) - entry) for entry in exact]
        assert code == distances.index(min(distances))


def test_codebooks_decode_and_cast_like_their_entries():
    nf4 = dtype("nf4")
    values = nf4.decode(np.arange(16))
    assert values[0] == -1 and values[7] == 0 and values[15] == 1 and (np.diff(values) > 0).all()
    assert (nf4.encode(values, rounding="nearest_entry") == np.arange(16)).all()
    assert nf4.encode([np.nan, np.inf, -np.inf], rounding="nearest_entry").tolist() == [15, 15, 0]
    halves = convert(values, nf4, dtype("f16"))
    assert (halves == values.astype(np.float16)).all()
    ternary = codebook("ternary", [-1, 0, 1], "f16")
    assert np.isnan(ternary.decode([3])).all()


def test_nf4_is_the_quantiles_of_the_normal_distribution():
    """Dettmers et al., appendix E: 8 quantiles of N(0, 1) above and 7 below 0, evenly spaced in
    probability from 1/2 to 1 - 1/2 (1/32 + 1/30), divided by the largest; to the digits printed."""
    from statistics import NormalDist

    offset = 1 - (1 / 32 + 1 / 30) / 2
    positive = [NormalDist().inv_cdf(0.5 + (offset - 0.5) * k / 8) for k in range(1, 9)]
    negative = [-NormalDist().inv_cdf(0.5 + (offset - 0.5) * k / 7) for k in range(7, 0, -1)]
    expected = np.array([*negative, 0, *positive]) / positive[-1]
    assert np.abs(dtype("nf4").decode(np.arange(16)) - expected).max() < 1e-6


# ---- what is refused


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dtype("nf4").encode([0.5]), 'write rounding="nearest_entry"'),
        (lambda: dtype("f16").encode([0.5], rounding="nearest_entry"), "f16 is no codebook"),
        (lambda: dtype("f16").encode([0.5], overflow="wrap"), "f64 into f16"),
        (lambda: dtype("i4").encode([0.5], overflow="wrap"), 'write overflow="saturate"'),
        (lambda: dtype("i4").encode([0.5], overflow="clip"), "write one of saturate, ieee, wrap"),
        (lambda: dtype("f16").encode([0.5], rounding="stochastic"), "needs random_bits"),
        (lambda: dtype("f16").encode([0.5], random_bits=[1]), 'write rounding="stochastic"'),
        (
            lambda: dtype("f16").encode([0.5], rounding="stochastic", random_bits=np.zeros(1)),
            r"float64\[1\]; give uint32\[1\]",
        ),
        (lambda: dtype("f16").encode(["a"]), "cannot be encoded"),
        (lambda: dtype("f16").encode([1j]), "cannot be encoded"),
        (lambda: dtype("f16").encode([2**70]), "cannot be encoded"),
        (lambda: dtype("u4").decode([16]), "16 is not a code of u4"),
        (lambda: dtype("u4").decode([1.0]), "codes of u4 are integers"),
        (lambda: cast_one(1, "u8", "u4", overflow="none"), "no mode"),
        (
            lambda: convert(np.zeros(1), dtype("f32"), dtype("f16")),
            "values of f32 are held in float32 arrays, not float64",
        ),
    ],
)
def test_casts_without_meaning_say_what_to_write(call, message):
    with pytest.raises(DTypeError, match=message):
        call()


@pytest.mark.parametrize("source", [*SMALL[::4], "nf4", "i32", "u64", "tf32", "f32", "f64"])
def test_one_number_is_an_array_of_rank_0(source):
    origin = dtype(source)
    for target in [*SMALL[::3], "nf4", "i32", "u64", "f16", "bf16", "tf32", "f32", "f64"]:
        goal = dtype(target)
        rounding = "nearest_entry" if target == "nf4" else "nearest_even"
        for number in (0, 1):
            values = np.array([number], dtype=origin.array)
            alone = convert(values[0], origin, goal, rounding=rounding)
            assert isinstance(alone, np.ndarray)
            assert alone.dtype == goal.array and alone.shape == ()
            together = convert(values, origin, goal, rounding=rounding)
            assert np.array_equal(alone, together[0], equal_nan=True)
            codes = goal.encode(values[0], rounding=rounding)
            assert codes.dtype == goal.storage and codes.shape == ()
            assert isinstance(goal.decode(codes), np.ndarray)


def test_shapes_are_kept():
    assert dtype("f8e4m3").encode(1.0).shape == ()
    assert dtype("f8e4m3").encode(np.ones((2, 0, 3))).shape == (2, 0, 3)
    assert dtype("i3").decode(dtype("i3").encode([[1, -2], [3, -4]])).tolist() == [[1, -2], [3, -4]]
    assert dtype("f16").encode([]).dtype == np.uint16
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert (dtype("u8").encode(turned) == turned).all()
    assert (convert(turned, dtype("f32"), dtype("bf16")) == turned).all()
