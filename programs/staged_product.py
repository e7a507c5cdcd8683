"""A B, tile by tile along K: the loop that all matmuls with stored weights have in common."""

from __future__ import annotations

from collections.abc import Callable

from programs.checkpoints import Extent
from vm.isa.builder import Builder
from vm.isa.builder_expressions import Expression, Variable


def staged_product(
    b: Builder,
    A: Expression,
    start: Expression,
    extents: tuple[Extent, Extent, Extent],
    stages: Extent,
    depth: Expression,
    activation: Expression,
    weights: Callable[[Expression], Expression],
    fetch: Callable[[Expression, Expression], None] = lambda slot, k: None,
) -> Variable:
    """The f32 sums of the rows of A from `start` on, times weights: [BM, BN] of `extents` BM, BN,
    BK, over all of K = `depth`.

    Tiles of A, which are of `activation`, come through shared memory, `stages` of them in flight.
    `weights(k)` is the tile [BK, BN] at position k, counted in tiles; `fetch(slot, k)` starts the
    copies that it needs in that slot of `stages`. Past M and K rows and columns of A are 0.
    """
    BM, BN, BK = extents
    STAGES = stages
    a = b.shared_alloc(activation, [STAGES, BM, BK])
    acc = b.var(b.register(b.f32)[BM, BN], b.fill(0.0))
    for s in b.range(STAGES - 1, unroll="full"):
        b.copy_async(a[s], A[start : +BM, s * BK : +BK])
        fetch(s, s)
        b.commit_async()
    for k in b.range(b.ceil_div(depth, BK)):
        b.wait_async(STAGES - 2)
        b.synchronize()
        ahead = k + STAGES - 1
        slot = ahead % STAGES
        b.copy_async(a[slot], A[start : +BM, ahead * BK : +BK])
        fetch(slot, ahead)
        b.commit_async()
        acc.assign(b.dot(b.load(a[k % STAGES]), weights(k), acc))
    return acc
