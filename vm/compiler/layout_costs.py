"""What layouts cost: a rough model that decides between ways of doing the same.

The unit is what one multiprocessor does in 1/128 of a cycle: an operation on one element of one
thread, or one byte through shared memory or the load and store units (32 lanes and 128 bytes a
cycle per unit on NVIDIA GPUs since Volta; CUDA C++ Programming Guide, arithmetic throughput and
shared memory). Only comparisons matter.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd, prod

import numpy as np

from vm.layouts import LayoutError, RegisterLayout
from vm.layouts.fragments import TRANSFERS

# A barrier makes every warp wait for the slowest: about 30 cycles, spread over 128 threads.
BARRIER_PER_THREAD = 32
# What a register permutation costs: nothing but the chance that it is no mere renaming.
RENAMING = 1
SECTOR_BYTES = 32
# A loop is taken to make this many turns.
TURNS = 8
DEEPEST = 4
# Multiplications and additions that tensor cores do in the unit (1024 a cycle on A100, f16).
PRODUCTS_PER_UNIT = 8


def loop_weight(depth: int) -> int:
    """How often what stands in `depth` loops is taken to run."""
    return TURNS ** min(depth, DEEPEST)


def compute_cost(layout: RegisterLayout) -> int:
    """One operation on every element that every thread holds, copies included."""
    return layout.threads * layout.slots


def dot_cost(c: RegisterLayout, depth: int) -> int:
    """The products of all warps, those that compute copies included."""
    return c.threads * c.slots * depth // PRODUCTS_PER_UNIT


@lru_cache(maxsize=512)
def run_length(layout: RegisterLayout) -> int:
    """How many neighbours along the last axis a thread holds in consecutive slots."""
    if not layout.local_modes or layout.slot_order:
        return 1
    mode = layout.local_modes[-1]
    last = layout.mode_axes[mode] == layout.rank - 1 and layout.mode_strides[mode] == 1
    return layout.modes[mode] if last else 1


def access_elements(layout: RegisterLayout, bits: int) -> int:
    """Elements of one access of up to 16 bytes to a tile whose last axis is contiguous."""
    run = run_length(layout)
    return max(
        (n for n in (2**e for e in range(8)) if run % n == 0 and n * bits <= 128), default=1
    )  # fmt: skip


@lru_cache(maxsize=512)
def shared_cost(layout: RegisterLayout, bits: int) -> int:
    """Loading or storing a tile of shared memory, free of bank conflicts: 4 bytes at least."""
    elements = access_elements(layout, bits)
    if elements * bits < 32 and bits == 16 and _moves_transposed(layout):
        return layout.threads * layout.slots * 2
    accesses = layout.slots // elements
    return layout.threads * accesses * max(4, elements * bits // 8)


def _moves_transposed(layout: RegisterLayout) -> bool:
    """Whether ldmatrix loads it transposed."""
    if layout.rank < 2:
        return False
    try:
        _ = layout / TRANSFERS["ldmatrix_x1_trans"].atom.with_rank(layout.rank)
    except LayoutError:
        return False
    return True


@lru_cache(maxsize=512)
def global_cost(layout: RegisterLayout, bits: int, warp_width: int) -> int:
    """Loading or storing a tile of global memory whose rows lie far apart.

    The larger of what the load and store units move and the sectors that the requests of each warp
    touch.
    """
    elements = access_elements(layout, bits)
    accesses = layout.slots // elements
    units = layout.threads * accesses * max(4, elements * bits // 8)
    shape = layout.shape or (1,)
    # Rows begin at a multiple of 16 sectors behind each other's ends.
    row_bits = (-(-shape[-1] * bits // (SECTOR_BYTES * 8)) + 16) * SECTOR_BYTES * 8
    first = layout.flat()[:, ::elements]
    row, column = np.divmod(first, shape[-1])
    start = row * row_bits + column * bits
    sector = start // (SECTOR_BYTES * 8)
    requests = sector[: layout.threads // warp_width * warp_width or None].reshape(
        -1, min(warp_width, layout.threads), accesses
    )
    ordered = np.sort(requests, axis=1)
    touched = requests.shape[0] * accesses + int((ordered[:, 1:] != ordered[:, :-1]).sum())
    sectors_each = max(1, -(-elements * bits // (SECTOR_BYTES * 8)))
    return max(units, touched * sectors_each * SECTOR_BYTES)


@lru_cache(maxsize=512)
def relayout_cost(source: RegisterLayout, target: RegisterLayout, bits: int, warp: int) -> int:
    """Moving a tensor from one layout to another of the same threads."""
    if source == target:
        return 0
    kind, moved = relayout_kind(source, target, warp)
    unit = max(1, -(-bits // 8))
    if kind == "renaming":
        return RENAMING
    if kind == "select":
        return RENAMING + compute_cost(target)
    vector = min(_common_run(source, target), max(1, 4 // unit))
    if kind == "shuffles":
        return moved // vector * max(4, unit)
    written = source.size // _narrow(source, unit) * max(4, unit)
    read = target.threads * target.slots // _narrow(target, unit) * max(4, unit)
    return written + read + 2 * BARRIER_PER_THREAD * source.threads


def relayout_kind(source: RegisterLayout, target: RegisterLayout, warp: int) -> tuple[str, int]:
    """How a relayout is done, and how many elements leave their thread.

    "renaming": each slot of the target is a slot of the same thread, alike in all threads;
    "select": other slots in other threads; "shuffles": within warps; "shared": between them.
    """
    owner = source.owner()
    wanted = target.flat()
    home, slot = owner[wanted] // source.slots, owner[wanted] % source.slots
    own = _without_copies(source)[:, None]
    moved = int((home != own).sum())
    if not moved:
        return ("renaming" if (slot == slot[:1]).all() else "select"), 0
    return ("shuffles" if (home // warp == own // warp).all() else "shared"), moved


def _without_copies(layout: RegisterLayout) -> np.ndarray:
    """For each thread, the lowest one that holds the same elements."""
    result = np.zeros(1, np.int64)
    for mode, size in zip(layout.spatial_modes, layout.spatial_sizes, strict=True):
        digit = np.zeros(size, np.int64) if mode < 0 else np.arange(size)
        result = (result[:, None] * size + digit[None, :]).reshape(-1)
    return result


def _narrow(layout: RegisterLayout, unit: int) -> int:
    """Elements that a 4-byte access to row-major shared memory moves."""
    return gcd(run_length(layout), max(1, 4 // unit))


def _common_run(source: RegisterLayout, target: RegisterLayout) -> int:
    return gcd(run_length(source), run_length(target))


@lru_cache(maxsize=512)
def reduce_cost(layout: RegisterLayout, axis: int, warp: int) -> int:
    """Combining slots, then lanes by shuffles, then warps through shared memory."""
    kept = layout.reduce(axis)
    below, across, lanes = layout.threads, 1, 1
    for mode, size in zip(layout.spatial_modes, layout.spatial_sizes, strict=True):
        below //= size
        if mode >= 0 and layout.mode_axes[mode] == axis:
            inside = min(size, max(1, warp // below))
            lanes *= inside
            across *= size // inside
    cost = compute_cost(layout)
    partial = layout.threads * prod(kept.local_sizes)
    cost += partial * 5 * (lanes.bit_length() - 1)
    if across > 1:
        cost += partial * 4 * (1 + across) + 2 * BARRIER_PER_THREAD * layout.threads
    return cost
