"""Checkpoints whose codes fill bytes and have one scale per block: MXFP4 and bitsandbytes NF4."""

from __future__ import annotations

from vm.isa.program import Module, parse

MXFP4 = """vm 1
# MXFP4 as OCP MX v1.0 defines it, with blocks and scales as tensors of their own: 32 elements of 4
# bits, the lower nibble first, and a power of two. The bytes are f4e2m1 and f8e8m0 as they stand.
program dequantize(blocks: global(u8)[N, BLOCKS, 16], scales: global(u8)[N, BLOCKS],
                   W: out(global(bf16))[N, BLOCKS * 32])
  grid (ceil_div(N * BLOCKS, 32)) threads 32
{
  count = N * BLOCKS
  block = block_index() * 32
  elements = global_view(blocks, f4e2m1, count, 32)
  exponents = global_view(scales, f8e8m0, count, 1)
  q = load(elements[block +: 32, :])
  scale = load(exponents[block +: 32, :])
  out = global_view(W, bf16, count, 32)
  store(out[block +: 32, :], cast(q, bf16) * cast(scale, bf16))
}
"""

NF4 = """vm 1
# NF4 as bitsandbytes stores it: the weight in one piece, BLOCK elements with one absolute maximum,
# two elements to a byte with the first in the upper nibble. Once the nibbles of each byte have
# changed places they are a view in order.
const BLOCK = 64

layout bytes = spatial(32, 1).local(1, BLOCK / 2)
layout elements = spatial(32, 1).local(1, BLOCK)

program dequantize(codes: global(u8)[BYTES, 1], absmax: global(f32)[BLOCKS],
                   W: out(global(f32))[BYTES * 2])
  grid (ceil_div(BLOCKS, 32)) threads 32 where BYTES == BLOCKS * (BLOCK / 2)
{
  block = block_index() * 32
  pairs = global_view(codes, u8, BLOCKS, BLOCK / 2)
  x = load(pairs[block +: 32, :], layout=bytes)
  q = view((x >> 4) | (x << 4), nf4, layout=elements)
  scale = reshape(load(absmax[block +: 32]), [32, 1])
  out = global_view(W, f32, BLOCKS, BLOCK)
  store(out[block +: 32, :], cast(q, f32) * scale)
}
"""

NF4_NESTED = """vm 1
# NF4 with absolute maxima that are quantized themselves: 8-bit codes into a table of 256 numbers,
# 256 of them to a scale, and a number that is added to all. Else as without.
const BLOCK = 64

layout bytes = spatial(32, 1).local(1, BLOCK / 2)
layout elements = spatial(32, 1).local(1, BLOCK)

program dequantize(codes: global(u8)[BYTES, 1], absmax: global(u8)[BLOCKS],
                   nested_absmax: global(f32)[NESTED], nested_quant_map: global(f32)[256],
                   nested_offset: f32, W: out(global(f32))[BYTES * 2])
  grid (ceil_div(BLOCKS, 32)) threads 32
  where BYTES == BLOCKS * (BLOCK / 2), NESTED == ceil_div(BLOCKS, 256)
{
  block = block_index() * 32
  pairs = global_view(codes, u8, BLOCKS, BLOCK / 2)
  x = load(pairs[block +: 32, :], layout=bytes)
  q = view((x >> 4) | (x << 4), nf4, layout=elements)
  nested = load(nested_absmax[block / 256 +: 1])
  scale = lookup(load(absmax[block +: 32]), nested_quant_map) * nested + nested_offset
  out = global_view(W, f32, BLOCKS, BLOCK)
  store(out[block +: 32, :], cast(q, f32) * reshape(scale, [32, 1]))
}
"""


def mxfp4() -> Module:
    """OCP MXFP4 in two tensors, `[N, blocks, 16]` bytes and `[N, blocks]` scales."""
    return parse(MXFP4)


def nf4(nested: bool = False) -> Module:
    """bitsandbytes NF4; `nested` where absolute maxima are quantized ("double quantization")."""
    return parse(NF4_NESTED if nested else NF4)
