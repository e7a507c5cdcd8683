"""GGUF's block types. Each row of a weight is a row of bytes: blocks, one behind the other.

The fields of a block are views of those bytes: a dtype, the field's first position, and the size of
a block as stride. What a program loads of packed codes are whole runs in the order of memory; the
view that follows says which element each code is. `Q4_K` needs the bits of its 6-bit scales put
together from two places: a view as u1 takes any bits of any byte.
"""

from __future__ import annotations

from vm.isa.program import Module, parse

Q4_0 = """vm 1
# Q4_0: 32 elements in 18 bytes: a scale in f16, then codes; the low nibbles of its 16 bytes are the
# first 16 elements and the high nibbles the others. W = (code - 8) * scale.
layout stored = spatial(32, 1).local(1, 32)
layout elements = spatial(32, 1) * column_local(2, 16).reshape(1, 32)

program dequantize(B: global(u8)[N, R], W: out(global(f32))[N, R / 18 * 32])
  grid (ceil_div(N * (R / 18), 32)) threads 32 where R % 18 == 0
{
  count = N * (R / 18)
  block = block_index() * 32
  scales = global_view(B, f16, count, 1, strides=[9, 1])
  codes = global_view(B, u4, count, 32, offset=4, strides=[36, 1])
  scale = cast(load(scales[block +: 32, :]), f32)
  q = view(load(codes[block +: 32, :], layout=stored), u4, layout=elements)
  out = global_view(W, f32, count, 32)
  store(out[block +: 32, :], (cast(q, f32) - 8.0) * scale)
}
"""

Q4_1 = """vm 1
# Q4_1: as Q4_0, with a least value in f16 behind the scale. W = code * scale + least.
layout stored = spatial(32, 1).local(1, 32)
layout elements = spatial(32, 1) * column_local(2, 16).reshape(1, 32)

program dequantize(B: global(u8)[N, R], W: out(global(f32))[N, R / 20 * 32])
  grid (ceil_div(N * (R / 20), 32)) threads 32 where R % 20 == 0
{
  count = N * (R / 20)
  block = block_index() * 32
  numbers = global_view(B, f16, count, 2, strides=[10, 1])
  codes = global_view(B, u4, count, 32, offset=8, strides=[40, 1])
  scale = cast(load(numbers[block +: 32, 0 +: 1]), f32)
  least = cast(load(numbers[block +: 32, 1 +: 1]), f32)
  q = view(load(codes[block +: 32, :], layout=stored), u4, layout=elements)
  out = global_view(W, f32, count, 32)
  store(out[block +: 32, :], scale * cast(q, f32) + least)
}
"""

Q8_0 = """vm 1
# Q8_0: 32 elements in 34 bytes: a scale in f16, then i8. W = code * scale.
program dequantize(B: global(u8)[N, R], W: out(global(f32))[N, R / 34 * 32])
  grid (ceil_div(N * (R / 34), 32)) threads 32 where R % 34 == 0
{
  count = N * (R / 34)
  block = block_index() * 32
  scales = global_view(B, f16, count, 1, strides=[17, 1])
  codes = global_view(B, i8, count, 32, offset=2, strides=[34, 1])
  out = global_view(W, f32, count, 32)
  q = cast(load(codes[block +: 32, :]), f32)
  store(out[block +: 32, :], q * cast(load(scales[block +: 32, :]), f32))
}
"""

MXFP4 = """vm 1
# MXFP4 in GGUF: 32 elements in 17 bytes: the scale f8e8m0, then f4e2m1 in the order of Q4_0.
layout stored = spatial(32, 1).local(1, 32)
layout elements = spatial(32, 1) * column_local(2, 16).reshape(1, 32)

program dequantize(B: global(u8)[N, R], W: out(global(f32))[N, R / 17 * 32])
  grid (ceil_div(N * (R / 17), 32)) threads 32 where R % 17 == 0
{
  count = N * (R / 17)
  block = block_index() * 32
  scales = global_view(B, f8e8m0, count, 1, strides=[17, 1])
  codes = global_view(B, f4e2m1, count, 32, offset=2, strides=[34, 1])
  q = view(load(codes[block +: 32, :], layout=stored), f4e2m1, layout=elements)
  out = global_view(W, f32, count, 32)
  store(out[block +: 32, :], cast(q, f32) * cast(load(scales[block +: 32, :]), f32))
}
"""

Q4_K = """vm 1
# Q4_K: 256 elements in 144 bytes, 8 sub-blocks of 32: two numbers in f16, 12 bytes with 6 bits of
# scale and 6 of least value for each sub-block, and the codes, where the nibbles of 32 bytes are
# two sub-blocks. W = (number 0 * scale) * code - number 1 * least.
#
# The 12 bytes are 3 x 4: scales of the first four sub-blocks in the low 6 bits of the first four,
# their leasts in those of the next four. Of the last four sub-blocks the last four bytes have the
# low 4 bits, of scales and of leasts, and the two top bits of the others the upper ones.
layout of_blocks = spatial(8, 4)  # 8 blocks of 4 sub-blocks
layout six = spatial(8, 4, 1).local(1, 1, 6)
layout four = spatial(8, 4, 1).local(1, 1, 4)
layout two = spatial(8, 4, 1).local(1, 1, 2)
# Half a block of codes: 2 runs of 32 bytes, each with the codes of two sub-blocks.
layout stored = local(1, 2).spatial(8, 4).local(1, 16)
layout elements = local(1, 2, 1).spatial(8, 1, 4).column_local(1, 2, 8)

program dequantize(B: global(u8)[N, R], W: out(global(f32))[N, R / 144 * 256])
  grid (ceil_div(N * (R / 144), 8)) threads 32 where R % 144 == 0
{
  count = N * (R / 144)
  block = block_index() * 8
  numbers = global_view(B, f16, count, 2, 1, strides=[72, 1, 1])
  bytes = global_view(B, u1, count, 12, 8, offset=32, strides=[1152, 8, 1])
  codes = global_view(B, u4, count, 2, 128, offset=32, strides=[288, 128, 1])
  out = global_view(W, f32, count, 2, 4, 32)
  d = cast(load(numbers[block +: 8, 0, :]), f32)
  dmin = cast(load(numbers[block +: 8, 1, :]), f32)

  scale = cast(view(load(bytes[block +: 8, 0 +: 4, 0 +: 6], layout=six), u6, layout=of_blocks), f32)
  least = cast(view(load(bytes[block +: 8, 4 +: 4, 0 +: 6], layout=six), u6, layout=of_blocks), f32)
  q = view(load(codes[block +: 8, 0, :], layout=stored), u4, layout=elements)
  store(out[block +: 8, 0, :, :],
        reshape(d * scale, [8, 4, 1]) * cast(q, f32) - reshape(dmin * least, [8, 4, 1]))

  low = view(load(bytes[block +: 8, 8 +: 4, 0 +: 4], layout=four), u4, layout=of_blocks)
  high = view(load(bytes[block +: 8, 0 +: 4, 6 +: 2], layout=two), u2, layout=of_blocks)
  upper_scale = cast(cast(low, i32) + cast(high, i32) * 16, f32)
  low_least = view(load(bytes[block +: 8, 8 +: 4, 4 +: 4], layout=four), u4, layout=of_blocks)
  high_least = view(load(bytes[block +: 8, 4 +: 4, 6 +: 2], layout=two), u2, layout=of_blocks)
  upper_least = cast(cast(low_least, i32) + cast(high_least, i32) * 16, f32)
  upper_q = view(load(codes[block +: 8, 1, :], layout=stored), u4, layout=elements)
  store(out[block +: 8, 1, :, :],
        reshape(d * upper_scale, [8, 4, 1]) * cast(upper_q, f32)
          - reshape(dmin * upper_least, [8, 4, 1]))
}
"""

Q6_K = """vm 1
# Q6_K: 256 elements in 210 bytes: the low 4 bits of all codes, the high 2 bits, 16 scales in i8,
# and a number in f16. W = (number * scale) * (code - 32).
#
# Half a block is 128 elements, 4 x 32. Their low bits are 64 bytes: the nibbles of byte (r, l) of
# 2 x 32 are elements (r, l) and (2 + r, l). Their high bits are 32 bytes: the four pairs of bits of
# byte l are elements (0 to 3, l). 16 elements share a scale.
layout nibbles = local(1, 2).spatial(8, 4).local(1, 16)
layout low_bits = (local(1, 1, 2, 1).spatial(8, 1, 1, 4).column_local(1, 2, 1, 8)).reshape(8, 4, 32)
layout pairs = spatial(8, 4).local(1, 32)
layout high_bits = spatial(8, 1, 4).column_local(1, 4, 8)

program dequantize(B: global(u8)[N, R], W: out(global(f32))[N, R / 210 * 256])
  grid (ceil_div(N * (R / 210), 8), 2) threads 32 where R % 210 == 0
{
  count = N * (R / 210)
  blocks, half = block_index()
  block = blocks * 8
  low = global_view(B, u4, count, 2, 128, strides=[420, 128, 1])
  high = global_view(B, u2, count, 2, 128, offset=512, strides=[840, 128, 1])
  scales = global_view(B, i8, count, 2, 8, offset=192, strides=[210, 8, 1])
  numbers = global_view(B, f16, count, 1, offset=104, strides=[105, 1])
  l = view(load(low[block +: 8, half, :], layout=nibbles), u4, layout=low_bits)
  h = view(load(high[block +: 8, half, :], layout=pairs), u2, layout=high_bits)
  q = cast(cast(l, i32) + cast(h, i32) * 16 - 32, f32)
  scale = cast(load(numbers[block +: 8, :]), f32) * cast(load(scales[block +: 8, half, :]), f32)
  out = global_view(W, f32, count, 2, 4, 32)
  store(out[block +: 8, half, :, :], repeat(reshape(scale, [8, 4, 2]), 16, axis=2) * q)
}
"""

TEXTS = {"Q4_0": Q4_0, "Q4_1": Q4_1, "Q8_0": Q8_0, "MXFP4": MXFP4, "Q4_K": Q4_K, "Q6_K": Q6_K}


def gguf(name: str) -> Module:
    """One of GGUF's block types by its name there."""
    return parse(TEXTS[name])
