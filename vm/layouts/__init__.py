"""Layouts: who holds which element, and where. Pure mathematics, independent of the rest of
vm."""

from vm.layouts.banks import (
    Access,
    BankReport,
    bank_conflicts,
    choose_swizzle,
    matrix_conflicts,
    sectors_per_request,
    typical_accesses,
    vector_width,
)
from vm.layouts.common import default_layout, packed
from vm.layouts.dot import DotLayout, dot_grids, dot_layout, dot_layouts
from vm.layouts.draw import svg, text_table
from vm.layouts.errors import LayoutError
from vm.layouts.fragments import FRAGMENTS, Fragment
from vm.layouts.memory import (
    MemoryLayout,
    SharedLayout,
    Swizzle,
    column_major,
    shared,
    shared_layout,
    strided,
    tiled,
)
from vm.layouts.names import METHODS, NAMES
from vm.layouts.register import (
    RegisterLayout,
    column_local,
    column_spatial,
    local,
    register_layout,
    replicated,
    spatial,
)
from vm.layouts.relayout import (
    Nothing,
    Plan,
    RegisterPermutation,
    ThroughShared,
    WarpShuffles,
    difference,
    own_slots,
    plan_relayout,
)
from vm.layouts.wgmma import WgmmaOperand, wgmma_operand, wgmma_shared

__all__ = [
    "FRAGMENTS",
    "METHODS",
    "NAMES",
    "Access",
    "BankReport",
    "DotLayout",
    "Fragment",
    "LayoutError",
    "MemoryLayout",
    "Nothing",
    "Plan",
    "RegisterLayout",
    "RegisterPermutation",
    "SharedLayout",
    "Swizzle",
    "ThroughShared",
    "WarpShuffles",
    "WgmmaOperand",
    "bank_conflicts",
    "choose_swizzle",
    "column_local",
    "column_major",
    "column_spatial",
    "default_layout",
    "difference",
    "dot_grids",
    "dot_layout",
    "dot_layouts",
    "local",
    "matrix_conflicts",
    "own_slots",
    "packed",
    "plan_relayout",
    "register_layout",
    "replicated",
    "sectors_per_request",
    "shared",
    "shared_layout",
    "spatial",
    "strided",
    "svg",
    "text_table",
    "tiled",
    "typical_accesses",
    "vector_width",
    "wgmma_operand",
    "wgmma_shared",
]
