"""Sizes of a program: what binds them, the facts that `where` states of them, and which would fit.

A case knows its arguments as plans, the reference machine as memory, a launch as arrays: each says
in its own words, and at its own place, what is found here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vm.errors import Origin, VmError
from vm.isa import syntax
from vm.isa.printer import format_expression

Place = TypeVar("Place")

SEARCH = 4096
"""How far from a size that does not fit one that would is looked for."""


@dataclass
class Sizes(Generic[Place]):
    """Sizes by name; `bound_by` says where, and in which words, each got its value first."""

    values: dict[str, int] = field(default_factory=dict)
    bound_by: dict[str, tuple[Place, str]] = field(default_factory=dict)

    def bind(self, name: str, value: int, place: Place, how: str) -> bool:
        """Whether the size has this value, which it gets where it has none."""
        self.bound_by.setdefault(name, (place, how))
        return self.values.setdefault(name, value) == value


@dataclass(frozen=True)
class Fact:
    """What must hold of the sizes in `names`; `text` is how it is written."""

    text: str
    names: frozenset[str]
    holds: Callable[[Mapping[str, Any]], bool]
    origin: Origin | None = None


@dataclass(frozen=True)
class BrokenFact:
    """A fact that does not hold: the sizes it speaks of, these with their values, and a way out."""

    fact: Fact
    sizes: tuple[str, ...]
    shown: str
    fix: str


def facts_of(
    where: Iterable[syntax.Expression],
    evaluate: Callable[[syntax.Expression, Mapping[str, Any]], Any],
) -> tuple[Fact, ...]:
    """The facts among the expressions of a `where`, which holds hints as well."""
    return tuple(
        Fact(
            format_expression(node),
            frozenset(n.text for n in syntax.walk(node) if isinstance(n, syntax.Name)),
            lambda values, node=node: bool(evaluate(node, values)),
            node.origin,
        )
        for node in where
        if not syntax.is_hint(node)
    )


def broken_fact(
    facts: Iterable[Fact], sizes: Iterable[str], values: Mapping[str, Any]
) -> BrokenFact | None:
    """The first fact that does not hold for `values`, of which `sizes` may be others.

    Raises `VmError` where a fact cannot be computed, such as one that divides by a size of 0.
    """
    facts = tuple(facts)
    for fact in facts:
        if not fact.holds(values):
            named = tuple(name for name in sizes if name in fact.names)
            shown = " and ".join(f"{name} = {values[name]}" for name in named)
            found = "; ".join(filter(None, (_would_fit(facts, name, values) for name in named)))
            return BrokenFact(fact, named, shown, found or "give the constants other values")
    return None


def _would_fit(facts: tuple[Fact, ...], name: str, values: Mapping[str, Any]) -> str | None:
    """The nearest values of a size, one on each side, with which every fact about it holds."""
    about = [fact for fact in facts if name in fact.names]

    def fits(candidate: int) -> bool:
        try:
            return all(fact.holds({**values, name: candidate}) for fact in about)
        except VmError:
            return False

    actual = values[name]
    below = next(filter(fits, range(actual - 1, max(0, actual - SEARCH), -1)), None)
    above = next(filter(fits, range(actual + 1, actual + SEARCH)), None)
    found = [str(each) for each in (below, above) if each is not None]
    return f"{name} = {' or '.join(found)} would fit" if found else None
