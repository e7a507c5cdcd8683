"""Steps of all tiles of a product, shared evenly among a fixed number of blocks and their warps.

Where tiles are few, a block for each leaves multiprocessors without work. So all steps of all tiles
stand in one row, tile after tile, and every block takes as many of them as the next, of which every
worker (a warp) takes its share: a tile may be shared by several blocks, and a worker may end one
tile and begin another. There are no more tiles than blocks. So a block has no more steps than a
tile, and of its workers one at most does that.

Each block adds up what its workers have of a tile. It hands on the tile that it has not ended, and
the block that ends a tile waits for what those before it have of it and adds that, in the order of
the blocks: the same sums in the same order, however blocks run. Osama et al., "Stream-K:
Work-centric Parallel Decomposition for Dense Matrix-Matrix Multiplication on the GPU" (2023).

Nothing here divides by a size: that takes a tenth of a microsecond, and a block is soon done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vm.isa.builder import Builder


@dataclass(frozen=True)
class Share:
    """What block `block` of `blocks` has of `tiles` tiles of `steps` steps; steps are counted over
    all tiles. All but `blocks` may be expressions of a program."""

    block: Any
    blocks: Any
    tiles: Any
    steps: Any

    def begin(self, block: Any) -> Any:
        """The first step of a block; of the one behind the last, the number of all."""
        return block * (self.tiles * self.steps) // self.blocks

    @property
    def tile(self) -> Any:
        """The tile in which the block begins."""
        return self.block * self.tiles // self.blocks

    @property
    def boundary(self) -> Any:
        """The first step of the next tile."""
        return (self.tile + 1) * self.steps


def finish(
    b: Builder, share: Share, begin: Any, end: Any, boundary: Any, begin_of: Callable[[Any], Any],
    part: Any, handed: Any, done: Any, *, m: Any, warps: Any, shape: Any,
    layout: Any, store: Callable[[Any, Any], None],
) -> None:  # fmt: skip
    """Adds up the sums of a block's workers and those that other blocks have of the same tiles.

    The block has the steps from `begin` to `end`, worker w of it those from `begin_of(w)` on.
    `part[w]` is his sum for the tile in which he begins, and `part[warps]` that of the worker who
    goes on with the next tile. `handed[block, m]` takes the sum of the tile that the block does not
    end, and `done[block, m]` is 1 while it lies there. `store(tile, sum)` gets the tile that this
    block ends, if any. Sums of a tile have this shape and are held as `layout` says.
    """
    block, zero = share.block, b.fill(0.0, b.f32, shape, layout=layout)
    first = b.var(value=zero)  # of the tile in which the block begins
    second = b.var(value=zero)
    goes_on = b.var(value=boundary < end)  # whether a worker ends one tile and begins the next
    for worker in b.range(warps, unroll="full"):
        sum_here = b.load(part[worker], layout=layout)
        in_first = begin_of(worker) < boundary
        first.assign(first + b.where(in_first, sum_here, 0.0))
        second.assign(second + b.where(in_first, 0.0, sum_here))
        goes_on.assign(b.and_(goes_on, begin_of(worker) != boundary))
    with b.if_(goes_on):
        second.assign(second + b.load(part[warps], layout=layout))
    # What others wait for comes first: the tile that the block does not end, if it has any of it.
    with b.if_(boundary < end):
        b.store(handed[block, m], second)
    with b.if_(end < boundary):
        b.store(handed[block, m], first)
    with b.if_(end != boundary):
        b.semaphore_release(done[block, m], 1)
    with b.if_(end >= boundary):
        before = b.var(value=block)  # the first block that has some of the tile
        with b.while_(share.begin(before) > boundary - share.steps):
            before.assign(before - 1)
        for other in b.range(before, block):
            b.semaphore_wait(done[other, m], 1)
        for other in b.range(before, block, unroll=4):
            first.assign(first + b.load(handed[other, m], layout=layout))
        store(share.tile, first)
        for other in b.range(before, block):
            b.semaphore_release(done[other, m], 0)
