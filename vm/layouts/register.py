"""Register layouts: which thread holds which element of a tile, and in which slot.

A register layout of shape S over T threads with N slots each is a function f(thread, slot) ->
index. It is stored as Tilus does (arXiv 2504.12984, section 5): every axis is factored into
*modes* (outer first), and each mode is a digit either of the thread number (`spatial_modes`) or
of the slot number (`local_modes`), most significant digit first. A negative entry -k in
`spatial_modes` is a digit of size k which the index does not depend on: k threads hold the same
elements. Slots in an order that no digits write, such as that of the bits of packed numbers, are
listed in `slot_order`.

Every object is in canonical form: no mode of size 1, and modes that are neighbours both in
their axis and in their list are one. Two layouts are equal as functions exactly if they are
equal as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from itertools import product as cartesian
from math import prod
from operator import index as whole_number

import numpy as np

from vm.layouts import division, expression, slot_orders
from vm.layouts.errors import LayoutError
from vm.layouts.modes import factor_axes, ramp, split_for_shape, whole_numbers

MAXIMUM_ELEMENTS = 2**31


@dataclass(frozen=True, repr=False)
class RegisterLayout:
    """f(thread, slot) -> index, for `threads` threads with `slots` elements each.

    shape: extents of the tile. modes: factors of the extents, axis after axis, outer first.
    spatial_modes, local_modes: mode numbers, most significant digit first; -k in the former is
    a k-fold replication. slot_order: of each len(slot_order) slots in a row, slot i holds what
    the digits say of slot slot_order[i]; empty for the order of the digits. Raises LayoutError if
    the modes do not factor the shape or are not each used once, or if the order is no
    permutation of slots."""

    shape: tuple[int, ...]
    modes: tuple[int, ...]
    spatial_modes: tuple[int, ...]
    local_modes: tuple[int, ...]
    slot_order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        shape = whole_numbers(self.shape, "shape")
        modes = whole_numbers(self.modes, "modes")
        axes = factor_axes(shape, modes)
        spatial = _mode_numbers(self.spatial_modes, "spatial")
        local = _mode_numbers(self.local_modes, "local")
        order = _mode_numbers(self.slot_order, "order")
        _check_lists(modes, spatial, local)
        if order:
            slots = slot_orders.listed(order, [modes[m] for m in local], local)
            modes, spatial, local = _canonical(modes, axes, spatial, sorted(local))
            order, digits = slot_orders.canonical(slots, local, [modes[m] for m in local])
            modes, spatial, local = slot_orders.with_digits(modes, spatial, digits)
            axes = factor_axes(shape, modes)
        modes, spatial, local = _canonical(modes, axes, spatial, local)
        for name, value in zip(
            ("shape", "modes", "spatial_modes", "local_modes", "slot_order"),
            (shape, modes, spatial, local, order),
            strict=True,
        ):
            object.__setattr__(self, name, value)
        if self.threads * self.slots > MAXIMUM_ELEMENTS:
            raise LayoutError(
                f"a layout of {self.threads} threads x {self.slots} slots has more than 2^31 "
                "entries"
            )

    # -- sizes ---------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of the tile."""
        return prod(self.shape)

    @cached_property
    def spatial_sizes(self) -> tuple[int, ...]:
        """Sizes of the digits of the thread number, most significant first."""
        return tuple(-m if m < 0 else self.modes[m] for m in self.spatial_modes)

    @cached_property
    def local_sizes(self) -> tuple[int, ...]:
        """Sizes of the digits of the slot number, most significant first."""
        return tuple(self.modes[m] for m in self.local_modes)

    @cached_property
    def threads(self) -> int:
        """T: number of threads, replication included."""
        return prod(self.spatial_sizes)

    @cached_property
    def slots(self) -> int:
        """N: number of elements that each thread holds."""
        return prod(self.local_sizes)

    @cached_property
    def replication(self) -> int:
        """How many threads hold each element."""
        return prod(-m for m in self.spatial_modes if m < 0)

    @cached_property
    def mode_axes(self) -> tuple[int, ...]:
        """The axis that each mode belongs to."""
        return factor_axes(self.shape, self.modes)

    @cached_property
    def mode_strides(self) -> tuple[int, ...]:
        """What one step of each mode adds to the index on its axis."""
        strides = [1] * len(self.modes)
        for m in range(len(self.modes) - 2, -1, -1):
            if self.mode_axes[m] == self.mode_axes[m + 1]:
                strides[m] = strides[m + 1] * self.modes[m + 1]
        return tuple(strides)

    # -- the function, its tables and its inverse ----------------------------------------------

    def __call__(self, thread: int, slot: int) -> tuple[int, ...]:
        """The index of the element that `thread` holds in `slot`."""
        for name, value, count in (
            ("thread", thread, self.threads),
            ("slot", slot, self.slots),
        ):
            if not 0 <= value < count:
                raise LayoutError(f"{name} {value} is outside 0..{count - 1} of {self}")
        if self.slot_order:
            slot = int(self._slots_of_digits[slot])
        index = [0] * self.rank
        for number, order in ((thread, self.spatial_modes), (slot, self.local_modes)):
            for m in reversed(order):
                number, digit = divmod(number, -m if m < 0 else self.modes[m])
                if m >= 0:
                    index[self.mode_axes[m]] += digit * self.mode_strides[m]
        return tuple(index)

    def inverse(self, index: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """All (thread, slot) that hold the element at `index`, in ascending order."""
        if len(index) != self.rank or any(
            not 0 <= i < n for i, n in zip(index, self.shape, strict=False)
        ):
            raise LayoutError(
                f"index {tuple(index)} is outside the shape {list(self.shape)} of {self}"
            )
        digits = [
            index[axis] // stride % size
            for axis, stride, size in zip(
                self.mode_axes, self.mode_strides, self.modes, strict=True
            )
        ]
        slot = 0
        for m, size in zip(self.local_modes, self.local_sizes, strict=True):
            slot = slot * size + digits[m]
        if self.slot_order:
            slot = int(np.flatnonzero(self._slots_of_digits == slot)[0])
        threads = [0]
        for m, size in zip(self.spatial_modes, self.spatial_sizes, strict=True):
            choices = range(size) if m < 0 else (digits[m],)
            threads = [t * size + c for t, c in cartesian(threads, choices)]
        return tuple((t, slot) for t in threads)

    def _ramps(self, strides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Sum of digit x stride for every thread and for every slot; strides is per mode."""
        spatial = [0 if m < 0 else strides[m] for m in self.spatial_modes]
        local = [strides[m] for m in self.local_modes]
        slots = ramp(self.local_sizes, local)
        slots = slots[self._slots_of_digits] if self.slot_order else slots
        return ramp(self.spatial_sizes, spatial), slots

    @cached_property
    def _slots_of_digits(self) -> np.ndarray:
        """For each slot the one that the digits alone would give its element: int64 (N,)."""
        return slot_orders.repeated(self.slot_order or (0,), self.slots)

    @cached_property
    def _linear_strides(self) -> tuple[int, ...]:
        axis_strides = [prod(self.shape[a + 1 :]) for a in range(self.rank)]
        return tuple(
            stride * axis_strides[axis]
            for stride, axis in zip(self.mode_strides, self.mode_axes, strict=True)
        )

    @cached_property
    def _flat(self) -> np.ndarray:
        thread, slot = self._ramps(self._linear_strides)
        table = thread[:, None] + slot[None, :]
        table.setflags(write=False)
        return table

    def flat(self) -> np.ndarray:
        """Row-major linear index of every (thread, slot): int64 (T, N), read-only, cached."""
        return self._flat

    def table(self) -> np.ndarray:
        """Index of every (thread, slot): int64 (T, N, rank)."""
        result = np.empty((self.threads, self.slots, self.rank), np.int64)
        for axis in range(self.rank):
            strides = [
                s if a == axis else 0
                for s, a in zip(self.mode_strides, self.mode_axes, strict=True)
            ]
            thread, slot = self._ramps(strides)
            result[:, :, axis] = thread[:, None] + slot[None, :]
        return result

    @cached_property
    def _owner(self) -> np.ndarray:
        strides = [0] * len(self.modes)
        step = 1
        for m in reversed(self.local_modes):
            strides[m] = step
            step *= self.modes[m]
        for m, size in zip(reversed(self.spatial_modes), reversed(self.spatial_sizes), strict=True):
            if m >= 0:
                strides[m] = step
            step *= size
        result = ramp(self.modes, strides)
        if self.slot_order:
            thread, slot = np.divmod(result, self.slots)
            result = thread * self.slots + np.argsort(self._slots_of_digits)[slot]
        result.setflags(write=False)
        return result

    def owner(self) -> np.ndarray:
        """thread * N + slot of the lowest thread that holds each element, in row-major order of
        the elements: int64 (size,), read-only, cached."""
        return self._owner

    # -- product and division ------------------------------------------------------------------

    def __mul__(self, inner: RegisterLayout) -> RegisterLayout:
        """The product h(t, i) = self(t div T, i div N) (.) shape + inner(t mod T, i mod N),
        with T, N and shape of `inner` (Tilus, section 4). The shorter shape is padded with 1s
        on the left."""
        if not isinstance(inner, RegisterLayout):
            return NotImplemented
        rank = max(self.rank, inner.rank)
        outer, inner = self.with_rank(rank), inner.with_rank(rank)
        groups_outer, groups_inner = outer._modes_by_axis(), inner._modes_by_axis()
        numbers: dict[tuple[int, int], int] = {}
        modes: list[int] = []
        for axis in range(rank):
            for part, layout in enumerate((outer, inner)):
                for m in (groups_outer, groups_inner)[part][axis]:
                    numbers[part, m] = len(modes)
                    modes.append(layout.modes[m])

        def joined(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(
                m if m < 0 else numbers[part, m]
                for part, order in enumerate((first, second))
                for m in order
            )

        return RegisterLayout(
            tuple(a * b for a, b in zip(outer.shape, inner.shape, strict=True)),
            tuple(modes),
            joined(outer.spatial_modes, inner.spatial_modes),
            joined(outer.local_modes, inner.local_modes),
            slot_orders.product(outer.slot_order, inner.slot_order, inner.slots),
        )

    def __truediv__(self, inner: RegisterLayout) -> RegisterLayout:
        """The q with self == q * inner; LayoutError if there is none."""
        if not isinstance(inner, RegisterLayout):
            return NotImplemented
        return RegisterLayout(*division.right_quotient(self, inner))

    def left_divide(self, outer: RegisterLayout) -> RegisterLayout:
        """The q with self == outer * q; LayoutError if there is none."""
        return RegisterLayout(*division.left_quotient(self, outer))

    def local(self, *extents: int) -> RegisterLayout:
        """self * local(*extents)"""
        return self * local(*extents)

    def spatial(self, *extents: int) -> RegisterLayout:
        """self * spatial(*extents)"""
        return self * spatial(*extents)

    def column_local(self, *extents: int) -> RegisterLayout:
        """self * column_local(*extents)"""
        return self * column_local(*extents)

    def column_spatial(self, *extents: int) -> RegisterLayout:
        """self * column_spatial(*extents)"""
        return self * column_spatial(*extents)

    def replicated(self, count: int) -> RegisterLayout:
        """self * replicated(count)"""
        return self * replicated(count)

    def reorder(self, *slots: int) -> RegisterLayout:
        """Of each len(slots) slots in a row, slot i holds what slot slots[i] held; LayoutError if
        they are no permutation or do not divide the slots."""
        new = slot_orders.repeated(slots, self.slots)
        old = self._slots_of_digits[new] if self.slot_order else new
        return replace(self, slot_order=tuple(map(int, old)))

    def concat(self, other: RegisterLayout) -> RegisterLayout:
        """Axes of self, then axes of `other`; threads and slots of self are the outer digits."""
        outer = self.reshape(*self.shape, *(1,) * other.rank)
        return outer * other.with_rank(self.rank + other.rank)

    def _require_digits(self, done: str) -> None:
        if self.slot_order:
            raise LayoutError(
                f"{self} has its slots in an order of their own and is not {done}: relayout first"
            )

    # -- axes ----------------------------------------------------------------------------------

    def _modes_by_axis(self) -> list[list[int]]:
        groups: list[list[int]] = [[] for _ in self.shape]
        for m, axis in enumerate(self.mode_axes):
            groups[axis].append(m)
        return groups

    def axis_number(self, axis: int) -> int:
        """`axis`, counted from the end if negative; LayoutError outside the rank."""
        if not -self.rank <= axis < self.rank:
            raise LayoutError(f"axis {axis} of {self}, which has {self.rank} axes")
        return axis % self.rank

    def with_rank(self, rank: int) -> RegisterLayout:
        """The same layout with 1s put before its shape until it has `rank` axes."""
        if rank == self.rank:
            return self
        if rank < self.rank:
            raise LayoutError(f"{self} has {self.rank} axes, more than {rank}")
        shape = (1,) * (rank - self.rank) + self.shape
        return replace(self, shape=shape)

    def permute(self, *axes: int) -> RegisterLayout:
        """Axis a of the result is axis axes[a] of self."""
        order = [self.axis_number(a) for a in axes]
        if sorted(order) != list(range(self.rank)):
            raise LayoutError(f"{list(axes)} is no order of the {self.rank} axes of {self}")
        groups = self._modes_by_axis()
        moved = [m for a in order for m in groups[a]]
        number = {m: i for i, m in enumerate(moved)}
        return RegisterLayout(
            tuple(self.shape[a] for a in order),
            tuple(self.modes[m] for m in moved),
            tuple(m if m < 0 else number[m] for m in self.spatial_modes),
            tuple(number[m] for m in self.local_modes),
            self.slot_order,
        )

    def transpose(self) -> RegisterLayout:
        """The two axes exchanged."""
        if self.rank != 2:
            raise LayoutError(f"transpose takes 2 axes, {self} has {self.rank}: use permute")
        return self.permute(1, 0)

    def reshape(self, *shape: int) -> RegisterLayout:
        """The same threads and slots for the tile read in row-major order as another shape.

        LayoutError if a new axis boundary falls inside a mode that it does not divide.
        """
        new_shape = whole_numbers(shape, "shape")
        if prod(new_shape) != self.size:
            raise LayoutError(
                f"{list(self.shape)} has {self.size} elements, {list(new_shape)} has "
                f"{prod(new_shape)}"
            )
        pieces = split_for_shape(self.modes, new_shape, f"{self} of shape {list(self.shape)}")
        number, modes = [], []
        for parts in pieces:
            number.append(range(len(modes), len(modes) + len(parts)))
            modes.extend(parts)
        return RegisterLayout(
            new_shape,
            tuple(modes),
            tuple(n for m in self.spatial_modes for n in ([m] if m < 0 else number[m])),
            tuple(n for m in self.local_modes for n in number[m]),
            self.slot_order,
        )

    def squeeze(self, *axes: int) -> RegisterLayout:
        """Without the given axes, which have extent 1 (all axes of extent 1 if none is given)."""
        gone = {self.axis_number(a) for a in axes} or {
            a for a, n in enumerate(self.shape) if n == 1
        }
        for axis in sorted(gone):
            if self.shape[axis] != 1:
                raise LayoutError(f"axis {axis} of {self} has extent {self.shape[axis]}, not 1")
        return self.reshape(*(n for a, n in enumerate(self.shape) if a not in gone))

    def unsqueeze(self, *axes: int) -> RegisterLayout:
        """With axes of extent 1 so that they have the given positions in the result."""
        rank = self.rank + len(axes)
        if any(not -rank <= a < rank for a in axes) or len({a % rank for a in axes}) != len(axes):
            raise LayoutError(f"axes {list(axes)} cannot be {len(axes)} of {rank} axes")
        rest, new = iter(self.shape), {a % rank for a in axes}
        return self.reshape(*(1 if a in new else next(rest) for a in range(rank)))

    def reduce(self, *axes: int, keepdims: bool = False) -> RegisterLayout:
        """What remains of the layout when the given axes are summed over: threads along them
        hold the same sums (replication), slots along them are gone. keepdims leaves them with
        extent 1."""
        gone = {self.axis_number(a) for a in axes}
        self._require_digits("reduced")
        kept = [m for m, axis in enumerate(self.mode_axes) if axis not in gone]
        number = {m: i for i, m in enumerate(kept)}
        result = RegisterLayout(
            tuple(1 if a in gone else n for a, n in enumerate(self.shape)),
            tuple(self.modes[m] for m in kept),
            tuple(m if m < 0 else number.get(m, -self.modes[m]) for m in self.spatial_modes),
            tuple(number[m] for m in self.local_modes if m in number),
        )
        return result if keepdims or not gone else result.squeeze(*gone)

    def expand(self, axis: int, extent: int) -> RegisterLayout:
        """An axis of extent 1 repeated `extent` times: each thread holds every copy, and the
        copies are the outer digit of its slots. reduce(axis, keepdims=True) undoes it."""
        axis = self.axis_number(axis)
        if self.shape[axis] != 1:
            raise LayoutError(
                f"axis {axis} of {self} has extent {self.shape[axis]}: only 1 can expand"
            )
        return local(*(extent if a == axis else 1 for a in range(self.rank))) * self

    def broadcast(self, *shape: int) -> RegisterLayout:
        """A layout of `shape` from which reducing the repeated axes gives self back (NumPy's
        rule for shapes): copies are held by the thread that holds the original."""
        shape = whole_numbers(shape, "shape")
        layout = self.with_rank(max(len(shape), self.rank))
        for axis, (have, want) in enumerate(zip(layout.shape, shape, strict=False)):
            if have != want and have != 1:
                raise LayoutError(
                    f"{list(self.shape)} does not broadcast to {list(shape)}: axis {axis} has "
                    f"{have}"
                )
        if len(shape) != layout.rank:
            raise LayoutError(f"{list(self.shape)} has more axes than {list(shape)}")
        repeats = (w if h == 1 else 1 for h, w in zip(layout.shape, shape, strict=True))
        return local(*repeats) * layout

    def _slice(self, axis: int, start: int, extent: int) -> tuple[RegisterLayout, np.ndarray]:
        axis = self.axis_number(axis)
        self._require_digits("sliced")
        if extent < 1 or start < 0 or start + extent > self.shape[axis]:
            raise LayoutError(
                f"slice {start} +: {extent} is outside axis {axis} (0 +: {self.shape[axis]}) of "
                f"{self}"
            )
        modes, bounds = list(self.modes), {}
        for m in self._modes_by_axis()[axis]:
            stride, size = self.mode_strides[m], self.modes[m]
            if extent == stride * size:
                break
            if m not in self.local_modes:
                raise LayoutError(
                    f"slice {start} +: {extent} of axis {axis} cuts a digit of size {size} that is "
                    f"spread over threads in {self}; slices of multiples of {stride * size} stay "
                    "in "
                    "the registers of every thread"
                )
            first = start // stride
            count = max(1, extent // stride)
            if extent >= stride and (start % stride or extent % stride):
                raise LayoutError(
                    f"slice {start} +: {extent} of axis {axis} is not made of whole runs of "
                    f"{stride} "
                    f"of {self}; start and extent must be multiples of {stride}"
                )
            if extent < stride and start % stride + extent > stride:
                raise LayoutError(
                    f"slice {start} +: {extent} of axis {axis} crosses a boundary at a multiple of "
                    f"{stride} in {self}; stay within one run of {stride}"
                )
            bounds[m] = (first, count)
            modes[m] = count
            start -= first * stride
            if extent >= stride:
                break
        step, strides, origin = 1, {}, 0
        for m in reversed(self.local_modes):
            strides[m] = step
            origin += bounds.get(m, (0, 0))[0] * step
            step *= self.modes[m]
        slots = origin + ramp(
            [modes[m] for m in self.local_modes], [strides[m] for m in self.local_modes]
        )
        shape = tuple(extent if a == axis else n for a, n in enumerate(self.shape))
        return RegisterLayout(shape, tuple(modes), self.spatial_modes, self.local_modes), slots

    def slice(self, axis: int, start: int, extent: int = 1) -> RegisterLayout:
        """The layout of elements start .. start + extent - 1 of an axis, held where they are.

        LayoutError if some thread would hold none of them or if they are no box of modes.
        """
        return self._slice(axis, start, extent)[0]

    def slice_slots(self, axis: int, start: int, extent: int = 1) -> np.ndarray:
        """Which slots of self the slots of slice(axis, start, extent) are: int64 (N of the
        slice,)."""
        return self._slice(axis, start, extent)[1]

    # -- text ----------------------------------------------------------------------------------

    def factors(self) -> tuple[RegisterLayout, ...]:
        """The fewest local, spatial, column and replicated factors whose product is self, outer
        first; (self,) if it is no such product."""
        return tuple(_evaluated(call) for call in expression.factor_calls(self)) or (self,)

    def __str__(self) -> str:
        return expression.text(self)

    __repr__ = __str__


def _mode_numbers(order: Iterable[int], name: str) -> tuple[int, ...]:
    try:
        return tuple(whole_number(m) for m in order)
    except TypeError:
        raise LayoutError(f"{name} takes a list of mode numbers, not {order!r}") from None


def _check_lists(modes: Sequence[int], spatial: Iterable[int], local: Iterable[int]) -> None:
    used: set[int] = set()
    for name, order in (("spatial", spatial), ("local", local)):
        for m in order:
            if m < 0 and name == "spatial":
                continue
            if not 0 <= m < len(modes):
                raise LayoutError(
                    f"{name} names mode {m}, but there are {len(modes)} modes: {list(modes)}"
                )
            if m in used:
                raise LayoutError(
                    f"mode {m} (size {modes[m]}) is used twice; each mode is one digit"
                )
            used.add(m)
    for m, size in enumerate(modes):
        if m not in used and size != 1:
            raise LayoutError(f"mode {m} (size {size}) is in neither spatial nor local")


def _canonical(
    modes: Sequence[int], axes: Sequence[int], spatial: Iterable[int], local: Iterable[int]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Modes of size 1 dropped, neighbours joined, replications side by side multiplied."""
    kept = [m for m, size in enumerate(modes) if size != 1]
    number = {m: i for i, m in enumerate(kept)}
    modes, axes = [modes[m] for m in kept], [axes[m] for m in kept]
    orders: list[list[int]] = []
    for order in (spatial, local):
        clean: list[int] = []
        for m in order:
            if m < 0 and clean and clean[-1] < 0:
                clean[-1] *= -m
            elif m < -1 or (m >= 0 and m in number):
                clean.append(m if m < 0 else number[m])
        orders.append(clean)
    joined = {
        b
        for order in orders
        for a, b in pairwise(order)
        if a >= 0 and b == a + 1 and axes[a] == axes[b]
    }
    final, result = [], []
    for m, size in enumerate(modes):
        if m in joined:
            result[-1] *= size
        else:
            result.append(size)
        final.append(len(result) - 1)
    new_orders = [
        tuple(m if m < 0 else final[m] for m in order if m < 0 or m not in joined)
        for order in orders
    ]
    return tuple(result), new_orders[0], new_orders[1]


def register_layout(
    *, shape: Sequence[int], modes: Sequence[int], spatial: Sequence[int], local: Sequence[int],
    order: Sequence[int] = (),
) -> RegisterLayout:  # fmt: skip
    """The general form, see RegisterLayout; every layout can be written so."""
    return RegisterLayout(tuple(shape), tuple(modes), tuple(spatial), tuple(local), tuple(order))


def local(*extents: int) -> RegisterLayout:
    """One thread that holds all elements, slots in row-major order."""
    return RegisterLayout(extents, extents, (), tuple(range(len(extents))))


def spatial(*extents: int) -> RegisterLayout:
    """One element per thread, threads in row-major order."""
    return RegisterLayout(extents, extents, tuple(range(len(extents))), ())


def column_local(*extents: int) -> RegisterLayout:
    """One thread that holds all elements, slots in column-major order (first axis fastest)."""
    return RegisterLayout(extents, extents, (), tuple(reversed(range(len(extents)))))


def column_spatial(*extents: int) -> RegisterLayout:
    """One element per thread, threads in column-major order (first axis fastest)."""
    return RegisterLayout(extents, extents, tuple(reversed(range(len(extents)))), ())


def replicated(count: int) -> RegisterLayout:
    """`count` threads that hold the same: shape [], so it multiplies with any rank."""
    (count,) = whole_numbers((count,), "replication")
    return RegisterLayout((), (), (-count,), ())


def _evaluated(call: tuple[str, tuple[int, ...]]) -> RegisterLayout:
    name, arguments = call
    return {
        "local": local,
        "spatial": spatial,
        "column_local": column_local,
        "column_spatial": column_spatial,
        "replicated": replicated,
    }[name](*arguments)
