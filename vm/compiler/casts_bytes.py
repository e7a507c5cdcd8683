"""The rules of fast casts to eight bits: each writes the steps that cast some quads of elements to
i8, u8 or a float of 8 bits, or says why not.

A quad is four elements of the source that become the bytes of one word of the target. Bytes do not
take a carry from each other: fields are moved and masked, signs are copied by the permutation, and
tables of 8 entries of a byte are one permutation for four elements.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import gcd

import numpy as np

from vm.compiler.casts_rules import Problem, Tables, require, signs_copied_by_a_shift
from vm.compiler.casts_steps import AND, AND_OR, OR, SELECT, XOR, Constant, Operand, Writer
from vm.compiler.casts_views import Window
from vm.isa.conversion import convert
from vm.isa.dtypes import DType, dtype

SELECT_INVERTED = 0xB1  # c ? a : ~b, bit by bit
SIGNS = Constant(0xBA98)  # of a permutation: each byte's highest bit in all its places

Quad = tuple[int, int, int, int]


@dataclass(frozen=True)
class ByteProblem:
    """Quads of elements of `source` in `words` words, as `target`, less `offset`."""

    source: DType
    target: DType
    words: int
    quads: tuple[Quad, ...]
    offset: int = 0

    @cached_property
    def values(self) -> np.ndarray:
        """The number that each code of the source is to become, in f64."""
        codes = np.arange(1 << self.source.bits, dtype=self.source.storage)
        return self.source.decode(codes).astype(np.float64) - self.offset

    @cached_property
    def made(self) -> np.ndarray:
        """The codes of the target; raises `Unsuited` for numbers that it does not reach, of which
        the kinds of overflow make different ones, and for integers that are not exact."""
        source, target, values = self.source, self.target, self.values
        reached = (np.abs(values) <= float(target.max)) | np.isnan(values) & target.has_nan
        require(bool(reached.all()), "numbers beyond the target's")
        require(source.is_integer or not target.is_integer, "floats to integers")
        require(self.offset == 0 or target.is_integer, "an offset of floats")
        made = target.encode(convert(values, dtype("f64"), target))
        require(self.is_exact(made) or not source.is_integer, "integers that are not exact")
        return made

    def is_exact(self, made: np.ndarray) -> bool:
        return bool((self.target.decode(made).astype(np.float64) == self.values).all())

    @property
    def codes(self) -> list[int]:
        return self.made.astype(int).tolist()


Rule = Callable[[ByteProblem, Writer], list[int]]
RULES: list[Rule] = []


def rule(function: Rule) -> Rule:
    RULES.append(function)
    return function


def four_times(byte: int) -> Constant:
    return Constant(byte * 0x01010101)


@dataclass
class Gatherer:
    """Makes words of bytes that other words hold, by permutations of two. Bytes have names; None is
    a byte of which nothing is asked."""

    w: Writer
    held: dict[Operand, tuple[Hashable, ...]] = field(default_factory=dict)

    def prepare(self, wanted: Iterable[Sequence[Hashable]]) -> None:
        """Words that are to come from three or four others are made of halves, and two halves from
        the same words are made at once."""
        halves: dict[tuple[Operand, ...], list[tuple[Hashable, ...]]] = {}
        for request in wanted:
            if len(self._holders(request)) > 2:
                for half in (tuple(request[:2]), tuple(request[2:])):
                    halves.setdefault(self._holders(half), []).append(half)
        for holders, found in halves.items():
            parts = list(dict.fromkeys(found)) if len(holders) == 2 else []
            for one, other in zip(parts[::2], [*parts[1::2], (None, None)], strict=False):
                self._permuted(*holders, (*one, *other))

    def __call__(self, wanted: Sequence[Hashable]) -> int:
        for value, names in self.held.items():
            if all(name in (None, other) for name, other in zip(wanted, names, strict=True)):
                return value
        needed = {name for name in wanted if name is not None}
        for first, names in self.held.items():
            if not needed.isdisjoint(names):
                rest = needed.difference(names)
                second = next((v for v, o in self.held.items() if rest.issubset(o)), None)
                if second is not None:
                    return self._permuted(first, second, wanted)
        # More than two words: all but one byte, then that one.
        at = max(i for i in range(4) if wanted[i] is not None)
        part = self([*wanted[:at], None, *wanted[at + 1 :]])
        return self._permuted(part, self._holders([wanted[at]])[0], wanted)

    def _holders(self, names: Iterable[Hashable]) -> tuple[Operand, ...]:
        """The first words that hold each of the names."""
        found = {
            next(value for value, held in self.held.items() if name in held)
            for name in names
            if name is not None
        }
        return tuple(sorted(found, key=str))

    def _permuted(self, first: Operand, second: Operand, wanted: Sequence[Hashable]) -> int:
        both = [*self.held[first], *self.held[second]]
        digits = [0 if name is None else both.index(name) for name in wanted]
        selector = Constant(sum(digit << 4 * i for i, digit in enumerate(digits)))
        made = self.w("permute", first, second, selector)
        self.held.setdefault(made, tuple(both[digit] for digit in digits))
        return made


class Fields:
    """Words of fields that begin at one bit of their bytes. Four fields lie alike in bytes of the
    source if their elements are equal modulo `period`; those that cross into the next byte are put
    together from two words."""

    def __init__(self, source: DType, words: int, w: Writer):
        self.w, self.bits = w, source.bits
        self.period = 8 // gcd(self.bits, 8)
        self.gather = Gatherer(w, {n: tuple(range(4 * n, 4 * n + 4)) for n in range(words)})

    def natural(self, quads: Sequence[Quad]) -> list[Quad]:
        """Quads of fields that lie alike, in which all elements of `quads` are: the same quads
        where that is so of them, else those of a period, four by four."""
        if all(len({element % self.period for element in quad}) == 1 for quad in quads):
            return list(quads)
        return self.alike({element for quad in quads for element in quad})

    def alike(self, elements: Set[int]) -> list[Quad]:
        """Quads of fields that lie alike, in which all elements are."""
        found = []
        for phase in range(self.period):
            those = sorted(element for element in elements if element % self.period == phase)
            for at in range(0, len(those), 4):
                part = those[at : at + 4]
                found.append((*part, *part[-1:] * (4 - len(part))))
        return found

    def digits(self, elements: Set[int]) -> Iterator[tuple[Quad, int]]:
        """The elements of half words, and words that hold them as digits of 4 bits in their lower
        half: one quad at bit 0 of bytes and another at bit 4 are eight. For at most 4 bits."""
        quads = self.alike(elements)
        self.prepare(quads)
        for one, other in zip(quads[::2], [*quads[1::2], quads[-1]], strict=False):
            both = self.write(other, 4, onto=self.write(one))
            for half in (0, 1):
                names = tuple(quad[2 * half + i] for i in (0, 1) for quad in (one, other))
                yield names, self.shifted(both, 16 * half)

    def prepare(self, quads: Iterable[Quad]) -> None:
        """Gathers bytes for many quads together."""
        self.gather.prepare([word for quad in quads for word in self._bytes(quad)])

    def _bytes(self, quad: Quad) -> list[tuple[int, ...]]:
        first = tuple(self.bits * element // 8 for element in quad)
        crossing = self.bits * quad[0] % 8 + self.bits > 8
        return [first, tuple(byte + 1 for byte in first)] if crossing else [first]

    def parts(self, quad: Quad, place: int) -> list[tuple[int, int, int]]:
        """(word, bits to the right, mask in a byte) of each part of fields at bit `place`."""
        begin = self.bits * quad[0] % 8
        whole = (1 << self.bits) - 1 << place
        words = list(map(self.gather, self._bytes(quad)))
        if len(words) == 1:
            return [(words[0], begin - place, whole)]
        lower = (1 << 8 - begin) - 1 << place
        return [(words[0], begin - place, lower), (words[1], begin - place - 8, whole & ~lower)]

    def shifted(self, word: int, number: int) -> int:
        return self.w("shift", word, number=number) if number else word

    def write(self, quad: Quad, place: int = 0, onto: int | None = None) -> int:
        """The fields at bit `place` of their bytes; no other bits, or those of `onto`."""
        for word, number, mask in self.parts(quad, place):
            moved = self.shifted(word, number)
            if onto is None:
                onto = self.w("logic", moved, four_times(mask), Constant(0), number=AND)
            else:
                onto = self.w("logic", moved, four_times(mask), onto, number=AND_OR)
        return onto


def _as_asked(p: ByteProblem, w: Writer, made: dict[tuple[int, ...], int]) -> list[int]:
    """The quads of a problem from words of other quads."""
    gather = Gatherer(w, {value: names for names, value in made.items()})
    gather.prepare(p.quads)
    return [gather(quad) for quad in p.quads]


@rule
def fields_in_bytes(p: ByteProblem, w: Writer) -> list[int]:
    """Bytes of the source that hold fields alike are gathered into words, in which a shift and an
    `and` leave the fields lowest, or, where the code of the target is that of the source with zeros
    below it, highest. Signs are taken from fields that are highest: the permutation copies the
    highest bit of a byte, and a field with copies of its sign above it is the number. With the
    signs inverted that is u - 2**(b-1). Needs codes that are so related, of at most 7 bits."""
    bits = p.source.bits
    require(bits < 8, "8 bits")
    fields, table = Fields(p.source, p.words, w), _table_of_signs(p)
    quads = fields.natural(p.quads)
    fields.prepare(quads)
    if p.codes == list(range(1 << bits)):
        made = {quad: fields.write(quad) for quad in quads}
    elif p.codes == [code << 8 - bits for code in range(1 << bits)]:
        made = {quad: fields.write(quad, 8 - bits) for quad in quads}
    else:
        require(table is not None, "codes are not those of the source")
        made = {quad: _with_signs(fields, quad, table) for quad in quads}
    return _as_asked(p, w, made)


def _table_of_signs(p: ByteProblem) -> int | None:
    """Which function takes signs over fields, if the codes are numbers of so many bits with a sign,
    or such with the sign inverted."""
    bits = p.source.bits
    top = 1 << bits - 1
    signed = [(code ^ top) - top & 0xFF for code in range(1 << bits)]
    inverted = [signed[code ^ top] for code in range(1 << bits)]
    return SELECT if p.codes == signed else SELECT_INVERTED if p.codes == inverted else None


def _with_signs(fields: Fields, quad: Quad, table: int) -> int:
    w, bits = fields.w, fields.bits
    parts = fields.parts(quad, 8 - bits)
    moved = [fields.shifted(word, number) for word, number, _ in parts]
    if len(parts) == 1:
        ((word, number, _),) = fields.parts(quad, 0)
        return _signs_over(w, bits, moved[0], fields.shifted(word, number), table)
    # What lies below the fields is left out later.
    upper = four_times(parts[1][2])
    highest = w("logic", moved[1], moved[0], upper, number=SELECT)
    return _signs_over(w, bits, highest, fields.shifted(highest, 8 - bits), table)


def _signs_over(w: Writer, bits: int, highest: int, lowest: int, table: int) -> int:
    """Fields lowest in bytes, and copies of their signs, or of the inverted ones, above them."""
    signs = w("permute", highest, highest, SIGNS)
    low = four_times((1 << bits - 1) - 1)
    return w("logic", lowest, signs, low, number=table)


@rule
def neighbours_moved_apart(p: ByteProblem, w: Writer) -> list[int]:
    """Four fields in a row: the upper two are moved to the upper half, then the upper one of each
    half to its upper byte. Unsigned ones begin at bit 0 and are masked, others end at bit 7 and get
    their signs. Needs integers in the order of memory."""
    bits = p.source.bits
    require(bits < 8, "8 bits")
    table = _table_of_signs(p)
    unsigned = p.codes == list(range(1 << bits))
    require(unsigned or table is not None, "codes are not those of the source")
    made = []
    for quad in p.quads:
        require(quad == tuple(range(quad[0], quad[0] + 4)), "not neighbours")
        word = Window(bits * quad[0] - (0 if unsigned else 8 - bits)).write(w)
        for distance, lower in ((16 - 2 * bits, 0x0000FFFF), (8 - bits, 0x00FF00FF)):
            moved = w("shift", word, number=-distance)
            word = w("logic", word, moved, Constant(lower), number=SELECT)
        if unsigned:
            mask = four_times((1 << bits) - 1)
            made.append(w("logic", word, mask, Constant(0), number=AND))
        else:
            lowest = w("shift", word, number=8 - bits)
            made.append(_signs_over(w, bits, word, lowest, table))
    return made


@rule
def entries_of_tables(p: ByteProblem, w: Writer) -> list[int]:
    """The digits of a permutation choose entries, as in `casts_rules.bytes_from_tables`. Needs 1, 2
    or 4 bits."""
    require(p.source.bits in (1, 2, 4), "not of 1, 2 or 4 bits")
    tables = Tables(w, p.source.bits, [code << 8 for code in p.codes])
    require(len(set(p.codes)) > 1, "one number")
    return _from_digits(p, w, lambda group: tables.plane(group, 8))


@rule
def entries_told_apart_by_signs(p: ByteProblem, w: Writer) -> list[int]:
    """A digit of 8 or more gives copies of an entry's highest bit: where that is 0, nothing. So the
    lower 8 entries come from the digits as they are, the upper 8 from digits with bit 3 inverted,
    and one of both is nothing. Needs 4 bits and codes without a highest bit."""
    require(p.source.bits == 4, "not of 4 bits")
    require(max(p.codes) < 0x80, "highest bits")
    tables = Tables(w, 4, p.codes)

    def look_up(group: tuple[int, int, int]) -> int:
        word, _, half = group
        inverted = w("logic", word, Constant(0x88888888), Constant(0), number=XOR)
        found = [
            w("permute", *tables.constants(codes), tables.half(digits, half))
            for digits, codes in ((word, p.codes[:8]), (inverted, p.codes[8:]))
        ]
        return w("logic", *found, Constant(0), number=OR)

    return _from_digits(p, w, look_up)


def _from_digits(
    p: ByteProblem, w: Writer, look_up: Callable[[tuple[int, int, int]], int]
) -> list[int]:
    """Quads from groups of elements whose digits lie in half a word."""
    tables = Tables(w, p.source.bits, p.codes)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for element in range(p.words * 32 // p.source.bits):
        groups.setdefault(tables.find(element)[0], []).append(element)
    needed = {element for quad in p.quads for element in quad}
    made = {
        tuple(elements): look_up(group)
        for group, elements in groups.items()
        if not needed.isdisjoint(elements)
    }
    return _as_asked(p, w, made)


@rule
def entries_of_fields(p: ByteProblem, w: Writer) -> list[int]:
    """Fields of 3 bits in bytes, those of one quad at bit 0 and of another at bit 4, are 8 digits
    of permutations. Needs 3 bits."""
    require(p.source.bits == 3, "not of 3 bits")
    fields, table = Fields(p.source, p.words, w), Tables(w, 3, p.codes).constants(p.codes)
    elements = {element for quad in p.quads for element in quad}
    made = {names: w("permute", *table, digits) for names, digits in fields.digits(elements)}
    return _as_asked(p, w, made)


@rule
def bytes_of_f16(p: ByteProblem, w: Writer) -> list[int]:
    """f8e5m2 is the upper byte of an f16. f8e4m3 is what lies one bit lower, and the sign, in an
    f16 that is the number times 2**-8: so the exponent has the same excess, and its highest bit is
    0. Two words of pairs make a quad. Needs small floats that the target has."""
    require(p.source.kind == "float" and p.is_exact(p.made), "not floats that are exact")
    require(p.target.name in ("f8e4m3", "f8e5m2"), "not to f8e4m3 or f8e5m2")
    half = dtype("f16")
    pairs = tuple(pair for quad in p.quads for pair in ((quad[0], quad[1]), (quad[2], quad[3])))
    like = replace(half, bias=p.target.bias)
    words = signs_copied_by_a_shift(Problem(p.source, like, p.words, pairs), w)
    upper, made = Constant(0x7531), []
    for low, high in zip(words[::2], words[1::2], strict=True):
        if p.target.bias == half.bias:
            made.append(w("permute", low, high, upper))
        elif any(code & 1 for code in p.codes):
            # The sign, and what is one bit lower, with all bits of the mantissa.
            signs = w("permute", low, high, upper)
            moved = [w("shift", word, number=-1) for word in (low, high)]
            below = w("permute", *moved, upper)
            made.append(w("logic", below, signs, four_times(0x7F), number=SELECT))
        else:
            both = w("permute", low, high, upper)
            moved = w("shift", both, number=-1)
            below = w("logic", moved, four_times(0x7E), Constant(0), number=AND)
            made.append(w("logic", both, four_times(0x80), below, number=AND_OR))
    return made
