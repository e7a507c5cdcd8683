"""Block-level layouts for a matrix product: a grid of warps, each with a tile of fragments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vm.layouts.common import HasBits, bit_width
from vm.layouts.errors import LayoutError
from vm.layouts.fragments import FRAGMENTS, Fragment
from vm.layouts.modes import divisors, whole_numbers
from vm.layouts.register import RegisterLayout, local, replicated

# Which fragment a product uses when none is named: by warp width and operand bits, best first. The
# 8-bit float fragments have the layouts of the integer ones.
DEFAULTS: dict[tuple[int, int], tuple[str, ...]] = {
    (32, 16): ("mma_m16n8k16", "mma_m16n8k8"),
    (32, 8): ("mma_m16n8k32_i8", "mma_m16n8k16_i8", "mma_m8n8k16_i8"),
    (32, 32): ("mma_m16n8k8_tf32", "mma_m16n8k4_tf32"),
    (64, 16): ("mfma_16x16x16",),
    (64, 8): ("mfma_16x16x32_i8",),
}

# Of how many k steps a thread's share is one run along K, in `dot_layouts`.
K_RUNS = (1, 2, 4, 8)


@dataclass(frozen=True)
class DotLayout:
    """Layouts of a block-level product C[M,N] += A[M,K] B[K,N].

    a, b, c: register layouts of shapes (M, K), (K, N), (M, N) over all warps.
    warps: the grid of fragment groups along M, along N, and copies that compute the same.
    repeats: fragments per group along M, N, K.
    k_run: of how many k steps a thread's share is one run along K; 1 is the order of the fragment.
    """

    a: RegisterLayout
    b: RegisterLayout
    c: RegisterLayout
    fragment: Fragment
    warps: tuple[int, int, int]
    repeats: tuple[int, int, int]
    k_run: int

    @property
    def threads(self) -> int:
        """Threads of all warps."""
        return self.c.threads

    def steps(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The instructions of a warp in order, k outermost, then M, then N. For each the slots
        of a, of b and of c that are its operands, in the order of the fragment's slots."""
        rows, columns, depth = self.repeats
        a = np.arange(self.a.slots)
        b = np.arange(self.b.slots)
        c = np.arange(self.c.slots).reshape(rows, columns, self.fragment.c.slots)
        if self.k_run == 1:
            a = a.reshape(rows, depth, self.fragment.a.slots)
            b = b.reshape(depth, columns, self.fragment.b.slots)
        else:
            a, b = self._steps_of_runs(a, b)
        for k in range(depth):
            for m in range(rows):
                for n in range(columns):
                    yield a[m, k], b[k, n], c[m, n]

    def _steps_of_runs(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Slots by (m, k step, slot of the fragment) and (k step, n, slot of the fragment)."""
        rows, columns, depth = self.repeats
        parts, run = _k_share(self.fragment)
        groups = depth // self.k_run
        a = a.reshape(rows, groups, -1, self.k_run, parts, run)
        b = b.reshape(groups, columns, -1, self.k_run, parts, run)
        a = a.transpose(0, 1, 3, 4, 2, 5)  # the fragment steps over its rows first, then over k
        b = b.transpose(0, 3, 1, 4, 2, 5)
        return a.reshape(rows, depth, -1), b.reshape(depth, columns, -1)


def _k_share(fragment: Fragment) -> tuple[int, int]:
    """What of K a thread holds in one step: how many runs of how many neighbouring k."""
    order = fragment.k_order
    run = order.modes[-1] if order.local_modes[-1:] == (len(order.modes) - 1,) else 1
    return order.slots // run, run


def dot_layout(
    M: int,
    N: int,
    K: int,
    bits: int | HasBits,
    warps: int,
    *,
    accumulator_bits: int | HasBits = 32,
    warp_width: int = 32,
    fragment: str | Fragment | None = None,
    k_run: int = 1,
    grid: Sequence[int] | None = None,
) -> DotLayout:
    """Register layouts of a product of an (M, K) and a (K, N) tile of `bits` wide elements.

    Warps are placed on a grid wm x wn; operand A is the same for all warps along N and B for
    all along M. `grid` = (wm, wn) may be given. Else, of the grids that divide the tile, the one
    is taken with the fewest copies, then the fewest register bits per thread, a.slots * bits +
    b.slots * bits + c.slots * accumulator_bits (the cost), then the most warps along N (B, often
    the dequantized operand, is then held least often). Warps that no grid uses compute copies. The
    fragment is `fragment`, or the first of DEFAULTS that divides the tile. k_run > 1 permutes K
    alike in A and B so that a thread's share of so many k steps is one run along K.

    LayoutError if no fragment divides the tile, or the grid does not divide warps or tile."""
    M, N, K, warps, k_run = whole_numbers((M, N, K, warps, k_run), "dot_layout")
    width, accumulator_width = bit_width(bits), bit_width(accumulator_bits)
    row = _fragment_for(M, N, K, width, warp_width, fragment, k_run)
    groups = _groups(row, warps, warp_width)
    rows, columns, depth = M // row.m, N // row.n, K // row.k
    if grid is None:
        found = _grids(row, (M, N, K), groups, width, accumulator_width)[0]
    else:
        found = _given_grid(grid, groups, (rows, columns), row)
    along_m, along_n = found
    copies = groups // (along_m * along_n)
    repeats = rows // along_m, columns // along_n, depth

    outer = replicated(copies)
    a = outer.spatial(along_m, 1).replicated(along_n).local(repeats[0], depth // k_run)
    b = outer.replicated(along_m).spatial(1, along_n).local(depth // k_run, repeats[1])
    c = outer.spatial(along_m, along_n).local(repeats[0], repeats[1])
    fragment_a, fragment_b = _with_runs(row, k_run)
    return DotLayout(
        a * fragment_a, b * fragment_b, c * row.c, row, (along_m, along_n, copies), repeats, k_run
    )


def _with_runs(row: Fragment, k_run: int) -> tuple[RegisterLayout, RegisterLayout]:
    """A and B of `k_run` steps, a thread's share of which is one run along K."""
    if k_run == 1:
        return row.a, row.b
    parts, run = _k_share(row)
    a = row.a.left_divide(local(1, parts)) / local(1, run)
    b = row.b.left_divide(local(parts, 1)) / local(run, 1)
    return a.local(1, k_run * parts * run), b.local(k_run * parts * run, 1)


@lru_cache(maxsize=256)
def dot_grids(
    M: int,
    N: int,
    K: int,
    bits: int | HasBits,
    warps: int,
    *,
    accumulator_bits: int | HasBits = 32,
    warp_width: int = 32,
) -> tuple[DotLayout, ...]:
    """`dot_layout` with its default and with every other grid that has no more copies."""
    options = {"accumulator_bits": accumulator_bits, "warp_width": warp_width}
    default = dot_layout(M, N, K, bits, warps, **options)
    widths = bit_width(bits), bit_width(accumulator_bits)
    groups = _groups(default.fragment, warps, warp_width)
    return default, *(
        dot_layout(M, N, K, bits, warps, **options, grid=grid)
        for grid in _grids(default.fragment, (M, N, K), groups, *widths)[1:]
        if groups == grid[0] * grid[1] * default.warps[2]
    )


@lru_cache(maxsize=256)
def dot_layouts(
    M: int,
    N: int,
    K: int,
    bits: int | HasBits,
    warps: int,
    *,
    accumulator_bits: int | HasBits = 32,
    warp_width: int = 32,
) -> tuple[DotLayout, ...]:
    """All layouts that `dot_layout` gives for a product: for every fragment of DEFAULTS that
    divides the tile every grid, each with every k_run of K_RUNS that divides K. The default one is
    first, and grids are in the order of their cost.

    LayoutError if no fragment divides the tile."""
    M, N, K, warps = whole_numbers((M, N, K, warps), "dot_layouts")
    widths = bit_width(bits), bit_width(accumulator_bits)
    _fragment_for(M, N, K, widths[0], warp_width, None, 1)
    rows = (FRAGMENTS[name] for name in DEFAULTS[warp_width, widths[0]])
    return tuple(
        dot_layout(
            M, N, K, bits, warps, accumulator_bits=accumulator_bits, warp_width=warp_width,
            fragment=row, k_run=k_run, grid=grid,
        )
        for row in rows
        if M % row.m == 0 and N % row.n == 0 and K % row.k == 0
        for grid in _grids(row, (M, N, K), _groups(row, warps, warp_width), *widths)
        for k_run in K_RUNS
        if K % (row.k * k_run) == 0
    )  # fmt: skip


def _groups(row: Fragment, warps: int, warp_width: int) -> int:
    """How many groups of warps there are that execute a fragment together."""
    per_group = row.threads // warp_width
    if row.threads % warp_width or warps % per_group:
        raise LayoutError(
            f"{row.name} is executed by {row.threads} threads together: {warps} warps of "
            f"{warp_width} are not a multiple of that"
        )
    return warps // per_group


def _grids(
    row: Fragment, tile: tuple[int, int, int], groups: int, bits: int, accumulator_bits: int
) -> list[tuple[int, int]]:
    """All grids that divide the tile, best first."""
    rows, columns, depth = tile[0] // row.m, tile[1] // row.n, tile[2] // row.k

    def cost(grid: tuple[int, int]) -> tuple[int, int, int]:
        along_m, along_n = grid
        repeats_m, repeats_n = rows // along_m, columns // along_n
        registers = depth * (repeats_m * row.a.slots + repeats_n * row.b.slots) * bits
        registers += repeats_m * repeats_n * row.c.slots * accumulator_bits
        return groups // (along_m * along_n), registers, along_m

    grids = [
        (along_m, along_n)
        for along_m in divisors(groups)
        if rows % along_m == 0
        for along_n in divisors(groups // along_m)
        if columns % along_n == 0
    ]
    return sorted(grids, key=cost)


def _given_grid(
    grid: Sequence[int], groups: int, fragments: tuple[int, int], row: Fragment
) -> tuple[int, int]:
    along = whole_numbers(grid, "grid")
    if len(along) != 2:
        raise LayoutError(f"a grid is warps along M and along N, not {list(along)}")
    if groups % (along[0] * along[1]):
        raise LayoutError(f"a grid of {along[0]} x {along[1]} does not divide {groups} warps")
    for axis, extent, count in zip("MN", fragments, along, strict=True):
        if extent % count:
            raise LayoutError(
                f"{count} warps along {axis} do not share {extent} fragments of {row.name} evenly"
            )
    return along[0], along[1]


def _fragment_for(
    M: int, N: int, K: int, bits: int, warp_width: int, named: str | Fragment | None, k_run: int
) -> Fragment:
    if isinstance(named, Fragment):
        candidates = [named]
    elif named is not None:
        if named not in FRAGMENTS:
            raise LayoutError(f"no fragment is called {named!r}")
        candidates = [FRAGMENTS[named]]
    else:
        candidates = [FRAGMENTS[name] for name in DEFAULTS.get((warp_width, bits), ())]
    if not candidates:
        widths = sorted(b for w, b in DEFAULTS if w == warp_width)
        raise LayoutError(
            f"no fragment multiplies {bits}-bit elements at a warp width of {warp_width}; "
            f"there are fragments for {', '.join(map(str, widths)) or 'no'} bits: cast first"
        )
    for row in candidates:
        if row.bits == bits and M % row.m == 0 and N % row.n == 0 and K % (row.k * k_run) == 0:
            return row
    fitting = "; ".join(
        f"{row.name} takes {row.bits}-bit elements and multiples of M={row.m}, N={row.n}, "
        f"K={row.k * k_run}"
        for row in candidates
    )
    raise LayoutError(f"no fragment divides a {bits}-bit tile of M={M}, N={N}, K={K}: {fitting}")
