"""Products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.dtypes import DType, dtype
from vm.isa.elementwise import F64, round_result
from vm.isa.instruction import Instruction, Operand, layout_of
from vm.isa.layout_constraints import LayoutConstraint, Member
from vm.isa.types import RegisterType, Type
from vm.layouts import DotLayout, LayoutError, dot_grids, dot_layout, dot_layouts
from vm.layouts.dot import DEFAULTS
from vm.layouts.fragments import FRAGMENTS

# Which dtypes a product takes and which it may accumulate in: (names of A and B) to names of C.
PRODUCTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("f16", "f16"): ("f32", "f16"),
    ("bf16", "bf16"): ("f32",),
    ("tf32", "tf32"): ("f32",),
    ("i8", "i8"): ("i32",),
    ("u8", "u8"): ("i32",),
    ("u8", "i8"): ("i32",),
    ("i8", "u8"): ("i32",),
    ("f8e4m3", "f8e4m3"): ("f32",),
    ("f8e5m2", "f8e5m2"): ("f32",),
    ("f8e4m3", "f8e5m2"): ("f32",),
    ("f8e5m2", "f8e4m3"): ("f32",),
}


class Dot(Instruction, opcode="dot"):
    """The matrix product a[M, K] b[K, N], added to c[M, N] where it is given.

    The dtype is that of c; without c it is the first that the product may accumulate in. Sums may
    be taken in any order and with the accumulator's precision; the reference machine takes them in
    float64 and rounds once. In references any dtypes may be multiplied, in f64.
    """

    a = Operand("register")
    b = Operand("register")
    c = Operand("register", optional=True)

    def check(self) -> Type:
        a, b = self.a.type, self.b.type
        if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
            raise self.refuse(
                "E0302", f"{list(a.shape)} times {list(b.shape)} is no product of matrices", "b",
                f"{list(b.shape)}", others=((self.place("a"), f"{list(a.shape)}"),),
                fix="the second extent of a is the first of b",
            )  # fmt: skip
        shape = (a.shape[0], b.shape[1])
        kind = self._accumulator(a.dtype, b.dtype)
        if self.c is not None and self.c.type.shape != shape:
            raise self.refuse(
                "E0302", f"a product of {list(shape)} added to {list(self.c.type.shape)}", "c",
                f"{list(self.c.type.shape)}", others=((self.place("a"), f"{list(a.shape)}"),),
                fix=f"c is {list(shape)}",
            )  # fmt: skip
        if not self.scope.reference:
            self._require_fragment(a, b, kind)
        if self.c is not None:
            return RegisterType(kind, shape, self.c.type.layout)
        given = (a.layout, b.layout)
        if None in given or self.scope.reference:
            return RegisterType(kind, shape, None)
        known = [each for each in self.products(kind) if (each.a, each.b) == given]
        return RegisterType(kind, shape, known[0].c if known else None)

    def constrain(self) -> LayoutConstraint:
        """All layouts come from one `dot_layout`: the default one, or, where an operand's is known,
        another that gives it."""
        operands = {name: Member(name) for name in "abc" if getattr(self, name) is not None}
        type_ = self.result.type
        return LayoutConstraint(
            type_.shape, operands, Member("c"), self.products(type_.dtype),
            "the fragments of the matrix instruction",
        )  # fmt: skip

    def products(self, kind: DType) -> tuple[DotLayout, ...]:
        """The layouts of the product for an accumulator of `kind`, the default one first.

        Behind it come those with other grids of warps, and those that interleave k steps or make
        copies where they give some operand the layout it has.
        """
        grids = dot_grids(*self._extents(), **self._widths(kind))
        known = {name: layout_of(getattr(self, name)) for name in "abc"}
        odd = {
            name: layout
            for name, layout in known.items()
            if layout is not None and layout != getattr(grids[0], name)
        }
        asked = (
            other
            for other in (dot_layouts(*self._extents(), **self._widths(kind)) if odd else ())
            if any(getattr(other, name) == layout for name, layout in odd.items())
        )
        return tuple(dict.fromkeys((*grids[:1], *asked, *grids[1:])))

    def _product(self, kind: DType) -> DotLayout:
        return dot_layout(*self._extents(), **self._widths(kind))

    def _extents(self) -> tuple[int, ...]:
        (m, k), n = self.a.type.shape, self.b.type.shape[1]
        return m, n, k, self.a.type.dtype.bits, self.scope.warps

    def _widths(self, kind: DType) -> dict[str, int]:
        return {"accumulator_bits": kind.bits, "warp_width": self.scope.warp_width}

    def _accumulator(self, a: DType, b: DType) -> DType:
        if self.scope.reference:
            return F64
        allowed = PRODUCTS.get((a.name, b.name))
        if allowed is None:
            known = sorted({f"{x} x {y}" for x, y in PRODUCTS})
            raise self.refuse(
                "E0312", f"no fragment multiplies {a.name} by {b.name}", "b", f"this is {b.name}",
                others=((self.place("a"), f"this is {a.name}"),),
                fix="cast both to a pair that is: " + ", ".join(known),
            )  # fmt: skip
        kind = self.c.type.dtype if self.c is not None else dtype(allowed[0])
        if kind.name not in allowed:
            raise self.refuse(
                "E0312", f"no fragment accumulates {a.name} x {b.name} in {kind.name}", "c",
                f"this is {kind.name}", fix=f"use {' or '.join(allowed)}",
            )  # fmt: skip
        return kind

    def _require_fragment(self, a: RegisterType, b: RegisterType, kind: DType) -> None:
        (m, k), n = a.shape, b.shape[1]
        try:
            self._product(kind)
        except LayoutError as error:
            raise self.refuse(
                "E0312", f"no fragment holds a product of {m}x{n}x{k} in {self.scope.warps} warps",
                None, "here", notes=(str(error),),
                fix=f"use extents that are multiples of {self._least(a.dtype)}, or other threads",
            ) from None  # fmt: skip

    def _least(self, kind: DType) -> str:
        """The extents of the smallest fragment for a dtype, in words."""
        names = DEFAULTS.get((self.scope.warp_width, kind.bits), ("mma_m16n8k16",))
        least = FRAGMENTS[names[-1]]
        return f"{least.m}, {least.n} and {least.k}"

    def run(self, machine: Any) -> np.ndarray:
        a, b = machine.value(self.a), machine.value(self.b)
        c = machine.value(self.c) if self.c is not None else None
        kind = self.results[0].type.dtype
        if kind.is_integer:
            product = a.astype(np.int64) @ b.astype(np.int64)
            total = product if c is None else product + c
            return total.astype(kind.array)
        product = a.astype(np.float64) @ b.astype(np.float64)
        return round_result(product if c is None else product + c, kind)

    def magnitude(self, *magnitudes: np.ndarray) -> np.ndarray:
        product = magnitudes[0] @ magnitudes[1]
        return product + magnitudes[2] if len(magnitudes) > 2 else product




