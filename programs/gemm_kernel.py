"""The kernel of `programs.gemm`: what a block, its workers and the sums of workers do."""

from __future__ import annotations

from typing import Any

from programs.gemm_shares import Share, finish
from programs.gemm_sources import BulkRing, Registers, ThreadRing
from programs.gemm_tiling import LANES, Tiling, bytes_of_rows, plus, times
from vm.isa.builder import Builder, Definition


def add_gemm(b: Builder, t: Tiling) -> Definition:
    """The program `gemm`."""
    form, schedule = t.form, t.schedule
    M, N, K, f32 = t.M, t.N, t.K, b.f32
    few = [t.blocks <= t.BLOCKS, t.blocks * t.steps >= t.BLOCKS] if schedule.blocks else []

    @b.program(
        grid=(t.BLOCKS if schedule.blocks else t.blocks, b.ceil_div(M, t.COLUMNS)),
        threads=t.WARPS * LANES,
        where=[*t.whole, *few, b.aligned("A", 16), b.aligned("P", 16), b.resident(t.RESIDENT)],
    )
    def gemm(
        A: b.global_(t.ACTIVATION)[M, K],
        P: b.constant(b.global_(b.u8))[t.stages],
        S: None if form.group else b.constant(b.global_(t.SCALE))[t.groups],
        Z: b.constant(b.global_(t.WEIGHT))[t.groups] if form.zero_point and not form.group
        else None,
        T: b.global_(t.ACTIVATION)[t.ENTRIES] if form.entries else None,
        second: f32 if form.second_level else None,
        C: b.out(b.global_(t.ACTIVATION))[M, N],
    ):
        """C = A W^T, with W as `pack` stores it."""
        _Block(b, t, A, P, S, Z, T, second, C).write()

    return gemm


class _Block:
    """A block of the kernel, made of statements in the order in which `write` calls for them."""

    def __init__(
        self, b: Builder, t: Tiling, A: Any, P: Any, S: Any, Z: Any, T: Any, second: Any, C: Any
    ):
        self.b, self.t, self.form, self.schedule = b, t, t.form, t.schedule
        self.A, self.P, self.S, self.Z, self.T, self.second, self.C = A, P, S, Z, T, second, C
        # Zero points are taken from weights, or times sums of activations from products.
        self.taken_from = b.f32 if t.outside else t.ACTIVATION

    def write(self) -> None:
        b, t, form, schedule = self.b, self.t, self.form, self.schedule
        b.grid_launch_dependents()
        if schedule.blocks:
            block, m = b.block_index()
            done = b.semaphore_alloc([t.BLOCKS, b.ceil_div(t.M, t.COLUMNS)])
            handed = b.global_alloc(
                b.f32, [t.BLOCKS, b.ceil_div(t.M, t.COLUMNS), t.ROWS, t.COLUMNS]
            )
            even = Share(block, t.BLOCKS, t.blocks, t.steps)
            begin = even.begin(block)
            end = even.begin(block + 1)
            tile = even.tile
            boundary = even.boundary
            self.begin, self.end, self.tile, self.boundary = begin, end, tile, boundary
        else:
            n, m = b.block_index()
            self.n = n
        self.m = m
        # One warp may end a tile of rows and begin the next.
        workers = t.WARPS + 1 if schedule.blocks else t.WARPS
        part = b.shared_alloc(b.f32, [workers, t.ROWS, t.COLUMNS])
        self.part = part
        kind = BulkRing if schedule.bulk else ThreadRing if schedule.stages else Registers
        self.source = kind(b, t, self.P)
        if form.entries:
            table = b.shared_alloc(t.ACTIVATION, [t.ENTRIES])
            self.table = table
            b.grid_wait()
            b.store(table, b.load(self.T))
            b.synchronize()
        with b.group("worker", warps=1, copies=t.WARPS):
            self.work()
        b.synchronize()
        if schedule.blocks:
            finish(b, even, begin, end, boundary, self.begin_of, part, handed, done, m=m,
                   warps=t.WARPS, shape=[t.ROWS, t.COLUMNS], layout=t.shares_of_one,
                   store=self.store)  # fmt: skip
        else:
            total = b.reduce(b.load(part, layout=t.shares), axis=0, keep=False)
            self.store(n, total)

    def begin_of(self, w: Any) -> Any:
        """The first step of a worker of the block, among those of all tiles."""
        return self.begin + w * (self.end - self.begin) // self.t.WARPS

    def store(self, n: Any, total: Any) -> None:
        """Stores the outputs of a tile of rows."""
        b, t = self.b, self.t
        if self.form.group is None:
            total = total * b.cast(b.load(self.S[n * t.ROWS : +t.ROWS, 0:+1]), b.f32)
        if self.form.second_level:
            total = total * self.second
        b.store(self.C[self.m * t.COLUMNS : +t.COLUMNS, n * t.ROWS : +t.ROWS],
                b.cast(b.transpose(total), t.ACTIVATION))  # fmt: skip

    def work(self) -> None:
        """What a worker does: adds up the products of its stages."""
        b, t, schedule = self.b, self.t, self.schedule
        w = b.group_index()
        if schedule.blocks:
            share = self.begin_of(w + 1) - self.begin_of(w)
            goes_on = self.begin_of(w) >= self.boundary
            tile_of_w = b.where(goes_on, self.tile + 1, self.tile)
            first = self.begin_of(w) - tile_of_w * t.steps
        else:
            first = w * t.steps // t.WARPS
            share = (w + 1) * t.steps // t.WARPS - first

        def place(g: Any) -> tuple[Any, Any]:
            """The tile of rows of the worker's stage g, and which of its stages that is."""
            at = first + g
            if not schedule.blocks:
                return self.n, at
            is_next = at >= t.steps
            return (
                b.where(is_next, tile_of_w + 1, tile_of_w), b.where(is_next, at - t.steps, at)
            )  # fmt: skip

        self.source.begin(w, share, place)
        if not self.form.entries:
            b.grid_wait()
        sum = b.var(b.register(b.f32)[t.ROWS, t.COLUMNS], b.fill(0.0))
        self.sum, self.taken = sum, None
        if t.outside:
            taken_off = 1 if self.form.zero_point else self.form.offset + t.excess
            less = b.fill(-float(taken_off), dtype=t.ACTIVATION, shape=[16, t.BK])
            self.less = less
            if self.form.group is None:
                taken = b.var(b.register(b.f32)[16, t.COLUMNS], b.fill(0.0))
                self.taken = taken
        if not schedule.blocks:
            self.multiply_all(self.n, first, share)
            b.store(self.part[w], sum)
            return
        in_first = b.min(share, t.steps - first)
        for turn in b.range(2):
            begins = b.where(turn > 0, in_first, 0)
            ends = b.where(turn > 0, share, in_first)
            with b.if_(b.or_(turn == 0, begins < ends)):
                self.multiply_all(tile_of_w + turn, first - turn * t.steps, begins, ends)
                b.store(self.part[b.where(turn > 0, t.WARPS, w)], sum)
                sum.assign(b.fill(0.0))
                if self.taken is not None:
                    self.taken.assign(b.fill(0.0))

    def multiply_all(self, n: Any, origin: Any, *bounds: Any) -> None:
        """Adds up the products of some of the worker's stages, stage g of which is stage
        `origin + g` of tile n of rows."""
        b, t, form, schedule = self.b, self.t, self.form, self.schedule
        column_zero = None
        if form.group is None and form.zero_point:
            column_zero = b.cast(b.load(self.Z[n * t.ROWS : +t.ROWS, 0:+1]), self.taken_from)
            column_zero = column_zero + float(t.excess) if t.excess else column_zero
        for g in b.range(*bounds):
            slot = self.source.slot(g)
            x = self.activations(origin + g, 0)  # asked for before the wait for the weights
            self.source.wait(g, slot)
            self.multiply(x, g, origin + g, slot, 0, column_zero)
            if schedule.span > 1:
                for j in b.range(1, t.SPAN, unroll="full"):
                    more = self.activations(origin + g, times(j, t.parts))
                    self.multiply(more, g, origin + g, slot, j, column_zero)
            self.source.release(g, slot)
        if t.outside and not form.group:
            of_all = self.for_rows(self.taken)
            self.sum.assign(self.sum + (of_all * column_zero if form.zero_point else of_all))

    def multiply(self, x: Any, g: Any, at: Any, slot: Any, j: Any, column_zero: Any) -> None:
        """Adds the products of step j of a stage, scaled; `x` is for its first tile."""
        b, t, form = self.b, self.t, self.form
        zero = column_zero
        if form.group and form.zero_point:
            zero = self.of_rows(self.of_step("zero", slot, t.zeros_at, t.ROWS, t.ZERO, j),
                                self.taken_from)  # fmt: skip
            zero = zero + float(t.excess) if t.excess else zero
        acc, removed = (), ()  # what was before, if anything
        for part in range(t.parts):
            tile = plus(times(j, t.parts), part)
            x = self.activations(at, tile) if part else x
            if form.group:
                acc = (self.product(x, slot, tile, zero, *acc),)
            else:
                self.sum.assign(self.product(x, slot, tile, zero, self.sum))
            self.source.used_up(part, g)
            if t.outside and form.group:
                removed = (b.dot(self.less, b.transpose(x), *removed),)
            elif t.outside:
                self.taken.assign(b.dot(self.less, b.transpose(x), self.taken))
        if not form.group:
            return
        scale = self.of_rows(
            self.of_step("scale", slot, t.scales_at, t.scale_bytes, t.SCALE, j), b.f32
        )
        if t.outside and form.zero_point:
            self.sum.assign(b.fma(self.for_rows(*removed), zero * scale, self.sum))
        elif t.outside:
            acc = (acc[0] + self.for_rows(*removed),)
        self.sum.assign(b.fma(*acc, scale, self.sum))
        self.source.used_up("scale", g)
        if form.zero_point:
            self.source.used_up("zero", g)

    def product(self, x: Any, slot: Any, tile: Any, zero: Any, *before: Any) -> Any:
        """The product of a tile, added to what was before."""
        b, t = self.b, self.t
        held = self.source.piece(tile, slot, times(tile, t.TILE), t.TILE, t.bytes)
        if t.as_bits:
            held = b.relayout(b.view(held, b.u1, layout=t.held_bits), t.by_bit)
        q = b.view(held, t.CODE, layout=t.codes)
        return b.dot(self.values(q, zero), b.transpose(x), *before)

    def values(self, q: Any, zero: Any) -> Any:
        """The weights of a tile without their scales."""
        b, t, form = self.b, self.t, self.form
        if form.entries:
            return b.lookup(q, self.table)
        numbers = q if form.weight == form.activation else b.cast(q, t.ACTIVATION)
        if t.outside:
            return numbers
        if form.offset:
            numbers = numbers - float(form.offset)
        return numbers - zero if form.zero_point else numbers

    def activations(self, step: Any, tile: Any) -> Any:
        """Those of a tile of a stage."""
        b, t = self.b, self.t
        at = plus(step * t.tiles, tile) * t.BK
        return b.load(self.A[self.m * t.COLUMNS : +t.COLUMNS, at : +t.BK],
                      layout=t.dots.b.transpose())  # fmt: skip

    def of_step(self, key: Any, slot: Any, at: Any, count: Any, kind: Any, j: Any) -> Any:
        """A number for each row, `count` bytes of all, behind the weights of a stage."""
        b, t = self.b, self.t
        at = plus(at, times(j, count))
        held = self.source.piece(key, slot, at, count, bytes_of_rows(b, count // 8))
        return b.view(held, kind, layout=t.by_row)

    def of_rows(self, x: Any, kind: Any) -> Any:
        """A number for each row, as a column in the type of the computation."""
        return self.b.cast(self.b.reshape(self.b.transpose(x), [self.t.ROWS, 1]), kind)

    def for_rows(self, x: Any) -> Any:
        """16 equal rows as all rows of a tile."""
        b, t = self.b, self.t
        tall = b.broadcast(b.reshape(x, [1, 16, t.COLUMNS]), [t.ROWS // 16, 16, t.COLUMNS])
        return b.reshape(tall, [t.ROWS, t.COLUMNS])
