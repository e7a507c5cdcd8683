"""Where wgmma wants its operands in shared memory.

A matrix of extent x k (extent is m of A or n of B) is made of atoms: 8 lines of `swizzle` bytes
(16 without swizzle), contiguous, a line running along the major axis, its 16-byte pieces XORed
with the line number. Source: PTX ISA, wgmma, "Shared memory matrix layout" and "Strides"; the
canonical forms are those of CUTLASS's GMMA descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from vm.layouts.common import HasBits, bit_width
from vm.layouts.errors import LayoutError
from vm.layouts.memory import MemoryLayout
from vm.layouts.modes import whole_numbers

SWIZZLE_BITS = {0: 0, 32: 1, 64: 2, 128: 3}
PIECE_BYTES = 16
LINES = 8


@dataclass(frozen=True)
class WgmmaOperand:
    """A shared operand and what its descriptor says.

    layout: of shape (extent, k); B as (k, n) is its transpose. swizzle: bytes of the mode, 0
    for none. leading_bytes, stride_bytes: the descriptor's "leading dimension" and "stride
    dimension" byte offsets (the leading one is unused for k-major swizzled operands)."""

    layout: MemoryLayout
    major: str
    swizzle: int
    leading_bytes: int
    stride_bytes: int


def wgmma_operand(
    extent: int, k: int, bits: int | HasBits, swizzle: int = 128, major: str = "k"
) -> WgmmaOperand:
    """The layout of an operand with atoms stacked first across their lines, then along them, as
    tensor map copies of boxes of one atom's width leave them.

    major: "k" (k is contiguous) or "mn". LayoutError if atoms do not fill extent x k, naming
    what would; for elements other than 16 bits only "k" exists in hardware."""
    extent, k = whole_numbers((extent, k), "wgmma_operand")
    width = bit_width(bits)
    if swizzle not in SWIZZLE_BITS or major not in ("k", "mn"):
        raise LayoutError(
            f"swizzle {swizzle} with major {major!r}: wgmma knows swizzles of 0, 32, 64 and 128 "
            "bytes and major 'k' or 'mn'"
        )
    if width not in (8, 16, 32) or (major == "mn" and width != 16):
        raise LayoutError(
            f"{width}-bit elements with major {major!r}: wgmma takes 8, 16 and 32 bits k-major and "
            "16 bits mn-major"
        )
    line = max(swizzle, PIECE_BYTES) * 8 // width
    along, across = (k, extent) if major == "k" else (extent, k)
    if along % line or across % LINES:
        names = ("k", "extent") if major == "k" else ("extent", "k")
        raise LayoutError(
            f"{extent} x {k} is not made of atoms of {LINES} lines of {line} elements: "
            f"{names[0]} must "
            f"be a multiple of {line} and {names[1]} of {LINES}"
        )
    atom = LINES * line
    # As (across, along): lines within an atom, atoms across, elements of a line, columns of atoms.
    modes = (across // LINES, LINES, along // line, line)
    layout = MemoryLayout((across, along), modes, (atom, line, across * line, 1))
    if major == "mn":
        layout = layout.transpose()
    if swizzle:
        piece = PIECE_BYTES * 8 // width
        layout = layout.swizzle(piece.bit_length() - 1, SWIZZLE_BITS[swizzle], 3)
    next_across, next_along = atom * width // 8, across * line * width // 8
    # Without swizzle, mn-major descriptors name the two the other way round.
    swapped = swizzle == 0 and major == "mn"
    leading, stride = (next_across, next_along) if swapped else (next_along, next_across)
    return WgmmaOperand(layout, major, swizzle, leading, stride)


def wgmma_shared(
    extent: int, k: int, bits: int | HasBits, swizzle: int = 128, major: str = "k"
) -> MemoryLayout:
    """The layout of wgmma_operand, of shape (extent, k)."""
    return wgmma_operand(extent, k, bits, swizzle, major).layout
