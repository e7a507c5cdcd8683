"""How the layouts of an instruction's operands and of its result hang together.

Each instruction works in one *working layout*: that of its result, or of its operand where it has
no result or where the result follows from the operand. A relation says what layout a value has
when the working layout is known (`of`) and, where there is an answer, which working layout a value
asks for (`back`). Layout inference is written on these alone and knows no instruction.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from vm.layouts import RegisterLayout

Working = Hashable
"""A working layout: a `RegisterLayout`, or a `DotLayout` for a product."""


def reshaped(layout: RegisterLayout, shape: tuple[int, ...]) -> RegisterLayout:
    """The layout of the same elements in row-major order under another shape.

    Read as one axis first, where digits that follow each other join, so that a boundary of the new
    shape may fall anywhere inside of them. `LayoutError` where it falls inside a digit.
    """
    return layout.reshape(prod(layout.shape)).reshape(*shape)


class Relation:
    """Between the working layout and the layout of one value; `LayoutError` where there is none.

    `exact` relations determine the working layout from the value's; others only propose one.
    """

    exact = True

    def of(self, working: Any) -> RegisterLayout:
        """The layout of the value."""
        raise NotImplementedError

    def back(self, layout: RegisterLayout) -> RegisterLayout | None:
        """A working layout that gives the value this one; None where none is known."""
        raise NotImplementedError


@dataclass(frozen=True)
class Same(Relation):
    """The value has the working layout."""

    def of(self, working: RegisterLayout) -> RegisterLayout:
        return working

    def back(self, layout: RegisterLayout) -> RegisterLayout:
        return layout


@dataclass(frozen=True)
class Broadcasts(Relation):
    """A value of `shape` used as one of `target`: reduced over the axes that it lacks."""

    shape: tuple[int, ...]
    target: tuple[int, ...]
    exact = False

    def of(self, working: RegisterLayout) -> RegisterLayout:
        missing = len(self.target) - len(self.shape)
        repeated = [
            axis
            for axis in range(len(self.target))
            if axis < missing or self.shape[axis - missing] != self.target[axis]
        ]
        kept = working.reduce(*repeated, keepdims=True) if repeated else working
        return kept.reshape(*self.shape)

    def back(self, layout: RegisterLayout) -> RegisterLayout:
        return layout.broadcast(*self.target)


@dataclass(frozen=True)
class Permutes(Relation):
    """Axis a of the working layout is axis order[a] of the value."""

    order: tuple[int, ...]

    def of(self, working: RegisterLayout) -> RegisterLayout:
        return working.permute(*(self.order.index(axis) for axis in range(len(self.order))))

    def back(self, layout: RegisterLayout) -> RegisterLayout:
        return layout.permute(*self.order)


@dataclass(frozen=True)
class Reshapes(Relation):
    """The value has `shape`, the working layout `target`, with the same elements in order."""

    shape: tuple[int, ...]
    target: tuple[int, ...]

    def of(self, working: RegisterLayout) -> RegisterLayout:
        return reshaped(working, self.shape)

    def back(self, layout: RegisterLayout) -> RegisterLayout:
        return reshaped(layout, self.target)


@dataclass(frozen=True)
class Repeats(Relation):
    """Element i of the value along `axis` stands for elements i * count .. of the working shape."""

    axis: int
    count: int
    exact = False

    def of(self, working: RegisterLayout) -> RegisterLayout:
        shape, axis = working.shape, self.axis
        apart = (*shape[:axis], shape[axis] // self.count, self.count, *shape[axis + 1 :])
        return working.reshape(*apart).reduce(axis + 1)

    def back(self, layout: RegisterLayout) -> RegisterLayout:
        shape, axis = layout.shape, self.axis
        joined = (*shape[:axis], shape[axis] * self.count, *shape[axis + 1 :])
        return layout.unsqueeze(axis + 1).expand(axis + 1, self.count).reshape(*joined)


@dataclass(frozen=True)
class Reduces(Relation):
    """The value is what remains of the working shape without `axis` (with extent 1 if `keep`)."""

    axis: int
    extent: int
    keep: bool
    exact = False

    def of(self, working: RegisterLayout) -> RegisterLayout:
        return working.reduce(self.axis, keepdims=self.keep)

    def back(self, layout: RegisterLayout) -> RegisterLayout:
        kept = layout if self.keep else layout.unsqueeze(self.axis)
        return kept.expand(self.axis, self.extent)


@dataclass(frozen=True)
class Indexes(Relation):
    """The value is a vector with one element for each position along `axis`."""

    axis: int
    exact = False

    def of(self, working: RegisterLayout) -> RegisterLayout:
        others = [axis for axis in range(working.rank) if axis != self.axis]
        return working.reduce(*others) if others else working

    def back(self, layout: RegisterLayout) -> None:
        return None


@dataclass(frozen=True)
class Given(Relation):
    """The value has this layout, whatever the working layout is."""

    layout: RegisterLayout
    exact = False

    def of(self, working: Any) -> RegisterLayout:
        return self.layout

    def back(self, layout: RegisterLayout) -> None:
        return None


@dataclass(frozen=True)
class Member(Relation):
    """The value has the layout that a `DotLayout` has for it: "a", "b" or "c"."""

    name: str
    exact = False

    def of(self, working: Any) -> RegisterLayout:
        return getattr(working, self.name)

    def back(self, layout: RegisterLayout) -> None:
        return None


SAME = Same()


@dataclass(frozen=True)
class LayoutConstraint:
    """What an instruction asks of layouts.

    `operands` has a relation for each operand that is a register tensor, by field; an operand that
    is missing may have any layout. `result` is that of the only result. `choices` are the working
    layouts that there are, empty where any will do; `reason` says why they are those. `shape` is
    that of the working layout, `accesses` names the field of the tile that it is moved from or to,
    `reduces` the axis along which threads combine what they hold.
    """

    shape: tuple[int, ...]
    operands: Mapping[str, Relation] = field(default_factory=dict)
    result: Relation | None = SAME
    choices: tuple[Working, ...] = ()
    reason: str = "written here"
    accesses: str | None = None
    reduces: int | None = None

    def relations(self) -> Iterator[Relation]:
        """Those of the operands, then that of the result."""
        yield from self.operands.values()
        if self.result is not None:
            yield self.result


def chosen(layout: RegisterLayout | None) -> tuple[Working, ...]:
    """The choices of an instruction whose `layout` attribute may have been written."""
    return () if layout is None else (layout,)


def used_as_it_is(field: str, operand: Any) -> LayoutConstraint | None:
    """The constraint of an instruction that takes a tensor in any layout and has no result."""
    shape = getattr(operand.type, "shape", ())
    if operand.type is None or operand.type.space != "register":
        return None
    return LayoutConstraint(shape, {field: SAME}, None)
