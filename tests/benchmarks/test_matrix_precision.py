"""What is told of a matrix unit, tried on units that are made up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.insert import RESULTS
from benchmarks.matrix_precision import forms, kept, measure, rounding
from vm.isa.dtypes import dtype
from vm.layouts.fragments import FRAGMENTS
from vm.runtime import reference
from vm.runtime.bounds import row_epsilon

FRAGMENT = FRAGMENTS["mma_m16n8k8"]
HALVES = dtype("f16"), dtype("f16")


def unit(behind: int, held: int, nearest: bool):
    """A unit that cuts products `behind` bits below the largest term, and keeps `held` bits of a
    sum, rounded or cut."""

    def multiply(a, b, c):
        terms = np.concatenate([np.einsum("tik,tkj->tkij", a, b), c[:, None]], axis=1)
        largest = np.abs(terms).max(axis=1, keepdims=True)
        scale = 2.0 ** (behind - np.floor(np.log2(np.where(largest > 0, largest, 1))))
        total = (np.trunc(terms * scale) / scale).sum(axis=1)
        whole = np.floor(np.log2(np.where(total != 0, np.abs(total), 1)))
        units = total * 2.0 ** (held - whole)
        return (np.round(units) if nearest else np.trunc(units)) / 2.0 ** (held - whole)

    return multiply


@pytest.mark.parametrize(("behind", "held"), [(25, 23), (14, 13), (23, 23)])
def test_bits_behind_the_largest_term_are_counted(behind, held):
    ends = range(FRAGMENT.k)
    multiply = unit(behind, held, nearest=False)
    alone = kept(multiply, FRAGMENT, HALVES, 1.0, [(k,) for k in ends])
    beside = kept(multiply, FRAGMENT, HALVES, -1.0, [(0, k) for k in ends if k])
    assert alone == (held, held) and beside == (behind, behind)
    assert rounding(multiply, FRAGMENT, HALVES, held) == "toward zero"


def test_a_unit_that_rounds_is_told_from_one_that_cuts():
    assert rounding(unit(26, 20, nearest=True), FRAGMENT, HALVES, 20) == "nearest"


def test_a_place_that_keeps_less_is_found():
    def multiply(a, b, c):
        weak = a.copy()
        weak[:, :, 3] = np.where(np.abs(a[:, :, 3]) < 2.0**-5, 0, a[:, :, 3])
        return unit(24, 23, nearest=False)(weak, b, c)

    found = kept(multiply, FRAGMENT, HALVES, 1.0, [(k,) for k in range(FRAGMENT.k)])
    assert found == (10, 23)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("mma_m16n8k8", ("f16", "f16", "f32")), ("mma_m8n8k16_i8", ("u8", "i8", "i32"))],
)
def test_the_reference_is_within_what_the_rule_allows(name, kinds):
    def run(kernel, given):
        return reference.run(kernel, given, checks=False)

    found = measure(run, FRAGMENTS[name], kinds, 4, 1)
    assert found.worst <= found.allowed and found.tiles == 4
    assert found.rounding == ("exact" if kinds[2] == "i32" else "nearest")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*-matrix.json")), ids=lambda path: path.stem)
def test_no_instruction_was_seen_to_err_more_than_the_rule_allows(path):
    rows = json.loads(path.read_text())["rows"]
    measured = [(row["fragment"], (row["a"], row["b"], row["c"])) for row in rows]
    assert measured == [(fragment.name, names) for fragment, names in forms()]
    for row in rows:
        assert row["allowed"] == row["k"] * row_epsilon(dtype(row["a"]), dtype(row["c"]))
        assert row["worst"] <= row["allowed"]
