"""C = A W^T for few rows of A, where a language model decodes: one builder for all weights.

W is read once, and that is all the time there is. So it is the 16-row operand of the matrix unit,
a block makes `rows` outputs for `columns` rows of A, and each of its warps takes a share of K. It
has its own ring of stages in shared memory, or takes the weights straight to registers: no warp
waits for another until the end, where their sums are added. What varies is written down in a `Form`
(how weights are stored) and a `Schedule` (who does what when; `programs.gemm_tiling` says what the
two come to). The module that `gemm` makes of them has the program that packs weights, scales and
zero points once, `gemm` itself (`programs.gemm_kernel`), its reference and cases:

    python -m programs.gemm --weight u3 --offset 4 --print
    python -m programs.gemm --format nvfp4 --rows 32 --warps 16

Any M, N and K will do that groups divide: tiles that reach past an edge are packed with code 0 and
scale 0, and A reads 0 there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields

from programs.gemm_kernel import add_gemm
from programs.gemm_tiling import LANES, Schedule, Tiling, bytes_of_rows, group_of
from programs.quantized_matmul import (
    LARGEST_RANDOM,
    Form,
    add_form_arguments,
    decoded,
    given_form,
    run_cases,
)
from vm.errors import VmError
from vm.isa.builder import Builder, Definition
from vm.isa.dtypes import DTypeError
from vm.isa.program import Module


def gemm(form: Form, schedule: Schedule | None = None) -> Module:
    """The module of a form: `pack`, `gemm`, `product` and cases.

    Raises `DTypeError` for a form it cannot compute."""
    b = Builder()
    t = Tiling(b, form, schedule or Schedule())
    pack = add_pack(b, t)
    kernel = add_gemm(b, t)
    product = add_product(b, t)
    add_cases(b, t, pack, kernel, product)
    return b.module()


def add_pack(b: Builder, t: Tiling) -> Definition:
    """The program `pack`, which stores weights as the kernel reads them."""
    form, N, K, u8 = t.form, t.N, t.K, b.u8

    @b.program(grid=(t.blocks, t.steps * t.SPAN), threads=LANES, where=t.whole)
    def pack(
        W: b.global_(t.WEIGHT)[N, K],
        S: b.global_(t.SCALE)[t.groups] if form.group else None,
        Z: b.global_(t.WEIGHT)[t.groups] if form.group and form.zero_point else None,
        P: b.out(b.global_(u8))[t.stages],
    ):
        """W with its scales and zero points as `gemm` reads them: stage by stage."""
        n, step = b.block_index()
        stage = step // t.SPAN
        j = step % t.SPAN
        for part in b.range(t.parts, unroll="full"):
            k = (step * t.parts + part) * t.BK
            w = b.load(W[n * t.ROWS : +t.ROWS, k : +t.BK], layout=t.codes)
            if t.excess:
                w = b.cast(b.cast(w, b.i32) + t.excess, t.CODE)
            if t.as_bits:
                w = b.relayout(b.view(w, b.u1, layout=t.by_bit), t.held_bits)
            at = (j * t.parts + part) * t.TILE
            b.store(P[n, stage, at : +t.TILE], b.view(w, u8, layout=t.bytes))

        def column(source):
            """A number for each row, as the lanes hold it."""
            rows = b.load(source[n * t.ROWS : +t.ROWS, step * t.STEP // t.GROUP : +1])
            return b.relayout(b.transpose(b.reshape(rows, [t.ROWS // 8, 8])), t.by_row)

        if form.group:
            held = b.view(column(S), u8, layout=bytes_of_rows(b, t.scale_bytes // 8))
            b.store(P[n, stage, t.scales_at + j * t.scale_bytes : +t.scale_bytes], held)
        if form.group and form.zero_point:
            zero = column(Z)
            if form.weight not in ("u8", "i8"):
                zero = b.cast(zero, t.ZERO)
            if form.weight != "u8":
                zero = b.view(zero, u8, layout=t.by_row)
            b.store(P[n, stage, t.zeros_at + j * t.ROWS : +t.ROWS], b.reshape(zero, [t.ROWS]))

    return pack


def add_product(b: Builder, t: Tiling) -> Definition:
    """The reference `product`: what the kernel should give."""
    form, f64 = t.form, b.f64

    @b.reference()
    def product(
        A: t.ACTIVATION[t.M, t.K],
        W: t.WEIGHT[t.N, t.K],
        S: t.SCALE[t.groups],
        Z: t.WEIGHT[t.groups] if form.zero_point else None,
        T: t.ACTIVATION[t.ENTRIES] if form.entries else None,
        second: b.f32 if form.second_level else None,
    ):
        def along(columns):
            """The number of its group for each element."""
            return b.repeat(columns, t.GROUP, axis=1) if form.group else columns

        values = decoded(b, form, W, along(Z) if form.zero_point else None, T)
        if t.excess:  # as it is computed, for the magnitudes that bounds are in proportion to
            values = values + float(t.excess) - float(t.excess)
        weights = values * b.cast(along(S), f64)
        if form.second_level:
            weights = weights * b.cast(second, f64)
        return b.dot(A, b.transpose(weights))

    return product


def add_cases(
    b: Builder, t: Tiling, pack: Definition, gemm: Definition, product: Definition
) -> None:
    """Cases of random numbers, of sizes that fill tiles and of sizes that do not."""
    form, rounded = t.form, t.form.weight_is_rounded

    def random_case(M, N, K):
        A = b.random(t.ACTIVATION, [M, K], seed=1)
        W = b.random(t.WEIGHT, [N, K], seed=2, scale=form.random_deviation, below=t.ENTRIES)
        S = b.random(t.SCALE, [N, K // t.GROUP if form.group else 1], seed=3,
                     scale=form.random_scale)  # fmt: skip
        Z = T = None
        if form.zero_point:
            Z = b.random(t.WEIGHT, [N, K // t.GROUP if form.group else 1], seed=4)
        if form.entries:
            T = b.random(t.ACTIVATION, [t.ENTRIES], seed=5)
        more = [part for part in (T, 0.75 if form.second_level else None) if part is not None]
        given = [part for part in (S, Z) if part is not None]
        packed, held = (given, []) if form.group else ([], given)
        C = gemm(A, pack(W, *packed), *held, *more, N=N)
        # A sum of products for each group, of groups for each warp, and of warps. What is taken
        # from products is such a sum too, rounded once more as a factor and twice when added.
        terms = K + (K // t.GROUP if form.group else 1) + t.WARPS + 1 + (3 if t.outside else 0)
        b.expect(C, product(A, W, *given, *more), bound=b.dot_error(
            t.ACTIVATION, b.f32, terms, operand_roundings=1 if rounded else None,
            largest_factor=LARGEST_RANDOM if rounded else None))  # fmt: skip

    for name, (m, n, k) in case_sizes(form, t.schedule).items():
        b.case(name, M=m, N=n, K=k)(random_case)


def case_sizes(form: Form, schedule: Schedule) -> dict[str, tuple[int, int, int]]:
    """M, N and K by the names of cases: sizes that fill tiles, sizes just past them, odd, and
    smaller than one; K is made of whole groups."""
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
    unit = form.group or 1
    return {name: (m, n, -(-k // unit) * unit) for name, (m, n, k) in sizes.items()}


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
