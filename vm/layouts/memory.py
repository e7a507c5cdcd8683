"""Layouts of shared and global memory: index -> offset, in elements.

Every axis is factored into modes as in register layouts, and each mode has a stride; the offset
is start + sum of digit x stride, after which an optional XOR swizzle moves it. Source of the
form: Tilus (SharedLayout); of the swizzle: CuTe's Swizzle<bits, base, shift>."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import index as whole_number

import numpy as np

from vm.layouts.errors import LayoutError
from vm.layouts.modes import factor_axes, ramp, split_for_shape, whole_numbers
from vm.layouts.register import MAXIMUM_ELEMENTS, RegisterLayout


@dataclass(frozen=True)
class Swizzle:
    """offset ^ ((offset >> shift) & mask), mask being `bits` ones from bit `base` on: bits base
    + shift .. of an offset are added (XOR) to bits base .. of it. shift >= bits, so that it
    undoes itself."""

    base: int
    bits: int
    shift: int

    def __post_init__(self) -> None:
        if self.base < 0 or self.bits < 1 or self.shift < self.bits:
            raise LayoutError(
                f"swizzle({self.base}, {self.bits}, {self.shift}) needs base >= 0, bits >= 1 and "
                f"shift >= bits"
            )
        if self.base + self.bits + self.shift > 31:
            raise LayoutError(
                f"swizzle({self.base}, {self.bits}, {self.shift}) reaches past bit 31 of the offset"
            )

    @property
    def period(self) -> int:
        """Offsets that are equal modulo the period are moved alike."""
        return 1 << (self.base + self.bits + self.shift)

    @property
    def block(self) -> int:
        """Offsets stay within their aligned block of this many elements."""
        return 1 << (self.base + self.bits)

    def apply(self, offset: np.ndarray | int) -> np.ndarray | int:
        """The moved offsets."""
        return offset ^ ((offset >> self.shift) & (((1 << self.bits) - 1) << self.base))


@dataclass(frozen=True, repr=False)
class MemoryLayout:
    """index -> offset in elements. Equality is on the canonical form (no mode of size 1;
    neighbours on an axis whose strides continue are one); a swizzle is part of it even where it
    moves nothing.

    shape, modes: as in RegisterLayout. strides: elements, one per mode. start: offset of the
    first element before the swizzle."""

    shape: tuple[int, ...]
    modes: tuple[int, ...]
    strides: tuple[int, ...]
    swizzling: Swizzle | None = None
    start: int = 0

    def __post_init__(self) -> None:
        shape = whole_numbers(self.shape, "shape")
        modes = whole_numbers(self.modes, "modes")
        axes = factor_axes(shape, modes)
        strides = tuple(whole_number(s) for s in self.strides)
        if len(strides) != len(modes) or min(strides, default=0) < 0 or self.start < 0:
            raise LayoutError(
                f"{len(modes)} modes {list(modes)} need as many strides of at least 0 and a "
                "start of "
                f"at least 0, not {list(strides)} and {self.start}"
            )
        merged: list[list[int]] = []  # axis, size, stride
        for axis, size, stride in zip(axes, modes, strides, strict=True):
            if size == 1:
                continue
            if merged and merged[-1][0] == axis and merged[-1][2] == stride * size:
                merged[-1][1:] = [merged[-1][1] * size, stride]
            else:
                merged.append([axis, size, stride])
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "modes", tuple(size for _, size, _ in merged))
        object.__setattr__(self, "strides", tuple(stride for _, _, stride in merged))
        if self.elements > MAXIMUM_ELEMENTS:
            raise LayoutError(f"a memory layout of {self.elements} elements has more than 2^31")

    # -- sizes ---------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def elements(self) -> int:
        """Number of elements of the tile."""
        return prod(self.shape)

    @cached_property
    def size(self) -> int:
        """Elements of memory from offset 0 to the end of the last element, padding included."""
        if self.swizzling is None:
            return self._linear_end
        return int(self._offsets.max()) + 1

    @property
    def _linear_end(self) -> int:
        reach = sum((n - 1) * s for n, s in zip(self.modes, self.strides, strict=True))
        return self.start + reach + 1

    @cached_property
    def mode_axes(self) -> tuple[int, ...]:
        """The axis that each mode belongs to."""
        return factor_axes(self.shape, self.modes)

    # -- the function --------------------------------------------------------------------------

    @cached_property
    def _offsets(self) -> np.ndarray:
        linear = self.start + ramp(self.modes, self.strides)
        table = (linear if self.swizzling is None else self.swizzling.apply(linear)).reshape(
            self.shape
        )
        table.setflags(write=False)
        return table

    def offsets(self) -> np.ndarray:
        """Offset of every element: int64 of shape `shape`, read-only, cached."""
        return self._offsets

    def __call__(self, *index: int | Sequence[int]) -> int:
        """Offset of the element at an index, given as f(i, j) or f((i, j))."""
        if len(index) == 1 and not hasattr(index[0], "__index__"):
            index = tuple(index[0])
        if len(index) != self.rank or any(
            not 0 <= i < n for i, n in zip(index, self.shape, strict=False)
        ):
            raise LayoutError(
                f"index {tuple(index)} is outside the shape {list(self.shape)} of {self}"
            )
        rest, offset = list(index), self.start
        for m in range(len(self.modes) - 1, -1, -1):
            axis = self.mode_axes[m]
            rest[axis], digit = divmod(rest[axis], self.modes[m])
            offset += digit * self.strides[m]
        return offset if self.swizzling is None else int(self.swizzling.apply(offset))

    def addresses(self, register: RegisterLayout) -> np.ndarray:
        """Which offset does thread t, slot i touch: int64 (T, N)."""
        if register.shape != self.shape:
            raise LayoutError(
                f"{register} has shape {list(register.shape)}, {self} has {list(self.shape)}"
            )
        return self._offsets.reshape(-1)[register.flat()]

    def is_injective(self) -> bool:
        """Whether no two elements have the same offset."""
        return bool(np.unique(self._offsets).size == self.elements)

    # -- derived layouts -----------------------------------------------------------------------

    def _with(
        self, shape: Sequence[int], modes: Sequence[int], strides: Sequence[int], start: int = -1
    ) -> MemoryLayout:
        begin = self.start if start < 0 else start
        return MemoryLayout(tuple(shape), tuple(modes), tuple(strides), self.swizzling, begin)

    def swizzle(self, base: int, bits: int, shift: int) -> MemoryLayout:
        """The same with offsets moved by Swizzle(base, bits, shift)."""
        if self.swizzling is not None:
            raise LayoutError(f"{self} is swizzled already; one swizzle is all the hardware has")
        return MemoryLayout(
            self.shape, self.modes, self.strides, Swizzle(base, bits, shift), self.start
        )

    def pad(self, extra: int, every: int | None = None) -> MemoryLayout:
        """The same with `extra` unused elements after each run of `every` elements of memory
        (default: the extent of the last axis, so that rows are padded)."""
        if every is None:
            every = self.shape[-1] if self.shape else 1
        (every, extra) = whole_numbers((every, extra), "pad")
        if self.swizzling is not None or self.start:
            raise LayoutError(f"{self} cannot be padded: pad before swizzling and slicing")
        modes, strides = [], []
        for size, stride in zip(self.modes, self.strides, strict=True):
            inside = every // stride if 0 < stride < every else 1
            if stride * size <= every or stride == 0:
                inside = size
            crosses = stride < every < stride * size and (every % stride or size % inside)
            if crosses or (stride >= every and stride % every):
                raise LayoutError(
                    f"a run of {every} elements ends inside a digit of size {size} and stride "
                    f"{stride} "
                    f"of {self}; pad after a multiple of the strides"
                )
            step = stride * inside
            modes += [size // inside, inside]
            strides += [step + step // every * extra, stride + stride // every * extra]
        return self._with(self.shape, modes, strides)

    def stages(self, count: int) -> MemoryLayout:
        """`count` copies one after another along a new first axis; each copy begins at a
        multiple of the swizzle's period, so that all are swizzled alike."""
        (count,) = whole_numbers((count,), "stages")
        period = 1 if self.swizzling is None else self.swizzling.period
        step = -(-self._linear_end // period) * period
        return self._with((count, *self.shape), (count, *self.modes), (step, *self.strides))

    def axis_number(self, axis: int) -> int:
        """`axis`, counted from the end if negative; LayoutError outside the rank."""
        if not -self.rank <= axis < self.rank:
            raise LayoutError(f"axis {axis} of {self}, which has {self.rank} axes")
        return axis % self.rank

    def slice(self, axis: int, start: int, extent: int = 1) -> MemoryLayout:
        """Elements start .. start + extent - 1 of an axis, where they lie.

        LayoutError if the slice is not a box of modes (start and extent on a mode's boundary).
        """
        axis = self.axis_number(axis)
        if extent < 1 or start < 0 or start + extent > self.shape[axis]:
            raise LayoutError(
                f"slice {start} +: {extent} is outside axis {axis} (0 +: {self.shape[axis]}) of "
                f"{self}"
            )
        modes, begin, run = list(self.modes), self.start, self.shape[axis]
        first, count = start, extent
        for m, at in enumerate(self.mode_axes):
            if at != axis:
                continue
            run //= self.modes[m]
            digit, first = divmod(first, run)
            begin += digit * self.strides[m]
            if count >= run:
                if first or count % run:
                    raise LayoutError(
                        f"slice {start} +: {extent} of axis {axis} of {self} is not made of "
                        "whole runs "
                        f"of {run}; start and extent must be multiples of {run}"
                    )
                modes[m], count = count // run, run
            else:
                if first + count > run:
                    raise LayoutError(
                        f"slice {start} +: {extent} of axis {axis} of {self} crosses a boundary "
                        "at a "
                        f"multiple of {run}; stay within one run of {run}"
                    )
                modes[m] = 1
        shape = tuple(extent if a == axis else n for a, n in enumerate(self.shape))
        return self._with(shape, modes, self.strides, begin)

    def select(self, axis: int, index: int) -> MemoryLayout:
        """The elements at one index of an axis, without that axis."""
        axis = self.axis_number(axis)
        part = self.slice(axis, index)
        return part.reshape(*(n for a, n in enumerate(part.shape) if a != axis))

    def permute(self, *axes: int) -> MemoryLayout:
        """Axis a of the result is axis axes[a] of self."""
        order = [self.axis_number(a) for a in axes]
        if sorted(order) != list(range(self.rank)):
            raise LayoutError(f"{list(axes)} is no order of the {self.rank} axes of {self}")
        moved = [m for a in order for m, at in enumerate(self.mode_axes) if at == a]
        return self._with(
            [self.shape[a] for a in order],
            [self.modes[m] for m in moved],
            [self.strides[m] for m in moved],
        )

    def transpose(self) -> MemoryLayout:
        """The two axes exchanged."""
        if self.rank != 2:
            raise LayoutError(f"transpose takes 2 axes, {self} has {self.rank}: use permute")
        return self.permute(1, 0)

    def reshape(self, *shape: int) -> MemoryLayout:
        """The same elements, in row-major order, under another shape."""
        new_shape = whole_numbers(shape, "shape")
        if prod(new_shape) != self.elements:
            raise LayoutError(
                f"{list(self.shape)} has {self.elements} elements, {list(new_shape)} has "
                f"{prod(new_shape)}"
            )
        pieces = split_for_shape(self.modes, new_shape, f"{self} of shape {list(self.shape)}")
        modes, strides = [], []
        for parts, stride in zip(pieces, self.strides, strict=True):
            modes += parts
            strides += [stride * prod(parts[p + 1 :]) for p in range(len(parts))]
        return self._with(new_shape, modes, strides)

    def __mul__(self, inner: MemoryLayout) -> MemoryLayout:
        """Copies of `inner`, which is contiguous, laid out as self: offset = self(outer index) *
        inner.size + inner(inner index). Neither is swizzled; swizzle the product."""
        if not isinstance(inner, MemoryLayout):
            return NotImplemented
        if self.swizzling or inner.swizzling or self.start or inner.start:
            raise LayoutError(f"{self} * {inner}: multiply before swizzling and slicing")
        rank = max(self.rank, inner.rank)
        outer = self.reshape(*(1,) * (rank - self.rank), *self.shape)
        inner = inner.reshape(*(1,) * (rank - inner.rank), *inner.shape)
        modes, strides = [], []
        for axis in range(rank):
            for layout, factor in ((outer, inner.size), (inner, 1)):
                for m, at in enumerate(layout.mode_axes):
                    if at == axis:
                        modes.append(layout.modes[m])
                        strides.append(layout.strides[m] * factor)
        shape = tuple(a * b for a, b in zip(outer.shape, inner.shape, strict=True))
        return MemoryLayout(shape, tuple(modes), tuple(strides))

    # -- text ----------------------------------------------------------------------------------

    def __str__(self) -> str:
        text = self._linear_text()
        if self.swizzling is not None:
            text += (
                f".swizzle({self.swizzling.base}, {self.swizzling.bits}, {self.swizzling.shift})"
            )
        return text

    __repr__ = __str__

    def _linear_text(self) -> str:
        arguments = ", ".join(map(str, self.shape))
        plain = MemoryLayout(self.shape, self.modes, self.strides)
        if self.start == 0:
            if plain == shared(*self.shape):
                return f"shared({arguments})"
            if self.rank == 2 and plain == shared(*self.shape[::-1]).transpose():
                return f"shared({self.shape[1]}, {self.shape[0]}).transpose()"
            padding = _padding(plain)
            if padding:
                return f"shared({arguments}).pad({padding})"
        ending = f", start={self.start}" if self.start else ""
        return (
            f"shared_layout(shape={list(self.shape)}, modes={list(self.modes)}, "
            f"strides={list(self.strides)}{ending})"
        )


def _padding(layout: MemoryLayout) -> str:
    """The arguments of the `pad` that makes this of the row-major layout; empty if none does."""
    for axis in range(layout.rank - 1, 0, -1):
        every = prod(layout.shape[axis:])
        extra = min((s for s in layout.strides if s > every), default=0) - every
        if extra > 0 and layout.elements > every and layout == shared(*layout.shape).pad(
            extra, every
        ):  # fmt: skip
            return f"{extra}" if axis == layout.rank - 1 else f"{extra}, {every}"
    return ""


SharedLayout = MemoryLayout


def shared(*shape: int) -> MemoryLayout:
    """Row-major: the last axis is contiguous."""
    return strided(shape, [prod(shape[a + 1 :]) for a in range(len(shape))])


def strided(shape: Sequence[int], strides: Sequence[int]) -> MemoryLayout:
    """One stride per axis, in elements."""
    return MemoryLayout(tuple(shape), tuple(shape), tuple(strides))


def shared_layout(
    *, shape: Sequence[int], modes: Sequence[int], strides: Sequence[int], start: int = 0
) -> MemoryLayout:
    """The general form, see MemoryLayout; every layout without swizzle can be written so."""
    return MemoryLayout(tuple(shape), tuple(modes), tuple(strides), None, start)


def column_major(*shape: int) -> MemoryLayout:
    """The first axis is contiguous."""
    return strided(shape, [prod(shape[:a]) for a in range(len(shape))])


def tiled(shape: Sequence[int], tile: Sequence[int]) -> MemoryLayout:
    """Tiles one after another in row-major order, each contiguous and row-major inside."""
    shape, tile = whole_numbers(shape, "shape"), whole_numbers(tile, "tile")
    if len(shape) != len(tile) or any(n % t for n, t in zip(shape, tile, strict=False)):
        raise LayoutError(f"tiles of {list(tile)} do not fill {list(shape)}")
    return shared(*(n // t for n, t in zip(shape, tile, strict=True))) * shared(*tile)
