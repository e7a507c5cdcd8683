"""Machine instructions of NVIDIA GPUs on pairs of numbers in 32-bit words: arithmetic, conversions.

They work word by word, as those of nvidia_words.py. Source: PTX ISA 9.0, sections on half precision
instructions and cvt. Where a result is NaN it is any NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from vm.isa.conversion import convert
from vm.isa.dtypes import DType, dtype
from vm.isa.elementwise import Add, FusedMultiplyAdd, Multiply, round_result
from vm.isa.instruction import Attribute, Operand
from vm.isa.nvidia_words import WordInstruction
from vm.isa.types import Type

F16, F32 = dtype("f16"), dtype("f32")


class _OfDtype(WordInstruction):
    """What they share: a dtype of `kinds` as an attribute."""

    kinds: ClassVar[tuple[str, ...]] = ("f16", "bf16")

    def check(self) -> Type:
        if self.dtype.name not in self.kinds:
            raise self.refuse("E0205", f"`{self.opcode}` of {self.dtype.name}", "dtype", "here",
                              fix=" or ".join(self.kinds))  # fmt: skip
        return super().check()


def numbers(words: np.ndarray, kind: DType) -> np.ndarray:
    """The two numbers of a dtype in the lower bits of each word: [2, ...], the lowest first."""
    bits = np.uint32(kind.bits)
    codes = np.stack([words, words >> bits]) & np.uint32((1 << kind.bits) - 1)
    return kind.decode(codes.astype(kind.storage))


def words(pair: np.ndarray, kind: DType) -> np.ndarray:
    """Words with two numbers [2, ...] of a dtype in their lower bits, the first lowest."""
    codes = kind.encode(pair, "ieee").astype(np.uint32)
    return codes[0] | codes[1] << np.uint32(kind.bits)


def computed(compute: Callable[..., np.ndarray], kind: DType, *operands: np.ndarray) -> np.ndarray:
    """Words of the results of arithmetic on the pairs of some words, each rounded once."""
    with np.errstate(all="ignore"):
        return words(round_result(compute(*(numbers(x, kind) for x in operands)), kind), kind)


class HalfAdd(_OfDtype, opcode="nv.half2_add"):
    """The sums of two pairs of f16 or bf16 (add.f16x2, add.bf16x2): as `add`, of each half of a
    word."""

    x = Operand("register", "scalar", hexadecimal=True)
    y = Operand("register", "scalar", hexadecimal=True)
    dtype = Attribute("dtype")

    @staticmethod
    def compute(x: np.ndarray, y: np.ndarray, dtype: DType) -> np.ndarray:
        return computed(Add.compute, dtype, x, y)


class HalfMultiply(_OfDtype, opcode="nv.half2_mul"):
    """The products of two pairs of f16 or bf16 (mul.f16x2, mul.bf16x2): as `mul`, of each half of a
    word."""

    x = Operand("register", "scalar", hexadecimal=True)
    y = Operand("register", "scalar", hexadecimal=True)
    dtype = Attribute("dtype")

    @staticmethod
    def compute(x: np.ndarray, y: np.ndarray, dtype: DType) -> np.ndarray:
        return computed(Multiply.compute, dtype, x, y)


class HalfMultiplyAdd(_OfDtype, opcode="nv.half2_fma"):
    """x * y + z of pairs of f16 or bf16 with a single rounding (fma.rn.f16x2, fma.rn.bf16x2): as
    `fma`, of each half of a word. `negated` takes z away, which of f16 is no instruction more."""

    x = Operand("register", "scalar", hexadecimal=True)
    y = Operand("register", "scalar", hexadecimal=True)
    z = Operand("register", "scalar", hexadecimal=True)
    dtype = Attribute("dtype")
    negated = Attribute("boolean", False)

    @staticmethod
    def compute(
        x: np.ndarray, y: np.ndarray, z: np.ndarray, dtype: DType, negated: bool
    ) -> np.ndarray:
        z = z ^ np.uint32(0x80008000) if negated else z
        return computed(FusedMultiplyAdd.compute, dtype, x, y, z)


class HalfExceeds(_OfDtype, opcode="nv.half2_exceeds"):
    """Where the magnitude of an f16 of x is greater than y, all 16 bits set, which is NaN;
    elsewhere, and beside NaN, 0 (set.gt.u32.f16x2 of abs.f16x2), of each half of a word."""

    kinds = ("f16",)

    x = Operand("register", "scalar", hexadecimal=True)
    y = Operand("register", "scalar", hexadecimal=True)
    dtype = Attribute("dtype")

    @staticmethod
    def compute(x: np.ndarray, y: np.ndarray, dtype: DType) -> np.ndarray:
        low, high = np.abs(numbers(x, dtype)) > numbers(y, dtype)
        ones = np.uint32(0xFFFF)
        return np.where(low, ones, 0) | np.where(high, ones << np.uint32(16), 0).astype(np.uint32)


class ConvertPack(_OfDtype, opcode="nv.cvt_pack"):
    """Two f32 of each thread as a pair in the lower bits of a word, low lowest, zeros above
    (cvt.rn.f16x2.f32, cvt.rn.bf16x2.f32; for f8, from sm_89 on, cvt.rn.satfinite.e4m3x2.f32 and
    e5m2x2): each as `cast` of that overflow, which for f8 is always to saturate."""

    takes = F32
    kinds = ("f16", "bf16", "f8e4m3", "f8e5m2")

    low = Operand("register", "scalar")
    high = Operand("register", "scalar")
    dtype = Attribute("dtype")
    overflow = Attribute("string", "saturate", ("saturate", "ieee"))

    def check(self) -> Type:
        if self.dtype.bits == 8 and self.overflow != "saturate":
            raise self.refuse("E0205", f"{self.dtype.name} that does not saturate", "overflow",
                              "here", fix='overflow="saturate"')  # fmt: skip
        return super().check()

    @staticmethod
    def compute(low: np.ndarray, high: np.ndarray, dtype: DType, overflow: str) -> np.ndarray:
        return words(convert(np.stack([low, high]), F32, dtype, overflow=overflow), dtype)


class ConvertToHalves(_OfDtype, opcode="nv.cvt_f8x2_to_half2"):
    """Two f8 in the lower half of each word as a pair of f16 (cvt.rn.f16x2.e4m3x2 and e5m2x2, from
    sm_89 on): each as `cast`, exact."""

    kinds = ("f8e4m3", "f8e5m2")

    x = Operand("register", "scalar", hexadecimal=True)
    dtype = Attribute("dtype")

    @staticmethod
    def compute(x: np.ndarray, dtype: DType) -> np.ndarray:
        return words(convert(numbers(x, dtype), dtype, F16), F16)


class ConvertFromHalves(_OfDtype, opcode="nv.cvt_half2_to_f8x2"):
    """A pair of f16 as two f8 in the lower half of a word, zeros above (from sm_89 on,
    cvt.rn.satfinite.e4m3x2.f16x2 and e5m2x2): each as `cast`, which saturates."""

    kinds = ("f8e4m3", "f8e5m2")

    x = Operand("register", "scalar", hexadecimal=True)
    dtype = Attribute("dtype")

    @staticmethod
    def compute(x: np.ndarray, dtype: DType) -> np.ndarray:
        return words(convert(numbers(x, F16), F16, dtype), dtype)
