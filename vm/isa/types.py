"""The types of values, and the operands that instructions take.

A value lives in one of six spaces: a scalar is uniform over the group that runs, a register tensor
is spread over the group's threads by its layout, shared and global tensors are memory, and
mbarriers and semaphores are memory that only instructions of their own touch.
Types and operands here belong to the instantiated form of a program, where constants are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

from vm.errors import NOWHERE, Origin
from vm.isa import syntax
from vm.isa.dtypes import DType, dtype
from vm.isa.printer import format_expression
from vm.layouts import RegisterLayout

MAXIMUM_ELEMENTS = 2**31
INDEX = dtype("i32")
# What a constant is where nothing else says its dtype.
CONSTANT_DTYPES = {bool: dtype("bool"), int: INDEX, float: dtype("f32")}


@dataclass(frozen=True)
class ScalarType:
    """One value that every thread of the group holds alike."""

    dtype: DType
    space = "scalar"
    shape: tuple[int, ...] = field(default=(), init=False)

    def __str__(self) -> str:
        return self.dtype.name


@dataclass(frozen=True)
class RegisterType:
    """A tensor in the registers of the group's threads; `layout` is None until it is chosen."""

    dtype: DType
    shape: tuple[int, ...]
    layout: RegisterLayout | None = None
    space = "register"

    def __str__(self) -> str:
        layout = f", layout={self.layout}" if self.layout is not None else ""
        return f"register({self.dtype.name}{layout}){list(self.shape)}"


@dataclass(frozen=True)
class SharedType:
    """A tensor in the block's shared memory; `layout` maps indices to element offsets."""

    dtype: DType
    shape: tuple[int, ...]
    layout: Any | None = None
    space = "shared"

    @property
    def bytes(self) -> int:
        elements = self.layout.size if self.layout is not None else prod(self.shape)
        return -(-elements * self.dtype.bits // 8)

    def __str__(self) -> str:
        layout = f", layout={self.layout}" if self.layout is not None else ""
        return f"shared({self.dtype.name}{layout}){list(self.shape)}"


@dataclass(frozen=True)
class GlobalType:
    """A tensor in the device's memory.

    An extent is a number or an expression over the program's sizes. `strides` (in elements) is
    None for row-major tensors, whose rows begin at whole bytes. `access` is "in", "out", "inout",
    "constant": read, and written by no grid that may still run, or "launch": no parameter but
    scratch that the launch owns.
    """

    dtype: DType
    shape: tuple[int | syntax.Expression | Value, ...]
    access: str = "in"
    strides: tuple[int | syntax.Expression | Value, ...] | None = None
    space = "global"

    @property
    def is_written(self) -> bool:
        """Whether the program may write it."""
        return self.access in ("out", "inout", "launch")

    def __str__(self) -> str:
        text = f"global({self.dtype.name})[{', '.join(map(_extent_text, self.shape))}]"
        return text if self.access in ("in", "launch") else f"{self.access}({text})"


def _extent_text(extent: Any) -> str:
    if isinstance(extent, Value):
        return extent.name or "?"
    return str(extent) if isinstance(extent, int) else format_expression(extent)


@dataclass(frozen=True)
class MbarrierType:
    """An array of mbarriers in the block's shared memory, 8 bytes each, which no one may read or
    write as data. Each phase of one waits for the arrivals of `warps` warps."""

    shape: tuple[int, ...]
    warps: int
    dtype = dtype("u64")
    space = "mbarrier"

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.bits // 8

    def __str__(self) -> str:
        return f"mbarrier(warps={self.warps}){list(self.shape)}"


@dataclass(frozen=True)
class SemaphoreType:
    """An array of semaphores of the launch, one word each, which no one may read or write as data.

    An extent is a number or an expression over the program's sizes.
    """

    shape: tuple[int | syntax.Expression, ...]
    dtype = INDEX
    space = "semaphore"

    def __str__(self) -> str:
        return f"semaphore[{', '.join(map(_extent_text, self.shape))}]"


Type = ScalarType | RegisterType | SharedType | GlobalType | MbarrierType | SemaphoreType

# The spaces whose tensors are memory and have tiles.
MEMORY_SPACES = ("global", "shared", "mbarrier", "semaphore")


@dataclass(eq=False)
class Value:
    """What a name stands for: bound once, or storage (`mutable`) that `:=` assigns."""

    name: str | None
    type: Type
    origin: Origin = NOWHERE
    mutable: bool = False

    def __repr__(self) -> str:
        return f"<{self.name or 'unnamed'}: {self.type}>"


@dataclass(frozen=True)
class Immediate:
    """A constant as an operand; `dtype` is None where the instruction has yet to say."""

    value: int | float | bool
    dtype: DType | None = None
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)

    @property
    def type(self) -> ScalarType | None:
        return ScalarType(self.dtype) if self.dtype is not None else None


@dataclass(frozen=True)
class Tile:
    """A part of a memory tensor: one offset per dimension of `base`.

    `extents` has None for a dimension that is indexed by a single position and so vanishes, and
    what the type says (an expression over sizes) for one that is taken whole and is not constant.
    Accesses outside a global tensor read 0 and write nothing; outside a shared tensor they trap.
    """

    base: Value
    offsets: tuple[Value | Immediate, ...]
    extents: tuple[Any, ...]
    origin: Origin = field(default=NOWHERE, compare=False, repr=False)

    @property
    def shape(self) -> tuple[Any, ...]:
        return tuple(extent for extent in self.extents if extent is not None)

    @property
    def dtype(self) -> DType:
        return self.base.type.dtype

    @property
    def type(self) -> Type:
        return self.base.type


def whole_tile(memory: Value, origin: Origin) -> Tile:
    """All of a memory tensor."""
    zero = Immediate(0, INDEX, origin)
    return Tile(memory, (zero,) * len(memory.type.shape), tuple(memory.type.shape), origin)


Operand = Value | Immediate | Tile
