"""Random bits that are the same everywhere: Philox4x32-10, a counter-based generator.

Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011): a block of four
32-bit words is a keyed bijection of a 128-bit counter, so that any word of any stream can be
computed alone, by any thread, in any order.

A *stream* of words belongs to a seed (64 bits: the key) and a stream number: word w of it is word
w mod 4 of the block with counter (b low, b high, stream low, stream high), b = w div 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm.isa.conversion import convert
from vm.isa.dtypes import DType, DTypeError
from vm.isa.dtypes import dtype as named_dtype

ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

# Blocks computed at a time: the four 64-bit lanes stay in the second-level cache.
_CHUNK = 1 << 13

# The mean of four uniform 16-bit integers' sum, and the reciprocal of its standard deviation,
# sqrt(4 * (2**32 - 1) / 12), as the nearest f64.
NORMAL_MEAN = 131070
NORMAL_FACTOR = float.fromhex("0x1.bb67ae86627e8p-16")


def philox(key: ArrayLike, counter: ArrayLike) -> NDArray[np.uint32]:
    """The blocks of `counter` uint32[..., 4] under `key` uint32[..., 2]: uint32[..., 4].

    The leading axes broadcast.
    """
    key = np.asarray(key, dtype=np.uint32)
    counter = np.asarray(counter, dtype=np.uint32)
    lead = np.broadcast_shapes(key.shape[:-1], counter.shape[:-1])
    block = np.empty((*lead, 4), dtype=np.uint32)
    lanes = [counter[..., word].astype(np.uint64) for word in range(4)]
    keys = [key[..., word].astype(np.uint64) for word in range(2)]
    for word, lane in enumerate(_rounds(lanes, keys)):
        block[..., word] = lane
    return block


def _rounds(
    lanes: Sequence[NDArray[np.uint64]], keys: Sequence[NDArray[np.uint64]]
) -> tuple[NDArray[np.uint64], ...]:
    c0, c1, c2, c3 = lanes
    k0, k1 = keys
    for _ in range(ROUNDS):
        first = c0 * np.uint64(_MULTIPLIERS[0])
        second = c2 * np.uint64(_MULTIPLIERS[1])
        c0 = (second >> _HALF) ^ c1 ^ k0
        c2 = (first >> _HALF) ^ c3 ^ k1
        c1 = second & _LOW
        c3 = first & _LOW
        k0 = (k0 + np.uint64(_KEY_STEPS[0])) & _LOW
        k1 = (k1 + np.uint64(_KEY_STEPS[1])) & _LOW
    return c0, c1, c2, c3


def random_words(seed: int, count: int, stream: int = 0) -> NDArray[np.uint32]:
    """The first `count` words of a stream: uint32[count]; seed and stream are 0 to 2**64 - 1."""
    for what, number in (("seed", seed), ("stream", stream)):
        if not 0 <= number < 1 << 64:
            raise DTypeError(f"{what} {number} does not fit in 64 bits; write 0 to 2**64 - 1")
    keys = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    blocks = -(-count // 4)
    words = np.empty((blocks, 4), dtype=np.uint32)
    for start in range(0, blocks, _CHUNK):
        number = np.arange(start, min(start + _CHUNK, blocks), dtype=np.uint64)
        high = [np.full_like(number, stream & 0xFFFFFFFF), np.full_like(number, stream >> 32)]
        lanes = _rounds([number & _LOW, number >> _HALF, *high], keys)
        for word, lane in enumerate(lanes):
            words[start : start + number.size, word] = lane
    return words.reshape(-1)[:count]


def words_at(seed: int, positions: NDArray[np.uint64], stream: int = 0) -> NDArray[np.uint32]:
    """The words of a stream at `positions`: uint32 of their shape; `seed` and `stream` are taken
    modulo 2**64."""
    parts = [np.uint64(part % 2**64 >> shift & 0xFFFFFFFF)
             for part in (seed, stream) for shift in (0, 32)]  # fmt: skip
    blocks = positions >> np.uint64(2)
    high = [np.full_like(blocks, part) for part in parts[2:]]
    lanes = _rounds([blocks & _LOW, blocks >> _HALF, *high], parts[:2])
    return np.choose((positions & np.uint64(3)).astype(np.intp), lanes).astype(np.uint32)


def random_codes(
    dtype: DType, shape: Sequence[int], seed: int, stream: int = 0, below: int | None = None
) -> NDArray[Any]:
    """Uniformly random codes of an integer type, `bool` or a codebook, of that shape in C order.

    The words of the stream, little-endian, are read as an array of `dtype.storage`; code k is the
    low `bits` of element k (1 for `bool`). In a codebook whose n entries are no power of two, and
    where the n codes `below` a number are asked for, code k is floor(word k * n / 2**32).
    """
    count = math.prod(shape)
    if dtype.is_float and dtype.kind != "codebook":
        raise DTypeError(
            f"uniform codes of {dtype.name} would be mostly huge, tiny or NaN; "
            "write random_values, or view random integers"
        )
    if below is not None and not 0 < below <= 1 << min(dtype.bits, 32):
        raise DTypeError(f"{dtype.name} has no {below} codes; write 1 to 2**{min(dtype.bits, 32)}")
    entries = below or len(dtype.table)
    if below or entries & (entries - 1):
        words = random_words(seed, count, stream).astype(np.uint64)
        return ((words * np.uint64(entries)) >> _HALF).astype(dtype.storage).reshape(shape)
    size = dtype.storage.itemsize
    words = random_words(seed, -(-count * size // 4), stream)
    elements = words.astype("<u4", copy=False).view(dtype.storage.newbyteorder("<"))[:count]
    bits = 1 if dtype.kind == "bool" else dtype.bits
    mask = dtype.storage.type((1 << bits) - 1)
    return (elements.astype(dtype.storage, copy=False) & mask).reshape(shape)


def random_values(
    dtype: DType, shape: Sequence[int], seed: int, scale: float = 1.0, stream: int = 0
) -> NDArray[Any]:
    """Values of a float type, nearly normal with mean 0 and standard deviation `scale`.

    Element k is the sum of the four 16-bit halves of words 2k and 2k + 1 of the stream (Irwin and
    Hall, 1927: exact integers, so no platform's logarithm or cosine matters; the largest is 3.46
    deviations), less `NORMAL_MEAN`, times `NORMAL_FACTOR`, times `scale`, both products rounded to
    f64, and then cast to `dtype` to nearest even with saturation; for `f8e8m0`, without the sign.
    """
    if not dtype.is_float or dtype.kind == "codebook":
        raise DTypeError(f"{dtype.name} has no normal distribution; write random_codes")
    count = math.prod(shape)
    words = random_words(seed, 2 * count, stream)
    pairs = (words & np.uint32(0xFFFF)) + (words >> np.uint32(16))
    total = (pairs[0::2] + pairs[1::2]).view(np.int32)
    normal = (total - np.int32(NORMAL_MEAN)).astype(np.float64)
    normal *= NORMAL_FACTOR
    normal *= scale
    if dtype.kind == "scale":
        np.abs(normal, out=normal)
    return convert(normal, named_dtype("f64"), dtype).reshape(shape)
