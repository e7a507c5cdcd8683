"""Fast casts: for a source, a target and an order of elements, or of their bits, the shortest steps
that some rule finds, and the orders that cost least.

`plan` divides the slots of a register into groups that are cast alike; `best_distance` is the
order in which a packing should put elements, `best_order` that of their bits: `cast_order` and
`bit_order` give them to programs as layouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import vm.compiler.casts_books  # noqa: F401  (its rule)
from vm.compiler import casts_bytes, casts_rules
from vm.compiler.casts_bit_order import bit_positions
from vm.compiler.casts_bits import BIT_RULES, moves_bits, places
from vm.compiler.casts_bytes import ByteProblem
from vm.compiler.casts_rules import Problem, Unsuited, apply
from vm.compiler.casts_steps import Steps
from vm.compiler.casts_tables import TABLE_RULES
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

    @property
    def expected(self) -> float:
        return self.choice.steps.expected * len(self.groups)


def lanes_of(target: DType) -> int:
    """How many elements are cast together: two, or the four bytes of a word."""
    return 4 if target.bits == 8 else 2


@lru_cache(maxsize=512)
def choose(
    source: DType, target: DType, slots: tuple[int, ...], words: int, offset: int = 0,
    bits: tuple[int, ...] = (), scaled: bool = True, tables: bool = False,
) -> Choice | None:  # fmt: skip
    """The shortest steps for elements `slots` of `words` words, None where no rule is suited."""
    lanes = lanes_of(target)
    padded = (*slots, *slots[-1:] * (-len(slots) % lanes))
    groups = tuple(zip(*(padded[lane::lanes] for lane in range(lanes)), strict=True))
    if lanes == 2:
        problem = Problem(source, target, words, groups, offset, bits, scaled)
        rules = BIT_RULES if bits else casts_rules.RULES
        rules = [*rules, *TABLE_RULES] if tables else rules
    else:  # no rule for bytes takes bits in an order of their own, or leaves a factor
        problem = ByteProblem(source, target, words, groups, offset)
        rules = [] if bits or not scaled else casts_bytes.RULES
    best: Choice | None = None
    for rule in rules:
        try:
            steps = apply(rule, problem)
        except Unsuited:
            continue
        if best is None or steps.expected < best.steps.expected:
            best = Choice(rule.__name__, steps)
    return best


def block_size(source: DType) -> int:
    """How many elements fill words and no part of one."""
    return 32 // gcd(source.bits, 32)


@lru_cache(maxsize=512)
def plan(
    source: DType, target: DType, slots: tuple[int, ...], held: int, offset: int = 0,
    bits: tuple[int, ...] = (), scaled: bool = True, tables: bool = False,
) -> Plan | None:  # fmt: skip
    """How slot k of the target becomes slot `slots[k]` of the `held` slots of the source; None
    where no rule is suited.

    Bit b of the source lies at `bits[b]`, and those that follow in the same way: `bits` is as long
    as whole elements in whole words, or as all that is held, or empty where each bit b lies at b.
    Floats that are not `scaled` come out times 2**(bias of source - bias of target). With `tables`
    steps may look up entries in shared memory.
    """
    if target.name not in TARGETS or source.bits > 8:
        return None
    size = len(bits) // source.bits or block_size(source)
    while size < held:
        whole = held % size == 0 and len(slots) % size == 0
        groups = repeated_groups(slots, size) if whole else None
        if groups is not None:
            first = tuple(slot % size for slot in slots[:size])
            words = size * source.bits // 32
            choice = choose(source, target, first, words, offset, bits, scaled, tables)
            return None if choice is None else Plan(choice, groups)
        size *= 2
    words = -(-held * source.bits // 32)
    choice = choose(source, target, slots, words, offset, bits, scaled, tables)
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
    """The distance of the slots of a pair, or of neighbours of a quad, with the shortest steps,
    those that look up tables included: 1, the order of memory, if that is one of the best, else the
    greatest. A run of no fast cast is left in order.

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
        found = plan(source, target, slots, whole, tables=True)
        cost = float("inf") if found is None else found.expected
        if cost < least or (found is not None and cost == least and best > 1):
            best, least = distance, cost
    return best


@lru_cache(maxsize=512)
def is_fast(source: DType, target: DType) -> bool:
    """Whether some rule casts `source` to `target`, in the order of memory."""
    size = block_size(source)
    return plan(source, target, tuple(range(size)), size) is not None


LONGEST_RUN = 32


@dataclass(frozen=True)
class Order:
    """Where each bit lies of some elements in a row, bit b at b where nothing is moved, and the
    steps that cast one element of them, infinitely many where no rule is suited."""

    bits: tuple[int, ...]
    steps: float


@lru_cache(maxsize=256)
def best_order(source: DType, target: DType, held: int, scaled: bool = True) -> Order:
    """The order of a part of `held` elements that are cast in the fewest steps: packed one after
    the other if no order of elements or of bits is better. Floats need not be `scaled` where a
    product takes them."""
    size, run = block_size(source), gcd(held, LONGEST_RUN)

    def steps(slots: tuple[int, ...], bits: tuple[int, ...] = ()) -> float:
        found = plan(source, target, slots, len(slots), bits=bits, scaled=scaled, tables=True)
        return float("inf") if found is None else found.expected / len(slots)

    memory = tuple(range(held if run % size or run < 2 else size))
    best = Order(tuple(range(len(memory) * source.bits)), steps(memory))
    if len(memory) != size or run < 2:
        return best
    apart = ordered(run, best_distance(source, target, run), lanes_of(target))
    if steps(apart) < best.steps:
        bits = tuple(slot * source.bits + bit for slot in apart for bit in range(source.bits))
        best = Order(bits, steps(apart))
    # Numbers with a NaN are cast by an instruction where the target has one, in memory order.
    if lanes_of(target) == 2 and moves_bits(source, target) and not source.has_nan:
        bits = bit_positions(places(source, target), size * source.bits // 32)
        if steps(memory, bits) < best.steps:
            best = Order(bits, steps(memory, bits))
    return best
