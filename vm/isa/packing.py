"""Codes packed into bytes: element k at bits [k * b, (k + 1) * b), little-endian, across bytes.

Eight codes of b <= 8 bits are one 64-bit word of bytes; three steps move fields next to each other
(pairs in 16-bit lanes, pairs of pairs in 32-bit lanes, then the two halves), and the low b bytes of
the word are the packed ones. Unpacking is the same steps backwards. Codes of more bits are written
and read through 64-bit windows at the byte where each begins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vm.isa.conversion import checked_codes
from vm.isa.dtypes import DType, DTypeError
from vm.isa.dtypes import dtype as named_dtype

# Codes handled at a time: the words and the packed bytes stay in the second-level cache.
_CHUNK = 1 << 16


def packed_size(count: int, dtype: DType) -> int:
    """The bytes that `count` packed elements take: the last one may be partly filled."""
    return -(-count * dtype.bits // 8)


def pack(codes: ArrayLike, dtype: DType | str) -> NDArray[np.uint8]:
    """The codes, in C order, as bytes: uint8[packed_size(codes.size)]; bits past the last are 0.

    Raises `DTypeError` for what is not a code of `dtype`.
    """
    dtype = named_dtype(dtype)
    given = checked_codes(codes, dtype).reshape(-1)
    if not dtype.is_packed:
        return _little_endian(given).copy().view(np.uint8)
    packed = np.empty(packed_size(given.size, dtype), dtype=np.uint8)
    for start in range(0, given.size, _CHUNK):
        piece = given[start : start + _CHUNK]
        at = start * dtype.bits // 8
        if dtype.bits > 8:
            part = _pack_wide(piece, dtype.bits)
        else:
            part = _pack_narrow(piece, dtype.bits)
        size = packed_size(piece.size, dtype)
        packed[at : at + size] = part[:size]
    return packed


def unpack(packed: ArrayLike, dtype: DType | str, count: int) -> NDArray[Any]:
    """The first `count` codes in uint8 bytes: an array of `dtype.storage` of shape [count].

    Raises `DTypeError` where there are too few bytes.
    """
    dtype = named_dtype(dtype)
    given = np.ascontiguousarray(packed).reshape(-1)
    if given.dtype != np.uint8:
        raise DTypeError(f"packed {dtype.name} are uint8 bytes, not {given.dtype}; use view(uint8)")
    if given.size < packed_size(count, dtype):
        raise DTypeError(
            f"{count} elements of {dtype.name} take {packed_size(count, dtype)} bytes; "
            f"there are {given.size}"
        )
    if not dtype.is_packed:
        size = dtype.storage.itemsize
        codes = given[: count * size].view(dtype.storage.newbyteorder("<"))
        return codes.astype(dtype.storage)
    codes = np.empty(count, dtype=dtype.storage)
    for start in range(0, count, _CHUNK):
        piece = codes[start : start + _CHUNK]
        at = start * dtype.bits // 8
        part = given[at : at + packed_size(piece.size, dtype)]
        if dtype.bits > 8:
            piece[:] = _unpack_wide(part, dtype.bits, piece.size, dtype.storage)
        else:
            piece[:] = _unpack_narrow(part, dtype.bits, piece.size)
    return codes


def pack_rows(codes: ArrayLike, dtype: DType) -> NDArray[np.uint8]:
    """The codes with the last axis packed and every row beginning at a byte.

    [..., n] becomes uint8[..., packed_size(n)].
    """
    given = checked_codes(codes, dtype)
    if given.ndim == 0:
        raise DTypeError("a single code has no last axis to pack; give an array of rank 1 or more")
    *rows, n = given.shape
    size = packed_size(n, dtype)
    if n * dtype.bits % 8:
        # Rows of a multiple of 8 codes end at a byte; what is past the row's own bytes goes.
        padded = np.zeros((*rows, -(-n // 8) * 8), dtype=given.dtype)
        padded[..., :n] = given
        packed = pack(padded, dtype).reshape(*rows, padded.shape[-1] * dtype.bits // 8)
        return np.ascontiguousarray(packed[..., :size])
    return pack(given, dtype).reshape(*rows, size)


def unpack_rows(packed: ArrayLike, dtype: DType, count: int) -> NDArray[Any]:
    """The codes [..., count] of bytes uint8[..., packed_size(count)]; undoes `pack_rows`."""
    given = np.asarray(packed)
    size = packed_size(count, dtype)
    if given.ndim == 0 or given.shape[-1] != size:
        raise DTypeError(
            f"rows of {count} {dtype.name} take {size} bytes; the array is {list(given.shape)}"
        )
    rows = given.shape[:-1]
    if count * dtype.bits % 8:
        whole = -(-count // 8) * 8
        padded = np.zeros((*rows, whole * dtype.bits // 8), dtype=np.uint8)
        padded[..., :size] = given
        codes = unpack(padded, dtype, padded.size * 8 // dtype.bits)
        return np.ascontiguousarray(codes.reshape(*rows, whole)[..., :count])
    return unpack(given, dtype, given.size // max(size, 1) * count).reshape(*rows, count)


def _little_endian(codes: NDArray[Any]) -> NDArray[Any]:
    return codes.astype(codes.dtype.newbyteorder("<"), copy=False)


def _field(bits: int, lane: int) -> np.uint64:
    """A mask of the low `bits` of every second lane of `lane` bits of a 64-bit word, from bit 0."""
    return np.uint64(sum(((1 << bits) - 1) << at for at in range(0, 64, 2 * lane)))


def _pack_narrow(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """At least the packed bytes of codes of 1 to 7 bits."""
    if codes.size % 8:
        codes = np.concatenate([codes, np.zeros(-codes.size % 8, dtype=np.uint8)])
    words = codes.view("<u8")
    for lane in (8, 16, 32):
        field = bits * lane // 8
        low = _field(field, lane)
        words = (words & low) | ((words >> np.uint64(lane - field)) & (low << np.uint64(field)))
    octets = words.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(octets[:, :bits]).reshape(-1)


def _unpack_narrow(packed: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """`count` codes of 1 to 7 bits."""
    groups = -(-count // 8)
    octets = np.zeros((groups, 8), dtype=np.uint8)
    if packed.size < groups * bits:
        packed = np.concatenate([packed, np.zeros(groups * bits - packed.size, dtype=np.uint8)])
    octets[:, :bits] = packed.reshape(groups, bits)
    words = octets.reshape(-1).view("<u8")
    for lane in (32, 16, 8):
        field = bits * lane // 8
        low = _field(field, lane)
        words = (words & low) | ((words & (low << np.uint64(field))) << np.uint64(lane - field))
    return words.astype("<u8", copy=False).view(np.uint8)[:count]


def _windows(octets: NDArray[np.uint8], groups: int, bits: int, first: int) -> NDArray[np.uint64]:
    """Of each group of 8 codes, `bits` bytes, the 8 bytes from byte `first`, as a number."""
    return np.ndarray((groups,), dtype="<u8", buffer=octets, offset=first, strides=(bits,))


def _pack_wide(codes: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """At least the packed bytes of codes of 9 to 63 bits: each one or two 64-bit windows."""
    groups = -(-codes.size // 8)
    # A window and what hangs over it reach up to 16 bytes past the last group's beginning.
    octets = np.zeros(groups * bits + 16, dtype=np.uint8)
    for place in range(8):
        column = codes[place::8].astype(np.uint64)
        byte, shift = divmod(place * bits, 8)
        window = _windows(octets, column.size, bits, byte)
        window |= column << np.uint64(shift)
        if shift + bits > 64:
            window = _windows(octets, column.size, bits, byte + 8)
            window |= column >> np.uint64(64 - shift)
    return octets


def _unpack_wide(
    packed: NDArray[np.uint8], bits: int, count: int, storage: np.dtype[Any]
) -> NDArray[Any]:
    """`count` codes of 9 to 63 bits, from one or two 64-bit windows each."""
    octets = np.concatenate([packed, np.zeros(bits + 16, dtype=np.uint8)])
    codes = np.empty(count, dtype=storage)
    mask = np.uint64((1 << bits) - 1)
    for place in range(min(8, count)):
        column = codes[place::8]
        byte, shift = divmod(place * bits, 8)
        window = _windows(octets, column.size, bits, byte) >> np.uint64(shift)
        if shift + bits > 64:
            window |= _windows(octets, column.size, bits, byte + 8) << np.uint64(64 - shift)
        column[:] = window & mask
    return codes
