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
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vm.isa.builder import Builder


@dataclass(frozen=True)
class Shares:
    """`total` units in a row, shared by `count`: no one has two more than another."""

    total: Any
    count: Any

    def begin(self, who: Any) -> Any:
        """The first unit of one of them; of the one behind the last, the total."""
        return who * self.total // self.count

    def owner(self, unit: Any) -> Any:
        """Who has a unit: the last one that begins at it or before."""
        return ((unit + 1) * self.count - 1) // self.total


def finish(
    b: Builder, blocks: Shares, begin: Any, end: Any, workers: Shares, part: Any, handed: Any,
    done: Any, *, block: Any, m: Any, steps: Any, layout: Any, store: Callable[[Any, Any], None],
) -> None:  # fmt: skip
    """Adds up the sums of a block's workers and those that other blocks have of the same tiles.

    The block has the units from `begin` to `end`, which `workers` share. `part[w]` is the sum of
    worker w for the tile in which it begins, and that behind the last is the sum of the one that
    goes on with the next tile. `handed[block, m]` takes the sum of the tile that the block does not
    end, and `done[block, m]` is 1 while it lies there. `store(tile, sum)` gets the tile that this
    block ends, if any, with sums held as `layout` says.
    """

    def add_up(place: Any, low: Any, last: Any) -> Any:
        """The sum in a place, which is worker `low`'s, and those of the workers behind him as far
        as they have units before unit `last` of the block."""
        sum_here = b.var(value=b.load(part[place], layout=layout))
        high = workers.owner(last - 1)
        for worker in b.range(low + 1, high + 1, unroll=4):
            sum_here.assign(sum_here + b.load(part[worker], layout=layout))
        return sum_here

    tile = begin // steps  # that in which the block begins
    ends = end // steps  # that which it does not end
    # What others wait for comes first.
    with b.if_(b.and_(begin < end, end % steps > 0)):
        first = b.max(ends * steps - begin, 0)
        low = workers.owner(first)
        place = b.where(workers.begin(low) < first, workers.count, low)
        b.store(handed[block, m], add_up(place, low, end - begin))
        b.semaphore_release(done[block, m], 1)
    with b.if_(tile < ends):
        total = add_up(0, 0, ends * steps - begin)
        before = blocks.owner(tile * steps)
        for other in b.range(before, block):
            b.semaphore_wait(done[other, m], 1)
        for other in b.range(before, block, unroll=4):
            total.assign(total + b.load(handed[other, m], layout=layout))
        for other in b.range(before, block):
            b.semaphore_release(done[other, m], 0)
        store(tile, total)
