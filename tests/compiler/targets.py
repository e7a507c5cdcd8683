"""Which targets have what a kernel is written with."""

from __future__ import annotations

from collections.abc import Sequence

from vm.compiler import pipeline
from vm.isa import control
from vm.isa.kernel import Kernel


def has_rules(name: str, kernel: Kernel) -> bool:
    """Whether a target has a rule for every instruction of the kernel that is done by rules."""
    target = pipeline.target(name)
    for kind in {type(instruction) for instruction in control.walk(kernel.body)}:
        rules = target.rules.of(kind)
        if rules and all(rule.capability > target.capability for rule in rules):
            return False
    return True


def first_target(kernel: Kernel, names: Sequence[str] = tuple(pipeline.TARGETS)) -> str:
    """The first of the targets, the least of a family, that has what the kernel needs."""
    return next(name for name in names if has_rules(name, kernel))
