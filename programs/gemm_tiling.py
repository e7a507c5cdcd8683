"""What a form of weights and a schedule come to: tiles and stages, their bytes and their layouts.

A *tile* is what a warp multiplies at once: `rows` outputs along some of K. A *step* is a group
along K, or a part of a long one, of one tile or several. A *stage* is `span` steps, stored one
behind the other with their scales and zero points, as a warp copies them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from programs.quantized_matmul import Form
from vm.isa.builder import Builder
from vm.isa.dtypes import DType, DTypeError, dtype

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
    part. `offset_outside` multiplies codes as they are and takes the offset or the zero points from
    the products, times the sums of activations (unsigned weights and f16 activations; infinite ones
    then give NaN). With 0 `blocks` there is one for each tile of rows; else so many, at least as
    many as tiles, share the steps of all tiles evenly, each warp as many as the next
    (`programs.gemm_shares`). Raises `ValueError` for what fits no fragment.
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


def plus(x: Any, y: Any) -> Any:
    """x + y, without a sum where the one or the other is 0."""
    return y if _is_zero(x) else x if _is_zero(y) else x + y


def times(count: Any, size: Any) -> Any:
    """count * size, without a product where it needs none."""
    return 0 if _is_zero(count) else count if isinstance(size, int) and size == 1 else count * size


def _is_zero(x: Any) -> bool:
    return isinstance(x, int) and x == 0


def bytes_of_rows(b: Builder, count: Any) -> Any:
    """Who holds the bytes of a number for each row, `count` for a lane."""
    return b.spatial(8).replicated(4).local(count)


class Tiling:
    """The constants and layouts that the programs of a module share, and what follows from them;
    what a form or a schedule has no use for is None.

    Names in capitals are constants of the module: CODE is the type in which weights are stored,
    ZERO that of zero points, BK how long a tile is, STEP a step, TILE the bytes of a tile's
    weights, STAGE those of a stage. `dots` has the layouts of a product; `codes` is that of the
    weights of a tile; `by_bit` and `held_bits` those of their bits, as they are cast and as they
    are stored; `bytes` that of what is stored; `by_row` that of a number for each row; `shares` and
    `shares_of_one` those of the sums of all workers and of one.
    """

    def __init__(self, b: Builder, form: Form, schedule: Schedule):
        self.form, self.schedule = form, schedule
        self.M, self.N, self.K = b.sizes("M N K")
        self.WEIGHT = self.CODE = b.const(dtype(form.weight), "WEIGHT")
        self.excess = excess_of(form) if multiplies_fields(form, schedule) else 0
        """By how much stored codes are larger than weights."""
        if self.excess:
            self.CODE = b.const(code_of(form, schedule), "CODE")
        self.ACTIVATION = b.const(dtype(form.activation), "ACTIVATION")
        self.SCALE = b.const(dtype(form.scale), "SCALE")
        self.ROWS = b.const(schedule.rows, "ROWS")
        self.COLUMNS = b.const(schedule.columns, "COLUMNS")
        self.STEP = b.const(group_of(form), "STEP")
        self.BK = b.const(min(group_of(form), schedule.depth), "BK")
        self.SPAN = b.const(schedule.span, "SPAN")
        self.WARPS = b.const(schedule.warps, "WARPS")
        self.STAGES = b.const(schedule.stages, "STAGES") if schedule.stages else None
        self.RESIDENT = b.const(schedule.resident, "RESIDENT")
        self.GROUP = b.const(form.group, "GROUP") if form.group else self.K
        self.ENTRIES = b.const(form.entries, "ENTRIES") if form.entries else None
        # Zero points are held as bytes: as codes, rows of them would not begin at bytes.
        self.ZERO = b.u8 if dtype(form.weight).kind == "unsigned" else b.i8

        self.outside = multiplies_fields(form, schedule) and bool(
            form.offset or form.zero_point or self.excess
        )
        """Whether what is taken from all weights of a row is taken from the products."""
        self._lay_out_weights(b)
        self._lay_out_sums(b)

        self.parts = group_of(form) // min(group_of(form), schedule.depth)
        """Tiles of a step."""
        self.tiles = times(self.SPAN, self.parts)
        """Tiles of a stage."""
        self.TILE = b.const(self.ROWS * self.BK * b.bits(self.WEIGHT) // 8, "TILE")
        self.STAGE = b.const(stage_bytes(form, schedule), "STAGE")
        self.blocks = b.ceil_div(self.N, self.ROWS)
        """Tiles of rows."""
        self.steps = b.ceil_div(self.K, self.STEP * self.SPAN)
        """Stages along K."""
        self.BLOCKS = b.const(schedule.blocks, "BLOCKS") if schedule.blocks else None
        self.stages = (self.blocks, self.steps, self.STAGE)
        """The shape of packed weights."""
        self.groups = (self.N, self.K // self.GROUP if form.group else 1)
        """The shape of scales."""
        self.whole = [self.K % self.GROUP == 0] if form.group else []
        """What all programs may rely on."""

        # In a stage, behind the weights: the scales of each step, then the zero points of each.
        self.scale_bytes = self.ROWS * b.bits(self.SCALE) // 8
        self.scales_at = self.tiles * self.TILE
        self.zeros_at = self.scales_at + self.SPAN * self.scale_bytes

    def _lay_out_weights(self, b: Builder) -> None:
        form, schedule = self.form, self.schedule
        ROWS, BK, WEIGHT, ACTIVATION = self.ROWS, self.BK, self.WEIGHT, self.ACTIVATION
        # A thread's share of a row is one run along K, in the order in which it is best cast.
        dots = b.layout(b.dot_layout(ROWS, self.COLUMNS, BK, ACTIVATION, 1, k_run=BK // 16))
        run = BK // 4 if min(group_of(form), schedule.depth) > 16 else 2
        # Floats are held as bits, each where it is least moved.
        self.as_bits = dtype(form.weight).kind == "float" and form.weight != form.activation
        if form.entries or self.as_bits:
            order = dots.a
        elif multiplies_fields(form, schedule):  # codes are multiplied as they are
            order = b.product_order(dots.a, self.CODE)
        else:
            order = dots.a / b.local(1, run) * b.cast_order(WEIGHT, ACTIVATION, run)
        codes = b.layout(order)
        self.dots, self.codes, self.by_bit, self.held_bits = dots, codes, None, None
        if self.as_bits:
            self.by_bit = b.layout(codes.concat(b.local(b.bits(WEIGHT))), name="by_bit")
            order = b.bit_order(codes, WEIGHT, ACTIVATION, product=True)
            self.held_bits = b.layout(order, name="held_bits")
        stored = b.packed(self.held_bits, b.u1) if self.as_bits else b.packed(codes, self.CODE)
        self.bytes = b.layout(stored, name="bytes")
        # Rows j * 8 + r, j in order, are those of the lanes r * 4 to r * 4 + 3.
        self.by_row = b.layout(
            b.spatial(8, 1).replicated(4).local(1, ROWS // 8), name="by_row"
        )  # fmt: skip

    def _lay_out_sums(self, b: Builder) -> None:
        """A thread adds up all parts of its sums, where threads share them evenly."""
        schedule = self.schedule
        sums, threads = schedule.rows * schedule.columns, schedule.warps * LANES
        self.shares = self.shares_of_one = None
        if sums % threads and threads % sums:
            return
        each = max(1, sums // threads)  # sums of a thread
        across = max(1, each // schedule.columns), min(each, schedule.columns)
        copies, apart = max(1, threads // sums), (self.ROWS // across[0], self.COLUMNS // across[1])
        self.shares = b.layout(
            b.replicated(copies).local(self.WARPS, *across)
            .spatial(1, 1, apart[1]).spatial(1, apart[0], 1), name="shares",
        )  # fmt: skip
        if schedule.blocks:
            self.shares_of_one = b.layout(
                b.replicated(copies).local(*across).spatial(1, apart[1]).spatial(apart[0], 1),
                name="shares_of_one",
            )
