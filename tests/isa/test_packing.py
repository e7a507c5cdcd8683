"""Packing against one Python integer that holds all elements, and the laws of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.isa.dtypes import DTypeError, dtype
from vm.isa.packing import pack, pack_rows, packed_size, unpack, unpack_rows

WIDTHS = st.integers(1, 64)


def expected_bytes(codes: list[int], bits: int) -> bytes:
    """The definition: element k at bits [k * b, (k + 1) * b) of one little-endian number."""
    number = sum(code << (index * bits) for index, code in enumerate(codes))
    return number.to_bytes(-(-len(codes) * bits // 8), "little")


@st.composite
def codes_of_some_width(draw):
    bits = draw(WIDTHS)
    return bits, draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=41))


@settings(deadline=None, max_examples=300)
@given(codes_of_some_width())
def test_elements_follow_each_other_bit_by_bit(example):
    bits, codes = example
    element = dtype(f"u{bits}")
    packed = pack(np.array(codes, dtype=element.storage), element)
    assert packed.dtype == np.uint8
    assert packed.tobytes() == expected_bytes(codes, bits)
    assert unpack(packed, element, len(codes)).tolist() == codes


@pytest.mark.parametrize("bits", range(1, 65))
def test_more_codes_than_one_piece(bits):
    """Pieces are packed apart; their seams must not show, nor a last piece of odd size."""
    element = dtype(f"u{bits}")
    generator = np.random.default_rng(bits)
    codes = generator.integers(0, 1 << bits, (1 << 16) + 13, dtype=np.uint64)
    codes = codes.astype(element.storage)
    packed = pack(codes, element)
    assert packed.size == packed_size(codes.size, element)
    assert (unpack(packed, element, codes.size) == codes).all()
    seam = slice((1 << 16) - 16, (1 << 16) + 13)
    tail = packed[seam.start * bits // 8 :]
    assert tail.tobytes() == expected_bytes(codes[seam].tolist(), bits)


def test_every_three_bit_pair_of_neighbours_across_a_byte():
    element = dtype("u3")
    for first in range(8):
        for second in range(8):
            codes = np.array([0, 0, first, second], dtype=np.uint8)
            assert pack(codes, element).tobytes() == expected_bytes(codes.tolist(), 3)


@settings(deadline=None, max_examples=150)
@given(WIDTHS, st.lists(st.integers(0, 4), max_size=2), st.integers(0, 19), st.randoms())
def test_each_row_begins_at_a_byte(bits, outer, count, random):
    element = dtype(f"u{bits}")
    shape = (*outer, count)
    flat = [random.getrandbits(bits) for _ in range(int(np.prod(shape)))]
    codes = np.array(flat, dtype=element.storage).reshape(shape)
    packed = pack_rows(codes, element)
    assert packed.shape == (*outer, packed_size(count, element))
    for row in np.ndindex(*outer):
        assert packed[row].tobytes() == expected_bytes(codes[row].tolist(), bits)
    assert (unpack_rows(packed, element, count) == codes).all()


def test_packed_bytes_do_not_alias_the_codes():
    codes = np.zeros(4, dtype=np.uint8)
    pack(codes, dtype("u8"))[0] = 1
    assert codes[0] == 0


def test_codes_that_do_not_fit_are_refused():
    with pytest.raises(DTypeError, match=r"16 is not a code of u4.*encode"):
        pack(np.array([3, 16]), dtype("u4"))
    with pytest.raises(DTypeError, match=r"-1 is not a code of i4.*encode"):
        pack(np.array([-1]), dtype("i4"))
    with pytest.raises(DTypeError, match=r"integers, not float64.*encode"):
        pack(np.array([1.0]), dtype("u4"))


def test_too_few_bytes_are_refused():
    with pytest.raises(DTypeError, match="9 elements of u4 take 5 bytes; there are 4"):
        unpack(np.zeros(4, dtype=np.uint8), dtype("u4"), 9)
    with pytest.raises(DTypeError, match="uint8 bytes, not uint16"):
        unpack(np.zeros(4, dtype=np.uint16), dtype("u4"), 4)
    with pytest.raises(DTypeError, match="rows of 3 u4 take 2 bytes"):
        unpack_rows(np.zeros((2, 3), dtype=np.uint8), dtype("u4"), 3)


def test_names_of_types_will_do():
    codes = np.arange(8, dtype=np.uint8)
    packed = pack(codes, "u3")
    assert (packed == pack(codes, dtype("u3"))).all()
    assert (unpack(packed, "u3", 8) == codes).all()
