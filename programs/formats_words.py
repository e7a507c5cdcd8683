"""Checkpoints whose codes are packed into 32-bit words: GPTQ, AWQ, compressed-tensors.

A word, or three for 3-bit codes, is a unit of codes that lie next to each other along one axis. So
there is one register layout of units, and both the words and the codes are that layout with each
unit filled in: `units * local(WORDS, 1)` and `units * local(CODES, 1)` for units along rows. A view
from one to the other is all the unpacking there is; AWQ's order of nibbles is in the second factor.
"""

from __future__ import annotations

from math import gcd

from vm.isa.program import Module, parse

GPTQ = """vm 1
# GPTQ: W[k, n] = (code - zero) * scale, with the scale and zero point of group g_idx[k].
#
# `qweight` holds codes along K in words, `qzeros` those of a group along N; version 1 of the format
# stores zero points less one. 3-bit codes straddle words: 32 of them are three words.
const CODE = u{bits}
const CODES = {codes}  # in a unit
const WORDS = {words}  # of a unit
const ZERO_OFFSET = {zero_offset}
const BK = 32
const BN = 32

layout units = spatial(1, 32).local(BK / CODES, 1)  # a thread has a column of codes ...
layout words = units * local(WORDS, 1)
layout codes = units * local(CODES, 1)
layout zero_units = spatial(32, 1).local(1, BN / CODES)  # ... and a row of zero points
layout zero_words = zero_units * local(1, WORDS)
layout zeros = zero_units * local(1, CODES)

program dequantize(qweight: global(i32)[K * WORDS / CODES, N],
                   qzeros: global(i32)[GROUPS, N * WORDS / CODES],
                   scales: global(f16)[GROUPS, N], g_idx: global(i32)[K],
                   W: out(global(f16))[K, N])
  grid (ceil_div(K, BK), ceil_div(N, BN)) threads 32 where K % CODES == 0, N % CODES == 0
{{
  bk, bn = block_index()
  k = bk * BK
  n = bn * BN
  groups = load(g_idx[k +: BK])
  q = view(load(qweight[bk * (BK / CODES * WORDS) +: BK / CODES * WORDS, n +: BN], layout=words),
           CODE, layout=codes)
  rows = gather(qzeros[:, bn * (BN / CODES * WORDS) +: BN / CODES * WORDS], groups, axis=0,
                layout=zero_words)
  zero = cast(view(rows, CODE, layout=zeros), f16) + ZERO_OFFSET
  scale = gather(scales[:, n +: BN], groups, axis=0)
  store(W[k +: BK, n +: BN], (cast(q, f16) - zero) * scale)
}}
"""

AWQ = """vm 1
# AWQ: W[k, n] = (code - zero) * scale, both packed along N, eight to a word, with the elements
# 0, 2, 4, 6, 1, 3, 5, 7 from the lowest nibble up: of the binary digits of a nibble's position the
# slowest is the element's fastest, and the other two are its slower ones.
const GROUP = {group}  # rows that share a scale and a zero point
const BK = 32
const BN = 64

layout nibbles = column_local(4, 2).reshape(1, 8)
layout words = spatial(8, 4).local(4, 2)
layout codes = words * nibbles
layout zero_words = replicated(4).spatial(1, 8)
layout zeros = zero_words * nibbles

program dequantize(qweight: global(i32)[K, N / 8], qzeros: global(i32)[K / GROUP, N / 8],
                   scales: global(f16)[K / GROUP, N], W: out(global(f16))[K, N])
  grid (ceil_div(K, BK), ceil_div(N, BN)) threads 32
  where K % GROUP == 0, N % 8 == 0, GROUP % BK == 0
{{
  bk, bn = block_index()
  k = bk * BK
  n = bn * BN
  at = k / GROUP
  q = view(load(qweight[k +: BK, bn * (BN / 8) +: BN / 8], layout=words), u4, layout=codes)
  row = load(qzeros[at +: 1, bn * (BN / 8) +: BN / 8], layout=zero_words)
  zero = view(row, u4, layout=zeros)
  scale = load(scales[at +: 1, n +: BN])
  store(W[k +: BK, n +: BN], (cast(q, f16) - cast(zero, f16)) * scale)
}}
"""

COMPRESSED_TENSORS = """vm 1
# compressed-tensors, "pack-quantized": W[n, k] = (code - zero) * scale for [N, K] weights. Signed
# codes and zero points are stored with 2^(bits - 1) added, without gaps between them (as release
# 0.20 does): codes along K, zero points along N.
const CODE = u{bits}
const CODES = {codes}  # in a unit
const WORDS = {words}  # of a unit
const GROUP = {group}  # elements along K that share a scale and a zero point
const BN = 32
const BK = 32

layout units = spatial(32, 1).local(1, BK / CODES)  # a thread has a row of codes
layout words = units * local(1, WORDS)
layout codes = units * local(1, CODES){layouts}

program dequantize(weight_packed: global(i32)[N, K * WORDS / CODES],
                   {parameter}weight_scale: global(f16)[N, K / GROUP], W: out(global(f16))[N, K])
  grid (ceil_div(N, BN), ceil_div(K, BK)) threads 32
  where K % GROUP == 0, N % CODES == 0, GROUP % BK == 0
{{
  bn, bk = block_index()
  n = bn * BN
  k = bk * BK
  at = k / GROUP
  q = view(load(weight_packed[n +: BN, bk * (BK / CODES * WORDS) +: BK / CODES * WORDS],
                layout=words),
           CODE, layout=codes){zero}
  scale = load(weight_scale[n +: BN, at +: 1])
  store(W[n +: BN, k +: BK], (cast(q, f16) - zero) * scale)
}}
"""

_ZERO_POINTS = {
    "parameter": "weight_zero_point: global(i32)[N * WORDS / CODES, K / GROUP],\n" + 19 * " ",
    "layouts": """
layout zero_units = replicated(CODES).spatial(32 / CODES, 1)  # zero points of one unit
layout zero_words = zero_units * local(WORDS, 1)
layout zeros = zero_units * local(CODES, 1)""",
    "zero": """
  column = load(weight_zero_point[bn * (BN / CODES * WORDS) +: BN / CODES * WORDS, at +: 1],
                layout=zero_words)
  zero = cast(view(column, CODE, layout=zeros), f16)""",
}


def gptq(bits: int = 4, version: int = 1) -> Module:
    """GPTQ with codes of 2, 3, 4 or 8 bits; `version` 2 stores zero points as they are."""
    if bits not in (2, 3, 4, 8) or version not in (1, 2):
        raise ValueError(f"GPTQ has codes of 2, 3, 4 or 8 bits in versions 1 and 2, not {bits}")
    shared = gcd(bits, 32)
    zero_offset = "1.0" if version == 1 else "0.0"
    return parse(
        GPTQ.format(
            bits=bits, codes=32 // shared, words=bits // shared, zero_offset=zero_offset
        )
    )


def awq(group: int = 128) -> Module:
    """AWQ with its 4-bit codes; `group` is a multiple of 32."""
    return parse(AWQ.format(group=group))


def compressed_tensors(bits: int = 4, group: int = 128, symmetric: bool = True) -> Module:
    """compressed-tensors with codes of 1 to 8 bits; `group` is a multiple of 32."""
    if bits not in range(1, 9):
        raise ValueError(f"pack-quantized has codes of 1 to 8 bits, not {bits}")
    shared = gcd(bits, 32)
    middle = f"\n  zero = {1 << (bits - 1)}.0"
    zeros = {"parameter": "", "layouts": "", "zero": middle} if symmetric else _ZERO_POINTS
    return parse(
        COMPRESSED_TENSORS.format(
            bits=bits, codes=32 // shared, words=bits // shared, group=group, **zeros
        )
    )
