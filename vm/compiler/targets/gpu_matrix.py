"""Matrix products with the matrix units of GPUs: mma.sync, MFMA."""

from __future__ import annotations

import numpy as np

from vm.compiler.rules import Refused
from vm.compiler.selection import Selection
from vm.compiler.targets.common import COMMON
from vm.isa import control
from vm.isa.dtypes import DType
from vm.isa.matrix import Dot
from vm.isa.registers import Fill
from vm.isa.types import Immediate, RegisterType, Value
from vm.layouts import DotLayout, Fragment, dot_layouts

rule = COMMON.rule


@rule(Dot)
def multiply_with_matrix_units(s: Selection, i: Dot) -> Value:
    """One instruction of each warp for each fragment."""
    a, b = s.operand(i.a), s.operand(i.b)
    c = s.operand(i.c) if i.c is not None else None
    result = s.result_type(i.result)
    found = dot_layout_of(a, b, result, i)
    name = fragment_name(s, found.fragment, (a.type.dtype, b.type.dtype, result.dtype))
    widths = (a.type.dtype.bits, b.type.dtype.bits, result.dtype.bits)
    places = [tuple(map(words_of_slots, slots, widths)) for slots in found.steps()]
    variable = s.target_variable(i, (a, b))
    if c is None:
        s.emit(Fill, into=variable, value=Immediate(0), dtype=result.dtype, shape=result.shape,
               layout=result.layout)  # fmt: skip
    elif c is not variable:
        s.emit(control.Copy, into=variable, x=c)
    for at_a, at_b, at_c in places:
        s.emit(s.machine.matrix_multiply, into=variable, c=variable, a=a, b=b, fragment=name,
               at_a=at_a, at_b=at_b, at_c=at_c)  # fmt: skip
    return variable


def dot_layout_of(a: Value, b: Value, c: RegisterType, i: Dot) -> DotLayout:
    """The layouts of a product that its operands have; refuses where they have none."""
    (m, k), n = a.type.shape, b.type.shape[1]
    have = (a.type.layout, b.type.layout, c.layout)
    for found in dot_layouts(
        m, n, k, a.type.dtype.bits, i.scope.warps,
        accumulator_bits=c.dtype.bits, warp_width=i.scope.warp_width,
    ):  # fmt: skip
        if (found.a, found.b, found.c) == have:
            return found
    raise Refused(f"{a.type.layout} and {b.type.layout} are no operands of one fragment")


def fragment_name(s: Selection, fragment: Fragment, kinds: tuple[DType, DType, DType]) -> str:
    """The row of the table for these dtypes of a, b and c with the fragment's extents."""
    names = tuple(kind.name for kind in kinds)
    extents = (fragment.m, fragment.n, fragment.k, fragment.bits)
    for row in s.target.fragments:
        same = (row.m, row.n, row.k, row.bits) == extents
        if same and any(form[:3] == names for form in row.dtypes):
            return row.name
    raise Refused(f"{s.target.name} has no {fragment.name} for {', '.join(names)}")


def words_of_slots(slots: np.ndarray, bits: int) -> tuple[int, ...]:
    """The words that hold slots, whole words of neighbours."""
    per_word = 32 // bits
    groups = slots.reshape(-1, per_word)
    if (groups[:, 0] % per_word).any() or (np.diff(groups, axis=1) != 1).any():
        raise Refused("elements of a fragment do not lie in words")
    return tuple(int(g) // per_word for g in groups[:, 0])
