"""Casts of numbers whose bits lie in an order of their own: every bit moves to its place in the
target, as many at once as one rotation of a word brings there.

Where a sign lies as far from its exponent and mantissa as it does in the target, one rotation and
one `and` place both, of two numbers. `vm/compiler/casts_bit_order.py` looks for an order in which
most do; this rule casts any.
"""

from __future__ import annotations

from vm.compiler.casts_rules import Problem, Rule, as_scaled, exponent_of_ones, require, twice
from vm.compiler.casts_steps import AND, AND_XOR, Constant, Steps, Writer, pair_of
from vm.isa.dtypes import DType

HALF = 16


def places(source: DType, target: DType) -> tuple[int, ...]:
    """Where each bit of a code lies in a half of a word: a sign highest and an exponent from the
    lowest bit of the target's on, or an integer among the lowest bits."""
    if source.is_integer:
        return tuple(range(source.bits))
    lowest = target.mantissa_bits - source.mantissa_bits
    return (*range(lowest, lowest + source.bits - 1), HALF - 1)


def moves_bits(source: DType, target: DType) -> bool:
    """Whether codes become numbers of the target by moving bits and one operation of pairs."""
    if source.is_integer:
        return source.bits <= target.mantissa_bits
    return (
        source.kind == "float"
        and not source.has_infinity
        and source.exponent_bits < target.exponent_bits
        and source.mantissa_bits <= target.mantissa_bits
    )


def bits_in_their_places(p: Problem, w: Writer) -> list[int]:
    """Bits of both halves that lie equally far from their places come there by one rotation, and a
    mask takes them. Integers lie there under an exponent that is taken away; floats are the number
    times a power of two, subnormals included."""
    source, target = p.source, p.target
    require(moves_bits(source, target), "other bits than the target has")
    require(source.is_integer or p.offset == 0, "an offset")
    at = places(source, target)
    exponent, one = exponent_of_ones(target, 0)
    if source.is_integer:
        require(abs(p.offset) + 2**source.bits <= one, "the offset is too large")
        start = twice(exponent ^ p.bias)
    else:
        start = Constant(0)
    made = []
    for pair in p.pairs:
        masks: dict[tuple[int, int], int] = {}
        for half, element in enumerate(pair):
            for bit, place in enumerate(at):
                word, position = divmod(p.position(element, bit), 32)
                place += HALF * half
                view = word, (position - place) % 32
                masks[view] = masks.get(view, 0) | 1 << place
        placed = _gathered(w, masks, start)
        if source.is_integer:
            less = pair_of(target.name, -(one + p.bias + p.offset))
            made.append(w(f"{target.name}.add", placed, less))
        else:
            made.append(as_scaled(p, w, placed))
    return made


def repeated_part(order: tuple[int, ...], unit: int) -> tuple[int, ...]:
    """The order of the fewest bits, some units, that repeats for all others; else of all."""
    for length in range(unit, len(order), unit):
        pairs = zip(order, order[length:], strict=False)
        if len(order) % length == 0 and all(b == a + length for a, b in pairs):
            return order[:length]
    return order


def moved_bits(order: tuple[int, ...], words: int) -> Steps:
    """Words of which bit k is bit `order[k]` of the `words` words, whatever the order."""
    w = Writer(words)
    made = []
    for first in range(0, len(order), 32):
        masks: dict[tuple[int, int], int] = {}
        for place, bit in enumerate(order[first : first + 32]):
            view = bit // 32, (bit - place) % 32
            masks[view] = masks.get(view, 0) | 1 << place
        made.append(_gathered(w, masks, Constant(0)))
    return w.done(made)


def views_of(w: Writer, masks: dict[tuple[int, int], int]) -> list[tuple[int, int]]:
    """Words rotated to the right, and which of their bits are asked for."""
    return [
        (w("funnel", word, word, number=turn) if turn else word, mask)
        for (word, turn), mask in sorted(masks.items())
    ]


def _gathered(w: Writer, masks: dict[tuple[int, int], int], start: Constant) -> int:
    """A word of bits from views, in place of those of a word that is known."""
    placed, table = start, AND_XOR if start.word else AND
    for view, mask in views_of(w, masks):
        placed, table = w("logic", view, Constant(mask), placed, number=table), AND_XOR
    return placed


BIT_RULES: list[Rule] = [bits_in_their_places]
