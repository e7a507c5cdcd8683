"""Every form of a matrix instruction that `dot` takes is one that the batteries multiply with."""

from tests.compiler.prelude.warp_battery import EIGHT_ROWS, F8_SHAPES, SHAPES
from vm.isa.matrix import PRODUCTS
from vm.layouts.fragments import MMA_ROWS


def test_every_form_of_a_fragment_is_multiplied():
    tried = {(16, *shape) for shape in (*SHAPES, *F8_SHAPES)}
    tried |= {(8, *shape) for shape in EIGHT_ROWS}
    forms = {
        (row.m, row.k, a, b, c) for row in MMA_ROWS for a, b, c, _ in row.dtypes
        if c in PRODUCTS[a, b]
    }  # fmt: skip
    assert forms == tried
