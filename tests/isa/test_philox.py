"""Philox against the authors' known answers and a scalar transcription; the laws of its streams."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.isa.dtypes import DTypeError, codebook, dtype
from vm.isa.philox import (
    NORMAL_FACTOR,
    NORMAL_MEAN,
    philox,
    random_codes,
    random_values,
    random_words,
)

WORD = st.integers(0, 2**32 - 1)


def scalar_philox(key, counter):
    """The definition in the paper, section 3.3 and table 2, one word at a time."""
    key, counter = list(key), list(counter)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * counter[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * counter[2], 2**32)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


@pytest.mark.parametrize(
    "key, counter, expected",
    [
        ([0] * 2, [0] * 4, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (
            [2**32 - 1] * 2,
            [2**32 - 1] * 4,
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        ),
        (
            [0xA4093822, 0x299F31D0],
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers_of_the_authors(key, counter, expected):
    assert philox(key, counter).tolist() == expected
    assert scalar_philox(key, counter) == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(WORD, min_size=2, max_size=2), st.lists(WORD, min_size=4, max_size=4))
def test_every_block_is_the_definition(key, counter):
    assert philox(key, counter).tolist() == scalar_philox(key, counter)


def test_leading_axes_broadcast():
    counters = np.arange(24, dtype=np.uint32).reshape(3, 2, 4)
    keys = np.arange(4, dtype=np.uint32).reshape(2, 2)
    blocks = philox(keys, counters)
    assert blocks.shape == (3, 2, 4)
    for i, j in np.ndindex(3, 2):
        assert blocks[i, j].tolist() == scalar_philox(keys[j].tolist(), counters[i, j].tolist())


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 70_000))
def test_a_word_of_a_stream_can_be_computed_alone(seed, stream, position):
    words = random_words(seed, position + 1, stream)
    assert words.size == position + 1
    block = scalar_philox(
        [seed % 2**32, seed >> 32],
        [position // 4, 0, stream % 2**32, stream >> 32],
    )
    assert words[position] == block[position % 4]


def test_a_longer_request_begins_with_the_shorter():
    assert (random_words(7, 100_003)[:41] == random_words(7, 41)).all()


@pytest.mark.parametrize("name", ["u1", "u3", "i4", "u8", "i11", "u16", "i32", "u33", "u64"])
def test_codes_are_the_low_bits_of_the_streams_bytes(name):
    element = dtype(name)
    codes = random_codes(element, (5, 7), seed=11)
    size = element.storage.itemsize
    stream = b"".join(int(word).to_bytes(4, "little") for word in random_words(11, 35 * 2))
    for k, code in enumerate(codes.reshape(-1).tolist()):
        chunk = int.from_bytes(stream[k * size : (k + 1) * size], "little")
        assert code == chunk % 2**element.bits
    assert codes.dtype == element.storage and codes.shape == (5, 7)


def test_every_code_appears_about_equally_often():
    """The chi-squared statistic of n - 1 degrees stays within 6 of its standard deviations."""
    ternary = codebook("ternary", [-1, 0, 1], "f16")
    for element, n in [(dtype("u3"), 8), (dtype("bool"), 2), (dtype("nf4"), 16), (ternary, 3)]:
        counts = np.bincount(random_codes(element, (1 << 16,), seed=3), minlength=n)
        assert counts.size == n
        expected = (1 << 16) / n
        chi_squared = ((counts - expected) ** 2).sum() / expected
        assert chi_squared < (n - 1) + 6 * math.sqrt(2 * (n - 1))


def test_normal_values_are_sums_of_four_halves():
    words = random_words(5, 200).tolist()
    values = random_values(dtype("f64"), (100,), seed=5, scale=0.25)
    for k, value in enumerate(values.tolist()):
        halves = [part for word in words[2 * k : 2 * k + 2] for part in divmod(word, 2**16)]
        assert value == (sum(halves) - NORMAL_MEAN) * NORMAL_FACTOR * 0.25


def test_the_factor_is_the_nearest_double():
    """factor**2 * variance = 1, within the exact squares of the neighbouring half-way points."""
    variance = Fraction(4 * (2**32 - 1), 12)
    exact = Fraction(NORMAL_FACTOR)
    below = (exact + Fraction(math.nextafter(NORMAL_FACTOR, 0))) / 2
    above = (exact + Fraction(math.nextafter(NORMAL_FACTOR, 1))) / 2
    assert below**2 * variance < 1 < above**2 * variance


def test_normal_values_have_the_asked_deviation():
    """Within 6 standard errors of n samples."""
    n = 1 << 16
    values = random_values(dtype("f32"), (256, 256), seed=9, scale=3.0).astype(np.float64)
    assert abs(values.mean()) < 6 * 3.0 / math.sqrt(n)
    assert abs(values.std() - 3.0) < 6 * 3.0 / math.sqrt(2 * n)


@pytest.mark.parametrize("name", ["f16", "bf16", "f8e4m3", "f6e3m2", "f4e2m1", "f3e1m1", "f8e8m0"])
def test_normal_values_are_values_of_the_type(name):
    element = dtype(name)
    values = random_values(element, (1000,), seed=1)
    assert values.dtype == element.array
    assert (element.decode(element.encode(values)) == values).all()
    wide = random_values(dtype("f64"), (1000,), seed=1)
    assert (element.decode(element.encode(abs(wide) if name == "f8e8m0" else wide)) == values).all()


def test_streams_differ():
    assert (random_words(1, 64) != random_words(1, 64, stream=1)).any()
    assert (random_words(1, 64) != random_words(2, 64)).any()


def test_what_has_no_meaning_is_refused():
    with pytest.raises(DTypeError, match="write random_values"):
        random_codes(dtype("f16"), (4,), seed=1)
    with pytest.raises(DTypeError, match="write random_codes"):
        random_values(dtype("u4"), (4,), seed=1)
    with pytest.raises(DTypeError, match="seed -1"):
        random_words(-1, 4)
