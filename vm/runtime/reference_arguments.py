"""Arguments of a kernel on the reference machine: sizes are bound, shapes and facts are checked.

A size is bound where it stands alone in a shape or stride and checked everywhere else.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import gcd, prod
from typing import Any

import numpy as np

from vm.errors import Origin, VmError, fail
from vm.isa import syntax
from vm.isa.dtypes import DType, DTypeError
from vm.isa.kernel import Kernel
from vm.isa.packing import packed_size
from vm.isa.static import Environment, evaluate
from vm.isa.tensor import Tensor
from vm.isa.types import GlobalType, ScalarType, Value
from vm.runtime.races import Shadow
from vm.runtime.reference_memory import Buffer, MemoryTensor, row_major_strides
from vm.runtime.sizes import Sizes, broken_fact, facts_of

ALIGNMENT = 16
"""What NumPy's allocator keeps, in bytes: `aligned` facts are checked up to here, so that a slice
of an array is found out and an array of its own always passes."""


@dataclass
class Arguments:
    """What the parameters and sizes of a kernel stand for in one run."""

    sizes: dict[str, int] = field(default_factory=dict)
    values: dict[Value, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    grid: tuple[int, ...] = ()


def bind(kernel: Kernel, given: Mapping[str, Any], *, checks: bool = True) -> Arguments:
    """Binds `given` (by name: `Tensor`, NumPy array, number, or None for an `out` tensor that the
    machine is to make) to the parameters.

    Raises `VmError`: E0509 for what does not fit a parameter, E0306 for a fact that does not hold.
    """
    return _Binding(kernel, given, checks).arguments()


class _Binding:
    def __init__(self, kernel: Kernel, given: Mapping[str, Any], checks: bool):
        self.kernel = kernel
        self.given = given
        self.checks = checks
        self.bound = Arguments()
        self.sizes: Sizes[Origin] = Sizes(self.bound.sizes)

    def arguments(self) -> Arguments:
        kernel, bound = self.kernel, self.bound
        self._names()
        for size in kernel.sizes:
            if size.name in self.given:
                value = self._number(size, self.given[size.name])
                self._size(size.name, value, size, f"{size.name} = {value} is given")
        for parameter in kernel.parameters:
            if isinstance(parameter.type, ScalarType):
                value = self._number(parameter, self.given[parameter.name])
                bound.values[parameter] = bound.sizes[parameter.name] = value
        tensors = [p for p in kernel.parameters if not isinstance(p.type, ScalarType)]
        # Bytes of packed types do not say how long a row is: other arguments may.
        for late in (False, True):
            for parameter in tensors:
                value = self.given[parameter.name]
                raw = isinstance(value, np.ndarray) and parameter.type.dtype.is_packed
                if value is not None and raw == late:
                    self._tensor(parameter, self._as_tensor(parameter, value))
        for size in kernel.sizes:
            if size.name not in bound.sizes:
                raise fail(
                    "E0509", f"the size {size.name} is not known", size.origin,
                    "stands alone in no given argument", fix=f"give {size.name}=... as well",
                )  # fmt: skip
            bound.values[size] = bound.sizes[size.name]
        for parameter in tensors:
            self._shape(parameter)
        for parameter in tensors:
            if isinstance(parameter.type, GlobalType):
                bound.values[parameter] = self._memory(parameter)
        self._overlaps()
        self._facts()
        bound.grid = tuple(self._extent(extent, kernel.origin) for extent in kernel.grid)
        return bound

    def _names(self) -> None:
        known = {p.name for p in (*self.kernel.parameters, *self.kernel.sizes)}
        for name in self.given:
            if name not in known:
                raise fail(
                    "E0509", f"`{self.kernel.name}` has no parameter `{name}`", self.kernel.origin,
                    "this program",
                    fix="it has: " + ", ".join(p.name for p in self.kernel.parameters),
                )  # fmt: skip
        for parameter in self.kernel.parameters:
            if parameter.name not in self.given:
                raise self._misfit(parameter, f"`{parameter.name}` is not given", "give it")
            optional = getattr(parameter.type, "access", None) == "out"
            if self.given[parameter.name] is None and not optional:
                raise self._misfit(
                    parameter, f"`{parameter.name}` is None, which only `out` tensors may be",
                    "give a tensor",
                )  # fmt: skip

    def _misfit(
        self, parameter: Value, message: str, fix: str,
        others: tuple[tuple[Origin | None, str], ...] = (),
    ) -> VmError:  # fmt: skip
        return fail(
            "E0509", message, parameter.origin, f"is {parameter.type}", others=others,
            notes=(f"in a run of `{self.kernel.name}`",), fix=fix,
        )  # fmt: skip

    # --- numbers ---
    def _number(self, parameter: Value, value: Any) -> int | float | bool:
        dtype = parameter.type.dtype
        if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0:
            value = value.item()
        if not is_number_of(value, dtype):
            raise self._misfit(
                parameter, f"`{parameter.name}` is {dtype.name}, not {value!r}",
                f"give a number that {dtype.name} holds",
            )  # fmt: skip
        return rounded_number(value, dtype)

    def _size(self, name: str, value: int, parameter: Value, how: str) -> None:
        if not self.sizes.bind(name, value, parameter.origin, how):
            place, earlier = self.sizes.bound_by[name]
            known = self.sizes.values[name]
            raise self._misfit(
                parameter, f"{name} is {value} in `{parameter.name}` and {known} elsewhere: "
                f"{how}, but {earlier}", "give tensors whose shapes agree", ((place, earlier),),
            )  # fmt: skip

    # --- tensors ---
    def _as_tensor(self, parameter: Value, value: Any) -> Tensor:
        dtype: DType = parameter.type.dtype
        rank = len(parameter.type.shape)
        try:
            if not isinstance(value, Tensor):
                shape = np.shape(value)
                if dtype.is_packed and len(shape) == rank and rank:
                    shape = (*shape[:-1], self._row(parameter, shape[-1]))
                value = Tensor(dtype, shape, value)
        except DTypeError as error:
            raise self._misfit(parameter, str(error), "give an array of that kind") from None
        if value.dtype != dtype or len(value.shape) != rank:
            raise self._misfit(
                parameter, f"`{parameter.name}` is {parameter.type}, not {value!r}",
                "give a tensor of that dtype and rank",
            )  # fmt: skip
        return value

    def _row(self, parameter: Value, size: int) -> int:
        """The elements in rows of `size` bytes: what is known of the size, else all that fit."""
        dtype, extent = parameter.type.dtype, parameter.type.shape[-1]
        known = extent.text in self.bound.sizes if isinstance(extent, syntax.Name) else False
        if known or isinstance(extent, int):
            count = self._extent(extent, parameter.origin)
            if packed_size(count, dtype) == size:
                return count
        return size * 8 // dtype.bits

    def _tensor(self, parameter: Value, tensor: Tensor) -> None:
        self.bound.tensors[parameter.name] = tensor
        type_ = parameter.type
        how = f"`{parameter.name}` is {tensor!r}"
        for extent, actual in zip(type_.shape, tensor.shape, strict=True):
            if isinstance(extent, syntax.Name):
                self._size(extent.text, actual, parameter, how)
        for stride, actual in zip(
            getattr(type_, "strides", None) or (), self._strides(tensor), strict=False
        ):
            if isinstance(stride, syntax.Name):
                self._size(stride.text, actual, parameter, f"{how} with a stride of {actual}")

    def _strides(self, tensor: Tensor) -> tuple[int, ...]:
        """The strides of a tensor in elements."""
        if tensor.dtype.is_packed:
            rows = (s * 8 // tensor.dtype.bits for s in tensor.storage.strides[:-1])
            return (*rows, 1)
        return tuple(s // tensor.storage.itemsize for s in tensor.storage.strides)

    def _extent(self, extent: Any, origin: Origin) -> int:
        return extent_at_launch(extent, self.bound.sizes, origin)

    def _shape(self, parameter: Value) -> None:
        """Checks the shape of a tensor, or makes the tensor where it is left to the machine."""
        bound = self.bound
        wanted = tuple(self._extent(e, parameter.origin) for e in parameter.type.shape)
        tensor = bound.tensors.get(parameter.name)
        if tensor is None:
            bound.tensors[parameter.name] = empty_tensor(parameter.type.dtype, wanted)
        elif tensor.shape != wanted:
            raise self._misfit(
                parameter, f"`{parameter.name}` is {list(wanted)} here, not {list(tensor.shape)}",
                "give a tensor of that shape", tuple(self.sizes.bound_by.values()),
            )  # fmt: skip

    def _memory(self, parameter: Value) -> MemoryTensor:
        type_: GlobalType = parameter.type
        tensor = self.bound.tensors[parameter.name]
        storage = tensor.storage
        bits = tensor.dtype.bits
        if type_.strides is not None:
            wanted = tuple(self._extent(s, parameter.origin) for s in type_.strides)
            actual = self._strides(tensor)
            moving = zip(wanted, actual, tensor.shape, strict=True)
            if any(w != a for w, a, extent in moving if extent > 1):
                raise self._misfit(
                    parameter, f"`{parameter.name}` has strides {list(actual)}, not {list(wanted)}",
                    "give a tensor with those strides",
                )  # fmt: skip
            strides = tuple(stride * bits for stride in wanted)
        else:
            strides = row_major_strides(tensor.shape, tensor.dtype)
            if not storage.flags.c_contiguous:
                raise self._misfit(
                    parameter, f"`{parameter.name}` is not one contiguous piece of memory",
                    "copy it: numpy.ascontiguousarray(x), or declare its strides",
                )  # fmt: skip
        written = type_.is_written
        if written and not storage.flags.writeable:
            raise self._misfit(
                parameter, f"`{parameter.name}` is written, but the array is read-only",
                "give an array that may be written",
            )  # fmt: skip
        data = _bytes_of(storage)
        shadow = None
        if written and self.checks:
            unit = gcd(bits, *strides)
            shadow = Shadow(8 * len(data), unit, type_.access != "out")
        buffer = Buffer(parameter.name, "global", data, parameter.origin, shadow)
        return MemoryTensor(buffer, tensor.dtype, tensor.shape, strides)

    def _overlaps(self) -> None:
        placed = [
            (p, self.bound.values[p].buffer.data)
            for p in self.kernel.parameters
            if isinstance(p.type, GlobalType)
        ]
        for (first, data), (second, other) in combinations(placed, 2):
            written = first.type.is_written or second.type.is_written
            if written and np.may_share_memory(data, other):
                raise self._misfit(
                    second, f"`{first.name}` and `{second.name}` overlap in memory",
                    "give tensors of their own: one of them is written",
                    ((first.origin, f"is {first.type}"),),
                )  # fmt: skip

    # --- facts ---
    def _facts(self) -> None:
        for hint in self.kernel.where:
            if syntax.is_hint(hint) and hint.function == "aligned":
                self._alignment(hint)
        facts = facts_of(self.kernel.where, lambda node, values: evaluate(
            node, Environment(dict(values))
        ))  # fmt: skip
        broken = broken_fact(facts, [s.name for s in self.kernel.sizes], self.bound.sizes)
        if broken is not None:
            raise fail(
                "E0306", f"`{self.kernel.name}` needs {broken.fact.text}, here {broken.shown}",
                broken.fact.origin, "does not hold",
                others=tuple(self.sizes.bound_by[name] for name in broken.sizes),
                fix=broken.fix,
            )  # fmt: skip

    def _alignment(self, fact: syntax.Call) -> None:
        name, number = fact.arguments[0].text, fact.arguments[1].value
        storage = self.bound.tensors[name].storage
        address = storage.__array_interface__["data"][0]
        if storage.size and address % gcd(number, ALIGNMENT):
            raise fail(
                "E0306", f"`{name}` begins at an address that is no multiple of {number}",
                fact.origin, "does not hold",
                fix="copy the tensor: a slice of an array begins in the middle of its memory",
            )  # fmt: skip


def extent_at_launch(extent: Any, sizes: dict[str, int], origin: Origin) -> int:
    """The value of a number or of an expression over sizes; raises E0509 where it is no extent."""
    if isinstance(extent, syntax.Expression):
        origin = extent.origin
        extent = evaluate(extent, Environment(dict(sizes)))
    if not isinstance(extent, int) or isinstance(extent, bool) or extent < 0:
        shown = ", ".join(f"{n} = {v}" for n, v in sizes.items())
        raise fail(
            "E0509", f"an extent of {extent}", origin, "here", notes=(f"with {shown}",),
            fix="give sizes that make it a whole number from 0 up",
        )  # fmt: skip
    return extent


def is_number_of(value: Any, dtype: DType) -> bool:
    """Whether a scalar of that dtype can be given as `value`: floats are rounded, integers not."""
    if dtype.kind == "bool" or isinstance(value, bool):
        return dtype.kind == "bool" and isinstance(value, bool)
    if dtype.is_integer:
        return isinstance(value, int) and dtype.min <= value <= dtype.max
    return isinstance(value, (int, float))


def rounded_number(value: Any, dtype: DType) -> Any:
    """The number as the dtype holds it."""
    if not dtype.is_float or dtype.name == "f64":
        return value if not dtype.is_float else float(value)
    overflow = "ieee" if dtype.kind == "float" else "saturate"
    rounding = "nearest_entry" if dtype.kind == "codebook" else "nearest_even"
    return dtype.decode(dtype.encode(np.float64(value), overflow, rounding))[()].item()


def empty_tensor(dtype: DType, shape: tuple[int, ...]) -> Tensor:
    """A tensor whose bytes are 0."""
    stored = shape
    if dtype.is_packed:
        stored = (*shape[:-1], packed_size(shape[-1], dtype))
    return Tensor(dtype, shape, np.zeros(stored, dtype.memory))


def _bytes_of(storage: np.ndarray) -> np.ndarray:
    """The memory of an array from its first element to its last, gaps included: uint8[bytes]."""
    if storage.flags.c_contiguous:
        return storage.reshape(-1).view(np.uint8)
    if not prod(storage.shape):
        return np.zeros(0, np.uint8)
    reach = sum((n - 1) * s for n, s in zip(storage.shape, storage.strides, strict=True))
    address = storage.__array_interface__["data"][0]
    raw = (ctypes.c_uint8 * (reach + storage.itemsize)).from_address(address)
    return np.frombuffer(raw, np.uint8)
