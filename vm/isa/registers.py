"""Making register tensors, and changing what they are seen as or who holds them."""

from __future__ import annotations

from functools import lru_cache
from math import gcd, prod
from typing import Any

import numpy as np

from vm.isa.conversion import convert
from vm.isa.dtypes import DType, DTypeError, dtype
from vm.isa.elementwise import BOOL, F32, F64, round_result
from vm.isa.instruction import Attribute, Instruction, Operand, describe, layout_of, shape_of
from vm.isa.layout_constraints import (
    SAME,
    Broadcasts,
    Given,
    LayoutConstraint,
    Permutes,
    Reduces,
    Repeats,
    Reshapes,
    chosen,
    reshaped,
    used_as_it_is,
)
from vm.isa.type_expressions import check_register_layout
from vm.isa.types import INDEX, Immediate, RegisterType, ScalarType, Type
from vm.layouts import LayoutError, RegisterLayout

U32 = dtype("u32")


class Fill(Instruction, opcode="fill"):
    """A tensor whose elements all have one value.

    Where the tensor goes to a variable of declared type, dtype and shape may be left out.
    """

    value = Operand("scalar")
    dtype = Attribute("dtype", None)
    shape = Attribute("shape", None)
    layout = Attribute("layout", None)

    def check(self) -> Type:
        expected = self.expected if isinstance(self.expected, RegisterType) else None
        if self.dtype is None:
            self.dtype = expected.dtype if expected else self.dtype_of(self.value)
        if self.shape is None and expected is not None:
            self.shape = expected.shape
        if self.shape is None or self.dtype is None:
            raise self.refuse(
                "E0209", "the dtype and shape of this tensor are not known", None, "here",
                fix="write fill(0.0, f32, [64, 64]), or declare the variable's type",
            )  # fmt: skip
        if self.dtype.kind == "codebook" and isinstance(self.value, Immediate):
            raise self.refuse(
                "E0205", f"a number where codes of {self.dtype.name} are meant", "value",
                "this value", fix=f"fill in a code: view(fill(0, u{self.dtype.bits}, ..), "
                f"{self.dtype.name})",
            )  # fmt: skip
        self.give_dtype("value", self.dtype)
        if self.dtype_of(self.value) != self.dtype:
            raise self.refuse(
                "E0205", f"a tensor of {self.dtype.name} filled with {describe(self.value)}",
                "value", "this value", fix=f"cast it: cast(x, {self.dtype.name})",
            )  # fmt: skip
        return RegisterType(self.dtype, self.shape, given_layout(self, self.shape))

    def constrain(self) -> LayoutConstraint:
        """Any layout."""
        return LayoutConstraint(self.shape, choices=chosen(self.layout))

    def run(self, machine: Any) -> np.ndarray:
        if self.dtype.is_integer or self.dtype.kind == "bool":
            return np.full(self.shape, machine.value(self.value), self.dtype.array)
        value = convert(np.float64(machine.value(self.value)), F64, self.dtype, "ieee")
        return np.full(self.shape, value, self.dtype.array)


def given_layout(instruction: Instruction, shape: tuple[int, ...]) -> RegisterLayout | None:
    """The `layout` attribute, checked to fit the shape and the group's threads."""
    layout = instruction.layout
    if layout is None:
        return None
    place = instruction.place("layout")
    check_register_layout(layout, shape, place)
    if layout.threads != instruction.scope.threads:
        raise instruction.refuse(
            "E0304", f"a layout over {layout.threads} threads in a group of "
            f"{instruction.scope.threads}", "layout", f"{layout}",
            fix=f"multiply it by spatial(...) or replicated(...) to "
            f"{instruction.scope.threads} threads",
        )  # fmt: skip
    return layout


class Iota(Instruction, opcode="iota"):
    """The position along `axis`, as each element's value: 0, 1, 2, ..."""

    dtype = Attribute("dtype")
    shape = Attribute("shape")
    axis = Attribute("integer", 0)
    layout = Attribute("layout", None)

    def check(self) -> Type:
        self.axis = checked_axis(self, self.axis, self.shape)
        largest = self.shape[self.axis] - 1
        if not self.dtype.is_integer or largest > self.dtype.max:
            raise self.refuse(
                "E0205", f"{self.dtype.name} cannot count to {largest}", "dtype", "here",
                fix="use i32",
            )  # fmt: skip
        return RegisterType(self.dtype, self.shape, given_layout(self, self.shape))

    def constrain(self) -> LayoutConstraint:
        """Any layout."""
        return LayoutConstraint(self.shape, choices=chosen(self.layout))

    def run(self, machine: Any) -> np.ndarray:
        line = np.arange(self.shape[self.axis], dtype=self.dtype.array)
        line = line.reshape([-1 if a == self.axis else 1 for a in range(len(self.shape))])
        return np.broadcast_to(line, self.shape)


def checked_axis(instruction: Instruction, axis: int, shape: tuple[int, ...]) -> int:
    """The axis counted from 0; raises E0302 where the shape has none such."""
    if not -len(shape) <= axis < len(shape):
        raise instruction.refuse(
            "E0302", f"axis {axis} of a tensor of {len(shape)} dimensions", "axis", "here",
            fix=f"an axis from 0 to {len(shape) - 1}" if shape else "scalars have no axes",
        )  # fmt: skip
    return axis % len(shape)


class Cast(Instruction, opcode="cast"):
    """Each element as the nearest value of another dtype.

    Rounds to nearest, ties to even, subnormals included. Out of range, `saturate` gives the
    largest finite value of the same sign (NaN gives the largest value where the dtype has no NaN,
    0 for integers); `ieee` gives infinity, or NaN, where the dtype has them. `toward_zero` drops
    what does not fit. `nearest_entry` takes a codebook's entry at the least distance. `stochastic`
    takes the neighbour away from zero where random / 2^32 is less than the exact fraction of the
    way to it; `random` is one u32 for each element, such as `philox` makes.
    """

    x = Operand("register", "scalar")
    dtype = Attribute("dtype")
    overflow = Attribute("string", "saturate", ("saturate", "ieee"))
    rounding = Attribute(
        "string", "nearest_even", ("nearest_even", "toward_zero", "stochastic", "nearest_entry")
    )
    random = Operand("register", "scalar", optional=True)

    def check(self) -> Type:
        if isinstance(self.x, Immediate) and self.x.dtype is None:
            self.give_dtype("x", INDEX if isinstance(self.x.value, int) else F32)
        source = self.dtype_of(self.x)
        self._check_random()
        none = np.zeros(0, source.array)
        bits = None if self.random is None else np.zeros(0, np.uint32)
        try:
            convert(none, source, self.dtype, self.overflow, self.rounding, bits)
        except DTypeError as error:
            fix = "choose another rounding, or another dtype"
            if self.dtype.kind == "codebook":
                fix = 'write cast(x, dtype, rounding="nearest_entry")'
            raise self.refuse(
                "E0213", str(error), None, f"from {source.name} to {self.dtype.name}", fix=fix,
            ) from None  # fmt: skip
        if isinstance(self.x.type, ScalarType):
            return ScalarType(self.dtype)
        return RegisterType(self.dtype, self.x.type.shape, layout_of(self.x))

    def _check_random(self) -> None:
        """Refuses random bits that no rounding uses, or that are not one u32 for each element."""
        if (self.random is None) == (self.rounding == "stochastic"):
            raise self.refuse(
                "E0213", "random bits and stochastic rounding go together",
                None if self.random is None else "random",
                f"{'no' if self.random is None else 'with'} random bits, rounding is "
                f"{self.rounding}",
                fix='cast(x, dtype, rounding="stochastic", random=philox(seed, counter))',
            )  # fmt: skip
        if self.random is None:
            return
        self.give_dtype("random", U32)
        if self.dtype_of(self.random) != U32 or shape_of(self.random) != shape_of(self.x):
            raise self.refuse(
                "E0205", "random bits are one u32 for each element", "random",
                f"this is {describe(self.random)}",
                others=((self.place("x"), f"this is {describe(self.x)}"),),
                fix="make them with philox, from a counter of the same shape",
            )  # fmt: skip

    def constrain(self) -> LayoutConstraint | None:
        """Every element stays where it is, and its random bits are there too."""
        if not isinstance(self.x.type, RegisterType):
            return None
        operands = {"x": SAME} if self.random is None else {"x": SAME, "random": SAME}
        return LayoutConstraint(self.x.type.shape, operands)

    def run(self, machine: Any) -> Any:
        value = machine.value(self.x)
        source = self.dtype_of(self.x)
        array = np.asarray(value, source.array)
        bits = None if self.random is None else np.asarray(machine.value(self.random), np.uint32)
        result = convert(array, source, self.dtype, self.overflow, self.rounding, bits)
        return result if isinstance(value, np.ndarray) else result.item()


class View(Instruction, opcode="view"):
    """The same bits, held by the same threads, seen as another dtype in another layout.

    Each thread's slots, packed from bit 0 up, are cut anew into slots of `dtype`. The bits per
    thread and the threads must agree, and where threads hold copies in the new layout they must
    have held the same bits in the old one.
    """

    # Other bits are other values: what the old ones were made of says nothing of them.
    magnitude = None
    x = Operand("register")
    dtype = Attribute("dtype")
    layout = Attribute("layout")

    def check(self) -> Type:
        source = layout_of(self.x)
        if source is None:
            raise self.refuse(
                "E0304", "a view needs to know who holds the elements of its operand", "x",
                "its layout is not known here",
                others=((self.x.origin, "made here"),),
                fix="give the layout where it is made, such as load(..., layout=...)",
            )  # fmt: skip
        if not isinstance(self.layout, RegisterLayout):
            check_register_layout(self.layout, (), self.place("layout"))
        old, new = source.slots * self.x.type.dtype.bits, self.layout.slots * self.dtype.bits
        if source.threads != self.layout.threads or old != new:
            raise self.refuse(
                "E0310", "a view keeps the bits of each thread, these differ", "layout",
                f"{new} bits in each of {self.layout.threads} threads",
                others=((self.place("x"), f"{old} bits in each of {source.threads} threads"),),
                fix=f"a layout of {source.threads} threads and {old // self.dtype.bits} slots of "
                f"{self.dtype.name}, such as packed(...)",
            )  # fmt: skip
        if view_plan(source, self.x.type.dtype, self.layout, self.dtype) is None:
            raise self.refuse(
                "E0311", "threads that hold copies in the new layout held different bits", "layout",
                f"{self.layout}", others=((self.place("x"), f"{source}"),),
                fix="use a layout with the same replication",
            )  # fmt: skip
        return RegisterType(self.dtype, self.layout.shape, self.layout)

    def constrain(self) -> LayoutConstraint:
        """Both layouts are given: the operand's is the one that was known here."""
        return LayoutConstraint(
            self.layout.shape, {"x": Given(layout_of(self.x))}, choices=(self.layout,),
            reason="the view gives both layouts",
        )  # fmt: skip

    def run(self, machine: Any) -> np.ndarray:
        source = self.x.type
        plan = view_plan(source.layout, source.dtype, self.layout, self.dtype)
        codes = exact_codes(machine.value(self.x), source.dtype).reshape(-1)
        return self.dtype.decode(plan.codes(codes, self.dtype)).reshape(self.layout.shape)


def exact_codes(values: np.ndarray, dtype: DType) -> np.ndarray:
    """The codes of values that are values of `dtype` already, infinities among them."""
    if dtype.kind == "codebook":
        return dtype.encode(values, rounding="nearest_entry")
    return dtype.encode(values, "ieee" if dtype.is_float else "saturate")


class _ViewPlan:
    """For each unit of bits of each new element: the old element and the bit it begins at."""

    def __init__(self, element: np.ndarray, shift: np.ndarray, unit: int):
        self.element, self.shift, self.unit = element, shift, unit

    def codes(self, old: np.ndarray, dtype: DType) -> np.ndarray:
        mask = old.dtype.type((1 << self.unit) - 1)
        result = np.zeros(self.element.shape[0], dtype.storage)
        for position in range(self.element.shape[1]):
            unit = old[self.element[:, position]] >> self.shift[:, position].astype(old.dtype)
            shift = dtype.storage.type(position * self.unit)
            result |= (unit & mask).astype(dtype.storage) << shift
        return result


@lru_cache(maxsize=256)
def view_plan(
    old: RegisterLayout, old_dtype: DType, new: RegisterLayout, new_dtype: DType
) -> _ViewPlan | None:
    """How to compute a view; None where copies in the new layout would differ."""
    unit = gcd(old_dtype.bits, new_dtype.bits)
    per_old, per_new = old_dtype.bits // unit, new_dtype.bits // unit
    # Number the units of each thread: unit u of thread t is part of old slot u // per_old.
    units = np.arange(old.slots * per_old)
    origin = old.flat()[:, units // per_old] * per_old + units % per_old
    per_element = origin.reshape(new.threads, new.slots, per_new)
    flat = new.flat()
    sources = np.zeros((prod(new.shape), per_new), np.int64)
    sources[flat.reshape(-1)] = per_element.reshape(-1, per_new)
    if not np.array_equal(sources[flat], per_element):
        return None
    return _ViewPlan(sources // per_old, (sources % per_old) * unit, unit)


class Relayout(Instruction, opcode="relayout"):
    """The same tensor, held by other threads or in other slots."""

    x = Operand("register")
    layout = Attribute("layout")

    def check(self) -> Type:
        shape = self.x.type.shape
        return RegisterType(self.x.type.dtype, shape, given_layout(self, shape))

    def constrain(self) -> LayoutConstraint:
        """From any layout to the given one."""
        return LayoutConstraint(self.x.type.shape, choices=(self.layout,))

    def run(self, machine: Any) -> np.ndarray:
        return machine.value(self.x)


class Transpose(Instruction, opcode="transpose"):
    """The tensor with its axes in another order (reversed where none is given); no data moves."""

    x = Operand("register")
    order = Attribute("shape", None)

    def check(self) -> Type:
        shape = self.x.type.shape
        if self.order is None:
            self.order = tuple(reversed(range(len(shape))))
        if sorted(self.order) != list(range(len(shape))):
            raise self.refuse(
                "E0302", f"{list(self.order)} is no order of {len(shape)} axes", "order", "here",
                fix=f"name each axis from 0 to {len(shape) - 1} once",
            )  # fmt: skip
        layout = layout_of(self.x)
        return RegisterType(
            self.x.type.dtype, tuple(shape[axis] for axis in self.order),
            layout.permute(*self.order) if layout is not None else None,
        )  # fmt: skip

    def constrain(self) -> LayoutConstraint:
        """The result's layout is the operand's with its axes in the new order."""
        return LayoutConstraint(self.result.type.shape, {"x": Permutes(self.order)})

    def run(self, machine: Any) -> np.ndarray:
        return np.transpose(machine.value(self.x), self.order)


class Reshape(Instruction, opcode="reshape"):
    """The same elements in row-major order, with other extents; no data moves."""

    x = Operand("register")
    shape = Attribute("shape")

    def check(self) -> Type:
        old = self.x.type.shape
        if prod(old) != prod(self.shape):
            raise self.refuse(
                "E0302", f"{list(old)} has {prod(old)} elements, {list(self.shape)} has "
                f"{prod(self.shape)}", "shape", "here",
                others=((self.place("x"), f"{list(old)}"),), fix="keep the number of elements",
            )  # fmt: skip
        layout = layout_of(self.x)
        if layout is not None:
            try:
                layout = reshaped(layout, self.shape)
            except LayoutError:
                layout = None  # inference finds one, or says that a relayout is needed
        return RegisterType(self.x.type.dtype, self.shape, layout)

    def constrain(self) -> LayoutConstraint:
        """The result's layout is the operand's, read under the new shape."""
        return LayoutConstraint(self.shape, {"x": Reshapes(self.x.type.shape, self.shape)})

    def run(self, machine: Any) -> np.ndarray:
        return np.reshape(machine.value(self.x), self.shape)


class Broadcast(Instruction, opcode="broadcast"):
    """The tensor repeated along axes of extent 1 (or missing in front) to a larger shape.

    `layout` says who holds the result.
    """

    x = Operand("register")
    shape = Attribute("shape")
    layout = Attribute("layout", None)

    def check(self) -> Type:
        old = self.x.type.shape
        try:
            fits = np.broadcast_shapes(old, self.shape) == self.shape
        except ValueError:
            fits = False
        if not fits:
            raise self.refuse(
                "E0302", f"{list(old)} does not broadcast to {list(self.shape)}", "shape", "here",
                others=((self.place("x"), f"{list(old)}"),),
                fix="extents must be equal, or 1 in the tensor",
            )  # fmt: skip
        return RegisterType(self.x.type.dtype, self.shape, given_layout(self, self.shape))

    def constrain(self) -> LayoutConstraint:
        """The operand has the result's layout without the repeated axes."""
        return LayoutConstraint(
            self.shape, {"x": Broadcasts(self.x.type.shape, self.shape)},
            choices=chosen(self.layout),
        )  # fmt: skip

    def run(self, machine: Any) -> np.ndarray:
        return np.broadcast_to(machine.value(self.x), self.shape)


class Repeat(Instruction, opcode="repeat"):
    """Each element `count` times in a row along `axis`: a group's scale for its elements.

    `layout` says who holds the result.
    """

    x = Operand("register")
    count = Attribute("integer")
    axis = Attribute("integer", 0)
    layout = Attribute("layout", None)

    def check(self) -> Type:
        shape = self.x.type.shape
        self.axis = checked_axis(self, self.axis, shape)
        if self.count < 1:
            raise self.refuse("E0209", "the count is at least 1", "count", "here", fix="use 1")
        longer = tuple(e * self.count if a == self.axis else e for a, e in enumerate(shape))
        return RegisterType(self.x.type.dtype, longer, given_layout(self, longer))

    def constrain(self) -> LayoutConstraint:
        """The operand has the result's layout without the digits that count the repetitions."""
        return LayoutConstraint(
            self.result.type.shape, {"x": Repeats(self.axis, self.count)},
            choices=chosen(self.layout),
        )  # fmt: skip

    def run(self, machine: Any) -> np.ndarray:
        return np.repeat(machine.value(self.x), self.count, self.axis)


class Reduce(Instruction, opcode="reduce"):
    """The elements along `axis` combined to one; the axis stays, with extent 1, unless `keep` is
    false.

    A sum may be added in any order, each addition rounded to the dtype or better; the reference
    machine adds in float64 and rounds once. `max` and `min` leave NaN out; integer sums wrap.
    """

    x = Operand("register")
    axis = Attribute("integer")
    op = Attribute("string", "sum", ("sum", "max", "min", "any", "all"))
    keep = Attribute("boolean", True)

    def check(self) -> Type:
        kind, shape = self.x.type.dtype, self.x.type.shape
        self.axis = checked_axis(self, self.axis, shape)
        logical = self.op in ("any", "all")
        if logical != (kind == BOOL):
            raise self.refuse(
                "E0205", f"`{self.op}` has no meaning for {kind.name}", "x", f"this is {kind.name}",
                fix="any and all take bool; sum, max and min take numbers",
            )  # fmt: skip
        if shape[self.axis] == 0 and self.op in ("max", "min"):
            raise self.refuse("E0302", "nothing to reduce", "x", "extent 0", fix="use sum")
        kept = [1 if a == self.axis else e for a, e in enumerate(shape)]
        if not self.keep:
            del kept[self.axis]
        layout = layout_of(self.x)
        if layout is not None:
            layout = layout.reduce(self.axis, keepdims=self.keep)
        return RegisterType(kind, tuple(kept), layout)

    def constrain(self) -> LayoutConstraint:
        """The result has the operand's layout without the axis."""
        shape = self.x.type.shape
        return LayoutConstraint(
            shape, {"x": SAME}, Reduces(self.axis, shape[self.axis], self.keep), reduces=self.axis
        )

    def run(self, machine: Any) -> np.ndarray:
        value = machine.value(self.x)
        kind = self.x.type.dtype
        keywords = {"axis": self.axis, "keepdims": self.keep}
        if self.op in ("any", "all"):
            return getattr(np, self.op)(value, **keywords)
        if self.op in ("max", "min"):
            combine = np.fmax if self.op == "max" else np.fmin
            return combine.reduce(value, **keywords)
        if kind.is_integer:
            return np.sum(value, dtype=kind.array, **keywords)
        return round_result(np.sum(value, dtype=np.float64, **keywords), kind)

    def magnitude(self, *magnitudes: np.ndarray) -> np.ndarray:
        combine = np.sum if self.op == "sum" else np.max
        return combine(magnitudes[0], axis=self.axis, keepdims=self.keep)


class Item(Instruction, opcode="item"):
    """The only element of a tensor, as a scalar that every thread of the group holds."""

    x = Operand("register")

    def check(self) -> Type:
        if prod(self.x.type.shape) != 1:
            raise self.refuse(
                "E0302", f"a tensor of {list(self.x.type.shape)} is no single element", "x", "here",
                fix="reduce it along each axis first",
            )  # fmt: skip
        return ScalarType(self.x.type.dtype)

    def constrain(self) -> LayoutConstraint | None:
        """Any layout will do: there is one element."""
        return used_as_it_is("x", self.x)

    def run(self, machine: Any) -> Any:
        return machine.value(self.x).reshape(()).item()


