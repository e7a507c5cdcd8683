"""Global and shared memory: views, allocation, and moving tiles.

A tile access of global memory clips: outside the tensor it reads 0 and writes nothing. Outside a
shared tensor it is a fault. `inside` says that no element lies outside, which is then a fault too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vm.isa.dtypes import dtype
from vm.isa.instruction import Attribute, Instruction, Operand, describe, layout_of, shape_of
from vm.isa.layout_constraints import SAME, Indexes, LayoutConstraint, chosen
from vm.isa.registers import checked_axis, given_layout
from vm.isa.types import (
    INDEX,
    GlobalType,
    Immediate,
    RegisterType,
    ScalarType,
    SharedType,
    Tile,
    Type,
)


def require_constant_extents(instruction: Instruction, field: str) -> None:
    """Refuses a tile that takes a whole dimension which is as long as a size."""
    tile: Tile = getattr(instruction, field)
    for dimension, extent in enumerate(tile.extents):
        if extent is not None and not isinstance(extent, int):
            raise instruction.refuse(
                "E0303", f"dimension {dimension} of this tile is as long as a size", field,
                "its extent must be constant",
                others=((tile.base.origin, f"`{tile.base.name}` is {tile.base.type}"),),
                fix="take a tile of constant extent: `offset +: 128`",
            )  # fmt: skip


def require_writable(instruction: Instruction, field: str) -> None:
    """Refuses to write a global parameter that is not marked out or inout."""
    tile: Tile = getattr(instruction, field)
    type_ = tile.base.type
    if isinstance(type_, GlobalType) and not type_.is_written:
        raise instruction.refuse(
            "E0214", f"`{tile.base.name}` is only read", field, "written here",
            others=((tile.base.origin, "not marked out or inout"),),
            fix=f"declare it out({type_.space}(...)) or inout(...)",
        )  # fmt: skip


def require_same_element(instruction: Instruction, tile: str, value: str) -> None:
    """Refuses a value whose dtype or shape is not that of the tile it goes to."""
    target, source = getattr(instruction, tile), getattr(instruction, value)
    instruction.give_dtype(value, target.dtype)
    source = getattr(instruction, value)
    if instruction.dtype_of(source) != target.dtype:
        raise instruction.refuse(
            "E0205", f"{describe(source)} does not fit a tensor of {target.dtype.name}", value,
            f"this is {describe(source)}",
            others=((instruction.place(tile), f"this is {target.dtype.name}"),),
            fix=f"cast it: cast(x, {target.dtype.name})",
        )  # fmt: skip
    if shape_of(source) not in ((), target.shape):
        raise instruction.refuse(
            "E0302", f"a tensor of {list(shape_of(source))} for a tile of {list(target.shape)}",
            value, f"{list(shape_of(source))}",
            others=((instruction.place(tile), f"{list(target.shape)}"),),
            fix="make the shapes equal",
        )  # fmt: skip


class SharedAllocate(Instruction, opcode="shared_alloc"):
    """A tensor in shared memory, alive until the end of the block of statements it stands in.

    Its contents are undefined until written. Without a layout the compiler chooses one that is
    free of bank conflicts for the accesses it sees. `address` is where it begins in the block's
    shared memory, in bytes, once the compiler has planned it.
    """

    dtype = Attribute("dtype")
    shape = Attribute("shape")
    layout = Attribute("layout", None)
    address = Attribute("integer", None)

    def check(self) -> Type:
        if self.scope.copies > 1:
            raise self.refuse(
                "E0403", "a group in copies cannot allocate: each copy would need its own", None,
                "in a group with copies",
                fix="allocate before the groups, with a dimension for group_index()",
            )  # fmt: skip
        if self.layout is not None and tuple(self.layout.shape) != self.shape:
            raise self.refuse(
                "E0304", f"a layout of {list(self.layout.shape)} for a tensor of "
                f"{list(self.shape)}", "layout", "this layout", fix="make the shapes equal",
            )  # fmt: skip
        return SharedType(self.dtype, self.shape, self.layout)

    def run(self, machine: Any) -> Any:
        return machine.allocate_shared(self.result)


class GlobalView(Instruction, opcode="global_view"):
    """Part of a global tensor's memory, seen with another dtype and shape.

    It begins `offset` elements (of its own dtype) and `byte_offset` bytes behind the beginning of
    `base` and is row-major unless `strides` are given. It may not reach outside the buffer of
    `base`.
    """

    base = Operand("global")
    dtype = Attribute("dtype")
    offset = Operand("scalar", optional=True)
    byte_offset = Operand("scalar", optional=True)
    strides = Attribute("shape", None)
    extents = Operand("scalar", repeated=True)

    def check(self) -> Type:
        for extent in self.extents:
            constant = isinstance(extent, Immediate)
            whole = type(extent.value) is int if constant else extent.type.dtype.is_integer
            if not whole or (constant and extent.value < 0):
                raise self.refuse(
                    "E0205", "an extent is a whole number", "extents",
                    f"this is {describe(extent)}",
                    fix="write a number such as 64, or an integer scalar",
                )  # fmt: skip
        if not self.extents:
            raise self.refuse(
                "E0209", "a view has a shape", None, "no extents",
                fix="write global_view(A, f16, M, N)",
            )  # fmt: skip
        if self.strides is not None and len(self.strides) != len(self.extents):
            raise self.refuse(
                "E0302", f"{len(self.strides)} strides for {len(self.extents)} extents", "strides",
                "here", fix="give one stride for each extent",
            )  # fmt: skip
        base: GlobalType = self.base.base.type
        shape = tuple(e.value if isinstance(e, Immediate) else e for e in self.extents)
        return GlobalType(self.dtype, shape, base.access, self.strides)

    def run(self, machine: Any) -> Any:
        return machine.global_view(self)


class Load(Instruction, opcode="load"):
    """The elements of a tile as a register tensor."""

    source = Operand("global", "shared")
    layout = Attribute("layout", None)
    inside = Attribute("boolean", False)

    def check(self) -> Type:
        require_constant_extents(self, "source")
        shape = self.source.shape
        return RegisterType(self.source.dtype, shape, given_layout(self, shape))

    def constrain(self) -> LayoutConstraint:
        """Any layout."""
        return LayoutConstraint(
            self.source.shape, choices=chosen(self.layout), accesses="source"
        )

    def run(self, machine: Any) -> np.ndarray:
        return machine.read(self.source, self, "source", self.inside)


class Store(Instruction, opcode="store"):
    """Writes a register tensor, or one scalar everywhere, to a tile."""

    pure = False
    target = Operand("global", "shared")
    value = Operand("register", "scalar")
    inside = Attribute("boolean", False)

    def check(self) -> None:
        require_constant_extents(self, "target")
        require_writable(self, "target")
        require_same_element(self, "target", "value")

    def constrain(self) -> LayoutConstraint | None:
        """Any layout."""
        if not isinstance(self.value.type, RegisterType):
            return None
        return LayoutConstraint(self.value.type.shape, {"value": SAME}, None, accesses="target")

    def run(self, machine: Any) -> None:
        machine.write(self.target, machine.value(self.value), self, "target", self.inside)


class LoadScalar(Instruction, opcode="load_scalar"):
    """One element of a global or shared tensor as a scalar; outside the tensor it is a fault."""

    source = Operand("global", "shared")

    def check(self) -> Type:
        if any(extent is not None for extent in self.source.extents):
            raise self.refuse(
                "E0302", "a scalar is one element", "source", "this is a tile",
                fix="give one index for each dimension: A[i, j]",
            )  # fmt: skip
        return ScalarType(self.source.dtype)

    def run(self, machine: Any) -> Any:
        return machine.read(self.source, self, "source", True).reshape(()).item()


def check_indices(instruction: Instruction, tile: str) -> int:
    """Checks `indices` (a vector of i32) and `axis` against a tile; returns the axis."""
    target: Tile = getattr(instruction, tile)
    shape = target.shape
    axis = checked_axis(instruction, instruction.axis, shape)
    type_ = instruction.indices.type
    if type_.dtype != INDEX or len(type_.shape) != 1:
        raise instruction.refuse(
            "E0205", "indices are a vector of i32", "indices", f"this is {type_}",
            fix="cast to i32 and reshape to one dimension",
        )  # fmt: skip
    return axis


def gathered_shape(tile: Tile, axis: int, count: int) -> tuple[Any, ...]:
    return tuple(count if a == axis else e for a, e in enumerate(tile.shape))


class Gather(Instruction, opcode="gather"):
    """The slices of a tile that `indices` name along `axis`: result[.., i, ..] is
    source[.., indices[i], ..]. An index outside the tile is a fault."""

    source = Operand("global", "shared")
    indices = Operand("register")
    axis = Attribute("integer", 0)
    layout = Attribute("layout", None)

    def check(self) -> Type:
        self.axis = check_indices(self, "source")
        shape = gathered_shape(self.source, self.axis, self.indices.type.shape[0])
        if not all(isinstance(extent, int) for extent in shape):
            require_constant_extents(self, "source")
        return RegisterType(self.source.dtype, shape, given_layout(self, shape))

    def constrain(self) -> LayoutConstraint:
        """Each thread has the indices of the elements that it holds."""
        return LayoutConstraint(
            self.result.type.shape, {"indices": Indexes(self.axis)}, choices=chosen(self.layout),
            accesses="source",
        )  # fmt: skip

    def run(self, machine: Any) -> np.ndarray:
        return machine.gather(self.source, machine.value(self.indices), self.axis, self)


class Scatter(Instruction, opcode="scatter"):
    """Writes value[.., i, ..] to target[.., indices[i], ..].

    With `op` "store" two equal indices are a race; the others combine atomically with what is
    there. An index outside the tile is a fault.
    """

    pure = False
    target = Operand("global", "shared")
    indices = Operand("register")
    value = Operand("register")
    axis = Attribute("integer", 0)
    op = Attribute("string", "store", ("store", "add", "max", "min"))

    def check(self) -> None:
        require_writable(self, "target")
        self.axis = check_indices(self, "target")
        shape = gathered_shape(self.target, self.axis, self.indices.type.shape[0])
        if self.op != "store":
            require_atomic(self)
        if self.value.type.shape != shape or self.value.type.dtype != self.target.dtype:
            raise self.refuse(
                "E0302", f"{self.value.type} for slices of {self.target.dtype.name}{list(shape)}",
                "value", "this value", fix="make dtype and shape equal",
            )  # fmt: skip

    def constrain(self) -> LayoutConstraint:
        """Each thread has the indices of the elements that it holds."""
        return LayoutConstraint(
            self.value.type.shape, {"indices": Indexes(self.axis), "value": SAME}, None,
            accesses="target",
        )  # fmt: skip

    def run(self, machine: Any) -> None:
        value = machine.value(self.value)
        machine.scatter(self.target, machine.value(self.indices), value, self.axis, self.op, self)


class Atomic(Instruction, opcode="atomic"):
    """Combines a value with each element of a tile, indivisibly, and gives what was there before.

    `scope` says who sees it as one step: the block, or the device. Atomic accesses never race with
    each other; their order between blocks is not defined. `layout` says who holds what was there,
    where the value is a scalar.
    """

    pure = False
    target = Operand("global", "shared")
    value = Operand("register", "scalar")
    op = Attribute("string", "add", ("add", "max", "min", "exchange", "and", "or", "xor"))
    scope_of = Attribute("string", "device", ("block", "device"))
    layout = Attribute("layout", None)

    def check(self) -> Type:
        require_constant_extents(self, "target")
        require_writable(self, "target")
        require_same_element(self, "target", "value")
        require_atomic(self)
        if not self.target.shape:
            return ScalarType(self.target.dtype)
        given = given_layout(self, self.target.shape)
        layout = given if given is not None else layout_of(self.value)
        return RegisterType(self.target.dtype, self.target.shape, layout)

    def constrain(self) -> LayoutConstraint | None:
        """What was there before has the layout of the value."""
        if not self.target.shape:
            return None
        operands = {"value": SAME} if isinstance(self.value.type, RegisterType) else {}
        return LayoutConstraint(
            self.target.shape, operands, choices=chosen(self.layout), accesses="target"
        )

    def run(self, machine: Any) -> Any:
        before = machine.atomic(self.target, machine.value(self.value), self.op, self)
        return before if self.target.shape else before.reshape(()).item()


ATOMIC = ("i32", "u32", "i64", "u64", "f16", "bf16", "f32", "f64")
"""The dtypes of elements that are accessed atomically; of floats, not bit by bit."""


def require_atomic(instruction: Atomic | Scatter) -> None:
    """Raises E0205 where there is no atomic access of the kind to the target's elements."""
    kind, op = instruction.target.dtype, instruction.op
    of_bits = op in ("and", "or", "xor")
    if kind.name in ATOMIC and not (of_bits and kind.is_float):
        return
    known = [name for name in ATOMIC if not (of_bits and dtype(name).is_float)]
    raise instruction.refuse(
        "E0205", f"no atomic access `{op}` to {kind.name}", "target", "here",
        fix=f"use {', '.join(known[:-1])} or {known[-1]}",
    )  # fmt: skip


def combine(op: str, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """What an atomic access leaves behind."""
    functions = {
        "add": np.add, "max": np.fmax, "min": np.fmin, "exchange": lambda a, b: b,
        "store": lambda a, b: b, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    }  # fmt: skip
    return functions[op](old, new)


