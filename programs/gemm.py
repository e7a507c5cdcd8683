"""C = A W^T for few rows of A, where a language model decodes: one builder for all weights.

W is read once, and that is all the time there is. So it is the 16-row operand of the matrix unit,
a block makes `rows` outputs for `columns` rows of A, and each of its warps takes a share of K. It
has its own ring of stages in shared memory, or takes the weights straight to registers: no warp
waits for another until the end, where their sums are added. What varies is written down in a `Form`
(how weights are stored) and a `Schedule` (who does what when). The module that `gemm` makes of the
two has the program that packs weights, scales and zero points once, `gemm` itself, its reference
and cases:

    python -m programs.gemm --weight u3 --offset 4 --print
    python -m programs.gemm --format nvfp4 --rows 32 --warps 16

Any M, N and K will do that groups divide: tiles that reach past an edge are packed with code 0 and
scale 0, and A reads 0 there.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields

from programs.gemm_shares import Share, finish
from programs.quantized_matmul import (
    LARGEST_RANDOM,
    Form,
    add_form_arguments,
    decoded,
    given_form,
    run_cases,
)
from vm.errors import VmError
from vm.isa.builder import Builder
from vm.isa.dtypes import DType, DTypeError, dtype
from vm.isa.program import Module

DEPTHS = (16, 32, 64, 128)
"""How much of K a tile of weights is."""
LANES = 32


@dataclass(frozen=True)
class Schedule:
    """Who does what when.

    A block makes `rows` outputs of `columns` rows of A with `warps` warps. A stage is `span` groups
    along K, and a warp has `stages` of them in flight; of a group at most `depth` is multiplied at
    once. With 0 stages a warp loads the next one straight to registers while it multiplies one.
    `resident` blocks sit on a multiprocessor at once, of this grid and of the next. `bulk` fills
    stages by one copy of the copy engine each (sm_90a and later), else every thread copies its
    part. `offset_outside` multiplies codes as they
    are and takes the offset or the zero points from the products, times the sums of activations
    (unsigned weights and f16 activations; infinite ones then give NaN). With 0 `blocks` there is
    one for each tile of rows; else so many, at least as many as tiles, share the steps of all
    tiles evenly, each warp as many as the next (`programs.gemm_shares`). Raises `ValueError` for
    what fits no fragment.
    """

    rows: int = 64
    columns: int = 8
    warps: int = 8
    stages: int = 2
    span: int = 1
    depth: int = 128
    resident: int = 2
    bulk: bool = True
    offset_outside: bool = True
    blocks: int = 0

    def __post_init__(self) -> None:
        for each in fields(self):
            least = 0 if each.name in ("stages", "blocks") else 1
            if each.type != "bool" and getattr(self, each.name) < least:
                raise ValueError(f"{each.name} is at least {least}")
        if self.rows % 16 or self.columns % 8:
            raise ValueError("rows are a multiple of 16, columns of 8: a fragment has so many")
        if self.depth not in DEPTHS:
            raise ValueError(f"the depth is {', '.join(map(str, DEPTHS))}")
        if not self.bulk and self.stages == 1:
            raise ValueError("copies of threads run ahead only with 2 stages or more")
        if not self.stages and (self.bulk or self.span > 1):
            raise ValueError("straight to registers go stages of span 1, and not in bulk")


def group_of(form: Form) -> int:
    """Along how much of K a thread adds up before it scales: a group, or a part of a long one.

    Raises `DTypeError` for groups that no fragment divides.
    """
    group = math.gcd(form.group or DEPTHS[-1], DEPTHS[-1])
    if group not in DEPTHS:
        raise DTypeError(f"groups of {form.group} fit no fragment: write a multiple of 16")
    return group


def _row_bits(form: Form) -> int:
    """Bits of what is stored for a row of a tile beside its weights."""
    return (dtype(form.scale).bits if form.group else 0) + (
        8 if form.group and form.zero_point else 0
    )


def stage_bytes(form: Form, schedule: Schedule) -> int:
    """Bytes that a stage of a warp's ring takes in shared memory."""
    rows = schedule.rows
    weights = rows * group_of(form) * dtype(form.weight).bits // 8
    return schedule.span * (weights + _row_bits(form) * rows // 8)


def multiplies_fields(form: Form, schedule: Schedule) -> bool:
    """Whether codes are multiplied as they are, by the lowering for fields: integers times f16,
    where what is taken from all of a row leaves the product. Signed ones are stored as unsigned
    ones that are larger by half of their range."""
    integer = dtype(form.weight).is_integer and not form.entries
    shifted = bool(form.offset or form.zero_point or excess_of(form))
    return integer and form.activation == "f16" and (schedule.offset_outside or not shifted)


def excess_of(form: Form) -> int:
    """By how much codes are larger than weights that are multiplied as unsigned codes."""
    weight = dtype(form.weight)
    return 1 << (weight.bits - 1) if weight.kind == "signed" else 0


def code_of(form: Form, schedule: Schedule) -> DType:
    """The dtype in which weights are stored."""
    weight = dtype(form.weight)
    is_unsigned = excess_of(form) and multiplies_fields(form, schedule)
    return dtype(f"u{weight.bits}") if is_unsigned else weight


def plus(x, y):
    """x + y, without a sum where the one or the other is 0."""
    return y if _is_zero(x) else x if _is_zero(y) else x + y


def times(count, size):
    """count * size, without a product where it needs none."""
    return 0 if _is_zero(count) else count if isinstance(size, int) and size == 1 else count * size


def _is_zero(x) -> bool:
    return isinstance(x, int) and x == 0


def gemm(form: Form, schedule: Schedule | None = None) -> Module:
    """The module of a form: `pack`, `gemm`, `product` and cases.

    Raises `DTypeError` for a form it cannot compute."""
    schedule = schedule or Schedule()
    b = Builder()
    M, N, K = b.sizes("M N K")
    f32, f64, u8 = b.f32, b.f64, b.u8

    WEIGHT = b.const(dtype(form.weight))
    excess = excess_of(form) if multiplies_fields(form, schedule) else 0
    CODE = b.const(code_of(form, schedule), "CODE") if excess else WEIGHT
    ACTIVATION = b.const(dtype(form.activation))
    SCALE = b.const(dtype(form.scale))
    ROWS = b.const(schedule.rows)
    COLUMNS = b.const(schedule.columns)
    STEP = b.const(group_of(form))
    BK = b.const(min(group_of(form), schedule.depth))
    SPAN = b.const(schedule.span)
    WARPS = b.const(schedule.warps)
    STAGES = b.const(schedule.stages, "STAGES") if schedule.stages else None
    RESIDENT = b.const(schedule.resident)
    GROUP = b.const(form.group, "GROUP") if form.group else K
    ENTRIES = b.const(form.entries, "ENTRIES") if form.entries else None

    # A thread's share of a row is one run along K, in the order in which it is best cast.
    dots = b.layout(b.dot_layout(ROWS, COLUMNS, BK, ACTIVATION, 1, k_run=BK // 16))
    run = BK // 4 if min(group_of(form), schedule.depth) > 16 else 2
    # Codes are multiplied as they are where what is taken from all of a row leaves the product.
    as_fields = multiplies_fields(form, schedule)
    outside = as_fields and bool(form.offset or form.zero_point or excess)
    # Floats are held as bits, each where it is least moved.
    as_bits = dtype(form.weight).kind == "float" and form.weight != form.activation
    if form.entries or as_bits:
        order = dots.a
    elif as_fields:
        order = b.product_order(dots.a, CODE)
    else:
        order = dots.a / b.local(1, run) * b.cast_order(WEIGHT, ACTIVATION, run)
    codes = b.layout(order)
    if as_bits:
        by_bit = b.layout(codes.concat(b.local(b.bits(WEIGHT))), name="by_bit")
        order = b.bit_order(codes, WEIGHT, ACTIVATION, product=True)
        held_bits = b.layout(order, name="held_bits")
    bytes = b.layout(b.packed(held_bits, b.u1) if as_bits else b.packed(codes, CODE))
    # Rows j * 8 + r, j in order, are those of the lanes r * 4 to r * 4 + 3.
    by_row = b.layout(b.spatial(8, 1).replicated(4).local(1, ROWS // 8))
    # A thread adds up all parts of its sums, where threads share them evenly.
    sums, threads = schedule.rows * schedule.columns, schedule.warps * LANES
    shares = shares_of_one = None
    if sums % threads == 0 or threads % sums == 0:
        each = max(1, sums // threads)  # sums of a thread
        across = max(1, each // schedule.columns), min(each, schedule.columns)
        shares = b.layout(
            b.replicated(max(1, threads // sums)).local(WARPS, *across)
            .spatial(1, 1, COLUMNS // across[1]).spatial(1, ROWS // across[0], 1),
            name="shares",
        )  # fmt: skip
        if schedule.blocks:
            shares_of_one = b.layout(
                b.replicated(max(1, threads // sums)).local(*across)
                .spatial(1, COLUMNS // across[1]).spatial(ROWS // across[0], 1),
                name="shares_of_one",
            )  # fmt: skip
    parts = group_of(form) // min(group_of(form), schedule.depth)  # tiles of a step
    TILE = b.const(ROWS * BK * b.bits(WEIGHT) // 8)  # bytes of a tile of weights
    STAGE = b.const(stage_bytes(form, schedule))
    blocks, steps = b.ceil_div(N, ROWS), b.ceil_div(K, STEP * SPAN)
    BLOCKS = b.const(schedule.blocks, "BLOCKS") if schedule.blocks else None
    few = [blocks <= BLOCKS, blocks * steps >= BLOCKS] if schedule.blocks else []
    tiles = times(SPAN, parts)  # of a stage
    stages = (blocks, steps, STAGE)
    groups = (N, K // GROUP if form.group else 1)
    whole = [K % GROUP == 0] if form.group else []
    # Zero points are held as bytes: as codes, rows of them would not begin at bytes.
    ZERO = u8 if dtype(form.weight).kind == "unsigned" else b.i8
    # In a stage, behind the weights: the scales of each step, then the zero points of each.
    scale_bytes = ROWS * b.bits(SCALE) // 8
    scales_at = tiles * TILE
    zeros_at = scales_at + SPAN * scale_bytes

    def bytes_of_rows(count):
        """Who holds the bytes of a number for each row, `count` for a lane."""
        return b.spatial(8).replicated(4).local(count)

    @b.program(grid=(blocks, steps * SPAN), threads=LANES, where=whole)
    def pack(
        W: b.global_(WEIGHT)[N, K],
        S: b.global_(SCALE)[groups] if form.group else None,
        Z: b.global_(WEIGHT)[groups] if form.group and form.zero_point else None,
        P: b.out(b.global_(u8))[stages],
    ):
        """W with its scales and zero points as `gemm` reads them: stage by stage."""
        n, step = b.block_index()
        stage = step // SPAN
        j = step % SPAN
        for part in b.range(parts, unroll="full"):
            k = (step * parts + part) * BK
            w = b.load(W[n * ROWS : +ROWS, k : +BK], layout=codes)
            if excess:
                w = b.cast(b.cast(w, b.i32) + excess, CODE)
            if as_bits:
                w = b.relayout(b.view(w, b.u1, layout=by_bit), held_bits)
            at = (j * parts + part) * TILE
            b.store(P[n, stage, at : +TILE], b.view(w, u8, layout=bytes))

        def column(source):
            """A number for each row, as the lanes hold it."""
            rows = b.load(source[n * ROWS : +ROWS, step * STEP // GROUP : +1])
            return b.relayout(b.transpose(b.reshape(rows, [ROWS // 8, 8])), by_row)

        if form.group:
            held = b.view(column(S), u8, layout=bytes_of_rows(scale_bytes // 8))
            b.store(P[n, stage, scales_at + j * scale_bytes : +scale_bytes], held)
        if form.group and form.zero_point:
            zero = column(Z)
            if form.weight not in ("u8", "i8"):
                zero = b.cast(zero, ZERO)
            if form.weight != "u8":
                zero = b.view(zero, u8, layout=by_row)
            b.store(P[n, stage, zeros_at + j * ROWS : +ROWS], b.reshape(zero, [ROWS]))

    @b.program(
        grid=(BLOCKS if schedule.blocks else blocks, b.ceil_div(M, COLUMNS)),
        threads=WARPS * LANES,
        where=[*whole, *few, b.aligned("A", 16), b.aligned("P", 16), b.resident(RESIDENT)],
    )
    def gemm(
        A: b.global_(ACTIVATION)[M, K],
        P: b.constant(b.global_(u8))[stages],
        S: None if form.group else b.constant(b.global_(SCALE))[groups],
        Z: b.constant(b.global_(WEIGHT))[groups] if form.zero_point and not form.group else None,
        T: b.global_(ACTIVATION)[ENTRIES] if form.entries else None,
        second: f32 if form.second_level else None,
        C: b.out(b.global_(ACTIVATION))[M, N],
    ):
        """C = A W^T, with W as `pack` stores it."""
        b.grid_launch_dependents()
        if schedule.blocks:
            block, m = b.block_index()
            done = b.semaphore_alloc([BLOCKS, b.ceil_div(M, COLUMNS)])
            handed = b.global_alloc(f32, [BLOCKS, b.ceil_div(M, COLUMNS), ROWS, COLUMNS])
            even = Share(block, BLOCKS, blocks, steps)
            begin = even.begin(block)
            end = even.begin(block + 1)
            tile = even.tile
            boundary = even.boundary
        else:
            n, m = b.block_index()
        # One warp may end a tile of rows and begin the next.
        part = b.shared_alloc(f32, [WARPS + 1 if schedule.blocks else WARPS, ROWS, COLUMNS])
        if schedule.stages:
            ring = b.shared_alloc(u8, [WARPS, STAGES, STAGE])
        if form.entries:
            table = b.shared_alloc(ACTIVATION, [ENTRIES])
        if schedule.bulk:
            full = b.mbarrier_alloc([WARPS, STAGES])

        def begin_of(w):
            """The first step of a worker of the block, among those of all tiles."""
            return begin + w * (end - begin) // WARPS

        def fill(w, slot, n, step):
            """Starts the copies of a stage."""
            if schedule.bulk:
                b.mbarrier_expect(full[w, slot], STAGE)
                b.copy_bulk(ring[w, slot], P[n, step], full[w, slot])
                return
            # Apart, so that threads share the weights evenly, 16 bytes at a time.
            b.copy_async(ring[w, slot, 0:+scales_at], P[n, step, 0:+scales_at])
            if form.group:
                beside = STAGE - scales_at
                b.copy_async(ring[w, slot, scales_at:+beside], P[n, step, scales_at:+beside])

        def of_rows(x, kind):
            """A number for each row, as a column in the type of the computation."""
            return b.cast(b.reshape(b.transpose(x), [ROWS, 1]), kind)

        def values(q, zero):
            """The weights of a tile without their scales."""
            if form.entries:
                return b.lookup(q, table)
            numbers = q if form.weight == form.activation else b.cast(q, ACTIVATION)
            if outside:
                return numbers
            if form.offset:
                numbers = numbers - float(form.offset)
            return numbers - zero if form.zero_point else numbers

        if form.entries:
            b.grid_wait()
            b.store(table, b.load(T))
            b.synchronize()
        with b.group("worker", warps=1, copies=WARPS):
            w = b.group_index()
            if schedule.blocks:
                share = begin_of(w + 1) - begin_of(w)
                goes_on = begin_of(w) >= boundary
                tile_of_w = b.where(goes_on, tile + 1, tile)
                first = begin_of(w) - tile_of_w * steps
            else:
                first = w * steps // WARPS
                share = (w + 1) * steps // WARPS - first

            def place(g):
                """The tile of rows of the warp's stage g, and which of its stages that is."""
                at = first + g
                if not schedule.blocks:
                    return n, at
                is_next = at >= steps
                return (
                    b.where(is_next, tile_of_w + 1, tile_of_w), b.where(is_next, at - steps, at)
                )  # fmt: skip

            if schedule.stages:
                for s in b.range(STAGES if schedule.bulk else STAGES - 1, unroll="full"):
                    with b.if_(s < share):
                        fill(w, s, *place(s))
                    if not schedule.bulk:
                        b.commit_async()
            else:  # what a stage is made of; what has been multiplied makes room for the next
                pieces = {tile: (times(tile, TILE), TILE, bytes) for tile in range(parts)}
                if form.group:
                    pieces["scale"] = scales_at, scale_bytes, bytes_of_rows(scale_bytes // 8)
                if form.group and form.zero_point:
                    pieces["zero"] = zeros_at, ROWS, bytes_of_rows(ROWS // 8)
                registers = {
                    key: b.var(b.register(u8, layout=layout)[count], b.fill(0))
                    for key, (_, count, layout) in pieces.items()
                }

                def load_piece(key, g):
                    at, count, layout = pieces[key]
                    with b.if_(share > g):
                        n, step = place(g)
                        registers[key].assign(b.load(P[n, step, at:+count], layout=layout))

                for key in pieces:
                    load_piece(key, 0)
            if not form.entries:
                b.grid_wait()
            sum = b.var(b.register(f32)[ROWS, COLUMNS], b.fill(0.0))
            # Zero points are taken from weights, or times sums of activations from products.
            taken_from = f32 if outside else ACTIVATION
            taken = None
            if outside:
                taken_off = 1 if form.zero_point else form.offset + excess
                less = b.fill(-float(taken_off), dtype=ACTIVATION, shape=[16, BK])
                if form.group is None:
                    taken = b.var(b.register(f32)[16, COLUMNS], b.fill(0.0))

            def activations(step, tile):
                at = plus(step * tiles, tile) * BK
                return b.load(A[m * COLUMNS : +COLUMNS, at : +BK], layout=dots.b.transpose())

            def stored(key, slot, at, count, layout):
                """Bytes of a stage, in the order of a layout."""
                if not schedule.stages:
                    return registers[key]
                held = b.load(ring[w, slot, at:+count], layout=layout)
                return held  # by that name in the text

            def product(x, slot, tile, zero, *before):
                """The product of a tile, added to what was before."""
                held = stored(tile, slot, times(tile, TILE), TILE, bytes)
                if as_bits:
                    held = b.relayout(b.view(held, b.u1, layout=held_bits), by_bit)
                q = b.view(held, CODE, layout=codes)
                return b.dot(values(q, zero), b.transpose(x), *before)

            def of_step(key, slot, at, count, kind, j):
                """A number for each row, `count` bytes of all, behind the weights of a stage."""
                at = plus(at, times(j, count))
                held = stored(key, slot, at, count, bytes_of_rows(count // 8))
                return b.view(held, kind, layout=by_row)

            def for_rows(x):
                """16 equal rows as all rows of a tile."""
                tall = b.broadcast(b.reshape(x, [1, 16, COLUMNS]), [ROWS // 16, 16, COLUMNS])
                return b.reshape(tall, [ROWS, COLUMNS])

            def multiply(x, g, at, slot, j, column_zero):
                """Adds the products of a step, scaled; `x` is for its first tile."""
                zero = column_zero
                if form.group and form.zero_point:
                    zero = of_rows(of_step("zero", slot, zeros_at, ROWS, ZERO, j), taken_from)
                    zero = zero + float(excess) if excess else zero
                acc, removed = (), ()  # what was before, if anything
                for part in range(parts):
                    tile = plus(times(j, parts), part)
                    x = activations(at, tile) if part else x
                    if form.group:
                        acc = (product(x, slot, tile, zero, *acc),)
                    else:
                        sum.assign(product(x, slot, tile, zero, sum))
                    if not schedule.stages:
                        load_piece(part, g + 1)
                    if outside and form.group:
                        removed = (b.dot(less, b.transpose(x), *removed),)
                    elif outside:
                        taken.assign(b.dot(less, b.transpose(x), taken))
                if form.group:
                    scale = of_rows(of_step("scale", slot, scales_at, scale_bytes, SCALE, j), f32)
                    if outside and form.zero_point:
                        sum.assign(b.fma(for_rows(*removed), zero * scale, sum))
                    elif outside:
                        acc = (acc[0] + for_rows(*removed),)
                    sum.assign(b.fma(*acc, scale, sum))
                for key in () if schedule.stages else list(pieces)[parts:]:
                    load_piece(key, g + 1)

            def multiply_all(n, origin, *bounds):
                """Adds up the products of some of the warp's stages, stage g of which is stage
                `origin + g` of tile n of rows."""
                column_zero = None
                if form.group is None and form.zero_point:
                    column_zero = b.cast(b.load(Z[n * ROWS : +ROWS, 0:+1]), taken_from)
                    column_zero = column_zero + float(excess) if excess else column_zero
                for g in b.range(*bounds):
                    slot = None
                    if schedule.stages:
                        slot = g % STAGES
                    x = activations(origin + g, 0)  # asked for before the wait for the weights
                    if schedule.bulk:
                        b.mbarrier_wait(full[w, slot], g // STAGES % 2)
                    elif schedule.stages:
                        b.wait_async(STAGES - 2)
                        b.synchronize()
                        ahead = g + STAGES - 1
                        with b.if_(ahead < share):
                            fill(w, ahead % STAGES, *place(ahead))
                        b.commit_async()
                    multiply(x, g, origin + g, slot, 0, column_zero)
                    if schedule.span > 1:
                        for j in b.range(1, SPAN, unroll="full"):
                            more = activations(origin + g, times(j, parts))
                            multiply(more, g, origin + g, slot, j, column_zero)
                    if schedule.bulk:
                        b.synchronize()  # all lanes have read the stage
                        with b.if_(g + STAGES < share):
                            fill(w, slot, *place(g + STAGES))
                if outside and not form.group:
                    of_all = for_rows(taken)
                    sum.assign(sum + (of_all * column_zero if form.zero_point else of_all))

            if schedule.blocks:
                in_first = b.min(share, steps - first)
                for turn in b.range(2):
                    begins = b.where(turn > 0, in_first, 0)
                    ends = b.where(turn > 0, share, in_first)
                    with b.if_(b.or_(turn == 0, begins < ends)):
                        multiply_all(tile_of_w + turn, first - turn * steps, begins, ends)
                        b.store(part[b.where(turn > 0, WARPS, w)], sum)
                        sum.assign(b.fill(0.0))
                        if taken is not None:
                            taken.assign(b.fill(0.0))
            else:
                multiply_all(n, first, share)
                b.store(part[w], sum)
        b.synchronize()

        def store(n, total):
            """Stores the outputs of a tile of rows."""
            if form.group is None:
                total = total * b.cast(b.load(S[n * ROWS : +ROWS, 0:+1]), f32)
            if form.second_level:
                total = total * second
            b.store(C[m * COLUMNS : +COLUMNS, n * ROWS : +ROWS],
                    b.cast(b.transpose(total), ACTIVATION))  # fmt: skip

        if schedule.blocks:
            finish(b, even, begin, end, boundary, begin_of, part, handed, done, m=m, warps=WARPS,
                   shape=[ROWS, COLUMNS], layout=shares_of_one, store=store)  # fmt: skip
        else:
            total = b.reduce(b.load(part, layout=shares), axis=0, keep=False)
            store(n, total)

    @b.reference()
    def product(
        A: ACTIVATION[M, K],
        W: WEIGHT[N, K],
        S: SCALE[groups],
        Z: WEIGHT[groups] if form.zero_point else None,
        T: ACTIVATION[ENTRIES] if form.entries else None,
        second: f32 if form.second_level else None,
    ):
        def along(columns):
            """The number of its group for each element."""
            return b.repeat(columns, GROUP, axis=1) if form.group else columns

        values = decoded(b, form, W, along(Z) if form.zero_point else None, T)
        if excess:  # as it is computed, for the magnitudes that bounds are in proportion to
            values = values + float(excess) - float(excess)
        weights = values * b.cast(along(S), f64)
        if form.second_level:
            weights = weights * b.cast(second, f64)
        return b.dot(A, b.transpose(weights))

    rounded = form.weight_is_rounded

    def random_case(M, N, K):
        A = b.random(ACTIVATION, [M, K], seed=1)
        W = b.random(WEIGHT, [N, K], seed=2, scale=form.random_deviation, below=ENTRIES)
        S = b.random(SCALE, [N, K // GROUP if form.group else 1], seed=3, scale=form.random_scale)
        Z = T = None
        if form.zero_point:
            Z = b.random(WEIGHT, [N, K // GROUP if form.group else 1], seed=4)
        if form.entries:
            T = b.random(ACTIVATION, [ENTRIES], seed=5)
        more = [part for part in (T, 0.75 if form.second_level else None) if part is not None]
        given = [part for part in (S, Z) if part is not None]
        packed, held = (given, []) if form.group else ([], given)
        C = gemm(A, pack(W, *packed), *held, *more, N=N)
        # A sum of products for each group, of groups for each warp, and of warps. What is taken
        # from products is such a sum too, rounded once more as a factor and twice when added.
        terms = K + (K // GROUP if form.group else 1) + WARPS + 1 + (3 if outside else 0)
        b.expect(C, product(A, W, *given, *more), bound=b.dot_error(
            ACTIVATION, f32, terms, operand_roundings=1 if rounded else None,
            largest_factor=LARGEST_RANDOM if rounded else None))  # fmt: skip

    # Sizes that fill tiles, and sizes just past them, odd, and smaller than one.
    unit = form.group or 1
    stage = group_of(form) * schedule.span
    sizes = {
        "main": (1, 2 * schedule.rows, stage * schedule.warps * (schedule.stages + 1)),
        "more_rows": (schedule.columns + 1, schedule.rows + 1, stage + 1),
        "smallest": (1, 1, 1),
    }
    if schedule.blocks:  # no more tiles of rows than blocks, and a step at least for each block
        tiles = min(2, schedule.blocks)
        least = -(-schedule.blocks // tiles) * stage
        sizes = {
            "main": (1, tiles * schedule.rows, max(least, sizes["main"][2])),
            "more_rows": (schedule.columns + 1, schedule.rows * (tiles - 1) + 1, least + 1),
            "smallest": (1, 1, stage * schedule.blocks),
        }
    for name, (m, n, k) in sizes.items():
        b.case(name, M=m, N=n, K=-(-k // unit) * unit)(random_case)
    return b.module()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: runs the cases of a form on the reference machine, or prints its module."""
    parser = argparse.ArgumentParser(
        prog="python -m programs.gemm", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_form_arguments(parser)
    for each in fields(Schedule):
        kind = {"action": argparse.BooleanOptionalAction} if each.type == "bool" else {"type": int}
        parser.add_argument(f"--{each.name.replace('_', '-')}", default=each.default, **kind)
    parser.add_argument("--print", action="store_true", help="print the module and run nothing")
    given = parser.parse_args(arguments)
    try:
        schedule = Schedule(**{each.name: getattr(given, each.name) for each in fields(Schedule)})
        module = gemm(given_form(given), schedule)
    except (VmError, DTypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.print:
        print(module)
        return 0
    return run_cases(module)


if __name__ == "__main__":
    sys.exit(main())
