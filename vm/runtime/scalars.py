"""How a number that a caller gives reaches a kernel, for every dtype that a parameter may have.

Numbers that C++ has on every target travel as themselves; those of all other dtypes as their code,
an unsigned integer of the least of 1, 2, 4 and 8 bytes that holds it.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np

from vm.isa.dtypes import DType

NUMBERS = {
    "bool": "bool", "i32": "int", "u32": "unsigned", "i64": "long long",
    "u64": "unsigned long long",
}  # fmt: skip
"""The dtypes that travel as themselves, and the C++ type of each."""

_CODES = {1: "unsigned char", 2: "unsigned short", 4: "unsigned", 8: "unsigned long long"}
# How `struct` packs numbers: it checks them, and for floats gives their codes. By the letters of
# the storage where it has no letter.
_LETTERS = {
    "bool": "?", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q",
    "u64": "Q", "f16": "e", "f32": "f", "f64": "d",
}  # fmt: skip
_STORAGE_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}


def cpp_type(kind: DType) -> str:
    """The C++ type in which a scalar travels."""
    return NUMBERS.get(kind.name) or _CODES[kind.storage.itemsize]


def letter(kind: DType) -> str:
    """The letter by which `struct` packs what `travelling` makes of a scalar."""
    return _LETTERS.get(kind.name) or _STORAGE_LETTERS[kind.storage.itemsize]


def travelling(kind: DType) -> Callable[[Any], Any] | None:
    """What makes of a number that which `struct` packs by `letter`; None where that is itself.

    It raises TypeError or `struct.error` for what is no number of the kind, OverflowError for one
    out of range.
    """
    if kind.name == "bool":
        return _truth
    if kind.name in _LETTERS:
        return None
    return partial(_whole_code if kind.is_integer else _float_code, kind)


def code(kind: DType, value: Any) -> int:
    """The number as the unsigned integer of its bits. Raises as what `travelling` gives."""
    convert = travelling(kind)
    packed = struct.pack("<" + letter(kind), value if convert is None else convert(value))
    return int.from_bytes(packed, "little")


def _truth(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError("it is neither True nor False")
    return bool(value)


def _whole_code(kind: DType, value: Any) -> int:
    number = operator.index(value)
    if not kind.min <= number <= kind.max:
        raise OverflowError(f"{kind.name} holds {kind.min} to {kind.max}")
    return number & (1 << kind.bits) - 1


def _float_code(kind: DType, value: Any) -> int:
    return _code_of_double(kind, struct.pack("<d", value))


# By the bits of the number: -0.0 and 0.0 are one key otherwise.
@lru_cache(maxsize=1024)
def _code_of_double(kind: DType, bits: bytes) -> int:
    (number,) = struct.unpack("<d", bits)
    rounding = "nearest_entry" if kind.kind == "codebook" else "nearest_even"
    overflow = "ieee" if kind.kind == "float" else "saturate"
    found = kind.encode(np.float64(number), overflow, rounding)
    if math.isfinite(number) and not np.isfinite(kind.decode(found)):
        raise OverflowError(f"the largest {kind.name} is {kind.max}")
    return int(found)
