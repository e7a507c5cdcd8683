"""Steps of all tiles of a product, shared evenly among the warps of a fixed number of blocks.

Where tiles are few, a block for each leaves multiprocessors without work. So all steps of all tiles
stand in one row, tile after tile, and every worker (a warp) takes as many of them as the next: a
tile may be shared by workers of several blocks, and a worker may end one tile and begin another.
Each block adds up what its workers have of a tile. It hands on the tile that it has not ended, and
the block that ends a tile waits for what those before it have of it and adds that, in the order of
the blocks: the same sums in the same order, however blocks run. Osama et al., "Stream-K:
Work-centric Parallel Decomposition for Dense Matrix-Matrix Multiplication on the GPU" (2023), do so
for blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vm.isa.builder import Builder


@dataclass(frozen=True)
class Shares:
    """Who has which units: workers' shares differ by at most one, the larger ones first.

    `least` units has each of the workers, and the first `more` of them one more.
    """

    b: Builder
    least: Any
    more: Any

    def begin(self, worker: Any) -> Any:
        """The first unit of a worker."""
        return worker * self.least + self.b.min(worker, self.more)

    def worker_of(self, unit: Any) -> Any:
        """Who has a unit."""
        b, least, more = self.b, self.least, self.more
        end = more * (least + 1)  # of the larger shares
        smaller = more + (unit - end) // b.max(least, 1)
        return b.where(unit < end, unit // (least + 1), smaller)


def finish(
    shares: Shares, part: Any, handed: Any, done: Any, *, block: Any, m: Any, warps: Any,
    steps: Any, layout: Any, store: Callable[[Any, Any], None],
) -> None:  # fmt: skip
    """Adds up the sums of a block's workers and those that other blocks have of the same tiles.

    `part[w, 0]` is the sum of worker w of the block for the tile in which it begins, `part[w, 1]`
    for the next one. `handed[block, m]` takes the sum of the tile that the block does not end, and
    `done[block, m]` is 1 while it lies there. `store(tile, sum)` gets every tile that this block
    ends, with sums held as `layout` says.
    """
    b = shares.b
    first = block * warps
    begin, end = shares.begin(first), shares.begin(first + warps)

    def sum_of(tile: Any) -> Any:
        """What this block has of a tile."""
        low = shares.worker_of(b.max(tile * steps, begin))
        high = shares.worker_of(b.min((tile + 1) * steps, end) - 1)
        turn = b.where(shares.begin(low) < tile * steps, 1, 0)
        sum_here = b.var(value=b.load(part[low - first, turn], layout=layout))
        for worker in b.range(low + 1, high + 1, unroll=4):
            sum_here.assign(sum_here + b.load(part[worker - first, 0], layout=layout))
        return sum_here

    # What others wait for comes first.
    with b.if_(b.and_(begin < end, end % steps > 0)):
        b.store(handed[block, m], sum_of(end // steps))
        b.semaphore_release(done[block, m], 1)
    for tile in b.range(begin // steps, end // steps):
        total = sum_of(tile)
        before = shares.worker_of(tile * steps) // warps
        for other in b.range(before, block):
            b.semaphore_wait(done[other, m], 1)
        for other in b.range(before, block, unroll=4):
            total.assign(total + b.load(handed[other, m], layout=layout))
        for other in b.range(before, block):
            b.semaphore_release(done[other, m], 0)
        store(tile, total)
