"""Decoders of checkpoint formats, written from the formats' descriptions, one element at a time.

They share nothing with programs/formats*.py: words are Python integers, and each element is found
by its own arithmetic on bit positions.
"""

from __future__ import annotations

import numpy as np

# The order in which AWQ puts elements into the nibbles of a word, lowest nibble first.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

# NF4, appendix E of "QLoRA", to the digits printed there and in f32 as bitsandbytes has them.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip

# OCP MX v1.0, table 5: the magnitudes of E2M1.
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def stream_of(words: np.ndarray) -> int:
    """32-bit words as one little-endian number."""
    return sum((int(word) & 0xFFFFFFFF) << 32 * at for at, word in enumerate(words))


def code_at(stream: int, position: int, bits: int) -> int:
    return stream >> position * bits & (1 << bits) - 1


def gptq(
    qweight: np.ndarray, qzeros: np.ndarray, scales: np.ndarray, g_idx: np.ndarray,
    bits: int, version: int,
) -> np.ndarray:  # fmt: skip
    rows, columns = len(g_idx), scales.shape[1]
    codes = [stream_of(qweight[:, n]) for n in range(columns)]
    zeros = [stream_of(row) for row in qzeros]
    weight = np.zeros((rows, columns), np.float16)
    for k in range(rows):
        group = g_idx[k]
        for n in range(columns):
            zero = code_at(zeros[group], n, bits) + (1 if version == 1 else 0)
            difference = code_at(codes[n], k, bits) - zero
            weight[k, n] = np.float16(difference) * scales[group, n]
    return weight


def awq(qweight: np.ndarray, qzeros: np.ndarray, scales: np.ndarray, group: int) -> np.ndarray:
    rows, columns = qweight.shape[0], scales.shape[1]
    nibble = {element: at for at, element in enumerate(AWQ_ORDER)}

    def code(words: np.ndarray, n: int) -> int:
        return (int(words[n // 8]) & 0xFFFFFFFF) >> 4 * nibble[n % 8] & 15

    weight = np.zeros((rows, columns), np.float16)
    for k in range(rows):
        for n in range(columns):
            zero = code(qzeros[k // group], n)
            difference = np.float16(code(qweight[k], n) - zero)
            weight[k, n] = difference * scales[k // group, n]
    return weight


def compressed_tensors(
    packed: np.ndarray, zeros: np.ndarray | None, scales: np.ndarray, columns: int, bits: int,
    group: int,
) -> np.ndarray:  # fmt: skip
    middle = 1 << (bits - 1)
    weight = np.zeros((len(scales), columns), np.float16)
    for n in range(len(scales)):
        row = stream_of(packed[n])
        for k in range(columns):
            # Signed numbers again, as the format says they are.
            number = code_at(row, k, bits) - middle
            zero = 0
            if zeros is not None:
                zero = code_at(stream_of(zeros[:, k // group]), n, bits) - middle
            weight[n, k] = np.float16(number - zero) * scales[n, k // group]
    return weight


def mxfp4(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    rows, count, _ = blocks.shape
    weight = np.zeros((rows, 32 * count))
    for n, block, byte in np.ndindex(rows, count, 16):
        for half in (0, 1):
            nibble = int(blocks[n, block, byte]) >> 4 * half & 15
            value = E2M1[nibble & 7] * (-1.0 if nibble & 8 else 1.0)
            weight[n, 32 * block + 2 * byte + half] = value * 2.0 ** (int(scales[n, block]) - 127)
    return weight


def nf4(codes: np.ndarray, absmax: np.ndarray, block: int = 64) -> np.ndarray:
    weight = np.zeros(2 * codes.size, np.float32)
    for at in range(weight.size):
        byte = int(codes.reshape(-1)[at // 2])
        nibble = byte >> 4 if at % 2 == 0 else byte & 15
        weight[at] = np.float32(NF4[nibble]) * absmax[at // block]
    return weight


def nested_absmax(
    codes: np.ndarray, absmax: np.ndarray, table: np.ndarray, offset: float
) -> np.ndarray:
    return np.array(
        [table[code] * absmax[at // 256] + np.float32(offset) for at, code in enumerate(codes)],
        np.float32,
    )
