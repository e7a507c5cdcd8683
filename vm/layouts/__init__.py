"""Layouts: who holds which element, and where. Pure mathematics, independent of the rest of
vm."""

from vm.layouts.common import default_layout, packed
from vm.layouts.dot import DotLayout, dot_layout
from vm.layouts.errors import LayoutError
from vm.layouts.fragments import FRAGMENTS, Fragment
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

__all__ = [
    "FRAGMENTS",
    "METHODS",
    "NAMES",
    "DotLayout",
    "Fragment",
    "LayoutError",
    "RegisterLayout",
    "column_local",
    "column_spatial",
    "default_layout",
    "dot_layout",
    "local",
    "packed",
    "register_layout",
    "replicated",
    "spatial",
]
