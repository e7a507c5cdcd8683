"""The layouts that programs use most: a coalesced tile, and the bytes of a register tensor."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import Protocol

from vm.layouts.errors import LayoutError
from vm.layouts.modes import prime_factors, whole_numbers
from vm.layouts.register import RegisterLayout, local, replicated


class HasBits(Protocol):
    """Anything with a width, such as a dtype."""

    bits: int


def bit_width(bits: int | HasBits) -> int:
    """Width in bits, given itself or by something that has one."""
    (width,) = whole_numbers((getattr(bits, "bits", bits),), "bits")
    return width


def packed(layout: RegisterLayout, bits: int | HasBits) -> RegisterLayout:
    """The registers of a tensor of `bits` wide elements in `layout`, seen as bytes: a 1-axis
    layout over the same threads in which each thread holds runs of up to 16 bytes, and a warp's
    runs are contiguous, so that loads and stores of the bytes are as wide as they can be.

    Threads that hold copies of elements hold copies of their bytes, so that a view works both
    ways and no byte is stored twice.

    Source: Tilus, section 7.2 (weight transform). LayoutError if a thread does not hold whole
    bytes."""
    width = bit_width(bits)
    total = layout.slots * width
    if total % 8:
        raise LayoutError(
            f"{layout} holds {layout.slots} elements of {width} bits per thread, {total} bits: "
            "not whole "
            f"bytes; a multiple of {8 // gcd(8, width)} elements per thread would be"
        )
    count = total // 8
    run = gcd(count, 16)
    result = local(count // run)
    for mode, size in zip(layout.spatial_modes, layout.spatial_sizes, strict=True):
        result = result.replicated(size) if mode < 0 else result.spatial(size)
    return result.local(run)


def default_layout(shape: Sequence[int], threads: int, vector: int = 1) -> RegisterLayout:
    """A coalesced layout of a tile over `threads` threads: runs of up to `vector` elements of
    the last axis per thread, neighbouring threads on neighbouring runs, what is left repeated
    per thread.

    Works for every shape: extents are shared out by greatest common divisors from the last axis
    on, and threads that find no share replicate. The run is shortened while that lets more
    threads take part."""
    shape = whole_numbers(shape, "shape")
    (threads,) = whole_numbers((threads,), "threads")
    (vector,) = whole_numbers((vector,), "vector")
    if not shape:
        return replicated(threads) * local()
    run = gcd(vector, shape[-1])
    shares = _shares(shape, threads, run)
    for prime in prime_factors(run):
        shorter = _shares(shape, threads, run // prime)
        if prod(shorter) > prod(shares):
            run, shares = run // prime, shorter
    runs = (*(1,) * (len(shape) - 1), run)
    repeats = (n // s // r for n, s, r in zip(shape, shares, runs, strict=True))
    spread = replicated(threads // prod(shares)).local(*repeats)
    return spread.spatial(*shares).local(*runs)


def _shares(shape: Sequence[int], threads: int, run: int) -> tuple[int, ...]:
    shares = []
    for axis in range(len(shape) - 1, -1, -1):
        extent = shape[axis] // run if axis == len(shape) - 1 else shape[axis]
        shares.insert(0, gcd(threads, extent))
        threads //= shares[0]
    return tuple(shares)
