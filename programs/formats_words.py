"""Checkpoints whose codes are packed into 32-bit words: GPTQ, AWQ, compressed-tensors.

A word, or three for 3-bit codes, is a unit of codes that lie next to each other along one axis. So
there is one register layout of units, and both the words and the codes are that layout with each
unit filled in: `units * local(WORDS, 1)` and `units * local(CODES, 1)` for units along rows. A view
from one to the other is all the unpacking there is; AWQ's order of nibbles is in the second factor.
"""

from __future__ import annotations

from math import gcd

from programs.checkpoints import THREADS, Format, Stored
from vm.isa.builder import Builder
from vm.isa.dtypes import dtype

GPTQ = """GPTQ: W[k, n] = (code - zero) * scale, with the scale and zero point of group g_idx[k].

`qweight` holds codes along K in words, `qzeros` those of a group along N; version 1 of the format
stores zero points less one. 3-bit codes straddle words: 32 of them are three words."""

AWQ = """AWQ: W[k, n] = (code - zero) * scale, both packed along N, eight to a word.

From the lowest nibble up a word has the elements 0, 2, 4, 6, 1, 3, 5, 7: of the binary digits of a
nibble's position the slowest is the element's fastest, and the other two are its slower ones."""

COMPRESSED_TENSORS = """compressed-tensors, "pack-quantized": W[n, k] = (code - zero) * scale.

Signed codes and zero points are stored with 2^(bits - 1) added, without gaps between them (as
release 0.20 does): codes along K, zero points along N."""


def _unit(bits: int) -> tuple[int, int]:
    """The fewest codes that fill words, and how many words."""
    shared = gcd(bits, 32)
    return 32 // shared, bits // shared


def gptq(bits: int = 4, version: int = 1) -> Format:
    """GPTQ with codes of 2, 3, 4 or 8 bits; `version` 2 stores zero points as they are."""
    if bits not in (2, 3, 4, 8) or version not in (1, 2):
        raise ValueError(f"GPTQ has codes of 2, 3, 4 or 8 bits in versions 1 and 2, not {bits}")

    def stored(b: Builder) -> Stored:
        K, N, GROUPS = b.sizes("K N GROUPS")
        unit_codes, unit_words = _unit(bits)
        CODE = b.const(dtype(f"u{bits}"))
        CODES = b.const(unit_codes)  # in a unit
        WORDS = b.const(unit_words)  # of a unit
        ZERO_OFFSET = b.const(1.0 if version == 1 else 0.0)
        BK = b.const(32)
        BN = b.const(THREADS)
        # A thread has a column of codes, and a part of a row of zero points.
        units = b.layout(b.spatial(1, BN).local(BK / CODES, 1))
        words = b.layout(units * b.local(WORDS, 1))
        codes = b.layout(units * b.local(CODES, 1))
        zero_units = b.layout(b.spatial(BK, BN / BK).local(1, BK / CODES))
        zero_words = b.layout(zero_units * b.local(1, WORDS))
        zeros = b.layout(zero_units * b.local(1, CODES))

        def reader(qweight, qzeros, scales, g_idx):
            def tile(k, n):
                groups = b.load(g_idx[k * BK : +BK])
                rows, columns = BK / CODES * WORDS, BN / CODES * WORDS
                word = b.load(qweight[k * rows : +rows, n * BN : +BN], layout=words)
                q = b.view(word, CODE, layout=codes)
                zero_word = b.gather(
                    qzeros[:, n * columns : +columns], groups, axis=0, layout=zero_words
                )
                zero = b.cast(b.view(zero_word, CODE, layout=zeros), b.f16) + ZERO_OFFSET
                scale = b.gather(scales[:, n * BN : +BN], groups, axis=0)
                return (b.cast(q, b.f16) - zero) * scale

            return tile

        def example():
            def tensors(N, K):
                groups = 3
                qweight = b.random(b.i32, [K * WORDS / CODES, N], seed=11)
                qzeros = b.random(b.i32, [groups, N * WORDS / CODES], seed=12)
                scales = b.random(b.f16, [groups, N], seed=13, scale=0.01)
                g_idx = b.random(b.i32, [K], seed=14, below=groups)  # as activation order makes it
                return [qweight, qzeros, scales, g_idx]

            return tensors

        parameters = {
            "qweight": b.global_(b.i32)[K * WORDS / CODES, N],
            "qzeros": b.global_(b.i32)[GROUPS, N * WORDS / CODES],
            "scales": b.global_(b.f16)[GROUPS, N],
            "g_idx": b.global_(b.i32)[K],
        }
        return Stored(
            GPTQ, parameters, (K, N), False, (BK, BN), (unit_codes, unit_codes), "f16",
            reader, example, (K % CODES == 0, N % CODES == 0),
        )  # fmt: skip

    return stored


def awq(group: int = 128) -> Format:
    """AWQ with its 4-bit codes; `group` is a multiple of 32."""

    def stored(b: Builder) -> Stored:
        K, N = b.sizes("K N")
        GROUP = b.const(group)  # rows that share a scale and a zero point
        BK = b.const(32)
        BN = b.const(THREADS)
        nibbles = b.layout(b.column_local(4, 2).reshape(1, 8))
        words = b.layout(b.spatial(BK, BN / BK).local(1, BK / 8))
        codes = b.layout(words * nibbles)
        zero_words = b.layout(b.replicated(8).spatial(1, BN / 8))
        zeros = b.layout(zero_words * nibbles)

        def reader(qweight, qzeros, scales):
            def tile(k, n):
                at = k * BK / GROUP
                columns = BN / 8
                word = b.load(qweight[k * BK : +BK, n * columns : +columns], layout=words)
                q = b.view(word, b.u4, layout=codes)
                zero_word = b.load(qzeros[at:+1, n * columns : +columns], layout=zero_words)
                zero = b.view(zero_word, b.u4, layout=zeros)
                scale = b.load(scales[at:+1, n * BN : +BN])
                return (b.cast(q, b.f16) - b.cast(zero, b.f16)) * scale

            return tile

        def example():
            def tensors(N, K):
                qweight = b.random(b.i32, [K, N / 8], seed=11)
                qzeros = b.random(b.i32, [K / GROUP, N / 8], seed=12)
                scales = b.random(b.f16, [K / GROUP, N], seed=13, scale=0.01)
                return [qweight, qzeros, scales]

            return tensors

        parameters = {
            "qweight": b.global_(b.i32)[K, N / 8],
            "qzeros": b.global_(b.i32)[K / GROUP, N / 8],
            "scales": b.global_(b.f16)[K / GROUP, N],
        }
        return Stored(
            AWQ, parameters, (K, N), False, (BK, BN), (group, 8), "f16", reader, example,
            (K % GROUP == 0, N % 8 == 0, GROUP % BK == 0),
        )  # fmt: skip

    return stored


def compressed_tensors(bits: int = 4, group: int = 128, symmetric: bool = True) -> Format:
    """compressed-tensors with codes of 1 to 8 bits; `group` is a multiple of 32."""
    if bits not in range(1, 9):
        raise ValueError(f"pack-quantized has codes of 1 to 8 bits, not {bits}")

    def stored(b: Builder) -> Stored:
        K, N = b.sizes("K N")
        unit_codes, unit_words = _unit(bits)
        CODE = b.const(dtype(f"u{bits}"))
        CODES = b.const(unit_codes)  # in a unit
        WORDS = b.const(unit_words)  # of a unit
        GROUP = b.const(group)  # elements along K that share a scale and a zero point
        BN = b.const(THREADS)
        BK = b.const(32)
        units = b.layout(b.spatial(BN, 1).local(1, BK / CODES))  # a thread has a row of codes
        words = b.layout(units * b.local(1, WORDS))
        codes = b.layout(units * b.local(1, CODES))
        if not symmetric:
            zero_units = b.layout(b.replicated(CODES).spatial(BN / CODES, 1))
            zero_words = b.layout(zero_units * b.local(WORDS, 1))
            zeros = b.layout(zero_units * b.local(CODES, 1))

        def reader(weight_packed, weight_scale, weight_zero_point=None):
            def tile(n, k):
                at = k * BK / GROUP
                columns, rows = BK / CODES * WORDS, BN / CODES * WORDS
                word = b.load(weight_packed[n * BN : +BN, k * columns : +columns], layout=words)
                q = b.view(word, CODE, layout=codes)
                zero = float(1 << (bits - 1))
                if not symmetric:
                    zero_word = b.load(
                        weight_zero_point[n * rows : +rows, at:+1], layout=zero_words
                    )
                    zero = b.cast(b.view(zero_word, CODE, layout=zeros), b.f16)
                scale = b.load(weight_scale[n * BN : +BN, at:+1])
                return (b.cast(q, b.f16) - zero) * scale

            return tile

        def example():
            def tensors(N, K):
                packed = b.random(b.i32, [N, K * WORDS / CODES], seed=11)
                scale = b.random(b.f16, [N, K / GROUP], seed=12, scale=0.01)
                if symmetric:
                    return [packed, scale]
                return [packed, scale, b.random(b.i32, [N * WORDS / CODES, K / GROUP], seed=13)]

            return tensors

        parameters = {
            "weight_packed": b.global_(b.i32)[N, K * WORDS / CODES],
            "weight_scale": b.global_(b.f16)[N, K / GROUP],
        }
        if not symmetric:
            parameters["weight_zero_point"] = b.global_(b.i32)[N * WORDS / CODES, K / GROUP]
        return Stored(
            COMPRESSED_TENSORS, parameters, (N, K), True, (BN, BK), (unit_codes, group), "f16",
            reader, example, (K % GROUP == 0, N % CODES == 0, GROUP % BK == 0), ("K",),
        )  # fmt: skip

    return stored
