"""Orders of slots that are listed, beside those that digits write: the bits of packed numbers.

A list of L numbers says of each L slots in a row whose place each of them takes. Of two lists, or a
list and digits, that are the same order only one is kept: digits where they write it, else the
shortest list beside digits in the order of the modes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vm.layouts.errors import LayoutError
from vm.layouts.modes import ramp

Digit = tuple[int, int, int]
"""A digit of a slot number: a mode, the digit's extent, its stride in the mode."""


def repeated(order: Sequence[int], slots: int) -> np.ndarray:
    """The order of all slots that a list is of each len(order) of: int64 (slots,)."""
    if slots % len(order):
        raise LayoutError(f"an order of {len(order)} slots does not divide {slots} slots")
    return np.arange(slots).reshape(-1, len(order))[:, list(order)].reshape(-1)


def listed(order: Sequence[int], sizes: Sequence[int], local: Sequence[int]) -> np.ndarray:
    """For each slot the number that digits in the order of the modes write for its element.

    `local` are the modes that write slot numbers without the list, of these sizes. LayoutError if
    the list is no permutation, or does not divide the slots.
    """
    if sorted(order) != list(range(len(order))):
        raise LayoutError(f"an order names each slot from 0 on once, not {list(order)}")
    strides = {}
    step = 1
    for mode, size in sorted(zip(local, sizes, strict=True), reverse=True):
        strides[mode] = step
        step *= size
    return ramp(sizes, [strides[mode] for mode in local])[repeated(order, step)]


def canonical(
    slots: np.ndarray, modes: Sequence[int], sizes: Sequence[int]
) -> tuple[tuple[int, ...], list[Digit]]:
    """(the shortest list, digits of slot numbers) for an order; the list is empty where digits
    write it. `sizes` are those of the modes, which `slots` numbers with the last fastest."""
    digits = _digits(slots, modes, sizes)
    if digits is not None:
        return (), digits
    length = next(
        length for length in range(1, len(slots) + 1)
        if len(slots) % length == 0 and _repeats(slots, length)
    )  # fmt: skip
    whole = [(mode, size, 1) for mode, size in zip(modes, sizes, strict=True)]
    return tuple(map(int, slots[:length])), whole


def _repeats(slots: np.ndarray, length: int) -> bool:
    rows = slots.reshape(-1, length) - np.arange(0, len(slots), length)[:, None]
    return bool((rows[0] < length).all() and (rows == rows[0]).all())


def _digits(slots: np.ndarray, modes: Sequence[int], sizes: Sequence[int]) -> list[Digit] | None:
    """The digits that write the order, outermost first; None where none do."""
    if slots[0] != 0:
        return None
    found: list[tuple[int, int]] = []  # (extent, stride), innermost first
    block = 1
    while block < len(slots):
        steps = slots[::block]
        misses = np.flatnonzero(steps != np.arange(len(steps)) * steps[1])
        extent = int(misses[0]) if len(misses) else len(steps)
        if len(slots) % (block * extent):
            return None
        found.append((extent, int(steps[1])))
        block *= extent
    extents, strides = zip(*reversed(found), strict=True) if found else ((), ())
    if not np.array_equal(ramp(extents, strides), slots):
        return None
    digits = []
    for extent, stride in found:
        unit = 1
        for mode, size in reversed(list(zip(modes, sizes, strict=True))):
            # A digit may go on in the next mode, from the end of this one.
            if extent > 1 and unit <= stride < unit * size:
                inner = stride // unit
                if stride % unit or size % inner:
                    return None
                part = min(extent, size // inner)
                if extent % part:
                    return None
                digits.append((mode, part, inner))
                extent, stride = extent // part, stride * part
            unit *= size
    return digits[::-1]


def with_digits(
    modes: Sequence[int], spatial: Sequence[int], digits: Sequence[Digit]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(modes, spatial modes, local modes) with the modes of slots cut into these digits."""
    made: list[int] = []
    numbers: dict[Digit | int, int] = {}
    for mode, size in enumerate(modes):
        parts = sorted((d for d in digits if d[0] == mode), key=lambda d: -d[2])
        numbers |= {part: len(made) + i for i, part in enumerate(parts or [mode])}
        made += [extent for _, extent, _ in parts] or [size]
    return (
        tuple(made),
        tuple(m if m < 0 else numbers[m] for m in spatial),
        tuple(numbers[d] for d in digits),
    )


def product(outer: Sequence[int], inner: Sequence[int], slots: int) -> tuple[int, ...]:
    """The order of a product of layouts in these orders, the inner one of `slots` slots."""
    if not outer:
        return tuple(inner)
    order = repeated(inner or (0,), slots)
    return tuple(int(block * slots + slot) for block in outer for slot in order)
