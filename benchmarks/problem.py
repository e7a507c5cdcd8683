"""What is multiplied: shapes, weight types, compulsory bytes, packing, and the error check.

Everything here is arithmetic on numbers or on arrays of either NumPy or torch (only operators and
methods that both have), so that the tests run without a GPU and without torch.

The product is C[M, N] = A[M, K] @ W[N, K]^T with A and C in f16 or bf16, and W[n, k] =
value(code[n, k]) * scale[n, k // GROUP], scale in the type of A.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vm.isa.dtypes import dtype

GROUP = 128
"""Weights that share one scale, along K."""

SHAPES: dict[str, tuple[int, int]] = {
    "8192x8192": (8192, 8192),
    "ll70_gu": (57344, 8192),
    "ll70_dn": (8192, 28672),
    "qw32_gu": (55296, 5120),
    "qw32_dn": (5120, 27648),
    "gm9_dn": (3584, 14336),
    "ll8_gu": (28672, 4096),
    "ll8_dn": (4096, 14336),
}
"""Name -> (N, K) of linear layers of Llama 3 8B and 70B, Qwen 32B and Gemma 9B."""

SIX_SHAPES = ("8192x8192", "ll70_gu", "ll70_dn", "qw32_gu", "qw32_dn", "gm9_dn")
"""The shapes over which a geometric mean is formed."""

LIGHT_LIMIT = 64
"""Points with M up to this are light: they run before anything that draws full power."""


@dataclass(frozen=True)
class WeightType:
    """An integer `u<bits>` with zero point 2^(bits-1), a float `f<bits>e<exp>m<man>`, or `nf4`.

    Floats have a sign bit, bias 2^(exp-1) - 1, subnormals and no special codes; nf4 is a codebook.
    """

    name: str
    bits: int
    exponent_bits: int = 0
    mantissa_bits: int = 0
    codebook: tuple[float, ...] = ()

    @classmethod
    def parse(cls, name: str) -> WeightType:
        """The type of that name; ValueError if it is not one of 1 to 8 bits."""
        integer = re.fullmatch(r"u([1-8])", name)
        if integer:
            return cls(name, int(integer[1]))
        if name == "nf4":
            return cls(name, 4, codebook=tuple(map(float, dtype(name).decode(np.arange(16)))))
        real = re.fullmatch(r"f([3-8])e([1-6])m([0-6])", name)
        if real and int(real[1]) == 1 + int(real[2]) + int(real[3]):
            return cls(name, int(real[1]), int(real[2]), int(real[3]))
        raise ValueError(f"no weight type {name!r}: expected u1..u8, f<bits>e<exp>m<man> or nf4")

    @property
    def is_float(self) -> bool:
        return self.exponent_bits > 0

    @property
    def is_integer(self) -> bool:
        return not self.is_float and not self.codebook

    def values(self) -> list[float]:
        """The number that each code stands for, indexed by code."""
        if self.codebook:
            return list(self.codebook)
        if not self.is_float:
            return [float(code - 2 ** (self.bits - 1)) for code in range(2**self.bits)]
        return [self._float_value(code) for code in range(2**self.bits)]

    def _float_value(self, code: int) -> float:
        mantissa = code % 2**self.mantissa_bits
        exponent = (code >> self.mantissa_bits) % 2**self.exponent_bits
        sign = -1.0 if code >> (self.bits - 1) else 1.0
        bias = 2 ** (self.exponent_bits - 1) - 1
        leading = 1 if exponent else 0
        power = max(exponent, 1) - bias - self.mantissa_bits
        return sign * (leading * 2**self.mantissa_bits + mantissa) * 2.0**power


@dataclass(frozen=True)
class Point:
    """One thing to time: a named shape, a weight type, and the number of rows of A."""

    shape: str
    weight: WeightType
    m: int
    activation: str = "f16"
    """The type of A and C, and of the scales: f16 or bf16."""

    @property
    def n(self) -> int:
        return SHAPES[self.shape][0]

    @property
    def k(self) -> int:
        return SHAPES[self.shape][1]

    @property
    def is_light(self) -> bool:
        return self.m <= LIGHT_LIMIT

    @property
    def weight_bytes(self) -> int:
        """Packed weights and their scales."""
        return math.ceil(self.n * self.k * self.weight.bits / 8) + 2 * self.n * self.k // GROUP

    @property
    def bytes(self) -> int:
        """Compulsory traffic: packed weights, scales, A read once, C written once."""
        return self.weight_bytes + 2 * self.m * self.k + 2 * self.m * self.n

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    def floor_us(self, read_bytes_per_second: float, flops_per_second: float) -> float:
        """No kernel is much faster than this: the larger of the two compulsory times, in us."""
        return 1e6 * max(self.bytes / read_bytes_per_second, self.flops / flops_per_second)


def parse_points(text: str, activation: str = "f16") -> list[Point]:
    """`SHAPES:WEIGHTS:MS`, each a comma-separated list, to the product of the three lists."""
    parts = text.split(":")
    if len(parts) != 3:
        raise ValueError(f"expected SHAPES:WEIGHTS:MS, got {text!r}")
    shapes, weights, rows = (part.split(",") for part in parts)
    for shape in shapes:
        if shape not in SHAPES:
            raise ValueError(f"no shape {shape!r}; known: {', '.join(SHAPES)}")
    return [
        Point(shape, WeightType.parse(weight), int(m), activation)
        for shape in shapes
        for weight in weights
        for m in rows
    ]


def order_points(points: Iterable[Point]) -> list[Point]:
    """Without repeats, light before heavy.

    After a heavy product the chip runs at a lower clock for a while, which made light points up to
    31 % slower when they came next; the other order costs nothing.
    """
    return sorted(dict.fromkeys(points), key=lambda point: not point.is_light)


def pack_words(codes: Any, bits: int) -> list[Any]:
    """Codes of shape (n, k), k a multiple of 32, packed little-endian at bit k * bits of each row.

    Gives `bits` arrays of 32-bit words held in 64-bit integers, each of shape (n, k / 32): word w
    of every run of 32 codes. Stacked on a new last axis they are the row's words in order.
    """
    rows, columns = codes.shape
    runs = codes.reshape(rows, columns // 32, 32)
    words: list[Any] = [0] * bits
    for index in range(32):
        word, shift = divmod(index * bits, 32)
        code = runs[:, :, index]
        words[word] = words[word] | ((code << shift) & 0xFFFFFFFF)
        if shift + bits > 32:
            words[word + 1] = words[word + 1] | (code >> (32 - shift))
    return words


def pack_planes(codes: Any, bits: int) -> Any:
    """Codes of shape (n, k) packed for a kernel that extracts fields of 16-bit words.

    With F = 16 / bits fields, word j of a group of GROUP codes holds codes j, j + GROUP/F,
    j + 2 GROUP/F, ... from the low end up. Gives integers below 2^16 of shape (n, k/GROUP,
    GROUP/F): the codes of one field index are contiguous along K.
    """
    fields = 16 // bits
    rows, columns = codes.shape
    planes = codes.reshape(rows, columns // GROUP, fields, GROUP // fields)
    words: Any = 0
    for field in range(fields):
        words = words | (planes[:, :, field, :] << (bits * field))
    return words


UNITS = {"f16": 2.0**-11, "bf16": 2.0**-8}
"""Largest relative error of rounding to a type of activations (normal numbers)."""

SMALLEST = {"f16": 2.0**-25, "bf16": 2.0**-134}
"""Largest absolute error of rounding to it where it is subnormal."""

UNIT_F32_TRUNCATED = 2.0**-23
"""Relative error of one f32 addition that truncates, as the tensor cores do."""


def norm_bound(activation: str) -> float:
    """Bound for ||C - reference|| / ||reference||.

    A kernel may round each dequantized weight to the type of the activations and rounds each output
    to it. Either rounding moves the norm by at most one unit roundoff, if the roundings of the
    weights are not all of one sign; the f32 accumulation adds far less. A single weight missing in
    8192 gives 1.1e-2 where it is as large as others, which is more than either bound; one in 28672
    gives 5.9e-3, which is less than that of bf16.
    """
    return 2 * UNITS[activation]


@dataclass(frozen=True)
class Error:
    """How far an output is from the float64 product."""

    norm: float
    """||C - reference|| / ||reference||; NaN if an element was not written."""
    worst: float
    """Largest |C - reference| over the bound of that element."""
    bound: float
    """Of `norm`."""

    @property
    def is_within_bound(self) -> bool:
        """False too for NaN, with which outputs are poisoned."""
        return self.norm <= self.bound and self.worst <= 1.0


def output_error(
    output: Any, reference: Any, magnitude: Any, k: int, activation: str = "f16"
) -> Error:
    """Compares an output with the reference, all three float64 of shape (M, N).

    `magnitude` is sum |a| |w|. An element is within its bound if it differs by no more than the
    rounding of the output, the rounding of each weight, and K truncating f32 additions.
    """
    difference, unit = abs(output - reference), UNITS[activation]
    bound = unit * abs(reference) + (unit + k * UNIT_F32_TRUNCATED) * magnitude
    bound = bound + SMALLEST[activation]
    norm = float((difference**2).sum()) ** 0.5 / float((reference**2).sum()) ** 0.5
    return Error(norm, float((difference / bound).max()), norm_bound(activation))
