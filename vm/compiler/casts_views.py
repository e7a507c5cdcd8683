"""Views: words in which the fields of two elements lie where a rule wants them, made by at most two
instructions, and the search for few views that serve many pairs.

Bit t of the source is bit t % 32 of word t // 32; element i of b bits is the field at bits
[b * i, b * i + b).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from vm.compiler.casts_steps import Constant, Writer


@dataclass(frozen=True)
class Window:
    """32 bits of the source in a row, from bit `first` (below 0: zeros come in)."""

    first: int

    def cost(self, made: set[View]) -> int:
        return 0 if self.first % 32 == 0 or self in made else 1

    def place(self, bit: int, bits: int, words: int) -> int | None:
        """Where the field that begins at `bit` lies, if it is here whole."""
        place = bit - self.first
        return place if place >= 0 and place + bits <= 32 else None

    def write(self, w: Writer) -> int:
        word, shift = divmod(self.first, 32)
        if self.first < 0:
            return w("shift", 0, number=self.first)
        if shift == 0:
            return word
        if word + 1 < w.words:
            return w("funnel", word, word + 1, number=shift)
        return w("shift", word, number=shift)


@dataclass(frozen=True)
class Bytes:
    """Two bytes of the source from byte `low`, and above them two from byte `high`; all shifted
    right by `shift`. A byte of a third word is left out: the byte before it stands there."""

    low: int
    high: int
    shift: int = 0

    def cost(self, made: set[View]) -> int:
        if self in made:
            return 0
        return 1 if self.shift == 0 or Bytes(self.low, self.high) in made else 2

    def bytes(self, words: int) -> tuple[int, int, int, int]:
        """The four bytes of the source; the second of a half may repeat the first."""
        return _bytes(self.low, self.high, words)

    def place(self, bit: int, bits: int, words: int, half: int = 0) -> int | None:
        """Where the field lies in the half, if it is there whole."""
        first, second = self.bytes(words)[2 * half : 2 * half + 2]
        place = bit - 8 * first
        if place < 0 or place + bits > (16 if second != first else 8) or place < self.shift:
            return None
        return place - self.shift + 16 * half

    def write(self, w: Writer) -> int:
        named = self.bytes(w.words)
        words = sorted({byte // 4 for byte in named})
        digits = [4 * words.index(byte // 4) + byte % 4 for byte in named]
        selector = Constant(sum(digit << 4 * i for i, digit in enumerate(digits)))
        made = w("permute", words[0], words[-1], selector)
        return w("shift", made, number=self.shift) if self.shift else made


@lru_cache(maxsize=4096)
def _bytes(low: int, high: int, words: int) -> tuple[int, int, int, int]:
    used = {low // 4, high // 4}
    found = []
    for first in (low, high):
        second = (first + 1) // 4
        fits = second < words and len(used | {second}) <= 2
        used |= {second} if fits else set()
        found += [first, first + 1 if fits else first]
    return tuple(found)


View = Window | Bytes
Pair = tuple[int, int]
Found = dict[Pair, tuple[View, int, int]]


def places(view: View, pair: Pair, bits: int, words: int) -> tuple[int, int] | None:
    """Where the fields of a pair lie in the lower and the upper half, counted in each half."""
    low, high = (bits * element for element in pair)
    if isinstance(view, Window):
        first, second = view.place(low, bits, words), view.place(high, bits, words)
    else:
        first, second = view.place(low, bits, words), view.place(high, bits, words, 1)
    if first is None or second is None or first + bits > 16 or second < 16:
        return None
    return first, second - 16


def candidates(pairs: list[Pair], bits: int, words: int, top: int) -> Iterator[View]:
    """Every view in which some pair may lie within the lowest `top` bits of both halves."""
    seen: set[View] = set()
    for low, high in pairs:
        found: list[View] = [Window(32 * word) for word in range(words)]
        found += [Window(bits * low - place) for place in range(top - bits + 1)]
        for first in (bits * low // 8, bits * low // 8 - 1):
            for second in (bits * high // 8, bits * high // 8 - 1):
                if first >= 0 and second >= 0 and abs(first // 4 - second // 4) < words:
                    found += [Bytes(first, second, shift) for shift in range(16)]
        for view in found:
            if view not in seen and (isinstance(view, Bytes) or view.first < 32 * words):
                seen.add(view)
                yield view


def cover(pairs: list[Pair], bits: int, words: int, top: int) -> tuple[Found, list[Pair]]:
    """For each pair a view with both its fields within the lowest `top` bits of each half; pairs
    that lie so in no view are the second result. Greedy: the view that serves most for its cost."""
    reach: dict[View, dict[Pair, tuple[int, int]]] = {}
    for view in candidates(pairs, bits, words, top):
        if isinstance(view, Window) and view.first < -31:
            continue
        served = {}
        for pair in pairs:
            found = places(view, pair, bits, words)
            if found is not None and max(found) + bits <= top:
                served[pair] = found
        if served:
            reach[view] = served
    made: set[View] = set()
    result: Found = {}
    pending = set(pairs)
    while pending:
        best, most = None, 0.0
        for view, served in reach.items():
            count = sum(pair in pending for pair in served)
            gain = count / (view.cost(made) + 0.01)
            if gain > most:
                best, most = view, gain
        if best is None:
            break
        made.add(best)
        if isinstance(best, Bytes):
            made.add(Bytes(best.low, best.high))
        for pair, (low, high) in reach[best].items():
            if pair in pending:
                result[pair] = (best, low, high)
                pending.remove(pair)
    return result, [pair for pair in pairs if pair in pending]


def cover_tops(elements: list[int], bits: int, words: int) -> dict[int, tuple[Window, int]]:
    """For each element a window, and the byte of it whose highest bits are the element's field."""
    reach: dict[Window, dict[int, int]] = {}
    for element in elements:
        top = bits * (element + 1) - 8
        for byte in range(4):
            reach.setdefault(Window(top - 8 * byte), {})
    for word in range(words):
        reach.setdefault(Window(32 * word), {})
    for window, served in reach.items():
        if not -31 <= window.first < 32 * words:
            continue
        for element in elements:
            place = window.place(bits * element, bits, words)
            if place is not None and (place + bits) % 8 == 0:
                served[element] = (place + bits) // 8 - 1
    result: dict[int, tuple[Window, int]] = {}
    pending = set(elements)
    while pending:
        window = max(
            reach,
            key=lambda w: sum(e in pending for e in reach[w]) / (w.cost(set()) + 0.01),
        )
        for element, byte in reach[window].items():
            if element in pending:
                result[element] = (window, byte)
                pending.remove(element)
    return result
