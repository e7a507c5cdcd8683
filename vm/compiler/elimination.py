"""The cheapest choice for many variables when costs are between pairs of them.

Variable elimination (Bertele and Brioschi, "Nonserial Dynamic Programming", 1972): exact, and fast
where the graph of the pairs is close to a tree, as the data flow of a program is. Where it is not,
variables are fixed one by one at the choice that looks best, until it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import prod

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
    """The least total and the choices that give it.

    Where several do, each variable takes its first choice among them, the last to go first.

    The total is infinite where every way is forbidden; the choices then mean nothing.
    """
    elimination = _Elimination(costs)
    elimination.run()
    return elimination.total, elimination.choices()


class _Elimination:
    """The tables that are left, and what was decided about the variables that are gone."""

    def __init__(self, costs: Costs):
        self.counts = costs.counts
        self.tables = dict(enumerate(costs.tables))
        self.of: list[set[int]] = [set() for _ in costs.counts]
        for number, (variables, _) in self.tables.items():
            for variable in variables:
                self.of[variable].add(number)
        self.fresh = len(self.tables)
        self.total = 0.0
        # For each variable that is gone: the others that its best choice depends on, and that.
        self.steps: list[tuple[int, tuple[int, ...], np.ndarray]] = []
        self.left = set(range(len(costs.counts)))
        self.sizes: dict[int, int] = {}
        self.queue: list[tuple[int, int]] = []
        for variable in sorted(self.left):
            self._measure(variable)

    def run(self) -> None:
        """Takes the variables one by one, that of the smallest table first."""
        while self.left:
            size, variable = heappop(self.queue)
            if variable not in self.left or size != self.sizes[variable]:
                continue  # measured again since
            if size > LARGEST_TABLE:
                heappush(self.queue, (size, variable))
                variable = max(self.left, key=lambda v: (len(self._around(v)), -v))
            around = self._around(variable)
            tables = [self._take(number) for number in sorted(self.of[variable])]
            if size > LARGEST_TABLE:
                self._fix(variable, tables)
            else:
                self._minimize(variable, around, tables)
            self.left.remove(variable)
            for other in around:
                self._measure(other)

    def choices(self) -> list[int]:
        """The best choice of each variable, from the last that went to the first."""
        result = [0] * len(self.counts)
        for variable, around, best in reversed(self.steps):
            result[variable] = int(best[tuple(result[v] for v in around)])
        return result

    def _around(self, variable: int) -> tuple[int, ...]:
        found = {v for number in self.of[variable] for v in self.tables[number][0]}
        return tuple(sorted(found - {variable}))

    def _measure(self, variable: int) -> None:
        """Notes how large the table would be if the variable went now."""
        size = self.counts[variable] * prod(self.counts[v] for v in self._around(variable))
        if self.sizes.get(variable) != size:
            self.sizes[variable] = size
            heappush(self.queue, (size, variable))

    def _take(self, number: int) -> tuple[tuple[int, ...], np.ndarray]:
        names, table = self.tables.pop(number)
        for name in names:
            self.of[name].discard(number)
        return names, table

    def _put(self, names: tuple[int, ...], table: np.ndarray) -> None:
        if not names:
            self.total += float(table)
            return
        self.tables[self.fresh] = names, table
        for name in names:
            self.of[name].add(self.fresh)
        self.fresh += 1

    def _minimize(self, variable: int, around: tuple[int, ...], tables: list) -> None:
        """Replaces the tables of a variable by one of the least costs over its choices."""
        scope = (*around, variable)
        place = {name: axis for axis, name in enumerate(scope)}
        joined = np.zeros(tuple(self.counts[v] for v in scope))
        for names, table in tables:
            order = sorted(range(len(names)), key=lambda i, names=names: place[names[i]])
            shape = [self.counts[v] if v in names else 1 for v in scope]
            joined = joined + table.transpose(order).reshape(shape)
        self.steps.append((variable, around, joined.argmin(axis=-1)))
        self._put(around, joined.min(axis=-1))

    def _fix(self, variable: int, tables: list) -> None:
        """Gives a variable the choice that is best if all others follow it."""
        own = np.zeros(self.counts[variable])
        for names, table in tables:
            own = own + table.min(axis=tuple(i for i, n in enumerate(names) if n != variable))
        choice = int(own.argmin())
        self.steps.append((variable, (), np.array(choice)))
        for names, table in tables:
            rest = tuple(name for name in names if name != variable)
            self._put(rest, np.take(table, choice, axis=names.index(variable)))
