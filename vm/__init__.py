"""A virtual machine for low-precision and sparse GPU tile kernels.

The names here are the ones that users call; each is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vm.errors import InternalError, VmError
    from vm.isa.builder import Builder
    from vm.isa.dtypes import DType, DTypeError, codebook, dtype
    from vm.isa.kernel import Kernel
    from vm.isa.packing import pack, unpack
    from vm.isa.program import Module, Program, load, parse
    from vm.isa.tensor import Tensor
    from vm.runtime.compiled import compile

_PLACES = {
    "InternalError": "vm.errors",
    "VmError": "vm.errors",
    "DType": "vm.isa.dtypes",
    "DTypeError": "vm.isa.dtypes",
    "codebook": "vm.isa.dtypes",
    "dtype": "vm.isa.dtypes",
    "Kernel": "vm.isa.kernel",
    "pack": "vm.isa.packing",
    "unpack": "vm.isa.packing",
    "Module": "vm.isa.program",
    "Program": "vm.isa.program",
    "load": "vm.isa.program",
    "parse": "vm.isa.program",
    "compile": "vm.runtime.compiled",
    "Builder": "vm.isa.builder",
    "Tensor": "vm.isa.tensor",
}

__all__ = [
    "Builder",
    "DType",
    "DTypeError",
    "InternalError",
    "Kernel",
    "Module",
    "Program",
    "Tensor",
    "VmError",
    "codebook",
    "compile",
    "dtype",
    "load",
    "pack",
    "parse",
    "unpack",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'vm' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
