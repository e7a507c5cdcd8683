"""Fragments: which lane holds which element of the operands of every matrix instruction, as
data.

A row holds register layouts by operand name: `a` (M, K), `b` (K, N), `c` (M, N; the accumulator
and the result alike). Further operands (the metadata of sparse forms) are further entries of
the same dictionary. The number of lanes is that of the layouts, so that a wave of 64 needs
nothing special.

Sources: PTX ISA 9.x, sections "Matrix fragments for mma.*" and "Register fragments" of wgmma;
AMD CDNA3 ISA, section 7.1, for MFMA. `k_order` says which k the lanes that share a row (or
column) hold: lane part and slot part -> k. A product cannot see it (A and B permuted alike give
the same sums), loads and sparse metadata can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from vm.layouts.errors import LayoutError
from vm.layouts.register import (
    RegisterLayout,
    column_local,
    column_spatial,
    local,
    spatial,
)


@dataclass(frozen=True)
class Fragment:
    """One matrix instruction D = A B + C of extents m, n, k.

    With an operand `e`, the metadata of 2:4 sparsity, a holds half of k.

    operands: layout by operand name; an operand that is read from shared memory is absent.
    dtypes: for each form, the dtype names of its operands and result (a, b, c, d).
    bits: width of an element of a and b. capability: the first target that has it.
    k_order: layout of shape [k] over the lanes that share a row of a.
    """

    name: str
    m: int
    n: int
    k: int
    bits: int
    capability: str
    dtypes: tuple[tuple[str, str, str, str], ...]
    operands: Mapping[str, RegisterLayout] = field(hash=False)
    k_order: RegisterLayout

    def __post_init__(self) -> None:
        object.__setattr__(self, "operands", MappingProxyType(dict(self.operands)))
        a_columns = self.k // 2 if "e" in self.operands else self.k
        shapes = {"a": (self.m, a_columns), "b": (self.k, self.n), "c": (self.m, self.n)}
        for operand, shape in shapes.items():
            layout = self.operands.get(operand)
            if layout is not None and layout.shape != shape:
                raise LayoutError(
                    f"{self.name}.{operand} has shape {list(layout.shape)}, not {list(shape)}"
                )

    def operand(self, name: str) -> RegisterLayout:
        """The layout of an operand; LayoutError if it is not held in registers."""
        if name not in self.operands:
            raise LayoutError(
                f"{self.name} does not hold operand {name} in registers, "
                f"only {', '.join(self.operands)}"
            )
        return self.operands[name]

    @property
    def a(self) -> RegisterLayout:
        """Layout of A, shape (m, k)."""
        return self.operand("a")

    @property
    def b(self) -> RegisterLayout:
        """Layout of B, shape (k, n)."""
        return self.operand("b")

    @property
    def c(self) -> RegisterLayout:
        """Layout of C and D, shape (m, n)."""
        return self.operand("c")

    @cached_property
    def threads(self) -> int:
        """How many threads execute it together."""
        return self.c.threads

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


_HALF = tuple(("f16", "f16", c, c) for c in ("f16", "f32"))
_BFLOAT = (("bf16", "bf16", "f32", "f32"),)
_TF32 = (("tf32", "tf32", "f32", "f32"),)
_BYTE = tuple((a, b, "i32", "i32") for a in ("i8", "u8") for b in ("i8", "u8"))
_FLOAT8 = tuple(
    (a, b, c, c) for a in ("f8e4m3", "f8e5m2") for b in ("f8e4m3", "f8e5m2") for c in ("f16", "f32")
)
_C16X8 = local(2, 1).spatial(8, 4).local(1, 2)


def _mma_operands(m: int, k: int, run: int) -> tuple[dict[str, RegisterLayout], RegisterLayout]:
    """mma.sync over 8-row groups: lane = 4 x row + k part; `run` elements of k fill one register.
    Registers of A step over rows first, then over k; those of B over k."""
    rows, steps = m // 8, k // (4 * run)
    operands = {
        "a": column_local(rows, steps).spatial(8, 4).local(1, run),
        "b": local(steps, 1).column_spatial(4, 8).local(run, 1),
        "c": local(rows, 1).spatial(8, 4).local(1, 2),
    }
    return operands, local(steps).spatial(4).local(run)


def _mma(name: str, m: int, k: int, bits: int, capability: str, dtypes: tuple) -> Fragment:
    operands, k_order = _mma_operands(m, k, 32 // bits)
    return Fragment(name, m, 8, k, bits, capability, dtypes, operands, k_order)


def _wgmma(n: int, bits: int, suffix: str, dtypes: tuple) -> Fragment:
    k = 256 // bits
    warp, k_order = _mma_operands(16, k, 32 // bits)
    operands = {"a": spatial(4, 1) * warp["a"], "c": spatial(4, 1).local(1, n // 8) * _C16X8}
    name = f"wgmma_m64n{n}k{k}{suffix}"
    return Fragment(name, 64, n, k, bits, "sm_90a", dtypes, operands, k_order)


def _mfma(name: str, m: int, k: int, bits: int, capability: str, dtypes: tuple) -> Fragment:
    """V_MFMA over a wave of 64: lane = m x k part + row; the accumulator has runs of 4 rows."""
    parts = 64 // m
    operands = {
        "a": column_spatial(m, parts).local(1, k // parts),
        "b": spatial(parts, m).local(k // parts, 1),
        "c": local(m // (4 * parts), 1).spatial(parts, m).local(4, 1),
    }
    k_order = spatial(parts).local(k // parts)
    return Fragment(name, m, m, k, bits, capability, dtypes, operands, k_order)


MMA_ROWS: tuple[Fragment, ...] = (
    _mma("mma_m16n8k8", 16, 8, 16, "sm_75", _HALF),
    _mma("mma_m16n8k16", 16, 16, 16, "sm_80", _HALF),
    _mma("mma_m16n8k8_bf16", 16, 8, 16, "sm_80", _BFLOAT),
    _mma("mma_m16n8k16_bf16", 16, 16, 16, "sm_80", _BFLOAT),
    _mma("mma_m16n8k4_tf32", 16, 4, 32, "sm_80", _TF32),
    _mma("mma_m16n8k8_tf32", 16, 8, 32, "sm_80", _TF32),
    _mma("mma_m8n8k16_i8", 8, 16, 8, "sm_75", _BYTE),
    _mma("mma_m16n8k16_i8", 16, 16, 8, "sm_80", _BYTE),
    _mma("mma_m16n8k32_i8", 16, 32, 8, "sm_80", _BYTE),
    _mma("mma_m16n8k16_f8", 16, 16, 8, "sm_89", _FLOAT8),
    _mma("mma_m16n8k32_f8", 16, 32, 8, "sm_89", _FLOAT8),
)

# The accumulator may also be f16 for f16 and for 8-bit floats; wgmma's integer forms have fewer n.
_WGMMA_INTEGER_N = (8, 16, 24, *range(32, 257, 16))
WGMMA_ROWS: tuple[Fragment, ...] = (
    *(_wgmma(n, 16, "", _HALF) for n in range(8, 257, 8)),
    *(_wgmma(n, 16, "_bf16", _BFLOAT) for n in range(8, 257, 8)),
    *(_wgmma(n, 32, "_tf32", _TF32) for n in range(8, 257, 8)),
    *(_wgmma(n, 8, "_f8", _FLOAT8) for n in range(8, 257, 8)),
    *(_wgmma(n, 8, "_i8", _BYTE) for n in _WGMMA_INTEGER_N),
)

_F16_ONLY = (("f16", "f16", "f32", "f32"),)
_I8_ONLY = (("i8", "i8", "i32", "i32"),)
MFMA_ROWS: tuple[Fragment, ...] = (
    _mfma("mfma_16x16x16", 16, 16, 16, "gfx908", _F16_ONLY),
    _mfma("mfma_32x32x8", 32, 8, 16, "gfx908", _F16_ONLY),
    _mfma("mfma_16x16x16_bf16", 16, 16, 16, "gfx90a", _BFLOAT),
    _mfma("mfma_32x32x8_bf16", 32, 8, 16, "gfx90a", _BFLOAT),
    _mfma("mfma_16x16x32_i8", 16, 32, 8, "gfx940", _I8_ONLY),
    _mfma("mfma_32x32x16_i8", 32, 16, 8, "gfx940", _I8_ONLY),
)


@dataclass(frozen=True)
class MatrixTransfer:
    """ldmatrix or stmatrix: `count` matrices of 8 rows of 16 bytes between shared memory and a
    warp.

    bits: width of the elements the layouts are written in. rows: layout of shape (count, 8);
    the thread of element (j, r) gives the address of row r of matrix j (other threads' are
    ignored). registers: layout of the matrices as they lie in memory, stacked along axis 0; a
    slot holds 32 / bits elements of matrix j in register j. transposed: the `.trans` form.
    Source: PTX ISA, sections ldmatrix and stmatrix (m8n8)."""

    name: str
    capability: str
    count: int
    transposed: bool
    bits: int
    rows: RegisterLayout
    registers: RegisterLayout

    @property
    def atom(self) -> RegisterLayout:
        """The registers of one of the matrices."""
        return self.registers.left_divide(local(self.count, 1))

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


def _transfer(instruction: str, capability: str, count: int, form: str) -> MatrixTransfer:
    bits, atom = {
        "": (16, spatial(8, 4).local(1, 2)),
        "_trans": (16, column_spatial(4, 8).local(2, 1)),
        "_b8": (8, spatial(8, 4).local(1, 4)),
        "_b32": (32, spatial(8, 4)),
    }[form]
    return MatrixTransfer(
        f"{instruction}_x{count}{form}",
        capability,
        count,
        form == "_trans",
        bits,
        spatial(count, 8),
        local(count, 1) * atom,
    )


TRANSFERS: Mapping[str, MatrixTransfer] = MappingProxyType(
    {
        row.name: row
        for row in (
            _transfer(instruction, capability, count, form)
            for instruction, capability in (("ldmatrix", "sm_75"), ("stmatrix", "sm_90"))
            for count in (1, 2, 4)
            for form in ("", "_trans", "_b8", "_b32")
        )
    }
)

FRAGMENTS: Mapping[str, Fragment] = MappingProxyType(
    {row.name: row for row in (*MMA_ROWS, *WGMMA_ROWS, *MFMA_ROWS)}
)
