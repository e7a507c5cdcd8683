"""GGUF's block types. Each row of a weight is a row of bytes: blocks, one behind the other.

The fields of a block are slices of the row, seen as rows of blocks of the field's dtype. What a
program loads of packed codes are whole runs in the order of memory; the view that follows says
which element each code is. `Q4_K` needs the bits of its 6-bit scales put together from two places:
a view as u1 takes any bits of any byte.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from programs.checkpoints import THREADS, Format, Stored
from vm.isa.builder import Builder
from vm.isa.builder_expressions import Expression, TileIndex
from vm.isa.dtypes import dtype

Field = Callable[[str], Expression]
"""The rows as blocks of a dtype: [N, blocks, elements]; as u1, [N, blocks, bytes, 8]."""


@dataclass(frozen=True)
class BlockType:
    """A block of `elements` weights in `size` bytes.

    `numbers` are its floats that may be no number, for examples: their dtype, the position of the
    first, counted in such, and how many. `reader(b)` writes the layouts into a module; what it
    gives is called with `field` (see `Field`), the rows of a tile, and its position along K in
    tiles, for the tile [rows, columns] in f32. Its docstring says what is in a block.
    """

    size: int
    elements: int
    numbers: tuple[str, int, int]
    tile: tuple[int, int]
    reader: Callable[[Builder], Callable[[Field, TileIndex, Expression], Expression]]

    def count_of(self, element: str) -> int:
        """How many elements of a dtype take as many bytes as a block."""
        return self.size * 8 // dtype(element).bits


def _two_blocks(k: Expression, b: Builder) -> TileIndex:
    """The blocks of 32 elements of the tile at position k: two of them."""
    return b.tile(k * 2, 2)


def _low_nibbles_first(b: Builder) -> tuple[Expression, Expression]:
    """How a thread holds a block of 32 nibbles as stored, and as the elements that they are: the
    low nibbles of the 16 bytes are the first 16, and the high nibbles the others."""
    stored = b.layout(b.spatial(64, 2, 1).local(1, 1, 32), "stored")
    elements = b.layout(b.spatial(64, 2, 1) * b.column_local(2, 16).reshape(1, 1, 32), "elements")
    return stored, elements


def _q4_0(b: Builder) -> Callable[..., Expression]:
    """Q4_0: 32 elements in 18 bytes: a scale in f16, then codes. W = (code - 8) * scale.

    The low nibbles of its 16 bytes are the first 16 elements and the high nibbles the others."""
    stored, elements = _low_nibbles_first(b)

    def tile(field: Field, rows: TileIndex, k: Expression) -> Expression:
        blocks = _two_blocks(k, b)
        scale = b.cast(b.load(field("f16")[rows, blocks, 0:+1]), b.f32)
        codes = b.load(field("u4")[rows, blocks, b.tile(4, 32)], layout=stored)
        q = b.view(codes, b.u4, layout=elements)
        return b.reshape((b.cast(q, b.f32) - 8.0) * scale, [64, 64])

    return tile


def _q4_1(b: Builder) -> Callable[..., Expression]:
    """Q4_1: as Q4_0, with a least value in f16 behind the scale. W = code * scale + least."""
    stored, elements = _low_nibbles_first(b)

    def tile(field: Field, rows: TileIndex, k: Expression) -> Expression:
        blocks = _two_blocks(k, b)
        scale = b.cast(b.load(field("f16")[rows, blocks, 0:+1]), b.f32)
        least = b.cast(b.load(field("f16")[rows, blocks, b.tile(1, 1)]), b.f32)
        codes = b.load(field("u4")[rows, blocks, b.tile(8, 32)], layout=stored)
        q = b.view(codes, b.u4, layout=elements)
        return b.reshape(scale * b.cast(q, b.f32) + least, [64, 64])

    return tile


def _q8_0(b: Builder) -> Callable[..., Expression]:
    """Q8_0: 32 elements in 34 bytes: a scale in f16, then i8. W = code * scale."""
    def tile(field: Field, rows: TileIndex, k: Expression) -> Expression:
        blocks = _two_blocks(k, b)
        scale = b.cast(b.load(field("f16")[rows, blocks, 0:+1]), b.f32)
        q = b.load(field("i8")[rows, blocks, b.tile(2, 32)])
        return b.reshape(b.cast(q, b.f32) * scale, [64, 64])

    return tile


def _mxfp4(b: Builder) -> Callable[..., Expression]:
    """MXFP4: 32 elements in 17 bytes: the scale f8e8m0, then f4e2m1 in the order of Q4_0."""
    stored, elements = _low_nibbles_first(b)

    def tile(field: Field, rows: TileIndex, k: Expression) -> Expression:
        blocks = _two_blocks(k, b)
        scale = b.cast(b.load(field("f8e8m0")[rows, blocks, 0:+1]), b.f32)
        codes = b.load(field("f4e2m1")[rows, blocks, b.tile(2, 32)], layout=stored)
        q = b.view(codes, b.f4e2m1, layout=elements)
        return b.reshape(b.cast(q, b.f32) * scale, [64, 64])

    return tile


def _q4_k(b: Builder) -> Callable[..., Expression]:
    """Q4_K: 256 elements in 144 bytes, 8 sub-blocks of 32: two numbers in f16, 12 bytes with 6 bits
    of scale and 6 of least value for each sub-block, and the codes, where the nibbles of 32 bytes
    are two sub-blocks. W = (number 0 * scale) * code - number 1 * least.

    The 12 bytes are 3 x 4: scales of the first four sub-blocks in the low 6 bits of the first four,
    their leasts in those of the next four. Of the last four sub-blocks the last four bytes have the
    low 4 bits, of scales and of leasts, and the two top bits of the others the upper ones."""
    of_blocks = b.layout(b.spatial(32, 4))  # 32 rows of 4 sub-blocks
    six = b.layout(b.spatial(32, 4, 1).local(1, 1, 6))
    four = b.layout(b.spatial(32, 4, 1).local(1, 1, 4))
    two = b.layout(b.spatial(32, 4, 1).local(1, 1, 2))
    # Half a block of codes: 2 runs of 32 bytes, each with the codes of two sub-blocks.
    stored = b.layout(b.local(1, 2).spatial(32, 4).local(1, 16))
    elements = b.layout(b.local(1, 2, 1).spatial(32, 1, 4).column_local(1, 2, 8))

    def tile(field: Field, rows: TileIndex, k: Expression) -> Expression:
        block, half = k / 2, k % 2
        numbers = field("f16")
        d = b.cast(b.load(numbers[rows, block, 0:+1]), b.f32)
        dmin = b.cast(b.load(numbers[rows, block, b.tile(1, 1)]), b.f32)

        def bits(first: int, low: int, count: int, layout: Expression) -> Expression:
            """`count` bits, from bit `low` up, of the four bytes of scales from `first` on."""
            loaded = b.load(
                field("u1")[rows, block, b.tile(4 + first, 4), b.tile(low, count)], layout=layout
            )
            return b.view(loaded, dtype(f"u{count}"), layout=of_blocks)

        def number(first: int, upper_from: int, upper_low: int) -> Expression:
            """The 6-bit numbers of the sub-blocks: of the first half, and of the second."""
            early = b.cast(bits(first, 0, 6, six), b.i32)
            late = b.cast(bits(8, upper_low, 4, four), b.i32)
            late = late + b.cast(bits(upper_from, 6, 2, two), b.i32) * 16
            return b.cast(b.where(half == 0, early, late), b.f32)

        scale, least = d * number(0, 0, 0), dmin * number(4, 4, 4)
        codes = b.load(field("u4")[rows, block, b.tile(32 + half * 128, 128)], layout=stored)
        q = b.cast(b.view(codes, b.u4, layout=elements), b.f32)
        each = [32, 4, 1]
        return b.reshape(b.reshape(scale, each) * q - b.reshape(least, each), [32, 128])

    return tile


def _q6_k(b: Builder) -> Callable[..., Expression]:
    """Q6_K: 256 elements in 210 bytes: the low 4 bits of all codes, the high 2 bits, 16 scales in
    i8, and a number in f16. W = (number * scale) * (code - 32).

    Half a block is 128 elements, 4 x 32. Their low bits are 64 bytes: the nibbles of byte (r, l) of
    2 x 32 are elements (r, l) and (2 + r, l). Their high bits are 32 bytes: the four pairs of bits
    of byte l are elements (0 to 3, l). 16 elements share a scale."""
    nibbles = b.layout(b.local(1, 2).spatial(32, 4).local(1, 16))
    low_bits = b.layout(
        b.local(1, 1, 2, 1).spatial(32, 1, 1, 4).column_local(1, 2, 1, 8).reshape(32, 4, 32)
    )
    pairs = b.layout(b.spatial(32, 4).local(1, 32))
    high_bits = b.layout(b.spatial(32, 1, 4).column_local(1, 4, 8))

    def tile(field: Field, rows: TileIndex, k: Expression) -> Expression:
        block, half = k / 2, k % 2
        low = b.load(field("u4")[rows, block, b.tile(half * 128, 128)], layout=nibbles)
        high = b.load(field("u2")[rows, block, b.tile(512 + half * 128, 128)], layout=pairs)
        low = b.cast(b.view(low, b.u4, layout=low_bits), b.i32)
        high = b.cast(b.view(high, b.u2, layout=high_bits), b.i32)
        q = b.cast(low + high * 16 - 32, b.f32)
        number = b.cast(b.load(field("f16")[rows, block, b.tile(104, 1)]), b.f32)
        scale = b.cast(b.load(field("i8")[rows, block, b.tile(192 + half * 8, 8)]), b.f32)
        scale = b.reshape(number * scale, [32, 4, 2])
        return b.reshape(b.repeat(scale, 16, axis=2) * q, [32, 128])

    return tile


BLOCK_TYPES: dict[str, BlockType] = {
    "Q4_0": BlockType(18, 32, ("f16", 0, 1), (64, 64), _q4_0),
    "Q4_1": BlockType(20, 32, ("f16", 0, 2), (64, 64), _q4_1),
    "Q8_0": BlockType(34, 32, ("f16", 0, 1), (64, 64), _q8_0),
    "MXFP4": BlockType(17, 32, ("f8e8m0", 0, 1), (64, 64), _mxfp4),
    "Q4_K": BlockType(144, 256, ("f16", 0, 2), (32, 128), _q4_k),
    "Q6_K": BlockType(210, 256, ("f16", 104, 1), (32, 128), _q6_k),
}
"""GGUF's types by their names there."""


def gguf(name: str) -> Format:
    """One of GGUF's block types by its name there."""
    kind = BLOCK_TYPES[name]

    def stored(b: Builder) -> Stored:
        N, R = b.sizes("N R")
        rows, _ = kind.tile
        read = kind.reader(b)
        number, first, count = kind.numbers

        def fields(B: Expression) -> Field:
            views: dict[str, Expression] = {}

            def field(element: str) -> Expression:
                if element not in views:
                    extents = [kind.size, 8] if element == "u1" else [kind.count_of(element)]
                    views[element] = b.global_view(
                        B, dtype(element), N, R / kind.size, *extents
                    )
                return views[element]

            return field

        def reader(B):
            field = fields(B)
            return lambda n, k: read(field, b.tile(n * rows, rows), k)

        def example():
            blocks = N * (R / kind.size)

            @b.program(grid=b.ceil_div(blocks, THREADS), threads=THREADS)
            def set_numbers(
                numbers: b.global_(dtype(number))[blocks, count], B: b.inout(b.global_(b.u8))[N, R]
            ):
                """Bytes of blocks, with these numbers where blocks have floats."""
                block = b.block_index() * THREADS
                floats = b.global_view(B, dtype(number), blocks, kind.count_of(number))
                values = b.load(numbers[block : +THREADS, :])
                b.store(floats[block : +THREADS, b.tile(first, count)], values)

            def tensors(N, K):
                blocks = K / kind.elements
                bytes = b.random(b.u8, [N, blocks * kind.size], seed=11)
                numbers = b.random(dtype(number), [N * blocks, count], seed=12, scale=0.01)
                return [set_numbers(numbers, bytes)]

            return tensors

        return Stored(
            inspect.getdoc(kind.reader), {"B": b.global_(b.u8)[N, R]},
            (N, R / kind.size * kind.elements), True, kind.tile,
            (1, kind.elements), "f32", reader, example, (R % kind.size == 0,),
        )  # fmt: skip

    return stored
