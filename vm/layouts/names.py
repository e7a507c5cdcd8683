"""What a layout expression may say: names, and methods or attributes of what they give."""

from __future__ import annotations

from vm.layouts.common import default_layout, packed
from vm.layouts.dot import dot_layout
from vm.layouts.fragments import FRAGMENTS, TRANSFERS
from vm.layouts.memory import column_major, shared, shared_layout, strided, tiled
from vm.layouts.register import (
    column_local,
    column_spatial,
    local,
    register_layout,
    replicated,
    spatial,
)
from vm.layouts.wgmma import wgmma_shared

NAMES: dict[str, object] = {
    "local": local,
    "spatial": spatial,
    "column_local": column_local,
    "column_spatial": column_spatial,
    "replicated": replicated,
    "register_layout": register_layout,
    "shared": shared,
    "shared_layout": shared_layout,
    "column_major": column_major,
    "strided": strided,
    "tiled": tiled,
    "wgmma_shared": wgmma_shared,
    "packed": packed,
    "default_layout": default_layout,
    "dot_layout": dot_layout,
    **FRAGMENTS,
    **TRANSFERS,
}

METHODS: frozenset[str] = frozenset(
    {
        # products and quotients
        "local",
        "spatial",
        "column_local",
        "column_spatial",
        "replicated",
        "left_divide",
        "concat",
        "reorder",
        # axes
        "permute",
        "transpose",
        "reshape",
        "squeeze",
        "unsqueeze",
        "reduce",
        "slice",
        "broadcast",
        "expand",
        # memory layouts
        "swizzle",
        "pad",
        "stages",
        "select",
        # facts
        "elements",
        "shape",
        "rank",
        "size",
        "threads",
        "slots",
        "replication",
        # fragments and dot layouts
        "a",
        "b",
        "c",
        "k_order",
        # ldmatrix and stmatrix
        "registers",
        "rows",
        "atom",
    }
)
