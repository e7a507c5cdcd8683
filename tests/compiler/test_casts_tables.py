"""Casts that look up pairs in a table: every code in every place, whatever its order, against
`convert`, and what no table is made for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.casts import dtype_of
from tests.compiler.test_casts import assert_same, check, expected, halves, rows_of_codes
from tests.compiler.test_casts_bits import words_in_order
from vm.compiler import casts
from vm.compiler.casts_rules import Problem, Unsuited, apply
from vm.compiler.casts_tables import pairs_of_a_table
from vm.isa.dtypes import dtype
from vm.isa.static import codebook_type

TARGETS = ("f16", "bf16")
SOURCES = ("nf4", "codebook2", "codebook4", "codebook8", "codebook16")


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("kind", TARGETS)
def test_every_code_in_every_place(name, kind):
    source, to = dtype_of(name), dtype(kind)
    size = casts.block_size(source)
    ruled = 0
    for distance in (d for d in (1, 2, 4, 8, 16) if 2 * d <= size):
        slots = casts.ordered(size, distance)
        steps = casts.choose(source, to, slots, size * source.bits // 32, tables=True).steps
        without = casts.choose(source, to, slots, size * source.bits // 32).steps
        assert without.table is None and without.expected >= steps.expected
        if steps.table:
            ruled += 1
            assert len(steps.table.entries) == 4**source.bits
            assert steps.table.bytes == 128 * 4**source.bits
        check(steps, source, to, slots, size)
    assert ruled
    assert casts.best_distance(source, to, size) == 1
    assert casts.best_order(source, to, size).bits == tuple(range(size * source.bits))


@pytest.mark.parametrize(("name", "most"), [("nf4", 12), ("codebook8", 52), ("codebook4", 24)])
def test_neighbours_take_three_instructions(name, most):
    """A view, an `and` with the lane and a load for each pair; codes that two words hold are moved
    once more."""
    source = dtype_of(name)
    size = casts.block_size(source)
    found = casts.plan(source, dtype("f16"), tuple(range(size)), size, tables=True)
    assert found.cost == most


def test_any_order_of_bits():
    generator = np.random.default_rng(4)
    for name in ("nf4", "codebook8"):
        source, kind = dtype_of(name), dtype("f16")
        size = casts.block_size(source)
        bits = tuple(map(int, generator.permutation(size * source.bits)))
        codes = rows_of_codes(source, size)
        problem = Problem(source, kind, size * source.bits // 32,
                          tuple((k, k + 1) for k in range(0, size, 2)), 0, bits)  # fmt: skip
        steps = apply(pairs_of_a_table, problem)
        made = halves(steps.run(words_in_order(codes, source, bits)))[:, :size]
        assert_same(made, expected(codes, source, kind), kind)


@pytest.mark.parametrize(
    ("name", "offset", "why"),
    [("f4e2m1", 0, "no codebook"), ("u4", 0, "no codebook"), ("nf4", 1, "an offset")],
)
def test_what_is_refused(name, offset, why):
    problem = Problem(dtype(name), dtype("f16"), 1, ((0, 1),), offset)
    with pytest.raises(Unsuited, match=why):
        apply(pairs_of_a_table, problem)


def test_codes_of_5_bits_are_refused():
    source = codebook_type(tuple(map(float, range(32))), dtype("f16"))
    with pytest.raises(Unsuited, match="too many bits"):
        apply(pairs_of_a_table, Problem(source, dtype("f16"), 1, ((0, 1),)))
