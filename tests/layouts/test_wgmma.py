"""Shared operands of wgmma against the canonical forms, byte by byte."""

from __future__ import annotations

import pytest

from vm.layouts import Access, LayoutError, shared, spatial, wgmma_operand, wgmma_shared

MODES = {0: 0, 32: 1, 64: 2, 128: 3}


def byte_address(operand, mn, k, bits):
    """CUTLASS's canonical forms, in 16-byte units for strides of lines: T elements are 16
    bytes."""
    t = 128 // bits
    wide = max(1, operand.swizzle // 16)  # pieces of a line
    leading, stride = operand.leading_bytes, operand.stride_bytes
    if operand.major == "k":
        piece, element = divmod(k, t)
        address = mn % 8 * 16 * wide + mn // 8 * stride + element * bits // 8
        if operand.swizzle:
            columns, inside = divmod(piece, wide)
            address += inside * 16 + columns * operand.layout.shape[0] * wide * 16
        else:
            address += piece * leading
    else:
        piece, element = divmod(mn, t)
        columns, inside = divmod(piece, wide)
        address = element * bits // 8 + inside * 16 + k % 8 * 16 * wide
        if operand.swizzle:
            address += columns * leading + k // 8 * stride
        else:
            address += columns * stride + k // 8 * leading
    mask = (1 << MODES[operand.swizzle]) - 1
    return address ^ (address >> 7 & mask) << 4


@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
@pytest.mark.parametrize(("bits", "major"), [(16, "k"), (16, "mn"), (8, "k"), (32, "k")])
def test_operands_are_the_canonical_form(swizzle, bits, major):
    extent, k = 128, 2 * 128 * 8 // bits
    operand = wgmma_operand(extent, k, bits, swizzle, major)
    offsets = operand.layout.offsets()
    for mn in range(extent):
        for at in range(0, k, 3):
            assert int(offsets[mn, at]) * bits // 8 == byte_address(operand, mn, at, bits)
    assert operand.layout.is_injective() and operand.layout.size == extent * k


def test_the_widest_swizzle_of_one_atom_column_is_the_row_major_one():
    assert wgmma_shared(64, 64, 16, 128) == shared(64, 64).swizzle(3, 3, 3)
    assert wgmma_shared(64, 32, 32, 128) == shared(64, 32).swizzle(2, 3, 3)


@pytest.mark.parametrize(("swizzle", "conflicts"), [(128, 0), (64, 0), (32, 0), (0, 0)])
def test_a_core_matrix_is_read_without_conflicts(swizzle, conflicts):
    """8 lines of 16 bytes, as the tensor core reads them."""
    line = max(16, swizzle) // 2
    layout = wgmma_shared(32, line, 16, swizzle)
    register = spatial(32, 1).local(1, line)
    assert Access(register, 16).simulate(layout, 16).conflicts == conflicts


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((64, 64, 16, 48, "k"), ["48", "128"]),
        ((64, 64, 16, 128, "n"), ["'n'"]),
        ((64, 64, 8, 128, "mn"), ["8-bit", "mn-major"]),
        ((64, 64, 4, 128, "k"), ["4-bit"]),
        ((64, 48, 16, 128, "k"), ["64 x 48", "k must be a multiple of 64"]),
        ((60, 64, 16, 128, "k"), ["60 x 64", "extent of 8"]),
        ((60, 64, 16, 64, "mn"), ["extent must be a multiple of 32", "k of 8"]),
    ],
)
def test_refusals_say_what_would_fit(arguments, parts):
    with pytest.raises(LayoutError) as caught:
        wgmma_operand(*arguments)
    for part in parts:
        assert part in str(caught.value)
