"""The order of bits in which numbers are cast in few steps: where `casts_bits` finds signs,
exponents and mantissas of two numbers at once, as they lie in the target.

A word has 16 places in each half. Both numbers of a pair take the same places of their halves, so
that a rotation brings both to theirs; a rotation by 0 costs nothing, any other one step, once. A
pair whose bits all lie under one rotation takes one `and`, and one more step for each further
rotation that it needs. Pairs are placed one after the other; of the ways to place them so far the
`WIDTH` best are followed, those of few steps that leave free places in few pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from vm.compiler.casts_bits import HALF

ALL = (1 << HALF) - 1
# How many ways are followed, how many rotations are tried for each part of a pair, and how many
# steps a piece of free places counts: the better of two is taken. With these every float of 3 to 8
# bits comes within 1 step in 32 numbers of the best that a far wider search finds.
WIDTH = 4
TRIED = 2
PIECES = (0.5, 1.3)

View = tuple[int, int]
"""A word and how far it is rotated to the right."""
Part = tuple[View, int]
"""Bits of a half, as a mask, that come from a view."""


@dataclass(frozen=True)
class Way:
    """What is free of each word, which views are made, how many steps all take, and the parts of
    each pair."""

    free: tuple[int, ...]
    views: frozenset[View]
    steps: int
    pairs: tuple[tuple[Part, ...], ...] = ()

    def rank(self, piece: float) -> float:
        return self.steps + piece * sum(map(_pieces, self.free))

    def taking(self, view: View, part: int) -> Way:
        """With one more part of the last pair."""
        word, turn = view
        left = self.free[word] & ~_turned(part, -turn)
        return Way(
            (*self.free[:word], left, *self.free[word + 1 :]),
            self.views | {view},
            self.steps + 1 + (view not in self.views),
            (*self.pairs[:-1], (*self.pairs[-1], (view, part))),
        )

    def beginning(self) -> Way:
        """With one more pair, of no parts yet."""
        return Way(self.free, self.views, self.steps, (*self.pairs, ()))


def _turned(mask: int, right: int) -> int:
    right %= HALF
    return (mask >> right | mask << HALF - right) & ALL


@lru_cache(maxsize=1 << HALF)
def _pieces(mask: int) -> int:
    """How many runs of places there are, the last being a neighbour of the first."""
    return (mask & ~_turned(mask, -1)).bit_count()


def _divisions(places: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Ways to take a pair in one or two parts: low and high bits, the sign with either."""
    whole = sum(1 << place for place in places)
    lows = [sum(1 << place for place in places[:count]) for count in range(1, len(places))]
    sign = whole & 1 << HALF - 1
    found = [(whole,), *((low, whole ^ low) for low in lows)]
    return found + [(low | sign, whole ^ sign ^ low) for low in lows[:-1] if sign]


def _taken(way: Way, part: int, piece: float) -> list[Way]:
    """The best ways to take one part."""
    found = []
    for word, free in enumerate(way.free):
        if free == ALL and ALL in way.free[:word]:
            continue  # as good as the word before
        for turn in range(HALF):
            if _turned(free, turn) & part == part:
                left = _pieces(free & ~_turned(part, -turn)) - _pieces(free)
                view = word, turn
                found.append(((view not in way.views) + piece * left, view))
    return [way.taking(view, part) for _, view in sorted(found)[:TRIED]]


def _gathered(way: Way, places: tuple[int, ...], piece: float) -> Way:
    """A pair in as many parts as it takes, each as large as it can be for its steps."""
    left = sum(1 << place for place in places)
    while left:
        _, view, part = max(
            (_worth(way, (word, turn), part, piece), (word, turn), part)
            for word, free in enumerate(way.free)
            for turn in range(HALF)
            if (part := _turned(free, turn) & left)
        )
        way, left = way.taking(view, part), left & ~part
    return way


def _worth(way: Way, view: View, part: int, piece: float) -> float:
    """How much a part brings: its bits, less the step and the pieces of what it leaves."""
    free = way.free[view[0]]
    more = _pieces(free & ~_turned(part, -view[1])) - _pieces(free)
    return part.bit_count() - 0.9 * (view not in way.views) - piece / 2 * more


def _next(way: Way, places: tuple[int, ...], piece: float) -> Iterator[Way]:
    """Ways with one more pair."""
    way = way.beginning()
    for division in _divisions(places):
        found = [way]
        for part in division:
            found = [after for before in found for after in _taken(before, part, piece)]
        yield from found
    yield _gathered(way, places, piece)


def _search(places: tuple[int, ...], words: int, piece: float) -> Way:
    ways = [Way((ALL,) * words, frozenset((word, 0) for word in range(words)), 0)]
    for _ in range(words * HALF // len(places)):
        found: dict[tuple[tuple[int, ...], int], Way] = {}
        for way in ways:
            for after in _next(way, places, piece):
                key = after.free, len(after.views)
                if key not in found or after.steps < found[key].steps:
                    found[key] = after
        ways = sorted(found.values(), key=lambda way: way.rank(piece))[:WIDTH]
    return ways[0]


@lru_cache(maxsize=128)
def bit_positions(places: tuple[int, ...], words: int) -> tuple[int, ...]:
    """Where each bit of the elements that fill `words` words best lies, for a cast that wants bit j
    of each at `places[j]` of a half."""
    way = min((_search(places, words, piece) for piece in PIECES), key=lambda way: way.steps)
    found = []
    for parts in way.pairs:
        for half in (0, HALF):
            for place in places:
                (word, turn), _ = next(each for each in parts if each[1] >> place & 1)
                found.append(32 * word + (place + half + turn) % 32)
    return tuple(found)
