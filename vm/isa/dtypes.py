"""The element types of programs: any integer of 1 to 64 bits, any small float, scales, codebooks.

A `DType` says what the bits of one element (its *code*) mean. Names say it all:

- `u1..u64`, `i1..i64`: unsigned and two's complement integers;
- `f<b>e<e>m<m>` for 3 <= b <= 8, e >= 1, m >= 0, 1 + e + m = b: sign, exponent, mantissa, from the
  top bit down. The bias is 2**(e-1) - 1 (0 where e = 1, which makes such a type a uniform grid);
  an exponent field of 0 means zero and subnormals (for m = 0: zero alone). All codes are finite
  numbers except in two types of the OCP 8-bit specification (OFP8, 2023): `f8e4m3` has the NaN
  codes 0x7f and 0xff and no infinity, `f8e5m2` has infinities and NaN as IEEE 754 does;
- `f16 bf16 tf32 f32 f64`: as IEEE 754 lays them out. `tf32` (8 exponent, 10 mantissa bits) is
  stored as an f32 in 32 bits; the low 13 bits are ignored when read and 0 when written;
- `bool`: one byte, 0 or 1 (any other code reads as true); `u1` is the type of one bit;
- `f8e8m0`: the block scale of OCP MX (2023): code c is 2**(c - 127), 255 is NaN; no sign, no zero;
- `nf4` and what `codebook` makes: the code is an index into a table.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Kind = Literal["unsigned", "signed", "float", "bool", "scale", "codebook"]
Overflow = Literal["saturate", "ieee", "wrap"]
Rounding = Literal["nearest_even", "toward_zero", "stochastic", "nearest_entry"]


class DTypeError(ValueError):
    """A type that does not exist, or a use of one that has no meaning; says what to write."""


@dataclass(frozen=True, repr=False)
class DType:
    """An element type. Get one from `dtype(name)` or `codebook(...)`; two are equal if all of
    name, layout and table are.

    `bits` is the size of a code in memory; `exponent_bits`, `mantissa_bits` and `bias` are 0 for
    types that are not floats; `table` and `entry` (the type of the entries) are a codebook's.
    """

    name: str
    bits: int
    kind: Kind
    exponent_bits: int = 0
    mantissa_bits: int = 0
    bias: int = 0
    has_infinity: bool = False
    has_nan: bool = False
    table: tuple[float, ...] = ()
    entry: DType | None = None
    negative_zeros: tuple[int, ...] = ()
    """Which entries of the table are -0.0: as numbers they equal 0.0, and types must not."""

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        if self.kind == "codebook" and self.name not in _CODEBOOKS:
            return f"codebook({self.name!r}, {self.table}, {self.entry.name!r})"
        return f"dtype({self.name!r})"

    @property
    def is_float(self) -> bool:
        """Values are real numbers: floats, scales and codebooks."""
        return self.kind in ("float", "scale", "codebook")

    @property
    def is_integer(self) -> bool:
        """Values are integers (`bool` is not)."""
        return self.kind in ("unsigned", "signed")

    @property
    def is_packed(self) -> bool:
        """Elements in memory do not fill NumPy elements of their own: they are packed into bits."""
        return self.bits not in (8, 16, 32, 64)

    @property
    def unused_bits(self) -> int:
        """Low bits of a float's code that mean nothing: 13 for `tf32`, else 0."""
        if self.kind != "float":
            return 0
        return self.bits - 1 - self.exponent_bits - self.mantissa_bits

    @cached_property
    def storage(self) -> np.dtype[Any]:
        """The NumPy dtype that holds one code: the smallest of uint8..uint64 that can."""
        return np.dtype(f"uint{_container_bits(self.bits)}")

    @cached_property
    def array(self) -> np.dtype[Any]:
        """The NumPy dtype in which values are held exactly."""
        if self.kind == "bool":
            return np.dtype(np.bool_)
        if self.is_integer:
            sign = "u" if self.kind == "unsigned" else ""
            return np.dtype(f"{sign}int{_container_bits(self.bits)}")
        return np.dtype({"f16": np.float16, "f64": np.float64}.get(self.name, np.float32))

    @cached_property
    def memory(self) -> np.dtype[Any]:
        """The NumPy dtype of arrays in memory: `array` where its bits are the codes, `storage` for
        other types of whole bytes (uint16 for `bf16`), uint8 for packed types."""
        if self.is_packed:
            return np.dtype(np.uint8)
        return self.array if self.array.itemsize == self.storage.itemsize else self.storage

    @cached_property
    def largest_code(self) -> int:
        """The code of `max`."""
        match self.kind:
            case "unsigned":
                return (1 << self.bits) - 1
            case "signed":
                return (1 << (self.bits - 1)) - 1
            case "bool":
                return 1
            case "scale":
                return 254
            case "codebook":
                return self.table.index(max(self.table))
        code = (1 << (self.exponent_bits + self.mantissa_bits)) - 1
        if self.has_infinity:
            code -= 1 << self.mantissa_bits
        elif self.has_nan:
            code -= 1
        return code << self.unused_bits

    @cached_property
    def nan_code(self) -> int:
        """The code that casts write for NaN: positive and quiet (its top mantissa bit set)."""
        if not self.has_nan:
            raise DTypeError(f"{self.name} has no NaN; ask `has_nan` first")
        if self.kind == "scale":
            return 255
        if not self.has_infinity:
            return self.largest_code + 1
        exponent = ((1 << self.exponent_bits) - 1) << self.mantissa_bits
        return (exponent | 1 << (self.mantissa_bits - 1)) << self.unused_bits

    @cached_property
    def infinity_code(self) -> int:
        """The code of positive infinity."""
        if not self.has_infinity:
            raise DTypeError(f"{self.name} has no infinity; ask `has_infinity` first")
        exponent = ((1 << self.exponent_bits) - 1) << self.mantissa_bits
        return exponent << self.unused_bits

    @cached_property
    def max(self) -> int | float | bool:
        """The largest finite value."""
        match self.kind:
            case "unsigned" | "signed":
                return self.largest_code
            case "bool":
                return True
            case "scale":
                return math.ldexp(1.0, 127)
            case "codebook":
                return max(self.table)
        code = self.largest_code >> self.unused_bits
        mantissa = code & ((1 << self.mantissa_bits) - 1)
        exponent = (code >> self.mantissa_bits) - self.bias - self.mantissa_bits
        return math.ldexp(float(mantissa | 1 << self.mantissa_bits), exponent)

    @cached_property
    def min(self) -> int | float | bool:
        """The smallest (most negative) finite value; for `f8e8m0`, 2**-127."""
        match self.kind:
            case "unsigned":
                return 0
            case "signed":
                return -(1 << (self.bits - 1))
            case "bool":
                return False
            case "scale":
                return math.ldexp(1.0, -127)
            case "codebook":
                return min(self.table)
        return -self.max

    @cached_property
    def smallest_normal(self) -> float:
        """The smallest positive value with the full precision of the type."""
        if self.kind == "scale":
            return math.ldexp(1.0, -127)
        self._need_float("smallest_normal")
        return math.ldexp(1.0, 1 - self.bias)

    @cached_property
    def smallest_subnormal(self) -> float:
        """The smallest positive value; the smallest normal where there are no subnormals."""
        if self.kind == "scale":
            return math.ldexp(1.0, -127)
        self._need_float("smallest_subnormal")
        return math.ldexp(1.0, 1 - self.bias - self.mantissa_bits)

    @cached_property
    def epsilon(self) -> float:
        """The distance from a power of two to the next larger value, as a part of that power."""
        if self.kind != "scale":
            self._need_float("epsilon")
        return math.ldexp(1.0, -self.mantissa_bits)

    def _need_float(self, attribute: str) -> None:
        if self.kind != "float":
            raise DTypeError(
                f"{self.name} is not a float and has no {attribute}; use `max` and `min`"
            )

    def encode(
        self,
        values: ArrayLike,
        overflow: Overflow = "saturate",
        rounding: Rounding = "nearest_even",
        random_bits: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """The codes of `values`, an array of `storage` of the same shape.

        `values` are numbers of any NumPy bool, integer or float dtype; they are cast to this type
        as `vm.isa.conversion.convert` describes, except that an infinity stays one where the type
        has it: encoding undoes decoding. The result may share the values' memory.
        """
        from vm.isa import conversion

        return conversion.encode(values, self, overflow, rounding, random_bits)

    def decode(self, codes: ArrayLike) -> NDArray[Any]:
        """The values of `codes`, an array of `array` of the same shape; exact. It may share the
        codes' memory.

        Raises `DTypeError` where a code has more bits than the type. A code past the end of a
        codebook's table decodes to NaN.
        """
        from vm.isa import conversion

        return conversion.decode(codes, self)


def _container_bits(bits: int) -> int:
    return next(size for size in (8, 16, 32, 64) if bits <= size)


def _float(name: str, bits: int, exponent: int, mantissa: int, special: str = "finite") -> DType:
    return DType(
        name,
        bits,
        "float",
        exponent,
        mantissa,
        (1 << (exponent - 1)) - 1,
        has_infinity=special == "ieee",
        has_nan=special in ("ieee", "nan"),
    )


def codebook(name: str, table: Sequence[float], entry_dtype: DType | str) -> DType:
    """The type whose code is an index into `table` (2 to 256 finite entries, in code order).

    `bits` is the least number that can index the table. The entries are values of `entry_dtype`
    (f16, bf16 or f32), and each must be one exactly.
    """
    entry = dtype(entry_dtype)
    if entry.name not in ("f16", "bf16", "f32"):
        raise DTypeError(f"a codebook's entries are f16, bf16 or f32, not {entry.name}")
    if not 2 <= len(table) <= 256:
        raise DTypeError(f"codebook {name} has {len(table)} entries; it needs 2 to 256")
    entries = np.asarray(table, dtype=np.float64)
    if entries.ndim != 1 or not np.isfinite(entries).all():
        raise DTypeError(f"codebook {name} needs a flat list of finite numbers")
    exact = entry.decode(entry.encode(entries)).astype(np.float64)
    if (exact != entries).any():
        at = int(np.flatnonzero(exact != entries)[0])
        raise DTypeError(
            f"entry {at} of codebook {name}, {entries[at]!r}, is not a value of {entry.name}; "
            f"write {float(exact[at])!r}, or use f32 entries"
        )
    return DType(
        name,
        (len(table) - 1).bit_length(),
        "codebook",
        has_nan=len(table) & (len(table) - 1) != 0,
        table=tuple(entries.tolist()),
        entry=entry,
        negative_zeros=tuple(np.flatnonzero((entries == 0) & np.signbit(entries)).tolist()),
    )


_NAMED: dict[str, DType] = {
    one.name: one
    for one in (
        _float("f8e4m3", 8, 4, 3, "nan"),
        _float("f8e5m2", 8, 5, 2, "ieee"),
        _float("f16", 16, 5, 10, "ieee"),
        _float("bf16", 16, 8, 7, "ieee"),
        _float("tf32", 32, 8, 10, "ieee"),
        _float("f32", 32, 8, 23, "ieee"),
        _float("f64", 64, 11, 52, "ieee"),
        DType("bool", 8, "bool"),
        DType("f8e8m0", 8, "scale", 8, 0, 127, has_nan=True),
    )
}

# NF4, 4-bit NormalFloat: quantiles of the normal distribution scaled to [-1, 1]; the values of
# Dettmers et al., "QLoRA" (2023), appendix E, each rounded to f32.
_NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

# Named codebooks: table and type of the entries.
_CODEBOOKS = {"nf4": (_NF4, "f32")}

# Names of NumPy and ml_dtypes for exactly the same types.
_ALIASES = {
    **{f"int{bits}": f"i{bits}" for bits in (1, 2, 4, 8, 16, 32, 64)},
    **{f"uint{bits}": f"u{bits}" for bits in (1, 2, 4, 8, 16, 32, 64)},
    "bool_": "bool",
    "float16": "f16",
    "float32": "f32",
    "float64": "f64",
    "bfloat16": "bf16",
    "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2",
    "float8_e8m0fnu": "f8e8m0",
    "float6_e3m2fn": "f6e3m2",
    "float6_e2m3fn": "f6e2m3",
    "float4_e2m1fn": "f4e2m1",
}

# Names that look like one of ours and are not; what differs, and what to write.
_OTHER_TYPES = {
    "float8_e4m3": "it is IEEE-like, with infinities and maximum 240; "
    "f8e4m3 (float8_e4m3fn) has none and reaches 448",
    "float8_e3m4": "it has infinities and NaN; f8e3m4 is finite and reaches 31",
    "float8_e4m3fnuz": "its bias is 8, it has no negative zero and its NaN is 0x80; "
    "f8e4m3 has bias 7",
    "float8_e5m2fnuz": "its bias is 16, it has no negative zero, no infinity and its NaN is "
    "0x80; f8e5m2 has bias 15",
    "float8_e4m3b11fnuz": "its bias is 11, it has no negative zero and its NaN is 0x80; "
    "f8e4m3 has bias 7",
}

_INTEGER = re.compile(r"([ui])([1-9][0-9]*)")
_SMALL_FLOAT = re.compile(r"f([0-9]+)e([0-9]+)m([0-9]+)")


def dtype(name: str | DType | np.dtype[Any] | type[np.generic]) -> DType:
    """The type of that name; also takes a `DType`, a NumPy or ml_dtypes dtype, or its name.

    Raises `DTypeError` for a name that is no type, with the nearest one that is.
    """
    if isinstance(name, DType):
        return name
    if not isinstance(name, str):
        try:
            # NumPy would read None as float64.
            name = np.dtype(name if name is not None else "none").name
        except TypeError:
            raise DTypeError(f"{name!r} is no type; write a name such as 'u4' or 'f16'") from None
    return _by_name(name)


@cache
def _by_name(name: str) -> DType:
    if name in _ALIASES:
        return _by_name(_ALIASES[name])
    if name in _NAMED:
        return _NAMED[name]
    if name in _CODEBOOKS:
        return codebook(name, *_CODEBOOKS[name])
    if name in _OTHER_TYPES:
        raise DTypeError(f"{name} is another type than any of ours: {_OTHER_TYPES[name]}")
    if found := _INTEGER.fullmatch(name):
        bits = int(found[2])
        if bits <= 64:
            return DType(name, bits, "unsigned" if found[1] == "u" else "signed")
        raise DTypeError(f"{name} is too wide: the widest integer is {found[1]}64")
    if found := _SMALL_FLOAT.fullmatch(name):
        return _small_float(name, *(int(part) for part in found.groups()))
    raise DTypeError(f"{name!r} is no type; {_suggestion(name)}")


def _small_float(name: str, bits: int, exponent: int, mantissa: int) -> DType:
    if name == f"f{bits}e{exponent}m{mantissa}" and 1 + exponent + mantissa == bits:
        if 3 <= bits <= 8 and exponent >= 1:
            return _float(name, bits, exponent, mantissa)
        if exponent == 0:
            raise DTypeError(f"{name} has no exponent; write i{bits}, or f{bits}e1m{bits - 2}")
    for known in ("f16", "bf16", "tf32", "f32", "f64"):
        other = _NAMED[known]
        if (exponent, mantissa) == (other.exponent_bits, other.mantissa_bits):
            raise DTypeError(f"{name}: write {known}")
    raise DTypeError(
        f"{name} is no type: 1 sign bit, {exponent} exponent bits and {mantissa} mantissa bits "
        f"are {1 + exponent + mantissa} bits, and a float so named has 3 to 8; {_suggestion(name)}"
    )


def known_names() -> tuple[str, ...]:
    """Every name of a type except aliases."""
    floats = [
        f"f{bits}e{exponent}m{bits - 1 - exponent}"
        for bits in range(3, 9)
        for exponent in range(1, bits)
    ]
    integers = [f"{sign}{bits}" for sign in "ui" for bits in range(1, 65)]
    return tuple(dict.fromkeys([*_NAMED, *_CODEBOOKS, *floats, *integers]))


_WORDS = {"half": "f16", "float": "f32", "double": "f64", "int": "i32", "fp8": "f8e4m3"}
_FLOAT_ELSEWHERE = re.compile(r"(?:fp|float)?(?:\d+_?)?e(\d+)m(\d+)(?:fn|fnu)?")
_ELSEWHERE = re.compile(r"(fp|float|int|uint|s)_?(\d+)")
_LETTERS = {"fp": "f", "float": "f", "int": "i", "uint": "u", "s": "i"}


def name_here(name: str) -> str | None:
    """The name of a type that is called so elsewhere (fp16, half, uint4, e2m1), None for others."""
    low = name.lower()
    found = _ALIASES.get(low) or _WORDS.get(low)
    if match := _FLOAT_ELSEWHERE.fullmatch(low):
        exponent, mantissa = map(int, match.groups())
        found = f"f{1 + exponent + mantissa}e{exponent}m{mantissa}"
    elif match := _ELSEWHERE.fullmatch(low):
        found = _LETTERS[match[1]] + match[2]
    return found if found in known_names() else None


def _suggestion(name: str) -> str:
    here = name_here(name)
    if here is None:
        nearest = difflib.get_close_matches(name.lower(), [*known_names(), *_ALIASES], 1, 0.0)[0]
        here = _ALIASES.get(nearest, nearest)
    return f"did you mean {here}?"

