"""The cheapest choice for many variables when costs are between pairs of them.

Variable elimination (Bertele and Brioschi, "Nonserial Dynamic Programming", 1972): exact, and fast
where the graph of the pairs is close to a tree, as the data flow of a program is. Where it is not,
variables are fixed one by one at the choice that looks best, until it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# Elements of the largest table; beyond it a variable is fixed instead.
LARGEST_TABLE = 1 << 16


@dataclass
class Costs:
    """Variables 0 .. with their numbers of choices, and costs on one or two of them."""

    counts: list[int]
    tables: list[tuple[tuple[int, ...], np.ndarray]] = field(default_factory=list)

    def add(self, variables: tuple[int, ...], table: np.ndarray) -> None:
        """Adds the cost table[i] or table[i, j] of taking these choices; infinity forbids."""
        self.tables.append((variables, table))


def cheapest(costs: Costs) -> tuple[float, list[int]]:
    """The least total and the choices that give it: of equal ones, those that come first.

    The total is infinite where every way is forbidden; the choices then mean nothing.
    """
    tables = dict(enumerate(costs.tables))
    of: list[set[int]] = [set() for _ in costs.counts]
    for number, (variables, _) in tables.items():
        for variable in variables:
            of[variable].add(number)
    left = set(range(len(costs.counts)))
    fresh = len(tables)
    steps: list[tuple[int, tuple[int, ...], np.ndarray]] = []
    total = 0.0

    def neighbours(variable: int) -> tuple[int, ...]:
        around = {v for number in of[variable] for v in tables[number][0]}
        return tuple(sorted(around - {variable}))

    sizes: dict[int, int] = {}

    def measure(variable: int) -> None:
        size = costs.counts[variable]
        for other in neighbours(variable):
            size *= costs.counts[other]
        sizes[variable] = size

    for variable in left:
        measure(variable)
    while left:
        variable = min(left, key=lambda v: (sizes[v], v))
        around = neighbours(variable)
        if sizes[variable] > LARGEST_TABLE:
            variable = max(left, key=lambda v: (len(neighbours(v)), sizes[v], -v))
            around = neighbours(variable)
            self_cost = np.zeros(costs.counts[variable])
            for number in of[variable]:
                names, table = tables[number]
                others = tuple(i for i, name in enumerate(names) if name != variable)
                self_cost = self_cost + (table.min(axis=others) if others else table)
            choice = int(self_cost.argmin())
            steps.append((variable, (), np.array(choice)))
            for number in sorted(of[variable]):
                names, table = tables.pop(number)
                rest = tuple(name for name in names if name != variable)
                cut = np.take(table, choice, axis=names.index(variable))
                for name in rest:
                    of[name].discard(number)
                if rest:
                    tables[fresh] = rest, cut
                    for name in rest:
                        of[name].add(fresh)
                    fresh += 1
                else:
                    total += float(cut)
        else:
            scope = (*around, variable)
            joined = np.zeros(tuple(costs.counts[v] for v in scope))
            for number in sorted(of[variable]):
                names, table = tables.pop(number)
                for name in names:
                    of[name].discard(number)
                order = sorted(range(len(names)), key=lambda i, n=names: scope.index(n[i]))
                present = {names[i] for i in order}
                shape = [costs.counts[v] if v in present else 1 for v in scope]
                joined = joined + table.transpose(order).reshape(shape)
            steps.append((variable, around, joined.argmin(axis=-1)))
            reduced = joined.min(axis=-1)
            if around:
                tables[fresh] = around, reduced
                for name in around:
                    of[name].add(fresh)
                fresh += 1
            else:
                total += float(reduced)
        left.remove(variable)
        for other in around:
            measure(other)
    choices = [0] * len(costs.counts)
    for variable, around, best in reversed(steps):
        choices[variable] = int(best[tuple(choices[v] for v in around)])
    return total, choices
