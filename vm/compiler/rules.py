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
    """`kinds` are the instructions it is for; `name` is what `vm explain --selection` shows.

    Of the rules for an instruction those of lower `rank` are asked first. Members of the family
    below `capability` do not have what it writes.
    """

    name: str
    kinds: tuple[type[Instruction], ...]
    expand: Callable[[Any, Any], Any]
    rank: int = 1
    capability: int = 0

    @property
    def meaning(self) -> str:
        return (self.expand.__doc__ or "").strip()


@dataclass(frozen=True)
class Lack:
    """What a family cannot do, or its members below a capability."""

    kinds: tuple[type[Instruction], ...]
    because: str
    when: Callable[[Any], bool] | None
    below: int | None

    def holds(self, capability: int) -> bool:
        return self.below is None or capability < self.below


@dataclass
class RuleSet:
    """The rules of a family of targets; `base` has those shared by more, which are asked last."""

    family: str
    base: RuleSet | None = None
    rules: list[Rule] = field(default_factory=list)
    lacking: list[Lack] = field(default_factory=list)

    def lack(
        self, *kinds: type[Instruction], because: str, when: Callable[[Any], bool] | None = None,
        below: int | None = None,
    ) -> None:  # fmt: skip
        """Says that the family, or its members below a capability, cannot do these instructions, or
        those of them `when` holds for."""
        self.lacking.append(Lack(kinds, because, when, below))

    def reason_against(self, instruction: Instruction, capability: int) -> str | None:
        """Why a member of the family cannot do an instruction, whoever wrote it; None where it
        can."""
        for each in self.lacking:
            if (
                isinstance(instruction, each.kinds)
                and each.holds(capability)
                and (each.when is None or each.when(instruction))
            ):
                return each.because
        return None

    def lacks(self, kind: type[Instruction], capability: int) -> bool:
        """Whether a member of the family can never do an instruction."""
        return any(
            each.when is None and each.holds(capability) and issubclass(kind, each.kinds)
            for each in self.lacking
        )

    def rule(
        self, *kinds: type[Instruction], rank: int = 1, capability: int = 0
    ) -> Callable:
        """Registers the decorated function as a rule for instructions of these kinds."""

        def register(function: Callable) -> Callable:
            self.rules.append(Rule(function.__name__, kinds, function, rank, capability))
            return function

        return register

    def of(self, kind: type[Instruction]) -> list[Rule]:
        """The rules for an instruction, in the order in which they are asked."""
        found = [rule for rule in self.rules if issubclass(kind, rule.kinds)]
        found += self.base.of(kind) if self.base else []
        return sorted(found, key=lambda rule: rule.rank)
