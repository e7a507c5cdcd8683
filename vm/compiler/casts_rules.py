"""The rules of fast casts: each writes the steps that cast some pairs of elements, or says why not.

A pair is two elements of the source that become the halves of one word of the target. Sources of
the ideas: Kim et al., "Who Says Elephants Can't Run" (2022), for fields under a magic exponent;
Tilus (2025), section 7, for signs and a power of two; the other sequences are our own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vm.compiler.casts_steps import (
    AND,
    AND_OR,
    AND_XOR,
    OR,
    SELECT,
    XOR,
    Constant,
    Step,
    Steps,
    Writer,
    pair_of,
)
from vm.compiler.casts_views import Bytes, Pair, Window, cover, cover_tops
from vm.isa.conversion import convert
from vm.isa.dtypes import DType


@dataclass(frozen=True)
class Problem:
    """Pairs of elements of `source` in `words` words, as `target`, less `offset`.

    `bits` are the places of the bits of elements where these are not packed one after the other.
    Floats that are not `scaled` come out times 2**(bias of source - bias of target).
    """

    source: DType
    target: DType
    words: int
    pairs: tuple[Pair, ...]
    offset: int = 0
    bits: tuple[int, ...] = ()
    scaled: bool = True

    def position(self, element: int, bit: int) -> int:
        """Where a bit of an element lies; `bits` repeats for the elements that follow."""
        if not self.bits:
            return element * self.source.bits + bit
        block, at = divmod(element * self.source.bits + bit, len(self.bits))
        return block * len(self.bits) + self.bits[at]

    @property
    def bias(self) -> int:
        """What is added to a signed code with its sign bit inverted, to be taken away again."""
        return 1 << (self.source.bits - 1) if self.source.kind == "signed" else 0


class Unsuited(Exception):
    """The rule's precondition does not hold, for the reason given."""


Rule = Callable[[Problem, Writer], list[int]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


def apply(function: Rule, problem: Problem) -> Steps:
    """The steps of a rule; raises `Unsuited`."""
    writer = Writer(problem.words)
    return writer.done(function(problem, writer))


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Unsuited(reason)


def twice(half: int) -> Constant:
    return Constant(half * 0x10001)


def exponent_of_ones(target: DType, place: int) -> tuple[int, int]:
    """(bits, number): a code of the target whose mantissa bit `place` has the value 1."""
    exponent = target.mantissa_bits - place
    return (exponent + target.bias) << target.mantissa_bits, 1 << exponent


@rule
def fields_under_an_exponent(p: Problem, w: Writer) -> list[int]:
    """A field among the mantissa bits of 2**k, where 2**k is such that the field counts ones, is
    2**k + u; taking 2**k (and the offset) away is exact. Needs integers that fit the mantissa."""
    bits, top = p.source.bits, p.target.mantissa_bits
    require(p.source.is_integer, "not integers")
    require(bits <= top, "more bits than the mantissa")
    require(abs(p.offset) + 2**bits + 2**top <= 2 ** (top + 1), "the offset is too large")
    found, left = cover(list(p.pairs), bits, p.words, top)
    flip = p.bias
    field = (1 << bits) - 1
    made: dict[Pair, int] = {}

    def finish(pair: Pair, word: int, low: int, high: int) -> None:
        ones = [exponent_of_ones(p.target, place)[1] for place in (low, high)]
        numbers = [-(one + flip + p.offset) for one in ones]
        made[pair] = w(f"{p.target.name}.add", word, pair_of(p.target.name, *numbers))

    for pair, (view, low, high) in found.items():
        magic = exponent_of_ones(p.target, low)[0] | exponent_of_ones(p.target, high)[0] << 16
        mask = field << low | field << high + 16
        inverted = flip << low | flip << high + 16
        table = AND_XOR if inverted else AND_OR
        word = w("logic", view.write(w), Constant(mask), Constant(magic ^ inverted), number=table)
        finish(pair, word, low, high)
    for pair in left:
        # Two views, merged, with the fields lowest in both halves.
        low, high = Window(bits * pair[0]).write(w), Window(bits * pair[1] - 16).write(w)
        both = w("logic", high, low, Constant(0xFFFF0000), number=SELECT)
        magic = exponent_of_ones(p.target, 0)[0] ^ flip
        word = w("logic", both, twice(field), twice(magic), number=AND_XOR)
        finish(pair, word, 0, 0)
    return [made[pair] for pair in p.pairs]


@rule
def halves_of_bytes(p: Problem, w: Writer) -> list[int]:
    """Two nibbles n + 16 m of a byte below the exponent of 1024, and the upper one alone below that
    of 64 with c / 16 added: v = 1024 + n + 16 m and a = 64 + m + c / 16. Then n - c is v - 16 a,
    and m - c is a less a constant. Needs u4, f16, an offset c from 0 to 15, and that elements 2 i
    and 2 j are a pair where 2 i + 1 and 2 j + 1 are one."""
    require(p.source.name == "u4" and p.target.name == "f16", "not u4 to f16")
    require(0 <= p.offset <= 15, "the offset is not from 0 to 15")
    made: dict[Pair, int] = {}
    for low, high in sorted(p.pairs, key=lambda pair: pair[0] % 8 > 0):
        if low % 2 or high % 2:
            require((low - 1, high - 1) in p.pairs, "bytes are not cast as a whole")
            continue
        require((low + 1, high + 1) in p.pairs, "bytes are not cast as a whole")
        both = _bytes_below(p, w, low // 2, high // 2, 0x64)
        upper = w("logic", both, twice(0x00F0), twice(0x5400 + p.offset), number=AND_OR)
        made[low, high] = w("f16.fma", upper, pair_of("f16", -16), both)
        less = pair_of("f16", -(64 + p.offset / 16 + p.offset))
        made[low + 1, high + 1] = w("f16.add", upper, less)
    return [made[pair] for pair in p.pairs]


def _bytes_below(p: Problem, w: Writer, low: int, high: int, above: int, flip: int = 0) -> int:
    """Two bytes of the source as the lower bytes of halves, `above` in the upper ones."""
    if low // 4 == high // 4 and (low % 4, high % 4) == (0, 2):
        mask, magic = twice(0x00FF), twice(above << 8 | flip)
        return w("logic", low // 4, mask, magic, number=AND_XOR if flip else AND_OR)
    if low // 4 == high // 4 and not flip:
        return _permuted_below(w, low // 4, low // 4, low, high, above)
    view = Bytes(low, high).write(w)
    return w("logic", view, twice(0x00FF), twice(above << 8 | flip), number=AND_XOR)


def _permuted_below(
    w: Writer, word: int, source: int, low: int, high: int, above: int, flip: int = 0
) -> int:
    """Bytes of `word` as the lower bytes of halves. The upper ones come from the other two bytes of
    the `source` word if these have been cast: an instruction takes one constant at no cost, and the
    selector is one."""
    mask, magic = twice(0x00FF), twice(above << 8 | flip)
    other = Step("logic", (source, mask, magic), AND_XOR if flip else AND_OR)
    if other in w.known:
        return w("permute", word, w.known[other], Constant(0x5050 | low % 4 | high % 4 << 8))
    selector = Constant(0x4040 | low % 4 | high % 4 << 8)
    return w("permute", word, Constant(above * 0x01010101), selector)


@rule
def bytes_below_an_exponent(p: Problem, w: Writer) -> list[int]:
    """A byte u below the exponent of 1024 is 1024 + u: a permutation puts both there at once.
    Signed bytes have their sign bits inverted, a word at a time. Needs 8 bits and f16."""
    require(p.source.is_integer and p.source.bits == 8, "not bytes")
    require(p.target.name == "f16", "not to f16")
    require(abs(p.offset) <= 768, "the offset is too large")
    less = pair_of("f16", -(1024 + p.bias + p.offset))
    return [w("f16.add", word, less) for word in _inverted_bytes(p, w, 0x64)]


def _inverted_bytes(p: Problem, w: Writer, above: int) -> list[int]:
    """For each pair its bytes, the sign bits of signed ones inverted, with `above` over them."""
    made = []
    for low, high in p.pairs:
        direct = low // 4 == high // 4 and (low % 4, high % 4) == (0, 2)
        if p.bias == 0 or direct or low // 4 != high // 4:
            made.append(_bytes_below(p, w, low, high, above, p.bias))
            continue
        word = w("logic", low // 4, Constant(0x80808080), Constant(0), number=XOR)
        made.append(_permuted_below(w, word, low // 4, low, high, above, p.bias))
    return made


@rule
def bytes_by_way_of_f16(p: Problem, w: Writer) -> list[int]:
    """A byte as f16 has its three lowest bits 0; shifted right by 3 these are the bits of the bf16
    that is the number times 2**-112. Needs bytes to bf16 whose differences bf16 holds."""
    require(p.source.is_integer and p.source.bits == 8, "not bytes")
    require(p.target.name == "bf16", "not to bf16")
    offset = p.offset + p.bias
    require(-1 <= offset <= 256, "bf16 does not hold the differences")
    scale, less = pair_of("bf16", 2.0**112), pair_of("bf16", -offset)
    made = []
    for word in _inverted_bytes(p, w, 0x64):
        half = w("f16.add", word, pair_of("f16", -1024))
        shifted = w("shift", half, number=3)
        name, more = ("mul", ()) if offset == 0 else ("fma", (less,))
        made.append(w(f"bf16.{name}", shifted, scale, *more))
    return made


@rule
def sign_bits_as_a_power(p: Problem, w: Writer) -> list[int]:
    """Of a signed byte, the lower 7 bits below the exponent of 128 are 128 + l, and bit 7, the last
    of the exponent, makes 128 of itself: 128 + 128 s. The difference is l - 128 s. Needs i8 to
    bf16 and no offset."""
    require(p.source.name == "i8" and p.target.name == "bf16" and p.offset == 0, "not i8 to bf16")
    made = []
    for low, high in p.pairs:
        direct = low // 4 == high // 4 and (low % 4, high % 4) == (0, 2)
        word = low // 4 if direct else _bytes_below(p, w, low, high, 0x43)
        rest = w("logic", word, twice(0x007F), twice(0x4300), number=AND_OR)
        power = w("logic", word, twice(0x0080), twice(0x4300), number=AND_OR)
        made.append(w("bf16.fma", power, pair_of("bf16", -1), rest))
    return made


@rule
def upper_bytes(p: Problem, w: Writer) -> list[int]:
    """f8e5m2 is the upper byte of an f16."""
    require(p.source.name == "f8e5m2" and p.target.name == "f16", "not f8e5m2 to f16")
    made = []
    for low, high in p.pairs:
        if low // 4 == high // 4:
            selector = Constant(0x0404 | low % 4 << 4 | high % 4 << 12)
            made.append(w("permute", low // 4, Constant(0), selector))
        else:
            view = Bytes(low, high).write(w)
            moved = w("shift", view, number=-8)
            made.append(w("logic", moved, twice(0xFF00), Constant(0), number=AND))
    return made


@rule
def signs_copied_by_a_shift(p: Problem, w: Writer) -> list[int]:
    """Sign, exponent and mantissa at their places in the target are the number times a power of
    two, subnormals included. Fields lie highest in bytes 3 and 1, byte 2 is all sign of byte 1: so
    an arithmetic shift moves exponents and mantissas into place, and leaves signs on top of both
    halves. Needs floats without infinities, with fewer exponent bits than the target."""
    source, target = p.source, p.target
    require(source.kind == "float" and source.bits <= 8, "not small floats")
    require(not source.has_infinity, "infinities")
    down = target.exponent_bits - source.exponent_bits
    require(down > 0, "exponents of the target's width")
    require(p.offset == 0, "an offset")
    require(source.mantissa_bits <= target.mantissa_bits, "more mantissa bits than the target")
    tops = cover_tops(sorted({e for pair in p.pairs for e in pair}), source.bits, p.words)
    magnitude = (1 << source.bits - 1) - 1 << target.mantissa_bits - source.mantissa_bits
    made = []
    for pair in p.pairs:
        (low_view, low), (high_view, high) = (tops[element] for element in pair)
        selector = Constant(low | low << 4 | (low | 8) << 8 | (high | 4) << 12)
        both = w("permute", low_view.write(w), high_view.write(w), selector)
        moved = w("arithmetic", both, number=down)
        placed = w("logic", moved, twice(0x8000 | magnitude), Constant(0), number=AND)
        made.append(as_scaled(p, w, placed))
    return made


def as_scaled(p: Problem, w: Writer, placed: int) -> int:
    """A pair of floats from sign, exponent and mantissa at their places in the target.

    Of f8e4m3 the code after that of the largest number is NaN. Magnitudes are in the order of their
    patterns of bits in f16 as in bf16, so a comparison of f16 finds it: all ones, which are NaN in
    both. Elsewhere it gives 0, and a product less 0 is the product, the sign of a zero too."""
    name, power = p.target.name, p.target.bias - p.source.bias
    factor = pair_of(name, 2.0**power)
    if not p.source.has_nan:
        return w(f"{name}.mul", placed, factor) if p.scaled else placed
    largest = p.source.largest_code << p.target.mantissa_bits - p.source.mantissa_bits
    nan = w("f16.exceeds", placed, twice(largest))
    if p.scaled and name == "f16":
        return w("f16.fms", placed, factor, nan)
    number = w("logic", placed, nan, Constant(0), number=OR)
    return w(f"{name}.mul", number, factor) if p.scaled else number


def codes_of_all(p: Problem) -> list[int]:
    """The codes of the target that all codes of the source become."""
    source = p.source
    values = source.decode(np.arange(1 << source.bits, dtype=source.storage))
    wanted = convert(values, source, p.target)
    if not p.scaled:
        require(source.kind == "float", "no float")
        wanted = np.ldexp(wanted, source.bias - p.target.bias)
    return p.target.encode(wanted).astype(int).tolist()


@rule
def bytes_from_tables(p: Problem, w: Writer) -> list[int]:
    """A permutation looks up four bytes at a time: of a table of 8, by the lowest 3 bits of each
    digit. Tables of 16 are two, of whose answers bit 3 chooses by a further permutation; where it
    is but the sign, it is joined. Needs floats or codebooks of 1, 2 or 4 bits."""
    source, bits = p.source, p.source.bits
    require(source.kind in ("float", "codebook") and bits in (1, 2, 4), "not of 1, 2 or 4 bits")
    require(p.offset == 0, "an offset")
    tables = Tables(w, bits, codes_of_all(p))
    made = []
    for pair in p.pairs:
        (low_group, i), (high_group, j) = (tables.find(element) for element in pair)
        words = [tables.planes(low_group), tables.planes(high_group)]
        if low_group == high_group:
            digits = i | (i + 4) << 4 | j << 8 | (j + 4) << 12
            made.append(w("permute", *words[0], Constant(digits)))
            continue
        halves = [
            w("permute", *planes, Constant(0x5140 if place < 2 else 0x7362))
            for planes, place in zip(words, (i, j), strict=True)
        ]
        digits = 0x10 + 0x22 * (i % 2) | (0x54 + 0x22 * (j % 2)) << 8
        made.append(w("permute", *halves, Constant(digits)))
    return made


Group = tuple[int, int, int]


@dataclass
class Tables:
    """Looks up the bytes of codes; a group is four elements whose digits are in half a word:
    (word, which bits of each digit, which half)."""

    w: Writer
    bits: int
    codes: list[int]

    @property
    def mirrored(self) -> bool:
        """Whether code c + 8 is code c with the sign bit set."""
        pairs = zip(self.codes[:8], self.codes[8:], strict=True)
        return all(c < 0x8000 and other == c | 0x8000 for c, other in pairs)

    def find(self, element: int) -> tuple[Group, int]:
        word, rest = divmod(element, 32 // self.bits)
        digit, phase = divmod(rest, 4 // self.bits)
        return (word, phase, digit // 4), digit % 4

    def planes(self, group: Group) -> tuple[int | Constant, int | Constant]:
        """The lower and the upper bytes of a group's four codes."""
        return self.plane(group, 0), self.plane(group, 8)

    def plane(self, group: Group, shift: int) -> int | Constant:
        table = [code >> shift & 0xFF for code in self.codes]
        if len(set(table)) == 1:
            return Constant(table[0] * 0x01010101)
        if self.bits < 4:
            return self.looked_up(group, table)
        if self.mirrored:
            found = self.looked_up(group, table[:8])
            return found if shift == 0 else self.signed(group, found)
        if table[:8] == table[8:]:
            return self.looked_up(group, table[:8])
        first, second = self.looked_up(group, table[:8]), self.looked_up(group, table[8:])
        moved = self.w("shift", group[0], number=1)
        chosen = self.w("logic", moved, Constant(0x44444444), Constant(0x32103210), number=AND_OR)
        return self.w("permute", first, second, self.half(chosen, group[2]))

    def looked_up(self, group: Group, table: list[int]) -> int:
        word, phase, half = group
        moved = self.w("shift", word, number=phase * self.bits) if phase else word
        mask = (1 << min(self.bits, 3)) - 1
        digits = self.w("logic", moved, Constant(mask * 0x11111111), Constant(0), number=AND)
        return self.w("permute", *self.constants(table), self.half(digits, half))

    def constants(self, table: list[int]) -> list[Constant]:
        """A table of at most 8 bytes as the two words of a permutation."""
        padded = table + [0] * (8 - len(table))
        return [Constant(int.from_bytes(bytes(padded[at : at + 4]), "little")) for at in (0, 4)]

    def half(self, word: int, half: int) -> int:
        return self.w("shift", word, number=16) if half else word

    def signed(self, group: Group, found: int) -> int:
        word, _, half = group
        moved = self.w("shift", word, number=-4)
        signs = self.w("permute", moved, word, Constant(0x7362 if half else 0x5140))
        return self.w("logic", signs, Constant(0x80808080), found, number=AND_OR)
