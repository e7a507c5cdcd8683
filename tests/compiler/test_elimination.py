"""The least of all choices, against trying every one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vm.compiler import elimination
from vm.compiler.elimination import Costs, cheapest


@st.composite
def problems(draw) -> Costs:
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=6))
    costs = Costs(counts)
    numbers = st.sampled_from([0.0, 1.0, 2.0, 5.0, float("inf")])
    for _ in range(draw(st.integers(0, 9))):
        size = draw(st.integers(1, min(2, len(counts))))
        names = tuple(draw(st.permutations(range(len(counts))))[:size])
        shape = tuple(counts[v] for v in names)
        cells = draw(st.lists(numbers, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        costs.add(names, np.array(cells).reshape(shape))
    return costs


def total(costs: Costs, choices: tuple[int, ...]) -> float:
    return sum(float(table[tuple(choices[v] for v in names)]) for names, table in costs.tables)


def least(costs: Costs) -> float:
    return min(total(costs, choices) for choices in product(*map(range, costs.counts)))


@given(problems())
@settings(deadline=None, max_examples=200)
def test_no_choice_is_cheaper(costs):
    found, choices = cheapest(costs)
    assert found == least(costs) == total(costs, tuple(choices))


@given(problems())
@settings(deadline=None, max_examples=50)
def test_it_is_the_same_each_time(costs):
    assert cheapest(costs) == cheapest(costs)


def test_of_equal_choices_a_variable_takes_its_first():
    costs = Costs([3])
    costs.add((0,), np.array([4.0, 3.0, 3.0]))
    assert cheapest(costs) == (3.0, [1])


@given(problems())
@settings(deadline=None, max_examples=100)
def test_where_tables_would_be_too_large_the_cost_told_is_that_of_the_choice(costs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elimination, "LARGEST_TABLE", 3)
        found, choices = cheapest(costs)
    assert found == total(costs, tuple(choices)) >= least(costs)


def test_a_long_chain_and_a_wide_star_take_no_large_tables():
    count = 2000
    costs = Costs([2] * count)
    for number in range(1, count):
        costs.add((number - 1, number), np.array([[0.0, 1.0], [1.0, 0.0]]))
        costs.add((0, number), np.array([[0.0, 1.0], [1.0, 0.0]]))
    costs.add((count - 1,), np.array([1.0, 0.0]))
    assert cheapest(costs) == (0.0, [1] * count)
