"""How matrix units add: what one instruction keeps of its products and its accumulator.

    python -m benchmarks.matrix_precision --date DATE --out benchmarks/results/h200-matrix.json

For each fragment of `vm.layouts.fragments` that the device multiplies from registers, in each of
its forms, a program of one `dot` is run on many tiles of numbers that were chosen to tell:

- `accumulator`: of c = 1 and a product 2**-s, the largest s at which the sum is not 1, at the
  worst and at the best place along k;
- `products`: of products 1 and 2**-s and c = -1, the largest s at which something is left, at the
  worst and the best two places: how many bits behind the largest term the unit adds;
- `rounding`: what becomes of 1 + 3/4 and -1 - 3/4 of a unit in the last place that `accumulator`
  found: "toward zero" or "nearest";
- `worst`: |result - exact| / (|c| + sum |a||b|) at the worst, over random tiles whose terms differ
  by many powers of two and cancel. Times 2**23 for f32 (2**10 for f16) these are the units in which
  rule Num/dot counts; it allows `k` units of the row's epsilon.

Integer forms must be exact. `--on reference` tries it all without a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import vm
from benchmarks.machine import command_of, first_gpu
from vm.isa.dtypes import DType, dtype
from vm.isa.matrix import PRODUCTS
from vm.layouts.fragments import MMA_ROWS, Fragment
from vm.runtime import reference
from vm.runtime.bounds import row_epsilon
from vm.runtime.compiled import run_on_cuda

PROGRAM = """vm 1

program multiply(A: global({a})[T, {m}, {k}], B: global({b})[T, {k}, {n}],
                 C: global({c})[T, {m}, {n}], D: out(global({c}))[T, {m}, {n}])
  grid (T) threads 32
{{
  t = block_index()
  a = load(A[t, 0 +: {m}, 0 +: {k}], layout={name}.a)
  b = load(B[t, 0 +: {k}, 0 +: {n}], layout={name}.b)
  c = load(C[t, 0 +: {m}, 0 +: {n}], layout={name}.c)
  store(D[t, 0 +: {m}, 0 +: {n}], dot(a, b, c))
}}
"""

Multiply = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(a, b, c), values of T tiles in float64, to the results of T tiles."""


@dataclass(frozen=True)
class Measured:
    """What was found of one form of a fragment; the fields are those of the module's text."""

    fragment: str
    a: str
    b: str
    c: str
    k: int
    reach: int | None
    """The largest s that the dtypes can express: no more can be seen."""
    accumulator: tuple[int, int] | None
    products: tuple[int, int] | None
    rounding: str
    worst: float
    allowed: float
    """What rule Num/dot allows for one instruction, in the measure of `worst`."""
    tiles: int


def forms(fragments: Sequence[Fragment] = MMA_ROWS) -> Iterator[tuple[Fragment, tuple[str, ...]]]:
    """Each fragment with each of its forms that `dot` takes: dtypes of a, b and c."""
    for fragment in fragments:
        for a, b, c, _ in fragment.dtypes:
            if c in PRODUCTS[a, b]:
                yield fragment, (a, b, c)


def multiply_on(run: Callable[..., Any], fragment: Fragment, kinds: tuple[str, ...]) -> Multiply:
    """One instruction as a function, on an executor."""
    a, b, c = kinds
    text = PROGRAM.format(a=a, b=b, c=c, name=fragment.name, m=fragment.m, n=fragment.n,
                          k=fragment.k)  # fmt: skip
    kernel = vm.parse(text)["multiply"].instantiate()

    def multiply(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        given = {
            name: vm.Tensor.from_values(kind, values)
            for name, kind, values in (("A", a, x), ("B", b, y), ("C", c, z))
        }
        given["D"] = vm.Tensor.from_values(c, np.zeros_like(z))
        return run(kernel, given).outputs["D"].values().astype(np.float64)

    return multiply


def factors(kind_a: DType, kind_b: DType, s: int) -> tuple[float, float] | None:
    """Two numbers whose product is 2**-s, as equal as can be; None where there are none."""
    low = -(-s // 2)
    x, y = 2.0**-low, 2.0 ** (low - s)
    held = kind_a.decode(kind_a.encode(x)) == x and kind_b.decode(kind_b.encode(y)) == y
    return (x, y) if held else None


DEEPEST = 40
"""No unit looks for bits further behind the largest term."""


def reach(kinds: Sequence[DType]) -> int:
    """The largest s for which 2**-s is a product of the dtypes of a and b, and a number of c's."""
    smallest = kinds[2].smallest_subnormal
    return max(s for s in range(1, DEEPEST + 1) if factors(*kinds[:2], s) and 2.0**-s >= smallest)


def one_sum(
    multiply: Multiply, fragment: Fragment,
    trials: Sequence[tuple[float, dict[int, tuple[float, float]]]],
) -> np.ndarray:  # fmt: skip
    """c + products at some places along k for each trial: the element (0, 0) of a tile each."""
    a = np.zeros((len(trials), fragment.m, fragment.k))
    b = np.zeros((len(trials), fragment.k, fragment.n))
    c = np.zeros((len(trials), fragment.m, fragment.n))
    for t, (addend, terms) in enumerate(trials):
        c[t, 0, 0] = addend
        for place, (x, y) in terms.items():
            a[t, 0, place], b[t, place, 0] = x, y
    return multiply(a, b, c)[:, 0, 0]


def kept(
    multiply: Multiply, fragment: Fragment, kinds: tuple[DType, DType], addend: float,
    places: Sequence[tuple[int, ...]],
) -> tuple[int, int] | None:  # fmt: skip
    """Bits behind a largest term 1 that a small last term still reaches: the fewest and the most of
    all places. The first of two places holds the product 1, `addend` is c."""
    reached = {
        s: two for s in range(1, DEEPEST + 1) if (two := factors(*kinds, s)) is not None
    }  # fmt: skip
    trials, named = [], []
    for where, (s, small) in product(places, reached.items()):
        ones = dict.fromkeys(where[:-1], (1.0, 1.0))
        trials.append((addend, {**ones, where[-1]: small}))
        named.append((where, s))
    rest = addend + len(places[0]) - 1
    sums = one_sum(multiply, fragment, trials)
    found = dict.fromkeys(places, 0)
    for (where, s), total in zip(named, sums, strict=True):
        if total != rest:
            found[where] = max(found[where], s)
    return min(found.values()), max(found.values())


def rounding(multiply: Multiply, fragment: Fragment, kinds: tuple[DType, DType], bits: int) -> str:
    """What becomes of three quarters of the last unit that a sum with 1 keeps."""
    half, fourth = factors(*kinds, bits + 1), factors(*kinds, bits + 2)
    if half is None or fourth is None or fragment.k < 2:
        return "not seen"
    negative = [(-x, y) for x, y in (half, fourth)]
    sums = one_sum(multiply, fragment, [
        (1.0, {0: half, 1: fourth}), (-1.0, {0: negative[0], 1: negative[1]}),
    ])  # fmt: skip
    up = 1 + 2.0**-bits
    names = {(1.0, -1.0): "toward zero", (up, -up): "nearest", (up, -1.0): "up", (1.0, -up): "down"}
    return names.get(tuple(sums), f"other: {sums.tolist()}")


def random_tiles(
    fragment: Fragment, kinds: Sequence[DType], tiles: int, random: np.random.Generator
) -> list[np.ndarray]:
    """a, b and c of `tiles` tiles: some alike in size, some over many powers of two; in half of
    them c cancels the products as far as its dtype can."""

    def numbers(kind: DType, *shape: int) -> np.ndarray:
        if kind.is_integer:
            return random.integers(int(kind.min), int(kind.max) + 1, shape).astype(np.float64)
        spread = random.choice([0, 2, 6], (tiles, 1, 1))
        drawn = random.standard_normal(shape) * 2.0 ** random.integers(-spread, spread + 1, shape)
        return kind.decode(kind.encode(drawn)).astype(np.float64)

    a = numbers(kinds[0], tiles, fragment.m, fragment.k)
    b = numbers(kinds[1], tiles, fragment.k, fragment.n)
    c = numbers(dtype("i16") if kinds[2].is_integer else kinds[2], tiles, fragment.m, fragment.n)
    cancelled = np.arange(tiles) % 2 == 0
    c[cancelled] = -(a @ b)[cancelled]
    return [a, b, kinds[2].decode(kinds[2].encode(c)).astype(np.float64)]


def measure(
    run: Callable[..., Any], fragment: Fragment, names: tuple[str, ...], tiles: int, seed: int
) -> Measured:
    """All that is to be found of one form. Raises `ValueError` where integers are not exact."""
    kinds = tuple(dtype(name) for name in names)
    multiply = multiply_on(run, fragment, names)
    a, b, c = random_tiles(fragment, kinds, tiles, np.random.default_rng(seed))
    difference = np.abs(multiply(a, b, c) - (a @ b + c))
    magnitude = np.abs(a) @ np.abs(b) + np.abs(c)
    worst = float((difference / np.where(magnitude == 0, 1, magnitude)).max())
    if not kinds[2].is_float:
        if worst:
            raise ValueError(f"{fragment.name} of {names} is not exact")
        return Measured(fragment.name, *names, fragment.k, None, None, None, "exact", 0.0, 0.0,
                        tiles)  # fmt: skip
    ends = range(fragment.k)
    alone = kept(multiply, fragment, kinds[:2], 1.0, [(at,) for at in ends])
    pairs = [(i, j) for i in ends for j in ends if i != j]
    beside = kept(multiply, fragment, kinds[:2], -1.0, pairs)
    rounded = rounding(multiply, fragment, kinds[:2], alone[0])
    allowed = fragment.k * row_epsilon(kinds[0], kinds[2])
    return Measured(fragment.name, *names, fragment.k, reach(kinds), alone, beside, rounded, worst,
                    allowed, tiles)  # fmt: skip


def show(rows: Sequence[Measured]) -> None:
    for r in rows:
        print(f"{r.fragment:22} {r.a:7} {r.b:7} {r.c:4} accumulator {r.accumulator} products "
              f"{r.products} {r.rounding:12} worst {r.worst:.3g} of {r.allowed:.3g}")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.matrix_precision", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--date", required=True, help="of the measurement, YYYY-MM-DD")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--on", choices=("cuda", "reference"), default="cuda")
    parser.add_argument("--tiles", type=int, default=4096, help="random tiles of each form")
    parser.add_argument("--only", help="the name of one fragment")
    given = parser.parse_args(arguments)
    run = run_on_cuda if given.on == "cuda" else partial(reference.run, checks=False)
    rows = []
    for fragment, names in forms():
        if given.only in (None, fragment.name):
            rows.append(measure(run, fragment, names, given.tiles, len(rows)))
            show(rows[-1:])
    if given.out:
        gpu = first_gpu() if given.on == "cuda" else None
        given.out.write_text(json.dumps({
            "date": given.date, "on": given.on, "device": asdict(gpu) if gpu else None,
            "command": command_of("-m benchmarks.matrix_precision", arguments or sys.argv[1:]),
            "rows": [asdict(row) for row in rows],
        }, indent=1) + "\n")  # fmt: skip
    return 0 if all(row.worst <= row.allowed for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
