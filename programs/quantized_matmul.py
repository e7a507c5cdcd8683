"""C = A B with weights of any type and any form of scales: one builder for all such matmuls.

A weight is stored as a code and read as (value of the code - zero point) * scale. What varies is
written down in a `Form`: the type of the codes (u1..u8, i1..i8, any small float, a codebook, or
codes into a table that is an argument), how many rows along K share a scale, the type of the
scales, whether there are zero points, and whether one f32 scales everything once more (the second
level of NVFP4). The module that `quantized_matmul` makes of it has the program that packs weights
once, the matmul, its reference and cases:

    python -m programs.quantized_matmul --weight u3 --group 128 --zero-point --print
    python -m programs.quantized_matmul --format nvfp4 --on emulator

A weight may also be what a checkpoint has, as it lies there (programs/checkpoint_matmul.py):

    python -m programs.quantized_matmul --checkpoint gptq --set bits=3

The product is taken in the type of the activations, f16 or bf16, after each weight was scaled in
it (and must lie in its range then); scales of whole columns and the second level multiply the sum,
in f32, which rounds less and costs nothing. Any M and N will do, and any K that groups divide:
tiles that reach past an edge are padded with code 0 when they are packed, and A reads 0 there.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from programs.checkpoint_matmul import LARGEST_RANDOM, checkpoint_matmul, multiple
from programs.formats import FORMATS as CHECKPOINTS
from programs.formats import format_called
from programs.staged_product import staged_product
from vm.errors import VmError
from vm.isa.builder import Builder
from vm.isa.dtypes import DType, DTypeError, dtype
from vm.isa.program import Module
from vm.runtime.cases import run_case


@dataclass(frozen=True)
class Tiles:
    """Rows and columns of a block's tile of C, how much of K is one stage, stages in flight, and
    the threads of a block."""

    rows: int = 64
    columns: int = 128
    depth: int = 64
    stages: int = 4
    threads: int = 128


@dataclass(frozen=True)
class Form:
    """How weights are stored.

    `weight` is the type of the codes; with `entries` they are positions in a table of so many
    numbers of the activations' type, an argument, and `weight` is an unsigned type. `offset` is a
    zero point that all weights share: 8 where u4 stands for -8 to 7. `group` is how
    many elements along K share a scale (and a zero point, which has the weights' type); None is the
    whole column. `second_level` is one f32 for all weights. Raises `DTypeError` for a form that
    cannot be computed without losing what the weights say.
    """

    weight: str = "u4"
    group: int | None = 128
    scale: str = "f16"
    zero_point: bool = False
    second_level: bool = False
    entries: int | None = None
    activation: str = "f16"
    offset: int = 0

    def __post_init__(self) -> None:
        weight, scale, activation = (dtype(n) for n in (self.weight, self.scale, self.activation))
        if activation.name not in ("f16", "bf16"):
            raise DTypeError(f"activations are f16 or bf16, not {activation.name}")
        if weight.bits > 8 or weight.kind in ("bool", "scale"):
            raise DTypeError(f"{weight.name} is no type of weights; write one of at most 8 bits")
        if self.zero_point and (not weight.is_integer or self.entries):
            raise DTypeError("zero points are for integers: leave zero_point out")
        if self.offset and (not weight.is_integer or self.entries or self.zero_point):
            raise DTypeError("an offset is for integers without zero points: leave offset out")
        if self.offset and not weight.min <= self.offset <= weight.max:
            raise DTypeError(f"offset {self.offset} is no value of {weight.name}")
        if self.entries and weight.kind != "unsigned":
            raise DTypeError(f"codes into a table are unsigned: weight='u{weight.bits}'")
        if self.entries and not 2 <= self.entries <= 1 << weight.bits:
            raise DTypeError(f"{weight.name} names 2 to {1 << weight.bits} entries")
        if scale.name not in ("f16", "bf16", "f32", "f8e8m0", "f8e4m3"):
            raise DTypeError(f"scales are f16, bf16, f32, f8e8m0 or f8e4m3, not {scale.name}")
        if _range_lost(weight, activation) or (self.group and _range_lost(scale, activation)):
            lost = weight if _range_lost(weight, activation) else scale
            raise DTypeError(
                f"{lost.name} has values that {activation.name} has not; write activation='bf16'"
            )
        if self.group is not None and self.group < 1:
            raise DTypeError("a group has at least 1 element")

    @property
    def product_is_exact(self) -> bool:
        """Whether a weight times its scale has few enough digits for the activations' type."""
        if not self.group:
            return True
        digits = _digits(dtype(self.weight)) + _digits(dtype(self.scale)) + self.zero_point
        return not self.entries and digits <= _digits(dtype(self.activation))

    @property
    def weight_is_rounded(self) -> bool:
        """Whether the activations' type has too few digits for the values of codes."""
        return not self.entries and _digits(dtype(self.weight)) > _digits(dtype(self.activation))

    @property
    def random_deviation(self) -> float | None:
        """Of random floats, so that they come to all but the largest codes; None for integers."""
        weight = dtype(self.weight)
        return weight.max / 2 if weight.kind == "float" else None

    @property
    def random_scale(self) -> float:
        """Of random scales, so that they bring weights near 1."""
        return 2.0 ** -math.frexp(1.0 if self.entries else float(dtype(self.weight).max))[1]

    @property
    def operand_roundings(self) -> int:
        """How often a weight is rounded to the activations' type on its way into the product: when
        an entry of a codebook is, when its scale is, and when the two are multiplied."""
        room = _digits(dtype(self.activation))
        rounded = [self.weight_is_rounded,
                   self.group is not None and _digits(dtype(self.scale)) > room,
                   not self.product_is_exact]  # fmt: skip
        return sum(rounded)

    @property
    def sum_roundings(self) -> int:
        """How often the sum is multiplied in f32."""
        return int(self.group is None) + int(self.second_level)


def _digits(kind: DType) -> int:
    """Binary digits of the significand that every value of a type fits in."""
    if kind.kind == "codebook":
        return kind.entry.mantissa_bits + 1
    return kind.bits if kind.is_integer else kind.mantissa_bits + 1


def _range_lost(kind: DType, activation: DType) -> bool:
    """Whether numbers of a type may be far outside the range of the activations' type. That f8e5m2
    reaches a little further down than f16, as subnormals, loses nothing f16 could have said."""
    if kind.is_integer or kind.kind == "codebook" or kind.name == "f32":
        return False
    return kind.max > activation.max or 1 / kind.smallest_normal > 2 * activation.max


FORMATS: dict[str, Form] = {
    "mxfp8": Form("f8e4m3", 32, "f8e8m0", activation="bf16"),
    "mxfp8_e5m2": Form("f8e5m2", 32, "f8e8m0", activation="bf16"),
    "mxfp6_e3m2": Form("f6e3m2", 32, "f8e8m0", activation="bf16"),
    "mxfp6_e2m3": Form("f6e2m3", 32, "f8e8m0", activation="bf16"),
    "mxfp4": Form("f4e2m1", 32, "f8e8m0", activation="bf16"),
    "nvfp4": Form("f4e2m1", 16, "f8e4m3", second_level=True),
    "nf4": Form("nf4", 64),
    "codebook": Form("u4", 128, entries=16),
}
"""Forms with a name: those of OCP MX v1.0 (2023), NVIDIA's NVFP4, QLoRA's NF4, a given table."""


def quantized_matmul(form: Form, tiles: Tiles | None = None) -> Module:
    """The module of a form: `pack_weight`, `matmul`, `dequantized_product` and cases."""
    tiles = tiles or _tiles(form)
    b = Builder()
    M, N, K = b.sizes("M N K")
    f32, f64, u8 = b.f32, b.f64, b.u8

    WEIGHT = b.const(dtype(form.weight))
    ACTIVATION = b.const(dtype(form.activation))
    SCALE = b.const(dtype(form.scale))
    BM = b.const(tiles.rows)
    BN = b.const(tiles.columns)
    BK = b.const(tiles.depth)
    STAGES = b.const(tiles.stages)
    GROUP = b.const(form.group, "GROUP") if form.group else K
    ENTRIES = b.const(form.entries, "ENTRIES") if form.entries else None
    # Which thread holds which element of B's tile, and the same registers seen as bytes.
    fragment = b.layout(b.dot_layout(BM, BN, BK, ACTIVATION).b)
    bytes = b.layout(b.packed(fragment, WEIGHT))
    tile_bytes = BK * BN * b.bits(WEIGHT) // 8

    packed = (b.ceil_div(K, BK), b.ceil_div(N, BN), tile_bytes)
    scales = (K // GROUP, N) if form.group else (1, N)
    # Groups are as long as some tiles along K, or some groups are as long as a tile.
    long = form.group is not None and form.group % tiles.depth == 0
    facts = [K % GROUP == 0, GROUP % BK == 0 if long else BK % GROUP == 0] if form.group else []

    @b.program(grid=(b.ceil_div(K, BK), b.ceil_div(N, BN)), threads=tiles.threads)
    def pack_weight(B: b.global_(WEIGHT)[K, N], P: b.out(b.global_(u8))[packed]):
        """B as it is stored for `matmul`: tile by tile, and in a tile thread by thread.

        Tiles that reach past an edge are filled up with code 0.
        """
        k, n = b.block_index()
        w = b.load(B[k * BK : +BK, n * BN : +BN], layout=fragment)
        b.store(P[k, n, :], b.view(w, u8, layout=bytes))

    @b.program(
        grid=(b.ceil_div(M, BM), b.ceil_div(N, BN)),
        threads=tiles.threads,
        where=[*facts, b.aligned("A", 16)],
    )
    def matmul(
        A: b.global_(ACTIVATION)[M, K],
        P: b.global_(u8)[packed],
        S: b.global_(SCALE)[scales],
        Z: b.global_(WEIGHT)[scales] if form.zero_point else None,
        T: b.global_(ACTIVATION)[ENTRIES] if form.entries else None,
        second: f32 if form.second_level else None,
        C: b.out(b.global_(ACTIVATION))[M, N],
    ):
        """C = A B, with B as `pack_weight` stores it."""
        bm, bn = b.block_index()
        m = bm * BM
        n = bn * BN
        p = b.shared_alloc(u8, [STAGES, tile_bytes])
        if form.entries:
            table = b.shared_alloc(ACTIVATION, [ENTRIES])
            b.store(table, b.load(T))  # the first wait in the loop makes it known to all

        def rows(k):
            """The rows of scales and zero points for tile k."""
            if not form.group:
                return b.tile(0, 1)
            return b.tile(k * BK // GROUP, 1) if long else b.tile(k * (BK // GROUP), BK // GROUP)

        def each(rows):
            """A row for each element along K, or one for all of them."""
            return b.repeat(rows, GROUP, axis=0) if form.group and not long else rows

        def computable(x, kind):
            """In the type of the activations."""
            return x if kind == form.activation else b.cast(x, ACTIVATION)

        def values(q):
            if form.entries:
                return b.lookup(q, table)
            numbers = computable(q, form.weight)
            return numbers - float(form.offset) if form.offset else numbers

        def centred(q, zero):
            if not form.zero_point:
                return values(q)
            return values(q) - computable(each(zero), form.weight)

        def dequantized(q, zero, scale):
            """The weights of a tile: (value - zero) * scale, as far as the form has them."""
            if not form.group:
                return centred(q, zero)
            return centred(q, zero) * computable(each(scale), form.scale)

        def fetch(slot, k):
            b.copy_async(p[slot], P[k, bn, :])

        def weights(k):
            zero = scale = None
            if form.zero_point:
                zero = b.load(Z[rows(k), n : +BN])
            if form.group:
                scale = b.load(S[rows(k), n : +BN])
            q = b.view(b.load(p[k % STAGES], layout=bytes), WEIGHT, layout=fragment)
            return dequantized(q, zero, scale)

        acc = staged_product(b, A, m, (BM, BN, BK), STAGES, K, ACTIVATION, weights, fetch)

        def result():
            """The sum, scaled in f32."""
            if form.group is None:
                whole = b.load(S[0:+1, n : +BN])
                scaled = acc * b.cast(whole, f32)
                return scaled * second if form.second_level else scaled
            return acc * second if form.second_level else acc

        b.store(C[m : +BM, n : +BN], b.cast(result(), ACTIVATION))

    @b.reference()
    def dequantized_product(
        A: ACTIVATION[M, K],
        B: WEIGHT[K, N],
        S: SCALE[scales],
        Z: WEIGHT[scales] if form.zero_point else None,
        T: ACTIVATION[ENTRIES] if form.entries else None,
        second: f32 if form.second_level else None,
    ):
        def each(rows):
            """The row of its group for each element."""
            return b.repeat(rows, GROUP, axis=0) if form.group else rows

        values = decoded(b, form, B, each(Z) if form.zero_point else None, T)
        weights = values * b.cast(each(S), f64)
        return b.dot(A, weights * b.cast(second, f64) if form.second_level else weights)

    roundings = form.operand_roundings
    bound = {
        "operand_roundings": roundings or None,
        "largest_factor": LARGEST_RANDOM if roundings else None,
    }

    def compared(A, B, S, Z, T, K):
        """What every case ends in."""
        more = [part for part in (Z, T) if part is not None]
        if form.second_level:
            more.append(0.75)
        C = matmul(A, pack_weight(B), S, *more)
        terms = K + form.sum_roundings if form.sum_roundings else K
        b.expect(
            C,
            dequantized_product(A, B, S, *more),
            bound=b.dot_error(ACTIVATION, f32, terms, **bound),
        )

    def random_case(M, N, K):
        A = b.random(ACTIVATION, [M, K], seed=1)
        B = b.random(WEIGHT, [K, N], seed=2, scale=form.random_deviation, below=ENTRIES)
        S = b.random(SCALE, [K // GROUP if form.group else 1, N], seed=3, scale=form.random_scale)
        Z = T = None
        if form.zero_point:
            Z = b.random(WEIGHT, [K // GROUP if form.group else 1, N], seed=4)
        if form.entries:
            T = b.random(ACTIVATION, [ENTRIES], seed=5)
        compared(A, B, S, Z, T, K)

    # Sizes that fill tiles, and sizes just past them, odd, and smaller than one.
    unit = form.group or 1
    b.case("main", M=64, N=256, K=multiple(256, unit))(random_case)
    b.case("odd", M=77, N=131, K=multiple(tiles.depth + 1, unit))(random_case)
    b.case("one_row", M=1, N=1, K=multiple(1, unit))(random_case)
    return b.module()


def decoded(b: Builder, form: Form, codes: Any, zeros: Any, table: Any) -> Any:
    """In a reference: the values of codes in f64 without their scales, `zeros` taken from them
    where the form has zero points, looked up in `table` where it has one."""
    if form.entries:
        return b.cast(b.lookup(codes, table), b.f64)
    if form.zero_point:
        return b.cast(b.cast(codes, b.i32) - b.cast(zeros, b.i32), b.f64)
    return b.cast(codes, b.f64) - float(form.offset) if form.offset else b.cast(codes, b.f64)


def _tiles(form: Form) -> Tiles:
    """Tiles whose depth groups divide, or that divides groups."""
    for depth in (64, 32, 16):
        if form.group is None or form.group % depth == 0 or depth % form.group == 0:
            return Tiles(depth=depth)
    raise DTypeError(f"groups of {form.group} fit no tile: write a divisor or a multiple of 16")


def add_form_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say a `Form`."""
    parser.add_argument("--format", choices=FORMATS, help="a form with a name; else say it:")
    parser.add_argument("--weight", default="u4", help="the type of the codes")
    parser.add_argument("--group", default="128", help="rows that share a scale, or `column`")
    parser.add_argument("--scale", help="the type of the scales; as the activations")
    parser.add_argument("--offset", type=int, default=0, help="a zero point for all weights")
    parser.add_argument("--zero-point", action="store_true", help="read (code - zero) * scale")
    parser.add_argument("--second-level", action="store_true", help="one f32 scales all weights")
    parser.add_argument("--entries", type=int, help="codes are positions in a table, an argument")
    parser.add_argument("--activation", help="f16 or bf16")


def given_form(given: argparse.Namespace) -> Form:
    """The form that arguments say. Raises `DTypeError` for one that cannot be."""
    if given.format:
        return FORMATS[given.format]
    activation = given.activation or "f16"
    group = None if given.group == "column" else int(given.group)
    return Form(
        given.weight, group, given.scale or activation, given.zero_point, given.second_level,
        given.entries, activation, given.offset,
    )  # fmt: skip


def run_cases(module: Module, executor: str = "reference") -> int:
    """Runs and reports the cases of a module; the exit status."""
    results = []
    for case in module.cases.values():
        result = run_case(module, case, executor=executor)
        results.append(result)
        for each in result.expectations:
            print(
                f"{result.name}: {'PASS' if result.passed else 'FAIL'}  {each.type} off by "
                f"{each.error:.3g} of {each.bound:.3g} allowed, {result.seconds:.2f} s"
            )
        if result.fault is not None:
            print(f"{result.name}: FAIL\n{result.fault}", file=sys.stderr)
    return 0 if all(result.passed for result in results) else 1


def _module(given: argparse.Namespace) -> Module:
    """What the arguments of the command ask for."""
    if given.checkpoint:
        return checkpoint_matmul(format_called(given.checkpoint, given.set), given.activation)
    return quantized_matmul(given_form(given))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: runs the cases of a form or a format, or prints its module."""
    parser = argparse.ArgumentParser(
        prog="python -m programs.quantized_matmul", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_form_arguments(parser)
    parser.add_argument("--checkpoint", choices=CHECKPOINTS, help="a format of programs/formats.py")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                        help="what the format of a checkpoint can vary in, such as bits=3")
    parser.add_argument("--on", default="reference", help="reference, emulator or cuda")
    parser.add_argument("--print", action="store_true", help="print the module and run nothing")
    given = parser.parse_args(arguments)
    try:
        module = _module(given)
    except (VmError, DTypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.print:
        print(module)
        return 0
    return run_cases(module, given.on)


if __name__ == "__main__":
    sys.exit(main())
