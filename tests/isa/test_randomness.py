"""Random bits that a program names, and casts that round by them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.isa.exact_types import values_of_codes
from tests.isa.test_philox import scalar_philox
from vm.errors import VmError
from vm.isa.philox import random_words
from vm.isa.program import parse
from vm.isa.tensor import Tensor
from vm.runtime.reference import run


def word(seed: int, position: int, stream: int = 0) -> int:
    """A word of a stream, by the definition in philox.py and the scalar generator of its tests."""
    seed, position, stream = (n % 2**64 for n in (seed, position, stream))
    block, low = position // 4, 2**32
    counter = (block % low, block // low, stream % low, stream // low)
    return scalar_philox((seed % low, seed // low), counter)[position % 4]


WORDS = """vm 1
program f(P: global({kind})[N], seed: u64, stream: i64, C: out(global(u32))[N],
          D: out(global(u32))[4]) grid (ceil_div(N, 32)) threads 32
{{
  n = block_index() * 32
  store(C[n +: 32], philox(seed, load(P[n +: 32]), stream=stream))
  if n == 0 {{
    store(D[0], philox(seed, 5))
    store(D[1], philox(7, n, stream=3))
    store(D[2], philox(12, stream))
    store(D[3], philox(seed, stream, stream=seed))
  }}
}}"""


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["i32", "u32", "i64", "u64", "u8"]),
    st.integers(0, 2**64 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.data(),
)
def test_a_word_is_that_of_the_stream_at_its_position(kind, seed, stream, data):
    bits = int(kind[1:])
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else (0, 2**bits - 1)
    positions = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=40))
    kernel = parse(WORDS.format(kind=kind))["f"].instantiate()
    given = {"P": np.array(positions, f"{'u' * (kind[0] == 'u')}int{bits}"), "seed": seed}
    outputs = run(kernel, {**given, "stream": stream, "C": None, "D": None}).outputs
    assert outputs["C"].values().tolist() == [word(seed, p, stream) for p in positions]
    assert outputs["D"].values().tolist() == [
        word(seed, 5), word(7, 0, 3), word(12, stream), word(seed, stream, seed)
    ]  # fmt: skip


def test_consecutive_positions_are_the_stream():
    kernel = parse(WORDS.format(kind="u32"))["f"].instantiate()
    given = {"P": np.arange(1000, dtype=np.uint32), "seed": 9, "stream": 2}
    got = run(kernel, {**given, "C": None, "D": None}).outputs["C"].values()
    np.testing.assert_array_equal(got, random_words(9, 1000, stream=2))


CAST = """vm 1
program f(X: global({source})[N], R: global(u32)[N], C: out(global({target}))[N],
          D: out(global({target}))[N], s: {source}, r: u32) grid (ceil_div(N, 64)) threads 32
{{
  n = block_index() * 64
  x = load(X[n +: 64])
  store(C[n +: 64], cast(x, {target}, rounding="stochastic", random=load(R[n +: 64])))
  store(D[n +: 64], cast(s, {target}, rounding="stochastic", random=r))
}}"""


def cast_values(source: str, target: str, numbers: np.ndarray, random: np.ndarray) -> np.ndarray:
    kernel = parse(CAST.format(source=source, target=target))["f"].instantiate()
    assert parse(f"vm 1\n{kernel}")["f"].instantiate() == kernel
    X = Tensor.from_values(source, numbers)
    scalars = {"s": float(X.values()[0]), "r": int(random[0])}
    outputs = run(kernel, {"X": X, "R": random, "C": None, "D": None, **scalars}).outputs
    got = outputs["C"].values()
    assert (outputs["D"].values() == got[0]).all()
    return got


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["f6e2m3", "f4e2m1", "f8e4m3", "f5e2m2", "i4", "u8"]),
    st.lists(
        st.tuples(st.floats(-600, 600, width=32), st.integers(0, 2**32 - 1)),
        min_size=1, max_size=20,
    ),
)  # fmt: skip
def test_the_neighbour_away_from_zero_is_taken_as_often_as_the_fraction_says(target, pairs):
    numbers = np.array([x for x, _ in pairs], np.float32)
    random = np.array([bits for _, bits in pairs], np.uint32)
    got = cast_values("f32", target, numbers, random)
    values = sorted({v for v in values_of_codes(target) if isinstance(v, Fraction)})
    for x, bits, result in zip(numbers, random, got, strict=True):
        exact = min(max(Fraction(float(x)), values[0]), values[-1])
        below = max(v for v in values if v <= exact)
        above = min(v for v in values if v >= exact)
        toward, away = (below, above) if exact >= 0 else (above, below)
        part = (exact - toward) / (away - toward) if away != toward else Fraction(0)
        assert Fraction(float(result)) == (away if Fraction(int(bits), 2**32) < part else toward)


def test_the_mean_of_many_casts_is_the_number():
    """0.3 between 0.25 and 0.375 in f6e2m3, 2^16 times: within six standard deviations."""
    text = """vm 1
program f(C: out(global(f6e2m3))[N]) grid (N / 256) threads 32 {
  n = block_index() * 256
  bits = philox(2026, iota(i32, [256]) + n)
  store(C[n +: 256], cast(fill(0.3, f32, [256]), f6e2m3, rounding="stochastic", random=bits))
}"""
    kernel = parse(text)["f"].instantiate()
    got = run(kernel, {"C": None, "N": 2**16}).outputs["C"].values().astype(np.float64)
    assert set(got.tolist()) == {0.25, 0.375}
    part = (float(np.float32(0.3)) - 0.25) / 0.125
    deviation = 0.125 * (part * (1 - part) / 2**16) ** 0.5
    assert abs(got.mean() - 0.3) < 6 * deviation


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ('cast(x, f8e4m3, rounding="stochastic")', "E0213", "random=philox(seed, counter)"),
        ("cast(x, f8e4m3, random=r)", "E0213", 'rounding="stochastic"'),
        ('cast(x, f8e4m3, rounding="stochastic", random=x)', "E0205", "one u32 for each element"),
        ('cast(x, u8, rounding="stochastic", random=load(R[0 +: 16]))', "E0205", "same shape"),
        ('cast(x, nf4, rounding="stochastic", random=r)', "E0213", "nearest_entry"),
        ("philox(x, r)", "E0203", "scalar"),
        ("philox(1, x)", "E0205", "the counter is an integer"),
        ("philox(1.5, r)", "E0205", "1.5 is not a value of u64"),
    ],
)
def test_what_has_no_meaning_is_refused_with_what_to_write(call, code, says):
    text = f"""vm 1
program f(X: global(f32)[N], R: global(u32)[N]) grid (1) threads 32 {{
  x = load(X[0 +: 32])
  r = load(R[0 +: 32])
  print({call})
}}"""
    with pytest.raises(VmError, match=code) as caught:
        parse(text)["f"].instantiate()
    assert says in str(caught.value)
