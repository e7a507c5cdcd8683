"""Fields as they lie: unsigned integers of few bits as f16, each times a power of two.

A half of a word in which a field of b bits lies at bit p, and no other bit is set, is as f16
exactly u * 2**(p - 24) if the field ends at bit 10 or below: bits 0 to 9 are the mantissa of a
subnormal number, in units of 2**-24, and bit 10 alone is the exponent 1, the binade that follows
without a gap. So one `and` makes two numbers, where a cast needs an exponent and its subtraction.
Whoever takes them gives the power of two back (vm/compiler/targets/nvidia_fields.py).

The elements of a pair must lie at the same bit of their halves, and everything that is added up
together at the same place: `order` is the order of elements in which that takes few steps, and
`arrange` finds places in any order.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, prod

from vm.compiler.casts import Choice, Plan, repeated_groups
from vm.compiler.casts_steps import AND, AND_OR, Constant, Writer
from vm.compiler.casts_views import Pair, Window
from vm.isa.dtypes import DType
from vm.isa.nvidia_packed import FIELD_TOP
from vm.layouts import LayoutError, RegisterLayout


def period(source: DType) -> int:
    """Pairs in a block: so many elements further on a field lies at the same bit of a half."""
    return 16 // gcd(source.bits, 16)


def is_field(source: DType) -> bool:
    """Whether numbers of this dtype are fields that a half holds: u1 to u8."""
    return source.kind == "unsigned" and source.bits <= 8


@dataclass(frozen=True)
class Halves:
    """Two bytes of the source from byte `low`, above them two from byte `high`, all shifted right
    by `shift`. Bytes past the end are not needed and are anything."""

    low: int
    high: int
    shift: int

    def bytes(self, words: int) -> list[int | None]:
        named = (self.low, self.low + 1, self.high, self.high + 1)
        return [byte if byte < 4 * words else None for byte in named]


View = Window | Halves


def view_of(bits: int, pair: Pair, place: int) -> View | None:
    """The word in which both fields of a pair lie at `place` of their halves; None where that takes
    more than moving bytes and a shift."""
    low, high = (bits * element - place for element in pair)
    if high - low == 16:
        return Window(low)
    if (high - low) % 8 or low < 0 or high < 0 or low % 8 + place + bits > 16:
        return None
    return Halves(low // 8, high // 8, low % 8)


def _cost(view: View, made: Set[View]) -> int:
    """Steps that a view takes where others are made already."""
    if view in made:
        return 0
    if isinstance(view, Window):
        return view.first % 32 > 0
    return 1 if view.shift == 0 or Halves(view.low, view.high, 0) in made else 2


def _choose_places(bits: int, pairs: Sequence[Pair], classes: Sequence[int]) -> list[int] | None:
    """A place for each class of pairs, so that few views show all pairs at their places. Greedy:
    the class and place with the fewest new steps, among these what serves most other classes."""
    options: dict[int, dict[int, frozenset[View]]] = {}
    for one in set(classes):
        mine = [pair for pair, other in zip(pairs, classes, strict=True) if other == one]
        for place in range(FIELD_TOP - bits + 1):
            views = [view_of(bits, pair, place) for pair in mine]
            if None not in views:
                options.setdefault(one, {})[place] = frozenset(views)
    if len(options) < len(set(classes)):
        return None
    made: set[View] = set()
    chosen: dict[int, int] = {}
    while len(chosen) < len(options):
        pending = {one: options[one] for one in options if one not in chosen}
        _, one, place = min(
            (_rank(views, made, pending), one, place)
            for one, places in pending.items()
            for place, views in places.items()
        )
        chosen[one] = place
        made |= options[one][place]
        made |= {Halves(v.low, v.high, 0) for v in options[one][place] if isinstance(v, Halves)}
    return [chosen[one] for one in range(len(chosen))]


def _rank(
    views: Set[View], made: set[View], pending: dict[int, dict[int, frozenset[View]]]
) -> tuple[int, int]:
    """New steps for some views, and less how many pending classes need no further ones then."""
    after = made | views
    served = sum(any(v <= after for v in places.values()) for places in pending.values())
    return sum(_cost(view, made) for view in views), -served


@dataclass(frozen=True)
class Arrangement:
    """Slots of the source, block after block; the place of each pair of them; and for each pair
    that was asked for the pair it is here."""

    slots: tuple[int, ...]
    places: tuple[int, ...]
    pairs: tuple[int, ...]


@lru_cache(maxsize=256)
def arrange(source: DType, slots: tuple[int, ...], classes: tuple[int, ...], held: int
            ) -> Arrangement | None:  # fmt: skip
    """Places for pairs of slots `slots[2 k]`, `slots[2 k + 1]` of the `held` slots of the source,
    the same for all pairs of one class; None where pairs do not lie alike in all blocks."""
    size = 2 * period(source)
    if not is_field(source) or held % size or sorted(slots) != list(range(held)):
        return None
    blocks: dict[int, list[tuple[Pair, int, int]]] = {}
    for k, one in enumerate(classes):
        low, high = slots[2 * k], slots[2 * k + 1]
        if low // size != high // size:
            return None
        blocks.setdefault(low // size, []).append(((low % size, high % size), one, k))
    names: dict[int, int] = {}  # of the classes within a block
    patterns = set()
    for block in map(sorted, blocks.values()):
        local: dict[int, int] = {}
        for _, one, _ in block:
            local.setdefault(one, len(local))
        if any(names.setdefault(one, name) != name for one, name in local.items()):
            return None
        patterns.add(tuple((pair, local[one]) for pair, one, _ in block))
    if len(patterns) > 1:
        return None
    pairs, kinds = zip(*patterns.pop(), strict=True)
    chosen = _choose_places(source.bits, pairs, kinds)
    if chosen is None:
        return None
    order = [k for at in sorted(blocks) for *_, k in sorted(blocks[at])]
    return Arrangement(
        tuple(slots[2 * k + half] for k in order for half in (0, 1)),
        tuple(chosen[names[classes[k]]] for k in order),
        tuple(order.index(k) for k in range(len(order))),
    )


@lru_cache(maxsize=256)
def plan(source: DType, slots: tuple[int, ...], places: tuple[int, ...], held: int) -> Plan:
    """The steps after which slots `slots[2 k]` and `slots[2 k + 1]` lie as the halves of word k, at
    `places[k]` of each, and nothing else."""
    size = 2 * period(source)
    whole = held % size == 0 and len(slots) % size == 0
    groups = repeated_groups(slots, size) if whole else None
    if groups is None or places != places[: size // 2] * len(groups):
        groups, size, words = (0,), len(slots), -(-held * source.bits // 32)
        pairs = list(zip(slots[::2], slots[1::2], strict=True))
    else:
        words = size * source.bits // 32
        pairs = [(a % size, b % size) for a, b in zip(slots[:size:2], slots[1:size:2], strict=True)]
    w = Writer(words)
    views = _Views(w)
    views.prepare(source.bits, list(zip(pairs, places, strict=False)))
    results = [views.fields(source.bits, *each) for each in zip(pairs, places, strict=False)]
    return Plan(Choice("fields_as_they_lie", w.done(results)), groups)


class _Views:
    """Writes views, each byte of which comes from words that hold it: those of the source and those
    that were made before."""

    def __init__(self, w: Writer):
        self.w = w
        # Which bytes of the source values hold.
        self.held: dict[int, list[int | None]] = {
            word: list(range(4 * word, 4 * word + 4)) for word in range(w.words)
        }

    def prepare(self, bits: int, placed: list[tuple[Pair, int]]) -> None:
        """Gathers the bytes of all views that two words of the source hold: others are made of
        these."""
        for pair, place in placed:
            view = view_of(bits, pair, place)
            wanted = view.bytes(self.w.words) if isinstance(view, Halves) else []
            if wanted and len({byte // 4 for byte in wanted if byte is not None}) <= 2:
                self._gathered(wanted)

    def fields(self, bits: int, pair: Pair, place: int) -> int:
        """The word with the fields of a pair at `place` of its halves and nothing else."""
        field = (1 << bits) - 1 << place
        view = view_of(bits, pair, place)
        if view is None:
            low, high = (Window(bits * element - place) for element in pair)
            upper = Window(high.first - 16).write(self.w)
            lower = self.w("logic", low.write(self.w), Constant(field), Constant(0), number=AND)
            return self.w("logic", upper, Constant(field << 16), lower, number=AND_OR)
        if bits == 8 and place == 0 and isinstance(view, Window) and view.first % 32:
            # Bytes 1 and 3 of a word: a permutation leaves nothing else.
            return self.w("permute", view.first // 32, Constant(0), Constant(0x4341))
        mask = Constant(field * 0x10001)
        return self.w("logic", self.write(view), mask, Constant(0), number=AND)

    def write(self, view: View) -> int:
        if isinstance(view, Window):
            return view.write(self.w)
        made = self._gathered(view.bytes(self.w.words))
        return self.w("shift", made, number=view.shift) if view.shift else made

    def _gathered(self, wanted: list[int | None]) -> int:
        known = next((v for v, has in self.held.items() if _covers(wanted, has)), None)
        if known is not None:
            return known
        for first, first_bytes in self.held.items():
            for second, second_bytes in self.held.items():
                if first <= second and _covers(wanted, None, {*first_bytes, *second_bytes}):
                    return self._permuted(first, second, wanted)
        # More words: all but one byte, then that one.
        at = next(i for i in (3, 2, 1, 0) if wanted[i] is not None)
        part = self._gathered([*wanted[:at], None, *wanted[at + 1 :]])
        return self._permuted(*sorted((part, wanted[at] // 4)), wanted)

    def _permuted(self, first: int, second: int, wanted: list[int | None]) -> int:
        both = [*self.held[first], *self.held[second]]
        digits = [0 if byte is None else both.index(byte) for byte in wanted]
        selector = Constant(sum(digit << 4 * i for i, digit in enumerate(digits)))
        made = self.w("permute", first, second, selector)
        self.held.setdefault(made, [both[digit] for digit in digits])
        return made


def _covers(wanted: list[int | None], at: list[int | None] | None,
            anywhere: Set[int | None] = frozenset()) -> bool:  # fmt: skip
    """Whether the bytes that are wanted are there: at their places, or anywhere."""
    if at is not None:
        return all(byte in (None, other) for byte, other in zip(wanted, at, strict=True))
    return all(byte is None or byte in anywhere for byte in wanted)


def order(operand: RegisterLayout, source: DType, axis: int) -> RegisterLayout:
    """The layout of an operand of a product, each thread's elements in the order in which `source`
    is best multiplied as fields: the rows that it holds at different bits, neighbours along `axis`
    (that of the sums) in the two halves of words, and the rest of that axis further up.

    The layout itself for dtypes that are no fields and for operands in which no pairs fill words.
    """
    if axis >= operand.rank or not is_field(source) or operand.slot_order:
        return operand
    digits = [(m, operand.modes[m], 1) for m in operand.local_modes]
    along = [digit for digit in digits if operand.mode_axes[digit[0]] == axis]
    across = [digit for digit in digits if operand.mode_axes[digit[0]] != axis]
    rows = gcd(prod(extent for _, extent, _ in across), period(source))
    try:
        rest, halves = _split(along, 2)
        upper, near = _split(rest, period(source) // rows)
        outer, inner = _split(across, rows)
    except LayoutError:
        return operand
    return _ordered(operand, [*outer, *upper, *halves, *near, *inner])


Digit = tuple[int, int, int]
"""A digit of a slot number: the mode that it is a part of, its extent, its stride in the mode."""


def _split(digits: list[Digit], size: int) -> tuple[list[Digit], list[Digit]]:
    """Digits, the outermost first, cut in two so that the inner part counts `size`; raises
    `LayoutError` where they do not divide so."""
    outer, inner = list(digits), []
    while size > 1:
        if not outer:
            raise LayoutError("too few elements")
        mode, extent, stride = outer.pop()
        taken = gcd(extent, size)
        if taken < min(extent, size):
            raise LayoutError(f"a digit of {extent} has no part of {size}")
        if taken < extent:
            outer.append((mode, extent // taken, stride * taken))
        inner.insert(0, (mode, taken, stride))
        size //= taken
    return outer, inner


def _ordered(operand: RegisterLayout, digits: list[Digit]) -> RegisterLayout:
    """The operand with these digits of its slots, which are its own in another order."""
    modes: list[int] = []
    numbers: dict[Digit | int, int] = {}
    for mode, size in enumerate(operand.modes):
        parts = sorted((d for d in digits if d[0] == mode), key=lambda d: -d[2])
        numbers |= {part: len(modes) + i for i, part in enumerate(parts or [mode])}
        modes += [extent for _, extent, _ in parts] or [size]
    spatial = tuple(m if m < 0 else numbers[m] for m in operand.spatial_modes)
    return RegisterLayout(operand.shape, tuple(modes), spatial, tuple(numbers[d] for d in digits))
