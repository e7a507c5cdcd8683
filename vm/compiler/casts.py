"""Fast casts: for a source, a target and an order of elements the shortest steps that some rule
finds, and the order that costs least.

`plan` divides the slots of a register into groups that are cast alike; `best_distance` is the
order in which a packing should put elements, which `cast_order` gives to programs as a layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import vm.compiler.casts_books  # noqa: F401  (its rule)
from vm.compiler import casts_bytes, casts_rules
from vm.compiler.casts_bytes import ByteProblem
from vm.compiler.casts_rules import Problem, Unsuited, apply
from vm.compiler.casts_steps import Constant, Step, Steps
from vm.isa.dtypes import DType, DTypeError

TARGETS = ("f16", "bf16", "i8", "u8", "f8e4m3", "f8e5m2")


@dataclass(frozen=True)
class Choice:
    """The steps that were chosen, and the rule that wrote them."""

    rule: str
    steps: Steps


@dataclass(frozen=True)
class Plan:
    """Part g of the target comes from group `groups[g]` of the source, as many words as the steps
    take; all parts by the same steps."""

    choice: Choice
    groups: tuple[int, ...]

    @property
    def cost(self) -> int:
        return self.choice.steps.cost * len(self.groups)


def lanes_of(target: DType) -> int:
    """How many elements are cast together: two, or the four bytes of a word."""
    return 4 if target.bits == 8 else 2


@lru_cache(maxsize=512)
def choose(source: DType, target: DType, slots: tuple[int, ...], words: int, offset: int = 0
           ) -> Choice | None:  # fmt: skip
    """The shortest steps for elements `slots` of `words` words, None where no rule is suited."""
    lanes = lanes_of(target)
    padded = (*slots, *slots[-1:] * (-len(slots) % lanes))
    groups = tuple(zip(*(padded[lane::lanes] for lane in range(lanes)), strict=True))
    kind, rules = (Problem, casts_rules) if lanes == 2 else (ByteProblem, casts_bytes)
    problem = kind(source, target, words, groups, offset)
    best: Choice | None = None
    for rule in rules.RULES:
        try:
            steps = apply(rule, problem)
        except Unsuited:
            continue
        if best is None or steps.cost < best.steps.cost:
            best = Choice(rule.__name__, steps)
    return best


@lru_cache(maxsize=512)
def plan(source: DType, target: DType, slots: tuple[int, ...], held: int, offset: int = 0
         ) -> Plan | None:  # fmt: skip
    """How slot k of the target becomes slot `slots[k]` of the `held` slots of the source; None
    where no rule is suited."""
    if target.name not in TARGETS or source.bits > 8:
        return None
    size = 32 // gcd(source.bits, 32)
    while size < held:
        whole = held % size == 0 and len(slots) % size == 0
        groups = repeated_groups(slots, size) if whole else None
        if groups is not None:
            first = tuple(slot % size for slot in slots[:size])
            choice = choose(source, target, first, size * source.bits // 32, offset)
            return None if choice is None else Plan(choice, groups)
        size *= 2
    choice = choose(source, target, slots, -(-held * source.bits // 32), offset)
    return None if choice is None else Plan(choice, (0,))


def repeated_groups(slots: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The group that each `size` slots come from, in the same order in all; None where they do
    not."""
    found = []
    for at in range(0, len(slots), size):
        part = slots[at : at + size]
        if len({slot // size for slot in part}) > 1:
            return None
        if any(a % size != b % size for a, b in zip(part, slots, strict=False)):
            return None
        found.append(part[0] // size)
    return tuple(found)


def ordered(run: int, distance: int, lanes: int = 2) -> tuple[int, ...]:
    """The slots of a run in the order of its elements: those of a word, `lanes` of them, are
    `distance` slots apart."""
    return tuple(
        block + low + lane * distance
        for block in range(0, run, lanes * distance)
        for low in range(distance)
        for lane in range(lanes)
    )


@lru_cache(maxsize=256)
def best_distance(source: DType, target: DType, run: int) -> int:
    """The distance of the slots of a pair, or of neighbours of a quad, with the shortest steps: 1,
    the order of memory, if that is one of the best, else the greatest. A run of no fast cast is
    left in order.

    Raises `DTypeError` where the run makes no pairs, or no quads.
    """
    lanes = lanes_of(target)
    if run < lanes or run % lanes:
        raise DTypeError(f"a run of {run} elements makes no words of {target.name}: use a multiple "
                         f"of {lanes}")  # fmt: skip
    best, least = 1, float("inf")
    for distance in (d for d in range(1, run // lanes + 1) if run % (lanes * d) == 0):
        # As many runs as fill words: how a register of any size is cast in the end.
        whole = run * (32 // gcd(run * source.bits, 32))
        each = ordered(run, distance, lanes)
        slots = tuple(at + slot for at in range(0, whole, run) for slot in each)
        found = plan(source, target, slots, whole)
        if found is not None and (found.cost < least or (found.cost == least and best > 1)):
            best, least = distance, found.cost
    return best


@lru_cache(maxsize=512)
def is_fast(source: DType, target: DType) -> bool:
    """Whether some rule casts `source` to `target`, in the order of memory."""
    size = 32 // gcd(source.bits, 32)
    return plan(source, target, tuple(range(size)), size) is not None


def template_arguments(found: Plan) -> str:
    """A plan as the template arguments of the prelude's `vm_dequantize`."""
    steps = found.choice.steps
    parts = [
        f"vm_groups<{', '.join(map(str, found.groups))}>",
        f"vm_results<{', '.join(map(str, steps.results))}>",
        f"{steps.words}",
        *map(_step_type, steps.steps),
    ]
    return ", ".join(parts)


def _step_type(step: Step) -> str:
    kind, _, name = step.name.rpartition(".")
    operands = [
        f"vm_word<0x{o.word:x}u>" if isinstance(o, Constant) else f"vm_at<{o}>"
        for o in step.operands
    ]
    numbered = name in ("logic", "shift", "arithmetic", "funnel")
    first = [f"vm_{kind}"] if kind else [hex(step.number) if name == "logic" else str(step.number)]
    return f"vm_step_{name}<{', '.join([*(first if kind or numbered else []), *operands])}>"
