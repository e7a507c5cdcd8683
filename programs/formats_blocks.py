"""Checkpoints whose codes fill bytes and have one scale per block: MXFP4 and bitsandbytes NF4."""

from __future__ import annotations

from programs.checkpoints import THREADS, Format, Stored
from vm.isa.builder import Builder

MXFP4 = """MXFP4 as OCP MX v1.0 defines it, with blocks and scales as tensors of their own.

A block is 32 elements of 4 bits, the lower nibble first, with a power of two: the bytes are f4e2m1
and f8e8m0 as they stand."""

NF4 = """NF4 as bitsandbytes stores it: the rows of the weight in one piece, BLOCK elements with one
absolute maximum, two elements to a byte with the first in the upper nibble. Once the nibbles of
each byte have changed places they are a view in order."""

NESTED = """

Absolute maxima are quantized themselves: 8-bit codes into a table of 256 numbers, 256 of them to a
scale, and a number that is added to all."""


def mxfp4() -> Format:
    """OCP MXFP4 in two tensors, `[N, blocks, 16]` bytes and `[N, blocks]` scales."""

    def stored(b: Builder) -> Stored:
        N, BLOCKS = b.sizes("N BLOCKS")
        BN = b.const(64)
        BLOCKS_OF_TILE = b.const(2)

        def reader(blocks, scales):
            def tile(n, k):
                rows, some = b.tile(n * BN, BN), b.tile(k * BLOCKS_OF_TILE, BLOCKS_OF_TILE)
                q = b.cast(b.load(blocks[rows, some, :]), b.bf16)
                scale = b.cast(b.load(scales[rows, some]), b.bf16)
                scaled = q * b.reshape(scale, [BN, BLOCKS_OF_TILE, 1])
                return b.reshape(scaled, [BN, BLOCKS_OF_TILE * 32])

            return tile

        def example():
            def tensors(N, K):
                blocks = b.random(b.f4e2m1, [N, K / 32, 32], seed=11, scale=3.0)
                return [blocks, b.random(b.f8e8m0, [N, K / 32], seed=12, scale=0.1)]

            return tensors

        parameters = {
            "blocks": b.global_(b.f4e2m1)[N, BLOCKS, 32],
            "scales": b.global_(b.f8e8m0)[N, BLOCKS],
        }
        return Stored(
            MXFP4, parameters, (N, BLOCKS * 32), True, (BN, BLOCKS_OF_TILE * 32), (1, 32), "bf16",
            reader, example,
        )  # fmt: skip

    return stored


def nf4(nested: bool = False, block: int = 64) -> Format:
    """bitsandbytes NF4; `nested` where absolute maxima are quantized ("double quantization").

    `block` is a power of two from 32 on that divides K; where it does not, the weight can be read
    as a single row.
    """
    if block < 32 or block & (block - 1):
        raise ValueError(f"a block has 32, 64, 128 ... elements, not {block}")

    def stored(b: Builder) -> Stored:
        N, K, NESTED_BLOCKS = b.sizes("N K NESTED_BLOCKS")
        columns = min(block, 64)
        rows = THREADS * 32 // columns
        BLOCK = b.const(block)
        BN = b.const(rows)
        BK = b.const(columns)
        bytes = b.layout(b.spatial(BN, BK / 32).local(1, 16))
        elements = b.layout(b.spatial(BN, BK / 32).local(1, 32))

        def reader(codes, absmax, *nesting):
            pairs = b.global_view(codes, b.u8, N, K / 2)
            maxima = b.global_view(absmax, b.u8 if nested else b.f32, N, K / BLOCK)

            def tile(n, k):
                x = b.load(pairs[n * BN : +BN, k * (BK / 2) : +(BK / 2)], layout=bytes)
                q = b.view((x >> 4) | (x << 4), b.nf4, layout=elements)
                at = k * BK / BLOCK
                scale = b.load(maxima[n * BN : +BN, at:+1])
                if nested:
                    scale = restored(scale, n, at, *nesting)
                return b.cast(q, b.f32) * scale

            def restored(code, n, at, nested_absmax, nested_quant_map, nested_offset):
                """The absolute maxima of rows from n * BN on."""
                row = b.iota(b.i32, [BN]) + n * BN
                # Rows past the last one read a scale, of 0s.
                position = b.where(row < N, row * (K / BLOCK) + at, 0)
                scale = b.gather(nested_absmax[:], position / 256)
                value = b.lookup(code, nested_quant_map) * b.reshape(scale, [BN, 1])
                return value + nested_offset

            return tile

        def example():
            def tensors(N, K):
                codes = b.random(b.u8, [N * K / 2, 1], seed=11)
                if not nested:
                    return [codes, b.random(b.f32, [N * K / BLOCK], seed=12, scale=0.1)]
                scales = b.ceil_div(N * K / BLOCK, 256)
                return [codes, b.random(b.u8, [N * K / BLOCK], seed=12),
                        b.random(b.f32, [scales], seed=13, scale=0.1),
                        b.random(b.f32, [256], seed=14, scale=0.5), 0.125]  # fmt: skip

            return tensors

        count = N * K / BLOCK
        parameters = {
            "codes": b.global_(b.u8)[N * K / 2, 1],
            "absmax": b.global_(b.u8 if nested else b.f32)[count],
        }
        facts = [K % BLOCK == 0]
        if nested:
            parameters |= {
                "nested_absmax": b.global_(b.f32)[NESTED_BLOCKS],
                "nested_quant_map": b.global_(b.f32)[256],
                "nested_offset": b.f32,
            }
            facts.append(b.ceil_div(count, 256) == NESTED_BLOCKS)
        return Stored(
            NF4 + NESTED * nested, parameters, (N, K), True, (BN, BK), (1, block), "f32",
            reader, example, tuple(facts), ("N", "K"),
        )  # fmt: skip

    return stored
