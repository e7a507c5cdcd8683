"""Small worlds: every register layout with few modes, and an evaluator that knows only
definitions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import permutations
from math import prod

import numpy as np
from hypothesis import strategies

from vm.layouts import RegisterLayout, column_local, column_spatial, local, replicated, spatial

Function = dict[tuple[int, int], tuple[int, ...]]


def unravel(number: int, extents: tuple[int, ...], column: bool = False) -> tuple[int, ...]:
    """Digits of a number, last digit fastest (first digit fastest if column)."""
    order = range(len(extents)) if column else range(len(extents) - 1, -1, -1)
    digits = [0] * len(extents)
    for axis in order:
        digits[axis] = number % extents[axis]
        number //= extents[axis]
    return tuple(digits)


def definition(layout: RegisterLayout) -> np.ndarray:
    """index[thread, slot, axis], straight from the meaning of modes."""
    digit: dict[int, np.ndarray] = {}
    counts = []
    for order, across in ((layout.spatial_modes, (-1, 1)), (layout.local_modes, (1, -1))):
        sizes = tuple(-m if m < 0 else layout.modes[m] for m in order)
        counts.append(prod(sizes))
        number = np.arange(counts[-1]).reshape(across)
        for m, size in zip(reversed(order), reversed(sizes), strict=True):
            digit[m] = number % size
            number = number // size
    result = np.zeros((*counts, len(layout.shape)), np.int64)
    m = 0
    for axis, extent in enumerate(layout.shape):
        covered = 1
        while covered != extent:
            result[:, :, axis] = result[:, :, axis] * layout.modes[m] + digit[m]
            covered *= layout.modes[m]
            m += 1
    return result


def function(layout: RegisterLayout) -> Function:
    """(thread, slot) -> index, as a dict."""
    return {
        (thread, slot): tuple(index)
        for thread, row in enumerate(definition(layout).tolist())
        for slot, index in enumerate(row)
    }


def product_function(outer: Function, inner: Function, shape: tuple[int, ...]) -> Function:
    """The definition: h(t, i) = f(t div T, i div N) (.) S + g(t mod T, i mod N)."""
    threads = 1 + max(t for t, _ in inner)
    slots = 1 + max(i for _, i in inner)
    outer_threads = 1 + max(t for t, _ in outer)
    outer_slots = 1 + max(i for _, i in outer)
    return {
        (t, i): tuple(
            a * n + b
            for a, n, b in zip(
                outer[t // threads, i // slots], shape, inner[t % threads, i % slots], strict=True
            )
        )
        for t in range(outer_threads * threads)
        for i in range(outer_slots * slots)
    }


def _factorizations(size: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Ordered ways to write size as `parts` factors > 1."""
    if parts == 0:
        if size == 1:
            yield ()
        return
    for first in range(2, size + 1):
        if size % first == 0:
            for rest in _factorizations(size // first, parts - 1):
                yield (first, *rest)


@cache
def every_layout(elements: int, rank: int, replications: tuple[int, ...] = ()) -> tuple:
    """Every layout of `elements` elements, at most 3 modes and `rank` axes, each also with every
    placing of the given replications among the thread digits."""
    found: dict[RegisterLayout, None] = {}
    for parts in range(4):
        for modes in _factorizations(elements, parts):
            for cuts in _compositions(parts, rank):
                shape, position = [], 0
                for count in cuts:
                    shape.append(prod(modes[position : position + count]))
                    position += count
                for order in permutations(range(parts)):
                    for split in range(parts + 1):
                        threads, slots = order[:split], order[split:]
                        found[RegisterLayout(tuple(shape), modes, threads, slots)] = None
                        for copies in replications:
                            for place in range(split + 1):
                                spread = (*threads[:place], -copies, *threads[place:])
                                found[RegisterLayout(tuple(shape), modes, spread, slots)] = None
    return tuple(found)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def _factor(rank: int) -> strategies.SearchStrategy[RegisterLayout]:
    extents = strategies.lists(
        strategies.sampled_from([1, 1, 2, 3, 4]), min_size=rank, max_size=rank
    )
    shaped = strategies.builds(
        lambda make, shape: make(*shape),
        strategies.sampled_from([local, spatial, column_local, column_spatial]),
        extents,
    )
    return strategies.one_of(
        shaped, shaped, shaped, strategies.builds(replicated, strategies.integers(1, 3))
    )


def products(rank: int = 2, most: int = 3) -> strategies.SearchStrategy[RegisterLayout]:
    """Products of a few factors of the given rank."""

    def build(factors: list[RegisterLayout]) -> RegisterLayout:
        result = local(*(1,) * rank)
        for factor in factors:
            result = result * factor
        return result

    return strategies.lists(_factor(rank), max_size=most).map(build)


@strategies.composite
def general(draw: strategies.DrawFn, rank: int = 2, power_of_two: bool = False) -> RegisterLayout:
    """Any layout: axes of random modes, in any order, with replication anywhere."""
    sizes = [2, 2, 4] if power_of_two else [2, 2, 3, 4, 5]
    copies = [2, 4] if power_of_two else [2, 3]
    groups = [
        draw(strategies.lists(strategies.sampled_from(sizes), max_size=2)) for _ in range(rank)
    ]
    modes = tuple(size for group in groups for size in group)
    order = draw(strategies.permutations(range(len(modes))))
    split = draw(strategies.integers(0, len(modes)))
    threads = list(order[:split])
    for count in draw(strategies.lists(strategies.sampled_from(copies), max_size=1)):
        threads.insert(draw(strategies.integers(0, len(threads))), -count)
    shape = tuple(prod(group) for group in groups)
    return RegisterLayout(shape, modes, tuple(threads), tuple(order[split:]))
