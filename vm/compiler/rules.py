"""Rules: how a target does a core instruction.

A rule is a function of the selection and the instruction. It writes the core and machine
instructions that the instruction becomes and returns its result (None where there is none), or
refuses with the reason, before it has written anything; then the next rule is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vm.isa.instruction import Instruction


class Refused(Exception):
    """The rule does not apply, for the reason given."""


@dataclass(frozen=True)
class Rule:
    """`kinds` are the instructions it is for; `name` is what `vm explain --selection` shows."""

    name: str
    kinds: tuple[type[Instruction], ...]
    expand: Callable[[Any, Any], Any]

    @property
    def meaning(self) -> str:
        return (self.expand.__doc__ or "").strip()


@dataclass
class RuleSet:
    """The rules of a family of targets, the better ones first; `base` has those shared by more."""

    family: str
    base: RuleSet | None = None
    rules: list[Rule] = field(default_factory=list)

    def rule(self, *kinds: type[Instruction]) -> Callable:
        """Registers the decorated function as a rule for instructions of these kinds."""

        def register(function: Callable) -> Callable:
            self.rules.append(Rule(function.__name__, kinds, function))
            return function

        return register

    def of(self, kind: type[Instruction]) -> list[Rule]:
        """The rules for an instruction, in the order in which they are asked."""
        mine = [rule for rule in self.rules if issubclass(kind, rule.kinds)]
        return mine + (self.base.of(kind) if self.base else [])
